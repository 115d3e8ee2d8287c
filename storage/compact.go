package storage

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"kraft/storage/logfile"
	"kraft/wire/record"
)

// cleanable is what compaction finds to do in a log.
type cleanable struct {
	from, to   int64 // dirty records: from the first that was never compacted to the first that may not be yet
	cleanBytes int64 // in segments below from
	dirtyBytes int64
	overdue    bool // max.compaction.lag.ms has passed for some of it
}

func (c cleanable) ratio() float64 {
	if c.dirtyBytes == 0 {
		return 0
	}
	return float64(c.dirtyBytes) / float64(c.cleanBytes+c.dirtyBytes)
}

// cleanable measures the log, of which everything below dirty is compacted. Kafka's LogCleanerManager:
// never the active segment, nothing at or above the last stable offset, nothing younger than
// min.compaction.lag.ms.
func (l *Log) cleanable(dirty int64, now time.Time) (cleanable, error) {
	config := l.config.Load()
	segments := *l.segments.Load()
	c := cleanable{from: max(dirty, segments[0].base)}
	c.to = min(segments[len(segments)-1].base, l.LastStableOffset())
	for i, s := range segments[:len(segments)-1] {
		if s.base >= c.to {
			break
		}
		if segments[i+1].base <= c.from {
			c.cleanBytes += s.size.Load()
			continue
		}
		newest, err := s.largestTimestamp()
		if err != nil {
			return c, err
		}
		if config.MinCompactionLag > 0 && newest > now.Add(-config.MinCompactionLag).UnixMilli() {
			c.to = min(c.to, s.base)
			break
		}
		c.dirtyBytes += s.size.Load()
		if config.MaxCompactionLag > 0 && config.MaxCompactionLag < 1<<62 && newest < now.Add(-config.MaxCompactionLag).UnixMilli() {
			c.overdue = true
		}
	}
	if c.to <= c.from { // the last stable offset lies in a segment that is done up to there
		c.to, c.dirtyBytes, c.overdue = c.from, 0, false
	}
	return c, nil
}

// compaction is one pass over one log.
type compaction struct {
	log      *Log
	config   *LogConfig
	keys     *offsetMap
	txns     transactionFilter
	last     map[int64]lastBatch // of producers that are still known
	now      int64
	throttle func(bytes int)
	stop     <-chan struct{}

	read, written int64
}

// lastBatch is where a producer wrote last, so that its sequence survives the loss of the records.
type lastBatch struct {
	offset int64 // of its last data batch's last record, -1 if only a marker is known
	epoch  int16
}

var errStopped = errors.New("compaction was stopped")

// compact removes from the segments below c.to the records that a later one of the same key makes
// superfluous, and returns the offset up to which that is done: less than c.to when the map was full.
func (l *Log) compact(c cleanable, keys *offsetMap, now time.Time, throttle func(int), stop <-chan struct{}) (*compaction, int64, error) {
	p := &compaction{log: l, config: l.config.Load(), keys: keys, now: now.UnixMilli(), throttle: throttle, stop: stop}
	// A record goes because a later one of its key is there: that one must not be lost with the power.
	if err := l.Flush(); err != nil {
		return p, c.from, err
	}
	keys.clear()
	end, err := p.mapKeys(c)
	if err != nil || end <= c.from {
		return p, c.from, err
	}
	l.mu.Lock()
	p.last = l.producers.lastBatches()
	l.mu.Unlock()
	segments := *l.segments.Load()
	if p.txns, err = newTransactionFilter(segments, 0); err != nil {
		return p, c.from, err
	}
	n := 0
	for n < len(segments)-1 && segments[n].base < end {
		n++
	}
	for _, group := range p.groups(segments[:n]) {
		if err := p.rewrite(group, segments); err != nil {
			return p, c.from, err
		}
	}
	return p, end, nil
}

