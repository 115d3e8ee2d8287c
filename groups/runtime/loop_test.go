package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/goleak"

	"kraft/storage"
	"kraft/wire/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memoryLog is a partition in memory whose high watermark the test moves.
type memoryLog struct {
	mu         sync.Mutex
	batches    []record.Batch
	end        int64
	high       int64
	auto       bool          // the high watermark follows the end
	refuses    error         // what Takes says
	failure    error         // of appends
	once       bool          // of one append only
	syncing    chan error    // each Sync waits for a value, unless it is nil
	reads      int           // calls of ReadAll
	unreadable int           // how many of them fail, at first
	limit      int           // of a batch's bytes, 0 for none
	block      chan struct{} // ReadAll waits for it
	watch      chan<- struct{}
}

func (l *memoryLog) AppendMarker(m storage.Marker, epoch int32, now time.Time) (int64, error) {
	kind := int16(record.Abort)
	if m.Commit {
		kind = record.Commit
	}
	b, err := record.NewMarker(m.ProducerID, m.Epoch, kind, m.CoordinatorEpoch, now.UnixMilli())
	if err != nil {
		return 0, err
	}
	return l.Append(b, nil, epoch, now)
}

func (l *memoryLog) Append(b record.Batch, _ *storage.Guard, _ int32, _ time.Time) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.failure; err != nil {
		if l.once {
			l.failure = nil
		}
		return 0, err
	}
	b.SetBaseOffset(l.end)
	l.batches = append(l.batches, b)
	l.end = b.LastOffset() + 1
	if l.auto {
		l.high = l.end
	}
	return l.end, nil
}

func (l *memoryLog) Takes(int32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refuses
}

func (l *memoryLog) Syncs() bool { return l.syncing != nil }

func (l *memoryLog) Sync(int64) error { return <-l.syncing }

