package storage_test

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"kraft/storage"
	"kraft/wire/record"
)

// diskLog opens a log on the real file system.
func diskLog(b *testing.B, dir string, c *storage.LogConfig) (*storage.Log, *storage.Manager) {
	b.Helper()
	d, err := storage.OpenDir(storage.OS{}, dir)
	if err != nil {
		b.Fatal(err)
	}
	if err := d.Claim("cluster", 1); err != nil {
		b.Fatal(err)
	}
	m, err := storage.NewManager([]*storage.Dir{d}, storage.ManagerConfig{
		RetentionInterval: time.Hour, CheckpointInterval: time.Hour, RecoveryThreads: 1,
		Cleaner: storage.CleanerConfig{Threads: 1, Memory: 128 << 20, Backoff: time.Hour},
	}, zerolog.Nop())
	if err != nil {
		b.Fatal(err)
	}
	l, err := m.Open(historyTP, historyID, [16]byte{}, c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Abandon(); _ = d.Close() })
	return l, m
}

// bigBatch is 64 KiB of records of 1 KiB, keyed if keys is more than 0.
func bigBatch(b *testing.B, keys, from int) record.Batch {
	b.Helper()
	w := record.NewBuilder(record.None)
	value := make([]byte, 1000)
	for i := range 64 {
		r := record.Record{Timestamp: 1_700_000_000_000, Value: value}
		if keys > 0 {
			r.Key = fmt.Appendf(nil, "key-%d", (from+i)%keys)
		}
		w.Add(&r)
	}
	batch, err := w.Build()
	if err != nil {
		b.Fatal(err)
	}
	return batch
}

// touchMemory writes a file and removes it: on a virtual machine the first touch of memory costs more than
// all that is measured here. Run with -benchtime 8000x, which stays below it.
func touchMemory(b *testing.B) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "touch")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for range 1000 {
		if _, err := f.Write(block); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkAppend is the log; BenchmarkBareAppend what a bare loop of CRC-32C and write(2) takes.
func BenchmarkAppend(b *testing.B) {
	touchMemory(b)
	l, _ := diskLog(b, b.TempDir(), storage.DefaultLogConfig())
	batch := bigBatch(b, 0, 0)
	now := time.UnixMilli(1_700_000_000_000)
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Append(batch, 0, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBareAppend(b *testing.B) {
	touchMemory(b)
	f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	batch := bigBatch(b, 0, 0)
	table := crc32.MakeTable(crc32.Castagnoli)
	b.SetBytes(int64(len(batch)))
	var at int64
	for b.Loop() {
		if crc32.Checksum(batch[21:], table) == 0 {
			b.Fatal("checksum")
		}
		if _, err := f.WriteAt(batch, at); err != nil {
			b.Fatal(err)
		}
		at += int64(len(batch))
	}
}

// BenchmarkRead finds regions of a log; the bytes themselves go by sendfile.
func BenchmarkRead(b *testing.B) {
	l, _ := diskLog(b, b.TempDir(), storage.DefaultLogConfig())
	batch := bigBatch(b, 0, 0)
	for range 1000 {
		if _, err := l.Append(batch, 0, time.UnixMilli(1_700_000_000_000)); err != nil {
			b.Fatal(err)
		}
	}
	end := l.EndOffset()
	b.ReportAllocs()
	offset := int64(0)
	for b.Loop() {
		if _, err := l.Read(offset, 1<<20, end, true); err != nil {
			b.Fatal(err)
		}
		offset = (offset + 640) % end
	}
}

// BenchmarkRecover reads a log after an unclean stop.
func BenchmarkRecover(b *testing.B) {
	dir := b.TempDir()
	l, m := diskLog(b, dir, storage.DefaultLogConfig())
	batch := bigBatch(b, 0, 0)
	const n = 8000
	for range n {
		if _, err := l.Append(batch, 0, time.UnixMilli(1_700_000_000_000)); err != nil {
			b.Fatal(err)
		}
	}
	_ = m
	b.SetBytes(n * int64(len(batch)))
	for b.Loop() {
		b.StopTimer()
		copied := b.TempDir()
		if err := os.MkdirAll(filepath.Join(copied, "h-0"), 0o755); err != nil {
			b.Fatal(err)
		}
		for _, f := range []string{"h-0/partition.metadata", "h-0/00000000000000000000.log"} {
			if err := os.Link(filepath.Join(dir, f), filepath.Join(copied, f)); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		r, _ := diskLog(b, copied, storage.DefaultLogConfig())
		if r.EndOffset() != n*64 {
			b.Fatalf("recovered up to %d", r.EndOffset())
		}
	}
}

// BenchmarkCompact compacts a log of which one record in ten stays.
func BenchmarkCompact(b *testing.B) {
	c := storage.DefaultLogConfig()
	c.Compact, c.Delete, c.SegmentBytes, c.DeleteDelay = true, false, 64<<20, 0
	const n, keys = 4000, n64 / 10
	var size int64
	for b.Loop() {
		b.StopTimer()
		l, _ := diskLog(b, b.TempDir(), c)
		size = 0
		for i := range n {
			batch := bigBatch(b, keys, i*64)
			size += int64(len(batch))
			if _, err := l.Append(batch, 0, time.UnixMilli(1_700_000_000_000)); err != nil {
				b.Fatal(err)
			}
		}
		l.SetHighWatermark(l.EndOffset())
		if err := l.Roll(time.Now()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := l.Compact(0, 128<<20, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(size)
}

const n64 = 4000 * 64
