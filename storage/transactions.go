package storage

import (
	"cmp"
	"container/list"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/storage/logfile"
	"kraft/wire/record"
)

// transaction is one producer's transaction in one partition.
type transaction struct {
	producerID int64
	first      int64 // offset of its first record
	last       int64 // offset of its marker, -1 while it is open
	aborted    bool
}

// undecided holds the transactions that hold back the last stable offset: open ones, and ended ones whose markers lie at or above the high
// watermark. The first of them costs the same to find, to add and to remove whatever their number. Guarded by the log's mutex.
type undecided struct {
	byFirst list.List       // of *transaction
	ended   []*list.Element // by the offset of the marker
}

// begin adds a transaction whose first record is at offset, behind all others.
func (u *undecided) begin(producerID, offset int64) *list.Element {
	return u.byFirst.PushBack(&transaction{producerID: producerID, first: offset, last: -1})
}

// end notes the marker of an open transaction.
func (u *undecided) end(e *list.Element, marker int64, aborted bool) *transaction {
	t := e.Value.(*transaction)
	t.last, t.aborted = marker, aborted
	u.ended = append(u.ended, e)
	return t
}

// replicated removes ended transactions whose markers lie below the high watermark.
func (u *undecided) replicated(high int64) {
	for len(u.ended) > 0 && u.ended[0].Value.(*transaction).last < high {
		u.byFirst.Remove(u.ended[0])
		u.ended = u.ended[1:]
	}
}

// first is the first offset of the earliest transaction, -1 without any.
func (u *undecided) first() int64 {
	if e := u.byFirst.Front(); e != nil {
		return e.Value.(*transaction).first
	}
	return -1
}

// firstOpen is the first offset of the earliest open transaction, -1 if none is open.
func (u *undecided) firstOpen() int64 {
	for e := u.byFirst.Front(); e != nil; e = e.Next() {
		if t := e.Value.(*transaction); t.last < 0 {
			return t.first
		}
	}
	return -1
}

// reopen fills u with the open transactions of producers that come from a snapshot.
func (p *producerStates) reopen(firsts map[int64]int64) {
	ids := make([]int64, 0, len(firsts))
	for id := range firsts {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b int64) int { return cmp.Compare(firsts[a], firsts[b]) })
	for _, id := range ids {
		p.byID[id].open = p.undecided.begin(id, firsts[id])
	}
}

// Guard shows that a producer's transaction was verified before its first batch in a partition is appended (Kafka's VerificationGuard,
// KIP-890). A log has one for each producer at a time; a marker or a batch of the transaction ends it. Log.Guard makes it.
type Guard struct {
	epoch  int16
	lowest int32 // sequence of the batches that were verified with it
	adds   bool  // the producer's partitions are added by its Produce requests (transaction.version 2): its first sequence is 0
	since  time.Time
}

// Unguarded stands for a guard where transactions are not verified (transaction.partition.verification.enable=false).
var Unguarded = new(Guard)

// Guard returns what an append of a transactional batch of a producer's id and epoch needs if it may begin a transaction in this partition,
// nil if that transaction is open here. The caller asks the transaction's coordinator before it appends with the guard. sequence is the
// batch's first. adds says that the request adds the partition to the transaction. An epoch below the newest one of the producer gives
// kerr.InvalidProducerEpoch. Any goroutine may call it.
func (l *Log) Guard(id int64, epoch int16, sequence int32, adds bool, now time.Time) (*Guard, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.gone(); err != nil {
		return nil, err
	}
	p := l.producers
	if e := p.byID[id]; e != nil {
		if e.open != nil && e.epoch == epoch {
			return nil, nil
		}
		if epoch < e.epoch {
			return nil, fmt.Errorf("%v: %w", l.tp, p.fenced(id, epoch, e.epoch))
		}
	}
	g := p.guards[id]
	if g == nil {
		if p.guards == nil {
			p.guards = map[int64]*Guard{}
		}
		g = &Guard{epoch: epoch, lowest: sequence, adds: adds}
		p.guards[id] = g
	}
	g.since = now
	switch {
	case g.epoch < epoch:
		g.epoch, g.lowest, g.adds = epoch, sequence, adds
	case g.epoch == epoch:
		g.lowest = min(g.lowest, sequence)
	}
	return g, nil
}

func (p *producerStates) fenced(id int64, epoch, seen int16) error {
	return fmt.Errorf("producer %d has epoch %d, and the partition has seen %d: %w", id, epoch, seen, kerr.InvalidProducerEpoch)
}

// Marker ends a transaction in a partition.
type Marker struct {
	ProducerID       int64
	Epoch            int16 // of the producer: that of its batches, or one more in transaction.version 2
	Commit           bool
	CoordinatorEpoch int32
	Version          int16 // transaction.version that the producer's client used
}

