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

// TestDeletedStaysDeleted: a log start that DeleteBefore moved within a segment outlives kill -9, once KeepStarts has returned.
func TestDeletedStaysDeleted(t *testing.T) {
	fs := faultfs.New(1)
	l, m := openOn(t, fs, storage.DefaultLogConfig())
	for range 10 {
		if _, err := l.Append(oneRecord(t, "v"), 0, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	l.SetHighWatermark(10)
	if start, err := l.DeleteBefore(7, time.Now()); err != nil || start != 7 {
		t.Fatal(start, err)
	}
	if err := m.KeepStarts(); err != nil {
		t.Fatal(err)
	}
	fs.Kill()
	fs.Restart()
	l, m = openOn(t, fs, storage.DefaultLogConfig())
	if got := l.StartOffset(); got != 7 {
		t.Errorf("after kill -9 the log starts at %d", got)
	}
	if err := m.Close(1); err != nil {
		t.Fatal(err)
	}
}
