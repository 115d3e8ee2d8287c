package storage

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"kraft/storage/logfile"
	"kraft/wire/ident"
	"kraft/wire/record"
)

const partitionMetadata = "partition.metadata"

// logState is what a log directory remembers of a log between runs.
type logState struct {
	clean         bool  // the last stop was clean
	recoveryPoint int64 // below it everything is known to be on disk
	start         int64 // log start offset, if it was ever moved
	high          int64 // high watermark
	compacted     int64 // below it compaction has been, and offsets may have gaps
	space         *space
	identified    bool // partition.metadata holds the topic id
}

// openLog opens or creates a partition's log and recovers it if the last stop was not clean: segments
// from the recovery point on are read, checked and cut at the first batch that is torn or damaged.
func openLog(fsys *dirFS, path string, tp ident.TopicPartition, id [16]byte, config *LogConfig, st logState, now time.Time) (*Log, error) {
	l := &Log{fs: fsys, dir: path, tp: tp, id: id, space: st.space, restarting: -1, jitter: jitter(config)}
	l.deleted.Store(st.start)
	l.recoveryPoint.Store(st.recoveryPoint)
	l.config.Store(config)
	l.unstable.Store(-1)
	l.gaps.Store(config.Compact || st.compacted > 0)
	l.flushed = now
	l.commit.done.L = &l.commit.mu
	entries, err := fsys.ReadDir(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		l.begin(now)
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	l.created = true
	swapped, err := finishSwaps(fsys, l.dir, entries)
	if err != nil {
		return nil, fmt.Errorf("finish compaction of %v: %w", tp, err)
	}
	if swapped {
		if entries, err = fsys.ReadDir(l.dir); err != nil {
			return nil, err
		}
	}
	epochsKnown := true
	if l.epochs, err = openEpochs(fsys, l.dir); err != nil {
		epochsKnown = false // damaged: the batches know
		l.epochs = newEpochs(fsys, l.dir)
	}
	segments, err := l.loadSegments(entries, now)
	if err != nil {
		return nil, err
	}
	if !st.identified { // as a whole: a log that says nothing of its topic is nobody's
		if err := fsys.WriteFile(filepath.Join(l.dir, partitionMetadata), l.metadata()); err != nil {
			return nil, err
		}
	}
	if err := l.upgrade(segments, st, entries); err != nil {
		return nil, err
	}
	l.start.Store(max(st.start, segments[0].base))
	segments, scanned, err := l.recover(segments, st)
	if err != nil {
		return nil, fmt.Errorf("recover %v: %w", tp, err)
	}
	if start := l.start.Load(); start > l.tail.Load().offset {
		// What was left behind a moved log start is lost: offsets go on from there, none is used twice.
		if segments, err = l.restartAt(start, segments, now); err != nil {
			return nil, err
		}
		scanned = start
	}
	l.setSegments(segments)
	end := l.tail.Load().offset
	l.recoveryPoint.Store(min(l.recoveryPoint.Load(), end))
	l.SetHighWatermark(st.high)
	if !epochsKnown || len(l.epochs.history()) == 0 && end > l.start.Load() {
		if err := l.rebuildEpochs(segments); err != nil {
			return nil, err
		}
	}
	l.epochs.cut(l.start.Load(), end)
	return l, l.restoreProducers(entries, scanned, end)
}

// restartAt drops all segments and begins an empty one.
func (l *Log) restartAt(start int64, segments []*segment, now time.Time) ([]*segment, error) {
	if err := l.dropAfter(segments); err != nil {
		return nil, err
	}
	s := newSegment(l.fs, l.dir, start)
	s.index = new(indexes)
	s.created = now
	if _, err := s.open(true); err != nil {
		return nil, err
	}
	if err := l.fs.SyncDir(l.dir); err != nil { // without its name the log would begin at 0
		return nil, err
	}
	l.tail.Store(&tail{offset: start, segment: s})
	return []*segment{s}, nil
}

// rebuildEpochs learns the history of leader epochs from the batches' headers.
func (l *Log) rebuildEpochs(segments []*segment) error {
	for _, s := range segments {
		if _, _, err := s.seek(0, s.size.Load(), func(r batchRef) bool {
			l.epochs.assign(r.epoch, r.base)
			return false
		}); err != nil {
			return fmt.Errorf("leader epochs of %v: %w", l.tp, err)
		}
	}
	return nil
}

// begin makes an empty log, of which nothing is on disk: that comes with its first record, since the directories
// and files are most of what a new topic costs.
func (l *Log) begin(now time.Time) {
	l.epochs = newEpochs(l.fs, l.dir)
	l.producers = newProducerStates()
	s := newSegment(l.fs, l.dir, 0)
	s.index = new(indexes)
	s.created = now
	l.setSegments([]*segment{s})
	l.tail.Store(&tail{segment: s})
}

// create makes the log's directory unless it is there. mu is held.
func (l *Log) create() error {
	if l.created {
		return nil
	}
	if err := l.fs.MkdirAll(l.dir); err != nil {
		return err
	}
	if err := writeWhole(l.fs, filepath.Join(l.dir, partitionMetadata), l.metadata()); err != nil {
		return err
	}
	if _, err := l.active().open(true); err != nil {
		return err
	}
	l.created = true
	return nil
}

// metadata is what partition.metadata says.
func (l *Log) metadata() []byte {
	return []byte("version: 0\ntopic_id: " + base64.RawURLEncoding.EncodeToString(l.id[:]))
}

// readTopicID returns the topic id of a partition directory; ok is false if the file was torn. Without it the error wraps
// fs.ErrNotExist.
func readTopicID(fsys FS, dir string) (id [16]byte, ok bool, err error) {
	data, err := fsys.ReadFile(filepath.Join(dir, partitionMetadata))
	if err != nil {
		return id, false, err
	}
	for _, line := range strings.Split(string(data), "\n") {
		if text, found := strings.CutPrefix(line, "topic_id: "); found {
			text = strings.TrimRight(text, "\x00\n\r ")
			if len(text) < base64.RawURLEncoding.EncodedLen(16) {
				return id, false, nil // torn, before anything was flushed
			}
			raw, err := base64.RawURLEncoding.DecodeString(text)
			if err != nil || len(raw) != 16 {
				return id, false, fmt.Errorf("%s in %s: bad topic id %q", partitionMetadata, dir, text)
			}
			return [16]byte(raw), true, nil
		}
	}
	return id, false, nil // a crash while it was written: there can be no data yet
}

// loadSegments lists the segments and clears what an interrupted deletion or cleaning left.
func (l *Log) loadSegments(entries []fs.DirEntry, now time.Time) ([]*segment, error) {
	var segments []*segment
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, deletedSuffix) || strings.HasSuffix(name, cleanedSuffix) || strings.HasSuffix(name, ".tmp") {
			if err := l.fs.Remove(filepath.Join(l.dir, name)); err != nil {
				return nil, err
			}
			continue
		}
		base, ok := logfile.ParseName(name, logfile.LogSuffix)
		if !ok {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		s := newSegment(l.fs, l.dir, base)
		s.size.Store(info.Size())
		s.created = info.ModTime()
		segments = append(segments, s)
	}
	if len(segments) == 0 {
		l.found = "log directory has no segment: the log begins anew"
		s := newSegment(l.fs, l.dir, 0)
		s.created = now
		if _, err := s.open(true); err != nil {
			return nil, err
		}
		segments = append(segments, s)
	}
	sort.Slice(segments, func(i, j int) bool { return segments[i].base < segments[j].base })
	return segments, nil
}

