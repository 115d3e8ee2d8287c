package storage

import (
	"cmp"
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sort"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/storage/logfile"
	"kraft/wire/record"
)

// rememberedBatches is how many batches of a producer are known for telling duplicates (KIP-98).
const rememberedBatches = 5

// producedBatch is what is remembered of a batch.
type producedBatch struct {
	firstSeq, lastSeq int32
	lastOffset        int64
	offsetDelta       int32
	timestamp         int64
}

func (b producedBatch) firstOffset() int64 { return b.lastOffset - int64(b.offsetDelta) }

// producerEntry is one producer's state in one partition (Kafka's ProducerStateEntry).
type producerEntry struct {
	epoch            int16
	coordinatorEpoch int32
	timestamp        int64           // of the newest batch, in milliseconds
	open             *list.Element   // its open transaction in undecided, nil if none
	batches          []producedBatch // newest last, at most rememberedBatches
}

// txnFirst is the first offset of the open transaction, -1 if none.
func (e *producerEntry) txnFirst() int64 {
	if e.open == nil {
		return -1
	}
	return e.open.Value.(*transaction).first
}

// producerStates are all producers of one partition. Guarded by the log's mutex.
type producerStates struct {
	byID map[int64]*producerEntry

	undecided undecided
	ended     *transaction     // by the batch applied last
	guards    map[int64]*Guard // by producer id; only on the leader
}

// clone returns a copy that shares nothing with p but the guards.
func (p *producerStates) clone() *producerStates {
	c := &producerStates{byID: make(map[int64]*producerEntry, len(p.byID)), guards: maps.Clone(p.guards)}
	for id, e := range p.byID {
		own := *e
		own.batches, own.open = slices.Clone(e.batches), nil
		c.byID[id] = &own
	}
	copies := make(map[*list.Element]*list.Element, p.undecided.byFirst.Len())
	for e := p.undecided.byFirst.Front(); e != nil; e = e.Next() {
		t := *e.Value.(*transaction)
		copies[e] = c.undecided.byFirst.PushBack(&t)
		if t.last < 0 {
			c.byID[t.producerID].open = copies[e]
		}
	}
	for _, e := range p.undecided.ended {
		c.undecided.ended = append(c.undecided.ended, copies[e])
	}
	return c
}

// stableAfter is the last stable offset once t has ended, if all were replicated.
func (p *producerStates) stableAfter(t *transaction) int64 {
	if first := p.undecided.firstOpen(); first >= 0 {
		return first
	}
	return t.last + 1
}

func newProducerStates() *producerStates { return &producerStates{} }

// check judges a batch before it is appended, as Kafka's ProducerAppendInfo does. guard is that of a batch that may begin a transaction.
// ofClient says that a client's producer numbered the batch. It returns the batch that it repeats, if it does.
func (p *producerStates) check(b record.Batch, guard *Guard, ofClient bool) (duplicate *producedBatch, err error) {
	id := b.ProducerID()
	if id < 0 {
		return nil, nil
	}
	e := p.byID[id]
	epoch, seq, last := b.ProducerEpoch(), b.BaseSequence(), b.LastSequence()
	if e != nil && epoch == e.epoch && ofClient {
		for i := range e.batches {
			if e.batches[i].firstSeq == seq && e.batches[i].lastSeq == last {
				return &e.batches[i], nil
			}
		}
	}
	if e != nil && epoch < e.epoch {
		return nil, p.fenced(id, epoch, e.epoch)
	}
	opens := b.IsTransactional() && (e == nil || e.open == nil || e.epoch != epoch)
	if opens && guard != Unguarded && (guard == nil || guard != p.guards[id]) {
		return nil, fmt.Errorf("Record was not part of an ongoing transaction: %w", kerr.InvalidTxnState)
	}
	if ofClient {
		verified := p.guards[id]
		if b.IsTransactional() && !opens {
			verified = nil // of an earlier attempt to open the transaction
		}
		if err := checkSequence(e, b, verified); err != nil {
			return nil, err
		}
	}
	if e != nil && e.open != nil && !b.IsTransactional() {
		return nil, fmt.Errorf("Expected transactional write from producer with %d: %w", id, kerr.InvalidTxnState)
	}
	return nil, nil
}

// checkSequence judges the first sequence of a batch of a producer that e describes, nil if it is unknown.
func checkSequence(e *producerEntry, b record.Batch, guard *Guard) error {
	id, epoch, seq := b.ProducerID(), b.ProducerEpoch(), b.BaseSequence()
	if guard != nil && (seq > guard.lowest || e == nil && guard.adds && seq != 0) {
		return fmt.Errorf("producer %d begins with sequence %d: %w", id, seq, kerr.OutOfOrderSequenceNumber)
	}
	switch {
	case e == nil:
		return nil // an unknown or expired producer may start anywhere
	case epoch > e.epoch && seq != 0:
		return fmt.Errorf("producer %d starts epoch %d with sequence %d: %w", id, epoch, seq, kerr.OutOfOrderSequenceNumber)
	case epoch > e.epoch:
		return nil
	}
	want := int32(0)
	if n := len(e.batches); n > 0 {
		want = record.AddSequence(e.batches[n-1].lastSeq, 1)
	}
	if seq != want {
		return fmt.Errorf("producer %d sends sequence %d, expected %d: %w", id, seq, want, kerr.OutOfOrderSequenceNumber)
	}
	return nil
}

