// Package raftmeta is the cluster's metadata on this node: it joins quorum, image and controller, keeps
// this broker registered, and answers every API that metadata alone can answer.
package raftmeta

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sync/semaphore"

	"kraft/raftmeta/configs"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/raftmeta/quorum"
	"kraft/wire"
	"kraft/wire/logging"
)

// InternalTopics are the topics whose writes belong to coordinators.
var InternalTopics = []string{"__consumer_offsets", "__transaction_state", "__share_group_state"}

// IsInternal says whether a topic is one of InternalTopics.
func IsInternal(topic string) bool { return slices.Contains(InternalTopics, topic) }

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
	Address       string // of this node's controller listener, as others reach it; "" for one without, which votes only alone
	Dial          wire.Dialer
	InterBroker   string // inter.broker.listener.name, or the first listener's
	Endpoints     []*image.Endpoint
	Rack          *string
	Static        map[string]string   // server.properties and flags, by Kafka's names
	Features      map[string][2]int16 // levels that this node supports, controller.Features if nil
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
	dialled    wire.Dialer // Config.Dial as it was given: config's is dial
	config     Config
	log        zerolog.Logger // of the broker and its registration
	controller *controller.Controller
	node       *quorum.Node
	calls      *controllerCalls
	liveness   *liveness
	life       lifecycle
	barrier    barrier
	voters     atomic.Pointer[map[int32]string] // Config.Voters, or those that a Meeting found
}

// Open opens this node's part of the quorum. Members may connect from then on (Accept); Join makes it one.
func Open(config Config) (*Meta, error) {
	if config.Features == nil {
		config.Features = controller.Features
	}
	m := &Meta{dialled: config.Dial, config: config, log: config.Logs.For(logging.Node), controller: controller.New(config.Logs.For(logging.Controller)), life: lifecycle{ids: semaphore.NewWeighted(1)}, barrier: barrier{busy: semaphore.NewWeighted(1)}}
	m.config.Dial = m.dial
	m.calls = newControllerCalls(m)
	m.liveness = newLiveness(m)
	id := raftID(config.NodeID)
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
		c.Voters = append(c.Voters, raftID(v))
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
	if m.config.Address != "" || len(m.config.Join) != 1 || m.config.Join[0] == address || m.node == nil || len(m.node.Voters()) != 1 {
		return m.dialled(ctx, address)
	}
	other := m.config.Join[0]
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
	b, ok := m.Image().Broker(nodeID(member))
	return ok && b.Fenced
}

// Alone says that this node has no quorum with others and never will: it could not be reached, and joins nobody.
func (m *Meta) Alone() bool { return m.config.Address == "" && len(m.config.Join) == 0 }

// Join starts this node's part of the quorum, and returns when there is a leader and the cluster has an id. A
// node that knows no quorum asks to be taken in first, or meets those that it is to begin one with.
func (m *Meta) Join(ctx context.Context) error {
	if m.config.Meeting != nil {
		if err := m.node.Meet(ctx, m.waits("waiting until the nodes at all addresses of the quorum have met: ")); err != nil {
			return fmt.Errorf("begin the metadata quorum: %w", err)
		}
	} else if err := m.node.Join(ctx, m.config.Join, m.waits("waiting for a member of the metadata quorum to take this node in: ")); err != nil {
		return fmt.Errorf("join the cluster: %w", err)
	}
	if err := m.controller.Start(m.node); err != nil {
		return err
	}
	if err := m.bootstrap(ctx); err != nil {
		return err
	}
	m.liveness.start()
	return nil
}

// bootstrap returns once the cluster has an id and a leader. A new cluster's leader writes the first records.
func (m *Meta) bootstrap(ctx context.Context) error {
	waiting := m.waits(noMajority)
	for {
		begun := m.Image().ClusterID != ""
		if begun && m.Controller() >= 0 {
			return nil
		}
		waiting(m.whoIsMissing)
		retry := controllerRetry
		if !begun {
			if err := m.begin(ctx); err != nil {
				return err
			}
			retry = time.Millisecond // the first election is a matter of milliseconds
		}
		select {
		case <-time.After(retry):
		case <-m.node.Done():
			return fmt.Errorf("metadata quorum: %w", m.node.Err())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// begin writes a new cluster's first records, if this node leads. A node that no cluster has taken in ends where a member refuses it.
func (m *Meta) begin(ctx context.Context) error {
	if err := m.node.Refused(); err != nil {
		return err
	}
	err := m.controller.Decide(ctx, func(work *image.Image, _ time.Time) []*image.Record {
		if work.ClusterID != "" {
			return nil
		}
		id := m.config.ClusterID
		if id == "" {
			id = EncodeUUID(controller.NewID())
		}
		return controller.FirstRecords(m.config.Features, id, m.IntSetting("min.insync.replicas"))
	})
	if err != nil && err != kerr.NotController {
		return fmt.Errorf("metadata quorum: %w", err)
	}
	return nil
}

const noMajority = "waiting for a majority of the metadata quorum: "

// TellWaits logs every few seconds which voters are not reached, as long as there is no leader, until stop is called. It is for the part of
// a start after Join: the leader may be lost again. stop returns when nothing is logged any more.
func (m *Meta) TellWaits() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		waiting := m.waits(noMajority)
		for led := true; ; led = m.Controller() >= 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(firstWait):
			}
			if !led && m.Controller() < 0 { // longer than an election takes
				waiting(m.whoIsMissing)
			}
		}
	}()
	return func() { cancel(); <-done }
}

