package connect

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
)

// mirror is the configuration of MirrorMaker 2 in docs/migrating.md, for one broker each and in a hurry. The way back exchanges the names.
func mirror(t *testing.T, from, fromAddress, to, toAddress, topics string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(harness.Root(), "docs", "migrating.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```properties\n")
	text, _, ok := strings.Cut(text, "```")
	if !ok {
		t.Fatal("docs/migrating.md has no configuration")
	}
	text = strings.NewReplacer("kafka", from, "kraft", to, "org.apache.kafka", "org.apache.kafka", "replication.factor = 3", "replication.factor = 1").Replace(text)
	seconds := regexp.MustCompile(`seconds = \d+`)
	return seconds.ReplaceAllString(text, "seconds = 1") + strings.Join([]string{"",
		from + ".bootstrap.servers = " + fromAddress,
		to + ".bootstrap.servers = " + toAddress,
		from + "->" + to + ".topics = " + topics,
		to + ".producer.transaction.timeout.ms = 5000", // a killed worker's transaction holds up the next one for so long
	}, "\n")
}

// TestMirrorMaker: MirrorMaker 2 copies topics with their settings and groups' offsets from Apache Kafka 4.4.0 to kraft, and back, exactly once
// although it is killed on the way.
func TestMirrorMaker(t *testing.T) {
	skipUnlessAll(t)
	at := jars(t)
	kafka := harness.NewKafka(t, "transaction.abort.timed.out.transaction.cleanup.interval.ms=500")
	kraft := harness.NewKraft(t, "--override", "transaction.abort.timed.out.transaction.cleanup.interval.ms=500")
	t.Run("to kraft", func(t *testing.T) { mirrors(t, at, "kafka", kafka.Addr, "kraft", kraft.Addr, "orders") })
	t.Run("and back", func(t *testing.T) { mirrors(t, at, "kraft", kraft.Addr, "kafka", kafka.Addr, "payments") })
}

func mirrors(t *testing.T, jars, from, fromAddress, to, toAddress, topic string) {
	const partitions, records, read = 3, 10_000, 1000
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	source, err := kgo.NewClient(kgo.SeedBrokers(fromAddress), kgo.DefaultProduceTopic(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	target, err := kgo.NewClient(kgo.SeedBrokers(toAddress))
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	retention := "123456789"
	if _, err := kadm.NewClient(source).CreateTopic(ctx, partitions, 1, map[string]*string{"retention.ms": &retention}, topic); err != nil {
		t.Fatal(err)
	}
	m := begin(t, jars+"/*", "org.apache.kafka.connect.mirror.MirrorMaker", mirror(t, from, fromAddress, to, toAddress, topic))
	copied := func() (want, have [partitions][]string, err error) {
		for address, out := range map[string]*[partitions][]string{fromAddress: &want, toAddress: &have} {
			if err := kept(address, topic, func(r *kgo.Record) {
				out[r.Partition] = append(out[r.Partition], fmt.Sprintf("%s=%s %v %d", r.Key, r.Value, r.Headers, r.Timestamp.UnixMilli()))
			}); err != nil {
				return want, have, err
			}
		}
		return want, have, nil
	}
	for round := range 4 {
		var all []*kgo.Record
		for i := range records / 4 {
			all = append(all, &kgo.Record{Key: fmt.Appendf(nil, "key-%d-%d", round, i), Value: fmt.Appendf(nil, "value-%d", i), Headers: []kgo.RecordHeader{{Key: "round", Value: fmt.Append(nil, round)}}})
		}
		if err := source.ProduceSync(ctx, all...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if round > 0 { // while it copies
			m.restart(t)
		}
		if err := harness.Eventually(time.Minute, func() error {
			want, have, err := copied()
			if err != nil {
				return err
			}
			n := 0
			for p := range want {
				if len(have[p]) > len(want[p]) {
					t.Fatalf("partition %d has %d records of %d", p, len(have[p]), len(want[p]))
				}
				for i, r := range have[p] {
					if r != want[p][i] {
						t.Fatalf("partition %d has %s in place of %s", p, r, want[p][i])
					}
				}
				n += len(want[p]) - len(have[p])
			}
			if n > records/8 && round < 3 || n > 0 && round == 3 {
				return fmt.Errorf("%d records are to be copied", n)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	configs, err := kadm.NewClient(target).DescribeTopicConfigs(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	if got := configs[0].Configs; func() string {
		for _, c := range got {
			if c.Key == "retention.ms" {
				return c.MaybeValue()
			}
		}
		return ""
	}() != retention {
		t.Errorf("the copy has other settings: %v", got)
	}
	// A group reads a part, and goes on in the other cluster where it was.
	group := func(address string) *kgo.Client {
		cl, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumeTopics(topic), kgo.ConsumerGroup("readers"), kgo.DisableAutoCommit(), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err != nil {
			t.Fatal(err)
		}
		return cl
	}
	before := group(fromAddress)
	seen := map[string]bool{}
	poll := func(cl *kgo.Client, each func(*kgo.Record)) {
		fetches := cl.PollRecords(ctx, read)
		if err := fetches.Err0(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(each)
	}
	for len(seen) < records {
		poll(before, func(r *kgo.Record) { seen[string(r.Key)] = true })
	}
	if err := before.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
	before.Close()
	if err := harness.Eventually(time.Minute, func() error {
		offsets, err := kadm.NewClient(target).FetchOffsets(ctx, "readers")
		if err != nil {
			return err
		}
		ends, err := kadm.NewClient(target).ListEndOffsets(ctx, topic)
		if err != nil {
			return err
		}
		lag := int64(0)
		for p := range int32(partitions) {
			end, _ := ends.Lookup(topic, p)
			o, _ := offsets.Lookup(topic, p)
			lag += end.Offset - max(o.At, 0)
		}
		if lag > partitions*2 { // a marker of the transaction of the last copy
			return fmt.Errorf("the group lags by %d in %s", lag, to)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
