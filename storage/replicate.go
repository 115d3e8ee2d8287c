package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/storage/logfile"
	"kraft/wire/record"
)

// AppendReplicated appends whole batches as another log has them: with their offsets and leader epochs.
// A batch that is cut short at the end is left out. It returns how many bytes it took. Records of internal topics may use more of a
// disk than others. Errors wrap kerr.CorruptMessage for bytes that are none, kerr.KafkaStorageError for a failed write or a full disk.
func (l *Log) AppendReplicated(data []byte, internal bool, now time.Time) (int, error) {
	if err := l.space.refuses(internal); err != nil {
		return 0, fmt.Errorf("%v: %w", l.tp, err)
	}
	var batches []record.Batch
	n := 0
	for rest := data; len(rest) > 0; {
		b, after, err := record.Next(rest)
		if errors.Is(err, record.ErrTruncated) {
			break
		}
		if err == nil {
			err = b.Check()
		}
		if err != nil {
			return 0, fmt.Errorf("%v: %w: %w", l.tp, err, kerr.CorruptMessage)
		}
		batches = append(batches, b)
		n += len(b)
		rest = after
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.producers.guards = nil // another leader has appended since they were made
	next := l.EndOffset()
	for len(batches) > 0 && batches[0].LastOffset() < next { // the read began inside what is here
		data = data[len(batches[0]):]
		n -= len(batches[0])
		batches = batches[1:]
	}
	if len(batches) > 0 && batches[0].BaseOffset() < next && next == l.start.Load() && l.Size() == 0 {
		// The other log begins inside a batch, by DeleteRecords: an empty copy begins with the whole of it.
		next = batches[0].BaseOffset()
		if err := l.restart(next, now); err != nil {
			return 0, err
		}
	}
	for _, b := range batches {
		if b.BaseOffset() < next || b.LastOffset() < b.BaseOffset() {
			return 0, fmt.Errorf("%v: offsets %d to %d follow %d: %w", l.tp, b.BaseOffset(), b.LastOffset(), next-1, kerr.CorruptMessage)
		}
		next = b.LastOffset() + 1
	}
	if len(batches) == 0 {
		return 0, nil
	}
	return n, l.write(data[:n], batches, now)
}

// Restart drops all records and goes on at offset, where another log begins that this one is a copy of.
func (l *Log) Restart(offset int64) error {
	l.mu.Lock()
	l.restarting = offset
	l.lower(0)
	l.mu.Unlock()
	var err error
	if l.truncated != nil { // a crash from now on leaves a log that begins there
		err = l.truncated(min(offset, l.start.Load()))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.restarting = -1
	if err != nil {
		return fmt.Errorf("%v: checkpoint before truncation: %w", l.tp, storageError(err))
	}
	if err := l.gone(); err != nil {
		return err
	}
	if l.broken != nil {
		return l.broken
	}
	return l.restart(offset, time.Now())
}

// announceCut has the checkpoints say, before anything is cut, that nothing from end on is on disk: what is
// written there anew may be lost, and a crash may come in the middle.
func (l *Log) announceCut(end int64) error {
	l.mu.Lock()
	told := l.recoveryPoint.Load() <= end
	l.lower(end)
	l.mu.Unlock()
	if told || l.truncated == nil {
		return nil
	}
	if err := l.truncated(end); err != nil {
		return fmt.Errorf("%v: checkpoint before truncation: %w", l.tp, storageError(err))
	}
	return nil
}

// lower notes that nothing from end on counts as being on disk. mu is held.
func (l *Log) lower(end int64) {
	l.cuts++
	l.recoveryPoint.Store(min(l.recoveryPoint.Load(), end))
}

func (l *Log) restart(offset int64, now time.Time) error {
	segments, err := *l.segments.Load(), l.create()
	if err == nil {
		segments, err = l.restartAt(offset, segments, now)
	}
	if err != nil {
		l.broken = fmt.Errorf("%v: begin again at offset %d: %w", l.tp, offset, storageError(err))
		return l.broken
	}
	l.setSegments(segments)
	l.copying.noteCut(0)
	l.start.Store(offset)
	l.deleted.Store(min(l.deleted.Load(), offset))
	l.high.Store(offset)
	l.cuts++
	l.recoveryPoint.Store(offset)
	l.named = false
	l.producers = newProducerStates()
	l.unstable.Store(-1)
	l.epochs.clear()
	return nil
}

// Truncate drops all records from offset on, as a follower does with what its leader never had, and the leader
// epochs that begin there: also those that wrote nothing, when offset is the log's end. A batch that holds offset goes
// as a whole. It returns the new log end offset.
func (l *Log) Truncate(offset int64) (int64, error) {
	if offset >= l.EndOffset() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.epochs.cut(l.start.Load(), offset)
		return l.EndOffset(), nil
	}
	if offset <= l.start.Load() {
		return offset, l.Restart(offset)
	}
	for {
		end, err := l.cutOff(offset)
		if !errors.Is(err, errChanged) {
			return end, err
		}
	}
}

// cutOff is Truncate for an offset above the log start. Its error is errChanged, and nothing has changed, if a compaction has replaced the
// segment that holds the offset.
func (l *Log) cutOff(offset int64) (int64, error) {
	s, first, ok, err := l.cutPoint(offset)
	if err != nil {
		return 0, fmt.Errorf("%v: truncate to %d: %w", l.tp, offset, storageError(err))
	}
	end, size := offset, s.size.Load()
	if ok {
		end, size = min(offset, first.base), first.pos
	}
	if start := l.start.Load(); end <= start { // nothing is left
		return start, l.Restart(start)
	}
	if err := l.announceCut(end); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.gone(); err != nil {
		return 0, err
	}
	if l.broken != nil {
		return 0, l.broken
	}
	at := slices.Index(*l.segments.Load(), s)
	if at < 0 {
		return 0, errChanged
	}
	if err := l.truncate(at, end, size); err != nil {
		l.broken = fmt.Errorf("%v: truncate to %d: %w", l.tp, offset, storageError(err))
		return 0, l.broken
	}
	return end, nil
}

// cutPoint finds the segment that an offset falls into, and the first batch of it that is to go, if any.
func (l *Log) cutPoint(offset int64) (*segment, batchRef, bool, error) {
	segments := *l.segments.Load()
	i := len(segments) - 1
	for i > 0 && segments[i].base > offset {
		i--
	}
	first, ok, err := segments[i].locate(offset, segments[i].size.Load())
	return segments[i], first, ok, err
}

// truncate cuts the log at the end, which is at size bytes of segment i. mu is held.
func (l *Log) truncate(i int, end, size int64) error {
	segments := *l.segments.Load()
	s := segments[i]
	kept := append([]*segment(nil), segments[:i+1]...)
	l.setSegments(kept)
	l.tail.Store(&tail{offset: end, segment: s, size: size})
	l.copying.noteCut(end)
	l.recent.clear()
	l.high.Store(min(l.high.Load(), end))
	l.lower(end)
	if err := l.dropAfter(segments[i+1:]); err != nil {
		return err
	}
	if err := l.cutAt(s, size); err != nil {
		return err
	}
	if err := s.dropAborted(); err != nil { // found again with the producers' state
		return err
	}
	for _, suffix := range []string{logfile.IndexSuffix, logfile.TimeIndexSuffix} { // they know of what is gone
		if err := l.fs.Remove(s.path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	s.unsyncedIndex.Store(false)
	if _, err := s.scan(0, l.config.Load().IndexInterval, nil); err != nil {
		return err
	}
	l.epochs.cut(l.start.Load(), end)
	entries, err := l.fs.ReadDir(l.dir)
	if err != nil {
		return err
	}
	if err := l.restoreProducers(entries, s.base, end); err != nil {
		return err
	}
	// Neither indexes nor snapshots may come back beside what is written in the place of what they describe.
	return l.fs.SyncDir(l.dir)
}

// SetStart moves the log start to where another log's is that this one is a copy of. Segments that lie wholly
// before it go.
func (l *Log) SetStart(offset int64, now time.Time) error {
	if offset <= l.deleted.Load() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset <= l.start.Load() { // this log's own retention was first
		l.noteDeleted(offset)
		return nil
	}
	return l.moveStart(min(offset, l.EndOffset()), now)
}
