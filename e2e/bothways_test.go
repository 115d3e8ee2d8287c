package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
	"kraft/wire/record"
)

// written is what is in a broker's topics: for each the records that the two kinds of consumers see.
type written map[string][2][]string

var isolations = [2]kgo.IsolationLevel{kgo.ReadUncommitted(), kgo.ReadCommitted()}

func kgoClient(t testing.TB, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// readTopic reads partition 0 of a topic to its end, a line for each record.
func readTopic(t testing.TB, addr, topic string, isolation kgo.IsolationLevel) []string {
	t.Helper()
	ctx := timeout(t, time.Minute)
	admin := kadm.NewClient(kgoClient(t, addr))
	list := admin.ListEndOffsets
	ends, err := list(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, 0)
	// A last record shows the end, whatever control records and compaction left before it.
	mark := kgoClient(t, addr, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableIdempotentWrite())
	if err := mark.ProduceSync(ctx, &kgo.Record{Topic: topic, Key: []byte("end"), Value: []byte("end")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	cl := kgoClient(t, addr, kgo.FetchIsolationLevel(isolation),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	var lines []string
	for {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%s after %d records of %d: %v", topic, len(lines), end.Offset, err)
		}
		done := false
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset >= end.Offset {
				done = true
				return
			}
			if string(r.Key) != "end" {
				lines = append(lines, fmt.Sprintf("%d %d %s=%s %v", r.Offset, r.Timestamp.UnixMilli(), r.Key, r.Value, r.Headers))
			}
		})
		if done {
			return lines
		}
	}
}

func readAll(t testing.TB, addr string, topics []string) written {
	t.Helper()
	out := written{}
	for _, topic := range topics {
		var both [2][]string
		for i, level := range isolations {
			both[i] = readTopic(t, addr, topic, level)
		}
		out[topic] = both
	}
	return out
}

func (w written) compare(t *testing.T, got written) {
	t.Helper()
	for topic, both := range w {
		for i, want := range both {
			have := got[topic][i]
			if len(have) != len(want) {
				t.Errorf("%s, isolation level %d: %d records, want %d", topic, i, len(have), len(want))
				continue
			}
			for j := range want {
				if have[j] != want[j] {
					t.Errorf("%s, isolation level %d: got %s, want %s", topic, i, have[j], want[j])
					break
				}
			}
		}
	}
}

// fill writes records of all codecs, with headers, by idempotent producers. Their time is ahead by so much:
// more than segment.ms rolls a segment without waiting for it.
func fill(t testing.TB, addr, topic string, keys int, ahead time.Duration, opts ...kgo.Opt) {
	t.Helper()
	now := time.Now().Add(ahead)
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		cl := kgoClient(t, addr, append(opts, kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(20_000))...)
		var records []*kgo.Record
		for i := range 2000 {
			r := &kgo.Record{Timestamp: now, Key: fmt.Appendf(nil, "key-%d", i%keys), Value: fmt.Appendf(nil, "value %d %s", i, strings.Repeat("x", i%300))}
			if i%7 == 0 {
				r.Headers = []kgo.RecordHeader{{Key: "i", Value: fmt.Append(nil, i)}}
			}
			if i%11 == 0 && keys < 1000 {
				r.Value = nil
			}
			records = append(records, r)
		}
		if err := cl.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// transactions writes some that commit and some that abort, side by side with plain records.
func transactions(t testing.TB, addr, topic string) {
	t.Helper()
	ctx := timeout(t, time.Minute)
	for producer := range 3 {
		cl := kgoClient(t, addr, kgo.DefaultProduceTopic(topic), kgo.TransactionalID(fmt.Sprint("tx-", producer)))
		for n := range 6 {
			if err := cl.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			for i := range 20 {
				cl.Produce(ctx, &kgo.Record{Key: fmt.Appendf(nil, "key-%d", i), Value: fmt.Appendf(nil, "producer %d transaction %d", producer, n)}, nil)
			}
			if err := cl.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(n%2 == 0)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

var bothWays = []string{"plain", "compacted", "transactional", "compacted-transactional"}

func createBothWays(t testing.TB, addr string) {
	t.Helper()
	admin := kadm.NewClient(kgoClient(t, addr))
	s := func(v string) *string { return &v }
	compact := map[string]*string{"cleanup.policy": s("compact"), "segment.bytes": s("1048576"), "min.cleanable.dirty.ratio": s("0.01"), "delete.retention.ms": s("0"), "segment.ms": s("500")}
	plain := map[string]*string{"segment.bytes": s("1048576")}
	for _, topic := range bothWays {
		configs := plain
		if strings.HasPrefix(topic, "compacted") {
			configs = compact
		}
		if _, err := admin.CreateTopic(timeout(t, 30*time.Second), 1, 1, configs, topic); err != nil {
			t.Fatal(err)
		}
	}
}

// settled waits until the cleaner has been over a partition: its checkpoint in the log directory says so.
func settled(t testing.TB, dir string, topics ...string) {
	t.Helper()
	if err := harness.Eventually(60*time.Second, func() error {
		data, err := os.ReadFile(filepath.Join(dir, "cleaner-offset-checkpoint"))
		if err != nil {
			return err
		}
		for _, topic := range topics {
			if !bytes.Contains(data, []byte(topic+" 0 ")) {
				return fmt.Errorf("%s is not compacted: %s", topic, data)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// move puts the partitions' files that one broker wrote into the place of another's, under its topic ids.
func move(t testing.TB, from, to string) {
	t.Helper()
	for _, topic := range bothWays {
		src, dst := filepath.Join(from, topic+"-0"), filepath.Join(to, topic+"-0")
		id, err := os.ReadFile(filepath.Join(dst, "partition.metadata"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(dst); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(dst, os.DirFS(src)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dst, "partition.metadata"), id, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOpensWhatKafkaWrote: segments, indexes, transactions and compacted logs that Apache Kafka 4.4.0 wrote
// are served record by record and go on, after a clean stop and after an unclean one.
func TestOpensWhatKafkaWrote(t *testing.T) {
	kafka := harness.NewKafka(t, "log.cleaner.backoff.ms=200", "log.retention.check.interval.ms=500", "log.segment.delete.delay.ms=0")
	createBothWays(t, kafka.Addr)
	fill(t, kafka.Addr, "plain", 5000, 0)
	fill(t, kafka.Addr, "compacted", 100, 0)
	fill(t, kafka.Addr, "compacted", 100, time.Minute)
	transactions(t, kafka.Addr, "transactional")
	transactions(t, kafka.Addr, "compacted-transactional")
	fill(t, kafka.Addr, "compacted-transactional", 100, time.Minute)
	fill(t, kafka.Addr, "compacted-transactional", 100, 2*time.Minute)
	settled(t, kafka.Data, "compacted", "compacted-transactional")
	want := readAll(t, kafka.Addr, bothWays)
	if err := kafka.Stop(time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprintf("clean=%v", clean), func(t *testing.T) {
			k := harness.NewKraft(t, "--override", "log.cleaner.backoff.ms=3600000")
			createBothWays(t, k.Addr)
			for _, topic := range bothWays { // a log has files from its first record on
				k.CLI(t, "key:one\n", "produce", topic, "-k", ":")
			}
			if err := k.Stop(10 * time.Second); err != nil {
				t.Fatal(err)
			}
			move(t, kafka.Data, k.Data)
			if !clean {
				if err := os.Remove(filepath.Join(k.Data, ".kafka_cleanshutdown")); err != nil {
					t.Fatal(err)
				}
			}
			if err := k.Start(); err != nil {
				t.Fatal(err)
			}
			want.compare(t, readAll(t, k.Addr, bothWays))
			// And it goes on. Producer ids of another cluster are in the log: an idempotent producer of this one
			// may get the same.
			fill(t, k.Addr, "plain", 5000, 0, kgo.DisableIdempotentWrite())
			k.Restart(t)
			if got := readTopic(t, k.Addr, "plain", kgo.ReadUncommitted()); len(got) != len(want["plain"][0])+10_000 {
				t.Errorf("%d records after going on, want %d", len(got), len(want["plain"][0])+10_000)
			}
		})
	}
}

// TestKafkaOpensWhatWeWrote is the way back, with logs that kraft compacted.
func TestKafkaOpensWhatWeWrote(t *testing.T) {
	jars := harness.NeedKafka(t)
	k := harness.NewKraft(t, "--override", "log.cleaner.backoff.ms=200", "--override", "log.segment.delete.delay.ms=0")
	createBothWays(t, k.Addr)
	for _, topic := range []string{"plain", "transactional"} { // transactions come from Kafka only
		fill(t, k.Addr, topic, 5000, 0)
	}
	for _, topic := range []string{"compacted", "compacted-transactional"} {
		fill(t, k.Addr, topic, 100, 0)
		fill(t, k.Addr, topic, 100, time.Minute)
	}
	settled(t, k.Data, "compacted", "compacted-transactional")
	want := readAll(t, k.Addr, bothWays)
	if n := len(want["compacted"][0]); n == 0 || n > 19_000 {
		t.Errorf("%d records of 20000 are left of the compacted topic", n)
	}
	if err := k.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	for _, topic := range bothWays {
		logs, err := filepath.Glob(filepath.Join(k.Data, topic+"-0", "*.log"))
		if err != nil || len(logs) == 0 {
			t.Fatalf("%s: %v", topic, err)
		}
		out := harness.RunTool(t, jars, "", "org.apache.kafka.tools.DumpLogSegments", "--deep-iteration", "--files", strings.Join(logs, ","))
		for _, bad := range []string{"isvalid: false", "corrupt", "Found invalid"} {
			if strings.Contains(out, bad) {
				t.Errorf("%s: dump-log says %q", topic, bad)
			}
		}
	}
	kafka := harness.NewKafka(t, "log.cleaner.backoff.ms=3600000")
	createBothWays(t, kafka.Addr)
	if err := kafka.Stop(time.Minute); err != nil {
		t.Fatal(err)
	}
	move(t, k.Data, kafka.Data)
	for _, file := range []string{".kafka_cleanshutdown", "recovery-point-offset-checkpoint"} { // let it look at everything
		if err := os.Remove(filepath.Join(kafka.Data, file)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	if err := kafka.Start(); err != nil {
		t.Fatal(err)
	}
	want.compare(t, readAll(t, kafka.Addr, bothWays))
}

// TestOldFormats: a partition with messages of format 0 and 1, from before Kafka 0.11, shows consumers the same
// records as with Apache Kafka, and goes on.
func TestOldFormats(t *testing.T) {
	const topic = "old"
	var set []byte
	offset := int64(0)
	for _, magic := range []int8{0, 1} {
		for _, codec := range []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4} {
			if magic == 0 && codec == record.LZ4 {
				continue // Apache Kafka hands these on as they are, and clients of today cannot read them
			}
			var records []record.Record
			for i := range 20 {
				records = append(records, record.Record{Offset: offset, Timestamp: 1_450_000_000_000 + offset, Key: fmt.Append(nil, "k", i), Value: fmt.Append(nil, "value ", offset)})
				offset++
			}
			var err error
			if set, err = record.ToLegacy(set, magic, codec, false, records); err != nil {
				t.Fatal(err)
			}
		}
	}
	create := func(addr string) {
		t.Helper()
		never := "-1"
		admin := kadm.NewClient(kgoClient(t, addr))
		if _, err := admin.CreateTopic(timeout(t, 30*time.Second), 1, 1, map[string]*string{"retention.ms": &never}, topic); err != nil {
			t.Fatal(err)
		}
	}
	plant := func(data string) {
		t.Helper()
		for _, f := range []string{".kafka_cleanshutdown", "recovery-point-offset-checkpoint"} {
			if err := os.Remove(filepath.Join(data, f)); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		dir := filepath.Join(data, topic+"-0")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "00000000000000000000.log"), set, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kafka := harness.NewKafka(t)
	create(kafka.Addr)
	if err := kafka.Stop(time.Minute); err != nil {
		t.Fatal(err)
	}
	plant(kafka.Data)
	if err := kafka.Start(); err != nil {
		t.Fatal(err)
	}
	k := harness.NewKraft(t)
	create(k.Addr)
	if err := k.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	plant(k.Data)
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	want := readTopic(t, kafka.Addr, topic, kgo.ReadUncommitted())
	if len(want) != int(offset) {
		t.Fatalf("Apache Kafka shows %d records of %d", len(want), offset)
	}
	for i := range want { // franz-go's way to say that format 0 has no timestamps; Kafka's own is -1
		want[i] = strings.Replace(want[i], fmt.Sprint(time.Time{}.UnixMilli()), "-1", 1)
	}
	got := readTopic(t, k.Addr, topic, kgo.ReadUncommitted())
	written{topic: {want, nil}}.compare(t, written{topic: {got, nil}})
	k.Restart(t)
	if again := readTopic(t, k.Addr, topic, kgo.ReadUncommitted()); len(again) != len(want) {
		t.Errorf("%d records after a restart", len(again))
	}
}
