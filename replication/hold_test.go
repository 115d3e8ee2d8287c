package replication

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/image"
	"kraft/storage/faultfs"
	"kraft/wire/record"
)

// leading is a partition that node 1 leads in epoch 1, with node 2 in its ISR, and what a fetch of node 2 from an offset does.
func leading(t *testing.T) (p *Partition, fetched func(offset int64)) {
	t.Helper()
	s := &stage{t: t, replicas: map[int32]*replica{}}
	s.start(&replica{id: 1, fs: faultfs.New(1)})
	t.Cleanup(s.replicas[1].die)
	p = s.replicas[1].p
	p.become(registered(1, 1, 1), 1, false, 2)
	return p, func(offset int64) {
		p.fetchedBy(2, 1, 0, offset, time.Now(), func(int32, int64) bool { return true })
	}
}

func registered(leader, epoch, version int32) *image.Partition {
	return &image.Partition{Replicas: []int32{1, 2}, ISR: []int32{1, 2}, Leader: leader, LeaderEpoch: epoch, PartitionEpoch: version}
}

func batch(t *testing.T) []byte {
	t.Helper()
	b := record.NewBuilder(record.None)
	b.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte("v")})
	data, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func appendOne(t *testing.T, p *Partition) (end int64, epoch int32) {
	t.Helper()
	a, epoch, err := p.Append(batch(t), nil, -1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a.Last + 1, epoch
}

// TestHeldAppends: while a partition is handed over appends wait; those before are committed and say so, also to a caller who asks
// when others lead already.
func TestHeldAppends(t *testing.T) {
	p, fetched := leading(t)
	end, epoch := appendOne(t, p)
	p.hold()
	waiting := make(chan error, 1)
	go func() {
		_, _, err := p.Append(batch(t), nil, -1, time.Now())
		waiting <- err
	}()
	fetched(end)
	if err := p.Committed(context.Background(), epoch, end, nil); err != nil {
		t.Errorf("what was appended before: %v", err)
	}
	select {
	case err := <-waiting:
		t.Fatalf("an append did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	p.become(registered(2, 2, 2), 1, false, 2)
	if err := <-waiting; !errors.Is(err, kerr.NotLeaderForPartition) {
		t.Errorf("the append that waited: %v", err)
	}
	if got := p.Log().EndOffset(); got != end {
		t.Errorf("the log ends at %d, wanted %d", got, end)
	}
	if err := p.Committed(context.Background(), epoch, end, nil); err != nil {
		t.Errorf("a late question about what was committed: %v", err)
	}
	if err := p.Committed(context.Background(), epoch, end+1, nil); !errors.Is(err, kerr.NotLeaderForPartition) {
		t.Errorf("what was not committed: %v", err)
	}
}

// untilBlocked waits until a goroutine that is in a function has a state, as tracebacks name them.
func untilBlocked(t *testing.T, function, state string) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for begun := time.Now(); time.Since(begun) < 10*time.Second; time.Sleep(time.Millisecond) {
		for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			head, rest, _ := strings.Cut(stack, "\n")
			if strings.Contains(head, "["+state) && strings.Contains(rest, function) {
				return
			}
		}
	}
	t.Fatalf("no goroutine in %s comes to %q", function, state)
}

// TestRolesChangeBesideValidation: a change of roles does not wait for a batch that is being looked at, which is refused then.
func TestRolesChangeBesideValidation(t *testing.T) {
	p, _ := leading(t)
	b := record.NewBuilder(record.Gzip)
	b.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Value: make([]byte, 9<<20)}) // such are looked at one at a time
	large, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	other, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = record.Incoming.Bounded(record.MaxRecordsBytes, func(limit int) error {
			if limit < record.MaxRecordsBytes {
				return record.ErrTooLarge
			}
			other <- struct{}{}
			<-other
			return nil
		})
	}()
	<-other
	appended := make(chan error, 1)
	go func() {
		_, _, err := p.Append(large, nil, -1, time.Now())
		appended <- err
	}()
	untilBlocked(t, "storage.(*Log).Validate", "chan send")
	p.become(registered(2, 2, 2), 1, false, 2)
	select {
	case err := <-appended:
		t.Fatalf("the append did not wait: %v", err)
	default:
	}
	other <- struct{}{}
	<-done
	if err := <-appended; !errors.Is(err, kerr.NotLeaderForPartition) {
		t.Errorf("an append that a change of roles came before: %v", err)
	}
}

// TestRefusedAppends: a broker that stops appends nothing after the controller said that others lead, though it may not have seen
// that yet.
func TestRefusedAppends(t *testing.T) {
	p, _ := leading(t)
	p.hold()
	waiting := make(chan error, 1)
	go func() {
		_, _, err := p.Append(batch(t), nil, -1, time.Now())
		waiting <- err
	}()
	select {
	case err := <-waiting:
		t.Fatalf("an append did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	p.refuse()
	if err := <-waiting; !errors.Is(err, kerr.NotLeaderForPartition) {
		t.Errorf("the append that waited: %v", err)
	}
	if _, _, err := p.Append(batch(t), nil, 1, time.Now()); !errors.Is(err, kerr.NotLeaderForPartition) {
		t.Errorf("a later append: %v", err)
	}
	p.become(registered(2, 2, 2), 1, false, 2)
	p.become(registered(1, 3, 3), 1, false, 2)
	appendOne(t, p)
}

// TestLeadsWhileItLeaves: a broker that comes to lead a partition after it has begun to stop, since the leader stops, too, acknowledges
// nothing, whatever acks is: the next leader would not have it.
func TestLeadsWhileItLeaves(t *testing.T) {
	p, _ := leading(t)
	p.become(registered(2, 2, 2), 1, false, 2)
	p.leaving.Store(true)
	p.become(registered(1, 3, 3), 1, false, 2)
	if _, _, err := p.Append(batch(t), nil, 1, time.Now()); !errors.Is(err, kerr.NotLeaderForPartition) {
		t.Errorf("an append: %v", err)
	}
}

// TestCommittedInTheNextEpoch: a leader that goes on in another epoch goes on to commit what it appended before; one that came back
// after somebody else led knows nothing of it.
func TestCommittedInTheNextEpoch(t *testing.T) {
	p, fetched := leading(t)
	end, epoch := appendOne(t, p)
	answer := make(chan error, 1)
	go func() { answer <- p.Committed(context.Background(), epoch, end, nil) }()
	p.become(registered(1, 2, 2), 1, false, 2)
	fetched(end)
	if err := <-answer; err != nil {
		t.Errorf("after a new epoch of the same leader: %v", err)
	}
	end, epoch = appendOne(t, p)
	p.become(registered(2, 3, 3), 1, false, 2)
	p.become(registered(1, 4, 4), 1, false, 2)
	fetched(end)
	if err := p.Committed(context.Background(), epoch, end, nil); !errors.Is(err, kerr.NotLeaderForPartition) {
		t.Errorf("after another leader: %v", err)
	}
}
