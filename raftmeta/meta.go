// Package raftmeta is the cluster's metadata on one node: it joins the quorum, the image and the controller's decisions. The packages below it
// use it: broker registers this node's broker, active watches over brokers, admin and discovery answer requests. They reach the active
// controller by calls. Begin with Open and Join.
package raftmeta

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"kraft/raftmeta/configs"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/raftmeta/quorum"
	"kraft/wire"
	"kraft/wire/locks"
	"kraft/wire/logging"
)

// Config describes this node to its metadata.
type Config struct {
	NodeID    int32
	ClusterID string           // of a new cluster, or the one that the data directories name; "" makes one up
	Path      string           // of the metadata file
	Voters    map[int32]string // of a new quorum: controller listeners by node id, this one's too; none for a node that is alone or joins
	Join      []string         // controller listeners of members to ask, for a node that is no voter
	Meeting   *Meeting         // finds Voters by their addresses, or nil
	// Stranger says what listens at an address in place of a node, if that is to end the start; nil where nobody asks.
	Stranger func(ctx context.Context, address string) error
	// Waiting is called each time that a start logs which nodes it waits for, and why: from Join, and from TellWaits's goroutine until its
	// stop. It may be nil.
	Waiting       func(what string)
	Address       string      // of this node's controller listener, as others reach it; "" for one without, which votes only alone
	Dial          wire.Dialer // to members' controller listeners
	Probe         wire.Dialer // by plain TCP, to see whether anybody listens; nil is Dial
	InterBroker   string      // inter.broker.listener.name, or the first listener's
	Endpoints     []*image.Endpoint
	Rack          *string
	FirstUsers    []image.ScramCredential // with whom a new cluster begins
	Static        map[string]string       // server.properties and flags, by Kafka's names
	Features      map[string][2]int16     // levels that this node supports, controller.Features if nil
	QuorumTick    time.Duration
	SnapshotBytes int64
	AcceptOlder   bool // the others are to take this node with an older disk than it had
	Logs          *logging.Log
}

// Meeting describes a new quorum by the addresses of its voters alone: see quorum.Meeting.
type Meeting struct {
	Own       string           // where this node listens, one of Addresses
	Addresses []string         // host:port
	Voters    map[string]int32 // node ids by address, if an earlier start has found them; or nil
	// Agreed saves the voters before the quorum begins.
	Agreed func(voters map[string]int32) error
}

// Meta is the metadata of one node. Its methods may be called from any goroutine.
type Meta struct {
	Config     Config      // as it was given, but for Dial; nobody changes it
	dialled    wire.Dialer // Config.Dial as it was given
	log        zerolog.Logger
	controller *controller.Controller
	node       *quorum.Node
	settings   atomic.Pointer[Settings]
	voters     atomic.Pointer[map[int32]string] // Config.Voters, or those that a Meeting found
}

// Open opens this node's part of the quorum. Members may connect from then on (Accept); Join makes it one.
func Open(config Config) (*Meta, error) {
	if config.Features == nil {
		config.Features = controller.Features
	}
	m := &Meta{dialled: config.Dial, Config: config, log: config.Logs.For(logging.Node), controller: controller.New(config.Logs.For(logging.Controller))}
	m.Config.Dial = m.dial
	if config.Probe == nil {
		m.Config.Probe = m.dial
	}
	m.settings.Store(m.SettingsOf(image.Empty()))
	m.Subscribe(m.followSettings)
	id := MemberID(config.NodeID)
	c := quorum.Config{AcceptOlder: config.AcceptOlder, ID: id, Path: config.Path, Tick: config.QuorumTick, SnapshotBytes: config.SnapshotBytes,
		Busy: m.recovers, Log: config.Logs.For(logging.Quorum)}
	voters := config.Voters
	if config.Meeting != nil {
		c.Meeting = m.meeting()
		if config.Meeting.Voters != nil {
			voters = byID(config.Meeting.Voters)
		}
	}
	m.voters.Store(&voters)
	for v := range voters {
		c.Voters = append(c.Voters, MemberID(v))
	}
	slices.Sort(c.Voters)
	if len(c.Voters) == 0 && len(config.Join) == 0 && config.Meeting == nil {
		c.Voters = []uint64{id}
	}
	if !m.Alone() {
		c.Network = m.network()
	}
	node, err := quorum.Open(c, m.controller)
	if err != nil {
		return nil, err
	}
	m.node = node
	if err := m.checkOwnVoters(); err != nil {
		return nil, errors.Join(err, node.Close())
	}
	return m, nil
}