// recover finds the end of the log. After a clean stop only the active segment's tail is read; otherwise
// what lies behind the recovery point. scanned is the offset from which batches were read one by one, the
// end of the log if none was.
func (l *Log) recover(segments []*segment, st logState) (kept []*segment, scanned int64, err error) {
	interval := l.config.Load().IndexInterval
	scanned = -1
	end := segments[0].base
	for i, s := range segments {
		last := i == len(segments)-1
		// One that ends at the recovery point may have been sealed after the last flush: its indexes are not sure to be on disk.
		if !last && (st.clean || segments[i+1].base < st.recoveryPoint) {
			end = segments[i+1].base
			continue
		}
		if st.clean {
			if next, ok := l.readTail(s, interval); ok {
				end = next
				continue
			}
		}
		if scanned < 0 {
			scanned = s.base
		}
		next, good, err := l.rescan(s, interval)
		end = next
		if err == nil && !last && next < segments[i+1].base && s.base >= st.compacted && segments[i+1].base-s.base <= 1<<31-1 {
			// What follows was on disk before the end of this segment, which is lost. (A copy of a compacted log begins
			// a segment behind a gap only where one segment cannot hold both sides.)
			err = fmt.Errorf("offsets %d to %d are missing: %w", next, segments[i+1].base-1, record.ErrTruncated)
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, record.ErrTruncated) && !errors.Is(err, record.ErrCorrupt) {
			return nil, 0, err
		}
		if good == 0 {
			if err := s.foreignFormat(); err != nil {
				return nil, 0, err
			}
		}
		if st.clean {
			return nil, 0, fmt.Errorf("%s%s is damaged at byte %d, offset %d, although the last stop was clean: %w", s.path, logfile.LogSuffix, good, next, err)
		}
		if next < st.recoveryPoint {
			return nil, 0, fmt.Errorf("%s%s is damaged at byte %d, offset %d: everything below offset %d was on disk: %w", s.path, logfile.LogSuffix, good, next, st.recoveryPoint, err)
		}
		if err := l.cutAt(s, good); err != nil {
			return nil, 0, err
		}
		l.found = "log ended inside of a batch, and is cut off there"
		if !last && next == segments[i+1].base {
			continue // what a failed write left behind this segment's end
		}
		l.damaged = !last || !errors.Is(err, record.ErrTruncated)
		if err := l.dropAfter(segments[i+1:]); err != nil {
			return nil, 0, err
		}
		segments = segments[:i+1]
		break
	}
	if end < st.recoveryPoint && l.start.Load() < st.recoveryPoint {
		return nil, 0, fmt.Errorf("%s ends at offset %d, and everything below offset %d was on disk: to copy the replica from its leader again, stop this broker, delete that directory and start it", l.dir, end, st.recoveryPoint)
	}
	active := segments[len(segments)-1]
	if active.index == nil {
		active.setIndex(new(indexes))
	}
	if scanned < 0 {
		scanned = end
	}
	l.tail.Store(&tail{offset: end, segment: active, size: active.size.Load()})
	return segments, scanned, nil
}

