package raftmeta

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/raftmeta/quorum"
)

// Known reads from a metadata file, which no process has open, which nodes were to vote first in its quorum, and whether that has begun.
func Known(path string) (first []int32, begun bool, err error) {
	ids, begun, err := quorum.Known(path)
	for _, id := range ids {
		first = append(first, NodeOf(id))
	}
	return first, begun, err
}

// Accept serves another member's stream, behind quorum.Preface, until it ends.
func (m *Meta) Accept(c net.Conn, r *bufio.Reader) { m.node.Accept(c, r) }

// network is what the quorum needs to know of the cluster.
func (m *Meta) network() *quorum.Network {
	return &quorum.Network{
		Dial:    m.Config.Dial,
		Listens: m.Config.Address != "",
		Seeds:   m.Config.Join,
		Address: m.ControllerAddress,
		Hello: func() quorum.Hello {
			return quorum.Hello{Cluster: m.clusterID(), Member: m.node.Member(), Address: m.Config.Address, Voters: m.votersText(), Features: m.Config.Features}
		},
		Check:    m.checkMember,
		Name:     func(id uint64) string { return fmt.Sprintf("node %d", NodeOf(id)) },
		Stranger: m.Config.Stranger,
	}
}

// meeting is Config.Meeting in the quorum's terms.
func (m *Meta) meeting() *quorum.Meeting {
	c := m.Config.Meeting
	q := &quorum.Meeting{Own: c.Own, Addresses: slices.Clone(c.Addresses)}
	if c.Voters != nil {
		q.Voters = map[string]uint64{}
		for address, id := range c.Voters {
			q.Voters[address] = MemberID(id)
		}
	}
	q.Agreed = func(members map[string]uint64) error {
		voters := map[string]int32{}
		for address, id := range members {
			voters[address] = NodeOf(id)
		}
		ids := byID(voters)
		m.voters.Store(&ids)
		return c.Agreed(voters)
	}
	return q
}

// byID turns node ids by address into addresses by node id.
func byID(voters map[string]int32) map[int32]string {
	out := map[int32]string{}
	for address, id := range voters {
		out[id] = address
	}
	return out
}

// clusterID is the cluster's id, or the one that this node insists on before it is in any.
func (m *Meta) clusterID() string {
	if id := m.Image().ClusterID; id != "" {
		return id
	}
	return m.Config.ClusterID
}

// ControllerAddress is where a member listens: by this node's settings, or by the metadata.
func (m *Meta) ControllerAddress(id uint64) string {
	if address, ok := (*m.voters.Load())[NodeOf(id)]; ok {
		return address
	}
	if c, ok := m.Image().Controller(NodeOf(id)); ok {
		return c.Address
	}
	return ""
}

