package replication

import (
	"testing"
	"time"

	"kraft/storage/faultfs"
	"kraft/wire/record"
)

// TestAcknowledgesWhatIsOnDisk: a request acknowledges what is before its offset, so with log.flush.policy=commit
// nothing is asked for a partition whose records could not be synced.
func TestAcknowledgesWhatIsOnDisk(t *testing.T) {
	s := &stage{t: t, now: time.UnixMilli(1_700_000_000_000), say: func(string, ...any) {}, replicas: map[int32]*replica{}}
	r := &replica{id: 1, fs: faultfs.New(1)}
	s.start(r)
	t.Cleanup(r.die)
	b := record.NewBuilder(record.None)
	b.Add(&record.Record{Timestamp: s.now.UnixMilli(), Value: []byte("a")})
	data, err := b.Build()
	if err == nil {
		_, err = r.p.Log().AppendReplicated(data, false, s.now)
	}
	if err != nil {
		t.Fatal(err)
	}
	commits, state := &Manager{commits: true}, &fetchState{role: &following{partition: r.p}}
	if commits.pause(r.p, state, s.now) <= 0 {
		t.Error("asks on from what is not on disk")
	}
	if pause := (&Manager{}).pause(r.p, state, s.now); pause > 0 {
		t.Errorf("pauses %v for a sync that the policy does not ask for", pause)
	}
	if err := r.p.Log().Commit(1); err != nil {
		t.Fatal(err)
	}
	if pause := commits.pause(r.p, state, s.now); pause > 0 {
		t.Errorf("pauses %v when everything is on disk", pause)
	}
}
