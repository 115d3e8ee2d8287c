// Package raftmeta is the cluster's metadata on this node: it joins quorum, image and controller, keeps
// this broker registered, and answers every API that metadata alone can answer.
package raftmeta

import (
	"context"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/configs"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/raftmeta/quorum"
	"kraft/wire"
)

// InternalTopics are the topics whose writes belong to coordinators.
var InternalTopics = []string{"__consumer_offsets", "__transaction_state", "__share_group_state"}

// IsInternal says whether a topic is one of InternalTopics.
func IsInternal(topic string) bool { return slices.Contains(InternalTopics, topic) }

// Config describes this node to its metadata.
type Config struct {
	NodeID        int32
	ClusterID     string // of a new cluster, or the one that the data directories name; "" makes one up
	Path          string // of the metadata file
	Endpoints     []*image.Endpoint
	Rack          *string
	Static        map[string]string // server.properties and flags, by Kafka's names
	QuorumTick    time.Duration
	SnapshotBytes int64
	Log           zerolog.Logger
}

// Meta is the metadata of one node. Its methods may be called from any goroutine.
type Meta struct {
	config     Config
	controller *controller.Controller
	node       *quorum.Node
	epoch      int64 // this broker's, set by Register before anything serves

	idsMu  sync.Mutex // guards the block of producer ids at hand
	nextID int64
	lastID int64 // exclusive
}

// Open starts the quorum with this node as its only voter and waits until it leads and the cluster has
// an id.
func Open(ctx context.Context, config Config) (*Meta, error) {
	m := &Meta{config: config, controller: controller.New(config.Log)}
	id := uint64(config.NodeID) + controller.FirstRaftID
	node, err := quorum.Open(quorum.Config{
		ID: id, Path: config.Path, Voters: []uint64{id}, Tick: config.QuorumTick,
		SnapshotBytes: config.SnapshotBytes, Log: config.Log,
	}, m.controller)
	if err != nil {
		return nil, err
	}
	m.node = node
	if err := m.controller.Start(node); err != nil {
		return nil, err
	}
	if err := m.bootstrap(ctx); err != nil {
		_ = m.Close()
		return nil, err
	}
	return m, nil
}

// bootstrap writes a new cluster's first records.
func (m *Meta) bootstrap(ctx context.Context) error {
	for {
		err := m.controller.Decide(ctx, func(work *image.Image, _ time.Time) []*image.Record {
			if work.ClusterID != "" {
				return nil
			}
			id := m.config.ClusterID
			if id == "" {
				u := controller.NewID()
				id = EncodeUUID(u)
			}
			return controller.FirstRecords(id)
		})
		if err == nil && m.Image().ClusterID != "" {
			return nil
		}
		if err != nil && err != kerr.NotController {
			return fmt.Errorf("metadata quorum: %w", err)
		}
		select { // the election is a matter of milliseconds
		case <-time.After(time.Millisecond):
		case <-m.node.Done():
			return m.node.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Register announces this broker, fenced, under a new incarnation, with the ids of its log directories.
func (m *Meta) Register(ctx context.Context, directories []image.UUID) error {
	b := image.Broker{ID: m.config.NodeID, Incarnation: controller.NewID(), Endpoints: m.config.Endpoints, Rack: m.config.Rack, LogDirs: directories}
	return m.decide(ctx, func(work *image.Image) (records []*image.Record, err error) {
		records, m.epoch, err = controller.RegisterBroker(work, work.ClusterID, b)
		return records, err
	})
}

// Unfence lets this broker take leadership and serve clients; its logs must be open.
func (m *Meta) Unfence(ctx context.Context) error {
	return m.decide(ctx, func(work *image.Image) ([]*image.Record, error) {
		return controller.Unfence(work, m.config.NodeID, m.epoch)
	})
}

// SetLogDirs tells the cluster that only these of this broker's log directories work.
func (m *Meta) SetLogDirs(ctx context.Context, online []image.UUID) error {
	return m.decide(ctx, func(work *image.Image) ([]*image.Record, error) {
		return controller.SetLogDirs(work, m.config.NodeID, m.epoch, online)
	})
}

// AssignDirectories tells the cluster in which log directories replicas of this broker are.
func (m *Meta) AssignDirectories(ctx context.Context, list []controller.Assignment) error {
	return m.decide(ctx, func(work *image.Image) ([]*image.Record, error) {
		return controller.AssignDirectories(work, m.config.NodeID, m.epoch, list)
	})
}

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

// Close stops the quorum.
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

// NodeID is this node's id.
func (m *Meta) NodeID() int32 { return m.config.NodeID }

// BrokerEpoch is this broker's epoch since Register.
func (m *Meta) BrokerEpoch() int64 { return m.epoch }

// Subscribe adds a subscriber to all changes; see controller.Controller.Subscribe.
func (m *Meta) Subscribe(s controller.Subscriber) { m.controller.Subscribe(s) }

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
			for name, r := range controller.Features {
				out = append(out, wire.Feature{Name: name, Min: r[0], Max: r[1], Level: img.Features[name]})
			}
			return out, 0
		},
	}
}

// CreateTopic creates a topic that the broker itself needs, or that a client's Metadata request implies,
// and returns when this node has it. partitions and factor of -1 are the defaults. A topic that exists
// is no error.
func (m *Meta) CreateTopic(ctx context.Context, t controller.NewTopic, d controller.Defaults) error {
	return m.decide(ctx, func(work *image.Image) ([]*image.Record, error) {
		if _, ok := work.Topic(t.Name); ok {
			return nil, nil
		}
		records, _, err := controller.CreateTopic(work, t, d, mrand.Uint64())
		return records, err
	})
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

// NextProducerID returns a producer id that no other broker gives out (KIP-730).
func (m *Meta) NextProducerID(ctx context.Context) (int64, error) {
	m.idsMu.Lock()
	defer m.idsMu.Unlock()
	if m.nextID == m.lastID {
		var start int64
		var n int32
		if err := m.decide(ctx, func(work *image.Image) (records []*image.Record, err error) {
			records, start, n, err = controller.AllocateProducerIDs(work, m.config.NodeID, m.epoch)
			return records, err
		}); err != nil {
			return 0, err
		}
		m.nextID, m.lastID = start, start+int64(n)
	}
	m.nextID++
	return m.nextID - 1, nil
}
