// Package batches sends kraft and Apache Kafka batches that nobody means to send, and compares what becomes of them.
package batches

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
	"kraft/wire/record"
)

func TestMain(m *testing.M) { harness.Main(m) }

// draft is a batch of magic 2 before it is encoded: its header says what it is told to say.
type draft struct {
	baseOffset        int64
	leaderEpoch       int32
	magic             int8
	attributes        int16
	lastDelta         int32
	baseTime, maxTime int64
	producer          int64
	producerEpoch     int16
	sequence          int32
	count             int32
	records           []byte
	codec             record.Codec
	payload           []byte // instead of the compressed records, where it is not nil
	lengthMore        int32  // than there are bytes
	checksumWrong     bool
}

// newDraft is a batch of n records that nothing is wrong with.
func newDraft(codec record.Codec, now int64, n int, entry func(i int) []byte) *draft {
	d := &draft{magic: 2, attributes: int16(codec), lastDelta: int32(n - 1), baseTime: now, maxTime: now, producer: -1, producerEpoch: -1, sequence: -1, count: int32(n), codec: codec, leaderEpoch: -1}
	for i := range n {
		d.records = append(d.records, entry(i)...)
	}
	return d
}

// entry encodes a record.
func entry(offset int, timeDelta int64, key, value []byte, headers int) []byte {
	field := func(out, b []byte) []byte {
		if b == nil {
			return binary.AppendVarint(out, -1)
		}
		return append(binary.AppendVarint(out, int64(len(b))), b...)
	}
	body := binary.AppendVarint(binary.AppendVarint([]byte{0}, timeDelta), int64(offset))
	body = field(field(body, key), value)
	body = binary.AppendVarint(body, int64(headers))
	for range headers {
		body = field(field(body, []byte("h")), []byte("v"))
	}
	return append(binary.AppendVarint(nil, int64(len(body))), body...)
}

func (d *draft) encode(t *testing.T) []byte {
	payload := d.payload
	if payload == nil {
		var err error
		if payload, err = record.Compress(nil, d.codec, record.DefaultLevel, d.records); err != nil {
			t.Fatal(err)
		}
	}
	var b []byte
	b = binary.BigEndian.AppendUint16(b, uint16(d.attributes))
	b = binary.BigEndian.AppendUint32(b, uint32(d.lastDelta))
	b = binary.BigEndian.AppendUint64(b, uint64(d.baseTime))
	b = binary.BigEndian.AppendUint64(b, uint64(d.maxTime))
	b = binary.BigEndian.AppendUint64(b, uint64(d.producer))
	b = binary.BigEndian.AppendUint16(b, uint16(d.producerEpoch))
	b = binary.BigEndian.AppendUint32(b, uint32(d.sequence))
	b = binary.BigEndian.AppendUint32(b, uint32(d.count))
	b = append(b, payload...)
	sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	if d.checksumWrong {
		sum++
	}
	head := binary.BigEndian.AppendUint64(nil, uint64(d.baseOffset))
	head = binary.BigEndian.AppendUint32(head, uint32(int32(len(b)+9)+d.lengthMore))
	head = binary.BigEndian.AppendUint32(head, uint32(d.leaderEpoch))
	head = append(head, byte(d.magic))
	head = binary.BigEndian.AppendUint32(head, sum)
	return append(head, b...)
}

const day = 24 * 3600 * 1000