// foreignFormat refuses a segment that begins with records of a format still to come. Cutting it would lose
// what is whole.
func (s *segment) foreignFormat() error {
	f, err := s.open(false)
	if err != nil {
		return err
	}
	head := make([]byte, min(s.size.Load(), walkBuffer))
	if len(head) < record.MinFrame+5 {
		return nil
	}
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	if magic := record.Magic(head); magic > 2 {
		return fmt.Errorf("%s%s holds records of format %d, this version knows 2 at most: a newer broker wrote it", s.path, logfile.LogSuffix, magic)
	}
	return nil
}

// rescan reads a whole segment: its indexes are made anew and its leader epochs noted. next is the offset
// behind the last good batch, good its position.
func (l *Log) rescan(s *segment, interval int64) (next, good int64, err error) {
	next = s.base
	if err := s.dropAborted(); err != nil { // found again with the producers' state
		return next, 0, err
	}
	good, err = s.scan(0, interval, func(b record.Batch) error {
		next = b.LastOffset() + 1
		l.epochs.assign(b.LeaderEpoch(), b.BaseOffset())
		return nil
	})
	return next, good, err
}

// readTail finds a cleanly closed active segment's end from its index: only what follows the last entry
// is read. ok is false if the index cannot be trusted.
func (l *Log) readTail(s *segment, interval int64) (end int64, ok bool) {
	size := s.size.Load()
	x, err := readIndexes(s.fs, s.path, size)
	if err != nil {
		return 0, false
	}
	s.setIndex(x)
	end = s.base
	if size == 0 {
		return end, true
	}
	pos := int64(0)
	if e := x.offsets.view(); len(e) > 0 {
		pos = int64(e[len(e)-1].pos)
	}
	good, err := s.walk(pos, func(b record.Batch, at int64) error {
		if err := b.Check(); err != nil {
			return err
		}
		end = b.LastOffset() + 1
		s.sinceIndex += int64(len(b))
		if ts := b.MaxTimestamp(); ts > s.maxTime.Load() {
			s.maxTime.Store(ts)
			s.maxTimeLast.Store(b.LastOffset())
		}
		return nil
	})
	if err != nil || good != size {
		s.maxTime.Store(record.NoTimestamp)
		return 0, false
	}
	if ref, found, err := s.seek(0, size, func(batchRef) bool { return true }); err == nil && found {
		s.firstTime = ref.maxTime
	}
	return end, true
}

