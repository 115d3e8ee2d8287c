package storage_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/storage"
	"kraft/storage/faultfs"
	"kraft/wire/ident"
	"kraft/wire/record"
)

// disks is a manager over several directories of one faulty file system.
type disks struct {
	t    *testing.T
	fs   *faultfs.FS
	dirs []*storage.Dir
	m    *storage.Manager

	mu     sync.Mutex
	failed []string
	lost   []ident.TopicPartition
	log    *storage.Log // that moved last
	told   chan struct{}

	settled func() // set before a move
}

func (d *disks) DirFailed(dir *storage.Dir, lost []ident.TopicPartition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed = append(d.failed, dir.Path())
	d.lost = append(d.lost, lost...)
	d.told <- struct{}{}
}

func (d *disks) Moved(_ ident.TopicPartition, l *storage.Log, _ [16]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = l
	select {
	case d.told <- struct{}{}:
	default:
	}
}

func (d *disks) Settled(ident.TopicPartition) {
	if d.settled != nil {
		d.settled()
	}
}

// start opens the directories, as a new process does.
func (d *disks) start(paths ...string) error {
	d.dirs, d.told = nil, make(chan struct{}, 8)
	for _, p := range paths {
		dir, err := storage.OpenDir(d.fs, p)
		if err != nil {
			dir = storage.FailedDir(p, err)
		} else if err := dir.Claim("cluster", 1); err != nil {
			return err
		}
		d.dirs = append(d.dirs, dir)
	}
	m, err := storage.NewManager(d.dirs, storage.ManagerConfig{
		RetentionInterval: time.Hour, CheckpointInterval: time.Hour, RecoveryThreads: 1, MoveThreads: 1,
		Cleaner: storage.CleanerConfig{Threads: 1, Memory: 1 << 20, Backoff: time.Hour},
	}, zerolog.Nop())
	if err == nil {
		d.m = m
		m.Watch(d)
	}
	return err
}

// RoomChanged implements storage.Watcher.
func (d *disks) RoomChanged() {}

func (d *disks) open(tp ident.TopicPartition, dir int, c *storage.LogConfig) *storage.Log {
	d.t.Helper()
	l, err := d.m.Open(tp, historyID, d.dirs[dir].Meta().DirectoryID, c)
	if err != nil {
		d.t.Fatal(err)
	}
	return l
}

func put(t *testing.T, l *storage.Log, value string) error {
	t.Helper()
	_, err := l.Append(oneRecord(t, value), 0, time.Now())
	l.SetHighWatermark(l.EndOffset())
	return err
}

// values reads a whole log.
func values(l *storage.Log) (out []string, err error) {
	err = eachValue(l, func(_ int64, value string) { out = append(out, value) })
	return out, err
}

// eachValue calls each with the offset and the value of every record of a log.
func eachValue(l *storage.Log, each func(offset int64, value string)) error {
	for offset := l.StartOffset(); offset < l.EndOffset(); {
		s, err := l.Read(offset, 1<<20, l.EndOffset(), true)
		if err != nil {
			return err
		}
		if s.Length == 0 { // the log was cut in a gap that compaction has left
			return nil
		}
		data := make([]byte, s.Length)
		if _, err := s.File.ReadAt(data, s.Offset); err != nil {
			return err
		}
		for len(data) > 0 {
			b, rest, err := record.Next(data)
			if errors.Is(err, record.ErrTruncated) {
				break
			}
			if err != nil {
				return err
			}
			records, err := b.Records(1 << 20)
			if err != nil {
				return err
			}
			for i := range records {
				each(records[i].Offset, string(records[i].Value))
			}
			offset, data = b.LastOffset()+1, rest
		}
	}
	return nil
}

// TestDirectoryFails: the logs of a directory whose disk fails are offline with Kafka's error, the others
// serve on and stop cleanly, and with the disk back everything is there.
func TestDirectoryFails(t *testing.T) {
	for _, fault := range []error{syscall.EIO, syscall.EROFS} { // a disk that is read-only is one that failed (KAFKA-19289)
		t.Run(fault.Error(), func(t *testing.T) { directoryFails(t, fault) })
	}
}

