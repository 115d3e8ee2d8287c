// Package storage keeps partitions' logs on disk in Apache Kafka's format: segments, indexes, producer
// state, leader epochs, checkpoints. It knows no network and no cluster. Errors meant for clients wrap
// a kerr error.
package storage

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/wire/ident"
	"kraft/wire/locks"
	"kraft/wire/record"
)

// Log is one partition's log. Appending is for one goroutine at a time, which mu sees to; reading never
// waits for it: readers follow the atomic pointers.
type Log struct {
	fs  *dirFS
	dir string
	tp  ident.TopicPartition
	id  [16]byte // topic id

	space *space // of the directory's disk
	// truncated, if set, writes the checkpoints again; see announceCut.
	truncated func(end int64) error

	config   atomic.Pointer[LogConfig]
	segments atomic.Pointer[[]*segment] // ascending; the last is active. Replaced under mu
	tail     atomic.Pointer[tail]       // replaced under mu
	start    atomic.Int64               // log start offset
	high     atomic.Int64               // high watermark
	unstable atomic.Int64               // first offset of the earliest transaction not yet decided, -1 if none
	gaps     atomic.Bool                // compaction has been here: offsets may be missing
	recent   recentBatches

	commit committing

	mu            locks.Mutex
	flushed       time.Time // when everything was last put on disk, or opened
	producers     *producerStates
	epochs        *epochCache
	recoveryPoint atomic.Int64 // everything below is on disk; changed under mu
	cuts          int          // how often the log was cut: a flush that began before knows nothing of what is there now
	restarting    int64        // where the log is about to begin anew, -1 if it is not
	deleted       atomic.Int64 // below it records were deleted by DeleteBefore or SetStart: a loss of power may bring their segments back
	found         string       // what recovery found, for the log of the broker; "" for nothing; set before the log is used
	copying       *copying     // its copy in another directory, while it moves; or nil
	damaged       bool         // recovery cut off more than a last batch that was not written to its end; set before the log is used
	created       bool         // the log's directory is there; false while it has never had a record
	named         bool         // the active segment's name is on disk, too
	jitter        time.Duration
	closed        bool
	moved         bool  // closed because it is in another directory now
	broken        error // a write failed half way: the partition refuses more
	doomed        []doomedFile
}

// tail is where the log ends, published as one so that readers see offset and size of the same moment.
type tail struct {
	offset  int64 // log end offset: the next record's
	segment *segment
	size    int64 // bytes in segment below offset
}

type doomedFile struct {
	path string
	due  time.Time
}

// Partition returns what the log belongs to.
func (l *Log) Partition() ident.TopicPartition { return l.tp }

// TopicID returns the topic id that partition.metadata holds.
func (l *Log) TopicID() [16]byte { return l.id }

// StartOffset is the first offset that may be read.
func (l *Log) StartOffset() int64 { return l.start.Load() }

// EndOffset is the offset that the next record will get.
func (l *Log) EndOffset() int64 { return l.tail.Load().offset }

// HighWatermark is the offset below which records are replicated and visible.
func (l *Log) HighWatermark() int64 { return l.high.Load() }

// SetHighWatermark moves the high watermark; replication decides where to. It never passes the end.
func (l *Log) SetHighWatermark(offset int64) {
	l.high.Store(min(max(offset, l.start.Load()), l.EndOffset()))
	if l.unstable.Load() >= 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.updateUnstable()
	}
}

// Config returns the current configuration, which must not be changed.
func (l *Log) Config() *LogConfig { return l.config.Load() }

// SetConfig replaces the configuration from the next operation on.
func (l *Log) SetConfig(c *LogConfig) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.config.Store(c)
	l.jitter = jitter(c)
	if c.Compact {
		l.gaps.Store(true)
	}
}

func jitter(c *LogConfig) time.Duration {
	if c.SegmentJitter <= 0 {
		return 0
	}
	return rand.N(max(min(c.SegmentJitter, c.SegmentAge), 1)) // below it, as in Kafka
}

// Size is the number of bytes in all segments.
func (l *Log) Size() int64 {
	var n int64
	for _, s := range *l.segments.Load() {
		n += s.size.Load()
	}
	return n
}

// LatestEpoch is the newest leader epoch with records, -1 without any.
func (l *Log) LatestEpoch() int32 {
	return l.epochs.history().latest()
}

// EpochEndOffset answers OffsetForLeaderEpoch (KIP-320): the largest epoch <= the given one and the
// offset at which it ends, or -1 and -1.
func (l *Log) EpochEndOffset(epoch int32) (int32, int64) {
	end := l.EndOffset() // first: an epoch that begins meanwhile is behind it
	return l.epochs.history().endOffset(epoch, end)
}

