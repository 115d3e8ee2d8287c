package controller

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"kraft/raftmeta/configs"
	"kraft/raftmeta/image"
)

// testPolicy is Kafka's defaults.
var testPolicy = Policy{MinISR: func(*image.Image, string) int { return 1 }, Unclean: func(*image.Image, string) bool { return false }}

// cluster is an image with n unfenced brokers, in as many racks as given (0 for none).
func cluster(t interface{ Fatal(...any) }, n, racks int) *image.Image {
	m := image.Empty()
	apply(m, FirstRecords(Features, "c", 1))
	for i := range n {
		b := image.Broker{ID: int32(i + 1), Incarnation: NewID()}
		if racks > 0 {
			r := fmt.Sprint("rack-", i%racks)
			b.Rack = &r
		}
		admit(t, m, b)
	}
	return m
}

// admit registers and unfences a broker.
func admit(t interface{ Fatal(...any) }, m *image.Image, b image.Broker) {
	records, epoch, err := RegisterBroker(m, testPolicy, "c", b, -1)
	if err != nil {
		t.Fatal(err)
	}
	apply(m, records)
	if records, err = Unfence(m, testPolicy, b.ID, epoch); err != nil {
		t.Fatal(err)
	}
	apply(m, records)
}

func apply(m *image.Image, records []*image.Record) {
	for _, r := range records {
		m.Apply(r)
	}
}

func str(s string) *string { return &s }

func TestCreateTopicRefusals(t *testing.T) {
	m := cluster(t, 3, 0)
	records, _, err := CreateTopic(m, NewTopic{Name: "a.b", Partitions: 1, Factor: 1}, Defaults{}, NewID(), 1)
	if err != nil {
		t.Fatal(err)
	}
	apply(m, records)
	for name, tc := range map[string]struct {
		topic NewTopic
		want  error
		says  string
	}{
		"exists":              {NewTopic{Name: "a.b", Partitions: 1, Factor: 1}, kerr.TopicAlreadyExists, "Topic 'a.b' already exists."},
		"collides":            {NewTopic{Name: "a_b", Partitions: 1, Factor: 1}, kerr.InvalidTopicException, "collides with existing topic: a.b"},
		"bad name":            {NewTopic{Name: "a b", Partitions: 1, Factor: 1}, kerr.InvalidTopicException, "other than ASCII alphanumerics"},
		"no partitions":       {NewTopic{Name: "x", Partitions: 0, Factor: 1}, kerr.InvalidPartitions, "non-positive"},
		"many partitions":     {NewTopic{Name: "x", Partitions: 1 << 20, Factor: 1}, kerr.PolicyViolation, "10000"},
		"no replicas":         {NewTopic{Name: "x", Partitions: 1, Factor: 0}, kerr.InvalidReplicationFactor, "larger than 0"},
		"many replicas":       {NewTopic{Name: "x", Partitions: 1, Factor: 4}, kerr.InvalidReplicationFactor, "only 3 broker(s) are registered"},
		"unknown config":      {NewTopic{Name: "x", Partitions: 1, Factor: 1, Configs: map[string]*string{"retention": str("1")}}, kerr.InvalidConfig, "Unknown topic config name: retention"},
		"bad config":          {NewTopic{Name: "x", Partitions: 1, Factor: 1, Configs: map[string]*string{"retention.ms": str("long")}}, kerr.InvalidConfig, "retention.ms"},
		"null config":         {NewTopic{Name: "x", Partitions: 1, Factor: 1, Configs: map[string]*string{"retention.ms": nil}}, kerr.InvalidConfig, "Null value"},
		"assigned and sized":  {NewTopic{Name: "x", Partitions: 1, Factor: -1, Assignment: map[int32][]int32{0: {1}}}, kerr.InvalidRequest, "manual partition assignment"},
		"assigned with a gap": {NewTopic{Name: "x", Partitions: -1, Factor: -1, Assignment: map[int32][]int32{0: {1}, 2: {1}}}, kerr.InvalidReplicaAssignment, "consecutive"},
		"assigned nowhere":    {NewTopic{Name: "x", Partitions: -1, Factor: -1, Assignment: map[int32][]int32{0: {9}}}, kerr.InvalidReplicaAssignment, "broker 9"},
		"assigned twice":      {NewTopic{Name: "x", Partitions: -1, Factor: -1, Assignment: map[int32][]int32{0: {1, 1}}}, kerr.InvalidReplicaAssignment, "more than once"},
	} {
		_, _, err := CreateTopic(m, tc.topic, Defaults{Partitions: 1, Factor: 1}, NewID(), 1)
		if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %v with %q", name, err, tc.want, tc.says)
		}
	}
}