func directoryFails(t *testing.T, fault error) {
	d := &disks{t: t, fs: faultfs.New(1)}
	if err := d.start("/a", "/b"); err != nil {
		t.Fatal(err)
	}
	good, bad := ident.TopicPartition{Topic: "good"}, ident.TopicPartition{Topic: "bad"}
	gl, bl := d.open(good, 0, storage.DefaultLogConfig()), d.open(bad, 1, storage.DefaultLogConfig())
	for _, l := range []*storage.Log{gl, bl} {
		if err := put(t, l, "first"); err != nil {
			t.Fatal(err)
		}
	}
	d.fs.Fail = func(_ faultfs.Op, path string) error {
		if strings.HasPrefix(path, "/b/") {
			return fault
		}
		return nil
	}
	if err := put(t, bl, "lost"); !errors.Is(err, kerr.KafkaStorageError) || !errors.Is(err, storage.ErrDirOffline) {
		t.Fatalf("append to a failed disk: %v", err)
	}
	<-d.told
	if !slices.Equal(d.failed, []string{"/b"}) || !slices.Equal(d.lost, []ident.TopicPartition{bad}) {
		t.Fatalf("told of %v with %v", d.failed, d.lost)
	}
	d.fs.Fail = nil // a disk that answers again is not trusted before the next start
	if err := put(t, bl, "lost"); !errors.Is(err, storage.ErrDirOffline) {
		t.Fatalf("append after the failure: %v", err)
	}
	if _, err := bl.Read(0, 100, 1, true); !errors.Is(err, kerr.KafkaStorageError) {
		t.Fatalf("read after the failure: %v", err)
	}
	if _, err := d.m.Open(bad, historyID, d.dirs[1].Meta().DirectoryID, storage.DefaultLogConfig()); !errors.Is(err, storage.ErrDirOffline) {
		t.Fatalf("open in a failed directory: %v", err)
	}
	if err := d.m.Move(good, "/b"); !errors.Is(err, kerr.KafkaStorageError) {
		t.Fatalf("move to a failed directory: %v", err)
	}
	usage := d.m.Usage()
	if usage[0].Err != nil || !errors.Is(usage[1].Err, kerr.KafkaStorageError) || len(usage[1].Logs) != 0 {
		t.Fatalf("usage: %+v", usage)
	}
	if err := put(t, gl, "second"); err != nil {
		t.Fatalf("the other directory: %v", err)
	}
	if err := d.m.Close(1); err != nil {
		t.Fatalf("stop: %v", err)
	}
	d.fs.Kill()

	if err := d.start("/a", "/b"); err != nil {
		t.Fatal(err)
	}
	// Of an append that failed half way the records may be there: nobody was told that they are not.
	for tp, want := range map[ident.TopicPartition][]string{good: {"first", "second"}, bad: {"first", "lost"}} {
		l, err := d.m.Open(tp, historyID, [16]byte{}, storage.DefaultLogConfig())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := values(l); err != nil || !slices.Equal(got, want) && !slices.Equal(got, want[:1]) || tp == good && len(got) != 2 {
			t.Errorf("%v holds %v, want %v (%v)", tp, got, want, err)
		}
	}
	if err := d.m.Close(1); err != nil {
		t.Fatal(err)
	}
}

