// Package runtime runs coordinators: state machines whose state is the records of one partition of an
// internal topic. One goroutine, the loop, owns each machine; it appends the machine's records and gives
// its answers when they are committed (Kafka's coordinator-common).
package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/wire/defect"
	"kraft/wire/record"
)

// Record is one record of the internal topic. A nil Value is a tombstone.
type Record struct{ Key, Value []byte }

// Token names a caller who waits for a reply. Zero is nobody.
type Token uint64

// Reply answers the caller that To names.
type Reply struct {
	To       Token
	Response any
}

// Effects are what a machine wants done. They are carried out in the order in which the machine asked.
type Effects struct {
	// Records are appended together or not at all.
	Records []Record
	// Apply changes the machine's state once Records are appended, before anything else runs.
	Apply func()
	// Replies leave when Records, and all that was appended before, are committed. If appending fails
	// they are dropped: Done answers instead.
	Replies []Reply
	// Done is called when Records are committed, or with why they could not be appended: an error that
	// wraps a kerr error.
	Done func(now time.Time, err error) Effects
}

// Add joins what other asks for to e; neither may have records unless the other has none.
func (e *Effects) Add(other Effects) {
	e.Replies = append(e.Replies, other.Replies...)
	if len(other.Records) > 0 || other.Done != nil || other.Apply != nil {
		if len(e.Records) > 0 || e.Done != nil || e.Apply != nil {
			panic("runtime: effects with records joined")
		}
		e.Records, e.Apply, e.Done = other.Records, other.Apply, other.Done
	}
}

// Machine is a coordinator's state. It knows no I/O, no clock and no goroutine: all methods are called
// by its loop.
type Machine interface {
	// Replay applies a record while the partition is loaded. Records of kinds it does not know are to be
	// passed over.
	Replay(key, value []byte) error
	// Loaded ends loading.
	Loaded(now time.Time)
	// Next is when Tick wants to be called; zero for never.
	Next() time.Time
	// Tick does what has fallen due.
	Tick(now time.Time) Effects
}

// Log is the partition that a loop appends to.
type Log interface {
	// Append appends a batch as the leader of epoch and returns the offset behind it.
	Append(batch record.Batch, epoch int32, now time.Time) (end int64, err error)
	// MaxBatch is how many bytes a batch may have that holds anything but tombstones (max.message.bytes).
	MaxBatch() int
	// ReadAll calls each with every batch up to the end of the log.
	ReadAll(each func(record.Batch) error) error
	// HighWatermark is the offset below which records are committed.
	HighWatermark() int64
	// WatchHighWatermark sends to ch, without waiting, whenever the high watermark moves, until stop.
	WatchHighWatermark(ch chan<- struct{}) (stop func())
}

const (
	callBacklog = 256
	// batchBytes ends a batch that gathers several callers' records.
	batchBytes = 256 << 10
	// loadPatience is how long a caller waits for a partition that is being loaded before it is told to
	// try again: most loads are shorter than a client's back-off.
	loadPatience = 300 * time.Millisecond
)

// Loop runs one machine of type M on its own goroutine.
type Loop[M Machine] struct {
	machine M
	log     Log
	epoch   int32
	logger  zerolog.Logger

	calls  chan call[M]
	stop   chan struct{}
	loaded chan struct{}
	done   chan struct{}
	once   sync.Once

	// Of the goroutine.
	next        Token
	waiting     map[Token]chan<- any
	uncommitted []uncommitted
}

type call[M Machine] struct {
	op    func(M, time.Time, Token) Effects
	joins bool // its records may share a batch with other such calls'
	reply chan<- any
}

type uncommitted struct {
	end     int64
	effects []Effects
}