// TestFencedBrokersGetReplicas: a topic can be made while brokers do not run, as in Apache Kafka: they get replicas where the others are
// too few, and lead nothing.
func TestFencedBrokersGetReplicas(t *testing.T) {
	m := cluster(t, 3, 0)
	fence := func(id int32) {
		records, err := Fence(m, testPolicy, id, epochOf(m, id))
		if err != nil {
			t.Fatal(err)
		}
		apply(m, records)
	}
	fence(2)
	_, topic, err := CreateTopic(m, NewTopic{Name: "t", Partitions: 6, Factor: 3}, Defaults{}, NewID(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for n, p := range topic.Partitions {
		if len(p.Replicas) != 3 || len(p.ISR) != 2 || p.Leader == 2 || slices.Contains(p.ISR, 2) {
			t.Errorf("partition %d: %+v", n, p)
		}
	}
	if _, topic, err = CreateTopic(m, NewTopic{Name: "t2", Partitions: 6, Factor: 2}, Defaults{}, NewID(), 1); err != nil {
		t.Fatal(err)
	}
	for n, p := range topic.Partitions {
		if slices.Contains(p.Replicas, 2) {
			t.Errorf("partition %d of a topic for which the others are enough: %v", n, p.Replicas)
		}
	}
	internal := NewTopic{Name: "internal", Partitions: -1, Factor: -1}
	if _, topic, err := CreateTopic(m, internal, Defaults{Partitions: 1, Factor: 3, Clamp: true}, NewID(), 1); err != nil || len(topic.Partitions[0].Replicas) != 3 {
		t.Errorf("a broker's own topic: %v %v", topic, err)
	}
	if _, _, err := CreateTopic(m, NewTopic{Name: "t3", Partitions: 1, Factor: 4}, Defaults{}, NewID(), 1); !errors.Is(err, kerr.InvalidReplicationFactor) {
		t.Errorf("more replicas than brokers: %v", err)
	}
	fence(1)
	fence(3)
	if _, _, err := CreateTopic(m, NewTopic{Name: "t3", Partitions: 1, Factor: 1}, Defaults{}, NewID(), 1); !errors.Is(err, kerr.InvalidReplicationFactor) {
		t.Errorf("while no broker runs: %v", err)
	}
}

func TestDefaultsAreClamped(t *testing.T) {
	one := cluster(t, 1, 0)
	internal := NewTopic{Name: "__consumer_offsets", Partitions: -1, Factor: -1}
	if _, topic, err := CreateTopic(one, internal, Defaults{Partitions: 50, Factor: 3, Clamp: true}, NewID(), 1); err != nil || len(topic.Partitions) != 50 || len(topic.Partitions[0].Replicas) != 1 {
		t.Errorf("a lone broker's internal topic: %v", err)
	}
	if _, _, err := CreateTopic(one, internal, Defaults{Partitions: 50, Factor: 3}, NewID(), 1); !errors.Is(err, kerr.InvalidReplicationFactor) {
		t.Errorf("a factor that the user asked for: %v", err)
	}
}

// TestPlacement: replicas are distinct and active, spread over racks where there are enough, and leaders
// are spread evenly.
func TestPlacement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		brokers := rapid.IntRange(1, 12).Draw(t, "brokers")
		racks := rapid.IntRange(0, 4).Draw(t, "racks")
		factor := rapid.IntRange(1, brokers).Draw(t, "factor")
		partitions := rapid.IntRange(1, 60).Draw(t, "partitions")
		m := cluster(t, brokers, racks)
		placed, err := place(m, partitions, int16(factor), rapid.Uint64().Draw(t, "seed"))
		if err != nil {
			t.Fatal(err)
		}
		leads := map[int32]int{}
		for _, replicas := range placed {
			if len(replicas) != factor {
				t.Fatalf("%d replicas, want %d", len(replicas), factor)
			}
			leads[replicas[0]]++
			for i, r := range replicas {
				if slices.Contains(replicas[:i], r) {
					t.Fatalf("broker %d twice in %v", r, replicas)
				}
			}
		}
		for id, n := range leads {
			if n > (partitions+brokers-1)/brokers {
				t.Fatalf("broker %d leads %d of %d partitions on %d brokers", id, n, partitions, brokers)
			}
		}
	})
}

