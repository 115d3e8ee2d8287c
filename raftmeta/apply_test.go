package raftmeta_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"kraft/cli/metrics"
	"kraft/groups"
	"kraft/raftmeta"
	"kraft/raftmeta/active"
	"kraft/raftmeta/broker"
	"kraft/raftmeta/calls"
	"kraft/raftmeta/configs"
	"kraft/raftmeta/image"
	"kraft/replication"
	"kraft/storage"
	"kraft/wire/defect"
	"kraft/wire/logging"
	"kraft/wire/record"
)

// node is what applies metadata on a node, with its logs.
type node struct {
	meta   *raftmeta.Meta
	calls  *calls.Calls
	active *active.Controller
	broker *broker.Broker
	dir    *storage.Dir
	logs   *storage.Manager
	parts  *replication.Manager
	groups *groups.Manager
	admin  *metrics.Admin
}

func open(t *testing.T, path string) *node {
	t.Helper()
	log := logging.New(zerolog.Nop(), nil)
	b := new(node)
	var err error
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	b.dir, err = storage.OpenDir(storage.OS{}, filepath.Join(path, "data"))
	must(err)
	must(b.dir.Claim("cluster", 1))
	b.meta, err = raftmeta.Open(raftmeta.Config{NodeID: 1, ClusterID: "cluster", Path: filepath.Join(path, "metadata.db"), QuorumTick: 10 * time.Millisecond, SnapshotBytes: 20 << 10,
		Endpoints: []*image.Endpoint{{Listener: "PLAINTEXT", Host: "127.0.0.1", Port: 1}}, Static: map[string]string{}, InterBroker: "PLAINTEXT", Logs: log})
	must(err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	b.calls, b.active = calls.New(b.meta), active.New(b.meta)
	b.broker = broker.New(b.meta, b.calls, b.active)
	must(b.meta.Join(ctx))
	b.active.Start()
	must(b.broker.Register(ctx, []image.UUID{b.dir.Meta().DirectoryID}, -1))
	b.logs, err = storage.NewManager([]*storage.Dir{b.dir}, storage.ManagerConfig{RetentionInterval: 20 * time.Millisecond, CheckpointInterval: 20 * time.Millisecond, RecoveryThreads: 1, MoveThreads: 1,
		Cleaner: storage.CleanerConfig{Threads: 1, Memory: 1 << 20, Backoff: 20 * time.Millisecond}}, zerolog.Nop())
	must(err)
	nobody := func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody is there") }
	b.parts = replication.NewManager(b.meta, b.broker, b.logs, nobody, "PLAINTEXT", replication.Logs{Log: zerolog.Nop(), StateChange: zerolog.Nop()})
	b.groups = groups.NewManager(b.meta, b.broker, b.parts, nobody, "PLAINTEXT", zerolog.Nop())
	b.parts.Start()
	b.groups.Start()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	b.admin = metrics.Serve(listener, zerolog.Nop())
	b.admin.Ready(metrics.Sources{Meta: b.meta, Replication: b.parts, Groups: b.groups, Logs: b.logs, Dial: nobody, InterBroker: "PLAINTEXT", Started: time.Now()})
	must(b.broker.Unfence(ctx))
	return b
}

func (b *node) close(t *testing.T) {
	t.Helper()
	b.groups.Close()
	b.admin.Close()
	b.parts.Close()
	b.broker.Close()
	b.calls.Close()
	b.active.Close()
	if err := errors.Join(b.meta.Err(), b.meta.Close(), b.logs.Close(b.broker.Epoch()), b.dir.Close()); err != nil {
		t.Error(err)
	}
}

// writer makes records that a controller could write, at random and without regard to what would make sense.
type writer struct {
	*rand.Rand
	img *image.Image
	dir image.UUID
	ids uint64
}

func pick[T any](w *writer, of ...T) T { return of[w.IntN(len(of))] }

// some are some of the brokers, in any order.
func (w *writer) some() []int32 {
	all := []int32{1, 2, 3}
	w.Shuffle(3, func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:w.IntN(4)]
}

func (w *writer) topics() (out []*image.Topic) {
	w.img.Topics("", func(t *image.Topic) bool { out = append(out, t); return true })
	return out
}

func (w *writer) directories(n int) (out [][]byte) {
	for range n {
		id := pick(w, w.dir, image.Unassigned, image.UUID{9})
		out = append(out, id[:])
	}
	return out
}

func (w *writer) records() []*image.Record {
	topics := w.topics()
	switch kind := w.IntN(12); {
	case kind < 2 || len(topics) == 0:
		name := pick(w, "a", "b", "c", "__consumer_offsets")
		if _, there := w.img.Topic(name); there {
			return nil
		}
		w.ids++
		id := image.UUID{1, byte(w.ids), byte(w.ids >> 8)}
		out := []*image.Record{{Kind: &image.Record_Topic{Topic: &image.TopicRecord{Name: name, Id: id[:]}}}}
		for n := range 1 + w.Int32N(3) {
			replicas := w.some()
			if len(replicas) == 0 {
				replicas = []int32{1}
			}
			out = append(out, image.NewPartition(id, n, &image.Partition{Replicas: replicas, ISR: replicas, Leader: replicas[0]}))
		}
		return out
	case kind == 2:
		id := pick(w, topics...).ID
		return []*image.Record{{Kind: &image.Record_RemoveTopic{RemoveTopic: &image.RemoveTopicRecord{Id: id[:]}}}}
	case kind == 3:
		id, fenced := pick[int32](w, 2, 3), w.IntN(2) == 0
		return []*image.Record{{Kind: &image.Record_RegisterBroker{RegisterBroker: &image.RegisterBrokerRecord{Id: id, Epoch: w.Int64N(1000), Incarnation: make([]byte, 16), Fenced: fenced,
			Endpoints: []*image.Endpoint{{Listener: "PLAINTEXT", Host: "127.0.0.1", Port: 1}}}}}}
	case kind < 8:
		t := pick(w, topics...)
		c := &image.PartitionChangeRecord{TopicId: t.ID[:], Partition: w.Int32N(int32(len(t.Partitions)) + 1)}
		if w.IntN(2) == 0 {
			c.Isr = &image.Replicas{Ids: w.some()}
		}
		if w.IntN(2) == 0 {
			leader := pick[int32](w, -1, 1, 1, 2, 3)
			c.Leader = &leader
		}
		if w.IntN(3) == 0 {
			c.Replicas = &image.Replicas{Ids: w.some()}
			c.Directories = w.directories(len(c.Replicas.Ids))
		}
		if w.IntN(4) == 0 {
			c.Adding, c.Removing, c.Elr, c.LastKnownElr = &image.Replicas{Ids: w.some()}, &image.Replicas{Ids: w.some()}, &image.Replicas{Ids: w.some()}, &image.Replicas{Ids: w.some()}
		}
		if w.IntN(4) == 0 {
			recovering := w.IntN(2) == 0
			c.Recovering = &recovering
		}
		return []*image.Record{{Kind: &image.Record_PartitionChange{PartitionChange: c}}}
	default:
		kind, name, definitions := int8(image.TopicResource), pick(w, "a", "b", "__consumer_offsets", "none"), configs.Topic
		if w.IntN(3) == 0 {
			kind, name, definitions = image.BrokerResource, pick(w, "", "1", "2"), configs.Broker
		}
		names := slices.Sorted(maps.Keys(definitions))
		value := pick(w, "0", "1", "-1", "9223372036854775807", "-9223372036854775808", "", "nonsense", "true", "compact", "compact,delete", "gzip", "0:1,1:2", "0.5")
		v := &value
		if w.IntN(5) == 0 {
			v = nil
		}
		return []*image.Record{image.SetConfig(kind, name, pick(w, names...), v)}
	}
}

// TestApply: whatever a controller could commit, in whatever order, is applied by all that follows metadata, with logs open and written to,
// and at the next start: without a panic, and without standing still.
func TestApply(t *testing.T) {
	seeds, changes := uint64(6), 300
	if testing.Short() {
		seeds = 1
	}
	before := defect.Counts()
	for seed := range seeds {
		path := t.TempDir()
		b := open(t, path)
		w := &writer{Rand: rand.New(rand.NewPCG(seed, 0)), dir: b.dir.Meta().DirectoryID}
		for i := range changes {
			w.img = b.meta.Newest()
			records := w.records()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			if err := b.meta.Decide(ctx, func(*image.Image) ([]*image.Record, error) { return records, nil }); err != nil {
				t.Fatalf("seed %d, change %d, %v: %v", seed, i, records, err)
			}
			cancel()
			for _, topic := range w.topics() {
				for n := range topic.Partitions {
					if p, err := b.parts.Partition(topic.Name, int32(n)); err == nil {
						batch := record.NewBuilder(record.None)
						batch.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Key: []byte("k"), Value: fmt.Append(nil, i)})
						data, err := batch.Build()
						if err != nil {
							t.Fatal(err)
						}
						_, _, _ = p.Append(data, nil, 1, time.Now())
					}
				}
			}
			if i%70 == 69 {
				b.close(t)
				b = open(t, path)
			}
		}
		b.close(t)
		if now := defect.Counts(); !maps.Equal(before, now) {
			t.Fatalf("seed %d: mistakes in kraft: %v", seed, now)
		}
	}
}
