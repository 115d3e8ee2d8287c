package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"sort"
	"sync/atomic"

	"kraft/storage/logfile"
)

// offsetEntry says that the batch at pos ends with offset base+rel.
type offsetEntry struct{ rel, pos int32 }

// timeEntry says that up to and including the batch that ends with base+rel, timestamp is the largest.
type timeEntry struct {
	timestamp int64
	rel       int32
}

// growing is a slice that one goroutine appends to while others read.
type growing[T any] struct {
	buf atomic.Pointer[[]T]
	n   atomic.Int64
}

// view returns the elements published so far.
func (g *growing[T]) view() []T {
	n := g.n.Load() // before buf: a newer buf holds at least as many
	if n == 0 {
		return nil
	}
	return (*g.buf.Load())[:n]
}

func (g *growing[T]) add(v T) {
	n := int(g.n.Load())
	buf := g.buf.Load()
	if buf == nil || n == len(*buf) {
		bigger := make([]T, max(8, 2*n))
		if buf != nil {
			copy(bigger, *buf)
		}
		buf = &bigger
		g.buf.Store(buf)
	}
	(*buf)[n] = v
	g.n.Store(int64(n + 1))
}

// replace is for the owner while nobody else reads: at opening and after truncation.
func (g *growing[T]) replace(v []T) {
	g.n.Store(0)
	g.buf.Store(&v)
	g.n.Store(int64(len(v)))
}

// indexes are a segment's .index and .timeindex in memory. They are written to their files when the
// segment rolls or closes; what a crash loses, recovery rebuilds.
type indexes struct {
	offsets growing[offsetEntry]
	times   growing[timeEntry]
}

// before returns the last entry at or before relative offset rel; ok is false if there is none.
func (x *indexes) before(rel int64) (offsetEntry, bool) {
	e := x.offsets.view()
	i := sort.Search(len(e), func(i int) bool { return int64(e[i].rel) > rel })
	if i == 0 {
		return offsetEntry{}, false
	}
	return e[i-1], true
}

// position returns where to start scanning for the batch that holds relative offset rel.
func (x *indexes) position(rel int64) int64 {
	e, _ := x.before(rel)
	return int64(e.pos)
}

// behind is a relative offset above those of all batches that begin before pos, the largest there is without an entry behind pos.
func (x *indexes) behind(pos int64) int64 {
	e := x.offsets.view()
	i := sort.Search(len(e), func(i int) bool { return int64(e[i].pos) >= pos })
	if i == len(e) {
		return math.MaxInt32
	}
	return int64(e[i].rel)
}

// near is the position of a batch, by the last entry at or before pos; of one of the last five entries at least.
func (x *indexes) near(pos int64) int64 {
	e := x.offsets.view()
	i := sort.Search(len(e), func(i int) bool { return int64(e[i].pos) > pos })
	if i = min(i, len(e)-rememberedBatches+1); i <= 0 {
		return 0
	}
	return int64(e[i-1].pos)
}

// relativeAt returns the largest relative offset known to lie before the first timestamp >= ts.
func (x *indexes) relativeAt(ts int64) int64 {
	e := x.times.view()
	i := sort.Search(len(e), func(i int) bool { return e[i].timestamp >= ts })
	if i == 0 {
		return 0
	}
	return int64(e[i-1].rel)
}

func (x *indexes) addTime(ts int64, rel int32) {
	e := x.times.view()
	if n := len(e); n > 0 && (ts <= e[n-1].timestamp || rel < e[n-1].rel) {
		return
	}
	x.times.add(timeEntry{ts, rel})
}

// full says that one more entry would pass segment.index.bytes.
func (x *indexes) full(limit int64) bool {
	return (x.offsets.n.Load()+1)*logfile.OffsetEntrySize > limit || (x.times.n.Load()+1)*logfile.TimeEntrySize > limit
}

func (x *indexes) encode() (offsets, times []byte) {
	for _, e := range x.offsets.view() {
		offsets = binary.BigEndian.AppendUint32(offsets, uint32(e.rel))
		offsets = binary.BigEndian.AppendUint32(offsets, uint32(e.pos))
	}
	for _, e := range x.times.view() {
		times = binary.BigEndian.AppendUint64(times, uint64(e.timestamp))
		times = binary.BigEndian.AppendUint32(times, uint32(e.rel))
	}
	return offsets, times
}

// decodeIndexes reads both files of a segment of the given size. It returns logfile.ErrBadIndex if entries do not rise or pass the
// segment, or end in zeros: in a file that Kafka left preallocated or the kernel did not write, there is no saying what is
// missing.
func decodeIndexes(offsets, times []byte, size int64) (*indexes, error) {
	x := new(indexes)
	if len(offsets)%logfile.OffsetEntrySize != 0 || len(times)%logfile.TimeEntrySize != 0 {
		return nil, fmt.Errorf("%w: %d and %d bytes", logfile.ErrBadIndex, len(offsets), len(times))
	}
	var oe []offsetEntry
	for ; len(offsets) > 0; offsets = offsets[logfile.OffsetEntrySize:] {
		e := offsetEntry{int32(binary.BigEndian.Uint32(offsets)), int32(binary.BigEndian.Uint32(offsets[4:]))}
		if n := len(oe); n > 0 && (e.rel <= oe[n-1].rel || e.pos <= oe[n-1].pos) {
			return nil, fmt.Errorf("%w: entry %d does not rise", logfile.ErrBadIndex, n)
		}
		if e.rel < 0 || e.pos < 0 || int64(e.pos) >= size && size > 0 {
			return nil, fmt.Errorf("%w: entry %d points to %d of %d bytes", logfile.ErrBadIndex, len(oe), e.pos, size)
		}
		oe = append(oe, e)
	}
	var te []timeEntry
	for ; len(times) > 0; times = times[logfile.TimeEntrySize:] {
		e := timeEntry{int64(binary.BigEndian.Uint64(times)), int32(binary.BigEndian.Uint32(times[8:]))}
		if n := len(te); n > 0 && (e.timestamp <= te[n-1].timestamp || e.rel < te[n-1].rel) {
			return nil, fmt.Errorf("%w: time entry %d does not rise", logfile.ErrBadIndex, n)
		}
		if e == (timeEntry{}) { // records of 1970 would be older than any retention
			return nil, fmt.Errorf("%w: time entry %d is empty", logfile.ErrBadIndex, len(te))
		}
		te = append(te, e)
	}
	x.offsets.replace(oe)
	x.times.replace(te)
	return x, nil
}

func readIndexes(fsys FS, path string, size int64) (*indexes, error) {
	offsets, err := fsys.ReadFile(path + logfile.IndexSuffix)
	if err != nil {
		return nil, err
	}
	times, err := fsys.ReadFile(path + logfile.TimeIndexSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return decodeIndexes(offsets, times, size)
}
