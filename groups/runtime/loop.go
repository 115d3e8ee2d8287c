// Package runtime runs coordinators: state machines whose state is the records of one partition of an internal topic. One goroutine, the
// loop, owns each machine. It appends the machine's records, replays them, and gives its answers when they are committed (Kafka's
// coordinator-common).
//
// To read it, begin with Machine, then Loop, then Host, which has the loops of a topic.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/storage"
	"kraft/wire/defect"
	"kraft/wire/locks"
	"kraft/wire/record"
)

const (
	callBacklog = 256
	// batchBytes ends a batch that gathers several callers' records.
	batchBytes = 256 << 10
	// loadPatience is how long a caller waits for a partition that is being loaded before it gets COORDINATOR_LOAD_IN_PROGRESS. Most
	// loads are shorter than a client's back-off.
	loadPatience = 300 * time.Millisecond
	// After a failed append or sync nothing is appended for failurePause, after the next one for twice as long, and so on up to
	// longestPause, so that a partition that takes nothing is not loaded again and again.
	failurePause = 200 * time.Millisecond
	longestPause = 10 * time.Second
	// heldAfter is how long replies wait for a commit before clients can't be expected to send anything else.
	heldAfter = time.Second
)

// Loop runs one machine of type M on its own goroutine.
type Loop[M Machine] struct {
	create func() M
	emit   func(event any) // called by the loop's goroutine; it must not block
	log    Log
	epoch  int32
	logger zerolog.Logger

	calls chan call[M]
	stop  chan struct{}
	done  chan struct{}
	once  sync.Once
	ready atomic.Pointer[chan struct{}] // closed once the partition is loaded
	lost  atomic.Bool                   // it could not be loaded the last time

	mu     locks.Mutex             // guards queued
	queued []func(M, Call) Effects // by Tell
	wake   chan struct{}           // holds a value if queued may not be empty
	syncer *syncer                 // nil if the log needs none

	// Of the goroutine.
	machine     M
	next        Token
	waiting     map[Token]chan<- any
	uncommitted []uncommitted
	loadedTo    int64 // end of the log when it was loaded
	failed      error // of the newest append or sync that failed
	failedAt    time.Time
	pause       time.Duration // after the next failure
}

type call[M Machine] struct {
	op    func(M, Call) Effects
	joins bool // its records may share a batch with other such calls'
	reply chan<- any
}

type uncommitted struct {
	end     int64
	replies []Reply
	events  []any
	at      time.Time
}

// refusal is the reply to a caller whose records could not be appended, or who waited in a machine that was dropped.
type refusal struct{ err error }

// Start begins a loop that loads the partition led in the given leader epoch into a machine that create makes, and then serves. emit gets the
// machine's events, on the loop's goroutine, and must not block.
func Start[M Machine](create func() M, emit func(event any), log Log, epoch int32, logger zerolog.Logger) *Loop[M] {
	l := &Loop[M]{create: create, emit: emit, log: log, epoch: epoch, logger: logger,
		calls: make(chan call[M], callBacklog), stop: make(chan struct{}), done: make(chan struct{}), wake: make(chan struct{}, 1),
		waiting: map[Token]chan<- any{}, pause: failurePause}
	l.loading()
	if log.Syncs() {
		l.syncer = startSyncer(log)
	}
	go l.run()
	return l
}

// loading makes callers wait until the next load is done.
func (l *Loop[M]) loading() {
	ready := make(chan struct{})
	l.ready.Store(&ready)
}

// Stop ends the loop and waits for it; callers get kerr.NotCoordinator. Any goroutine but the loop's may call it.
func (l *Loop[M]) Stop() {
	l.once.Do(func() { close(l.stop) })
	<-l.done
}

