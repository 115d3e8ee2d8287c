package storage_test

import (
	"testing"
	"time"

	"kraft/storage"
	"kraft/storage/faultfs"
)

// TestHangs: a sync that waits is seen where acknowledgements wait for syncs, and only there; and no longer than it waits.
func TestHangs(t *testing.T) {
	for _, noted := range []bool{true, false} {
		fs := faultfs.New(1)
		l, m := openAs(t, fs, historyID, storage.DefaultLogConfig(), func(c *storage.ManagerConfig) { c.NoteSyncs = noted })
		if _, err := l.Append(oneRecord(t, "v"), 0, time.Now()); err != nil {
			t.Fatal(err)
		}
		if dir, waited := m.Hangs(); waited != 0 {
			t.Errorf("a write waits in %s for %v where none does", dir, waited)
		}
		reached, goOn := fs.HoldSync()
		flushed := make(chan error, 1)
		go func() { flushed <- l.Flush() }()
		<-reached
		time.Sleep(20 * time.Millisecond) // what is measured
		dir, waited := m.Hangs()
		if seen := dir == "/data" && waited >= 20*time.Millisecond; seen != noted {
			t.Errorf("syncs noted %v: a write waits in %q for %v", noted, dir, waited)
		}
		close(goOn)
		if err := <-flushed; err != nil {
			t.Fatal(err)
		}
		if _, waited := m.Hangs(); waited != 0 {
			t.Errorf("a write waits for %v after it has ended", waited)
		}
		if err := m.Close(1); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDeletedStaysDeleted: a log start that DeleteBefore moved within a segment, or to where one begins, outlives kill -9 and a loss of
// power, once KeepStarts has returned: what the file system keeps of the deletion of segments does not matter.
func TestDeletedStaysDeleted(t *testing.T) {
	for seed := range uint64(20) {
		for _, segmentBytes := range []int64{1 << 20, 160} {
			fs := faultfs.New(seed)
			c := storage.DefaultLogConfig()
			c.SegmentBytes = segmentBytes
			l, m := openOn(t, fs, c)
			for range 10 {
				if _, err := l.Append(oneRecord(t, "v"), 0, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			l.SetHighWatermark(10)
			if err := l.Flush(); err != nil {
				t.Fatal(err)
			}
			for _, offset := range []int64{8, 5} { // the second is where the log begins later already
				if start, err := l.DeleteBefore(offset, time.Now()); err != nil || start != 8 {
					t.Fatal(start, err)
				}
			}
			if err := m.KeepStarts(); err != nil {
				t.Fatal(err)
			}
			for _, again := range []string{"the crash", "another one"} {
				fs.Kill()
				fs.Restart()
				l, m = openOn(t, fs, c)
				if got := l.StartOffset(); got != 8 || l.EndOffset() != 10 {
					t.Errorf("seed %d, segments of %d bytes: after %s the log is from %d to %d", seed, segmentBytes, again, got, l.EndOffset())
				}
				if err := m.KeepStarts(); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.Close(1); err != nil {
				t.Fatal(err)
			}
		}
	}
}