// dial connects to a member of the quorum. A lone voter may advertise a name that means another host here, such as localhost, or that means
// nothing here. A broker that joined by one address dials that one instead.
func (m *Meta) dial(ctx context.Context, address string) (net.Conn, error) {
	if m.Config.Address != "" || len(m.Config.Join) != 1 || m.Config.Join[0] == address || m.node == nil || len(m.node.Voters()) != 1 {
		return m.dialled(ctx, address)
	}
	other := m.Config.Join[0]
	host, _, _ := net.SplitHostPort(address)
	otherHost, _, _ := net.SplitHostPort(other)
	if configs.IsLoopback(host) && !configs.IsLoopback(otherHost) {
		return m.dialled(ctx, other)
	}
	c, err := m.dialled(ctx, address)
	if err != nil {
		return m.dialled(ctx, other)
	}
	return c, nil
}

// recovers reports whether a member of the quorum is a broker that is fenced: one that has just started reads its logs, and another
// that is silent or whose disk hangs is not to lead either.
func (m *Meta) recovers(member uint64) bool {
	b, ok := m.Image().Broker(NodeOf(member))
	return ok && b.Fenced
}

// Alone says that this node has no quorum with others and never will: it could not be reached, and joins nobody.
func (m *Meta) Alone() bool { return m.Config.Address == "" && len(m.Config.Join) == 0 }

// MemberID is the id of a node as a member of the quorum.
func MemberID(node int32) uint64 { return uint64(node) + controller.FirstRaftID }

// NodeOf is the id of the node that is a member of the quorum.
func NodeOf(member uint64) int32 { return int32(member - controller.FirstRaftID) }

// Decide has the controller commit the records that d returns, if this node leads; see controller.Controller.Decide. An error of d is
// returned as it is. When Decide has returned, because ctx has ended say, d does not run any more.
func (m *Meta) Decide(ctx context.Context, d func(*image.Image) ([]*image.Record, error)) error {
	var mu locks.Mutex // guards the rest
	var failure error
	over := false
	err := m.controller.Decide(ctx, func(work *image.Image, _ time.Time) []*image.Record {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return nil
		}
		records, err := d(work)
		if err != nil {
			failure = err
			return nil
		}
		return records
	})
	mu.Lock()
	defer mu.Unlock()
	over = true
	if err != nil {
		return err
	}
	return failure
}

// Close stops the quorum; a controller hands over first. Everything that uses m must be closed before.
func (m *Meta) Close() error {
	err := m.node.Close()
	m.controller.Stop()
	return err
}

// Done is closed when the quorum stopped by itself; Err says why.
func (m *Meta) Done() <-chan struct{} { return m.node.Done() }

// Err is the failure that stopped the quorum.
func (m *Meta) Err() error { return m.node.Err() }

// Image is the newest metadata.
func (m *Meta) Image() *image.Image { return m.controller.Image() }

// Newest is metadata that this node has applied, but may not act upon yet: Image is soon the same.
func (m *Meta) Newest() *image.Image { return m.controller.Newest() }

// Quorum is the state of the metadata quorum as this node sees it; it fails once the quorum has stopped.
func (m *Meta) Quorum(ctx context.Context) (quorum.Status, error) { return m.node.Status(ctx) }

// NodeID is this node's id.
func (m *Meta) NodeID() int32 { return m.Config.NodeID }

// Subscribe adds a subscriber to all changes; see controller.Controller.Subscribe.
func (m *Meta) Subscribe(s controller.Subscriber) { m.controller.Subscribe(s) }

// Show has a subscriber see something again; see controller.Controller.Show.
func (m *Meta) Show(s controller.Subscriber, again *image.Delta) { m.controller.Show(s, again) }

// Identity is what ApiVersions tells.
func (m *Meta) Identity() wire.Identity {
	return wire.Identity{
		NodeID:    m.Config.NodeID,
		ClusterID: func() string { return m.Image().ClusterID },
		Features: func() (out []wire.Feature, epoch int64) {
			img := m.Image()
			for name, r := range m.Config.Features {
				out = append(out, wire.Feature{Name: name, Min: r[0], Max: r[1], Level: img.Features[name]})
			}
			return out, img.FeaturesEpoch
		},
	}
}

// Node is this node's part of the quorum.
func (m *Meta) Node() *quorum.Node { return m.node }

// Until returns when the published metadata satisfies a condition; see controller.Controller.Until.
func (m *Meta) Until(ctx context.Context, condition func(*image.Image) bool) error {
	return m.controller.Until(ctx, condition)
}

// LeaderChanged is closed when another node becomes the active controller, or none.
func (m *Meta) LeaderChanged() <-chan struct{} { return m.controller.LeaderChanged() }

// Led receives when this node becomes the active controller.
func (m *Meta) Led() <-chan struct{} { return m.controller.Led() }