// Ask runs op on the loop's goroutine and returns the reply to its token, of type R. If joins is set, records of consecutive calls may
// share a batch: op must not read what it changes, since earlier records may not be replayed yet. It returns kerr.NotCoordinator when the
// partition is lost, kerr.CoordinatorLoadInProgress while it loads, and why an append failed. Any goroutine may call it.
func Ask[R any, M Machine](ctx context.Context, l *Loop[M], joins bool, op func(M, Call) Effects) (R, error) {
	var none R
	ready := *l.ready.Load()
	select {
	case <-ready:
	default:
		if l.lost.Load() {
			return none, kerr.NotCoordinator
		}
		patience := time.NewTimer(loadPatience)
		defer patience.Stop()
		select {
		case <-ready:
		case <-patience.C:
			if l.lost.Load() {
				return none, kerr.NotCoordinator
			}
			return none, kerr.CoordinatorLoadInProgress
		case <-l.done:
			return none, kerr.NotCoordinator
		case <-ctx.Done():
			return none, ctx.Err()
		}
	}
	reply := make(chan any, 1)
	answer := func(r any) (R, error) {
		if refused, ok := r.(refusal); ok {
			return none, refused.err
		}
		return r.(R), nil
	}
	select {
	case l.calls <- call[M]{op, joins, reply}:
	case <-l.done:
		return none, kerr.NotCoordinator
	case <-ctx.Done():
		return none, ctx.Err()
	}
	select {
	case r := <-reply:
		return answer(r)
	case <-l.done:
		select {
		case r := <-reply:
			return answer(r)
		default:
			return none, kerr.NotCoordinator
		}
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// Tell queues op, which runs once the partition is loaded, after the ops that are queued already and before later calls of Ask. Nobody
// waits for its effects. Any goroutine may call it; it does not block.
func (l *Loop[M]) Tell(op func(M, Call) Effects) {
	select {
	case <-l.done:
		return
	default:
	}
	l.mu.Lock()
	l.queued = append(l.queued, op)
	l.mu.Unlock()
	l.signal()
}

// signal has the loop look at queued.
func (l *Loop[M]) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// errDropped is why a machine is dropped: records that it asked for are not in the log.
type errDropped struct{ cause error }

func (e errDropped) Error() string { return e.cause.Error() }
func (e errDropped) Unwrap() error { return e.cause }

func (l *Loop[M]) run() {
	defer close(l.done)
	if l.syncer != nil {
		defer close(l.syncer.stop)
	}
	pause, said := failurePause, ""
	for {
		if err := defect.Contain("coordinator", l.load); err != nil {
			if errors.Is(err, errStopped) {
				return
			}
			if why := err.Error(); why != said {
				said = why
				defect.Tell(&l.logger, err).Msg("coordinator cannot load its partition: its groups are unavailable; it tries again")
			}
			l.lost.Store(true)
			l.refuseAll(kerr.NotCoordinator)
			if !l.rest(pause) {
				return
			}
			pause = min(2*pause, longestPause)
			continue
		}
		l.lost.Store(false)
		pause, said = failurePause, ""
		err := defect.Contain("coordinator", l.work)
		var dropped errDropped
		if !errors.As(err, &dropped) {
			if err != nil {
				defect.Tell(&l.logger, err).Msg("coordinator has stopped: its groups are unavailable until another broker leads its partition, or this one starts again")
			}
			return
		}
		l.loading()
		l.refuseAll(dropped.cause)
		for i := range l.uncommitted {
			l.uncommitted[i].events = nil // the machine that is loaded emits those that still matter
		}
		if errors.Is(dropped, kerr.NotCoordinator) {
			// Probably another broker leads, or the disk has failed, and Stop comes soon. A full disk gives this error, too.
			if !l.rest(l.pause) {
				return
			}
			continue
		}
		l.logger.Warn().Err(dropped.cause).Msg("coordinator's records cannot be appended: it loads its partition again")
	}
}

// rest waits, and reports false if the loop is to stop.
func (l *Loop[M]) rest(d time.Duration) bool {
	select {
	case <-l.stop:
		return false
	case <-time.After(d):
		return true
	}
}

// work serves until Stop.
func (l *Loop[M]) work() error {
	moved := make(chan struct{}, 1)
	unwatch := l.log.WatchHighWatermark(moved)
	defer unwatch()
	var failedSyncs <-chan error
	if l.syncer != nil {
		failedSyncs = l.syncer.failed
	}
	l.failedAt = time.Now()                 // loading may have taken longer than the pause
	if l.loadedTo > l.log.HighWatermark() { // what was loaded may yet be lost
		l.uncommitted = append(l.uncommitted, uncommitted{end: l.loadedTo, at: l.failedAt})
	}
	if err := l.carryOut(l.failedAt, l.machine.Loaded(l.failedAt)); err != nil {
		return err
	}
	close(*l.ready.Load())
	l.release() // replies kept over a reload
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if next := l.machine.Next(); next.IsZero() {
			timer.Reset(time.Hour)
		} else {
			timer.Reset(max(0, time.Until(next)))
		}
		var err error
		select {
		case <-l.stop:
			return nil
		case c := <-l.calls:
			err = l.serve(c)
		case <-l.wake:
			err = l.runQueued()
		case <-moved:
			l.release()
		case err := <-failedSyncs:
			l.unsynced(err)
		case <-timer.C:
			now := time.Now()
			if next := l.machine.Next(); !next.IsZero() && !now.Before(next) {
				err = l.carryOut(now, l.machine.Tick(l.call(now, 0)))
			}
		}
		if err != nil {
			return err
		}
	}
}

func (l *Loop[M]) call(now time.Time, to Token) Call {
	held := len(l.uncommitted) > 0 && now.Sub(l.uncommitted[0].at) > heldAfter
	return Call{Now: now, To: to, Held: held, Check: l.check}
}

// check is Call.Check.
func (l *Loop[M]) check(records []Record) error {
	if len(records) == 0 {
		return nil
	}
	if l.failed != nil && time.Since(l.failedAt) < l.pause {
		return l.failed
	}
	if err := l.log.Takes(l.epoch); err != nil {
		return forClients(err)
	}
	return forClients(fits(records, l.log.MaxBatch()))
}

var errStopped = errors.New("stopped")

// load replays the log into a new machine.
func (l *Loop[M]) load() error {
	start := time.Now()
	n := 0
	l.machine, l.loadedTo = l.create(), 0
	err := l.log.ReadAll(func(b record.Batch) error {
		select {
		case <-l.stop:
			return errStopped
		default:
		}
		l.loadedTo = b.LastOffset() + 1
		if b.IsControl() {
			if kind, _, ok := b.Marker(); ok {
				l.machine.EndTransaction(b.ProducerID(), kind == record.Commit)
			}
			return nil
		}
		records, err := b.Records(record.MaxRecordsBytes)
		if err != nil {
			return err
		}
		e := Entry{ProducerID: -1}
		if b.IsTransactional() {
			e.ProducerID, e.ProducerEpoch = b.ProducerID(), b.ProducerEpoch()
		}
		for i := range records {
			n++
			e.Record, e.Offset = Record{records[i].Key, records[i].Value}, records[i].Offset
			if err := l.machine.Replay(e); err != nil {
				return fmt.Errorf("record at offset %d: %w", e.Offset, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if n > 0 {
		l.logger.Debug().Int("records", n).Dur("took", time.Since(start)).Msg("coordinator loaded")
	}
	return nil
}

// serve runs c, and gathers other calls that may share its batch. Ops that Tell has queued run first.
func (l *Loop[M]) serve(c call[M]) error {
	var gathered Effects
	size := 0
	flush := func() error {
		e := gathered
		gathered, size = Effects{}, 0
		return l.carryOut(time.Now(), e)
	}
	for {
		l.next++
		l.waiting[l.next] = c.reply
		woken := false
		select {
		case <-l.wake:
			woken = true
		default:
		}
		if woken || !c.joins {
			if err := flush(); err != nil {
				return err
			}
		}
		if woken {
			if err := l.runQueued(); err != nil {
				return err
			}
		}
		now := time.Now()
		e := c.op(l.machine, l.call(now, l.next))
		if !c.joins {
			return l.carryOut(now, e)
		}
		more := atMost(e.Records)
		if record.HeaderSize+size+more > l.log.MaxBatch() {
			if err := flush(); err != nil {
				return err
			}
		}
		gathered.Add(e)
		size += more
		if size >= batchBytes {
			return flush()
		}
		select {
		case c = <-l.calls:
			continue
		default:
		}
		return flush()
	}
}

// runQueued runs the ops that Tell has queued.
func (l *Loop[M]) runQueued() error {
	l.mu.Lock()
	queued := l.queued
	l.queued = nil
	l.mu.Unlock()
	for i, op := range queued {
		now := time.Now()
		if err := l.carryOut(now, op(l.machine, l.call(now, 0))); err != nil {
			l.mu.Lock()
			l.queued = append(queued[i:], l.queued...)
			l.mu.Unlock()
			l.signal()
			return err
		}
	}
	return nil
}

// carryOut appends and replays the records. The replies leave once these, and everything that was appended earlier, are committed: an
// answer must not depend on records that may still be lost. If it returns an errDropped, the machine must be dropped: its soft state
// assumes records that are not in the log.
func (l *Loop[M]) carryOut(now time.Time, e Effects) error {
	if len(e.Records)+len(e.Replies)+len(e.Events) == 0 && e.Marker == nil {
		return nil
	}
	end := int64(-1)
	switch {
	case e.Marker != nil:
		var err error
		if end, err = l.log.AppendMarker(*e.Marker, l.epoch, now); err != nil {
			l.refuse(err, e.Replies) // no state depends on it, and its coordinator sends it again
			return nil
		}
		l.sync(end)
		l.machine.EndTransaction(e.Marker.ProducerID, e.Marker.Commit)
	case len(e.Records) > 0:
		var err error
		if end, err = l.append(e, now); err != nil {
			return l.refused(err, e.Replies)
		}
		entry := Entry{ProducerID: -1}
		if e.Producer != nil {
			entry.ProducerID, entry.ProducerEpoch = e.Producer.ID, e.Producer.Epoch
		}
		first := end - int64(len(e.Records))
		for i, r := range e.Records {
			entry.Record, entry.Offset = r, first+int64(i)
			if err := l.machine.Replay(entry); err != nil {
				return fmt.Errorf("own record at offset %d: %w", entry.Offset, err)
			}
		}
	}
	if n := len(l.uncommitted); n > 0 {
		end = max(end, l.uncommitted[n-1].end)
	}
	if end > l.log.HighWatermark() || len(l.uncommitted) > 0 {
		l.uncommitted = append(l.uncommitted, uncommitted{end, e.Replies, e.Events, now})
		l.release()
		return nil
	}
	if len(e.Records) > 0 || e.Marker != nil {
		l.succeeded()
	}
	l.reply(e.Replies, e.Events)
	return nil
}

// refused answers callers whose records were not appended. If the log rejected their producer, the machine stays; any other error drops it.
func (l *Loop[M]) refused(err error, replies []Reply) error {
	if errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.InvalidTxnState) {
		l.refuse(err, replies)
		return nil
	}
	l.fail(err)
	return errDropped{l.failed}
}

// refuse gives err to the callers of replies.
func (l *Loop[M]) refuse(err error, replies []Reply) {
	for _, r := range replies {
		l.answer(r.To, refusal{err})
	}
}

func (l *Loop[M]) append(e Effects, now time.Time) (end int64, err error) {
	batch, err := build(e.Records, e.Producer, l.log.MaxBatch(), now)
	if err != nil {
		return 0, err
	}
	var guard *storage.Guard
	if e.Producer != nil {
		guard = e.Producer.Guard
	}
	if end, err = l.log.Append(batch, guard, l.epoch, now); err == nil {
		l.sync(end)
	}
	return end, err
}

// sync has what is below end written to disk, where the log needs it.
func (l *Loop[M]) sync(end int64) {
	if l.syncer != nil {
		l.syncer.to(end)
	}
}

// fail has nothing be appended for a while.
func (l *Loop[M]) fail(err error) {
	if l.failed != nil {
		l.pause = min(2*l.pause, longestPause)
	}
	l.failed, l.failedAt = forClients(err), time.Now()
}

// succeeded says that records have been committed.
func (l *Loop[M]) succeeded() { l.failed, l.pause = nil, failurePause }

// unsynced gives a sync's error to all who wait for a commit: the next sync may fail, too. The machine stays, since its records are in the
// log.
func (l *Loop[M]) unsynced(err error) {
	if l.failed == nil {
		l.logger.Warn().Err(err).Msg("coordinator's records cannot be written to disk: it tries again")
	}
	l.fail(err)
	for i := range l.uncommitted {
		for _, r := range l.uncommitted[i].replies {
			l.answer(r.To, refusal{l.failed})
		}
		l.uncommitted[i].replies = nil
	}
}

// release gives the answers whose records have been committed meanwhile.
func (l *Loop[M]) release() {
	high := l.log.HighWatermark()
	for len(l.uncommitted) > 0 && l.uncommitted[0].end <= high {
		u := l.uncommitted[0]
		l.uncommitted = l.uncommitted[1:]
		l.reply(u.replies, u.events)
		l.succeeded()
	}
}

func (l *Loop[M]) reply(replies []Reply, events []any) {
	for _, r := range replies {
		l.answer(r.To, r.Response)
	}
	for _, e := range events {
		l.emit(e)
	}
}

func (l *Loop[M]) answer(to Token, response any) {
	if ch := l.waiting[to]; ch != nil {
		delete(l.waiting, to)
		ch <- response
	}
}

// refuseAll gives err to all callers, except those whose replies wait until records are committed.
func (l *Loop[M]) refuseAll(err error) {
	for queued := true; queued; {
		select {
		case c := <-l.calls:
			c.reply <- refusal{err}
		default:
			queued = false
		}
	}
	answered := map[Token]bool{}
	for _, u := range l.uncommitted {
		for _, r := range u.replies {
			answered[r.To] = true
		}
	}
	for to := range l.waiting {
		if !answered[to] {
			l.answer(to, refusal{err})
		}
	}
}