// TestDirectoryMissingAtStart: what was in a directory that cannot be opened is offline and not made anew
// elsewhere; without any directory there is no manager.
func TestDirectoryMissingAtStart(t *testing.T) {
	d := &disks{t: t, fs: faultfs.New(1)}
	if err := d.start("/a", "/b"); err != nil {
		t.Fatal(err)
	}
	tp := ident.TopicPartition{Topic: "t"}
	id := d.dirs[1].Meta().DirectoryID
	if err := put(t, d.open(tp, 1, storage.DefaultLogConfig()), "v"); err != nil {
		t.Fatal(err)
	}
	if err := d.m.Close(1); err != nil {
		t.Fatal(err)
	}
	d.fs.Kill()
	broken := func(dirs ...string) func(faultfs.Op, string) error {
		return func(_ faultfs.Op, path string) error {
			if slices.ContainsFunc(dirs, func(d string) bool { return path == d || strings.HasPrefix(path, d+"/") }) {
				return syscall.EIO
			}
			return nil
		}
	}
	d.fs.Fail = broken("/b")
	if err := d.start("/a", "/b"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.m.Open(tp, historyID, id, storage.DefaultLogConfig()); !errors.Is(err, storage.ErrDirOffline) {
		t.Fatalf("a partition of a missing directory: %v", err)
	}
	d.m.Abandon()
	d.fs.Fail = nil
	d.fs.Kill()
	d.fs.Fail = broken("/a", "/b")
	if err := d.start("/a", "/b"); !errors.Is(err, storage.ErrDirFailed) {
		t.Fatalf("no directory at all: %v", err)
	}
}

// TestMove: a log that is written to moves to another directory with everything in it, readers of the old
// one go on, and it is there after a restart.
func TestMove(t *testing.T) {
	d := &disks{t: t, fs: faultfs.New(1)}
	if err := d.start("/a", "/b"); err != nil {
		t.Fatal(err)
	}
	tp := ident.TopicPartition{Topic: "t"}
	c := storage.DefaultLogConfig()
	c.SegmentBytes = 4 << 10
	l := d.open(tp, 0, c)
	var want []string
	write := func(n int) {
		for range n {
			v := fmt.Sprint("value ", len(want))
			err := put(t, l, v)
			if errors.Is(err, storage.ErrMoved) {
				d.mu.Lock()
				l = d.log
				d.mu.Unlock()
				err = put(t, l, v)
			}
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, v)
		}
	}
	write(500)
	first := l
	d.settled = func() { // as a leader does, for which the manager and the logs must be free
		first.Durable()
		d.m.DirectoryOf(tp)
	}
	if _, err := l.DeleteBefore(100, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := d.m.Move(tp, "/c"); !errors.Is(err, kerr.LogDirNotFound) {
		t.Fatalf("move to no directory of ours: %v", err)
	}
	if err := d.m.Move(ident.TopicPartition{Topic: "u"}, "/b"); !errors.Is(err, kerr.ReplicaNotAvailable) {
		t.Fatalf("move of nothing: %v", err)
	}
	if err := d.m.Move(ident.TopicPartition{Topic: "t"}, "/b/"); err != nil {
		t.Fatal(err)
	}
	for moved := false; !moved; {
		write(10)
		select {
		case <-d.told:
			moved = true
		default:
		}
	}
	write(10)
	if l == first {
		t.Fatal("the log took records after it had moved")
	}
	check := func(l *storage.Log) {
		t.Helper()
		if got, err := values(l); err != nil || !slices.Equal(got, want[100:]) {
			t.Fatalf("the log holds %d values from %v on, want %d (%v)", len(got), got[:min(1, len(got))], len(want)-100, err)
		}
	}
	check(l)
	if got, err := values(first); err != nil || len(got) < 400 {
		t.Errorf("a reader of the old log sees %d values: %v", len(got), err)
	}
	if id, _ := d.m.DirectoryOf(tp); id != d.dirs[1].Meta().DirectoryID {
		t.Error("the log is not where it moved to")
	}
	if err := d.m.Close(1); err != nil {
		t.Fatal(err)
	}
	d.fs.Kill()
	if err := d.start("/a", "/b"); err != nil {
		t.Fatal(err)
	}
	l = d.open(tp, 0, c)
	if l.StartOffset() != 100 {
		t.Errorf("log starts at %d", l.StartOffset())
	}
	check(l)
	for _, p := range d.fs.Paths() {
		if strings.HasPrefix(p, "/a/t-0") {
			t.Errorf("left behind: %s", p)
		}
	}
	if err := d.m.Close(1); err != nil {
		t.Fatal(err)
	}
}

// TestMoveCrashes crashes after every n-th write of a move: what was on disk is there at the next start, in
// one directory, and the move goes on.
func TestMoveCrashes(t *testing.T) {
	for power, seeds := range map[bool]uint64{false: 1, true: 60} { // of what is lost with the power
		for seed := range seeds {
			done := false
			for n := 0; !done; n++ {
				if done = moveAndCrash(t, n, power, seed); t.Failed() {
					t.Fatalf("after %d operations, power lost: %v, seed %d", n, power, seed)
				}
			}
		}
	}
}

func moveAndCrash(t *testing.T, n int, power bool, seed uint64) (done bool) {
	d := &disks{t: t, fs: faultfs.New(seed<<16 | uint64(n+1))}
	if err := d.start("/a", "/b"); err != nil {
		t.Fatal(err)
	}
	tp := ident.TopicPartition{Topic: "t"}
	c := storage.DefaultLogConfig()
	c.SegmentBytes = 200
	l := d.open(tp, 0, c)
	var want []string
	for i := range 6 {
		want = append(want, fmt.Sprint(i))
		if err := put(t, l, want[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := d.m.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	d.fs.CrashAfter(n)
	if err := d.m.Move(tp, "/b"); err != nil {
		t.Fatal(err)
	}
	for told := false; !d.fs.Crashed() && !told; {
		select {
		case <-d.told:
			told = true
		case <-time.After(time.Millisecond):
		}
	}
	d.m.Abandon()
	done = !d.fs.Crashed()
	if power {
		d.fs.Restart()
	} else {
		d.fs.Kill()
	}
	if err := d.start("/a", "/b"); err != nil {
		t.Fatal(err)
	}
	l, err := d.m.Open(tp, historyID, d.dirs[0].Meta().DirectoryID, c)
	if err != nil {
		t.Error(err)
		return done
	}
	if got, err := values(l); err != nil || !slices.Equal(got, want) {
		t.Errorf("the log holds %v, want %v (%v)", got, want, err)
	}
	if err := d.m.Move(tp, "/b"); err != nil {
		t.Error(err)
	}
	if id, _ := d.m.DirectoryOf(tp); id != d.dirs[1].Meta().DirectoryID {
		select {
		case <-d.told:
		case <-time.After(10 * time.Second):
			t.Error("the move does not go on")
		}
	}
	if err := d.m.Close(1); err != nil {
		t.Error(err)
	}
	for _, p := range d.fs.Paths() {
		if strings.Contains(p, "-future/") || strings.Contains(p, "-moved/") || strings.Contains(p, "-stray/") {
			t.Errorf("left behind: %s", p)
		}
	}
	d.fs.Kill()
	if err := d.start("/a", "/b"); err != nil {
		t.Fatal(err)
	}
	defer d.m.Abandon()
	if l, err = d.m.Open(tp, historyID, d.dirs[1].Meta().DirectoryID, c); err != nil {
		t.Error(err)
	} else if got, err := values(l); err != nil || !slices.Equal(got, want) {
		t.Errorf("after the move the log holds %v, want %v (%v)", got, want, err)
	}
	return done
}

// TestTruncatedIndexesStayGone: indexes that describe what was cut off do not come back with the loss of power,
// beside other records in the same place.
func TestTruncatedIndexesStayGone(t *testing.T) {
	for seed := range uint64(60) {
		d := &disks{t: t, fs: faultfs.New(seed + 1)}
		if err := d.start("/a"); err != nil {
			t.Fatal(err)
		}
		tp := ident.TopicPartition{Topic: "t"}
		c := storage.DefaultLogConfig()
		c.IndexInterval = 0
		l := d.open(tp, 0, c)
		fill := func(n, size int) {
			t.Helper()
			for i := range n {
				w := record.NewBuilder(record.None)
				w.ProducerID, w.ProducerEpoch, w.BaseSequence = 5, int16(size), int32(i)
				w.Add(&record.Record{Value: make([]byte, size)})
				b, err := w.Build()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := l.Append(b, 0, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			l.SetHighWatermark(l.EndOffset())
		}
		fill(30, 100)
		if err := d.m.Close(1); err != nil { // with indexes and a snapshot on disk
			t.Fatal(err)
		}
		d.fs.Kill()
		if err := d.start("/a"); err != nil {
			t.Fatal(err)
		}
		l = d.open(tp, 0, c)
		if end, err := l.Truncate(3); err != nil || end != 3 {
			t.Fatal(end, err)
		}
		fill(40, 137)
		if _, err := l.DeleteBefore(20, time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := d.m.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		if err := l.Roll(time.Now()); err != nil { // writes the indexes, not yet on disk
			t.Fatal(err)
		}
		d.m.Abandon()
		d.fs.Restart()
		if err := d.start("/a"); err != nil {
			t.Fatal(err)
		}
		l = d.open(tp, 0, c)
		if got, err := values(l); err != nil || len(got) != 23 {
			t.Fatalf("seed %d: %d records of 23: %v", seed+1, len(got), err)
		}
		for offset := int64(20); offset < 43; offset++ {
			if s, err := l.Read(offset, 10, 43, true); err != nil || s.Length == 0 {
				t.Fatalf("seed %d: read at %d: %d bytes, %v", seed+1, offset, s.Length, err)
			}
		}
		d.m.Abandon()
	}
}

// TestAwayAndBackAgain: a replica that goes, comes back and goes again, and topics of one name that follow each other, get names of
// their own for what is left of them; what is no replica any more at a start is set aside.
func TestAwayAndBackAgain(t *testing.T) {
	d := &disks{t: t, fs: faultfs.New(1)}
	if err := d.start("/a"); err != nil {
		t.Fatal(err)
	}
	tp := ident.TopicPartition{Topic: "t"}
	config := *storage.DefaultLogConfig()
	config.DeleteDelay = time.Hour
	for range 3 {
		if err := put(t, d.open(tp, 0, &config), "v"); err != nil {
			t.Fatal(err)
		}
		if err := d.m.Delete(tp); err != nil {
			t.Fatal(err)
		}
	}
	count := func(suffix string) (n int) {
		entries, err := d.fs.ReadDir("/a")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), suffix) {
				n++
			}
		}
		return n
	}
	if got := count("-delete"); got != 3 {
		t.Errorf("%d deleted logs wait for their end, wanted 3", got)
	}
	kept := ident.TopicPartition{Topic: "kept"}
	for want := 1; want <= 3; want++ {
		for _, p := range []ident.TopicPartition{tp, kept} {
			if err := put(t, d.open(p, 0, &config), "v"); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.m.Close(1); err != nil {
			t.Fatal(err)
		}
		for _, dir := range d.dirs {
			if err := dir.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.start("/a"); err != nil {
			t.Fatal(err)
		}
		d.open(kept, 0, &config)
		d.m.SetAsideStrays(func(p ident.TopicPartition) bool { return p == kept })
		if got := count("-stray"); got != want {
			t.Errorf("%d strays, wanted %d", got, want)
		}
	}
	for p, want := range map[ident.TopicPartition]int{tp: 0, kept: 3} {
		if got, err := values(d.open(p, 0, &config)); err != nil || len(got) != want {
			t.Errorf("%v has %d records, wanted %d: %v", p, len(got), want, err)
		}
	}
	if err := d.m.Close(1); err != nil {
		t.Fatal(err)
	}
}

// TestFlushOfWhatIsCut: a flush that began before its log was cut succeeds, although files that it had yet to sync are gone, and says nothing
// of what is written in the place of what was cut.
func TestFlushOfWhatIsCut(t *testing.T) {
	for _, segments := range []int{1, 5} {
		for name, cut := range map[string]func(l *storage.Log, at int64) error{
			"truncated": func(l *storage.Log, at int64) error { _, err := l.Truncate(at); return err },
			"restarted": func(l *storage.Log, at int64) error { return l.Restart(at) },
		} {
			t.Run(fmt.Sprintf("%d segments %s", segments, name), func(t *testing.T) { flushOfWhatIsCut(t, segments, cut) })
		}
	}
}

func flushOfWhatIsCut(t *testing.T, segments int, cut func(l *storage.Log, at int64) error) {
	d := &disks{t: t, fs: faultfs.New(1)}
	if err := d.start("/a"); err != nil {
		t.Fatal(err)
	}
	config := storage.DefaultLogConfig()
	putAll := func(l *storage.Log, value string, n int) {
		t.Helper()
		for range n {
			if err := put(t, l, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	l := d.open(ident.TopicPartition{Topic: "t"}, 0, config)
	putAll(l, "v", 1)
	smaller := *config
	smaller.SegmentBytes = l.Size() * int64(100/segments+1)
	l.SetConfig(&smaller)
	putAll(l, "v", 99)
	if got := len(l.SegmentOffsets(time.Now().Add(time.Hour).UnixMilli(), 0)) - 1; got < segments { // the end comes with them
		t.Fatalf("it has %d segments", got)
	}
	const at = 10
	syncing, goOn := d.fs.HoldSync()
	flushed := make(chan error, 1)
	go func() { flushed <- l.Flush() }()
	<-syncing
	done := make(chan error, 1)
	go func() { done <- cut(l, at) }()
	for deadline := time.Now().Add(10 * time.Second); l.EndOffset() != at; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the log is not cut")
		}
	}
	close(goOn)
	if err := errors.Join(<-flushed, <-done); err != nil {
		t.Fatal(err)
	}
	putAll(l, "w", 50)
	if got := l.Durable(); got > at {
		t.Errorf("everything below %d counts as being on disk, and the log was cut at %d", got, at)
	}
	if err := d.m.Close(1); err != nil {
		t.Fatal(err)
	}
}

// TestCutWhileItMoves: a log that is cut while it is copied, and written to by another leader, has the new records where it moves to.
func TestCutWhileItMoves(t *testing.T) {
	for name, restart := range map[string]bool{"at once": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			d := &disks{t: t, fs: faultfs.New(1)}
			if err := d.start("/a", "/b"); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = d.m.Close(1) }()
			tp, c := ident.TopicPartition{Topic: "t"}, storage.DefaultLogConfig()
			l := d.open(tp, 0, c)
			large := strings.Repeat("x", 300<<10)
			add := func(l *storage.Log, epoch int32, value string) {
				t.Helper()
				if _, err := l.Append(oneRecord(t, value), epoch, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 20 {
				add(l, 0, fmt.Sprint(i, large))
			}
			d.m.Configure(storage.CleanerConfig{Threads: 1, Memory: 1 << 20, Backoff: time.Hour}, 1<<20) // which takes some seconds
			if err := d.m.Move(tp, "/b"); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			for copied := int64(0); copied < 1<<20; time.Sleep(time.Millisecond) {
				if time.Since(begun) > 20*time.Second {
					t.Fatalf("%d bytes copied after 20 s", copied)
				}
				for _, dir := range d.m.Usage() {
					for _, u := range dir.Logs {
						if u.Future {
							copied = u.Size
						}
					}
				}
			}
			if _, err := l.Truncate(1); err != nil {
				t.Fatal(err)
			}
			for i := range 20 {
				add(l, 1, fmt.Sprint("new ", i, large))
			}
			if restart {
				if err := d.m.Close(1); err != nil {
					t.Fatal(err)
				}
				for _, dir := range d.dirs {
					if err := dir.Close(); err != nil {
						t.Fatal(err)
					}
				}
				if err := d.start("/a", "/b"); err != nil {
					t.Fatal(err)
				}
				d.open(tp, 0, c)
			} else {
				d.m.Configure(storage.CleanerConfig{Threads: 1, Memory: 1 << 20, Backoff: time.Hour}, 1<<40)
			}
			<-d.told
			d.mu.Lock()
			l = d.log
			d.mu.Unlock()
			got, err := values(l)
			if err != nil || len(got) != 21 {
				t.Fatalf("%d records: %v", len(got), err)
			}
			for i, v := range got {
				want := "0"
				if i > 0 {
					want = fmt.Sprint("new ", i-1)
				}
				if v != want+large {
					t.Errorf("at %d: %.10s, not %s", i, v, want)
				}
			}
		})
	}
}

// TestMoveIsThrottled: a log of many segments is copied at the throttle's rate, and takes records meanwhile.
func TestMoveIsThrottled(t *testing.T) {
	d := &disks{t: t, fs: faultfs.New(1)}
	if err := d.start("/a", "/b"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.m.Close(1) }()
	tp, c := ident.TopicPartition{Topic: "t"}, storage.DefaultLogConfig()
	c.SegmentBytes = 400 << 10
	l := d.open(tp, 0, c)
	for i := range 20 {
		if err := put(t, l, fmt.Sprint(i, strings.Repeat("x", 300<<10))); err != nil {
			t.Fatal(err)
		}
	}
	d.m.Configure(storage.CleanerConfig{Threads: 1, Memory: 1 << 20, Backoff: time.Hour}, 3<<20)
	begun := time.Now()
	if err := d.m.Move(tp, "/b"); err != nil {
		t.Fatal(err)
	}
	longest := time.Duration(0)
	for moved := false; !moved; {
		asked := time.Now()
		if err := put(t, l, "more"); errors.Is(err, storage.ErrMoved) {
			d.mu.Lock()
			l = d.log
			d.mu.Unlock()
		} else if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, time.Since(asked))
		select {
		case <-d.told:
			moved = true
		case <-time.After(time.Millisecond):
		}
	}
	if took := time.Since(begun); took < time.Second { // 6 MB at 3 MB/s, of which the limiter lets one through at once
		t.Errorf("the move took %v", took)
	}
	if longest > 500*time.Millisecond {
		t.Errorf("an append waited for %v", longest)
	}
}
