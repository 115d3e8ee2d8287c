package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"kraft/storage/logfile"
	"kraft/wire/record"
)

// A compacted segment takes the place of those it was made of in steps, each of which a crash may be the
// last (Kafka's LocalLog.replaceSegments and LogLoader):
//
//  1. written and synced as .cleaned. A crash: thrown away.
//  2. renamed to .swap, the .log last. A crash: a .cleaned file is left, all of it is thrown away.
//  3. the old segments renamed to .deleted. A crash: there is a .log.swap, what it covers is removed and
//     the rest of the steps done.
//  4. .swap renamed to its place, the .log first. A crash: as before, or index files are left to rename.

// segmentSuffixes are a segment's files; the log itself comes last.
var segmentSuffixes = []string{logfile.IndexSuffix, logfile.TimeIndexSuffix, logfile.TxnIndexSuffix, logfile.LogSuffix}

// errChanged says that other segments took the place of those that an operation had looked at.
var errChanged = errors.New("segments changed meanwhile")

// replace puts a finished compaction in the place of the segments that it was made of.
func (l *Log) replace(old []*segment, w *cleanedSegment) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	segments := *l.segments.Load()
	at := slices.Index(segments, old[0])
	if l.closed || at < 0 || at+len(old) >= len(segments) || !slices.Equal(segments[at:at+len(old)], old) {
		return errors.Join(errChanged, w.discard())
	}
	// The file keeps the age of what it holds, which counts where records have no timestamp.
	modified := time.Time{}
	for _, s := range old {
		if info, err := l.fs.Stat(s.path + logfile.LogSuffix); err == nil && info.ModTime().After(modified) {
			modified = info.ModTime()
		}
	}
	w.seg.created = old[0].created
	if err := l.fs.Chtimes(w.seg.path+logfile.LogSuffix+cleanedSuffix, modified); err != nil {
		return errors.Join(err, w.discard())
	}
	err := l.swapFiles(old, w)
	w.seg.file.renamed(w.seg.path + logfile.LogSuffix)
	if err != nil {
		l.broken = fmt.Errorf("%v: replacing compacted segments: %w", l.tp, storageError(err))
		return l.broken
	}
	next := slices.Concat(segments[:at], []*segment{w.seg}, segments[at+len(old):])
	l.setSegments(next)
	return nil
}

// swapFiles is steps 2 to 4. mu is held.
func (l *Log) swapFiles(old []*segment, w *cleanedSegment) error {
	for _, suffix := range segmentSuffixes {
		if err := renameIfThere(l.fs, w.seg.path+suffix+cleanedSuffix, w.seg.path+suffix+swapSuffix); err != nil {
			return err
		}
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	now := time.Now()
	for _, s := range old {
		if err := l.markDeleted(s, now, s.base == w.seg.base); err != nil {
			return err
		}
	}
	for _, suffix := range slices.Backward(segmentSuffixes) {
		if err := renameIfThere(l.fs, w.seg.path+suffix+swapSuffix, w.seg.path+suffix); err != nil {
			return err
		}
	}
	return l.fs.SyncDir(l.dir)
}

func renameIfThere(fsys FS, from, to string) error {
	if err := fsys.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// finishSwaps ends replacements that a crash interrupted, before segments are listed. It reports whether
// there were any.
func finishSwaps(fsys *dirFS, dir string, entries []fs.DirEntry) (bool, error) {
	cleaned, swapped := map[int64]bool{}, map[int64]bool{}
	var leftovers []string // .swap files beside their .log
	for _, e := range entries {
		name := e.Name()
		if base, ok := baseOf(name, cleanedSuffix); ok {
			cleaned[base] = true
		} else if base, ok := baseOf(name, swapSuffix); ok {
			leftovers = append(leftovers, name)
			swapped[base] = swapped[base] || strings.HasSuffix(name, logfile.LogSuffix+swapSuffix)
		}
	}
	for _, name := range leftovers {
		base, _ := baseOf(name, swapSuffix)
		path := filepath.Join(dir, name)
		switch {
		case cleaned[base]: // step 2 was not finished
			if err := fsys.Remove(path); err != nil {
				return true, err
			}
		case !swapped[base]: // step 4: the log is in its place
			if err := fsys.Rename(path, strings.TrimSuffix(path, swapSuffix)); err != nil {
				return true, err
			}
		}
	}
	var bases []int64
	for base, ok := range swapped {
		if ok && !cleaned[base] {
			bases = append(bases, base)
		}
	}
	sort.Slice(bases, func(i, j int) bool { return bases[i] < bases[j] })
	for _, base := range bases {
		if err := finishSwap(fsys, dir, base, entries); err != nil {
			return true, err
		}
	}
	if len(leftovers) == 0 {
		return false, nil
	}
	return true, fsys.SyncDir(dir)
}

// finishSwap removes the segments that a swapped one covers and puts it in its place.
func finishSwap(fsys *dirFS, dir string, base int64, entries []fs.DirEntry) error {
	end, err := swapEnd(fsys, dir, base)
	if err != nil {
		return err
	}
	for _, e := range entries {
		for _, suffix := range segmentSuffixes {
			if b, ok := logfile.ParseName(e.Name(), suffix); ok && b >= base && (b < end || b == base) {
				if err := fsys.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
		}
	}
	path := logfile.Path(dir, base)
	for _, suffix := range slices.Backward(segmentSuffixes) {
		if err := renameIfThere(fsys, path+suffix+swapSuffix, path+suffix); err != nil {
			return err
		}
	}
	return nil
}

// swapEnd is the offset behind the last batch of a swapped segment: a compaction keeps the last of each
// segment that it read.
func swapEnd(fsys *dirFS, dir string, base int64) (int64, error) {
	s := newSegment(fsys, dir, base)
	f, err := fsys.openSegment(s.path+logfile.LogSuffix+swapSuffix, false)
	if err != nil {
		return 0, err
	}
	s.file = f
	defer s.close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	s.size.Store(info.Size())
	end := base
	if _, err := s.walk(0, func(b record.Batch, _ int64) error {
		end = b.LastOffset() + 1
		return b.Check()
	}); err != nil {
		return 0, fmt.Errorf("%s%s%s: %w", s.path, logfile.LogSuffix, swapSuffix, err)
	}
	return end, nil
}

// baseOf is the base offset in a name such as 00000000000000000042.index.swap.
func baseOf(name, ending string) (int64, bool) {
	rest, ok := strings.CutSuffix(name, ending)
	if !ok {
		return 0, false
	}
	for _, suffix := range segmentSuffixes {
		if base, ok := logfile.ParseName(rest, suffix); ok {
			return base, true
		}
	}
	return 0, false
}
