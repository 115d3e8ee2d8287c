package storage_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kraft/storage"
	"kraft/storage/faultfs"
	"kraft/wire/record"
)

// oldSegments are two segments of a log of the years before Kafka 0.11: messages of format 0 and 1, single
// and compressed, with the gaps that compaction leaves, and batches of format 2 that followed.
func oldSegments(t *testing.T) (files map[int64][]byte, want []string) {
	t.Helper()
	var set []byte
	next := int64(0)
	add := func(magic int8, codec record.Codec, appendTime bool, n int, gap int64) {
		var records []record.Record
		for i := range n {
			r := record.Record{Offset: next, Timestamp: 1_400_000_000_000 + next, Key: fmt.Append(nil, "k", next%5), Value: fmt.Append(nil, "old ", next)}
			if i%4 == 3 {
				r.Value = nil
			}
			if appendTime {
				r.Timestamp = 1_500_000_000_000
			}
			records = append(records, r)
			seen := r.Timestamp
			if magic == 0 {
				seen = -1
			}
			want = append(want, fmt.Sprintf("%d %d %s=%s %v", r.Offset, seen, r.Key, r.Value, appendTime))
			next += 1 + gap
		}
		var err error
		if set, err = record.ToLegacy(set, magic, codec, appendTime, records); err != nil {
			t.Fatal(err)
		}
	}
	for _, codec := range []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4} {
		add(0, codec, false, 7, 0)
		add(1, codec, false, 7, 2)
		add(1, codec, true, 5, 0)
	}
	files = map[int64][]byte{0: set}
	set = nil
	second := next
	add(1, record.None, false, 2000, 0)
	w := record.NewBuilder(record.None)
	w.BaseOffset = next
	w.Add(&record.Record{Timestamp: 1_600_000_000_000, Key: []byte("k"), Value: []byte("new")})
	want = append(want, fmt.Sprintf("%d %d %s=%s %v", next, 1_600_000_000_000, "k", "new", false))
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	files[second] = append(set, b...)
	return files, want
}

// described reads a whole log, a line for each record.
func described(l *storage.Log) (out []string, err error) {
	for offset := l.StartOffset(); offset < l.EndOffset(); {
		s, err := l.Read(offset, 1<<20, l.EndOffset(), true)
		if err != nil {
			return out, err
		}
		data := make([]byte, s.Length)
		if _, err := s.File.ReadAt(data, s.Offset); err != nil {
			return out, err
		}
		for len(data) > 0 {
			b, rest, err := record.Next(data)
			if err == record.ErrTruncated {
				break
			}
			if err == nil {
				err = b.Check()
			}
			if err != nil {
				return out, err
			}
			records, err := b.Records(1 << 20)
			if err != nil {
				return out, err
			}
			for _, r := range records {
				out = append(out, fmt.Sprintf("%d %d %s=%s %v", r.Offset, r.Timestamp, r.Key, r.Value, b.HasLogAppendTime()))
			}
			offset, data = b.LastOffset()+1, rest
		}
	}
	return out, nil
}

// plant makes a partition's directory of the given segments.
func plant(t *testing.T, fs *faultfs.FS, clean bool, files map[int64][]byte) {
	t.Helper()
	d := &disks{t: t, fs: fs}
	if err := d.start("/data"); err != nil {
		t.Fatal(err)
	}
	if err := d.m.Close(1); err != nil {
		t.Fatal(err)
	}
	if err := fs.MkdirAll("/data/h-0"); err != nil {
		t.Fatal(err)
	}
	for base, data := range files {
		if err := fs.WriteFile(fmt.Sprintf("/data/h-0/%020d.log", base), data); err != nil {
			t.Fatal(err)
		}
	}
	if !clean {
		fs.Vanish("/data/.kafka_cleanshutdown")
	}
	fs.Kill()
}

