package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/wire/ident"
	"kraft/wire/record"
)

var testTP = ident.TopicPartition{Topic: "events", Partition: 0}
var testID = [16]byte{1, 2, 3}

func testManager(t testing.TB, dir string) *Manager {
	t.Helper()
	d, err := OpenDir(OS{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Claim("cluster", 1); err != nil {
		t.Fatal(err)
	}
	m, err := NewManager([]*Dir{d}, ManagerConfig{RetentionInterval: time.Hour, CheckpointInterval: time.Hour, RecoveryThreads: 2, Cleaner: CleanerConfig{Threads: 1, Memory: 1 << 20, Backoff: time.Hour}}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// crash stops a manager's goroutine and unlocks the directory, without any of what a clean stop does.
func crash(t *testing.T, m *Manager) {
	t.Helper()
	close(m.stop)
	m.cleaner.close()
	m.done.Wait()
	for _, p := range m.snapshot() {
		if err := p.log.closeFiles(); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.dirs[0].Close(); err != nil {
		t.Fatal(err)
	}
}

func stop(t *testing.T, m *Manager) {
	t.Helper()
	if err := m.Close(1); err != nil {
		t.Fatal(err)
	}
	if err := m.dirs[0].Close(); err != nil {
		t.Fatal(err)
	}
}

func batch(t *testing.T, n int, ts int64, pid int64, epoch int16, seq int32) record.Batch {
	t.Helper()
	w := record.NewBuilder(record.None)
	w.ProducerID, w.ProducerEpoch, w.BaseSequence = pid, epoch, seq
	for i := range n {
		w.Add(&record.Record{Timestamp: ts + int64(i), Key: []byte("key"), Value: fmt.Appendf(nil, "value %d at %d", i, ts)})
	}
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func open(t *testing.T, m *Manager, c *LogConfig) *Log {
	t.Helper()
	l, err := m.Open(testTP, testID, [16]byte{}, c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func appendTo(t *testing.T, l *Log, b record.Batch, now time.Time) Appended {
	t.Helper()
	a, err := l.Append(b, 0, now)
	if err != nil {
		t.Fatal(err)
	}
	l.SetHighWatermark(l.EndOffset())
	return a
}

// readAll reads every record from offset on through Read, in small portions.
func readAll(t *testing.T, l *Log, offset int64) (records []record.Record) {
	t.Helper()
	for offset < l.HighWatermark() {
		s, err := l.Read(offset, 300, l.HighWatermark(), true)
		if err != nil {
			t.Fatal(err)
		}
		if s.Length == 0 {
			t.Fatalf("nothing at %d below the high watermark %d", offset, l.HighWatermark())
		}
		buf := make([]byte, s.Length)
		if _, err := s.File.ReadAt(buf, s.Offset); err != nil {
			t.Fatal(err)
		}
		for len(buf) > 0 {
			b, rest, err := record.Next(buf)
			if errors.Is(err, record.ErrTruncated) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Check(); err != nil {
				t.Fatal(err)
			}
			rs, err := b.Records(1 << 20)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rs {
				if r.Offset >= offset {
					records = append(records, r)
				}
			}
			offset = b.LastOffset() + 1
			buf = rest
		}
	}
	return records
}

func checkOffsets(t *testing.T, records []record.Record, from, to int64) {
	t.Helper()
	if int64(len(records)) != to-from {
		t.Fatalf("%d records, want %d to %d", len(records), from, to)
	}
	for i, r := range records {
		if r.Offset != from+int64(i) {
			t.Fatalf("record %d has offset %d, want %d", i, r.Offset, from+int64(i))
		}
	}
}

func TestAppendReadAcrossSegmentsAndRestarts(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprintf("clean=%v", clean), func(t *testing.T) {
			dir := t.TempDir()
			c := DefaultLogConfig()
			c.SegmentBytes, c.IndexInterval = 4000, 500
			now := time.Now()
			m := testManager(t, dir)
			l := open(t, m, c)
			for i := range 100 {
				appendTo(t, l, batch(t, 1+i%3, now.UnixMilli()+int64(i)*10, -1, -1, -1), now)
			}
			if n := len(*l.segments.Load()); n < 3 {
				t.Fatalf("%d segments, want several", n)
			}
			end := l.EndOffset()
			checkOffsets(t, readAll(t, l, 0), 0, end)
			checkOffsets(t, readAll(t, l, 77), 77, end)
			at, ok, err := l.OffsetForTime(now.UnixMilli()+501, end)
			if err != nil || !ok || at.Timestamp < now.UnixMilli()+501 {
				t.Fatalf("OffsetForTime: %+v %v %v", at, ok, err)
			}
			newest, ok, err := l.MaxTimestamp(end)
			if err != nil || !ok || newest.Offset != end-1 {
				t.Fatalf("MaxTimestamp: %+v %v %v, end %d", newest, ok, err, end)
			}
			if clean {
				stop(t, m)
			} else {
				crash(t, m)
			}
			m = testManager(t, dir)
			l = open(t, m, c)
			if l.EndOffset() != end {
				t.Fatalf("end %d after restart, was %d", l.EndOffset(), end)
			}
			l.SetHighWatermark(end)
			checkOffsets(t, readAll(t, l, 0), 0, end)
			if at2, _, _ := l.OffsetForTime(now.UnixMilli()+501, end); at2 != at {
				t.Fatalf("OffsetForTime %+v after restart, was %+v", at2, at)
			}
			appendTo(t, l, batch(t, 2, now.UnixMilli(), -1, -1, -1), now)
			checkOffsets(t, readAll(t, l, end-5), end-5, end+2)
			stop(t, m)
		})
	}
}

func TestRecoveryCutsTornTail(t *testing.T) {
	dir := t.TempDir()
	m := testManager(t, dir)
	l := open(t, m, DefaultLogConfig())
	now := time.Now()
	for range 10 {
		appendTo(t, l, batch(t, 1, now.UnixMilli(), -1, -1, -1), now)
	}
	crash(t, m)
	path := filepath.Join(dir, "events-0", "00000000000000000000.log")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-3); err != nil {
		t.Fatal(err)
	}
	m = testManager(t, dir)
	l = open(t, m, DefaultLogConfig())
	if l.EndOffset() != 9 {
		t.Fatalf("end %d, want 9: the torn batch is cut", l.EndOffset())
	}
	if a := appendTo(t, l, batch(t, 1, now.UnixMilli(), -1, -1, -1), now); a.First != 9 {
		t.Fatalf("appended at %d, want 9", a.First)
	}
	checkOffsets(t, readAll(t, l, 0), 0, 10)
	stop(t, m)
}

func TestIdempotentProducer(t *testing.T) {
	dir := t.TempDir()
	m := testManager(t, dir)
	l := open(t, m, DefaultLogConfig())
	now := time.Now()
	ts := now.UnixMilli()
	for i := range 8 {
		appendTo(t, l, batch(t, 2, ts, 7, 0, int32(2*i)), now)
	}
	fails := func(b record.Batch, code error) {
		t.Helper()
		if _, err := l.Append(b, 0, now); !errors.Is(err, code) {
			t.Fatalf("got %v, want %v", err, code)
		}
	}
	if a := appendTo(t, l, batch(t, 2, ts, 7, 0, 6), now); !a.Duplicate || a.First != 6 || a.Last != 7 {
		t.Fatalf("fifth last batch again: %+v", a)
	}
	fails(batch(t, 2, ts, 7, 0, 4), kerr.OutOfOrderSequenceNumber) // older than five batches
	fails(batch(t, 2, ts, 7, 0, 18), kerr.OutOfOrderSequenceNumber)
	fails(batch(t, 2, ts, 7, 1, 3), kerr.OutOfOrderSequenceNumber)
	appendTo(t, l, batch(t, 2, ts, 7, 1, 0), now)
	fails(batch(t, 2, ts, 7, 0, 16), kerr.InvalidProducerEpoch)
	for _, clean := range []bool{false, true} { // state survives both kinds of stop
		if clean {
			stop(t, m)
		} else {
			crash(t, m)
		}
		m = testManager(t, dir)
		l = open(t, m, DefaultLogConfig())
		if a := appendTo(t, l, batch(t, 2, ts, 7, 1, 0), now); !a.Duplicate || a.First != 16 {
			t.Fatalf("duplicate after restart: %+v", a)
		}
		fails(batch(t, 2, ts, 7, 1, 5), kerr.OutOfOrderSequenceNumber)
	}
	stop(t, m)
}

func TestRetentionAndDeleteRecords(t *testing.T) {
	m := testManager(t, t.TempDir())
	c := DefaultLogConfig()
	c.SegmentBytes, c.RetentionAge, c.DeleteDelay = 300, time.Minute, 0
	l := open(t, m, c)
	now := time.Now()
	for i := range 40 {
		appendTo(t, l, batch(t, 1, now.Add(-time.Hour).UnixMilli()+int64(i), -1, -1, -1), now)
	}
	l.SetHighWatermark(20)
	if err := l.retain(now); err != nil {
		t.Fatal(err)
	}
	if s := l.StartOffset(); s == 0 || s > 20 {
		t.Fatalf("log starts at %d: old segments go, but only below the high watermark 20", s)
	}
	if _, err := l.Read(0, 100, 40, true); !errors.Is(err, kerr.OffsetOutOfRange) {
		t.Fatalf("read below the start: %v", err)
	}
	l.SetHighWatermark(40)
	if start, err := l.DeleteBefore(33, now); err != nil || start != 33 {
		t.Fatalf("DeleteBefore: %d %v", start, err)
	}
	checkOffsets(t, readAll(t, l, 33), 33, 40)
	if err := l.retain(now); err != nil {
		t.Fatal(err)
	}
	if l.StartOffset() != 40 || l.EndOffset() != 40 || l.Size() != 0 {
		t.Fatalf("all expired: %d to %d, %d bytes", l.StartOffset(), l.EndOffset(), l.Size())
	}
	if a := appendTo(t, l, batch(t, 1, now.UnixMilli(), -1, -1, -1), now); a.First != 40 {
		t.Fatalf("offset %d after deletion, want 40", a.First)
	}
	c2 := *c
	c2.RetentionAge, c2.RetentionBytes = -1, 300
	l.SetConfig(&c2)
	for range 30 {
		appendTo(t, l, batch(t, 1, now.UnixMilli(), -1, -1, -1), now)
	}
	if err := l.retain(now); err != nil {
		t.Fatal(err)
	}
	if n := l.Size(); n < 300 || n > 700 {
		t.Fatalf("%d bytes left with retention.bytes=300 and segments of 300", n)
	}
	stop(t, m)
}

func TestRejectsBadBatches(t *testing.T) {
	m := testManager(t, t.TempDir())
	c := DefaultLogConfig()
	c.MaxMessageBytes = 1000
	l := open(t, m, c)
	now := time.Now()
	good := batch(t, 3, now.UnixMilli(), -1, -1, -1)
	mangle := func(f func(b record.Batch)) record.Batch {
		b := append(record.Batch(nil), good...)
		f(b)
		return b
	}
	for name, tc := range map[string]struct {
		data []byte
		code error
	}{
		"flipped bit": {mangle(func(b record.Batch) { b[80] ^= 1 }), kerr.CorruptMessage},
		"cut":         {good[:len(good)-1], kerr.CorruptMessage},
		"too large":   {batch(t, 100, now.UnixMilli(), -1, -1, -1), kerr.MessageTooLarge},
		"far future":  {batch(t, 1, now.Add(2*time.Hour).UnixMilli(), -1, -1, -1), kerr.InvalidTimestamp},
		"no sequence": {batch(t, 1, now.UnixMilli(), 5, 0, -1), kerr.InvalidRecord},
		"not a batch": {[]byte("hello, this is no record batch at all"), kerr.CorruptMessage},
		"empty":       {nil, kerr.CorruptMessage},
	} {
		if _, err := l.Append(tc.data, 0, now); !errors.Is(err, tc.code) {
			t.Errorf("%s: got %v, want %v", name, err, tc.code)
		}
	}
	if l.EndOffset() != 0 {
		t.Fatalf("end %d after refused batches", l.EndOffset())
	}
	stop(t, m)
}

func TestDirInUse(t *testing.T) {
	dir := t.TempDir()
	d, err := OpenDir(OS{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(OS{}, dir); err == nil {
		t.Fatal("opened a directory twice")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestForeignFormatsAreLeftAlone: records of another format are refused with path and reason, not cut off,
// after a clean stop and after an unclean one.
func TestForeignFormatsAreLeftAlone(t *testing.T) {
	newer := append([]byte(nil), batch(t, 1, 1, -1, -1, -1)...)
	newer[16] = 3
	for name, data := range map[string][]byte{"format 3": newer} {
		for _, clean := range []bool{true, false} {
			dir := t.TempDir()
			m := testManager(t, dir)
			appendTo(t, open(t, m, DefaultLogConfig()), batch(t, 1, time.Now().UnixMilli(), -1, -1, -1), time.Now())
			stop(t, m)
			file := filepath.Join(dir, "events-0", "00000000000000000000.log")
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if !clean {
				if err := os.Remove(filepath.Join(dir, cleanFile)); err != nil {
					t.Fatal(err)
				}
			}
			m = testManager(t, dir)
			if _, err := m.Open(testTP, testID, [16]byte{}, DefaultLogConfig()); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), file) {
				t.Errorf("%s, clean=%v: %v", name, clean, err)
			}
			if have, err := os.ReadFile(file); err != nil || string(have) != string(data) {
				t.Errorf("%s, clean=%v: the file was changed (%v)", name, clean, err)
			}
			crash(t, m)
		}
	}
}

// TestForeignFilesAreLeftAlone: what does not belong into a log directory stays where it is.
func TestForeignFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	m := testManager(t, dir)
	l := open(t, m, DefaultLogConfig())
	appendTo(t, l, batch(t, 3, time.Now().UnixMilli(), -1, -1, -1), time.Now())
	stop(t, m)
	files := []string{"notes.txt", "lost+found/x", "events-0/notes.txt", "events-0/1.log", "no-partition/y"}
	for _, f := range files {
		path := filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m = testManager(t, dir)
	if l := open(t, m, DefaultLogConfig()); l.EndOffset() != 3 {
		t.Errorf("log ends at %d", l.EndOffset())
	}
	stop(t, m)
	for _, f := range files {
		if data, err := os.ReadFile(filepath.Join(dir, f)); err != nil || string(data) != "mine" {
			t.Errorf("%s: %q %v", f, data, err)
		}
	}
}

// TestNoFilesWithoutRecords: a log's directory is made with its first record; until then it answers as an empty
// log does, is closed, opened and deleted.
func TestNoFilesWithoutRecords(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, testTP.String())
	gone := func(when string) {
		t.Helper()
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s: stat gives %v", when, err)
		}
	}
	m := testManager(t, dir)
	for range 2 {
		l := open(t, m, DefaultLogConfig())
		l.AssignEpoch(3)
		if s, err := l.Read(0, 100, 0, true); err != nil || s.Length != 0 {
			t.Errorf("read gives %v, %v", s, err)
		}
		if offsets := l.SegmentOffsets(time.Now().UnixMilli(), 0); len(offsets) != 1 || offsets[0] != 0 {
			t.Errorf("segments begin at %v", offsets)
		}
		if err := errors.Join(l.Flush(), l.Retain(time.Now()), l.SetStart(0, time.Now()), m.Checkpoint()); err != nil {
			t.Error(err)
		}
		gone("open")
		stop(t, m)
		gone("closed")
		m = testManager(t, dir)
	}
	open(t, m, DefaultLogConfig())
	if err := m.Delete(testTP); err != nil {
		t.Error(err)
	}
	l := open(t, m, DefaultLogConfig())
	if err := l.Restart(7); err != nil { // where a leader's log begins
		t.Error(err)
	}
	stop(t, m)
	m = testManager(t, dir)
	if l = open(t, m, DefaultLogConfig()); l.StartOffset() != 7 || l.EndOffset() != 7 {
		t.Errorf("log of offsets %d to %d", l.StartOffset(), l.EndOffset())
	}
	stop(t, m)
}

// TestTruncateAtTheEnd: a leader that wrote nothing has an epoch that the next one does not know, and no record to
// cut off: an epoch that begins where the log is cut goes, of an empty log too.
func TestTruncateAtTheEnd(t *testing.T) {
	m := testManager(t, t.TempDir())
	defer stop(t, m)
	l := open(t, m, DefaultLogConfig())
	expect := func(last, of int32, ends int64) {
		t.Helper()
		if e, end := l.EpochEndOffset(l.LatestEpoch()); l.LatestEpoch() != last || e != of || end != ends {
			t.Errorf("latest epoch %d, which is %d to %d; expected %d to %d", l.LatestEpoch(), e, end, last, ends)
		}
	}
	cut := func(at int64) {
		t.Helper()
		if end, err := l.Truncate(at); err != nil || end != l.EndOffset() {
			t.Fatalf("cut at %d: %d, %v", at, end, err)
		}
	}
	l.AssignEpoch(1)
	expect(1, 1, 0)
	cut(0)
	expect(-1, -1, -1)
	l.AssignEpoch(2)
	if _, err := l.Append(batch(t, 3, 1_700_000_000_000, -1, -1, -1), 2, time.Now()); err != nil {
		t.Fatal(err)
	}
	l.AssignEpoch(5)
	expect(5, 5, 3)
	cut(4)
	expect(5, 5, 3)
	cut(3)
	expect(2, 2, 3)
}

// TestRepeatsAfterRestart: a producer may repeat any of its last five batches, also after a start, which finds only the
// newest of them in the snapshot.
func TestRepeatsAfterRestart(t *testing.T) {
	dir := t.TempDir()
	c := DefaultLogConfig()
	c.SegmentBytes = 100 // a batch each
	m := testManager(t, dir)
	l := open(t, m, c)
	now := time.Now()
	for seq := range int32(8) {
		if _, err := l.Append(batch(t, 1, now.UnixMilli(), 7, 0, seq), 0, now); err != nil {
			t.Fatal(err)
		}
	}
	stop(t, m)
	m = testManager(t, dir)
	defer stop(t, m)
	l = open(t, m, c)
	for seq := range int32(9) {
		a, err := l.Append(batch(t, 1, now.UnixMilli(), 7, 0, seq), 0, now)
		switch {
		case seq < 3 && !errors.Is(err, kerr.OutOfOrderSequenceNumber):
			t.Errorf("sequence %d: %v", seq, err)
		case seq >= 3 && (err != nil || a.Duplicate != (seq < 8) || a.First != int64(seq)):
			t.Errorf("sequence %d: %+v, %v", seq, a, err)
		}
	}
}

// TestAllDirectoriesFailTogether: that none is left is told once, however many fail at the same moment.
func TestAllDirectoriesFailTogether(t *testing.T) {
	var dirs []*Dir
	for range 3 {
		d, err := OpenDir(OS{}, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		dirs = append(dirs, d)
	}
	m, err := NewManager(dirs, ManagerConfig{RetentionInterval: time.Hour, CheckpointInterval: time.Hour, RecoveryThreads: 1, Cleaner: CleanerConfig{Threads: 1, Memory: 1 << 20, Backoff: time.Hour}}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		d.fail(syscall.EIO)
	}
	<-m.AllFailed()
	if err := m.Close(1); err != nil {
		t.Error(err)
	}
}

// TestNothingToCompactTwice: a log that is compacted up to its last stable offset has nothing dirty, though that lies
// inside a segment: a pass that failed there would begin again at once, for ever.
func TestNothingToCompactTwice(t *testing.T) {
	m := testManager(t, t.TempDir())
	defer stop(t, m)
	c := DefaultLogConfig()
	c.Compact = true
	l := open(t, m, c)
	now := time.Now()
	for range 10 {
		if _, err := l.Append(batch(t, 1, now.UnixMilli(), -1, -1, -1), 0, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Roll(now); err != nil {
		t.Fatal(err)
	}
	l.SetHighWatermark(6)
	work, err := l.cleanable(0, now)
	if err != nil || work.dirtyBytes == 0 || work.to != 6 {
		t.Fatalf("to be compacted: %+v, %v", work, err)
	}
	if work, err = l.cleanable(work.to, now); err != nil || work.dirtyBytes != 0 {
		t.Errorf("to be compacted again: %+v, %v", work, err)
	}
}

// TestMaxTimestamp: the newest record is that of those which may be read, whatever else the log holds.
func TestMaxTimestamp(t *testing.T) {
	c := DefaultLogConfig()
	c.SegmentBytes, c.IndexInterval = 3000, 300
	now := time.Now()
	m := testManager(t, t.TempDir())
	l := open(t, m, c)
	rng := rand.New(rand.NewPCG(1, 2))
	ends := []int64{0}
	for range 120 {
		a := appendTo(t, l, batch(t, 1+rng.IntN(4), now.UnixMilli()-rng.Int64N(1000), -1, -1, -1), now)
		ends = append(ends, a.Last+1)
	}
	records := readAll(t, l, 0)
	end := l.EndOffset()
	l.SetHighWatermark(end)
	for start := int64(0); start < end; start += 1 + rng.Int64N(12) {
		if _, err := l.DeleteBefore(start, now); err != nil {
			t.Fatal(err)
		}
		for _, upTo := range ends {
			var want *record.Record
			for i := range records {
				if r := &records[i]; r.Offset >= start && r.Offset < upTo && (want == nil || r.Timestamp > want.Timestamp) {
					want = r
				}
			}
			got, ok, err := l.MaxTimestamp(upTo)
			if err != nil || ok != (want != nil) || ok && (got.Offset != want.Offset || got.Timestamp != want.Timestamp) {
				t.Fatalf("from %d to %d: %+v %v %v, not %+v", start, upTo, got, ok, err, want)
			}
		}
	}
	stop(t, m)
}
