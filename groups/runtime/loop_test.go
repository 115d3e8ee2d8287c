package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/goleak"

	"kraft/wire/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memoryLog is a partition in memory whose high watermark the test moves.
type memoryLog struct {
	mu      sync.Mutex
	batches []record.Batch
	end     int64
	high    int64
	auto    bool // the high watermark follows the end
	failure error
	limit   int           // of a batch's bytes, 0 for none
	block   chan struct{} // ReadAll waits for it
	watch   chan<- struct{}
}

func (l *memoryLog) Append(b record.Batch, _ int32, _ time.Time) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure != nil {
		return 0, l.failure
	}
	b.SetBaseOffset(l.end)
	l.batches = append(l.batches, b)
	l.end = b.LastOffset() + 1
	if l.auto {
		l.high = l.end
	}
	return l.end, nil
}

func (l *memoryLog) ReadAll(each func(record.Batch) error) error {
	if l.block != nil {
		<-l.block
	}
	for _, b := range l.batches {
		if err := each(b); err != nil {
			return err
		}
	}
	return nil
}

func (l *memoryLog) MaxBatch() int {
	if l.limit == 0 {
		return 1 << 20
	}
	return l.limit
}

func (l *memoryLog) HighWatermark() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.high
}

func (l *memoryLog) WatchHighWatermark(ch chan<- struct{}) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watch = ch
	return func() {}
}

func (l *memoryLog) commit() {
	l.mu.Lock()
	l.high = l.end
	ch := l.watch
	l.mu.Unlock()
	select {
	case ch <- struct{}{}:
	default:
	}
}

// counter is a machine that adds numbers; its total is its state.
type counter struct {
	total uint64
	next  time.Time
	ticks chan time.Time
}

func (c *counter) Replay(_, value []byte) error {
	if len(value) != 8 {
		return errors.New("no number")
	}
	c.total += binary.BigEndian.Uint64(value)
	return nil
}

func (c *counter) Loaded(time.Time) {}
func (c *counter) Next() time.Time  { return c.next }

func (c *counter) Tick(now time.Time) Effects {
	c.next = time.Time{}
	c.ticks <- now
	return Effects{}
}

func add(v uint64) func(*counter, time.Time, Token) Effects {
	return func(c *counter, _ time.Time, to Token) Effects {
		return Effects{
			Records: []Record{{Key: []byte("n"), Value: binary.BigEndian.AppendUint64(nil, v)}},
			Apply:   func() { c.total += v },
			Done: func(_ time.Time, err error) Effects {
				return Effects{Replies: []Reply{{to, outcome{err}}}}
			},
		}
	}
}

// outcome carries an error that may be nil through an interface.
type outcome struct{ err error }

func get(c *counter, _ time.Time, to Token) Effects {
	return Effects{Replies: []Reply{{to, c.total}}}
}

func startCounter(t *testing.T, log *memoryLog) (*Loop[*counter], *counter) {
	t.Helper()
	c := &counter{ticks: make(chan time.Time, 1)}
	l := Start(c, Log(log), 1, zerolog.Nop())
	t.Cleanup(l.Stop)
	return l, c
}

func askAdd(l *Loop[*counter], joins bool, v uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	reply, err := Ask[outcome](ctx, l, joins, add(v))
	return errors.Join(err, reply.err)
}

func total(t *testing.T, l *Loop[*counter]) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	v, err := Ask[uint64](ctx, l, false, get)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestStateIsTheLog(t *testing.T) {
	log := &memoryLog{auto: true}
	l, _ := startCounter(t, log)
	var callers sync.WaitGroup
	for i := range 100 {
		callers.Add(1)
		go func() {
			defer callers.Done()
			if err := askAdd(l, i%2 == 0, 1); err != nil {
				t.Error(err)
			}
		}()
	}
	callers.Wait()
	if got := total(t, l); got != 100 {
		t.Errorf("total %d", got)
	}
	if len(log.batches) > 100 {
		t.Errorf("%d batches for 100 records", len(log.batches))
	}
	l.Stop()
	again, _ := startCounter(t, log)
	if got := total(t, again); got != 100 {
		t.Errorf("total %d after loading", got)
	}
}

