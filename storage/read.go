package storage

import (
	"fmt"
	"sort"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/storage/logfile"
	"kraft/wire/record"
)

// Slice is a run of whole batches in a file, except that the last may be cut short by the size asked for.
type Slice struct {
	File   File
	Offset int64 // in the file
	Length int
	// FirstCut says that Length ends inside the first batch: the caller asked for less than one.
	FirstCut bool
	// End is above the offsets of all records in the run, and not far.
	End int64
}

// Read returns where the records from offset on lie, up to maxBytes and to the offset upTo, exclusive.
// whole makes the first batch whole even if it is larger than maxBytes. Nothing there yet gives a Slice
// of length 0. An offset outside the log gives kerr.OffsetOutOfRange. Any goroutine may call it.
func (l *Log) Read(offset int64, maxBytes int, upTo int64, whole bool) (Slice, error) {
	t := l.tail.Load() // before segments: its segment is among them
	if offset < l.start.Load() || offset > t.offset {
		return Slice{}, fmt.Errorf("%v: offset %d is outside %d to %d: %w", l.tp, offset, l.start.Load(), t.offset, kerr.OffsetOutOfRange)
	}
	upTo = min(upTo, t.offset)
	if offset >= upTo {
		return Slice{}, nil
	}
	segments := *l.segments.Load()
	i := sort.Search(len(segments), func(i int) bool { return segments[i].base > offset }) - 1
	if i < 0 {
		return Slice{}, fmt.Errorf("%v: offset %d was deleted: %w", l.tp, offset, kerr.OffsetOutOfRange)
	}
	for ; i < len(segments) && segments[i].base < upTo; i++ {
		s := segments[i]
		limit := s.size.Load()
		if s == t.segment {
			limit = t.size
		}
		first, ok, err := l.find(s, offset, limit)
		if err != nil {
			return Slice{}, fmt.Errorf("%v: %w", l.tp, storageError(err))
		}
		if ok && first.base > offset && !l.gaps.Load() {
			// Length and offset of a batch are not under its checksum; here one of them must be damaged.
			return Slice{}, fmt.Errorf("%v: %s%s is damaged: offsets %d to %d are missing: %w", l.tp, s.path, logfile.LogSuffix, offset, first.base-1, kerr.KafkaStorageError)
		}
		if !ok || first.base >= upTo {
			continue // offsets may have gaps at a segment's end
		}
		if upTo < t.offset && (i+1 == len(segments) || segments[i+1].base > upTo) {
			end, ok, err := l.find(s, upTo, limit)
			if err != nil {
				return Slice{}, fmt.Errorf("%v: %w", l.tp, storageError(err))
			}
			if ok {
				limit = end.pos
			}
		}
		file, err := s.open(false)
		if err != nil {
			return Slice{}, fmt.Errorf("%v: %w", l.tp, storageError(err))
		}
		n := min(limit-first.pos, int64(max(maxBytes, 0)))
		if whole {
			n = min(limit-first.pos, max(n, first.size))
		}
		end := upTo
		if x, err := s.indexed(); err == nil && first.pos+n < limit {
			end = min(end, s.base+x.behind(first.pos+n))
		}
		return Slice{File: file, Offset: first.pos, Length: int(n), FirstCut: n < first.size, End: end}, nil
	}
	return Slice{}, nil
}

// find is segment.locate, by memory where the batch is recent.
func (l *Log) find(s *segment, offset, limit int64) (batchRef, bool, error) {
	if r, ok := l.recent.find(s.base, offset); ok && r.pos+r.size <= limit {
		return r, true, nil
	}
	return s.locate(offset, limit)
}

// Stamped is an offset with the timestamp and leader epoch of its record.
type Stamped struct {
	Offset    int64
	Timestamp int64
	Epoch     int32
}

// OffsetForTime finds the first record below upTo whose timestamp is at or after ms. ok is false if
// there is none.
func (l *Log) OffsetForTime(ms, upTo int64) (found Stamped, ok bool, err error) {
	for _, s := range *l.segments.Load() {
		if s.base >= upTo {
			break
		}
		if s.size.Load() == 0 {
			continue
		}
		largest, err := s.largestTimestamp()
		if err != nil {
			return Stamped{}, false, err
		}
		if largest < ms {
			continue
		}
		found, ok, err = l.recordAt(s, ms, upTo)
		if ok || err != nil {
			return found, ok, err
		}
	}
	return Stamped{}, false, nil
}

// MaxTimestamp finds the first record below upTo that has the largest timestamp (KIP-734).
func (l *Log) MaxTimestamp(upTo int64) (found Stamped, ok bool, err error) {
	var best *segment
	largest := int64(record.NoTimestamp)
	for _, s := range *l.segments.Load() {
		if s.base >= upTo || s.size.Load() == 0 {
			continue
		}
		ts, err := s.largestBetween(l.start.Load(), upTo)
		if err != nil {
			return Stamped{}, false, err
		}
		if ts > largest {
			best, largest = s, ts
		}
	}
	if best == nil {
		return Stamped{}, false, nil
	}
	return l.recordAt(best, largest, upTo)
}

// recordAt finds the first record of s from ms on that lies between the log's start and upTo.
func (l *Log) recordAt(s *segment, ms, upTo int64) (Stamped, bool, error) {
	x, err := s.indexed()
	if err != nil {
		return Stamped{}, false, err
	}
	pos := x.position(x.relativeAt(ms))
	limit := s.size.Load()
	for {
		ref, ok, err := s.seek(pos, limit, func(r batchRef) bool { return r.maxTime >= ms })
		if err != nil || !ok || ref.base >= upTo {
			return Stamped{}, false, err
		}
		var found *Stamped
		err = s.walkBatch(ref, func(offset, timestamp int64) bool {
			if timestamp >= ms && offset >= l.start.Load() && offset < upTo {
				found = &Stamped{offset, timestamp, ref.epoch}
			}
			return found == nil
		})
		if err != nil {
			return Stamped{}, false, fmt.Errorf("%v: %w", l.tp, err)
		}
		if found != nil {
			return *found, true, nil
		}
		pos = ref.pos + ref.size
	}
}

// SegmentOffsets lists base offsets of segments written before ms, newest first, for ListOffsets 0:
// the end offset comes first where ms allows.
func (l *Log) SegmentOffsets(ms int64, upTo int64) []int64 {
	var out []int64
	segments := *l.segments.Load()
	for i := len(segments) - 1; i >= 0; i-- {
		s := segments[i]
		written := s.created
		if info, err := l.fs.Stat(s.path + logfile.LogSuffix); err == nil {
			written = info.ModTime()
		}
		if written.UnixMilli() <= ms {
			out = append(out, max(s.base, l.start.Load()))
		}
	}
	if len(out) == len(segments) && segments[len(segments)-1].size.Load() > 0 {
		out = append([]int64{upTo}, out...)
	}
	return out
}
