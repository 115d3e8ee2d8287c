package storage_test

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/storage"
	"kraft/storage/faultfs"
	"kraft/wire/ident"
)

// again is a partition of a topic that was deleted and made again: 3 of its first life's 5 records were deleted.
func again(t *testing.T, fs *faultfs.FS) (d *disks, tp ident.TopicPartition, second [16]byte) {
	t.Helper()
	d, tp, second = flushedOnce(t, fs)
	if err := d.m.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	return d, tp, second
}

// flushedOnce is such a partition that no checkpoint names yet.
func flushedOnce(t *testing.T, fs *faultfs.FS) (d *disks, tp ident.TopicPartition, second [16]byte) {
	t.Helper()
	d, tp = &disks{t: t, fs: fs}, ident.TopicPartition{Topic: "again"}
	if err := d.start("/data"); err != nil {
		t.Fatal(err)
	}
	l := d.open(tp, 0, storage.DefaultLogConfig())
	for _, v := range []string{"a", "b", "c", "d", "e"} {
		if err := put(t, l, v); err != nil {
			t.Fatal(err)
		}
	}
	l.SetHighWatermark(5)
	if _, err := l.DeleteBefore(3, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	return d, tp, [16]byte{2}
}

// TestMadeAgain: checkpoints of a deleted topic say nothing of the next one of its name, after a crash either.
func TestMadeAgain(t *testing.T) {
	for name, while := range map[string]func(*disks) error{
		"running": func(*disks) error { return nil },
		"killed between": func(d *disks) error {
			d.m.Abandon()
			d.fs.Kill()
			return d.start("/data")
		},
		"power lost between": func(d *disks) error {
			d.m.Abandon()
			d.fs.Restart()
			return d.start("/data")
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, tp, second := again(t, faultfs.New(1))
			if err := d.m.Delete(tp); err != nil {
				t.Fatal(err)
			}
			if err := while(d); err != nil {
				t.Fatal(err)
			}
			open := func() *storage.Log {
				t.Helper()
				l, err := d.m.Open(tp, second, d.dirs[0].Meta().DirectoryID, storage.DefaultLogConfig())
				if err != nil {
					t.Fatal(err)
				}
				return l
			}
			l := open()
			if err := put(t, l, "f"); err != nil {
				t.Fatal(err)
			}
			if err := l.Commit(1); err != nil {
				t.Fatal(err)
			}
			d.m.Abandon()
			d.fs.Restart()
			if err := d.start("/data"); err != nil {
				t.Fatal(err)
			}
			l = open()
			defer d.m.Abandon()
			if got, err := values(l); err != nil || !slices.Equal(got, []string{"f"}) || l.StartOffset() != 0 || l.HighWatermark() > 1 {
				t.Errorf("from %d, high watermark %d, %v %v; want f at 0", l.StartOffset(), l.HighWatermark(), got, err)
			}
		})
	}
}

// TestMadeAgainMeanwhile: the same if the checkpoint is being written while the topic is deleted and made again.
func TestMadeAgainMeanwhile(t *testing.T) {
	for name, write := range map[string]func(*disks) error{
		"all":        func(d *disks) error { return d.m.Checkpoint() },
		"log starts": func(d *disks) error { return d.m.KeepStart(ident.TopicPartition{Topic: "again"}) },
	} {
		t.Run(name, func(t *testing.T) {
			fs := faultfs.New(1)
			d, tp, second := flushedOnce(t, fs)
			reached, goOn := fs.HoldSync()
			written := make(chan error, 1)
			go func() { written <- write(d) }()
			<-reached
			if err := d.m.Delete(tp); err != nil {
				t.Fatal(err)
			}
			opened := make(chan error, 1)
			var l *storage.Log
			go func() {
				var err error
				l, err = d.m.Open(tp, second, d.dirs[0].Meta().DirectoryID, storage.DefaultLogConfig())
				opened <- err
			}()
			first := opened
			select {
			case err := <-opened:
				first = make(chan error, 1)
				first <- err
			case <-time.After(100 * time.Millisecond): // it may wait for the file
			}
			close(goOn)
			if err := errors.Join(<-written, <-first); err != nil {
				t.Fatal(err)
			}
			if err := put(t, l, "f"); err != nil {
				t.Fatal(err)
			}
			if err := l.Flush(); err != nil {
				t.Fatal(err)
			}
			d.m.Abandon()
			fs.Restart()
			if err := d.start("/data"); err != nil {
				t.Fatal(err)
			}
			defer d.m.Abandon()
			l, err := d.m.Open(tp, second, d.dirs[0].Meta().DirectoryID, storage.DefaultLogConfig())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := values(l); err != nil || !slices.Equal(got, []string{"f"}) || l.StartOffset() != 0 {
				t.Errorf("from %d, %v %v; want f at 0", l.StartOffset(), got, err)
			}
		})
	}
}

