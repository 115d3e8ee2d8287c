// Package settings gives kraft and Apache Kafka every setting with values at, between and beyond its ends, and compares what becomes of
// it.
package settings

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
	"kraft/raftmeta/configs"
	"kraft/wire/record"
)

func TestMain(m *testing.M) { harness.Main(m) }

// values are what a setting is tried with: what it takes, both of its ends and one beyond each, and what is no value at all.
func values(d *configs.Definition) []string {
	out := []string{"", "foo", "0", "1", "-1", "-2", " 1 ", "1.0", "1e3", "+1", "0x10", "2147483647", "2147483648", "9223372036854775807", "9223372036854775808", "-9223372036854775808"}
	if d.Default != nil {
		out = append(out, *d.Default)
	}
	for _, a := range strings.FieldsFunc(d.Takes(), func(r rune) bool { return strings.ContainsRune(" ,", r) }) {
		if n, err := strconv.ParseInt(a, 10, 64); err == nil {
			out = append(out, a, strconv.FormatInt(n-1, 10), strconv.FormatInt(n+1, 10))
		}
	}
	switch d.Type {
	case configs.Boolean:
		out = append(out, "true", "false", "TRUE", "False", "yes", " true")
	case configs.Double:
		out = append(out, "0.5", "1.5", "-0.1", "0.0", "NaN", "Infinity", "1e-300", ".5", "0.50d")
	case configs.String, configs.List:
		out = append(out, "*", "a,b", "a,,b", "0:1", "0:1,1:2", "0:1,0:1", "0:-1", "-1:0", "0:1:2", "all")
		_, allowed, _ := strings.Cut(d.Takes(), "of ")
		names := configs.SplitList(allowed)
		for _, n := range names {
			out = append(out, n, strings.ToUpper(n), strings.ToLower(n), n+","+names[0], " "+n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// all says that every trial counts, as it does in CI; otherwise some do, others each day.
func all() bool { return os.Getenv("KRAFT_E2E") == "all" }

// sample takes every sixth of some trials unless all count.
func sample[T any](trials []T) (out []T) {
	for i, c := range trials {
		if all() || i%6 == time.Now().YearDay()%6 {
			out = append(out, c)
		}
	}
	return out
}

// pairs are settings that are looked at together.
var pairs = []map[string]string{
	{"segment.ms": "9223372036854775807", "segment.jitter.ms": "9223372036854775807"},
	{"segment.ms": "1", "segment.jitter.ms": "1"},
	{"min.compaction.lag.ms": "9223372036854775807", "max.compaction.lag.ms": "9223372036854775807"},
	{"min.compaction.lag.ms": "100", "max.compaction.lag.ms": "99"},
	{"min.compaction.lag.ms": "9223372036854775807"},
	{"max.message.bytes": "0", "compression.type": "gzip"},
	{"segment.bytes": "1048576", "max.message.bytes": "2147483647"},
	{"retention.ms": "1", "local.retention.ms": "2"},
	{"retention.bytes": "1", "local.retention.bytes": "2"},
	{"cleanup.policy": "compact", "retention.ms": "1", "segment.ms": "1"},
	{"cleanup.policy": "compact,delete", "min.cleanable.dirty.ratio": "0", "segment.ms": "1"},
	{"cleanup.policy": "compact", "remote.storage.enable": "true"},
	{"message.timestamp.type": "LogAppendTime", "message.timestamp.before.max.ms": "0", "message.timestamp.after.max.ms": "0"},
	{"compression.type": "gzip", "compression.gzip.level": "-1"},
	{"compression.type": "zstd", "compression.zstd.level": "-131072"},
	{"compression.type": "lz4", "compression.lz4.level": "17"},
	{"compression.type": "snappy", "max.decompressed.message.bytes": "1"},
	{"no.such.setting": "1"},
}

// server is one of the two, and what it is called.
type server struct {
	name string
	cl   *kgo.Client
	made int // topics: none has the name of another, which Kafka may still be removing
}

func (s *server) newName() string {
	s.made++
	return fmt.Sprintf("topic-%d", s.made)
}

func (s *server) ask(t *testing.T, req kmsg.Request) kmsg.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	resp, err := s.cl.Request(ctx, req)
	if err != nil {
		t.Fatalf("%s: %s: %v", s.name, kmsg.NameForKey(req.Key()), err)
	}
	return resp
}

// both starts the two with the same settings.
func both(t *testing.T, overrides ...string) []*server {
	t.Helper()
	var args []string
	for _, o := range overrides {
		args = append(args, "--override", o)
	}
	kafka, kraft := harness.NewKafka(t, overrides...), harness.NewKraft(t, args...)
	var out []*server
	for name, address := range map[string]string{"kafka": kafka.Addr, "kraft": kraft.Addr} {
		cl, err := kgo.NewClient(kgo.SeedBrokers(address))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		out = append(out, &server{name: name, cl: cl})
	}
	slices.SortFunc(out, func(a, b *server) int { return strings.Compare(a.name, b.name) })
	return out
}

func codeName(code int16) string {
	if err := kerr.ErrorForCode(code); err != nil {
		return err.(*kerr.Error).Message
	}
	return "ok"
}

// create makes topics, each with settings of its own, and returns what is said of each.
func (s *server) create(t *testing.T, topics map[string]map[string]string) map[string]string {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 30_000
	for name, settings := range topics {
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, 1, 1
		for k, v := range settings {
			topic.Configs = append(topic.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: k, Value: &v})
		}
		req.Topics = append(req.Topics, topic)
	}
	out := map[string]string{}
	for _, topic := range s.ask(t, req).(*kmsg.CreateTopicsResponse).Topics {
		out[topic.Topic] = codeName(topic.ErrorCode)
	}
	return out
}

func (s *server) remove(t *testing.T, topics []string) {
	t.Helper()
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = 30_000
	for _, name := range topics {
		topic := kmsg.NewDeleteTopicsRequestTopic()
		topic.Topic = &name
		req.Topics, req.TopicNames = append(req.Topics, topic), append(req.TopicNames, name)
	}
	s.ask(t, req)
}

// describe is what is said of settings of resources: by resource and name.
func (s *server) describe(t *testing.T, kind kmsg.ConfigResourceType, names map[string][]string) map[string]map[string]string {
	t.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	for name, keys := range names {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName, r.ConfigNames = kind, name, keys
		req.Resources = append(req.Resources, r)
	}
	out := map[string]map[string]string{}
	for _, r := range s.ask(t, req).(*kmsg.DescribeConfigsResponse).Resources {
		out[r.ResourceName] = map[string]string{}
		for _, c := range r.Configs {
			value := "null"
			if c.Value != nil {
				value = strconv.Quote(*c.Value)
			}
			out[r.ResourceName][c.Name] = fmt.Sprintf("%s from %d", value, c.Source)
		}
	}
	return out
}

// put produces a batch by each codec, and says what became of each: an error, or the codec that it is stored with and whether it has the
// server's time.
func (s *server) put(t *testing.T, topic string) string {
	t.Helper()
	var out []string
	for codec := range record.Codec(5) {
		w := record.NewBuilder(codec)
		for range 3 {
			w.Add(&record.Record{Timestamp: time.Now().Add(-time.Minute).UnixMilli(), Key: []byte("key"), Value: make([]byte, 100)})
		}
		b, err := w.Build()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s.putBatch(t, topic, b))
	}
	return strings.Join(out, " ")
}

func (s *server) putBatch(t *testing.T, topic string, b record.Batch) string {
	t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 1000
	rt, rp := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	rt.Topic, rp.Records = topic, b
	id, err := s.topicID(topic)
	if err != nil {
		t.Fatal(err)
	}
	rt.TopicID = id
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	var p kmsg.ProduceResponseTopicPartition
	_ = harness.Eventually(20*time.Second, func() error { // Kafka says that a topic has a leader before it has
		p = s.ask(t, req).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		if p.ErrorCode == kerr.NotLeaderForPartition.Code {
			return kerr.NotLeaderForPartition
		}
		return nil
	})
	if p.ErrorCode != 0 {
		return codeName(p.ErrorCode)
	}
	stored, err := s.get(topic, id, p.BaseOffset)
	if err != nil {
		return err.Error()
	}
	return stored
}

func (s *server) topicID(topic string) (id [16]byte, err error) {
	err = harness.Eventually(10*time.Second, func() error {
		req := kmsg.NewPtrMetadataRequest()
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = &topic
		req.Topics = append(req.Topics, rt)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		resp, err := req.RequestWith(ctx, s.cl)
		if err != nil {
			return err
		}
		if len(resp.Topics) != 1 || resp.Topics[0].ErrorCode != 0 || len(resp.Topics[0].Partitions) == 0 || resp.Topics[0].Partitions[0].Leader < 0 {
			return errors.New("is not there yet")
		}
		id = resp.Topics[0].TopicID
		return nil
	})
	return id, err
}

// get reads a batch at an offset, and says how it is stored.
func (s *server) get(topic string, id [16]byte, offset int64) (string, error) {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 200, 1, 1<<20
	rt, rp := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	rt.Topic, rt.TopicID, rp.FetchOffset, rp.PartitionMaxBytes = topic, id, offset, 1<<20
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	resp, err := req.RequestWith(ctx, s.cl)
	if err != nil {
		return "", err
	}
	p := resp.Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		return "read: " + codeName(p.ErrorCode), nil
	}
	if len(p.RecordBatches) == 0 {
		return "gone", nil // as retention of a millisecond has it
	}
	b, _, err := record.Next(p.RecordBatches)
	if err != nil {
		return "", err
	}
	records, err := b.Records(1 << 20)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("%d %v", len(records), b.Codec())
	if b.HasLogAppendTime() {
		text += " at the broker's time"
	}
	return text, nil
}

