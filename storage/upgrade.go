package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"kraft/storage/logfile"
	"kraft/wire/record"
)

// upgrade rewrites the segments that hold messages of format 0 or 1, from before Kafka 0.11, in format 2:
// once, when the log is first opened, so that nothing else has to know of them. Offsets, timestamps and
// codecs stay. Formats only ever went up, so the first segment that begins with format 2 ends the search, and
// the newest is rewritten first: a crash leaves old ones in front. Within one, a crash leaves what compaction's
// would, and is survived the same way.
func (l *Log) upgrade(segments []*segment, st logState, entries []fs.DirEntry) error {
	n := 0
	for ; n < len(segments); n++ {
		if old, err := segments[n].isLegacy(); err != nil {
			return err
		} else if !old {
			break
		}
	}
	for i, s := range slices.Backward(segments[:n]) {
		flushed := st.clean || i+1 < len(segments) && segments[i+1].base <= st.recoveryPoint
		if err := l.upgradeSegment(s, flushed, entries); err != nil {
			return fmt.Errorf("upgrade of old messages in %s%s: %w", s.path, logfile.LogSuffix, err)
		}
	}
	return nil
}

// isLegacy says that a segment begins with a message of format 0 or 1.
func (s *segment) isLegacy() (bool, error) {
	var head [record.MinFrame + 5]byte
	if s.size.Load() < int64(len(head)) {
		return false, nil
	}
	f, err := s.open(false)
	if err != nil {
		return false, err
	}
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return false, err
	}
	magic := record.Magic(head[:])
	return magic == 0 || magic == 1, nil
}

// upgradeSegment puts a rewritten segment in the place of s. What is torn at its end is left out, unless
// all of it was on disk.
func (l *Log) upgradeSegment(s *segment, flushed bool, entries []fs.DirEntry) error {
	w, err := newCleanedSegment(l, s.base)
	if err != nil {
		return err
	}
	u := upgrade{out: w, next: s.base}
	good, err := walkAs(s, 0, nextEntry, func(e []byte, _ int64) error { return u.entry(e) })
	if err == nil || !flushed && (errors.Is(err, record.ErrTruncated) || errors.Is(err, record.ErrCorrupt)) {
		if err = u.flush(); err == nil {
			err = w.finish()
		}
		if err == nil { // the age of what it holds counts where records have no timestamp
			err = l.fs.Chtimes(s.path+logfile.LogSuffix+cleanedSuffix, s.created)
		}
	} else {
		err = fmt.Errorf("byte %d: %w", good, err)
	}
	if err != nil {
		return errors.Join(err, w.discard())
	}
	for _, suffix := range segmentSuffixes {
		if err := renameIfThere(l.fs, s.path+suffix+cleanedSuffix, s.path+suffix+swapSuffix); err != nil {
			return err
		}
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	if err := errors.Join(s.close(), w.seg.close()); err != nil {
		return err
	}
	if err := finishSwap(l.fs, l.dir, s.base, entries); err != nil {
		return err
	}
	s.size.Store(w.seg.size.Load())
	return l.fs.SyncDir(l.dir)
}

// nextEntry splits off a message of format 0 or 1, or a batch of format 2.
func nextEntry(data []byte) (entry, rest []byte, err error) {
	if len(data) >= record.MinFrame+5 && record.Magic(data) < 2 {
		return record.NextLegacy(data)
	}
	return record.Next(data)
}

// upgrade collects old messages into batches: wrappers one by one, others in groups.
type upgrade struct {
	out   *cleanedSegment
	next  int64 // offset
	group []record.Record
	bytes int
	// Of the group: a batch's timestamps come from the broker together or not at all.
	appendTime bool
}

// groupBytes is how large a batch of single messages becomes.
const groupBytes = 64 << 10

func (u *upgrade) entry(e []byte) error {
	if record.Magic(e) >= 2 {
		b := record.Batch(e)
		err := b.Check()
		if err == nil {
			err = u.follows(b.BaseOffset())
		}
		if err == nil {
			err = u.flush()
		}
		if err != nil {
			return err
		}
		u.next = b.LastOffset() + 1
		return u.out.append(b)
	}
	m, err := record.ExpandLegacy(e, record.MaxRecordsBytes)
	if err != nil {
		return err
	}
	for i := range m.Records {
		if err := u.follows(m.Records[i].Offset); err != nil {
			return err
		}
		u.next = m.Records[i].Offset + 1
	}
	if len(m.Records) == 0 {
		return nil
	}
	if m.Codec != record.None {
		if err := u.flush(); err != nil {
			return err
		}
		return u.write(m.Records, m.Codec, m.LogAppendTime)
	}
	if len(u.group) > 0 && (u.appendTime != m.LogAppendTime || u.appendTime && u.group[0].Timestamp != m.Records[0].Timestamp || u.bytes+len(e) > groupBytes) {
		if err := u.flush(); err != nil {
			return err
		}
	}
	r := m.Records[0]
	r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value) // the walk uses its buffer again
	u.group = append(u.group, r)
	u.bytes += len(e)
	u.appendTime = m.LogAppendTime
	return nil
}

func (u *upgrade) follows(offset int64) error {
	if offset < u.next || offset-u.out.seg.base > 1<<31-1 {
		return fmt.Errorf("%w: offset %d after %d", record.ErrCorrupt, offset, u.next-1)
	}
	return nil
}

func (u *upgrade) flush() error {
	if len(u.group) == 0 {
		return nil
	}
	err := u.write(u.group, record.None, u.appendTime)
	u.group, u.bytes = u.group[:0], 0
	return err
}

func (u *upgrade) write(records []record.Record, codec record.Codec, appendTime bool) error {
	w := record.NewBuilder(codec)
	base, newest := records[0].Offset, int64(record.NoTimestamp)
	for i := range records {
		w.AddAt(&records[i], int32(records[i].Offset-base))
		newest = max(newest, records[i].Timestamp)
	}
	b, err := w.Build()
	if err != nil {
		return err
	}
	if appendTime {
		b.SetLogAppendTime(newest)
	}
	b.SetBaseOffset(base)
	b.SetLeaderEpoch(-1)
	return u.out.append(b)
}
