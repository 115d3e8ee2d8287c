package storage_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"kraft/storage"
	"kraft/storage/faultfs"
	"kraft/wire/record"
)

// openOn opens one log on a file system of its own.
func openOn(t *testing.T, fs *faultfs.FS, config *storage.LogConfig) (*storage.Log, *storage.Manager) {
	t.Helper()
	return openAs(t, fs, historyID, config)
}

// openAs is openOn for a topic id, with other settings of the manager.
func openAs(t *testing.T, fs *faultfs.FS, id [16]byte, config *storage.LogConfig, change ...func(*storage.ManagerConfig)) (*storage.Log, *storage.Manager) {
	t.Helper()
	d, err := storage.OpenDir(fs, "/data")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Claim("cluster", 1); err != nil {
		t.Fatal(err)
	}
	settings := storage.ManagerConfig{
		RetentionInterval: time.Hour, CheckpointInterval: time.Hour, RecoveryThreads: 1, ReserveBytes: 1 << 20,
		Cleaner: storage.CleanerConfig{Threads: 1, Memory: 1 << 20, Backoff: time.Hour},
	}
	for _, c := range change {
		c(&settings)
	}
	m, err := storage.NewManager([]*storage.Dir{d}, settings, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	l, err := m.Open(historyTP, id, [16]byte{}, config)
	if err != nil {
		t.Fatal(err)
	}
	return l, m
}

func oneRecord(t *testing.T, value string) record.Batch {
	t.Helper()
	w := record.NewBuilder(record.None)
	w.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Key: []byte("k"), Value: []byte(value)})
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCommitSharesSyncs: what was committed survives the loss of power, and callers who wait at the same
// moment share a sync.
func TestCommitSharesSyncs(t *testing.T) {
	fs := faultfs.New(1)
	l, m := openOn(t, fs, storage.DefaultLogConfig())
	var syncs atomic.Int64
	fs.Fail = func(op faultfs.Op, path string) error {
		if op == faultfs.Sync && strings.HasSuffix(path, ".log") {
			syncs.Add(1)
			time.Sleep(2 * time.Millisecond) // a disk takes its time: the others gather
		}
		return nil
	}
	const n = 200
	var callers sync.WaitGroup
	for range n {
		callers.Add(1)
		go func() {
			defer callers.Done()
			a, err := l.Append(oneRecord(t, "v"), 0, time.Now())
			if err == nil {
				err = l.Commit(a.Last + 1)
			}
			if err != nil {
				t.Error(err)
			}
		}()
	}
	callers.Wait()
	if got := syncs.Load(); got > n/4 {
		t.Errorf("%d syncs for %d commits at once", got, n)
	}
	m.Abandon()
	fs.Fail = nil
	fs.Restart()
	l, m = openOn(t, fs, storage.DefaultLogConfig())
	defer m.Abandon()
	if l.EndOffset() != n {
		t.Errorf("%d of %d committed records are there after a loss of power", l.EndOffset(), n)
	}
}

