package workload

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// CheckLookups holds what a partition's leader answers to lookups, by time and by offset, against all that is in the partition. Nothing
// else may happen meanwhile.
func (w *Workload) CheckLookups(ctx context.Context, cl *kgo.Client, p Partition, rng *rand.Rand) error {
	records, start, end, err := w.readAll(ctx, cl, p)
	for ; err != nil && ctx.Err() == nil; records, start, end, err = w.readAll(ctx, cl, p) {
		time.Sleep(100 * time.Millisecond) // a leader that has just been elected does not know yet what is committed
	}
	if err != nil || len(records) == 0 {
		return err
	}
	admin := kadm.NewClient(cl)
	for range 8 {
		at := records[start+rng.Int64N(end-start)]
		if at == nil { // compacted, or a control record
			continue
		}
		t := at.Timestamp.UnixMilli() + rng.Int64N(3) - 1
		want := int64(-1)
		for o := start; o < end; o++ {
			if r := records[o]; r != nil && r.Timestamp.UnixMilli() >= t {
				want = o
				break
			}
		}
		found, err := admin.ListOffsetsAfterMilli(ctx, t, p.Topic)
		if err != nil {
			return err
		}
		got, _ := found.Lookup(p.Topic, p.N)
		if got.Err != nil {
			return got.Err
		}
		if want < 0 {
			want = end // as kadm has it
		}
		if got.Offset != want {
			w.History.Wrong("lookup by time", "%s: the first record from %d ms on is at %d, and said to be at %d", p, t, want, got.Offset)
		}
	}
	newest := int64(-1)
	for o := start; o < end; o++ {
		if r := records[o]; r != nil && (newest < 0 || r.Timestamp.UnixMilli() > records[newest].Timestamp.UnixMilli()) {
			newest = o
		}
	}
	found, err := admin.ListMaxTimestampOffsets(ctx, p.Topic)
	if err != nil {
		return err
	}
	if got, _ := found.Lookup(p.Topic, p.N); got.Err == nil && newest >= 0 && got.Timestamp != records[newest].Timestamp.UnixMilli() {
		w.History.Wrong("lookup by time", "%s: the newest timestamp is %d, and said to be %d", p, records[newest].Timestamp.UnixMilli(), got.Timestamp)
	}
	for range 4 {
		from := start + rng.Int64N(end-start)
		if err := w.readFrom(ctx, cl, p, from, end, records); err != nil {
			return err
		}
	}
	return nil
}

// readFrom reads from an offset on: the first record is the one that is there.
func (w *Workload) readFrom(ctx context.Context, cl *kgo.Client, p Partition, from, end int64, records map[int64]*kgo.Record) error {
	want := from
	for ; records[want] == nil; want++ {
		if want >= end {
			return nil
		}
	}
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{p.Topic: {p.N: kgo.NewOffset().At(from)}})
	defer cl.RemoveConsumePartitions(map[string][]int32{p.Topic: {p.N}})
	for ctx.Err() == nil {
		if found := cl.PollFetches(ctx).Records(); len(found) > 0 {
			if r := found[0]; r.Offset != want || string(r.Value) != string(records[want].Value) {
				w.History.Wrong("lookup by offset", "%s: read from %d on the first record is %d, not %d", p, from, r.Offset, want)
			}
			return nil
		}
	}
	return ctx.Err()
}
