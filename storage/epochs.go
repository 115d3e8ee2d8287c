package storage

import (
	"fmt"
	"path/filepath"
	"slices"
	"sort"
)

const epochCheckpoint = "leader-epoch-checkpoint"

// epochEntry says that the leader of epoch wrote from start on.
type epochEntry struct {
	epoch int32
	start int64
}

// epochCache is the history of leader epochs in a log (KIP-101). It reaches its file when the log is
// flushed or closed; what a crash loses, the batches that are read again bring back. Guarded by the log's
// mutex.
type epochCache struct {
	fs      FS
	path    string
	entries []epochEntry
	dirty   bool // entries are not what the file says
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
	for _, l := range lines {
		var e epochEntry
		if _, err := fmt.Sscanf(l, "%d %d", &e.epoch, &e.start); err != nil {
			return nil, fmt.Errorf("%s: line %q", c.path, l)
		}
		c.entries = append(c.entries, e)
	}
	return c, nil
}

// assign notes that epoch writes from start on. An epoch that wrote nothing gives way to it.
func (c *epochCache) assign(epoch int32, start int64) {
	if epoch < 0 || epoch <= c.latest() {
		return
	}
	if n := len(c.entries); n > 0 && c.entries[n-1].start == start {
		c.entries = c.entries[:n-1]
	}
	c.entries = append(c.entries, epochEntry{epoch, start})
	c.dirty = true
}

// cut forgets epochs that start at or after end, and lets none start before begin.
func (c *epochCache) cut(begin, end int64) {
	var kept []epochEntry
	for i, e := range c.entries {
		if e.start >= end && end >= 0 {
			continue
		}
		if i+1 < len(c.entries) && c.entries[i+1].start <= begin {
			continue // another epoch covers all that is left of this one
		}
		kept = append(kept, epochEntry{e.epoch, max(e.start, begin)})
	}
	if !slices.Equal(kept, c.entries) {
		c.entries, c.dirty = kept, true
	}
}

// clear forgets all epochs.
func (c *epochCache) clear() { c.entries, c.dirty = nil, true }

// latest is the newest epoch, -1 if there is none.
func (c *epochCache) latest() int32 {
	if len(c.entries) == 0 {
		return -1
	}
	return c.entries[len(c.entries)-1].epoch
}

// endOffset answers OffsetForLeaderEpoch: the largest known epoch <= the one asked for, and where it
// ends. (-1, -1) if the log knows no such epoch.
func (c *epochCache) endOffset(epoch int32, leo int64) (int32, int64) {
	if epoch < 0 || len(c.entries) == 0 {
		return -1, -1
	}
	if epoch > c.latest() {
		return -1, -1
	}
	i := sort.Search(len(c.entries), func(i int) bool { return c.entries[i].epoch > epoch })
	if i == 0 {
		return epoch, c.entries[0].start // older than all: everything is newer
	}
	if i == len(c.entries) {
		return c.entries[i-1].epoch, leo
	}
	return c.entries[i-1].epoch, c.entries[i].start
}

// at returns the epoch that wrote offset, -1 if unknown.
func (c *epochCache) at(offset int64) int32 {
	i := sort.Search(len(c.entries), func(i int) bool { return c.entries[i].start > offset })
	if i == 0 {
		return -1
	}
	return c.entries[i-1].epoch
}

// save writes the epochs that have records below end, if the file says otherwise. sync waits for the disk.
func (c *epochCache) save(end int64, sync bool) error {
	if !c.dirty {
		return nil
	}
	var lines []string
	for _, e := range c.entries {
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
		c.dirty = len(lines) < len(c.entries)
	}
	return err
}