func TestRegistration(t *testing.T) {
	m := cluster(t, 1, 0)
	old, _ := m.Broker(1)
	if _, _, err := RegisterBroker(m, testPolicy, "other", image.Broker{ID: 2}, -1); !errors.Is(err, kerr.InconsistentClusterID) {
		t.Errorf("another cluster's broker: %v", err)
	}
	if _, epoch, err := RegisterBroker(m, testPolicy, "c", image.Broker{ID: 1, Incarnation: old.Incarnation}, -1); err != nil || epoch != old.Epoch {
		t.Errorf("the same process again: epoch %d, had %d (%v)", epoch, old.Epoch, err)
	}
	records, epoch, err := RegisterBroker(m, testPolicy, "c", image.Broker{ID: 1, Incarnation: NewID()}, -1)
	if err != nil || epoch <= old.Epoch {
		t.Fatalf("a new process: epoch %d, had %d (%v)", epoch, old.Epoch, err)
	}
	created, topic, err := CreateTopic(m, NewTopic{Name: "t", Partitions: 2, Factor: 1}, Defaults{}, NewID(), 1)
	if err != nil {
		t.Fatal(err)
	}
	apply(m, created)
	apply(m, records)
	if _, err := Unfence(m, testPolicy, 1, old.Epoch); !errors.Is(err, kerr.StaleBrokerEpoch) {
		t.Errorf("unfenced by an old epoch: %v", err)
	}
	unfence, err := Unfence(m, testPolicy, 1, epoch)
	if err != nil {
		t.Fatal(err)
	}
	apply(m, unfence)
	after, _ := m.TopicByID(topic.ID)
	for n, p := range after.Partitions {
		if p.Leader != 1 || p.LeaderEpoch != 1 || p.PartitionEpoch != 1 {
			t.Errorf("partition %d after the restart of its leader: %+v, want a new leader epoch", n, p)
		}
	}
	if again, err := Unfence(m, testPolicy, 1, epoch); err != nil || again != nil {
		t.Errorf("unfenced twice: %v %v", again, err)
	}
}

