package storage

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"kraft/wire/record"
)

// What follows reads the files of a log without opening it: for tools, beside a broker that uses them or without one.

// Suffixes of the files of a segment, and of the state of producers.
const (
	SegmentSuffix         = logSuffix
	OffsetIndexSuffix     = indexSuffix
	TimeIndexSuffix       = timeIndexSuffix
	TransactionSuffix     = txnIndexSuffix
	ProducerStateSuffix   = snapshotSuffix
	maxInspectedBatchSize = 1 << 30
)

// WalkSegment calls each with every batch of a segment's file and where it begins, in bytes; the batch is valid until each returns.
// Checksums are each's to check. It returns where the last whole batch ends, and the file's size: what lies between is no batch, or
// one that is not there to its end. Formats 0 and 1 are an error: a broker rewrites them when it opens the log.
func WalkSegment(path string, each func(b record.Batch, at int64) error) (end, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	size = info.Size()
	r := bufio.NewReaderSize(f, 1<<20)
	var buf []byte
	for size-end >= record.MinFrame {
		head, err := r.Peek(record.MinFrame)
		if err != nil {
			return end, size, err
		}
		n := int64(int32(binary.BigEndian.Uint32(head[8:]))) + record.MinFrame
		if n < record.MinFrame || n > min(size-end, maxInspectedBatchSize) {
			break
		}
		buf = slices.Grow(buf[:0], int(n))[:n]
		if _, err := io.ReadFull(r, buf); err != nil {
			return end, size, err
		}
		b, _, err := record.Next(buf)
		if err != nil {
			return end, size, err
		}
		if err := each(b, end); err != nil {
			return end, size, err
		}
		end += n
	}
	return end, size, nil
}

// OffsetEntry is one of an offset index: the offset, and where in the segment its batch begins.
type OffsetEntry struct{ Offset, Position int64 }

// TimeEntry is one of a time index: the largest timestamp so far, in milliseconds, and the offset of its record.
type TimeEntry struct{ Timestamp, Offset int64 }

// ReadOffsetIndex reads an .index file up to the room that Kafka keeps free at its end.
func ReadOffsetIndex(path string) ([]OffsetEntry, error) {
	data, base, err := readIndexFile(path, indexSuffix, offsetEntrySize)
	var out []OffsetEntry
	for ; len(data) > 0; data = data[offsetEntrySize:] {
		out = append(out, OffsetEntry{base + int64(binary.BigEndian.Uint32(data)), int64(binary.BigEndian.Uint32(data[4:]))})
	}
	return out, err
}

// ReadTimeIndex reads a .timeindex file likewise.
func ReadTimeIndex(path string) ([]TimeEntry, error) {
	data, base, err := readIndexFile(path, timeIndexSuffix, timeEntrySize)
	var out []TimeEntry
	for ; len(data) > 0; data = data[timeEntrySize:] {
		out = append(out, TimeEntry{int64(binary.BigEndian.Uint64(data)), base + int64(binary.BigEndian.Uint32(data[8:]))})
	}
	return out, err
}

// readIndexFile reads whole entries, without those at the end that are empty.
func readIndexFile(path, suffix string, entry int) (data []byte, base int64, err error) {
	base, ok := parseSegmentName(filepath.Base(path), suffix)
	if !ok {
		return nil, 0, fmt.Errorf("%s is not named by its first offset, like %s", path, segmentPath("", 0)+suffix)
	}
	if data, err = os.ReadFile(path); err != nil {
		return nil, base, err
	}
	if len(data)%entry != 0 {
		err = fmt.Errorf("%w: %d bytes are no number of entries of %d", errBadIndex, len(data), entry)
		data = data[:len(data)/entry*entry]
	}
	used := bytes.TrimRight(data, "\x00")
	return data[:(len(used)+entry-1)/entry*entry], base, err
}

// BaseOffset is the first offset of a segment by its file's name.
func BaseOffset(path string) (int64, error) {
	base, ok := parseSegmentName(filepath.Base(path), filepath.Ext(path))
	if !ok {
		return 0, fmt.Errorf("%s is not named by its first offset, like %s", path, segmentPath("", 0)+filepath.Ext(path))
	}
	return base, nil
}

// ProducerState is a producer's in a .snapshot file; FirstSequence to OffsetDelta are of its newest batch, -1 if none is known.
type ProducerState struct {
	ProducerID                  int64
	Epoch                       int16
	CoordinatorEpoch            int32
	TransactionBegan            int64 // first offset of its open transaction, -1 for none
	Timestamp                   int64 // milliseconds
	FirstSequence, LastSequence int32
	LastOffset                  int64
	OffsetDelta                 int32
}

// ReadProducers reads a .snapshot file, by producer.
func ReadProducers(path string) ([]ProducerState, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p, err := decodeProducers(data)
	if err != nil {
		return nil, err
	}
	var out []ProducerState
	for id, e := range p.byID {
		s := ProducerState{id, e.epoch, e.coordinatorEpoch, e.txnFirst, e.timestamp, -1, -1, -1, 0}
		if n := len(e.batches); n > 0 {
			b := e.batches[n-1]
			s.FirstSequence, s.LastSequence, s.LastOffset, s.OffsetDelta = b.firstSeq, b.lastSeq, b.lastOffset, b.offsetDelta
		}
		out = append(out, s)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ProducerID < out[j].ProducerID })
	return out, nil
}

// ReadTransactionIndex reads a .txnindex file.
func ReadTransactionIndex(path string) ([]AbortedTxn, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return decodeTxnIndex(data)
}