// whoIsMissing says which voters this node does not reach, and why.
func (m *Meta) whoIsMissing() string {
	var out []string
	for id, err := range m.node.Unreached() {
		out = append(out, fmt.Sprintf("node %d at %s (%v)", nodeID(id), m.controllerAddress(id), err))
	}
	if len(out) == 0 {
		return "all are reached, and elect a leader"
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// A start says what it waits for after a second, and then again and again.
const (
	firstWait  = time.Second
	waitingFor = 5 * time.Second
)

// waits returns a function that may be called as often as one likes with what a start waits for.
func (m *Meta) waits(prefix string) func(what func() string) {
	next := time.Now().Add(firstWait)
	return func(what func() string) {
		if now := time.Now(); now.After(next) {
			next = now.Add(waitingFor)
			text := prefix + what()
			m.log.Warn().Msg(text)
			if m.config.Waiting != nil {
				m.config.Waiting(text)
			}
		}
	}
}

func raftID(node int32) uint64 { return uint64(node) + controller.FirstRaftID }

func nodeID(raft uint64) int32 { return int32(raft - controller.FirstRaftID) }

// decide runs a decision that can fail on its own account.
func (m *Meta) decide(ctx context.Context, d func(*image.Image) ([]*image.Record, error)) error {
	var failure error
	err := m.controller.Decide(ctx, func(work *image.Image, _ time.Time) []*image.Record {
		records, err := d(work)
		if err != nil {
			failure = err
			return nil
		}
		return records
	})
	if err != nil {
		return err
	}
	return failure
}

// Close stops the quorum; a controller hands over first.
func (m *Meta) Close() error {
	m.stopBeating()
	m.calls.close()
	m.liveness.close()
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
func (m *Meta) NodeID() int32 { return m.config.NodeID }

// BrokerEpoch is this broker's epoch since Register.
func (m *Meta) BrokerEpoch() int64 { return m.life.epoch.Load() }

// Subscribe adds a subscriber to all changes; see controller.Controller.Subscribe.
func (m *Meta) Subscribe(s controller.Subscriber) { m.controller.Subscribe(s) }

// Show has a subscriber see something again; see controller.Controller.Show.
func (m *Meta) Show(s controller.Subscriber, again *image.Delta) { m.controller.Show(s, again) }

// Layers are the places where img says that this broker's settings and a topic's come from. topic may
// be "".
func (m *Meta) Layers(img *image.Image, topic string) configs.Layers {
	l := configs.Layers{
		Broker:         img.Config(image.BrokerResource, fmt.Sprint(m.config.NodeID)),
		ClusterDefault: img.Config(image.BrokerResource, ""),
		Static:         m.config.Static,
	}
	if topic != "" {
		l.Topic = img.Config(image.TopicResource, topic)
	}
	return l
}

// Setting is the value of a broker setting in force now.
func (m *Meta) Setting(name string) string { return m.Layers(m.Image(), "").EffectiveBroker(name) }

// IntSetting is Setting as a number.
func (m *Meta) IntSetting(name string) int64 { return m.Layers(m.Image(), "").EffectiveInt(name) }

// Identity is what ApiVersions tells.
func (m *Meta) Identity() wire.Identity {
	return wire.Identity{
		NodeID:    m.config.NodeID,
		ClusterID: func() string { return m.Image().ClusterID },
		Features: func() (out []wire.Feature, epoch int64) {
			img := m.Image()
			for name, r := range m.config.Features {
				out = append(out, wire.Feature{Name: name, Min: r[0], Max: r[1], Level: img.Features[name]})
			}
			return out, img.FeaturesEpoch
		},
	}
}

// Defaults are the partitions and the factor of topics that do not say. A factor that the user never
// set shrinks to what the brokers allow.
func (m *Meta) Defaults() controller.Defaults {
	return controller.Defaults{
		Partitions: int32(m.IntSetting("num.partitions")),
		Factor:     int16(m.IntSetting("default.replication.factor")),
	}
}

// InternalDefaults are those of an internal topic, by the broker settings that name them.
func (m *Meta) InternalDefaults(partitions, factor string) controller.Defaults {
	_, set := m.config.Static[factor]
	return controller.Defaults{Partitions: int32(m.IntSetting(partitions)), Factor: int16(m.IntSetting(factor)), Clamp: !set}
}
