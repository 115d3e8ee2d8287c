// Package groups serves everything whose state is an internal topic: consumer groups and their offsets.
// It routes requests to the coordinator of a group, which package coordinator decides and package runtime
// runs.
package groups

import (
	"context"
	"fmt"
	"time"
	"unicode/utf16"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/groups/coordinator"
	"kraft/groups/runtime"
	"kraft/raftmeta"
	"kraft/raftmeta/broker"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/replication"
	"kraft/wire"
	"kraft/wire/locks"
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

	mu locks.Mutex // guards the rest
	// Why the offsets topic cannot be created, as it was logged, and until when that is not logged again.
	unavailable string
	quietUntil  time.Time
}

// NewManager makes a manager that learns from parts which partitions it coordinates; call it before
// parts.Start.
func NewManager(meta *raftmeta.Meta, b *broker.Broker, parts *replication.Manager, log zerolog.Logger) *Manager {
	m := &Manager{meta: meta, broker: b, parts: parts, log: log}
	m.host = runtime.NewHost(func() *coordinator.Coordinator { return coordinator.New(m.config()) })
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
	wire.Handle(r, 0, 5, m.initProducerID)
}

// Lead implements replication.Watcher.
func (m *Manager) Lead(p *replication.Partition, epoch int32) {
	m.host.Lead(p.Number(), partitionLog{p}, epoch, m.log.With().Str("partition", p.String()).Logger())
}

// Resign implements replication.Watcher.
func (m *Manager) Resign(n int32) { m.host.Resign(n) }

// Close stops all coordinators; callers that wait get NOT_COORDINATOR.
func (m *Manager) Close() { m.host.Close() }

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
	t, ok := m.meta.Image().Topic(offsetsTopic)
	if !ok {
		var none R
		return none, kerr.NotCoordinator
	}
	return runtime.AskOf[R](ctx, m.host, partitionFor(group, int32(len(t.Partitions))), joins, op)
}

// unavailableInterval is how often the log says that the offsets topic cannot be created, for the same reason.
const unavailableInterval = time.Minute

// logUnavailable logs why there are no groups. Clients request their coordinator again and again.
func (m *Manager) logUnavailable(err error) {
	now, why := time.Now(), err.Error()
	m.mu.Lock()
	defer m.mu.Unlock()
	if why == m.unavailable && now.Before(m.quietUntil) {
		return
	}
	m.unavailable, m.quietUntil = why, now.Add(unavailableInterval)
	m.log.Error().Msg(fmt.Sprintf("cannot create %s: consumer groups are unavailable: %s", offsetsTopic, why))
}

// ensureTopic creates the offsets topic if it is missing, with the replication factor that the brokers
// allow unless the user set one.
func (m *Manager) ensureTopic(ctx context.Context) (*image.Topic, error) {
	if t, ok := m.meta.Image().Topic(offsetsTopic); ok {
		return t, nil
	}
	c := controller.InternalConfigs(offsetsTopic)
	segment := fmt.Sprint(m.meta.Settings().OffsetsTopicSegment)
	c["segment.bytes"] = &segment
	err := m.broker.CreateTopic(ctx, controller.NewTopic{Name: offsetsTopic, Partitions: -1, Factor: -1, Configs: c},
		m.meta.OffsetsTopicDefaults())
	if err != nil {
		return nil, err
	}
	t, ok := m.meta.Image().Topic(offsetsTopic)
	if !ok {
		return nil, kerr.CoordinatorNotAvailable
	}
	return t, nil
}