func TestAlterConfigs(t *testing.T) {
	m := cluster(t, 1, 0)
	records, _, err := CreateTopic(m, NewTopic{Name: "t", Partitions: 1, Factor: 1}, Defaults{}, NewID(), 1)
	if err != nil {
		t.Fatal(err)
	}
	apply(m, records)
	effective := func(key string) string {
		if configs.Topic[key] != nil {
			return configs.Layers{}.Effective(key)
		}
		return configs.Layers{}.EffectiveBroker(key)
	}
	alter := func(kind int8, name string, changes ...Alteration) error {
		records, err := AlterConfigs(m, kind, name, changes, effective)
		apply(m, records)
		return err
	}
	const topic, broker, group = image.TopicResource, image.BrokerResource, image.GroupResource
	for _, tc := range []struct {
		kind   int8
		name   string
		change Alteration
		want   error
	}{
		{topic, "t", Alteration{"retention.ms", Set, str("5")}, nil},
		{topic, "t", Alteration{"cleanup.policy", Append, str("compact")}, nil},
		{topic, "t", Alteration{"retention.ms", Append, str("5")}, kerr.InvalidConfig},
		{topic, "t", Alteration{"retention.ms", Set, nil}, kerr.InvalidRequest},
		{topic, "t", Alteration{"retention.ms", 9, str("5")}, kerr.InvalidRequest},
		{topic, "none", Alteration{"retention.ms", Set, str("5")}, kerr.UnknownTopicOrPartition},
		{broker, "1", Alteration{"log.retention.ms", Set, str("7")}, nil},
		{broker, "", Alteration{"log.retention.ms", Set, str("8")}, nil},
		{broker, "", Alteration{"min.insync.replicas", Set, str("2")}, nil},
		{broker, "", Alteration{"min.insync.replicas", Delete, nil}, kerr.InvalidConfig},
		{broker, "1", Alteration{"min.insync.replicas", Set, str("1")}, kerr.InvalidConfig},
		{broker, "", Alteration{"node.id", Set, str("8")}, kerr.InvalidRequest},
		{broker, "9", Alteration{"log.retention.ms", Set, str("8")}, kerr.InvalidRequest},
		{broker, "x", Alteration{"log.retention.ms", Set, str("8")}, kerr.InvalidRequest},
		{broker, "", Alteration{"num.io.threads", Set, str("3")}, kerr.InvalidRequest},
		{broker, "", Alteration{"num.io.threads", Set, str("17")}, kerr.InvalidRequest},
		{broker, "", Alteration{"num.io.threads", Set, str("16")}, nil},
		{broker, "", Alteration{"log.cleaner.dedupe.buffer.size", Set, str("1048576")}, kerr.InvalidRequest},
		{broker, "", Alteration{"log.cleanup.policy", Set, str("compact,compact")}, kerr.InvalidRequest},
		{broker, "", Alteration{"log.retention.ms", Set, str("0")}, kerr.InvalidRequest},
		{broker, "", Alteration{"log.local.retention.ms", Set, str("-1")}, kerr.InvalidRequest},
		{topic, "t", Alteration{"remote.storage.enable", Set, str("TRUE")}, kerr.InvalidConfig},
		{topic, "t", Alteration{"min.compaction.lag.ms", Set, str("9223372036854775807")}, nil},
		{topic, "t", Alteration{"max.compaction.lag.ms", Set, str("9")}, kerr.InvalidConfig},
		{group, "g", Alteration{"consumer.session.timeout.ms", Set, str("1")}, kerr.InvalidConfig},
		{group, "g", Alteration{"share.auto.offset.reset", Set, str("by_duration:PT1H30M")}, nil},
		{group, "g", Alteration{"share.auto.offset.reset", Set, str("by_duration:1h")}, kerr.InvalidConfig},
		{group, "g", Alteration{"streams.rack.aware.assignment.tags", Set, str("a,a")}, kerr.InvalidConfig},
		{99, "t", Alteration{"retention.ms", Set, str("5")}, kerr.InvalidRequest},
	} {
		if err := alter(tc.kind, tc.name, tc.change); !errors.Is(err, tc.want) && err != tc.want {
			t.Errorf("%v %q %+v: %v, want %v", tc.kind, tc.name, tc.change, err, tc.want)
		}
	}
	if got := m.Config(topic, "t")["cleanup.policy"]; got != "delete,compact" {
		t.Errorf("append gives %q", got)
	}
	if err := alter(topic, "t", Alteration{"cleanup.policy", Subtract, str("delete")}); err != nil || m.Config(topic, "t")["cleanup.policy"] != "compact" {
		t.Errorf("subtract gives %v, %v", m.Config(topic, "t"), err)
	}
	if err := alter(topic, "t", Alteration{"a", Set, str("1")}, Alteration{"a", Set, str("2")}); !errors.Is(err, kerr.InvalidConfig) && !errors.Is(err, kerr.InvalidRequest) {
		t.Errorf("a key twice: %v", err)
	}
	replace, err := ReplaceConfigs(m, topic, "t", map[string]*string{"segment.bytes": str("1048576")}, effective)
	if err != nil {
		t.Fatal(err)
	}
	apply(m, replace)
	if got := fmt.Sprint(m.Config(topic, "t")); got != "map[segment.bytes:1048576]" {
		t.Errorf("replaced: %s", got)
	}
}

