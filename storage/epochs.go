package storage

import (
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"sync/atomic"
)

const epochCheckpoint = "leader-epoch-checkpoint"

// epochEntry says that the leader of epoch wrote from start on.
type epochEntry struct {
	epoch int32
	start int64
}

// epochCache is the history of leader epochs in a log (KIP-101). It reaches its file when the log is
// flushed or closed; what a crash loses, the batches that are read again bring back. Changes are guarded by the log's
// mutex; history may be read at any time.
type epochCache struct {
	fs      FS
	path    string
	current atomic.Pointer[epochHistory]
	dirty   bool // current is not what the file says
}

// epochHistory is immutable, in the order of epochs and of starts.
type epochHistory []epochEntry

func (c *epochCache) history() epochHistory {
	if h := c.current.Load(); h != nil {
		return *h
	}
	return nil
}

func (c *epochCache) set(h epochHistory) {
	c.current.Store(&h)
	c.dirty = true
}

func newEpochs(fsys FS, dir string) *epochCache {
	return &epochCache{fs: fsys, path: filepath.Join(dir, epochCheckpoint)}
}

func openEpochs(fsys FS, dir string) (*epochCache, error) {
	c := newEpochs(fsys, dir)
	lines, err := readCheckpoint(fsys, c.path)
	if err != nil {
		return nil, err
	}
	var h epochHistory
	for _, l := range lines {
		var e epochEntry
		if _, err := fmt.Sscanf(l, "%d %d", &e.epoch, &e.start); err != nil {
			return nil, fmt.Errorf("%s: line %q", c.path, l)
		}
		h = append(h, e)
	}
	c.current.Store(&h)
	return c, nil
}

// assign notes that epoch writes from start on. An epoch that wrote nothing gives way to it.
func (c *epochCache) assign(epoch int32, start int64) {
	h := c.history()
	if epoch < 0 || epoch <= h.latest() {
		return
	}
	if n := len(h); n > 0 && h[n-1].start == start {
		h = h[:n-1]
	}
	c.set(append(slices.Clone(h), epochEntry{epoch, start}))
}

// cut forgets epochs that start at or after end, and lets none start before begin.
func (c *epochCache) cut(begin, end int64) {
	var kept epochHistory
	h := c.history()
	for i, e := range h {
		if e.start >= end && end >= 0 {
			continue
		}
		if i+1 < len(h) && h[i+1].start <= begin {
			continue // another epoch covers all that is left of this one
		}
		kept = append(kept, epochEntry{e.epoch, max(e.start, begin)})
	}
	if !slices.Equal(kept, h) {
		c.set(kept)
	}
}

// clear forgets all epochs.
func (c *epochCache) clear() { c.set(nil) }

// latest is the newest epoch, -1 if there is none.
func (h epochHistory) latest() int32 {
	if len(h) == 0 {
		return -1
	}
	return h[len(h)-1].epoch
}

// endOffset answers OffsetForLeaderEpoch: the largest known epoch <= the one asked for, and where it
// ends. (-1, -1) if the log knows no such epoch.
func (h epochHistory) endOffset(epoch int32, leo int64) (int32, int64) {
	if epoch < 0 || len(h) == 0 {
		return -1, -1
	}
	if epoch > h.latest() {
		return -1, -1
	}
	i := sort.Search(len(h), func(i int) bool { return h[i].epoch > epoch })
	if i == 0 {
		return epoch, h[0].start // older than all: everything is newer
	}
	if i == len(h) {
		return h[i-1].epoch, leo
	}
	return h[i-1].epoch, h[i].start
}

// commonEnd returns the offset up to which a log with this history that ends at end, a copy of another log, has the same records as that
// log has now: it may have been cut since, and written to by another leader (KIP-101). It is 0 if they have no epoch in common.
func (h epochHistory) commonEnd(end int64, other epochHistory, otherEnd int64) int64 {
	if len(h) == 0 && len(other) == 0 {
		return min(end, otherEnd)
	}
	for i, e := range slices.Backward(h) {
		if i+1 < len(h) {
			end = h[i+1].start
		}
		j := slices.IndexFunc(other, func(o epochEntry) bool { return o.epoch == e.epoch })
		switch {
		case j < 0:
		case j+1 < len(other):
			return min(end, other[j+1].start)
		default:
			return min(end, otherEnd)
		}
	}
	return 0
}

// at returns the epoch that wrote offset, -1 if unknown.
func (h epochHistory) at(offset int64) int32 {
	i := sort.Search(len(h), func(i int) bool { return h[i].start > offset })
	if i == 0 {
		return -1
	}
	return h[i-1].epoch
}

// save writes the epochs that have records below end, if the file says otherwise. sync waits for the disk.
func (c *epochCache) save(end int64, sync bool) error {
	if !c.dirty {
		return nil
	}
	var lines []string
	h := c.history()
	for _, e := range h {
		if e.start < end {
			lines = append(lines, fmt.Sprintf("%d %d", e.epoch, e.start))
		}
	}
	var err error
	if data := encodeCheckpoint(lines); sync {
		err = c.fs.WriteFile(c.path, data)
	} else {
		err = writeWhole(c.fs, c.path, data)
	}
	if err == nil {
		c.dirty = len(lines) < len(h)
	}
	return err
}