// mapKeys fills the map with the newest offset of each key in the dirty part, as far as it has room.
func (p *compaction) mapKeys(c cleanable) (end int64, err error) {
	end = c.from
	segments := *p.log.segments.Load()
	txns, err := newTransactionFilter(segments, c.from)
	if err != nil {
		return end, err
	}
	for i, s := range segments[:len(segments)-1] {
		if segments[i+1].base <= c.from || s.base >= c.to {
			continue
		}
		x, err := s.indexed()
		if err != nil {
			return end, err
		}
		_, err = s.walk(x.position(max(c.from-s.base, 0)), func(b record.Batch, _ int64) error {
			if b.LastOffset() < c.from {
				return nil
			}
			if b.BaseOffset() >= c.to {
				return errMapEnd
			}
			if err := p.pause(len(b)); err != nil {
				return err
			}
			if b.IsControl() {
				txns.control(b)
			} else if !txns.data(b) {
				if err := p.mapBatch(b, c); err != nil {
					return err
				}
			}
			end = b.LastOffset() + 1
			return nil
		})
		if errors.Is(err, errMapEnd) {
			return end, nil
		}
		if err != nil {
			return end, fmt.Errorf("read %s%s: %w", s.path, logfile.LogSuffix, err)
		}
		end = max(end, min(segments[i+1].base, c.to)) // offsets may end before the next segment begins
	}
	return end, nil
}

// errMapEnd ends the reading of keys: the rest is for another pass.
var errMapEnd = errors.New("no more keys in this pass")

func (p *compaction) mapBatch(b record.Batch, c cleanable) error {
	full, from := false, max(c.from, p.log.StartOffset())
	err := b.Walk(record.MaxRecordsBytes, func(f record.Fields) bool {
		offset := b.BaseOffset() + f.OffsetDelta
		full = f.Key != nil && offset >= from && !p.keys.put(f.Key, offset)
		return !full
	})
	if err != nil {
		return err
	}
	if full {
		return errMapEnd
	}
	p.keys.latest = max(p.keys.latest, b.LastOffset())
	return nil
}

func (p *compaction) pause(bytes int) error {
	p.read += int64(bytes)
	p.throttle(bytes)
	select {
	case <-p.stop:
		return errStopped
	default:
		return nil
	}
}

// groups puts neighbours together that fit one segment.
func (p *compaction) groups(segments []*segment) [][]*segment {
	var out [][]*segment
	var size, entries int64
	for _, s := range segments {
		add := s.size.Load()
		more := add / max(p.config.IndexInterval, 1) * logfile.TimeEntrySize
		if n := len(out); n > 0 {
			last := out[n-1]
			if size+add <= p.config.SegmentBytes && entries+more <= p.config.IndexBytes && s.base-last[0].base < 1<<30 {
				out[n-1] = append(last, s)
				size += add
				entries += more
				continue
			}
		}
		out = append(out, []*segment{s})
		size, entries = add, more
	}
	return out
}

// rewrite makes one segment of a group and puts it in the group's place. all are the log's segments when
// the pass began.
func (p *compaction) rewrite(group, all []*segment) error {
	w, err := newCleanedSegment(p.log, group[0].base)
	if err != nil {
		return err
	}
	p.txns.out = &w.aborted
	for _, s := range group {
		next := s.base
		if i := slices.Index(all, s); i+1 < len(all) {
			next = all[i+1].base
		}
		if _, err = s.walk(0, func(b record.Batch, _ int64) error { return p.filter(w, b, next) }); err != nil {
			err = fmt.Errorf("read %s%s: %w", s.path, logfile.LogSuffix, err)
			break
		}
	}
	if err == nil {
		err = w.finish()
	}
	if err != nil {
		return errors.Join(err, w.discard())
	}
	p.written += w.seg.size.Load()
	return p.log.replace(group, w)
}

