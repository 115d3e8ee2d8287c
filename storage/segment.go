package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"kraft/storage/logfile"
	"kraft/wire/locks"
	"kraft/wire/record"
)

const (
	deletedSuffix = ".deleted"
	cleanedSuffix = ".cleaned"
	swapSuffix    = ".swap"
)

// segment is one .log file with its indexes. The log's appender owns the writing side of the active
// segment; everything that readers touch is atomic or behind mu.
type segment struct {
	fs   *dirFS
	base int64
	path string // without suffix
	size atomic.Int64

	mu         locks.Mutex // guards opening file and indexes, and closing
	file       *segmentFile
	abandoned  bool // open fails: the files are removed
	index      *indexes
	txns       *[]logfile.AbortedTxn // nil until read
	txnsInFile int                   // how many of them the file has

	// Of the appender. Sealed segments learn them from the time index when asked.
	created     time.Time
	firstTime   int64 // timestamp of the first batch, record.NoTimestamp if none
	maxTime     atomic.Int64
	maxTimeLast atomic.Int64 // last offset of the batch that has maxTime
	sinceIndex  int64
	dirtyIndex  atomic.Bool // the index in memory is ahead of its files
	rebuilding  locks.Mutex // held while reindex makes an index
	// isActive is set while the log appends to the segment. Its index is the appender's then, and no reader replaces it.
	isActive atomic.Bool

	unsyncedIndex  atomic.Bool // the index files were written since the last sync
	unsyncedAborts atomic.Bool // so was the index of aborted transactions
}

func newSegment(fsys *dirFS, dir string, base int64) *segment {
	s := &segment{fs: fsys, base: base, path: logfile.Path(dir, base), firstTime: record.NoTimestamp}
	s.maxTime.Store(record.NoTimestamp)
	return s
}

// open returns the data file, opening it if need be.
func (s *segment) open(create bool) (*segmentFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.abandoned {
		return nil, fs.ErrClosed
	}
	if s.file == nil {
		f, err := s.fs.openSegment(s.path+logfile.LogSuffix, create)
		if err != nil {
			return nil, err
		}
		s.file = f
	}
	return s.file, nil
}

// indexed returns the indexes, reading or rebuilding them if need be. The active segment's are always
// in memory.
func (s *segment) indexed() (*indexes, error) {
	if x := s.currentIndex(); x != nil {
		return x, nil
	}
	return s.reindex(nil)
}

func (s *segment) currentIndex() *indexes {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index
}

// reindex returns an index in place of old, which is missing (nil) or contradicts the log. If another goroutine has replaced old already, it
// returns that index. A missing index is read from its files; if these are missing or doubtful, and if old contradicts the log, the index is
// made of the log. The segment keeps it unless the log appends to the segment by now.
func (s *segment) reindex(old *indexes) (*indexes, error) {
	s.rebuilding.Lock()
	defer s.rebuilding.Unlock()
	if x := s.currentIndex(); x != old {
		return x, nil
	}
	if old == nil {
		if x, err := readIndexes(s.fs, s.path, s.size.Load()); err == nil {
			return s.replaceIndex(nil, x, nil), nil
		}
	}
	f, err := s.open(false) // by now its name may be another
	if err != nil {
		return nil, err
	}
	whole := newSegment(s.fs, filepath.Dir(s.path), s.base) // nobody sees the index before it is whole
	whole.file = f
	whole.size.Store(s.size.Load())
	if _, err = whole.scan(0, 4096, nil); err != nil {
		return nil, err
	}
	return s.replaceIndex(old, whole.index, whole), nil
}

// replaceIndex sets the index to x if it is old and nobody appends, and returns the index to use. x was made of all of whole, if that is
// not nil.
func (s *segment) replaceIndex(old, x *indexes, whole *segment) *indexes {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.index != old:
		return s.index
	case s.isActive.Load():
		return x // for one lookup
	}
	s.index = x
	if whole != nil {
		s.maxTimeLast.Store(whole.maxTimeLast.Load())
		s.maxTime.Store(whole.maxTime.Load())
		s.dirtyIndex.Store(true)
	}
	s.learnMaxTime()
	return x
}

// setIndex sets the index of a segment that nobody else uses yet.
func (s *segment) setIndex(x *indexes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index = x
	s.learnMaxTime()
}