func TestAddPartitions(t *testing.T) {
	m := cluster(t, 3, 0)
	records, _, err := CreateTopic(m, NewTopic{Name: "t", Partitions: 2, Factor: 2}, Defaults{}, NewID(), 1)
	if err != nil {
		t.Fatal(err)
	}
	apply(m, records)
	for _, tc := range []struct {
		name       string
		count      int32
		assignment [][]int32
		want       error
	}{
		{"t", 2, nil, kerr.InvalidPartitions}, {"t", 1, nil, kerr.InvalidPartitions}, {"u", 3, nil, kerr.UnknownTopicOrPartition},
		{"t", 4, [][]int32{{1, 2}}, kerr.InvalidReplicaAssignment},
	} {
		if _, err := AddPartitions(m, tc.name, tc.count, tc.assignment, 1); !errors.Is(err, tc.want) {
			t.Errorf("%+v: %v", tc, err)
		}
	}
	records, err = AddPartitions(m, "t", 4, [][]int32{{3, 1}, {1, 2}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	apply(m, records)
	topic, _ := m.Topic("t")
	if len(topic.Partitions) != 4 || topic.Partitions[2].Leader != 3 || len(topic.Partitions[3].ISR) != 2 {
		t.Errorf("grown topic: %+v", topic.Partitions[2])
	}
}

func TestProducerIDs(t *testing.T) {
	m := cluster(t, 2, 0)
	seen := int64(-1)
	for i := range 5 {
		b, _ := m.Broker(int32(i%2 + 1))
		records, start, n, err := AllocateProducerIDs(m, b.ID, b.Epoch)
		if err != nil || start <= seen {
			t.Fatalf("block %d from %d, %v", i, start, err)
		}
		seen = start + int64(n) - 1
		apply(m, records)
	}
	if _, _, _, err := AllocateProducerIDs(m, 1, 77); !errors.Is(err, kerr.StaleBrokerEpoch) {
		t.Errorf("an old process: %v", err)
	}
}

// TestSnapshotIsTheImage: what a snapshot brings back is what was there.
func TestSnapshotIsTheImage(t *testing.T) {
	m := cluster(t, 3, 2)
	for i := range 5 {
		records, _, err := CreateTopic(m, NewTopic{Name: fmt.Sprint("t", i), Partitions: 3, Factor: 2, Configs: map[string]*string{"retention.ms": str("9")}}, Defaults{}, NewID(), uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		apply(m, records)
	}
	topic, _ := m.Topic("t3")
	apply(m, DeleteTopic(topic))
	ids, _, _, err := AllocateProducerIDs(m, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	apply(m, ids)
	data, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	back, err := image.FromSnapshot(data)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := describe(m), describe(back); a != b {
		t.Errorf("had\n%s\ngot\n%s", a, b)
	}
	if _, ok := back.Topic("t3"); ok || back.NextProducerID != m.NextProducerID || back.LastEpoch != m.LastEpoch {
		t.Error("snapshot differs")
	}
}

func describe(m *image.Image) string {
	var b strings.Builder
	fmt.Fprintln(&b, m.ClusterID, m.Features, m.NextProducerID, m.LastEpoch)
	m.Brokers(func(br *image.Broker) { fmt.Fprintln(&b, br.ID, br.Epoch, br.Fenced, *br.Rack) })
	m.Topics("", func(t *image.Topic) bool {
		fmt.Fprintln(&b, t.Name, t.ID, m.Config(image.TopicResource, t.Name))
		for _, p := range t.Partitions {
			fmt.Fprintf(&b, "%+v\n", *p)
		}
		return true
	})
	return b.String()
}

// TestCopyIsIndependent: a copy changes without the original noticing.
func TestCopyIsIndependent(t *testing.T) {
	m := cluster(t, 1, 1)
	before := describe(m)
	c := m.Copy()
	records, _, err := CreateTopic(c, NewTopic{Name: "t", Partitions: 1, Factor: 1}, Defaults{}, NewID(), 1)
	if err != nil {
		t.Fatal(err)
	}
	apply(c, records)
	if describe(m) != before || describe(c) == before {
		t.Error("copy and original are not independent")
	}
}

func TestCheckFeatures(t *testing.T) {
	m := image.Empty()
	if err := CheckFeatures(m, 1, nil); err != nil {
		t.Errorf("before there is a cluster: %v", err)
	}
	apply(m, FirstRecords(Features, "c", 1))
	level := m.Features["metadata.version"]
	for _, tc := range []struct {
		supported map[string][2]int16
		ok        bool
	}{
		{Features, true},
		{map[string][2]int16{"metadata.version": {1, level + 5}, TransactionVersion: {0, 2}, "newer": {0, 1}}, true},
		{map[string][2]int16{"metadata.version": {1, level + 5}, "newer": {0, 1}}, false},
		{map[string][2]int16{"metadata.version": {1, level - 1}}, false},
		{map[string][2]int16{"metadata.version": {level + 1, level + 2}}, false},
		{nil, false},
	} {
		if err := CheckFeatures(m, 1, tc.supported); (err == nil) != tc.ok || err != nil && !errors.Is(err, kerr.UnsupportedVersion) {
			t.Errorf("%v: %v", tc.supported, err)
		}
	}
}

// TestOfAnotherEpoch: what a broker says of itself counts in the life in which it is registered, not in another.
func TestOfAnotherEpoch(t *testing.T) {
	m := withDirs(t, 3, 2)
	topic := create(t, m, "t", 1, 3)
	stale := epochOf(m, 1) + 100
	for name, decide := range map[string]func() ([]*image.Record, error){
		"unfenced":       func() ([]*image.Record, error) { return Unfence(m, testPolicy, 1, stale) },
		"fenced":         func() ([]*image.Record, error) { return Fence(m, testPolicy, 1, stale) },
		"shut down":      func() ([]*image.Record, error) { return BeginShutdown(m, testPolicy, 1, stale) },
		"without disk":   func() ([]*image.Record, error) { return SetLogDirs(m, testPolicy, 1, stale, nil) },
		"without room":   func() ([]*image.Record, error) { return SetRoom(m, testPolicy, 1, stale, nil, nil) },
		"with producers": func() ([]*image.Record, error) { r, _, _, err := AllocateProducerIDs(m, 1, stale); return r, err },
		"assigned": func() ([]*image.Record, error) {
			return AssignDirectories(m, testPolicy, 1, stale, []Assignment{{topic.ID, 0, dirID(1, 1)}})
		},
	} {
		if records, err := decide(); !errors.Is(err, kerr.StaleBrokerEpoch) || len(records) > 0 {
			t.Errorf("%s: %d records, %v", name, len(records), err)
		}
	}
	records, err := Fence(m, testPolicy, 1, epochOf(m, 1))
	if err != nil || len(records) == 0 {
		t.Fatalf("fenced: %d records, %v", len(records), err)
	}
	apply(m, records)
	if again, err := Fence(m, testPolicy, 1, epochOf(m, 1)); err != nil || len(again) > 0 {
		t.Errorf("fenced twice: %d records, %v", len(again), err)
	}
	if again, err := BeginShutdown(m, testPolicy, 1, epochOf(m, 1)); err != nil || len(again) > 0 {
		t.Errorf("a fenced broker shuts down: %d records, %v", len(again), err)
	}
	if p, _ := m.Topic("t"); slices.Contains(p.Partitions[0].ISR, 1) || p.Partitions[0].Leader == 1 {
		t.Errorf("a fenced broker is in %+v", p.Partitions[0])
	}
}

// TestOfAnotherTerm: a change that was worked out in one term is nothing in another, whose leader knew other metadata.
func TestOfAnotherTerm(t *testing.T) {
	c := New(zerolog.Nop())
	defer c.Stop()
	data, err := proto.Marshal(&image.Batch{Term: 3, Records: FirstRecords(Features, "c", 1)})
	if err != nil {
		t.Fatal(err)
	}
	c.Apply(1, 4, data)
	if got := c.applied.ClusterID; got != "" {
		t.Errorf("a batch of term 3 in an entry of term 4 makes the cluster %q", got)
	}
	c.Apply(2, 3, data)
	if got := c.applied.ClusterID; got != "c" {
		t.Errorf("a batch in an entry of its own term makes the cluster %q", got)
	}
}

// TestDroppedReplicaHearsOfIt: a move that takes a replica away begins a leader epoch, in which that replica's fetches are refused (KIP-903).
func TestDroppedReplicaHearsOfIt(t *testing.T) {
	s := newScene(t)
	before := s.topic().Partitions[0]
	s.reassign(1, 2)
	p := s.topic().Partitions[0]
	if !slices.Equal(p.Replicas, []int32{1, 2}) || p.Leader != before.Leader || p.LeaderEpoch != before.LeaderEpoch+1 {
		t.Errorf("%v", s)
	}
}