func (l *Log) cutAt(s *segment, size int64) error {
	f, err := s.open(false)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	s.size.Store(size)
	return f.Sync()
}

// dropAfter deletes segments behind a damaged one: offsets must not have holes.
func (l *Log) dropAfter(segments []*segment) error {
	for _, s := range slices.Backward(segments) { // a crash must leave no gap
		if err := s.abandon(); err != nil {
			return err
		}
		for _, suffix := range []string{logfile.LogSuffix, logfile.IndexSuffix, logfile.TimeIndexSuffix, logfile.TxnIndexSuffix} {
			if err := l.fs.Remove(s.path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	// They must not come back beside what is written in their place.
	return l.fs.SyncDir(l.dir)
}

// restoreProducers loads the newest snapshot that is no newer than what was scanned, and replays the
// batches behind it. Transaction indexes of scanned segments are made anew on the way.
func (l *Log) restoreProducers(entries []fs.DirEntry, scanned, end int64) error {
	p, from, err := loadProducers(l.fs, l.dir, entries, l.start.Load(), scanned, end)
	if err != nil {
		return err
	}
	l.producers = p
	if err := l.recall(p, from, time.Now()); err != nil {
		return err
	}
	segments := *l.segments.Load()
	for i, s := range segments {
		if i+1 < len(segments) && segments[i+1].base <= from || from >= end {
			continue
		}
		x, err := s.indexed()
		if err != nil {
			return err
		}
		if _, err := s.walk(x.position(from-s.base), func(b record.Batch, _ int64) error {
			if b.BaseOffset() < from {
				return nil
			}
			p.apply(b)
			if s.base >= scanned {
				return l.noteTransaction(b, s)
			}
			p.ended = nil
			return nil
		}); err != nil {
			return fmt.Errorf("producer state of %v: %w", l.tp, err)
		}
		if err := errors.Join(s.writeAborts(), s.syncAborted()); err != nil {
			return err
		}
	}
	l.updateUnstable()
	return nil
}

const (
	recallBytes = 1 << 20   // of batches before a snapshot that are looked at again
	recallAge   = time.Hour // of a partition's newest batch: no producer repeats older ones (delivery.timeout.ms), but a clock may jump
)

// recall adds to producers that come from a snapshot of offset from, which knows the last batch of each, those before it:
// a producer may yet repeat any of its last five. Kafka tells such a one that it is out of order, and the producer sends
// the records again as new ones.
func (l *Log) recall(p *producerStates, from int64, now time.Time) error {
	if !p.activeSince(now.Add(-recallAge).UnixMilli()) {
		return nil
	}
	segments := *l.segments.Load()
	last := len(segments) - 1
	for last >= 0 && segments[last].base >= from {
		last--
	}
	first, size := last+1, int64(0)
	for first > 0 && size < recallBytes {
		first--
		size += segments[first].size.Load()
	}
	earlier := map[int64][]producedBatch{}
	for i := first; i <= last; i++ {
		s, pos := segments[i], int64(0)
		if i == first && size > recallBytes {
			x, err := s.indexed()
			if err != nil {
				return err
			}
			pos = x.near(size - recallBytes)
		}
		_, err := s.walk(pos, func(b record.Batch, _ int64) error {
			e := p.byID[b.ProducerID()]
			if e != nil && len(e.batches) > 0 && !b.IsControl() && b.ProducerEpoch() == e.epoch && b.LastOffset() < e.batches[0].firstOffset() {
				earlier[b.ProducerID()] = append(earlier[b.ProducerID()], producedBy(b))
			}
			return nil
		})
		if err != nil && !errors.Is(err, record.ErrTruncated) && !errors.Is(err, record.ErrCorrupt) { // not for us to say
			return err
		}
	}
	for id, batches := range earlier {
		e := p.byID[id]
		e.batches = append(batches[max(0, len(batches)+len(e.batches)-rememberedBatches):], e.batches...)
	}
	return nil
}