// TestTornOwner: a log whose partition.metadata was torn before anything was flushed is not the next topic's of its name.
func TestTornOwner(t *testing.T) {
	fs := faultfs.New(1)
	d, tp, second := &disks{t: t, fs: fs}, ident.TopicPartition{Topic: "again"}, [16]byte{2}
	if err := d.start("/data"); err != nil {
		t.Fatal(err)
	}
	if err := put(t, d.open(tp, 0, storage.DefaultLogConfig()), "a"); err != nil {
		t.Fatal(err)
	}
	d.m.Abandon()
	fs.Kill()
	f, err := fs.OpenFile("/data/again-0/partition.metadata", false)
	if err == nil {
		err = f.Truncate(12)
	}
	if err == nil {
		err = d.start("/data")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer d.m.Abandon()
	l, err := d.m.Open(tp, second, d.dirs[0].Meta().DirectoryID, storage.DefaultLogConfig())
	if err != nil {
		t.Fatal(err)
	}
	if l.StartOffset() != 0 || l.EndOffset() != 0 {
		t.Errorf("a new topic's log is from %d to %d", l.StartOffset(), l.EndOffset())
	}
}

// TestFullAtStart: a log that could not be recovered for want of room is recovered at the next start, although the stop between
// was clean (KAFKA-13773).
func TestFullAtStart(t *testing.T) {
	d, tp := &disks{t: t, fs: faultfs.New(1)}, ident.TopicPartition{Topic: "torn"}
	if err := d.start("/data"); err != nil {
		t.Fatal(err)
	}
	l := d.open(tp, 0, storage.DefaultLogConfig())
	for _, v := range []string{"a", "b", "c"} {
		if err := put(t, l, v); err != nil {
			t.Fatal(err)
		}
	}
	d.m.Abandon()
	d.fs.Kill()
	data, err := d.fs.ReadFile("/data/torn-0/00000000000000000000.log")
	if err != nil {
		t.Fatal(err)
	}
	d.fs.FlipAt("/data/torn-0/00000000000000000000.log", int64(len(data)-1), 0)
	open := func() (*storage.Log, error) {
		if err := d.start("/data"); err != nil {
			t.Fatal(err)
		}
		return d.m.Open(tp, historyID, d.dirs[0].Meta().DirectoryID, storage.DefaultLogConfig())
	}
	d.fs.Fail = func(op faultfs.Op, path string) error {
		if op == faultfs.Write && strings.HasPrefix(path, "/data/torn-0/") {
			return syscall.ENOSPC
		}
		return nil
	}
	if _, err := open(); err == nil {
		t.Fatal("a torn log was recovered on a full disk")
	}
	if err := d.m.Close(1); err != nil {
		t.Fatal(err)
	}
	d.fs.Fail = nil
	d.fs.Kill()
	l, err = open()
	if err != nil {
		t.Fatal(err)
	}
	defer d.m.Abandon()
	if got, err := values(l); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%v, %v; want the records before the damage", got, err)
	}
}