// learnMaxTime takes the largest timestamp from the time index where it is not known. mu is held.
func (s *segment) learnMaxTime() {
	if t := s.index.times.view(); len(t) > 0 && s.maxTime.Load() == record.NoTimestamp {
		last := t[len(t)-1]
		s.maxTime.Store(last.timestamp)
		s.maxTimeLast.Store(s.base + int64(last.rel))
	}
}

// largestTimestamp is the newest record's time in milliseconds: the time index's, or the file's own.
func (s *segment) largestTimestamp() (int64, error) {
	if _, err := s.indexed(); err != nil {
		return 0, err
	}
	if ts := s.maxTime.Load(); ts >= 0 {
		return ts, nil
	}
	info, err := s.fs.Stat(s.path + logfile.LogSuffix)
	if err != nil {
		return 0, err
	}
	return info.ModTime().UnixMilli(), nil
}

// largestBetween is the largest timestamp of records from start on, in batches that end below end; record.NoTimestamp where there is none.
func (s *segment) largestBetween(start, end int64) (int64, error) {
	x, err := s.indexed()
	if err != nil {
		return 0, err
	}
	largest := s.maxTime.Load() // before maxTimeLast, which noteBatch stores first
	last := s.maxTimeLast.Load()
	var from int64
	if start > s.base {
		first, ok, err := s.locate(start, s.size.Load()) // the batch that holds start
		if err != nil || !ok {
			return record.NoTimestamp, err
		}
		if last > first.last && last < end {
			return largest, nil
		}
		largest, from = record.NoTimestamp, first.pos
	} else if last < end {
		return largest, nil
	} else if e, ok := x.before(end - 1 - s.base); !ok {
		largest = record.NoTimestamp
	} else {
		largest, from = record.NoTimestamp, int64(e.pos)
		for _, t := range x.times.view() { // the time index as it was when e was made
			if t.rel > e.rel {
				break
			}
			largest = t.timestamp
		}
	}
	var failed error
	_, _, err = s.seek(from, s.size.Load(), func(r batchRef) bool {
		switch {
		case r.last >= end:
			return true
		case r.last < start:
			return false
		case r.base >= start:
			largest = max(largest, r.maxTime)
			return false
		}
		failed = s.walkBatch(r, func(offset, timestamp int64) bool {
			if offset >= start {
				largest = max(largest, timestamp)
			}
			return true
		})
		return failed != nil
	})
	return largest, errors.Join(err, failed)
}

// walkBatch reads a batch and calls each with its records' offsets and timestamps, in their order, until that returns false.
func (s *segment) walkBatch(r batchRef, each func(offset, timestamp int64) bool) error {
	f, err := s.open(false)
	if err != nil {
		return err
	}
	b := record.Batch(make([]byte, r.size))
	if _, err := f.ReadAt(b, r.pos); err != nil {
		return err
	}
	return b.Walk(record.MaxRecordsBytes, func(f record.Fields) bool {
		timestamp := b.BaseTimestamp() + f.TimestampDelta
		if b.HasLogAppendTime() {
			timestamp = b.MaxTimestamp()
		}
		return each(b.BaseOffset()+f.OffsetDelta, timestamp)
	})
}

// noteBatch keeps the indexes for a batch written at pos. Only the appender and recovery call it.
func (s *segment) noteBatch(b record.Batch, pos, interval int64) {
	last := b.LastOffset()
	if s.firstTime == record.NoTimestamp {
		s.firstTime = b.MaxTimestamp()
	}
	if ts := b.MaxTimestamp(); ts > s.maxTime.Load() {
		s.maxTimeLast.Store(last)
		s.maxTime.Store(ts)
	}
	if s.sinceIndex > interval {
		s.index.offsets.add(offsetEntry{int32(last - s.base), int32(pos)})
		s.index.addTime(s.maxTime.Load(), int32(s.maxTimeLast.Load()-s.base))
		s.sinceIndex = 0
	}
	s.sinceIndex += int64(b.Size())
	s.dirtyIndex.Store(true)
}