// apply notes an appended batch.
func (p *producerStates) apply(b record.Batch) {
	id := b.ProducerID()
	if id < 0 {
		return
	}
	e := p.byID[id]
	if e == nil {
		if p.byID == nil {
			p.byID = map[int64]*producerEntry{}
		}
		e = &producerEntry{epoch: noEpoch, coordinatorEpoch: -1}
		p.byID[id] = e
	}
	if b.ProducerEpoch() != e.epoch {
		e.epoch = b.ProducerEpoch()
		e.batches = nil
	}
	e.timestamp = b.MaxTimestamp()
	if b.IsControl() {
		p.applyMarker(e, b)
		return
	}
	if b.IsTransactional() && e.open == nil {
		e.open = p.undecided.begin(id, b.BaseOffset())
	}
	if b.BaseSequence() < 0 {
		return // the broker's own batch, of offsets: nobody sends it again
	}
	if len(e.batches) == rememberedBatches {
		e.batches = append(e.batches[:0], e.batches[1:]...)
	}
	e.batches = append(e.batches, producedBy(b))
}

func producedBy(b record.Batch) producedBatch {
	return producedBatch{b.BaseSequence(), b.LastSequence(), b.LastOffset(), b.LastOffsetDelta(), b.MaxTimestamp()}
}

// activeSince says that a producer wrote at the given time or later, in milliseconds.
func (p *producerStates) activeSince(ms int64) bool {
	for _, e := range p.byID {
		if e.timestamp >= ms {
			return true
		}
	}
	return false
}

// applyMarker ends a producer's open transaction. A marker without one moves nothing.
func (p *producerStates) applyMarker(e *producerEntry, b record.Batch) {
	marker, coordinatorEpoch, ok := b.Marker()
	if !ok {
		return
	}
	e.coordinatorEpoch = coordinatorEpoch
	if e.open != nil {
		p.ended = p.undecided.end(e.open, b.LastOffset(), marker == record.Abort)
		e.open = nil
	}
}

// expire forgets producers that wrote nothing since the given time, in milliseconds, and have no transaction open, and guards that nobody
// asked for since then.
func (p *producerStates) expire(before int64) {
	for id, e := range p.byID {
		if e.timestamp < before && e.open == nil {
			delete(p.byID, id)
		}
	}
	for id, g := range p.guards {
		if g.since.UnixMilli() < before {
			delete(p.guards, id)
		}
	}
}

func (p *producerStates) encode() []byte { return logfile.EncodeSnapshot(p.list()) }

// list is all producers by id, each with its newest batch.
func (p *producerStates) list() []logfile.Producer {
	out := make([]logfile.Producer, 0, len(p.byID))
	for id, e := range p.byID {
		f := logfile.Producer{
			ID: id, Epoch: e.epoch, CoordinatorEpoch: e.coordinatorEpoch, TxnFirst: e.txnFirst(), Timestamp: e.timestamp,
			FirstSequence: -1, LastSequence: -1, LastOffset: -1,
		}
		if n := len(e.batches); n > 0 {
			b := e.batches[n-1]
			f.FirstSequence, f.LastSequence, f.LastOffset, f.OffsetDelta = b.firstSeq, b.lastSeq, b.lastOffset, b.offsetDelta
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b logfile.Producer) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func decodeProducers(b []byte) (*producerStates, error) {
	list, err := logfile.DecodeSnapshot(b)
	if err != nil {
		return nil, err
	}
	p := &producerStates{byID: make(map[int64]*producerEntry, len(list))}
	open := map[int64]int64{}
	for _, f := range list {
		e := &producerEntry{epoch: f.Epoch, coordinatorEpoch: f.CoordinatorEpoch, timestamp: f.Timestamp}
		if f.TxnFirst >= 0 {
			open[f.ID] = f.TxnFirst
		}
		if f.LastOffset >= 0 && f.LastSequence >= 0 {
			e.batches = []producedBatch{{firstSeq: f.FirstSequence, lastSeq: f.LastSequence, lastOffset: f.LastOffset, offsetDelta: f.OffsetDelta, timestamp: f.Timestamp}}
		}
		p.byID[f.ID] = e
	}
	p.reopen(open)
	return p, nil
}

// snapshotPath is the file of the state valid up to offset, exclusive.
func snapshotPath(dir string, offset int64) string {
	return logfile.Path(dir, offset) + logfile.SnapshotSuffix
}

func writeProducers(fsys FS, dir string, offset int64, p *producerStates) error {
	return writeWhole(fsys, snapshotPath(dir, offset), p.encode())
}

// loadProducers returns the newest usable snapshot at or below newest and the offset it is valid to;
// without one, an empty state from offset from on. Damaged snapshots, and those beyond the log's end, are
// removed.
func loadProducers(fsys FS, dir string, entries []fs.DirEntry, from, newest, end int64) (*producerStates, int64, error) {
	var offsets []int64
	for _, e := range entries {
		if o, ok := logfile.ParseName(e.Name(), logfile.SnapshotSuffix); ok {
			offsets = append(offsets, o)
		}
	}
	sort.Slice(offsets, func(i, j int) bool { return offsets[i] > offsets[j] })
	for _, o := range offsets {
		if o > newest && o <= end {
			continue
		}
		if o > end {
			if err := fsys.Remove(snapshotPath(dir, o)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, 0, err
			}
			continue
		}
		data, err := fsys.ReadFile(snapshotPath(dir, o))
		if err != nil {
			return nil, 0, err
		}
		if p, err := decodeProducers(data); err == nil {
			return p, o, nil
		}
		if err := fsys.Remove(snapshotPath(dir, o)); err != nil {
			return nil, 0, err
		}
	}
	return newProducerStates(), from, nil
}