// changes are what may be wrong with a batch.
var changes = map[string]func(d *draft, rng *rand.Rand){
	"nothing":                         func(*draft, *rand.Rand) {},
	"payload is garbage":              func(d *draft, rng *rand.Rand) { d.payload = garbage(rng, 200) },
	"payload is empty":                func(d *draft, _ *rand.Rand) { d.payload = []byte{} },
	"count one more":                  func(d *draft, _ *rand.Rand) { d.count++ },
	"count one less":                  func(d *draft, _ *rand.Rand) { d.count-- },
	"count 0":                         func(d *draft, _ *rand.Rand) { d.count = 0 },
	"count negative":                  func(d *draft, _ *rand.Rand) { d.count = -1 },
	"last delta one more":             func(d *draft, _ *rand.Rand) { d.lastDelta++ },
	"last delta one less":             func(d *draft, _ *rand.Rand) { d.lastDelta-- },
	"count and last delta one more":   func(d *draft, _ *rand.Rand) { d.count++; d.lastDelta++ },
	"count and last delta one less":   func(d *draft, _ *rand.Rand) { d.count--; d.lastDelta-- },
	"max time -1":                     func(d *draft, _ *rand.Rand) { d.maxTime = -1 },
	"max time -1, unknown attributes": func(d *draft, _ *rand.Rand) { d.maxTime, d.attributes = -1, d.attributes|0x4000 },
	"max time -1, log append time":    func(d *draft, _ *rand.Rand) { d.maxTime, d.attributes = -1, d.attributes|0x08 },
	"control, log append time":        func(d *draft, _ *rand.Rand) { d.attributes |= 0x28 },
	"no time, log append time":        func(d *draft, _ *rand.Rand) { d.baseTime, d.maxTime, d.attributes = -1, -1, d.attributes|0x08 },
	"no key, log append time": func(d *draft, _ *rand.Rand) {
		d.records, d.attributes = again(d, entry(int(d.count)-1, 0, nil, []byte("v"), 0)), d.attributes|0x08
	},
	"max time 0":                 func(d *draft, _ *rand.Rand) { d.maxTime = 0 },
	"max time three days ahead":  func(d *draft, _ *rand.Rand) { d.maxTime += 3 * day },
	"base time three days ahead": func(d *draft, _ *rand.Rand) { d.baseTime += 3 * day },
	"base time -1":               func(d *draft, _ *rand.Rand) { d.baseTime = -1 },
	"base time 0":                func(d *draft, _ *rand.Rand) { d.baseTime, d.maxTime = 0, 0 },
	"a record three days ahead": func(d *draft, _ *rand.Rand) {
		d.records = again(d, entry(int(d.count)-1, 3*day, []byte("k"), []byte("v"), 0))
	},
	"a record without a key":   func(d *draft, _ *rand.Rand) { d.records = again(d, entry(int(d.count)-1, 0, nil, []byte("v"), 0)) },
	"a record without a value": func(d *draft, _ *rand.Rand) { d.records = again(d, entry(int(d.count)-1, 0, []byte("k"), nil, 2)) },
	"a record with another offset": func(d *draft, _ *rand.Rand) {
		d.records = again(d, entry(int(d.count), 0, []byte("k"), []byte("v"), 0))
	},
	"a record with a negative offset": func(d *draft, _ *rand.Rand) { d.records = again(d, entry(-1, 0, []byte("k"), []byte("v"), 0)) },
	"a record cut short": func(d *draft, _ *rand.Rand) {
		r := entry(int(d.count)-1, 0, []byte("k"), []byte("v"), 1)
		d.records = again(d, r[:len(r)-2])
	},
	"a record longer than its fields": func(d *draft, _ *rand.Rand) {
		r := entry(int(d.count)-1, 0, []byte("k"), []byte("v"), 0)
		r[0] += 2 // one more, as a varint
		d.records = again(d, append(r, 0))
	},
	"headers that are not there": func(d *draft, _ *rand.Rand) {
		r := entry(int(d.count)-1, 0, []byte("k"), []byte("v"), 0)
		r[len(r)-1] = 8 // four
		d.records = again(d, r)
	},
	"a record of 2,000 bytes that are alike": func(d *draft, _ *rand.Rand) {
		d.records = again(d, entry(int(d.count)-1, 0, []byte("k"), make([]byte, 2000), 0))
	},
	"bytes behind the records":  func(d *draft, _ *rand.Rand) { d.records = append(d.records, 1, 2, 3) },
	"codec 5":                   func(d *draft, _ *rand.Rand) { d.attributes = d.attributes&^7 | 5 },
	"codec 7":                   func(d *draft, _ *rand.Rand) { d.attributes |= 7 },
	"another codec":             func(d *draft, _ *rand.Rand) { d.attributes = d.attributes&^7 | (d.attributes&7+1)%5 },
	"control":                   func(d *draft, _ *rand.Rand) { d.attributes |= 0x20 },
	"transactional":             func(d *draft, _ *rand.Rand) { d.attributes |= 0x10 },
	"log append time":           func(d *draft, _ *rand.Rand) { d.attributes |= 0x08 },
	"delete horizon":            func(d *draft, _ *rand.Rand) { d.attributes |= 0x40 },
	"unknown attributes":        func(d *draft, _ *rand.Rand) { d.attributes |= 0x4000 },
	"base offset 7":             func(d *draft, _ *rand.Rand) { d.baseOffset = 7 },
	"base offset negative":      func(d *draft, _ *rand.Rand) { d.baseOffset = -7 },
	"leader epoch 9":            func(d *draft, _ *rand.Rand) { d.leaderEpoch = 9 },
	"magic 3":                   func(d *draft, _ *rand.Rand) { d.magic = 3 },
	"magic -1":                  func(d *draft, _ *rand.Rand) { d.magic = -1 },
	"length one more":           func(d *draft, _ *rand.Rand) { d.lengthMore = 1 },
	"length one less":           func(d *draft, _ *rand.Rand) { d.lengthMore = -1 },
	"checksum wrong":            func(d *draft, _ *rand.Rand) { d.checksumWrong = true },
	"producer without sequence": func(d *draft, _ *rand.Rand) { d.producer, d.producerEpoch = 5000, 0 },
	"producer without epoch":    func(d *draft, _ *rand.Rand) { d.producer, d.sequence = 5000, 0 },
	"sequence without producer": func(d *draft, _ *rand.Rand) { d.sequence = 0 },
}