// Start begins a loop that loads the partition led in the given leader epoch and then serves.
func Start[M Machine](machine M, log Log, epoch int32, logger zerolog.Logger) *Loop[M] {
	l := &Loop[M]{machine: machine, log: log, epoch: epoch, logger: logger,
		calls: make(chan call[M], callBacklog), stop: make(chan struct{}), loaded: make(chan struct{}), done: make(chan struct{}),
		waiting: map[Token]chan<- any{}}
	go l.run()
	return l
}

// Stop ends the loop and waits for it; callers get kerr.NotCoordinator.
func (l *Loop[M]) Stop() {
	l.once.Do(func() { close(l.stop) })
	<-l.done
}

// Ask runs op on the loop's goroutine and returns the reply to its token, of type R. joins lets records
// of consecutive such calls share a batch: only for ops that do not look at what they change. It returns
// kerr.NotCoordinator when the partition is lost and kerr.CoordinatorLoadInProgress while it loads. Any
// goroutine may call it.
func Ask[R any, M Machine](ctx context.Context, l *Loop[M], joins bool, op func(M, time.Time, Token) Effects) (R, error) {
	var none R
	select {
	case <-l.loaded:
	default:
		patience := time.NewTimer(loadPatience)
		defer patience.Stop()
		select {
		case <-l.loaded:
		case <-patience.C:
			return none, kerr.CoordinatorLoadInProgress
		case <-l.done:
			return none, kerr.NotCoordinator
		case <-ctx.Done():
			return none, ctx.Err()
		}
	}
	reply := make(chan any, 1)
	select {
	case l.calls <- call[M]{op, joins, reply}:
	case <-l.done:
		return none, kerr.NotCoordinator
	case <-ctx.Done():
		return none, ctx.Err()
	}
	select {
	case r := <-reply:
		return r.(R), nil
	case <-l.done:
		select {
		case r := <-reply:
			return r.(R), nil
		default:
			return none, kerr.NotCoordinator
		}
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

func (l *Loop[M]) run() {
	defer close(l.done)
	if err := defect.Contain("coordinator", l.load); err != nil {
		if !errors.Is(err, errStopped) {
			defect.Tell(&l.logger, err).Msg("coordinator cannot load its partition: its groups are unavailable")
		}
		return
	}
	if err := defect.Contain("coordinator", l.work); err != nil {
		defect.Tell(&l.logger, err).Msg("coordinator has stopped: its groups are unavailable until another broker leads its partition, or this one starts again")
	}
}

// work serves until Stop.
func (l *Loop[M]) work() error {
	moved := make(chan struct{}, 1)
	unwatch := l.log.WatchHighWatermark(moved)
	defer unwatch()
	close(l.loaded)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if next := l.machine.Next(); next.IsZero() {
			timer.Reset(time.Hour)
		} else {
			timer.Reset(max(0, time.Until(next)))
		}
		select {
		case <-l.stop:
			return nil
		case c := <-l.calls:
			l.serve(c)
		case <-moved:
			l.release()
		case <-timer.C:
			now := time.Now()
			if next := l.machine.Next(); !next.IsZero() && !now.Before(next) {
				l.carryOut(l.machine.Tick(now))
			}
		}
	}
}

var errStopped = errors.New("stopped")

func (l *Loop[M]) load() error {
	start := time.Now()
	n := 0
	err := l.log.ReadAll(func(b record.Batch) error {
		select {
		case <-l.stop:
			return errStopped
		default:
		}
		if b.IsControl() {
			return nil
		}
		records, err := b.Records(record.MaxRecordsBytes)
		if err != nil {
			return err
		}
		for i := range records {
			n++
			if err := l.machine.Replay(records[i].Key, records[i].Value); err != nil {
				return fmt.Errorf("record at offset %d: %w", records[i].Offset, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	l.machine.Loaded(time.Now())
	if n > 0 {
		l.logger.Debug().Int("records", n).Dur("took", time.Since(start)).Msg("coordinator loaded")
	}
	return nil
}

// serve runs c, and gathers other calls that may share its batch.
func (l *Loop[M]) serve(c call[M]) {
	var batch []Effects
	size := 0
	for {
		now := time.Now()
		if !c.joins && len(batch) > 0 {
			l.carryOut(batch...)
			batch, size = nil, 0
		}
		l.next++
		l.waiting[l.next] = c.reply
		e := c.op(l.machine, now, l.next)
		if !c.joins {
			l.carryOut(e)
			return
		}
		batch = append(batch, e)
		for _, r := range e.Records {
			size += len(r.Key) + len(r.Value)
		}
		if size >= batchBytes {
			break
		}
		select {
		case c = <-l.calls:
			continue
		default:
		}
		break
	}
	l.carryOut(batch...)
}

// carryOut appends the records of all effects in one batch and sees to the rest.
func (l *Loop[M]) carryOut(effects ...Effects) {
	now := time.Now()
	var b *record.Builder
	values := false
	for _, e := range effects {
		for _, r := range e.Records {
			values = values || r.Value != nil
			if b == nil {
				b = record.NewBuilder(record.None)
			}
			b.Add(&record.Record{Timestamp: now.UnixMilli(), Key: r.Key, Value: r.Value})
		}
	}
	end := int64(-1)
	if b != nil {
		var err error
		if end, err = l.append(b, values, now); errors.Is(err, kerr.MessageTooLarge) && len(effects) > 1 {
			for _, e := range effects { // one of them is too large, or all together are
				l.carryOut(e)
			}
			return
		}
		if err != nil {
			l.fail(effects, now, err)
			return
		}
		for _, e := range effects {
			if e.Apply != nil {
				e.Apply()
			}
		}
	}
	l.settle(effects, end, now)
}

// settle finishes effects once everything below end, and everything that was appended earlier, is committed: an answer must
// not depend on records that may still be lost. An end of -1 is that of effects without records.
func (l *Loop[M]) settle(effects []Effects, end int64, now time.Time) {
	if n := len(l.uncommitted); n > 0 {
		end = max(end, l.uncommitted[n-1].end)
	}
	if end > l.log.HighWatermark() || len(l.uncommitted) > 0 {
		l.uncommitted = append(l.uncommitted, uncommitted{end, effects})
		l.release()
		return
	}
	l.finish(effects, now)
}

// append appends a batch; values says that not all of its records are tombstones. Those are as many as there is to forget.
func (l *Loop[M]) append(b *record.Builder, values bool, now time.Time) (int64, error) {
	batch, err := b.Build()
	if err != nil {
		return 0, err
	}
	if limit := l.log.MaxBatch(); values && len(batch) > limit {
		return 0, fmt.Errorf("records of %d bytes, max.message.bytes is %d: %w", len(batch), limit, kerr.MessageTooLarge)
	}
	return l.log.Append(batch, l.epoch, now)
}

func (l *Loop[M]) finish(effects []Effects, now time.Time) {
	for _, e := range effects {
		l.reply(e.Replies)
		if e.Done != nil {
			l.carryOut(e.Done(now, nil))
		}
	}
}

func (l *Loop[M]) fail(effects []Effects, now time.Time, err error) {
	for _, e := range effects {
		if len(e.Records) == 0 {
			l.settle([]Effects{e}, -1, now)
			continue
		}
		if e.Done != nil {
			l.carryOut(e.Done(now, err))
		}
	}
}

// release gives the answers whose records have been committed meanwhile.
func (l *Loop[M]) release() {
	high := l.log.HighWatermark()
	for len(l.uncommitted) > 0 && l.uncommitted[0].end <= high {
		u := l.uncommitted[0]
		l.uncommitted = l.uncommitted[1:]
		l.finish(u.effects, time.Now())
	}
}

func (l *Loop[M]) reply(replies []Reply) {
	for _, r := range replies {
		if ch := l.waiting[r.To]; ch != nil {
			delete(l.waiting, r.To)
			ch <- r.Response
		}
	}
}