// TestMovedAndFailed: a log that had moved to a directory which failed is offline, although it is still assigned to the one that
// it came from: it must not begin anew there.
func TestMovedAndFailed(t *testing.T) {
	d, tp := &disks{t: t, fs: faultfs.New(1)}, ident.TopicPartition{Topic: "t"}
	var broken atomic.Bool // the move's goroutine still works with its disks
	d.fs.Fail = func(_ faultfs.Op, path string) error {
		if broken.Load() && strings.HasPrefix(path, "/b") {
			return syscall.EIO
		}
		return nil
	}
	if err := d.start("/a", "/b"); err != nil {
		t.Fatal(err)
	}
	l := d.open(tp, 0, storage.DefaultLogConfig())
	if err := put(t, l, "first"); err != nil {
		t.Fatal(err)
	}
	if err := d.m.Move(tp, "/b"); err != nil {
		t.Fatal(err)
	}
	<-d.told
	broken.Store(true)
	d.mu.Lock()
	l = d.log
	d.mu.Unlock()
	if err := put(t, l, "lost"); err == nil {
		t.Fatal("appended to a failed disk")
	}
	<-d.told
	if l, err := d.m.Open(tp, historyID, d.dirs[0].Meta().DirectoryID, storage.DefaultLogConfig()); !errors.Is(err, storage.ErrDirOffline) {
		t.Errorf("a new log is opened where the partition was: %v %v", l, err)
	}
	d.m.Abandon()
}

// TestOpenedTogether: logs that are there and logs that are new open at the same time, which the race detector watches.
func TestOpenedTogether(t *testing.T) {
	d := &disks{t: t, fs: faultfs.New(1)}
	if err := d.start("/data"); err != nil {
		t.Fatal(err)
	}
	const count = 50
	var all []ident.TopicPartition
	for n := range int32(2 * count) {
		tp := ident.TopicPartition{Topic: "together", Partition: n}
		all = append(all, tp)
		if n < count {
			if err := put(t, d.open(tp, 0, storage.DefaultLogConfig()), "a"); err != nil {
				t.Fatal(err)
			}
		}
	}
	d.m.Abandon()
	d.fs.Kill()
	if err := d.start("/data"); err != nil {
		t.Fatal(err)
	}
	var opening sync.WaitGroup
	for _, tp := range all {
		opening.Go(func() {
			if _, err := d.m.Open(tp, historyID, d.dirs[0].Meta().DirectoryID, storage.DefaultLogConfig()); err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
}

// TestDamagedOwner: a log that was on disk is not set aside because its partition.metadata is empty: somebody has to say whose it is.
func TestDamagedOwner(t *testing.T) {
	d, tp := &disks{t: t, fs: faultfs.New(1)}, ident.TopicPartition{Topic: "kept"}
	if err := d.start("/data"); err != nil {
		t.Fatal(err)
	}
	l := d.open(tp, 0, storage.DefaultLogConfig())
	id := l.TopicID()
	if err := put(t, l, "a"); err != nil {
		t.Fatal(err)
	}
	if err := d.m.Close(1); err != nil {
		t.Fatal(err)
	}
	set := func(text string) {
		t.Helper()
		f, err := d.fs.OpenFile("/data/kept-0/partition.metadata", false)
		if err == nil {
			err = f.Truncate(0)
		}
		if err == nil {
			_, err = f.WriteAt([]byte(text), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	set("")
	d.fs.Kill()
	if err := d.start("/data"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.m.Open(tp, [16]byte{77}, d.dirs[0].Meta().DirectoryID, storage.DefaultLogConfig()); !errors.Is(err, kerr.KafkaStorageError) {
		t.Fatalf("opened for another topic of its name: %v", err)
	}
	_, err := d.m.Open(tp, id, d.dirs[0].Meta().DirectoryID, storage.DefaultLogConfig())
	line := "topic_id: " + base64.RawURLEncoding.EncodeToString(id[:])
	if !errors.Is(err, kerr.KafkaStorageError) || !strings.Contains(err.Error(), line) {
		t.Fatalf("opened, or without a word of what to do: %v", err)
	}
	set("version: 0\n" + line)
	if l, err = d.m.Open(tp, id, d.dirs[0].Meta().DirectoryID, storage.DefaultLogConfig()); err != nil {
		t.Fatal(err)
	}
	if got, err := values(l); err != nil || !slices.Equal(got, []string{"a"}) {
		t.Errorf("%v %v", got, err)
	}
	d.m.Abandon()
}
