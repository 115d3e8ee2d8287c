// Package groups serves everything whose state is an internal topic: consumer groups with their offsets, and transactions. It routes requests to
// the coordinator of a group (package coordinator) or of a transactional id (package transaction), which package runtime runs.
//
// To read it, begin with Manager for groups and with transactions for transactions; internalTopic finds and creates their topics, and markers
// writes the markers of decided transactions.
package groups

import (
	"context"
	"unicode/utf16"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"kraft/groups/coordinator"
	"kraft/groups/runtime"
	"kraft/raftmeta"
	"kraft/raftmeta/broker"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/replication"
	"kraft/wire"
)

const offsetsTopic = "__consumer_offsets"

// Manager holds the coordinators of the offsets partitions that this node leads. Its methods may be
// called from any goroutine.
type Manager struct {
	meta   *raftmeta.Meta
	broker *broker.Broker
	parts  *replication.Manager
	log    zerolog.Logger
	host   *runtime.Host[*coordinator.Coordinator]
	topic  *internalTopic
	txns   *transactions

	missing *rate.Limiter // of log lines about what is not served
}

// NewManager makes a manager that learns from parts which partitions it coordinates; call it before parts.Start. dial connects to other
// brokers, by their listener of the given name.
func NewManager(meta *raftmeta.Meta, b *broker.Broker, parts *replication.Manager, dial wire.Dialer, interBroker string, log zerolog.Logger) *Manager {
	m := &Manager{meta: meta, broker: b, parts: parts, log: log, missing: rate.NewLimiter(rate.Every(unavailableInterval), 3)}
	m.topic = &internalTopic{meta: meta, broker: b, log: log, name: offsetsTopic, serves: "consumer groups", settings: func(s *raftmeta.Settings, c map[string]*string) controller.Defaults {
		c["segment.bytes"] = text(s.OffsetsTopicSegment)
		return meta.OffsetsTopicDefaults()
	}}
	m.txns = newTransactions(m, dial, interBroker)
	m.host = runtime.NewHost(func() *coordinator.Coordinator { return coordinator.New(m.config()) }, nil)
	parts.Watch(offsetsTopic, m)
	return m
}

// Start has the coordinators follow the metadata.
func (m *Manager) Start() { m.meta.Subscribe(m.follow) }

// RegisterHandlers adds the group APIs to r.
func (m *Manager) RegisterHandlers(r *wire.Registry) {
	wire.Handle(r, 0, 10, m.offsetCommit)
	wire.Handle(r, 0, 10, m.offsetFetch)
	wire.Handle(r, 0, 6, m.findCoordinator)
	wire.Handle(r, 0, 9, m.joinGroup)
	wire.Handle(r, 0, 4, m.heartbeat)
	wire.Handle(r, 0, 5, m.leaveGroup)
	wire.Handle(r, 0, 5, m.syncGroup)
	wire.Handle(r, 0, 6, m.describeGroups)
	wire.Handle(r, 0, 5, m.listGroups)
	wire.Handle(r, 0, 3, m.deleteGroups)
	wire.Handle(r, 0, 0, m.offsetDelete)
	m.txns.registerHandlers(r)
	wire.Handle(r, 0, 6, m.txnOffsetCommit)
}

// Lead implements replication.Watcher.
func (m *Manager) Lead(p *replication.Partition, epoch int32) {
	m.host.Lead(p.Number(), partitionLog{p}, epoch, m.log.With().Str("partition", p.String()).Logger())
}

// Resign implements replication.Watcher.
func (m *Manager) Resign(n int32) { m.host.Resign(n) }

// Close stops all coordinators; callers that wait get NOT_COORDINATOR.
func (m *Manager) Close() {
	m.txns.close()
	m.host.Close()
}

func (m *Manager) config() coordinator.Config {
	s := m.meta.Settings()
	return coordinator.Config{
		MinSession: s.GroupMinSession, MaxSession: s.GroupMaxSession, MaxSize: s.GroupMaxSize, InitialRebalanceDelay: s.GroupInitialDelay,
		OffsetsRetention: s.OffsetsRetention, RetentionInterval: s.OffsetsRetentionCheck, MaxMetadata: s.OffsetMetadataMaxBytes,
		NewID: uuid.NewString,
	}
}

// follow tells the coordinators of deleted topics.
func (m *Manager) follow(_ *image.Image, changed *image.Delta) {
	if len(changed.Removed) == 0 {
		return
	}
	var deleted []string
	for _, t := range changed.Removed {
		deleted = append(deleted, t.Name)
	}
	m.host.Tell(func(c *coordinator.Coordinator, call runtime.Call) runtime.Effects {
		return c.ForgetTopics(call, deleted)
	})
}

// Stats tells of the groups that this broker coordinates; those of partitions that are being loaded are left out. Any goroutine may
// call it.
func (m *Manager) Stats(ctx context.Context) (out []coordinator.Stats) {
	for _, l := range m.host.All() {
		groups, err := runtime.Ask[[]coordinator.Stats](ctx, l, false, func(c *coordinator.Coordinator, call runtime.Call) runtime.Effects { return c.Stats(call.To) })
		if err == nil {
			out = append(out, groups...)
		}
	}
	return out
}

// partitionFor is the offsets partition of a group: Kafka's Utils.abs(hashCode) of the group id.
func partitionFor(group string, partitions int32) int32 {
	var h int32
	for _, c := range utf16.Encode([]rune(group)) {
		h = 31*h + int32(c)
	}
	if h == -1<<31 {
		h = 0
	}
	if h < 0 {
		h = -h
	}
	return h % partitions
}

// ask runs op on the coordinator of a group.
func ask[R any](ctx context.Context, m *Manager, group string, joins bool, op func(*coordinator.Coordinator, runtime.Call) runtime.Effects) (R, error) {
	n, err := m.topic.partition(group)
	if err != nil {
		var none R
		return none, err
	}
	return runtime.AskOf[R](ctx, m.host, n, joins, op)
}

// logUnsupported logs that a client asks for something that this version does not have; not each time, since clients go on asking.
func (m *Manager) logUnsupported(ctx *wire.Request, what string) {
	if m.missing.Allow() {
		m.log.Warn().Str("client", ctx.ClientID).Str("peer", ctx.Session.Peer).Msg("a client asks for " + what + ", which this version of kraft does not have")
	}
}