// batch encodes m as Kafka does.
func (m Marker) batch(now time.Time) (record.Batch, error) {
	kind := int16(record.Abort)
	if m.Commit {
		kind = record.Commit
	}
	return record.NewMarker(m.ProducerID, m.Epoch, kind, m.CoordinatorEpoch, now.UnixMilli())
}

// noEpoch is the epoch of batches without producer.
const noEpoch = -1

// maxEpoch is the last epoch of a producer id, which only coordinators use, to fence.
const maxEpoch = 1<<15 - 1

// checkMarker judges a marker as Kafka's ProducerAppendInfo does. A marker of transaction.version 2 has a newer epoch than its
// transaction. The epoch is that of the partition only where the coordinator sends the marker again, or could not raise it.
func (p *producerStates) checkMarker(m Marker) error {
	e := p.byID[m.ProducerID]
	switch {
	case m.Epoch == noEpoch || m.ProducerID < 0:
		return fmt.Errorf("producer %d with epoch %d: %w", m.ProducerID, m.Epoch, kerr.UnknownServerError) // Kafka's answer
	case m.Epoch < noEpoch:
		return p.fenced(m.ProducerID, m.Epoch, noEpoch)
	case e != nil && (m.Epoch < e.epoch || m.Version >= 2 && m.Epoch == e.epoch && m.Epoch != maxEpoch && e.open != nil):
		return p.fenced(m.ProducerID, m.Epoch, e.epoch)
	case e != nil && m.CoordinatorEpoch < e.coordinatorEpoch:
		return fmt.Errorf("coordinator epoch %d, and the partition has seen %d: %w", m.CoordinatorEpoch, e.coordinatorEpoch, kerr.TransactionCoordinatorFenced)
	}
	return nil
}

// AppendMarkers appends markers of different producers as the leader of the given epoch, in one write. errs has the error of each, which
// wraps kerr.InvalidProducerEpoch or kerr.TransactionCoordinatorFenced if a marker was refused, nil if it was appended. Any goroutine may
// call it.
func (l *Log) AppendMarkers(markers []Marker, leaderEpoch int32, now time.Time) (a Appended, errs []error, err error) {
	if err := l.space.refuses(true); err != nil {
		return a, nil, fmt.Errorf("%v: %w", l.tp, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.takes(); err != nil {
		return a, nil, err
	}
	errs = make([]error, len(markers))
	var batches []record.Batch
	var appended []Marker
	for i, m := range markers {
		if err := l.producers.checkMarker(m); err != nil {
			errs[i] = fmt.Errorf("%v: marker: %w", l.tp, err)
			continue
		}
		b, err := m.batch(now)
		if err != nil {
			return a, nil, err
		}
		batches, appended = append(batches, b), append(appended, m)
	}
	a = Appended{First: l.EndOffset(), Last: l.EndOffset() - 1, LogAppendTime: record.NoTimestamp}
	if len(batches) == 0 {
		return a, errs, nil
	}
	a, err = l.place(join(batches), batches, leaderEpoch, a.LogAppendTime, now)
	if err != nil {
		return a, nil, err
	}
	for _, m := range appended {
		if g := l.producers.guards[m.ProducerID]; g != nil && (m.Version < 2 || g.epoch < m.Epoch) {
			delete(l.producers.guards, m.ProducerID) // in version 2 a guard with the marker's epoch belongs to the next transaction and stays
		}
	}
	return a, errs, nil
}

// LastStableOffset is the offset below which no transaction is open (KIP-98): what read_committed
// consumers may see. Any goroutine may call it.
func (l *Log) LastStableOffset() int64 {
	high := l.high.Load()
	if first := l.unstable.Load(); first >= 0 && first < high {
		return max(first, l.start.Load())
	}
	return high
}

// noteTransaction brings transactions up to date after a batch was applied. mu is held.
func (l *Log) noteTransaction(b record.Batch, s *segment) error {
	if !b.IsTransactional() && !b.IsControl() {
		return nil
	}
	if t := l.producers.ended; t != nil {
		l.producers.ended = nil
		if t.aborted {
			if err := s.noteAborted(logfile.AbortedTxn{ProducerID: t.producerID, First: t.first, Last: t.last, LastStable: l.producers.stableAfter(t)}); err != nil {
				return err
			}
		}
	}
	l.updateUnstable()
	return nil
}

// updateUnstable publishes the first offset of the earliest transaction that is open, or ended at or above the high watermark. mu is held.
func (l *Log) updateUnstable() {
	l.producers.undecided.replicated(l.high.Load())
	l.unstable.Store(l.producers.undecided.first())
}
