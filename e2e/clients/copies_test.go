package clients

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
)

// copying is a driver's copier of one topic to another, started again whenever it ends.
type copying struct {
	*Program
	driver Driver
	name   string
	args   []string
	starts int
}

func (c *copying) start() error {
	c.starts++
	p, err := c.driver.Start(append([]string{"copy"}, c.args...)...)
	c.Program = p
	return err
}

// TestCopies: copiers of five clients with transactions copy 100,000 records exactly once each, while they and the brokers are killed.
func TestCopies(t *testing.T) {
	const partitions, perCopier = 4, 100_000
	c := harness.NewCluster(t, 3, "--override", "min.insync.replicas=2", "--override", "group.initial.rebalance.delay.ms=0", "--override", "transaction.abort.timed.out.transaction.cleanup.interval.ms=1000")
	drivers := map[string]Driver{"java": Java(t), "librdkafka": Confluent(t), "kafkajs": kafkaJS(t), "franz": Franz(t), "rust": rust(t)}
	bootstrap := strings.Join(c.Bootstrap(), ",")
	c.Nodes[0].CLI(t, "", "topic", "create", "in", "-p", strconv.Itoa(partitions), "-r", "3")
	if err := produceAll(c.Bootstrap(), "in", perCopier); err != nil {
		t.Fatal(err)
	}
	var copiers []*copying
	for _, name := range slices.Sorted(maps.Keys(drivers)) {
		d := drivers[name]
		c.Nodes[0].CLI(t, "", "topic", "create", "out-"+name, "-p", strconv.Itoa(partitions), "-r", "3")
		at := bootstrap
		if name == "kafkajs" {
			at = c.Bootstrap()[0] // its program takes one
		}
		k := &copying{driver: d, name: name, args: []string{at, "in", "out-" + name, "copiers-" + name, "copier-" + name}}
		if err := k.start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { k.Kill() })
		copiers = append(copiers, k)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	ctx := t.Context()
	deadline := time.Now().Add(4 * time.Minute)
	for round := 0; ; round++ {
		left := 0
		for _, k := range copiers {
			n := perCopier
			if offsets, err := admin.FetchOffsets(ctx, k.args[3]); err == nil {
				offsets.Each(func(o kadm.OffsetResponse) {
					if o.Err == nil && o.At > 0 {
						n -= int(o.At)
					}
				})
			}
			left += max(n, 0)
			select {
			case <-k.Done():
				if n > 0 {
					if err := k.start(); err != nil {
						t.Fatal(err)
					}
				}
			default:
			}
		}
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			for _, k := range copiers {
				t.Logf("%s, started %d times, says: %s", k.name, k.starts, k.Output())
			}
			t.Fatalf("%d records are not copied", left)
		}
		switch {
		case round%2 == 1 && round < 30:
			copiers[(round/2)%len(copiers)].Kill()
		case round%6 == 4 && round < 30:
			node := c.Nodes[(round/6)%3]
			node.Kill()
			if err := node.Start(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(500 * time.Millisecond) // the pace of kills
	}
	for _, k := range copiers {
		k.Kill()
		if err := checkCopy(ctx, c.Bootstrap(), "out-"+k.name, perCopier); err != nil {
			t.Errorf("%s, started %d times: %v", k.name, k.starts, err)
		} else {
			t.Logf("%s was started %d times", k.name, k.starts)
		}
	}
}

func produceAll(bootstrap []string, topic string, n int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer cl.Close()
	var records []*kgo.Record
	for i := range n {
		records = append(records, &kgo.Record{Key: fmt.Appendf(nil, "key-%d", i), Value: fmt.Appendf(nil, "value-%d", i)})
	}
	return cl.ProduceSync(context.Background(), records...).FirstErr()
}

// checkCopy reads the committed records of a topic: each of the n is there once.
func checkCopy(ctx context.Context, bootstrap []string, topic string, n int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	var ends kadm.ListedOffsets
	if err := harness.Eventually(30*time.Second, func() error { // what a killed copier left open is aborted
		stable, err := admin.ListCommittedOffsets(ctx, topic)
		if err != nil {
			return err
		}
		if ends, err = admin.ListEndOffsets(ctx, topic); err != nil {
			return err
		}
		ends.Each(func(o kadm.ListedOffset) {
			if s, _ := stable.Lookup(o.Topic, o.Partition); s.Offset != o.Offset {
				err = fmt.Errorf("partition %d is stable to %d, and ends at %d", o.Partition, s.Offset, o.Offset)
			}
		})
		return err
	}); err != nil {
		return err
	}
	next, seen := map[int32]int64{}, make(map[string]int, n)
	behind := func() (out bool) {
		ends.Each(func(o kadm.ListedOffset) { out = out || next[o.Partition] < o.Offset })
		return out
	}
	for behind() {
		if ctx.Err() != nil {
			return fmt.Errorf("read to %v of %v: %w", next, ends, ctx.Err())
		}
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			next[r.Partition] = r.Offset + 1
			if !r.Attrs.IsControl() {
				seen[string(r.Value)]++
			}
		})
	}
	twice := 0
	for _, times := range seen {
		if times > 1 {
			twice++
		}
	}
	if len(seen) != n || twice > 0 {
		return fmt.Errorf("%d of %d records are there, %d of them more than once", len(seen), n, twice)
	}
	return nil
}