// filter writes what stays of a batch; next is the base offset of the segment behind.
func (p *compaction) filter(w *cleanedSegment, b record.Batch, next int64) error {
	if err := p.pause(len(b)); err != nil {
		return err
	}
	if err := b.Check(); err != nil {
		return err
	}
	var discard, void bool // the batch's records go; the batch is a marker without data
	if b.IsControl() {
		void = p.txns.control(b)
		discard = void && b.HasDeleteHorizon() && b.BaseTimestamp() <= p.now
	} else {
		discard = p.txns.data(b)
	}
	kept, changed, tombstones, err := p.keep(b, discard)
	if err != nil {
		return err
	}
	horizon := int64(record.NoHorizon)
	if (tombstones || void && !discard) && !b.HasDeleteHorizon() {
		horizon = p.now + p.config.DeleteRetention.Milliseconds()
	}
	if !changed && horizon == record.NoHorizon {
		return w.append(b)
	}
	if len(kept) == 0 && !p.lastOfProducer(b) && b.LastOffset()+1 != next {
		return nil
	}
	if len(kept) == 0 && b.Count() == 0 && horizon == record.NoHorizon {
		return w.append(b) // was a bare header already
	}
	out, err := record.Rewrite(b, kept, p.config.CodecLevel, horizon)
	if err != nil {
		return err
	}
	return w.append(out)
}

// keep chooses a batch's records.
func (p *compaction) keep(b record.Batch, discard bool) (kept []record.Record, changed, tombstones bool, err error) {
	if discard || b.Count() == 0 {
		return nil, true, false, nil
	}
	if b.IsControl() {
		records, err := b.Records(record.MaxRecordsBytes)
		return records, false, false, err
	}
	if b.BaseOffset() > p.keys.latest {
		return nil, false, false, nil // unchanged as a whole: nothing is known of it
	}
	records, err := b.Records(record.MaxRecordsBytes)
	if err != nil {
		return nil, false, false, err
	}
	kept = records[:0]
	for i := range records {
		r := &records[i]
		if !p.keepRecord(b, r) {
			changed = true
			continue
		}
		tombstones = tombstones || r.Value == nil && r.Offset <= p.keys.latest
		kept = append(kept, *r)
	}
	return kept, changed, tombstones, nil
}

func (p *compaction) keepRecord(b record.Batch, r *record.Record) bool {
	switch {
	case r.Offset > p.keys.latest:
		return true
	case r.Key == nil:
		return false
	case r.Offset < p.keys.get(r.Key):
		return false
	}
	return r.Value != nil || !b.HasDeleteHorizon() || b.BaseTimestamp() > p.now
}

// lastOfProducer says that a batch holds the newest sequence of a producer that may go on.
func (p *compaction) lastOfProducer(b record.Batch) bool {
	l, ok := p.last[b.ProducerID()]
	if !ok {
		return false
	}
	if l.offset >= 0 {
		return l.offset == b.LastOffset()
	}
	return b.IsControl() && b.ProducerEpoch() == l.epoch
}

// transactionFilter follows transactions through a pass (Kafka's CleanedTransactionMetadata): data of
// aborted ones goes, and a marker may go once its data is gone.
type transactionFilter struct {
	waiting   []logfile.AbortedTxn  // not reached yet, by first offset
	aborting  map[int64]*abortState // by producer: within an aborted transaction
	committed map[int64]bool        // producers with data of a transaction that is not aborted
	out       *[]logfile.AbortedTxn // index of the segment being written, nil while keys are mapped
}

type abortState struct {
	txn  logfile.AbortedTxn
	data bool // some of its data was still there
}

// newTransactionFilter makes the filter of a pass that begins at offset from. It knows the aborted transactions of all segments: the marker
// of one may lie in a later segment than its records, and in one that the pass does not reach.
func newTransactionFilter(segments []*segment, from int64) (transactionFilter, error) {
	f := transactionFilter{aborting: map[int64]*abortState{}, committed: map[int64]bool{}}
	for _, s := range segments {
		list, err := s.aborted()
		if err != nil {
			return f, err
		}
		for _, t := range list {
			if t.Last >= from {
				f.waiting = append(f.waiting, t)
			}
		}
	}
	slices.SortStableFunc(f.waiting, func(a, b logfile.AbortedTxn) int { return cmp.Compare(a.First, b.First) })
	return f, nil
}

func (f *transactionFilter) reach(offset int64) {
	for len(f.waiting) > 0 && f.waiting[0].First <= offset {
		t := f.waiting[0]
		f.waiting = f.waiting[1:]
		f.aborting[t.ProducerID] = &abortState{txn: t}
	}
}

