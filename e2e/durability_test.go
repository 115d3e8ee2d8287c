package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
)

// TestKill9LosesNothing kills the broker in the middle of an acks=all load, several times, and then
// reads every record that was acknowledged, in order and once.
func TestKill9LosesNothing(t *testing.T) {
	for _, policy := range []string{"none", "commit"} {
		t.Run("log.flush.policy="+policy, func(t *testing.T) { killUnderLoad(t, policy) })
	}
}

func killUnderLoad(t *testing.T, policy string) {
	k := harness.NewKraft(t, "--override", "log.flush.policy="+policy)
	k.CLI(t, "", "topic", "create", "load", "-p", "4", "-c", "segment.bytes=1048576")
	cl := client(t, k, kgo.DefaultProduceTopic("load"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordDeliveryTimeout(time.Minute), kgo.RetryTimeout(time.Minute))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var mu sync.Mutex
	acked := map[int32][]uint64{}
	var next [4]uint64
	var failed []error
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			p := int32(i % 4)
			n := next[p]
			next[p]++
			value := binary.BigEndian.AppendUint64(make([]byte, 0, 200), n)
			cl.Produce(context.Background(), &kgo.Record{Partition: p, Value: value[:200]}, func(_ *kgo.Record, err error) {
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					failed = append(failed, err)
					return
				}
				acked[p] = append(acked[p], n)
			})
		}
	}()
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acked[0]) + len(acked[1]) + len(acked[2]) + len(acked[3])
	}
	for range 3 {
		before := count()
		if err := harness.Eventually(30*time.Second, func() error {
			if n := count() - before; n < 20_000 {
				return fmt.Errorf("%d records acknowledged since the last kill", n)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		k.Kill()
		if err := k.Start(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	<-done
	if err := cl.Flush(timeout(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	if len(failed) > 0 {
		t.Fatalf("%d records failed, the first: %v", len(failed), failed[0])
	}
	checkRead(t, k, acked)
}

// checkRead reads the topic to its end: each partition must hold 0, 1, 2... without gap or repetition,
// as far as was acknowledged.
func checkRead(t *testing.T, k *harness.Kraft, acked map[int32][]uint64) {
	t.Helper()
	total := 0
	for _, a := range acked {
		total += len(a)
	}
	cl := client(t, k, kgo.ConsumeTopics("load"))
	ctx := timeout(t, time.Minute)
	next := map[int32]uint64{}
	for n := 0; n < total; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d of %d records: %v", n, total, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if got := binary.BigEndian.Uint64(r.Value); got != next[r.Partition] {
				t.Fatalf("partition %d offset %d holds record %d, want %d", r.Partition, r.Offset, got, next[r.Partition])
			}
			next[r.Partition]++
			n++
		})
	}
	for p, a := range acked {
		if next[p] < uint64(len(a)) {
			t.Errorf("partition %d: %d records acknowledged, %d there", p, len(a), next[p])
		}
	}
	t.Logf("%d acknowledged records are all there", total)
}

// TestApacheReadsOurLogs runs Apache Kafka's dump-log over everything that kraft wrote: segments of all
// codecs, indexes, offsets of groups.
func TestApacheReadsOurLogs(t *testing.T) {
	jars := harness.NeedKafka(t)
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", "events", "-c", "segment.bytes=1048576", "-c", "index.interval.bytes=4096")
	lines := ""
	for i := range 5000 {
		lines += fmt.Sprintf("key-%d:%s\n", i, strings.Repeat("payload ", 10+i%20))
	}
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		k.CLI(t, lines, "produce", "events", "-k", ":", "-z", codec, "-H", "codec="+codec)
	}
	k.CLI(t, "", "consume", "events", "--from-beginning", "-n", "25000", "--group", "readers")
	if err := k.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(k.Data, "events-0", "*.log"))
	if err != nil || len(logs) < 2 {
		t.Fatalf("segments: %v %v", logs, err)
	}
	const dump = "org.apache.kafka.tools.DumpLogSegments"
	records := 0
	for _, log := range logs {
		out := harness.RunTool(t, jars, "", dump, "--deep-iteration", "--files", log)
		records += strings.Count(out, "\n| offset: ")
		for _, bad := range []string{"isvalid: false", "Non-consecutive", "Mismatches", "corrupt", "Found invalid"} {
			if strings.Contains(out, bad) {
				t.Errorf("%s: dump-log says %q", log, bad)
			}
		}
		for _, index := range []string{".index", ".timeindex"} {
			file := strings.TrimSuffix(log, ".log") + index
			if info, err := os.Stat(file); err != nil || info.Size() == 0 {
				t.Errorf("%s: %v", file, errors.Join(err, errors.New("missing or empty")))
			}
			out := harness.RunTool(t, jars, "", dump, "--verify-index-only", "--files", file)
			if strings.Contains(out, "Mismatches") || strings.Contains(out, "out of order") {
				t.Errorf("%s: %s", file, out)
			}
			out = harness.RunTool(t, jars, "", dump, "--index-sanity-check", "--files", file)
			if !strings.Contains(out, "passed sanity check") {
				t.Errorf("%s: %s", file, out)
			}
		}
	}
	if records != 25_000 {
		t.Errorf("dump-log finds %d records, 25000 were written", records)
	}
	snapshots, err := filepath.Glob(filepath.Join(k.Data, "events-0", "*.snapshot"))
	if err != nil || len(snapshots) == 0 {
		t.Fatalf("no producer snapshot: %v", err)
	}
	out := harness.RunTool(t, jars, "", dump, "--files", snapshots[len(snapshots)-1])
	if !strings.Contains(out, "producerId: ") {
		t.Errorf("producer snapshot: %s", out)
	}
	offsets, _ := filepath.Glob(filepath.Join(k.Data, "__consumer_offsets-*", "*.log"))
	found := ""
	for _, file := range offsets {
		if info, err := os.Stat(file); err == nil && info.Size() > 0 {
			found += harness.RunTool(t, jars, "", dump, "--offsets-decoder", "--files", file)
		}
	}
	if !strings.Contains(found, `"group":"readers","topic":"events","partition":0`) || !strings.Contains(found, `"offset":25000`) {
		t.Errorf("the group's offset is not in __consumer_offsets as Kafka writes it: %s", found)
	}
}