// EpochAt is the leader epoch that wrote offset, -1 if unknown.
func (l *Log) EpochAt(offset int64) int32 {
	return l.epochs.history().at(offset)
}

func (l *Log) active() *segment {
	s := *l.segments.Load()
	return s[len(s)-1]
}

// AssignEpoch notes a new leader's epoch as starting at the current end.
func (l *Log) AssignEpoch(epoch int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epochs.assign(epoch, l.EndOffset())
}

// failed says that the log takes no more writes.
func (l *Log) failed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed || l.broken != nil
}

// write appends whole batches whose offsets are set, noting each. mu is held.
func (l *Log) write(data []byte, batches []record.Batch, now time.Time) error {
	if err := l.takes(); err != nil {
		return err
	}
	if err := l.create(); err != nil {
		l.space.failed(err)
		return fmt.Errorf("%v: create: %w", l.tp, storageError(err))
	}
	config := l.config.Load()
	last := batches[len(batches)-1].LastOffset()
	seg := l.active()
	if l.shouldRoll(seg, config, int64(len(data)), batches[0], last, now) {
		// A copy of a compacted log may go on with a gap. It belongs into the new segment: one between segments means
		// that the end of the first is lost.
		base := l.EndOffset()
		if last-base > 1<<31-1 {
			base = batches[0].BaseOffset()
		}
		if err := l.roll(base, now); err != nil {
			return fmt.Errorf("%v: roll: %w", l.tp, storageError(err))
		}
		seg = l.active()
	}
	for _, b := range batches {
		l.epochs.assign(b.LeaderEpoch(), b.BaseOffset())
	}
	l.space.take(len(data))
	pos := seg.size.Load()
	file, err := seg.open(true)
	if err == nil {
		_, err = file.WriteAt(data, pos)
	}
	if err != nil {
		l.space.failed(err)
		// What reached the file lies beyond the published size; cut it so that nobody mistakes it.
		if file != nil {
			if e := file.Truncate(pos); e != nil {
				l.broken = fmt.Errorf("%v: cannot undo a failed write: %w", l.tp, storageError(e))
			}
		}
		return fmt.Errorf("%v: append: %w", l.tp, storageError(err))
	}
	at := pos
	noted := false
	defer func() {
		if !noted { // producers are known to have sent what nobody can read
			l.broken = fmt.Errorf("%v: a batch at offset %d was written and not noted: %w", l.tp, batches[0].BaseOffset(), kerr.KafkaStorageError)
		}
	}()
	for _, b := range batches {
		l.producers.apply(b)
		if err := l.noteTransaction(b, seg); err != nil {
			return fmt.Errorf("%v: transaction index: %w", l.tp, storageError(err))
		}
		seg.noteBatch(b, at, config.IndexInterval)
		l.recent.add(seg.base, batchRef{base: b.BaseOffset(), last: b.LastOffset(), pos: at, size: int64(len(b))})
		at += int64(len(b))
	}
	seg.size.Store(at)
	l.tail.Store(&tail{offset: last + 1, segment: seg, size: at})
	noted = true
	return nil
}

// takes returns why the log takes no batch, nil if it does. mu is held.
func (l *Log) takes() error {
	if err := l.gone(); err != nil {
		return err
	}
	return l.broken
}

// gone says why a closed log takes nothing more. mu is held.
func (l *Log) gone() error {
	switch {
	case !l.closed:
		return nil
	case l.moved:
		return fmt.Errorf("%v: %w", l.tp, ErrMoved)
	case l.fs.dir.offline() != nil:
		return fmt.Errorf("%v: %w", l.tp, l.fs.dir.offline())
	}
	return fmt.Errorf("%v: log is closed: %w", l.tp, kerr.NotLeaderForPartition)
}

// shouldRoll is Kafka's LogSegment.shouldRoll: by size, age, index, or an offset too far from the base.
func (l *Log) shouldRoll(s *segment, c *LogConfig, add int64, first record.Batch, last int64, now time.Time) bool {
	size := s.size.Load()
	if size == 0 {
		return last-s.base > 1<<31-1
	}
	age := now.Sub(s.created).Milliseconds()
	if s.firstTime >= 0 {
		age = first.MaxTimestamp() - s.firstTime
	}
	limit := c.SegmentAge
	if c.Compact {
		limit = min(limit, c.MaxCompactionLag) // the active segment is never compacted
	}
	return size+add > c.SegmentBytes || age > (limit-l.jitter).Milliseconds() ||
		s.index.full(c.IndexBytes) || last-s.base > 1<<31-1
}