// data says that a batch belongs to an aborted transaction.
func (f *transactionFilter) data(b record.Batch) bool {
	if !b.IsTransactional() {
		return false
	}
	f.reach(b.LastOffset())
	if a := f.aborting[b.ProducerID()]; a != nil {
		a.data = true
		return true
	}
	f.committed[b.ProducerID()] = true
	return false
}

// control says that a marker has no data left before it. Markers that stay keep their index entry.
func (f *transactionFilter) control(b record.Batch) bool {
	f.reach(b.LastOffset())
	kind, _, ok := b.Marker()
	id := b.ProducerID()
	switch {
	case !ok:
		return false
	case kind == record.Commit:
		had := f.committed[id]
		delete(f.committed, id)
		return !had
	}
	a := f.aborting[id]
	delete(f.aborting, id)
	if a == nil || !a.data {
		return true
	}
	if f.out != nil {
		*f.out = append(*f.out, a.txn)
	}
	return false
}

// lastBatches lists where each producer wrote last. The log's mutex is held.
func (p *producerStates) lastBatches() map[int64]lastBatch {
	out := make(map[int64]lastBatch, len(p.byID))
	for id, e := range p.byID {
		l := lastBatch{offset: -1, epoch: e.epoch}
		if n := len(e.batches); n > 0 {
			l.offset = e.batches[n-1].lastOffset
		}
		out[id] = l
	}
	return out
}

// cleanedSegment is a segment while a compaction writes it, under names that end in .cleaned.
type cleanedSegment struct {
	log     *Log
	seg     *segment
	aborted []logfile.AbortedTxn
	buf     []byte
	pos     int64 // in the file, of buf's first byte
}

const cleanedBuffer = 1 << 20

func newCleanedSegment(l *Log, base int64) (*cleanedSegment, error) {
	s := newSegment(l.fs, l.dir, base)
	s.index = new(indexes)
	f, err := l.fs.openSegment(s.path+logfile.LogSuffix+cleanedSuffix, true)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.file = f
	return &cleanedSegment{log: l, seg: s}, nil
}

func (w *cleanedSegment) append(b record.Batch) error {
	w.seg.noteBatch(b, w.pos+int64(len(w.buf)), w.log.config.Load().IndexInterval)
	w.buf = append(w.buf, b...)
	if len(w.buf) >= cleanedBuffer {
		return w.flush()
	}
	return nil
}

func (w *cleanedSegment) flush() error {
	if _, err := w.seg.file.WriteAt(w.buf, w.pos); err != nil {
		return err
	}
	w.pos += int64(len(w.buf))
	w.buf = w.buf[:0]
	w.seg.size.Store(w.pos)
	return nil
}

// finish puts everything on disk, still under the names that end in .cleaned.
func (w *cleanedSegment) finish() error {
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.seg.file.Sync(); err != nil {
		return err
	}
	if ts := w.seg.maxTime.Load(); ts >= 0 {
		w.seg.index.addTime(ts, int32(w.seg.maxTimeLast.Load()-w.seg.base))
	}
	offsets, times := w.seg.index.encode()
	var txns []byte
	for _, t := range w.aborted {
		txns = t.AppendTo(txns)
	}
	for _, f := range []struct {
		suffix string
		data   []byte
	}{{logfile.IndexSuffix, offsets}, {logfile.TimeIndexSuffix, times}, {logfile.TxnIndexSuffix, txns}} {
		if f.suffix == logfile.TxnIndexSuffix && len(txns) == 0 {
			continue
		}
		if err := writeSynced(w.log.fs, w.seg.path+f.suffix+cleanedSuffix, f.data); err != nil {
			return err
		}
	}
	w.seg.dirtyIndex.Store(false)
	w.seg.txns, w.seg.txnsInFile = &w.aborted, len(w.aborted)
	return nil
}

// discard removes what was written.
func (w *cleanedSegment) discard() error {
	errs := []error{w.seg.close()}
	for _, suffix := range segmentSuffixes {
		if err := w.log.fs.Remove(w.seg.path + suffix + cleanedSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
