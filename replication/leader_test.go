package replication

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire"
)

// TestFreshEpochKnowsNoEnds: what followers had in an earlier epoch says nothing in the next, in which they may have cut their logs.
func TestFreshEpochKnowsNoEnds(t *testing.T) {
	p, fetched := leading(t)
	end, _ := appendOne(t, p)
	fetched(end)
	if got := p.Log().HighWatermark(); got != end {
		t.Fatalf("committed up to %d, not %d", got, end)
	}
	end, _ = appendOne(t, p)
	p.mu.Lock()
	p.followers[2].end = end // it said so, and the next epoch began before anything was made of it
	p.mu.Unlock()
	p.become(registered(1, 2, 2), 1, false, 2)
	p.advance(0)
	if got := p.Log().HighWatermark(); got >= end {
		t.Errorf("committed up to %d by what a follower had in the epoch before", got)
	}
	fetched(end)
	if got := p.Log().HighWatermark(); got != end {
		t.Errorf("committed up to %d, not %d", got, end)
	}
}

// TestHighWatermarkWithinTheLog: a follower counts as committed only what it has.
func TestHighWatermarkWithinTheLog(t *testing.T) {
	p, _ := leading(t)
	end, _ := appendOne(t, p)
	p.become(registered(2, 2, 2), 1, false, 2)
	p.role.Lock()
	err := p.replicate(&kmsg.FetchResponseTopicPartition{HighWatermark: end + 100})
	p.role.Unlock()
	if got := p.Log().HighWatermark(); err != nil || got != end {
		t.Errorf("committed up to %d of %d: %v", got, end, err)
	}
}

// TestRefusedFetches: who is no replica, or asks in another epoch, is given nothing.
func TestRefusedFetches(t *testing.T) {
	p, _ := leading(t)
	appendOne(t, p)
	m := &Manager{byName: map[string]*topic{p.topic: {name: p.topic, partitions: map[int32]*Partition{p.n: p}}}}
	for name, test := range map[string]struct {
		replica, epoch int32
		want           error
	}{
		"a stranger's":         {3, 1, kerr.NotLeaderForPartition},
		"of an earlier epoch":  {2, 0, kerr.FencedLeaderEpoch},
		"of a later epoch":     {2, 7, kerr.UnknownLeaderEpoch},
		"a consumer's earlier": {-1, 0, kerr.FencedLeaderEpoch},
	} {
		f := &fetching{manager: m, request: wire.NewRequest(t.Context(), 12, &wire.Session{}), version: 12, replica: test.replica, req: kmsg.NewPtrFetchRequest()}
		out := wire.NewFetchPartition(p.n)
		if _, err := f.read(&wanted{topic: p.topic, n: p.n, leaderEpoch: test.epoch, lastFetchedEpoch: -1, maxBytes: 1 << 20}, &out, 1<<20); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, not %v", name, err, test.want)
		}
	}
}

// TestDeletedWaitsForReplicas: a deletion has ended when the log starts of all replicas that fetch are there.
func TestDeletedWaitsForReplicas(t *testing.T) {
	p, fetched := leading(t)
	end, epoch := appendOne(t, p)
	fetched(end)
	if _, err := p.Log().DeleteBefore(1, time.Now()); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	type answer struct {
		low int64
		err error
	}
	done := make(chan answer, 1)
	go func() {
		low, err := p.deleted(ctx, epoch, 1, func(int32) bool { return true })
		done <- answer{low, err}
	}()
	select {
	case a := <-done:
		t.Fatalf("answered before the follower's log starts there: %+v", a)
	case <-time.After(20 * time.Millisecond):
	}
	p.fetchedBy(2, 1, 1, end, time.Now(), func(int32, int64) bool { return true })
	if a := <-done; a.low != 1 || a.err != nil {
		t.Errorf("%+v", a)
	}
	if low, err := p.deleted(ctx, epoch, 1, func(int32) bool { return false }); low != 1 || err != nil {
		t.Errorf("where no other fetches: %d, %v", low, err)
	}
	p.become(registered(2, 2, 2), 1, false, 2)
	if _, err := p.deleted(ctx, epoch, 5, func(int32) bool { return true }); !errors.Is(err, kerr.NotLeaderForPartition) {
		t.Errorf("after the lead: %v", err)
	}
}