func garbage(rng *rand.Rand, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(rng.Uint32())
	}
	return out
}

// again makes the records of a draft anew, with another last one.
func again(d *draft, last []byte) (out []byte) {
	for i := range int(d.count) - 1 {
		out = append(out, entry(i, 0, []byte("k"), []byte("value"), i%3)...)
	}
	return append(out, last...)
}

// topics are those that batches are sent to, by their settings. The last two have a codec of their own: a batch that is small as it is sent
// may be larger than max.message.bytes as the broker stores it.
var topics = map[string]map[string]string{
	"plain":        nil,
	"compacted":    {"cleanup.policy": "compact"},
	"uncompressed": {"compression.type": "uncompressed", "max.message.bytes": "1000"},
	"zstd":         {"compression.type": "zstd", "max.message.bytes": "1000", "message.timestamp.type": "LogAppendTime"},
}

type server struct {
	name    string
	address string
	cl      *kgo.Client
	ids     map[string][16]byte
}

// TestBatches: what is said of each batch in each codec, and what is read where it is taken, is the same on both servers, for topics that
// are compacted, that are not, and that have a codec of their own; and the whole log can be read afterwards.
func TestBatches(t *testing.T) {
	kafka, kraft := harness.NewKafka(t), harness.NewKraft(t)
	now := time.Now().UnixMilli()
	outcomes := map[string]map[string]string{}
	for name, address := range map[string]string{"kafka": kafka.Addr, "kraft": kraft.Addr} {
		cl, err := kgo.NewClient(kgo.SeedBrokers(address))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		s := &server{name, address, cl, map[string][16]byte{}}
		outcomes[name] = map[string]string{}
		for topic, configs := range topics {
			s.create(t, topic, configs)
			for codec := range record.Codec(5) {
				for what, change := range changes {
					for _, n := range []int{1, 4} {
						rng := rand.New(rand.NewPCG(uint64(codec), uint64(n)))
						d := newDraft(codec, now, n, func(i int) []byte { return entry(i, 0, []byte("k"), []byte("value"), i%3) })
						change(d, rng)
						outcomes[name][fmt.Sprintf("%s, %v, %d records: %s", topic, codec, n, what)] = s.put(t, topic, d.encode(t))
					}
				}
			}
			s.readAll(t, topic)
		}
	}
	harness.Compare(t, "testdata/batches.txt", outcomes, true)
	if err := kraft.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	for topic := range topics {
		dumped(t, filepath.Join(kraft.Data, topic+"-0"))
	}
}