func (l *memoryLog) ReadAll(each func(record.Batch) error) error {
	if l.block != nil {
		<-l.block
	}
	l.mu.Lock()
	l.reads++
	batches, unreadable := slices.Clone(l.batches), l.reads <= l.unreadable
	l.mu.Unlock()
	if unreadable {
		return errors.New("it cannot be read")
	}
	for _, b := range batches {
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
	open  map[int64]uint64 // of transactions
	next  time.Time
	ticks chan time.Time
}

func (c *counter) Replay(e Entry) error {
	if len(e.Value) != 8 {
		return errors.New("no number")
	}
	v := binary.BigEndian.Uint64(e.Value)
	if e.ProducerID >= 0 {
		c.open[e.ProducerID] += v
		return nil
	}
	c.total += v
	return nil
}

func (c *counter) EndTransaction(producerID int64, committed bool) {
	if committed {
		c.total += c.open[producerID]
	}
	delete(c.open, producerID)
}

func (c *counter) Loaded(time.Time) Effects { return Effects{} }
func (c *counter) Next() time.Time          { return c.next }

func (c *counter) Tick(call Call) Effects {
	c.next = time.Time{}
	c.ticks <- call.Now
	return Effects{}
}

// add adds v without looking at whether it can.
func add(v uint64) func(*counter, Call) Effects {
	return func(_ *counter, call Call) Effects {
		return Effects{Records: []Record{number(v)}, Replies: []Reply{{call.To, true}}}
	}
}

func number(v uint64) Record {
	return Record{Key: []byte("n"), Value: binary.BigEndian.AppendUint64(nil, v)}
}

func get(c *counter, call Call) Effects {
	return Effects{Replies: []Reply{{call.To, c.total}}}
}

func startCounter(t *testing.T, log *memoryLog) *Loop[*counter] {
	t.Helper()
	l := Start(func() *counter { return &counter{open: map[int64]uint64{}, ticks: make(chan time.Time, 1)} }, nil, Log(log), 1, zerolog.Nop())
	t.Cleanup(l.Stop)
	return l
}

func askAdd(l *Loop[*counter], joins bool, v uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := Ask[bool](ctx, l, joins, add(v))
	return err
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
	l := startCounter(t, log)
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
	l.Stop()
	again := startCounter(t, log)
	if got := total(t, again); got != 100 {
		t.Errorf("total %d after loading", got)
	}
}

// TestAnswersWaitForCommit: nobody hears of what could still be lost, not even who only asks.
func TestAnswersWaitForCommit(t *testing.T) {
	log := &memoryLog{}
	l := startCounter(t, log)
	added, asked := make(chan error, 1), make(chan uint64, 1)
	go func() { added <- askAdd(l, false, 5) }()
	log.appended(t, 1)
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

// fail has appends fail from now on, or no more.
func (l *memoryLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure = err
}

// appended waits until so many records are in the log.
func (l *memoryLog) appended(t *testing.T, n int64) {
	t.Helper()
	eventually(t, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.end != n {
			return fmt.Errorf("%d records are appended, not %d", l.end, n)
		}
		return nil
	})
}

// eventually waits until f returns no error, for 10 s. (e2e/harness has the same, but imports this package.)
func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for err := f(); err != nil; err = f() {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestFailedAppendChangesNothing: the machine is what is in the log, and who waits in it is answered.
func TestFailedAppendChangesNothing(t *testing.T) {
	log := &memoryLog{auto: true}
	l := startCounter(t, log)
	if err := askAdd(l, true, 5); err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	held := make(chan struct{})
	go func() {
		_, err := Ask[bool](context.Background(), l, false, func(c *counter, _ Call) Effects {
			c.total = 1000 // what is not in a record
			close(held)
			return Effects{}
		})
		waits <- err
	}()
	<-held
	log.fail(kerr.NotEnoughReplicas)
	if err := askAdd(l, true, 7); !errors.Is(err, kerr.CoordinatorNotAvailable) {
		t.Errorf("got %v", err)
	}
	if err := <-waits; !errors.Is(err, kerr.CoordinatorNotAvailable) {
		t.Errorf("who waited is told %v", err)
	}
	log.fail(nil)
	if got := total(t, l); got != 5 {
		t.Errorf("total %d after a failed append", got)
	}
}

// TestFailedAppendKeepsAnswers: the answer to what is in the log comes when that is committed, whatever happens to later records.
func TestFailedAppendKeepsAnswers(t *testing.T) {
	log := &memoryLog{}
	l := startCounter(t, log)
	first, read := make(chan error, 1), make(chan uint64, 1)
	go func() { first <- askAdd(l, false, 5) }()
	log.appended(t, 1)
	log.fail(kerr.NotEnoughReplicas)
	if err := askAdd(l, true, 7); !errors.Is(err, kerr.CoordinatorNotAvailable) {
		t.Errorf("the second append: %v", err)
	}
	go func() { read <- total(t, l) }()
	select {
	case n := <-read:
		t.Errorf("read %d, which is not committed", n)
	case err := <-first:
		t.Errorf("answered before the record was committed: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	log.commit()
	if err := <-first; err != nil {
		t.Error(err)
	}
	if n := <-read; n != 5 {
		t.Errorf("read %d", n)
	}
}

// check asks whether the loop takes records.
func check(l *Loop[*counter], records ...Record) error {
	type result struct{ err error }
	r, err := Ask[result](context.Background(), l, false, func(_ *counter, call Call) Effects {
		return Effects{Replies: []Reply{{call.To, result{call.Check(records)}}}}
	})
	return errors.Join(err, r.err)
}

// TestCheck: an operation learns beforehand that the partition takes nothing, and for a moment after an append has failed nothing is tried.
func TestCheck(t *testing.T) {
	log := &memoryLog{auto: true, limit: 1000}
	l := startCounter(t, log)
	check := func(records ...Record) error { return check(l, records...) }
	if err := check(number(1)); err != nil {
		t.Error(err)
	}
	if err := check(Record{Key: make([]byte, 1000), Value: []byte{}}); !errors.Is(err, kerr.UnknownServerError) {
		t.Errorf("too large: %v", err)
	}
	if err := check(Record{Key: make([]byte, 1000)}); err != nil {
		t.Errorf("a tombstone: %v", err)
	}
	log.mu.Lock()
	log.refuses = kerr.NotLeaderForPartition
	log.mu.Unlock()
	if err := check(number(1)); !errors.Is(err, kerr.NotCoordinator) {
		t.Errorf("of another leader: %v", err)
	}
	if err := check(); err != nil {
		t.Errorf("no records: %v", err)
	}
	log.mu.Lock()
	log.refuses, log.failure = nil, kerr.NotEnoughReplicas
	log.mu.Unlock()
	if err := askAdd(l, false, 1); !errors.Is(err, kerr.CoordinatorNotAvailable) {
		t.Errorf("a failed append: %v", err)
	}
	log.fail(nil)
	if err := check(number(1)); !errors.Is(err, kerr.CoordinatorNotAvailable) {
		t.Errorf("at once after it: %v", err)
	}
	eventually(t, func() error { return check(number(1)) })
}

// TestSyncsBeside: while records are written to disk, the loop goes on. If they can't be, who waits for them is answered, and it is tried
// again.
func TestSyncsBeside(t *testing.T) {
	log := &memoryLog{syncing: make(chan error)}
	l := startCounter(t, log)
	added := make(chan error, 3)
	for range 3 {
		go func() { added <- askAdd(l, false, 1) }()
	}
	log.appended(t, 3) // though none is on disk
	log.syncing <- kerr.KafkaStorageError
	for range 3 {
		if err := <-added; !errors.Is(err, kerr.NotCoordinator) {
			t.Errorf("answered %v", err)
		}
	}
	read := make(chan uint64, 1)
	go func() { read <- total(t, l) }()
	select {
	case n := <-read:
		t.Errorf("read %d, which is not on disk", n)
	case <-time.After(50 * time.Millisecond):
	}
	close(log.syncing)
	log.commit()
	if got := <-read; got != 3 { // they are in the log
		t.Errorf("total %d", got)
	}
	eventually(t, func() error { return check(l, number(1)) })
	go func() { added <- askAdd(l, false, 1) }()
	log.appended(t, 4)
	log.commit()
	if err := <-added; err != nil {
		t.Error(err)
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if log.reads != 1 {
		t.Errorf("loaded %d times", log.reads)
	}
}

// TestStopDoesNotWaitForADisk: nor for a sync that hangs.
func TestStopDoesNotWaitForADisk(t *testing.T) {
	log := &memoryLog{syncing: make(chan error)}
	l := startCounter(t, log)
	added := make(chan error, 1)
	go func() { added <- askAdd(l, false, 1) }()
	log.appended(t, 1)
	l.Stop()
	if err := <-added; !errors.Is(err, kerr.NotCoordinator) {
		t.Errorf("answered %v", err)
	}
	close(log.syncing)
}

// TestTransactions: what a transaction wrote counts when its marker comes, or never.
func TestTransactions(t *testing.T) {
	log := &memoryLog{auto: true}
	write := func(id int64, flags int16, key, value []byte) {
		b := record.NewBuilder(record.None)
		b.ProducerID, b.ProducerEpoch, b.Attributes = id, 0, record.TransactionalFlag|flags
		b.Add(&record.Record{Key: key, Value: value})
		batch, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = log.Append(batch, nil, 0, time.Now())
	}
	add := func(id int64, v uint64) { write(id, 0, number(v).Key, number(v).Value) }
	end := func(id int64, kind byte) { write(id, record.ControlFlag, []byte{0, 0, 0, kind}, make([]byte, 6)) }
	add(1, 10)
	add(2, 100)
	end(1, record.Commit)
	add(1, 1000)
	end(2, record.Abort)
	add(3, 10_000)
	if got := total(t, startCounter(t, log)); got != 10 {
		t.Errorf("total %d", got)
	}
}

// TestTold: what is told is done in order, before later calls, also if it comes while the partition is loaded, or in the way of an append
// that fails.
func TestTold(t *testing.T) {
	log := &memoryLog{auto: true, block: make(chan struct{})}
	l := startCounter(t, log)
	tell := func(then func()) {
		l.Tell(func(c *counter, call Call) Effects {
			then()
			return Effects{Records: []Record{number(c.total + 1)}}
		})
	}
	tell(func() { tell(func() {}) }) // what is told last is told while the first runs, once for each of its tries
	tell(func() {})
	log.mu.Lock()
	log.failure, log.once = kerr.NotEnoughReplicas, true
	log.mu.Unlock()
	close(log.block)
	log.appended(t, 4)
	if got := total(t, l); got != 1+2+4+8 || log.reads != 2 {
		t.Errorf("total %d, loaded %d times", got, log.reads)
	}
}

// TestToldBeforeCalls: a call sees what was told before it, also one that shares a batch.
func TestToldBeforeCalls(t *testing.T) {
	log := &memoryLog{auto: true}
	l := startCounter(t, log)
	for i := range uint64(200) {
		l.Tell(func(*counter, Call) Effects { return Effects{Records: []Record{number(1)}} })
		got, err := Ask[uint64](context.Background(), l, i%2 == 0, get)
		if err != nil || got != i+1 {
			t.Fatalf("the call sees %d of %d, %v", got, i+1, err)
		}
	}
}

// TestHeld: an operation knows that replies have waited for a commit for long.
func TestHeld(t *testing.T) {
	log := &memoryLog{}
	l := startCounter(t, log)
	held := func() bool {
		seen := make(chan bool, 1)
		l.Tell(func(_ *counter, call Call) Effects {
			seen <- call.Held
			return Effects{}
		})
		return <-seen
	}
	if held() {
		t.Error("held without records")
	}
	added := make(chan error, 1)
	go func() { added <- askAdd(l, false, 1) }()
	log.appended(t, 1)
	if held() {
		t.Error("held at once")
	}
	eventually(t, func() error {
		if !held() {
			return errors.New("not held while a record is not committed")
		}
		return nil
	})
	log.commit()
	if err := <-added; err != nil {
		t.Error(err)
	}
	if total(t, l); held() {
		t.Error("held after the commit")
	}
}

// TestTooLarge: a machine that asks for too much without a check is dropped, and its caller told.
func TestTooLarge(t *testing.T) {
	log := &memoryLog{auto: true, limit: 1000}
	l := startCounter(t, log)
	_, err := Ask[bool](context.Background(), l, false, func(_ *counter, call Call) Effects {
		return Effects{Records: []Record{{Key: make([]byte, 1000), Value: make([]byte, 8)}}, Replies: []Reply{{call.To, true}}}
	})
	if !errors.Is(err, kerr.UnknownServerError) {
		t.Errorf("answered %v", err)
	}
	if got := total(t, l); got != 0 {
		t.Errorf("total %d", got)
	}
}

// TestTooLargeTogether: what shares a batch with others' records does not fail because all together are too large for one.
func TestTooLargeTogether(t *testing.T) {
	one, err := build([]Record{number(1)}, nil, 1000, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if n := batchesOfFour(t, len(one)+8); n != 4 {
		t.Errorf("%d batches where one takes one record", n)
	}
}

// TestSharesABatch: records of callers who wait at the same time share a batch.
func TestSharesABatch(t *testing.T) {
	if n := batchesOfFour(t, 1<<20); n != 1 {
		t.Errorf("%d batches", n)
	}
}

// batchesOfFour has four callers add at once, and returns how many batches that made.
func batchesOfFour(t *testing.T, limit int) int {
	t.Helper()
	log := &memoryLog{auto: true, limit: limit}
	l := startCounter(t, log)
	held, hold := make(chan struct{}), make(chan struct{})
	done := make(chan error, 4)
	go func() {
		_, err := Ask[bool](context.Background(), l, true, func(c *counter, call Call) Effects {
			close(held)
			<-hold
			return add(1)(c, call)
		})
		done <- err
	}()
	<-held
	for range 3 {
		go func() { done <- askAdd(l, true, 1) }()
	}
	eventually(t, func() error {
		if n := len(l.calls); n < 3 {
			return fmt.Errorf("%d calls are queued", n)
		}
		return nil
	})
	close(hold)
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := total(t, l); got != 4 {
		t.Errorf("total %d, not 4", got)
	}
	return len(log.batches)
}

// TestManyTombstones: what there is to forget is forgotten, however much it is.
func TestManyTombstones(t *testing.T) {
	log := &memoryLog{auto: true, limit: 1000}
	if _, err := Ask[bool](context.Background(), startForgetful(t, log), false, func(_ forgetful, call Call) Effects {
		e := Effects{Replies: []Reply{{call.To, true}}}
		for range 200 {
			e.Records = append(e.Records, Record{Key: []byte("a key")})
		}
		return e
	}); err != nil {
		t.Error(err)
	}
}

// forgetful is a machine without state.
type forgetful struct{}

func (forgetful) Replay(Entry) error         { return nil }
func (forgetful) EndTransaction(int64, bool) {}
func (forgetful) Loaded(time.Time) Effects   { return Effects{} }
func (forgetful) Next() time.Time            { return time.Time{} }
func (forgetful) Tick(Call) Effects          { return Effects{} }

func startForgetful(t *testing.T, log *memoryLog) *Loop[forgetful] {
	l := Start(func() forgetful { return forgetful{} }, nil, Log(log), 1, zerolog.Nop())
	t.Cleanup(l.Stop)
	return l
}

func TestLoadingAndStopping(t *testing.T) {
	log := &memoryLog{auto: true, block: make(chan struct{})}
	l := startCounter(t, log)
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
	l := startCounter(t, &memoryLog{auto: true})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ticks, err := Ask[chan time.Time](ctx, l, false, func(c *counter, call Call) Effects {
		c.next = call.Now.Add(20 * time.Millisecond)
		return Effects{Replies: []Reply{{call.To, c.ticks}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-ticks:
	case <-ctx.Done():
		t.Fatal("no tick")
	}
}