// TestAnotherTopicOfTheName: what the checkpoints say of a deleted topic is not said of one that has its
// name; least of all that its records are on disk.
func TestAnotherTopicOfTheName(t *testing.T) {
	fs := faultfs.New(4)
	l, m := openOn(t, fs, storage.DefaultLogConfig())
	for range 50 {
		if _, err := l.Append(oneRecord(t, "old"), 0, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Close(1); err != nil {
		t.Fatal(err)
	}
	fs.Kill()
	other := [16]byte{8}
	l, m = openAs(t, fs, other, storage.DefaultLogConfig())
	a, err := l.Append(oneRecord(t, "new"), 0, time.Now())
	if err != nil || a.First != 0 {
		t.Fatalf("appended at %d, %v", a.First, err)
	}
	if err := l.Commit(a.Last + 1); err != nil {
		t.Fatal(err)
	}
	m.Abandon()
	fs.Restart()
	l, m = openAs(t, fs, other, storage.DefaultLogConfig())
	defer m.Abandon()
	if l.EndOffset() != 1 {
		t.Errorf("a committed record is gone: the log ends at %d", l.EndOffset())
	}
}

// TestFlushMessages: flush.messages puts records on disk without anybody asking.
func TestFlushMessages(t *testing.T) {
	fs := faultfs.New(2)
	c := storage.DefaultLogConfig()
	c.FlushMessages = 10
	l, m := openOn(t, fs, c)
	for range 25 {
		if _, err := l.Append(oneRecord(t, "v"), 0, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	m.Abandon()
	fs.Restart()
	l, m = openOn(t, fs, c)
	defer m.Abandon()
	if end := l.EndOffset(); end < 20 {
		t.Errorf("%d records after a loss of power, 20 were to be flushed", end)
	}
}

// TestFailedSyncIsTheEnd: after a sync that failed nobody knows what is on disk, so nothing is promised.
func TestFailedSyncIsTheEnd(t *testing.T) {
	fs := faultfs.New(3)
	l, m := openOn(t, fs, storage.DefaultLogConfig())
	defer m.Abandon()
	a, err := l.Append(oneRecord(t, "v"), 0, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	fs.Fail = func(op faultfs.Op, _ string) error {
		if op == faultfs.Sync {
			return syscall.EIO
		}
		return nil
	}
	if err := l.Commit(a.Last + 1); err == nil {
		t.Fatal("committed although the sync failed")
	}
	fs.Fail = nil
	if err := l.Commit(a.Last + 1); err == nil {
		t.Error("committed at the second try: the kernel may have dropped what it could not write")
	}
	if _, err := l.Append(oneRecord(t, "v"), 0, time.Now()); err == nil {
		t.Error("appends go on")
	}
}

// TestDamageIsNeverServed flips bits and removes files of a log that was stopped cleanly: what is read
// afterwards is right, or an error.
func TestDamageIsNeverServed(t *testing.T) {
	for seed := range uint64(400) {
		fs := faultfs.New(seed)
		c := storage.DefaultLogConfig()
		c.SegmentBytes, c.IndexInterval = 2000, 200
		l, m := openOn(t, fs, c)
		for i := range 60 {
			w := record.NewBuilder(record.None)
			w.Add(&record.Record{Timestamp: int64(i + 1), Key: []byte{byte(i)}, Value: []byte(strings.Repeat("v", i))})
			b, err := w.Build()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.Append(b, int32(i/20), time.UnixMilli(int64(i+1))); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Close(1); err != nil {
			t.Fatal(err)
		}
		fs.Kill()
		damage(t, fs, seed)
		checkDamaged(t, fs, c, seed)
	}
}

// damage harms one file of the partition.
func damage(t *testing.T, fs *faultfs.FS, seed uint64) {
	t.Helper()
	var files []string
	for _, p := range fs.Paths() {
		if strings.HasPrefix(p, "/data/h-0/") && !strings.HasSuffix(p, "partition.metadata") {
			files = append(files, p)
		}
	}
	victim := files[int(seed)%len(files)]
	if seed%3 == 0 && !strings.HasSuffix(victim, ".log") {
		fs.Vanish(victim)
	} else {
		fs.Flip(victim)
	}
}

func checkDamaged(t *testing.T, fs *faultfs.FS, c *storage.LogConfig, seed uint64) {
	t.Helper()
	d, err := storage.OpenDir(fs, "/data")
	if err != nil {
		return // said
	}
	m, err := storage.NewManager([]*storage.Dir{d}, storage.ManagerConfig{
		RetentionInterval: time.Hour, CheckpointInterval: time.Hour, RecoveryThreads: 1,
		Cleaner: storage.CleanerConfig{Threads: 1, Memory: 1 << 20, Backoff: time.Hour},
	}, zerolog.Nop())
	if err != nil {
		return
	}
	defer m.Abandon()
	l, err := m.Open(historyTP, historyID, [16]byte{}, c)
	if err != nil {
		return
	}
	for offset := l.StartOffset(); offset < l.EndOffset(); offset++ {
		s, err := l.Read(offset, 1, l.EndOffset(), true)
		if err != nil {
			continue
		}
		buf := make([]byte, s.Length)
		if _, err := s.File.ReadAt(buf, s.Offset); err != nil {
			continue
		}
		b, _, err := record.Next(buf)
		if err != nil || b.Check() != nil {
			continue // every client sees this, too
		}
		records, err := b.Records(1 << 20)
		if err != nil {
			continue
		}
		if r := records[0]; r.Offset != offset || r.Key[0] != byte(offset) || len(r.Value) != int(offset) {
			t.Fatalf("seed %d: offset %d brings record %d", seed, offset, r.Offset)
		}
	}
}

// TestCopyOfCompactedSurvivesKill: what a follower copies of a compacted log has gaps, also where its own segments end.
// After its process was killed they are no damage, and nothing behind them is cut off.
func TestCopyOfCompactedSurvivesKill(t *testing.T) {
	fs := faultfs.New(5)
	c := storage.DefaultLogConfig()
	c.Compact, c.SegmentBytes = true, 100
	l, m := openOn(t, fs, c)
	for _, at := range []int64{0, 1, 500, 501, 9000, 1 << 40} {
		b := oneRecord(t, "a value that fills more than half of a segment, by itself alone")
		b.SetBaseOffset(at)
		if _, err := l.AppendReplicated(b, false, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	m.Abandon()
	fs.Kill()
	l, m = openOn(t, fs, c)
	defer m.Abandon()
	if end := l.EndOffset(); end != 1<<40+1 {
		t.Errorf("log ends at %d after its process was killed", end)
	}
}

// TestFlushAfterTruncateIntoSealed: a log that is cut back into a segment whose indexes were written, and not yet synced,
// can be flushed.
func TestFlushAfterTruncateIntoSealed(t *testing.T) {
	fs := faultfs.New(6)
	l, m := openOn(t, fs, storage.DefaultLogConfig())
	defer m.Abandon()
	for range 5 {
		if _, err := l.Append(oneRecord(t, "v"), 0, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Roll(time.Now()); err != nil {
		t.Fatal(err)
	}
	if end, err := l.Truncate(3); err != nil || end != 3 {
		t.Fatal(end, err)
	}
	if _, err := l.Append(oneRecord(t, "w"), 0, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(); err != nil {
		t.Error(err)
	}
}

// TestFlushWithoutRoom: a flush that finds no room for its checkpoint fails, and the next one that does succeeds.
func TestFlushWithoutRoom(t *testing.T) {
	fs := faultfs.New(7)
	l, m := openOn(t, fs, storage.DefaultLogConfig())
	defer m.Abandon()
	if _, err := l.Append(oneRecord(t, "v"), 3, time.Now()); err != nil {
		t.Fatal(err)
	}
	fs.SetCapacity(true, 3)
	if err := l.Flush(); err == nil || l.Durable() != 0 {
		t.Errorf("flushed to %d without room", l.Durable())
	}
	fs.SetCapacity(false, 0)
	if err := l.Commit(1); err != nil || l.Durable() != 1 {
		t.Errorf("flushed to %d with room again: %v", l.Durable(), err)
	}
}

// TestIndexSealedAfterCommit: a segment that is sealed when its records are on disk has its indexes written after them. What a
// loss of power leaves of those must not make its records look as old as 1970: retention would take them.
func TestIndexSealedAfterCommit(t *testing.T) {
	for seed := range uint64(60) {
		fs := faultfs.New(seed)
		l, m := openOn(t, fs, storage.DefaultLogConfig())
		commit := func() {
			now := time.Now()
			a, err := l.Append(oneRecord(t, "v"), 0, now)
			if err == nil {
				err = l.Commit(a.Last + 1)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		commit()
		if err := l.Roll(time.Now()); err != nil {
			t.Fatal(err)
		}
		if seed%2 == 0 {
			commit() // else the power goes before
		}
		if err := m.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		m.Abandon()
		fs.Restart()
		l, m = openOn(t, fs, storage.DefaultLogConfig())
		l.SetHighWatermark(l.EndOffset())
		if err := l.Retain(time.Now()); err != nil {
			t.Fatal(err)
		}
		if start := l.StartOffset(); start != 0 {
			t.Fatalf("seed %d: retention took the records before %d", seed, start)
		}
		m.Abandon()
	}
}

// TestIndexRebuiltAfterCrash: a process is killed after it has sealed a segment, whose indexes are not on disk. The next one reads the
// segment to make them anew, puts all records on disk, and loses power. The indexes that are found then must be those of the second
// process, not what is left of the first one's.
func TestIndexRebuiltAfterCrash(t *testing.T) {
	for seed := range uint64(600) {
		fs := faultfs.New(seed)
		l, m := openOn(t, fs, storage.DefaultLogConfig())
		for i := range 8 {
			if _, err := l.Append(timedRecord(t, int64(1000+100*i)), 0, time.Now()); err != nil {
				t.Fatal(err)
			}
			if i == 3 {
				if err := l.Roll(time.Now()); err != nil {
					t.Fatal(err)
				}
			}
		}
		m.Abandon()
		fs.Kill()
		l, m = openOn(t, fs, storage.DefaultLogConfig())
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := m.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		m.Abandon()
		fs.Restart()
		l, m = openOn(t, fs, storage.DefaultLogConfig())
		if l.EndOffset() != 8 {
			t.Fatalf("seed %d: %d records are left", seed, l.EndOffset())
		}
		for i := range int64(8) {
			at, found, err := l.OffsetForTime(1000+100*i, l.EndOffset())
			if err != nil || !found || at.Offset != i {
				t.Errorf("seed %d: the record of time %d is found at %d, not %d: %v", seed, 1000+100*i, at.Offset, i, err)
			}
		}
		m.Abandon()
	}
}

func timedRecord(t *testing.T, timestamp int64) record.Batch {
	t.Helper()
	w := record.NewBuilder(record.None)
	w.Add(&record.Record{Timestamp: timestamp, Value: []byte("v")})
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
