package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"kraft/storage/logfile"
	"kraft/wire/ident"
	"kraft/wire/record"
)

// Verified is what Verify has found of one partition's log.
type Verified struct {
	Path           string // of its directory
	Segments       int
	Batches        int64
	Records        int64
	Bytes          int64
	Start, End     int64    // the first offset, and the one behind the last
	Problems       []string // none for a log that is sound
	UnfinishedTail int64    // bytes at the end of the newest segment that are no whole batch, which the next start cuts off
}

// PartitionDirs are the directories of partitions at path: path itself if it is one, else those in it.
func PartitionDirs(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if !e.IsDir() && strings.HasSuffix(e.Name(), logfile.LogSuffix) {
			return []string{path}, nil
		}
		if _, ok := ident.ParseTopicPartition(e.Name()); !ok || !e.IsDir() {
			continue
		}
		logs, err := filepath.Glob(filepath.Join(path, e.Name(), "*"+logfile.LogSuffix))
		if err == nil && len(logs) > 0 { // other programs' directories are named so, too
			out = append(out, filepath.Join(path, e.Name()))
		}
	}
	return out, nil
}

// Verify reads all that is in a partition's directory, of a broker that runs or not: batches' checksums and records, that offsets rise
// without overlaps, and that what indexes and producers' state say agrees with it. read is told how many bytes were read, again and
// again. The error is of the directory; what is wrong in it is among the Problems.
func Verify(path string, read func(bytes int64)) (*Verified, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var bases []int64
	for _, e := range entries {
		if base, ok := logfile.ParseName(e.Name(), logfile.LogSuffix); ok {
			bases = append(bases, base)
		}
	}
	sort.Slice(bases, func(i, j int) bool { return bases[i] < bases[j] })
	v := &Verified{Path: path, Start: -1, End: 0}
	for i, base := range bases {
		if err := v.segment(base, i == len(bases)-1, read); err != nil {
			return v, err
		}
	}
	v.Start = max(v.Start, 0)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), logfile.SnapshotSuffix) {
			if _, err := ReadProducers(filepath.Join(path, e.Name())); err != nil {
				v.problem("%s: %v", e.Name(), err)
			}
		}
	}
	return v, nil
}

// problems is how many are told of a log: one damaged disk makes many.
const problems = 20

func (v *Verified) problem(format string, args ...any) {
	if len(v.Problems) < problems {
		v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
	}
}

// walked is where a segment's batches are, for its indexes.
type walked struct {
	byPosition map[int64]int64 // last offsets by where batches begin
	newest     int64           // largest timestamp of a batch
}

func (v *Verified) segment(base int64, last bool, read func(int64)) error {
	stem := logfile.Path(v.Path, base)
	name := filepath.Base(stem) + logfile.LogSuffix
	f := walked{byPosition: map[int64]int64{}, newest: -1}
	next := max(base, v.End)
	if v.Segments > 0 && base < v.End {
		v.problem("%s begins at %d, but the segment before it goes on to %d", name, base, v.End)
	}
	v.Segments++
	end, size, err := WalkSegment(stem+logfile.LogSuffix, func(b record.Batch, at int64) error {
		read(int64(b.Size()))
		v.Batches++
		v.Records += int64(b.Count())
		f.byPosition[at] = b.LastOffset()
		f.newest = max(f.newest, b.MaxTimestamp())
		if err := verifyBatch(b); err != nil {
			v.problem("%s at byte %d: %v", name, at, err)
		}
		if b.BaseOffset() < next {
			v.problem("%s at byte %d: a batch from offset %d on comes behind offset %d", name, at, b.BaseOffset(), next-1)
		}
		if v.Start < 0 {
			v.Start = b.BaseOffset()
		}
		next = b.LastOffset() + 1 // also of a batch that is out of order, so that it is told once
		return nil
	})
	v.Bytes += end
	v.End = next
	switch {
	case errors.Is(err, record.ErrCorrupt):
		v.problem("%s at byte %d: %v", name, end, err)
	case err != nil:
		return fmt.Errorf("%s: %w", stem+logfile.LogSuffix, err)
	case end < size && last:
		v.UnfinishedTail = size - end
	case end < size:
		v.problem("%s: %d bytes at byte %d are no batch", name, size-end, end)
	}
	if v.UnfinishedTail == 0 { // indexes are made anew where a start cuts the log
		v.indexes(stem, f)
	}
	return nil
}

func verifyBatch(b record.Batch) error {
	if err := b.Check(); err != nil {
		return err
	}
	_, err := b.Records(record.MaxRecordsBytes)
	return err
}

// indexes holds a segment's indexes against its batches. Those of the segment that is written to have no files.
func (v *Verified) indexes(stem string, f walked) {
	name := filepath.Base(stem)
	offsets, err := ReadOffsetIndex(stem + logfile.IndexSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.problem("%s: %v", name+logfile.IndexSuffix, err)
	}
	for _, e := range offsets {
		if last, ok := f.byPosition[e.Position]; !ok || last < e.Offset {
			v.problem("%s: offset %d is not at byte %d", name+logfile.IndexSuffix, e.Offset, e.Position)
		}
	}
	times, err := ReadTimeIndex(stem + logfile.TimeIndexSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.problem("%s: %v", name+logfile.TimeIndexSuffix, err)
	}
	for i, e := range times {
		if e.Timestamp > f.newest || i > 0 && e.Timestamp < times[i-1].Timestamp {
			v.problem("%s: timestamp %d of offset %d cannot be right", name+logfile.TimeIndexSuffix, e.Timestamp, e.Offset)
		}
	}
	if _, err := ReadTransactionIndex(stem + logfile.TxnIndexSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.problem("%s: %v", name+logfile.TxnIndexSuffix, err)
	}
}
