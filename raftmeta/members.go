package raftmeta

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/raftmeta/quorum"
)

// Accept serves another member's stream, behind quorum.Preface, until it ends.
func (m *Meta) Accept(c net.Conn, r *bufio.Reader) { m.node.Accept(c, r) }

// network is what the quorum needs to know of the cluster.
func (m *Meta) network() *quorum.Network {
	return &quorum.Network{
		Dial:    m.config.Dial,
		Listens: m.config.Address != "",
		Seeds:   m.config.Join,
		Address: m.controllerAddress,
		Hello: func() quorum.Hello {
			return quorum.Hello{Cluster: m.clusterID(), Member: m.node.Member(), Address: m.config.Address, Voters: m.votersText(), Features: m.config.Features}
		},
		Check: m.checkMember,
	}
}

// clusterID is the cluster's id, or the one that this node insists on before it is in any.
func (m *Meta) clusterID() string {
	if id := m.Image().ClusterID; id != "" {
		return id
	}
	return m.config.ClusterID
}

// controllerAddress is where a member listens: by this node's settings, or by the metadata.
func (m *Meta) controllerAddress(id uint64) string {
	if address, ok := m.config.Voters[nodeID(id)]; ok {
		return address
	}
	if c, ok := m.Image().Controller(nodeID(id)); ok {
		return c.Address
	}
	return ""
}

// votersText is what this node was started with, to compare.
func (m *Meta) votersText() string {
	var list []string
	for id, address := range m.config.Voters {
		list = append(list, fmt.Sprintf("%d@%s", id, address))
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}

// checkMember holds another member's introduction against what this node knows. Its sentences are for the
// operator of the other.
func (m *Meta) checkMember(h quorum.Hello) error {
	mine, id := m.clusterID(), nodeID(h.From)
	switch {
	case mine != "" && h.Cluster != "" && mine != h.Cluster:
		return fmt.Errorf("node %d is of cluster %s, this is cluster %s: give it another data directory, or the peers of its own cluster", id, h.Cluster, mine)
	case m.Image().ClusterID == "" && h.Cluster == "" && h.Voters != "" && m.votersText() != "" && h.Voters != m.votersText():
		return fmt.Errorf("node %d was started with the peers %s, node %d with %s: give all the same", id, h.Voters, m.config.NodeID, m.votersText())
	}
	if err := controller.CheckFeatures(m.Image(), id, h.Features); err != nil {
		return err
	}
	c, known := m.Image().Controller(id)
	if known && c.Member != h.Member {
		return fmt.Errorf("node %d was known with another disk. Its metadata was lost, or another node uses its id: "+
			"give it the old data directory, or remove it from the quorum and let it join under a new id", id)
	}
	if !known || c.Address != h.Address {
		m.remember(&image.Controller{ID: id, Member: h.Member, Address: h.Address})
	}
	return nil
}

// remember has the active controller note who a member is; on other nodes it does nothing.
func (m *Meta) remember(c *image.Controller) {
	if !m.Leads() {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := m.decide(ctx, func(work *image.Image) ([]*image.Record, error) { return controller.RememberMember(work, c), nil })
		if err != nil && !errors.Is(err, kerr.NotController) {
			m.log.Debug().Err(err).Int32("node", c.ID).Msg("member not noted yet")
		}
	}()
}

// Controller is the node id of the active controller, -1 while unknown.
func (m *Meta) Controller() int32 { return m.controller.Leader() }

// Leads says that this node is the active controller, as far as it knows.
func (m *Meta) Leads() bool { return m.controller.Leader() == m.config.NodeID }
