package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/storage/logfile"
	"kraft/wire/defect"
	"kraft/wire/ident"
)

// DeleteBefore moves the log start to offset, or to the high watermark for -1, and drops segments that
// lie wholly before it (DeleteRecords, KIP-107). It returns the new log start offset.
func (l *Log) DeleteBefore(offset int64, now time.Time) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	high := l.high.Load()
	if offset == -1 {
		offset = high
	}
	if offset < 0 || offset > high {
		return 0, fmt.Errorf("%v: delete before %d, high watermark is %d: %w", l.tp, offset, high, kerr.OffsetOutOfRange)
	}
	if offset > l.start.Load() {
		if err := l.moveStart(offset, now); err != nil {
			return 0, fmt.Errorf("%v: %w", l.tp, storageError(err))
		}
	} else if offset > l.deleted.Load() { // retention was there before, and a loss of power may undo that
		l.noteDeleted(offset)
	}
	return l.start.Load(), nil
}

// noteDeleted has the next KeepStarts write that everything below an offset was deleted. mu is held.
func (l *Log) noteDeleted(offset int64) {
	l.deleted.Store(offset)
	l.fs.dir.startMoved.Store(true)
}

// moveStart moves the log start up, and drops segments that lie wholly before it. mu is held.
func (l *Log) moveStart(offset int64, now time.Time) error {
	l.start.Store(offset)
	l.noteDeleted(offset)
	return l.dropOld(now, func(_ *segment, next int64) (bool, error) { return next <= l.start.Load(), nil })
}

// KeepStarts writes log starts to disk that DeleteBefore and SetStart have moved: a loss of power may restore the segments before them. It returns
// what went wrong in any directory. Any goroutine may call it; when it returns, what moved before the call is on disk.
func (m *Manager) KeepStarts() (failed error) {
	for _, d := range m.online() {
		failed = errors.Join(failed, m.keepStarts(d))
	}
	return failed
}

// KeepStart is KeepStarts for one partition's directory.
func (m *Manager) KeepStart(tp ident.TopicPartition) error {
	m.mu.RLock()
	p := m.logs[tp]
	m.mu.RUnlock()
	if p == nil {
		return nil
	}
	return m.keepStarts(p.dir)
}

func (m *Manager) keepStarts(d *Dir) error {
	d.keeping.Lock() // who writes them already is waited for
	defer d.keeping.Unlock()
	if !d.startMoved.Swap(false) {
		return nil
	}
	if err := m.writeCheckpoints(d, logStartFile); err != nil {
		d.startMoved.Store(true)
		return storageError(err)
	}
	return nil
}

// retain applies retention.ms and retention.bytes, and removes files whose delay is over.
func (l *Log) retain(now time.Time) error {
	return defect.Contain("retention", func() error { return l.retainNow(now) })
}

func (l *Log) retainNow(now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	config := l.config.Load()
	if e := config.ProducerExpiration; e > 0 {
		l.producers.expire(now.Add(-e).UnixMilli())
	}
	if config.Delete {
		excess := int64(-1)
		if config.RetentionBytes >= 0 {
			excess = l.Size() - config.RetentionBytes
		}
		if err := l.dropOld(now, func(s *segment, _ int64) (bool, error) {
			if size := s.size.Load(); excess >= size && size > 0 {
				excess -= size
				return true, nil
			}
			if config.RetentionAge < 0 || s.size.Load() == 0 {
				return false, nil
			}
			ts, err := s.largestTimestamp()
			return now.UnixMilli()-ts > config.RetentionAge.Milliseconds(), err
		}); err != nil {
			return err
		}
	}
	return l.reap(now)
}

// dropOld removes segments from the start on while doomed says so, all of whose records lie below the
// high watermark. If all would go, a new active segment takes their place. mu is held.
func (l *Log) dropOld(now time.Time, doomed func(s *segment, next int64) (bool, error)) error {
	segments := *l.segments.Load()
	n := 0
	for ; n < len(segments); n++ {
		next := l.EndOffset()
		if n+1 < len(segments) {
			next = segments[n+1].base
		}
		if next > l.high.Load() || segments[n].size.Load() == 0 && n == len(segments)-1 {
			break
		}
		yes, err := doomed(segments[n], next)
		if err != nil {
			return err
		}
		if !yes {
			break
		}
	}
	if n == 0 {
		return nil
	}
	if n == len(segments) {
		if err := l.roll(l.EndOffset(), now); err != nil {
			return err
		}
		segments = *l.segments.Load()
	}
	// Oldest first, and no further than it works: a gap between segments would look like a loss.
	var failed error
	for i, seg := range segments[:n] {
		if failed = l.markDeleted(seg, now, false); failed != nil {
			n = i
			break
		}
	}
	kept := append([]*segment(nil), segments[n:]...)
	l.setSegments(kept)
	l.start.Store(max(l.start.Load(), kept[0].base))
	l.epochs.cut(l.start.Load(), -1)
	return failed
}

// markDeleted renames a segment's files; readers that hold the open file go on. keepSnapshot is for a
// segment that another of the same base replaces. mu is held.
func (l *Log) markDeleted(s *segment, now time.Time, keepSnapshot bool) error {
	// A reader that found the segment before it was replaced must still be able to read it.
	f, err := s.open(false)
	if err != nil {
		return err
	}
	if err := f.pin(); err != nil {
		return err
	}
	if _, err := s.indexed(); err != nil {
		return err
	}
	for _, suffix := range append(segmentSuffixes[:len(segmentSuffixes):len(segmentSuffixes)], logfile.SnapshotSuffix) {
		if suffix == logfile.SnapshotSuffix && keepSnapshot {
			continue
		}
		from := s.path + suffix
		err := l.fs.Rename(from, from+deletedSuffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		l.doomed = append(l.doomed, doomedFile{from + deletedSuffix, now.Add(l.config.Load().DeleteDelay)})
	}
	return nil
}

// reap unlinks files whose file.delete.delay.ms is over. The open descriptor of a deleted segment is
// closed when its last reader lets go of it (os.File's finalizer).
func (l *Log) reap(now time.Time) error {
	var left []doomedFile
	for _, d := range l.doomed {
		if now.Before(d.due) {
			left = append(left, d)
			continue
		}
		if err := l.fs.Remove(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	l.doomed = left
	return nil
}