// roll seals the active segment and starts one at base. mu is held.
func (l *Log) roll(base int64, now time.Time) error {
	if l.broken != nil {
		return l.broken
	}
	old := l.active()
	if err := old.writeIndexes(); err != nil {
		return err
	}
	if err := writeProducers(l.fs, l.dir, base, l.producers); err != nil {
		return err
	}
	s := newSegment(l.fs, l.dir, base)
	s.index = new(indexes)
	s.created = now
	if _, err := s.open(true); err != nil {
		return err
	}
	segments := append(append([]*segment(nil), *l.segments.Load()...), s)
	l.setSegments(segments)
	l.named = false
	l.tail.Store(&tail{offset: l.tail.Load().offset, segment: s})
	l.jitter = jitter(l.config.Load())
	return nil
}

// setSegments publishes the segments, oldest first; the log appends to the last. mu is held, or nobody else has the log yet.
func (l *Log) setSegments(list []*segment) {
	for i, s := range list {
		s.isActive.Store(i == len(list)-1)
	}
	l.segments.Store(&list)
}

// Flush puts everything below the current end on disk and moves the recovery point there. After a failed
// sync the kernel may have forgotten what it could not write: the log takes no more writes then.
func (l *Log) Flush() error {
	l.mu.Lock()
	point, end, created, named, broken, cuts := l.recoveryPoint.Load(), l.EndOffset(), l.created, l.named, l.broken, l.cuts
	segments := *l.segments.Load()
	var unwritten error
	if broken == nil && created {
		unwritten = writeSealedIndexes(segments)
		for _, s := range segments {
			unwritten = cmp.Or(unwritten, s.writeAborts())
		}
	}
	l.mu.Unlock()
	if broken != nil || !created {
		return broken
	}
	if unwritten != nil { // on a full disk, say: the next flush tries again
		return fmt.Errorf("%v: flush: %w", l.tp, storageError(unwritten))
	}
	err := l.syncSegments(segments, point)
	if err == nil && !named {
		// A new file's name is in the directory, which is another file.
		if err = l.fs.SyncDir(l.dir); err == nil {
			err = l.fs.SyncDir(filepath.Dir(l.dir))
		}
	}
	if err == nil && !named {
		err = syncFile(l.fs, filepath.Join(l.dir, partitionMetadata))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if gone := l.gone(); err != nil && gone != nil {
		return gone // its files were deleted meanwhile, or moved
	}
	if l.cuts != cuts && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrClosed)) {
		return l.broken // a segment was cut off during the sync, as below; nil unless the cut failed
	}
	if err != nil {
		l.broken = fmt.Errorf("%v: flush: %w", l.tp, storageError(err))
		return l.broken
	}
	if err := l.epochs.save(end, true); err != nil { // on a full disk, say: the next flush tries again
		return fmt.Errorf("%v: flush: %w", l.tp, storageError(err))
	}
	if l.cuts != cuts {
		return l.broken // what was synced is partly gone: the next flush knows what there is
	}
	l.recoveryPoint.Store(max(l.recoveryPoint.Load(), end))
	l.flushed = time.Now()
	if last := *l.segments.Load(); last[len(last)-1] == segments[len(segments)-1] {
		l.named = true
	}
	return nil
}

// writeSealedIndexes writes the indexes that were made anew for segments that are sealed, without waiting for the disk. Their files are of
// an earlier life, perhaps torn, and count once the recovery point lies behind their segment. The log's mu is held.
func writeSealedIndexes(segments []*segment) error {
	for _, s := range segments[:len(segments)-1] {
		if err := s.writeIndexes(); err != nil {
			return err
		}
	}
	return nil
}

// syncSegments syncs what lies behind point, and the indexes of segments that were sealed when their records were on disk.
func (l *Log) syncSegments(segments []*segment, point int64) error {
	for i, s := range segments {
		if i+1 < len(segments) && segments[i+1].base <= point && !s.unsynced() || s.size.Load() == 0 {
			continue
		}
		if err := s.sync(); err != nil {
			return fmt.Errorf("%s: %w", s.path, err)
		}
	}
	return nil
}

// Commit returns when everything below offset is on disk. Callers who wait at the same moment share one
// sync. Any goroutine may call it.
func (l *Log) Commit(offset int64) error {
	l.commit.mu.Lock()
	defer l.commit.mu.Unlock()
	for {
		l.mu.Lock()
		point, broken := l.recoveryPoint.Load(), l.broken
		l.mu.Unlock()
		switch {
		case point >= offset:
			return nil
		case broken != nil:
			return broken
		case offset > l.EndOffset():
			return fmt.Errorf("%v: records up to %d were cut off: %w", l.tp, offset, kerr.NotLeaderForPartition)
		case l.commit.running:
			l.commit.done.Wait()
		default:
			l.commit.running = true
			l.commit.mu.Unlock()
			err := l.Flush()
			l.commit.mu.Lock()
			l.commit.running = false
			l.commit.done.Broadcast()
			if err != nil {
				return err
			}
		}
	}
}