// votersText is what this node was started with, to compare.
func (m *Meta) votersText() string {
	var list []string
	for id, address := range *m.voters.Load() {
		list = append(list, fmt.Sprintf("%d@%s", id, address))
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}

// checkMember holds another member's introduction against what this node knows. Its sentences are for the
// operator of the other.
func (m *Meta) checkMember(h quorum.Hello) error {
	mine, id := m.clusterID(), NodeOf(h.From)
	switch {
	case mine != "" && h.Cluster != "" && mine != h.Cluster:
		return fmt.Errorf("node %d belongs to cluster %s, this node to cluster %s: one of the two created a new cluster on an empty disk, or is configured with another cluster's addresses; do not empty a directory whose records you need", id, h.Cluster, mine)
	case m.Image().ClusterID == "" && h.Cluster == "" && h.Voters != "" && m.votersText() != "" && h.Voters != m.votersText():
		return fmt.Errorf("node %d was started with --peers %s, node %d with %s: start all nodes with the same list", id, h.Voters, m.Config.NodeID, m.votersText())
	}
	if err := m.checkFirstVoters(h); err != nil {
		return err
	}
	if err := controller.CheckFeatures(m.Image(), id, h.Features); err != nil {
		return err
	}
	c, known := m.Image().Controller(id)
	if known && c.Member != h.Member {
		return fmt.Errorf("node %d runs on another disk than before: its metadata was lost, or another node uses its id: "+
			"start it with the old data directory, or remove it from the quorum and let it join with a new id", id)
	}
	if !known || c.Address != h.Address {
		m.Remember(&image.Controller{ID: id, Member: h.Member, Address: h.Address})
	}
	return nil
}

// checkFirstVoters rejects a new node whose --peers differ from this cluster's first voters. Such a node would become a learner of a
// quorum in which it believes to vote.
func (m *Meta) checkFirstVoters(h quorum.Hello) error {
	if m.Image().ClusterID == "" || h.Cluster != "" || h.Voters == "" {
		return nil
	}
	first, _ := m.node.First()
	if sameVoters(h.Voters, first) {
		return nil
	}
	return fmt.Errorf("node %d was started with --peers %s, but the first voters of this cluster are %s: start it with their --peers list, or with --join %s instead of --peers",
		NodeOf(h.From), h.Voters, nodesText(first), m.Config.Address)
}

// sameVoters reports whether a list such as votersText's names these members.
func sameVoters(list string, ids []uint64) bool {
	entries := strings.Split(list, ",")
	for _, e := range entries {
		text, _, _ := strings.Cut(e, "@")
		id, err := strconv.ParseInt(text, 10, 32)
		if err != nil || !slices.Contains(ids, MemberID(int32(id))) {
			return false
		}
	}
	return len(entries) == len(ids)
}

// nodesText names members as users do.
func nodesText(ids []uint64) string {
	var list []string
	for _, id := range ids {
		list = append(list, fmt.Sprintf("node %d", NodeOf(id)))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// checkOwnVoters rejects settings that name other voters than this node's metadata.
func (m *Meta) checkOwnVoters() error {
	first, begun := m.node.First()
	if !begun {
		return nil
	}
	voters, alone := m.node.Voters(), len(first) == 1 && first[0] == MemberID(m.Config.NodeID)
	switch {
	case len(*m.voters.Load()) > 0 && !sameVoters(m.votersText(), first) && !sameVoters(m.votersText(), voters):
		return fmt.Errorf("%s belongs to a cluster whose first voters were %s and whose voters are now %s, but --peers (controller.quorum.voters) names %s: "+
			"remove the setting, or name those voters; to add a voter, start a new node with --join and run kraft quorum add ID; or use another data directory",
			m.Config.Path, nodesText(first), nodesText(voters), m.votersText())
	case len(m.Config.Join) > 0 && alone && len(voters) == 1 && !slices.Contains(m.Config.Join, m.Config.Address):
		return fmt.Errorf("%s belongs to a cluster that this node created alone, but --join (controller.quorum.bootstrap.servers) names another node's address, %s: "+
			"remove the setting, or use an empty data directory", m.Config.Path, strings.Join(m.Config.Join, ","))
	}
	return nil
}

// Remember has the active controller note who a member is; on other nodes it does nothing.
func (m *Meta) Remember(c *image.Controller) {
	if !m.Leads() {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := m.Decide(ctx, func(work *image.Image) ([]*image.Record, error) { return controller.RememberMember(work, c), nil })
		if err != nil && !errors.Is(err, kerr.NotController) {
			m.log.Debug().Err(err).Int32("node", c.ID).Msg("member not noted yet")
		}
	}()
}

// Votes reports whether this node is a voter by the newest members that it has applied.
func (m *Meta) Votes() bool { return slices.Contains(m.node.Voters(), m.node.ID()) }

// Mode is what this node is to the metadata quorum in ZooKeeper's words: standalone, leader, follower or observer, and "" while it knows no
// leader.
func (m *Meta) Mode() string {
	switch {
	case m.Controller() < 0:
		return ""
	case !m.Votes():
		return "observer"
	case len(m.node.Voters()) == 1:
		return "standalone"
	case m.Leads():
		return "leader"
	}
	return "follower"
}

// Controller is the node id of the active controller, -1 while unknown.
func (m *Meta) Controller() int32 { return m.controller.Leader() }

// Leads says that this node is the active controller, as far as it knows.
func (m *Meta) Leads() bool { return m.controller.Leader() == m.Config.NodeID }

// HangsFor is how long the disk of the metadata has not answered, 0 where it is not asked for anything. Any goroutine may call it.
func (m *Meta) HangsFor() time.Duration { return m.node.HangsFor() }

// StandAside has another member lead the quorum, if this one does and there is another. It waits a moment for that. Any goroutine may
// call it.
func (m *Meta) StandAside() {
	if m.Leads() {
		m.node.HandOver()
	}
}

// NoteMembers has the active controller note this node, and the members that it met while nobody led. Call it when this node becomes the
// active controller.
func (m *Meta) NoteMembers() {
	m.Remember(&image.Controller{ID: m.Config.NodeID, Member: m.node.Member(), Address: m.Config.Address})
	for _, h := range m.node.Met() {
		_ = m.checkMember(h)
	}
}