func reopen(t *testing.T, fs *faultfs.FS) (*disks, *storage.Log, error) {
	t.Helper()
	d := &disks{t: t, fs: fs}
	if err := d.start("/data"); err != nil {
		return d, nil, err
	}
	c := storage.DefaultLogConfig()
	c.Compact = true
	l, err := d.m.Open(historyTP, historyID, [16]byte{}, c)
	return d, l, err
}

// TestOldFormats: messages of format 0 and 1 are read with their offsets, timestamps, keys and values, and
// the log goes on; a second start finds nothing left to do.
func TestOldFormats(t *testing.T) {
	for _, clean := range []bool{true, false} {
		files, want := oldSegments(t)
		fs := faultfs.New(1)
		plant(t, fs, clean, files)
		for range 2 {
			d, l, err := reopen(t, fs)
			if err != nil {
				t.Fatal(err)
			}
			got, err := described(l)
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("clean=%v: %d records, want %d: %v", clean, len(got), len(want), err)
			}
			l.SetHighWatermark(l.EndOffset())
			if s, ok, err := l.OffsetForTime(1_600_000_000_000, l.EndOffset()); err != nil || !ok || s.Timestamp != 1_600_000_000_000 {
				t.Errorf("by time: %v, %v, %v", s, ok, err)
			}
			a, err := l.Append(oneRecord(t, "later"), 3, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			tail, err := described(l)
			if err != nil {
				t.Fatal(err)
			}
			if want = tail; len(want) != len(got)+1 || l.EndOffset() != a.Last+1 {
				t.Errorf("%d records after an append to %d", len(want), len(got))
			}
			if err := d.m.Close(1); err != nil {
				t.Fatal(err)
			}
			fs.Kill()
		}
	}
}

// TestOldFormatsCrash crashes after every n-th write of the upgrade: nothing is lost or twice.
func TestOldFormatsCrash(t *testing.T) {
	files, want := oldSegments(t)
	for n := 0; ; n++ {
		fs := faultfs.New(uint64(n + 1))
		plant(t, fs, n%2 == 0, files)
		fs.CrashAfter(n)
		d, _, err := reopen(t, fs)
		crashed := fs.Crashed()
		if err != nil && !crashed {
			t.Fatal(err)
		}
		if d.m != nil {
			d.m.Abandon()
		}
		fs.Restart()
		if d, l, err := reopen(t, fs); err != nil {
			t.Fatalf("after %d operations: %v", n, err)
		} else {
			if got, err := described(l); err != nil || !slices.Equal(got, want) {
				t.Fatalf("after %d operations: %d records, want %d: %v", n, len(got), len(want), err)
			}
			d.m.Abandon()
		}
		if !crashed {
			return
		}
	}
}

// TestOldFormatsDamaged: a torn tail is cut after an unclean stop; damage where everything was on disk is
// told and left as it is.
func TestOldFormatsDamaged(t *testing.T) {
	files, want := oldSegments(t)
	torn := map[int64][]byte{0: files[0][:len(files[0])-5]}
	fs := faultfs.New(1)
	plant(t, fs, false, torn)
	d, l, err := reopen(t, fs)
	if err != nil {
		t.Fatal(err)
	}
	got, err := described(l)
	if err != nil || len(got) == 0 || !slices.Equal(got, want[:len(got)]) || len(got) >= 76 {
		t.Errorf("torn: %d records, %v", len(got), err)
	}
	d.m.Abandon()

	fs = faultfs.New(1)
	plant(t, fs, true, torn)
	if d, _, err = reopen(t, fs); err == nil || !strings.Contains(err.Error(), "00000000000000000000.log: byte ") {
		t.Errorf("torn although the stop was clean: %v", err)
	}
	if data, err := fs.ReadFile("/data/h-0/00000000000000000000.log"); err != nil || !slices.Equal(data, torn[0]) {
		t.Errorf("the damaged file was changed: %v", err)
	}
	d.m.Abandon()
}