// Durable is the offset below which everything is on disk. Any goroutine may call it.
func (l *Log) Durable() int64 {
	return l.recoveryPoint.Load()
}

// committing lets one caller of Commit sync for all.
type committing struct {
	mu      locks.Mutex
	done    sync.Cond // L is mu
	running bool
}

// flushDue says that flush.messages or flush.ms asks for a flush.
func (l *Log) flushDue(now time.Time) bool {
	c := l.config.Load()
	if c.FlushMessages == 1<<63-1 && c.FlushAge == 1<<63-1 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := l.EndOffset() - l.recoveryPoint.Load()
	return !l.closed && waiting > 0 && (waiting >= c.FlushMessages || now.Sub(l.flushed) >= c.FlushAge)
}

// unflushedSealed says that a segment was sealed since the last flush.
func (l *Log) unflushedSealed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.recoveryPoint.Load() < l.active().base
}

// Close flushes, writes indexes and producer state, and closes all files. Appending ends with an error
// from then on. It is safe to call twice.
func (l *Log) Close() error { return l.closeWith(true) }

// closeWith is Close; without sync the caller puts everything on disk afterwards, for many logs at once.
func (l *Log) closeWith(sync bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.broken != nil { // the files may hold what is not published: the next start has to look
		return errors.Join(l.broken, l.closeFiles())
	}
	end := l.EndOffset()
	if err := l.seal(end, sync); err != nil {
		return fmt.Errorf("close %v: %w", l.tp, err)
	}
	l.recoveryPoint.Store(end)
	return l.closeFiles()
}

// seal writes all that a clean start reads. mu is held.
func (l *Log) seal(end int64, sync bool) error {
	segments := *l.segments.Load()
	small := len(segments) == 1 && segments[0].size.Load() < smallLog && len(l.producers.byID) == 0
	if l.recoveryPoint.Load() == end {
		if err := l.sealName(sync); err != nil || small {
			return err
		}
		return l.epochs.save(end, sync)
	}
	for i, s := range segments {
		if err := s.writeAborts(); err != nil {
			return err
		}
		if !small {
			if err := s.writeIndexes(); err != nil {
				return err
			}
		}
		grown := i+1 == len(segments) || segments[i+1].base > l.recoveryPoint.Load()
		if sync && s.size.Load() > 0 && (s.unsynced() || grown) {
			if err := s.sync(); err != nil {
				return err
			}
		}
	}
	if err := l.sealName(sync); err != nil {
		return err
	}
	if small {
		return nil
	}
	if err := l.epochs.save(end, sync); err != nil {
		return err
	}
	return writeProducers(l.fs, l.dir, end, l.producers)
}

// sealName puts on disk whose log it is, and the names of its files. mu is held.
func (l *Log) sealName(sync bool) error {
	if !sync || !l.created || l.named {
		return nil
	}
	if err := errors.Join(syncFile(l.fs, filepath.Join(l.dir, partitionMetadata)), l.fs.SyncDir(l.dir)); err != nil {
		return err
	}
	l.named = true
	return nil
}

// smallLog is the size in bytes below which a log without producers is closed as it is: reading it again
// costs less than the files that would spare it.
const smallLog = 64 << 10

func (l *Log) closeFiles() error {
	var first error
	for _, s := range *l.segments.Load() {
		if err := s.close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// recentBatches remembers where the newest batches of the active segment lie, so that readers near the
// end need no read to find them.
type recentBatches struct {
	mu   locks.RWMutex
	base int64 // of the segment
	n    int   // added in all
	ring []batchRef
}

const recentSize = 32

func (r *recentBatches) add(base int64, ref batchRef) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ring == nil {
		r.ring = make([]batchRef, recentSize)
	}
	if r.base != base {
		r.base, r.n = base, 0
	}
	r.ring[r.n%recentSize] = ref
	r.n++
}

// clear forgets all batches.
func (r *recentBatches) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n = 0
}

// find returns the batch in segment base that is the first to end at or after offset.
func (r *recentBatches) find(base, offset int64) (batchRef, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.n == 0 || r.base != base {
		return batchRef{}, false
	}
	oldest := max(0, r.n-recentSize)
	if r.ring[oldest%recentSize].base > offset {
		return batchRef{}, false
	}
	lo, hi := oldest, r.n // the first with last >= offset
	for lo < hi {
		m := (lo + hi) / 2
		if r.ring[m%recentSize].last >= offset {
			hi = m
		} else {
			lo = m + 1
		}
	}
	if lo == r.n {
		return batchRef{}, false
	}
	return r.ring[lo%recentSize], true
}

func partitionDir(dir string, tp ident.TopicPartition) string { return filepath.Join(dir, tp.String()) }
