// Package inspect reads the files of a log without opening it: for tools, beside a broker that uses them or without one.
package inspect

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"kraft/storage/logfile"
	"kraft/wire/record"
)

// maxBatch bounds a batch in bytes.
const maxBatch = 1 << 30

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
		if n < record.MinFrame || n > min(size-end, maxBatch) {
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
	data, base, err := readIndexFile(path, logfile.IndexSuffix, logfile.OffsetEntrySize)
	var out []OffsetEntry
	for ; len(data) > 0; data = data[logfile.OffsetEntrySize:] {
		out = append(out, OffsetEntry{base + int64(binary.BigEndian.Uint32(data)), int64(binary.BigEndian.Uint32(data[4:]))})
	}
	return out, err
}

// ReadTimeIndex reads a .timeindex file likewise.
func ReadTimeIndex(path string) ([]TimeEntry, error) {
	data, base, err := readIndexFile(path, logfile.TimeIndexSuffix, logfile.TimeEntrySize)
	var out []TimeEntry
	for ; len(data) > 0; data = data[logfile.TimeEntrySize:] {
		out = append(out, TimeEntry{int64(binary.BigEndian.Uint64(data)), base + int64(binary.BigEndian.Uint32(data[8:]))})
	}
	return out, err
}

// readIndexFile reads whole entries, without those at the end that are empty.
func readIndexFile(path, suffix string, entry int) (data []byte, base int64, err error) {
	base, ok := logfile.ParseName(filepath.Base(path), suffix)
	if !ok {
		return nil, 0, fmt.Errorf("%s is not named by its first offset, like %s", path, logfile.Path("", 0)+suffix)
	}
	if data, err = os.ReadFile(path); err != nil {
		return nil, base, err
	}
	if len(data)%entry != 0 {
		err = fmt.Errorf("%w: %d bytes are no number of entries of %d", logfile.ErrBadIndex, len(data), entry)
		data = data[:len(data)/entry*entry]
	}
	used := bytes.TrimRight(data, "\x00")
	return data[:(len(used)+entry-1)/entry*entry], base, err
}

// BaseOffset is the first offset of a segment by its file's name.
func BaseOffset(path string) (int64, error) {
	base, ok := logfile.ParseName(filepath.Base(path), filepath.Ext(path))
	if !ok {
		return 0, fmt.Errorf("%s is not named by its first offset, like %s", path, logfile.Path("", 0)+filepath.Ext(path))
	}
	return base, nil
}

// ReadProducers reads a .snapshot file, by producer.
func ReadProducers(path string) ([]logfile.Producer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return logfile.DecodeSnapshot(data)
}

// ReadTransactionIndex reads a .txnindex file.
func ReadTransactionIndex(path string) ([]logfile.AbortedTxn, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return logfile.DecodeTxnIndex(data)
}