// dumped has Apache Kafka's dump-log read all records of a partition that kraft wrote.
func dumped(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no segments in %s: %v", dir, err)
	}
	out := harness.RunTool(t, harness.NeedKafka(t), "", "org.apache.kafka.tools.DumpLogSegments", "--files", strings.Join(files, ","), "--deep-iteration", "--print-data-log")
	batches, records := strings.Count(out, "baseOffset: "), strings.Count(out, "| offset: ")
	if batches < 100 || records < batches || strings.Contains(out, "isvalid: false") || strings.Contains(out, "Found ") || strings.Contains(out, "Could not") {
		t.Errorf("Apache Kafka's dump-log of %s: %d batches, %d records\n%.3000s", dir, batches, records, out)
	}
}

func (s *server) create(t *testing.T, topic string, configs map[string]string) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, 1, 1
	for name, value := range configs {
		rt.Configs = append(rt.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: name, Value: &value})
	}
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), s.cl)
	if err != nil {
		t.Fatal(err)
	}
	s.ids[topic] = resp.Topics[0].TopicID
	if err := harness.Eventually(10*time.Second, func() error {
		meta := kmsg.NewPtrMetadataRequest()
		mt := kmsg.NewMetadataRequestTopic()
		mt.Topic = &topic
		meta.Topics = append(meta.Topics, mt)
		resp, err := meta.RequestWith(t.Context(), s.cl)
		if err == nil && (len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 || resp.Topics[0].Partitions[0].Leader < 0) {
			err = errors.New("no leader yet")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// put produces a batch, and says what becomes of it.
func (s *server) put(t *testing.T, topic string, b []byte) string {
	t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 1000
	rt, rp := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	rt.Topic, rt.TopicID, rp.Records = topic, s.ids[topic], b
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var p *kmsg.ProduceResponseTopicPartition // nil where there is no answer
	if err := harness.Eventually(5*time.Second, func() error {
		resp, err := s.cl.Broker(1).Request(ctx, req)
		if err != nil {
			p = nil
			return nil
		}
		p = &resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		if p.ErrorCode == kerr.NotLeaderForPartition.Code { // the broker has not yet seen that it leads
			return kerr.NotLeaderForPartition
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if p == nil {
		return "the connection ends"
	}
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		indexes := ""
		for _, e := range p.ErrorRecords {
			indexes += fmt.Sprintf(" %d", e.RelativeOffset)
		}
		return err.(*kerr.Error).Message + indexes
	}
	return s.get(t, topic, p.BaseOffset, b)
}

// get says how a batch is stored.
func (s *server) get(t *testing.T, topic string, offset int64, sent []byte) string {
	t.Helper()
	stored := s.fetch(t, topic, offset)
	b, _, err := record.Next(stored)
	if err != nil {
		return "stored, but " + err.Error()
	}
	records, err := b.Records(1 << 20)
	if err != nil {
		return "stored, but " + err.Error()
	}
	newest := fmt.Sprintf("newest %d after the base", b.MaxTimestamp()-b.BaseTimestamp())
	if b.HasLogAppendTime() {
		newest = "time the broker's"
	}
	text := fmt.Sprintf("stored %d records, codec %v, attributes %x, %s", len(records), b.Codec(), b.Attributes()&^7, newest)
	if b.BaseOffset() != offset {
		text += ", at another offset"
	}
	return text
}

func (s *server) fetch(t *testing.T, topic string, offset int64) []byte {
	t.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 500, 1, 1<<20
	rt, rp := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	rt.Topic, rt.TopicID, rp.FetchOffset, rp.PartitionMaxBytes = topic, s.ids[topic], offset, 1<<20
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := s.cl.Broker(1).Request(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.(*kmsg.FetchResponse).Topics[0].Partitions[0].RecordBatches
}

// readAll consumes a topic to its end.
func (s *server) readAll(t *testing.T, topic string) {
	t.Helper()
	list := kmsg.NewPtrListOffsetsRequest()
	list.ReplicaID = -1
	lt, lp := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
	lt.Topic, lp.Timestamp = topic, -1
	lt.Partitions = append(lt.Partitions, lp)
	list.Topics = append(list.Topics, lt)
	resp, err := s.cl.Broker(1).Request(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	end := resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0].Offset
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.address), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for next := int64(0); next < end; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Errorf("%s: %s cannot be read beyond offset %d of %d: %v", s.name, topic, next, end, err)
			return
		}
		fetches.EachRecord(func(r *kgo.Record) { next = r.Offset + 1 })
	}
}