// alter sets values of one resource, or takes them away where they are nil.
func (s *server) alter(t *testing.T, kind kmsg.ConfigResourceType, name string, settings map[string]*string) string {
	t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kind, name
	for k, v := range settings {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Value = k, v
		if v == nil {
			c.Op = kmsg.IncrementalAlterConfigOpDelete
		}
		r.Configs = append(r.Configs, c)
	}
	req.Resources = append(req.Resources, r)
	return codeName(s.ask(t, req).(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode)
}

// settingsText is one line for settings.
func settingsText(settings map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		out = append(out, fmt.Sprintf("%s=%q", k, settings[k]))
	}
	return strings.Join(out, " ")
}

// breaksKafka are values of segment.index.bytes with which Apache Kafka 4.4.0 makes a topic that it then cannot open, nor others that are
// made at the same time.
var breaksKafka = []string{"4", "5", "2147483647"}

// TestTopicsThatKafkaCannotOpen are what breaksKafka is about.
func TestTopicsThatKafkaCannotOpen(t *testing.T) {
	k := harness.NewKraft(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	s := &server{name: "kraft", cl: cl}
	for _, v := range breaksKafka {
		name := s.newName()
		if code := s.create(t, map[string]map[string]string{name: {"segment.index.bytes": v}})[name]; code != "ok" {
			t.Errorf("segment.index.bytes=%s: %s", v, code)
		}
		if got := s.put(t, name); got != everyCodec {
			t.Errorf("segment.index.bytes=%s: put: %s", v, got)
		}
	}
}

// everyCodec is what put says of a topic without settings.
const everyCodec = "3 none 3 gzip 3 snappy 3 lz4 3 zstd"

// TestTopicSettings: topics are made with each value of each setting, and have it set and taken away; what is said, described, stored and
// read is the same on both, but for what testdata/topics.txt lists.
func TestTopicSettings(t *testing.T) {
	servers := both(t, "log.segment.delete.delay.ms=0", "log.index.size.max.bytes=65536") // Kafka maps what it has not removed yet
	var trials []map[string]string
	for _, name := range slices.Sorted(maps.Keys(configs.Topic)) {
		for _, v := range values(configs.Topic[name]) {
			if name != "segment.index.bytes" || !slices.Contains(breaksKafka, v) {
				trials = append(trials, map[string]string{name: v})
			}
		}
	}
	trials = append(sample(trials), pairs...)
	outcomes := map[string]map[string]string{} // by server and settings
	for _, s := range servers {
		outcomes[s.name] = map[string]string{}
		for chunk := range slices.Chunk(trials, 50) {
			s.tryTopics(t, chunk, outcomes[s.name])
		}
		t.Logf("%s: %d trials", s.name, len(trials))
	}
	harness.Compare(t, "testdata/topics.txt", outcomes, all())
}

func (s *server) tryTopics(t *testing.T, trials []map[string]string, outcomes map[string]string) {
	t.Helper()
	topics, names := map[string]map[string]string{}, map[string][]string{}
	for _, settings := range trials {
		name := s.newName()
		topics[name], names[name] = settings, slices.Sorted(maps.Keys(settings))
	}
	made := s.create(t, topics)
	for name := range topics {
		if made[name] != "ok" {
			delete(names, name)
		} else if _, err := s.topicID(name); err != nil {
			t.Fatalf("%s: %s with %s: %v", s.name, name, settingsText(topics[name]), err)
		}
	}
	described := s.describe(t, kmsg.ConfigResourceTypeTopic, names)
	put := map[string]string{} // by settings
	for name, settings := range topics {
		outcome, text := "made: "+made[name], settingsText(settings)
		if made[name] == "ok" {
			for _, k := range names[name] {
				outcome += ", described: " + described[name][k]
			}
			put[text] = s.put(t, name)
			outcome += ", put: " + put[text]
		}
		outcomes[text] = outcome
	}
	// The same by altering a topic that is there.
	all := slices.Collect(maps.Keys(topics))
	s.remove(t, all)
	plain, changed := map[string]map[string]string{}, make([]string, len(trials))
	for i := range trials {
		changed[i] = s.newName()
		plain[changed[i]] = nil
	}
	for name, code := range s.create(t, plain) {
		if code != "ok" {
			t.Fatalf("%s: %s: %s", s.name, name, code)
		}
		if _, err := s.topicID(name); err != nil {
			t.Fatal(err)
		}
	}
	for i, settings := range trials {
		name := changed[i]
		set, unset := map[string]*string{}, map[string]*string{}
		for k, v := range settings {
			set[k], unset[k] = &v, nil
		}
		text := settingsText(settings)
		code := s.alter(t, kmsg.ConfigResourceTypeTopic, name, set)
		outcomes[text] += "; set: " + code
		if s.name == "kafka" { // where what is set takes effect some time after the answer
			continue
		}
		if got := s.put(t, name); code == "ok" && put[text] != got && !strings.Contains(put[text]+got, "gone") {
			t.Errorf("%s set: put: %s, and on a topic made so %s", text, got, put[text])
		}
		if code := s.alter(t, kmsg.ConfigResourceTypeTopic, name, unset); code != "ok" && text != `no.such.setting="1"` {
			t.Errorf("%s unset: %s", text, code)
		}
		if got := s.put(t, name); got != everyCodec {
			t.Errorf("%s unset: put: %s", text, got)
		}
	}
	s.remove(t, slices.Collect(maps.Keys(plain)))
}
