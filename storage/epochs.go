package storage

import (
	"fmt"
	"path/filepath"
	"sort"
)

const epochCheckpoint = "leader-epoch-checkpoint"

// epochEntry says that the leader of epoch wrote from start on.
type epochEntry struct {
	epoch int32
	start int64
}

// epochCache is the history of leader epochs in a log (KIP-101). Guarded by the log's mutex.
type epochCache struct {
	fs      FS
	path    string
	entries []epochEntry
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

// assign notes that epoch writes from start on. It reports whether the checkpoint changed on disk.
func (c *epochCache) assign(epoch int32, start int64) error {
	if n := len(c.entries); n > 0 && (c.entries[n-1].epoch >= epoch) {
		return nil
	}
	if epoch < 0 {
		return nil
	}
	c.entries = append(c.entries, epochEntry{epoch, start})
	if err := c.save(); err != nil {
		c.entries = c.entries[:len(c.entries)-1] // tried again with the next batch
		return err
	}
	return nil
}

// cut forgets epochs that start at or after end, and lets none start before begin.
func (c *epochCache) cut(begin, end int64) error {
	var kept []epochEntry
	for i, e := range c.entries {
		if e.start >= end && end >= 0 && (e.start > end || i > 0) {
			continue
		}
		if i+1 < len(c.entries) && c.entries[i+1].start <= begin {
			continue // another epoch covers all that is left of this one
		}
		kept = append(kept, epochEntry{e.epoch, max(e.start, begin)})
	}
	if len(kept) == len(c.entries) {
		same := true
		for i := range kept {
			same = same && kept[i] == c.entries[i]
		}
		if same {
			return nil
		}
	}
	c.entries = kept
	return c.save()
}

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

func (c *epochCache) save() error {
	lines := make([]string, len(c.entries))
	for i, e := range c.entries {
		lines[i] = fmt.Sprintf("%d %d", e.epoch, e.start)
	}
	return writeCheckpoint(c.fs, c.path, lines)
}