// TestAnswersWaitForCommit: nobody hears of what could still be lost, not even who only asks.
func TestAnswersWaitForCommit(t *testing.T) {
	log := &memoryLog{}
	l, _ := startCounter(t, log)
	added, asked := make(chan error, 1), make(chan uint64, 1)
	go func() { added <- askAdd(l, false, 5) }()
	for {
		log.mu.Lock()
		n := len(log.batches)
		log.mu.Unlock()
		if n == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	go func() { asked <- total(t, l) }()
	select {
	case <-added:
		t.Fatal("answered before the record was committed")
	case <-asked:
		t.Fatal("told of a record that was not committed")
	case <-time.After(50 * time.Millisecond):
	}
	log.commit()
	if err := <-added; err != nil {
		t.Error(err)
	}
	if got := <-asked; got != 5 {
		t.Errorf("total %d", got)
	}
}

func TestFailedAppendChangesNothing(t *testing.T) {
	log := &memoryLog{auto: true}
	l, _ := startCounter(t, log)
	log.mu.Lock()
	log.failure = kerr.NotEnoughReplicas
	log.mu.Unlock()
	if err := askAdd(l, true, 5); !errors.Is(err, kerr.NotEnoughReplicas) {
		t.Errorf("got %v", err)
	}
	if got := total(t, l); got != 0 {
		t.Errorf("total %d after a failed append", got)
	}
}

// A reply to a reader waits for earlier appends, also where it shares a batch with a record that cannot be appended.
func TestFailedAppendReleasesNoReader(t *testing.T) {
	log := &memoryLog{}
	l, _ := startCounter(t, log)
	first := make(chan error, 1)
	go func() { first <- askAdd(l, false, 5) }()
	for deadline := time.Now().Add(10 * time.Second); ; { // until it is appended
		log.mu.Lock()
		end := log.end
		log.mu.Unlock()
		if end == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("not appended")
		}
		time.Sleep(time.Millisecond)
	}
	log.mu.Lock()
	log.failure = kerr.NotEnoughReplicas
	log.mu.Unlock()
	// The loop takes both calls as one batch: the first holds it up until the second is there.
	held, hold, read := make(chan struct{}), make(chan struct{}), make(chan uint64, 1)
	failed := make(chan error, 1)
	go func() {
		reply, err := Ask[outcome](context.Background(), l, true, func(c *counter, now time.Time, to Token) Effects {
			close(held)
			<-hold
			return add(7)(c, now, to)
		})
		failed <- errors.Join(err, reply.err)
	}()
	<-held
	go func() {
		n, _ := Ask[uint64](context.Background(), l, true, get)
		read <- n
	}()
	for len(l.calls) < 1 {
		time.Sleep(time.Millisecond)
	}
	close(hold)
	select {
	case n := <-read:
		t.Errorf("read %d, which is not committed", n)
	case <-time.After(50 * time.Millisecond):
	}
	log.commit()
	if err := <-first; err != nil {
		t.Error(err)
	}
	if n := <-read; n != 5 {
		t.Errorf("read %d", n)
	}
	if err := <-failed; !errors.Is(err, kerr.NotEnoughReplicas) {
		t.Errorf("the second append: %v", err)
	}
}

// TestTooLargeTogether: what shares a batch with others' records does not fail because all together are too large for one.
func TestTooLargeTogether(t *testing.T) {
	b := record.NewBuilder(record.None)
	b.Add(&record.Record{Key: []byte("n"), Value: make([]byte, 8)})
	one, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	log := &memoryLog{auto: true, limit: len(one) + 8}
	l, _ := startCounter(t, log)
	held, hold := make(chan struct{}), make(chan struct{})
	done := make(chan error, 4)
	go func() {
		reply, err := Ask[outcome](context.Background(), l, true, func(c *counter, now time.Time, to Token) Effects {
			close(held)
			<-hold
			return add(1)(c, now, to)
		})
		done <- errors.Join(err, reply.err)
	}()
	<-held
	for range 3 {
		go func() { done <- askAdd(l, true, 1) }()
	}
	for len(l.calls) < 3 {
		time.Sleep(time.Millisecond)
	}
	close(hold)
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := total(t, l); got != 4 {
		t.Errorf("total %d, not 4", got)
	}
}

// TestManyTombstones: what there is to forget is forgotten, however much it is.
func TestManyTombstones(t *testing.T) {
	log := &memoryLog{auto: true, limit: 1000}
	l, _ := startCounter(t, log)
	forget := func(value []byte) error {
		reply, err := Ask[outcome](context.Background(), l, false, func(_ *counter, _ time.Time, to Token) Effects {
			e := Effects{Done: func(_ time.Time, err error) Effects { return Effects{Replies: []Reply{{to, outcome{err}}}} }}
			for range 200 {
				e.Records = append(e.Records, Record{Key: []byte("a key"), Value: value})
			}
			return e
		})
		return errors.Join(err, reply.err)
	}
	if err := forget(nil); err != nil {
		t.Error(err)
	}
	if err := forget([]byte("12345678")); !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("values: %v", err)
	}
}

func TestLoadingAndStopping(t *testing.T) {
	log := &memoryLog{auto: true, block: make(chan struct{})}
	l, _ := startCounter(t, log)
	if err := askAdd(l, false, 1); !errors.Is(err, kerr.CoordinatorLoadInProgress) {
		t.Errorf("while loading: %v", err)
	}
	close(log.block)
	if err := askAdd(l, false, 1); err != nil {
		t.Error(err)
	}
	l.Stop()
	if err := askAdd(l, false, 1); !errors.Is(err, kerr.NotCoordinator) {
		t.Errorf("after the end: %v", err)
	}
}

func TestTicks(t *testing.T) {
	l, c := startCounter(t, &memoryLog{auto: true})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := Ask[bool](ctx, l, false, func(c *counter, now time.Time, to Token) Effects {
		c.next = now.Add(20 * time.Millisecond)
		return Effects{Replies: []Reply{{to, true}}}
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.ticks:
	case <-ctx.Done():
		t.Fatal("no tick")
	}
}
