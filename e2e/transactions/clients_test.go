package transactions

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"kraft/e2e/harness"
)

// TestTransactionsOnThree: a producer's committed transactions over several partitions are read whole, its aborted ones not at all, in either
// version of transactions; offsets that are part of them go with them.
func TestTransactionsOnThree(t *testing.T) {
	c := harness.NewCluster(t, 3)
	for _, tc := range []struct {
		name, topic string
		versions    *kversion.Versions
	}{{"version 2", "new", nil}, {"version 1", "old", kversion.V3_9_0()}} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			topic := tc.topic
			opts := []kgo.Opt{kgo.SeedBrokers(c.Bootstrap()...), kgo.MaxVersions(tc.versions)}
			admin, err := kgo.NewClient(opts...)
			if err != nil {
				t.Fatal(err)
			}
			defer admin.Close()
			if r, err := kadm.NewClient(admin).CreateTopic(ctx, 6, 3, nil, topic); err != nil || r.Err != nil {
				t.Fatal(err, r.Err)
			}
			cl, err := kgo.NewClient(append(opts, kgo.TransactionalID("copier-"+topic), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))...)
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			const transactions, records = 30, 12
			for n := range transactions {
				if err := cl.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
				for i := range records {
					cl.Produce(ctx, &kgo.Record{Value: fmt.Append(nil, n, " ", i)}, nil)
				}
				if err := cl.Flush(ctx); err != nil {
					t.Fatal(err)
				}
				if err := cl.EndTransaction(ctx, n%3 != 0); err != nil {
					t.Fatalf("transaction %d: %v", n, err)
				}
			}
			got := map[int]int{}
			reader, err := kgo.NewClient(append(opts, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			for left := transactions * 2 / 3 * records; left > 0; {
				fetches := reader.PollFetches(ctx)
				if ctx.Err() != nil {
					t.Fatalf("%d records are missing: %v", left, fetches.Errors())
				}
				fetches.EachRecord(func(r *kgo.Record) {
					var n, i int
					_, _ = fmt.Sscan(string(r.Value), &n, &i)
					got[n]++
					left--
				})
			}
			for n := range transactions {
				if want := records * min(n%3, 1); got[n] != want {
					t.Errorf("transaction %d: %d records, wanted %d", n, got[n], want)
				}
			}
		})
	}
}