// writeIndexes brings the index files up to date, without waiting for the disk: sync does that. The time
// index gets its closing entry.
func (s *segment) writeIndexes() error {
	x := s.currentIndex()
	if !s.dirtyIndex.Load() || x == nil {
		return nil
	}
	if ts := s.maxTime.Load(); ts >= 0 {
		x.addTime(ts, int32(s.maxTimeLast.Load()-s.base))
	}
	s.dirtyIndex.Store(false) // before: a reader may make another index meanwhile
	offsets, times := x.encode()
	for _, f := range []struct {
		suffix string
		data   []byte
	}{{logfile.IndexSuffix, offsets}, {logfile.TimeIndexSuffix, times}} {
		if err := writeWhole(s.fs, s.path+f.suffix, f.data); err != nil {
			s.dirtyIndex.Store(true)
			return err
		}
	}
	s.unsyncedIndex.Store(true)
	return nil
}

// writeWhole overwrites a file in place, without waiting for the disk; for files that are checked when
// they are read and can be made again.
func writeWhole(fsys FS, path string, data []byte) error {
	f, err := fsys.OpenFile(path, true)
	if err != nil {
		return err
	}
	if len(data) > 0 {
		_, err = f.WriteAt(data, 0)
	}
	if err == nil {
		err = f.Truncate(int64(len(data)))
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// unsynced says that an index was written since the last sync.
func (s *segment) unsynced() bool { return s.unsyncedIndex.Load() || s.unsyncedAborts.Load() }

// sync puts the log and, once they are written, its indexes on disk.
func (s *segment) sync() error {
	f, err := s.open(false)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := s.syncAborted(); err != nil {
		return err
	}
	if !s.unsyncedIndex.Swap(false) {
		return nil
	}
	for _, suffix := range []string{logfile.IndexSuffix, logfile.TimeIndexSuffix} {
		// A log that is cut meanwhile drops them.
		if err := syncFile(s.fs, s.path+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// writeSynced is writeWhole for files whose loss the log alone cannot make good.
func writeSynced(fsys FS, path string, data []byte) error {
	return errors.Join(writeWhole(fsys, path, data), syncFile(fsys, path))
}

func syncFile(fsys FS, path string) error {
	f, err := fsys.OpenFile(path, false)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// abandon closes a segment whose files are about to be removed. From then on open returns fs.ErrClosed: a reader that found the segment earlier
// must not open it again.
func (s *segment) abandon() error {
	s.mu.Lock()
	s.abandoned = true
	s.mu.Unlock()
	return s.close()
}

func (s *segment) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}

// scan reads batches from pos on, verifies them and rebuilds the indexes behind it (all of them if pos
// is 0). each, if not nil, sees every batch. It returns the position behind the last good batch; what
// stopped it before the end is an error that wraps record.ErrTruncated or record.ErrCorrupt.
func (s *segment) scan(pos, interval int64, each func(record.Batch) error) (int64, error) {
	if _, err := s.open(false); err != nil {
		return pos, err
	}
	if pos == 0 || s.index == nil {
		pos = 0
		s.mu.Lock()
		s.index = new(indexes)
		s.mu.Unlock()
		s.maxTime.Store(record.NoTimestamp)
		s.firstTime = record.NoTimestamp
		s.sinceIndex = 0
	}
	s.dirtyIndex.Store(true)
	next := s.base
	return s.walk(pos, func(b record.Batch, at int64) error {
		if err := b.Check(); err != nil {
			return err
		}
		if b.BaseOffset() < next || b.LastOffset() < b.BaseOffset() || b.LastOffset()-s.base > 1<<31-1 {
			return fmt.Errorf("%w: offsets %d to %d after %d", record.ErrCorrupt, b.BaseOffset(), b.LastOffset(), next-1)
		}
		next = b.LastOffset() + 1
		s.noteBatch(b, at, interval)
		if each != nil {
			return each(b)
		}
		return nil
	})
}

const walkBuffer = 1 << 20

// walk calls each with the batches from pos to the segment's size. Batches point into a buffer that is
// used again. It returns the position behind the last for which each gave no error.
func (s *segment) walk(pos int64, each func(b record.Batch, at int64) error) (int64, error) {
	return walkAs(s, pos, record.Next, each)
}

// walkAs is walk over entries that next splits off; all formats have their length in the same place.
func walkAs[E ~[]byte](s *segment, pos int64, next func([]byte) (E, []byte, error), each func(e E, at int64) error) (int64, error) {
	f, err := s.open(false)
	if err != nil {
		return pos, err
	}
	size := s.size.Load()
	buf := make([]byte, 0, int(min(walkBuffer, max(size-pos, 0))))
	for pos < size {
		want := int(min(int64(cap(buf)), size-pos))
		n, err := f.ReadAt(buf[:want], pos)
		if err != nil && err != io.EOF {
			return pos, err
		}
		data := buf[:n]
		start := pos
		for {
			b, rest, err := next(data)
			if err == record.ErrTruncated {
				break
			}
			if err != nil {
				return pos, err
			}
			if err := each(b, pos); err != nil {
				return pos, err
			}
			pos += int64(len(b))
			data = rest
		}
		if pos == start { // no whole batch: at the end it is torn, before it the buffer is too small
			if int64(n) == size-pos || n < want {
				return pos, record.ErrTruncated
			}
			need := int64(binary.BigEndian.Uint32(data[8:])) + record.MinFrame
			if pos+need > size {
				return pos, record.ErrTruncated
			}
			buf = make([]byte, 0, need)
		}
	}
	return pos, nil
}

// batchRef is where a batch is.
type batchRef struct {
	base, last, pos int64
	size            int64
	maxTime         int64
	epoch           int32
}

// locate finds the first batch whose last offset is >= offset, reading headers only. ok is false if
// the segment ends before limit bytes without one.
func (s *segment) locate(offset, limit int64) (ref batchRef, ok bool, err error) {
	x, err := s.indexed()
	if err != nil {
		return ref, false, err
	}
	e, indexed := x.before(offset - s.base)
	if indexed && !s.agrees(e, limit) {
		e = offsetEntry{}
		if !s.isActive.Load() { // the file was damaged, or another broker counted otherwise: the log itself is the truth
			size := s.size.Load()
			if x, err = s.reindex(x); err == nil {
				e, _ = x.before(offset - s.base)
			} else if !s.isActive.Load() && s.size.Load() == size {
				return ref, false, err
			}
		} // else the log was cut a moment ago
	}
	return s.seek(int64(e.pos), limit, func(r batchRef) bool { return r.last >= offset })
}

// agrees reports whether the batch at an index entry's position ends with the entry's offset.
func (s *segment) agrees(e offsetEntry, limit int64) bool {
	ref, ok, err := s.seek(int64(e.pos), limit, func(batchRef) bool { return true })
	return err == nil && ok && ref.last == s.base+int64(e.rel)
}

// seek reads batch headers from pos on until found says so. It finds nothing where the segment was cut meanwhile.
func (s *segment) seek(pos, limit int64, found func(batchRef) bool) (ref batchRef, ok bool, err error) {
	f, err := s.open(false)
	if err != nil {
		return ref, false, err
	}
	window := seekBuffers.Get().(*[seekBuffer]byte)
	defer seekBuffers.Put(window)
	var data []byte
	at := pos // of data[0]
	limit = min(limit, s.size.Load())
	for pos+record.HeaderSize <= limit {
		if pos < at || pos+record.HeaderSize > at+int64(len(data)) {
			n, err := f.ReadAt(window[:min(seekBuffer, limit-pos)], pos)
			if n < record.HeaderSize {
				if s.size.Load() < limit {
					return ref, false, nil
				}
				return ref, false, fmt.Errorf("read %s%s at %d: %w", s.path, logfile.LogSuffix, pos, err)
			}
			data, at = window[:n], pos
		}
		h := record.Batch(data[pos-at:])
		ref = batchRef{base: h.BaseOffset(), last: h.LastOffset(), pos: pos, size: int64(h.Size()), maxTime: h.MaxTimestamp(), epoch: h.LeaderEpoch()}
		if ref.size < record.HeaderSize || record.Magic(h) != 2 {
			if s.size.Load() < limit {
				return ref, false, nil
			}
			return ref, false, fmt.Errorf("%s%s at %d: %w", s.path, logfile.LogSuffix, pos, record.ErrCorrupt)
		}
		if found(ref) {
			return ref, true, nil
		}
		pos += ref.size
	}
	return ref, false, nil
}

const seekBuffer = 8 << 10

var seekBuffers = sync.Pool{New: func() any { return new([seekBuffer]byte) }}
