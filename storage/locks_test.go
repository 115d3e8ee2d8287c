package storage_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"kraft/storage"
	"kraft/storage/faultfs"
	"kraft/wire/ident"
)

// gate is a file system that has one operation wait.
type gate struct {
	*faultfs.FS

	mu      sync.Mutex
	waits   func(op, path string) bool // of the operation that is to wait next, nil for none
	reached chan struct{}
	goOn    chan struct{}
}

func (g *gate) hold(waits func(op, path string) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waits, g.reached, g.goOn = waits, make(chan struct{}), make(chan struct{})
}

func (g *gate) pass(op, path string) {
	g.mu.Lock()
	held := g.waits != nil && g.waits(op, path)
	if held {
		g.waits = nil
	}
	reached, goOn := g.reached, g.goOn
	g.mu.Unlock()
	if held {
		close(reached)
		<-goOn
	}
}

func (g *gate) Rename(from, to string) error {
	g.pass("rename", to)
	return g.FS.Rename(from, to)
}

func (g *gate) ReadFile(path string) ([]byte, error) {
	g.pass("read", path)
	return g.FS.ReadFile(path)
}

// start opens two directories, as a new process does.
func (g *gate) start(t *testing.T, backoff time.Duration) (m *storage.Manager, stop func()) {
	t.Helper()
	var dirs []*storage.Dir
	for _, p := range []string{"/a", "/b"} {
		d, err := storage.OpenDir(g, p)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Claim("cluster", 1); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, d)
	}
	m, err := storage.NewManager(dirs, storage.ManagerConfig{
		RetentionInterval: time.Hour, CheckpointInterval: time.Hour, RecoveryThreads: 1, MoveThreads: 1,
		Cleaner: storage.CleanerConfig{Threads: 1, Memory: 1 << 20, Backoff: backoff},
	}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return m, func() {
		if err := m.Close(1); err != nil {
			t.Fatal(err)
		}
		for _, d := range dirs {
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// soon fails the test where f does not end: it waits for a disk that is none of its own.
func soon(t *testing.T, what string, f func() error) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- f() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	case <-time.After(5 * time.Second):
		t.Fatalf("%s waits for another partition's disk", what)
	}
}

// othersGoOn makes, writes, cuts and deletes partitions while the disk of another one does not answer.
func othersGoOn(t *testing.T, m *storage.Manager, there ident.TopicPartition) {
	t.Helper()
	soon(t, "a partition that is open", func() error {
		l, err := m.Open(there, historyID, [16]byte{}, storage.DefaultLogConfig())
		if err != nil {
			return err
		}
		if _, err := l.Append(oneRecord(t, "v"), 0, time.Now()); err != nil {
			return err
		}
		_, err = l.Truncate(l.EndOffset() - 1)
		return err
	})
	another := ident.TopicPartition{Topic: "another", Partition: 7}
	soon(t, "a new partition", func() error {
		l, err := m.Open(another, historyID, [16]byte{}, storage.DefaultLogConfig())
		if err != nil {
			return err
		}
		_, err = l.Append(oneRecord(t, "v"), 0, time.Now())
		return err
	})
	soon(t, "its deletion", func() error { return m.Delete(another) })
	soon(t, "looking at the directories", func() error { m.Damaged(); m.Usage(); return nil })
}

// TestMoveHoldsUpNobody: while a move waits for its disk other partitions go on, and its own is deleted when it has ended, wherever it
// is then.
func TestMoveHoldsUpNobody(t *testing.T) {
	g := &gate{FS: faultfs.New(1)}
	m, stop := g.start(t, time.Hour)
	moving, there := ident.TopicPartition{Topic: "moving"}, ident.TopicPartition{Topic: "there"}
	for _, tp := range []ident.TopicPartition{moving, there} {
		l, err := m.Open(tp, historyID, [16]byte{}, storage.DefaultLogConfig())
		if err != nil {
			t.Fatal(err)
		}
		if err := put(t, l, "v"); err != nil {
			t.Fatal(err)
		}
	}
	g.hold(func(op, path string) bool { return op == "rename" && strings.HasSuffix(path, "-moved") })
	for _, to := range []string{"/a", "/b"} { // one of them is where it is
		if err := m.Move(moving, to); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.ReadDir("/a/moving-0"); err != nil {
		if err := m.Move(moving, "/a"); err != nil {
			t.Fatal(err)
		}
	}
	<-g.reached
	othersGoOn(t, m, there)
	deleted := make(chan error, 1)
	go func() { deleted <- m.Delete(moving) }()
	select {
	case err := <-deleted:
		t.Fatalf("deleted in the middle of its move: %v", err)
	case <-time.After(20 * time.Millisecond): // there is nothing to wait for: it must not end
	}
	close(g.goOn)
	if err := <-deleted; err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/a", "/b"} {
		entries, err := g.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "moving-0") && !strings.HasSuffix(e.Name(), "-delete") {
				t.Errorf("%s/%s is left of a partition that was deleted", dir, e.Name())
			}
		}
	}
	stop()
}

// TestCleanerHoldsUpNobody: while the cleaner waits for the disk that tells it what there is to compact, everything else goes on.
func TestCleanerHoldsUpNobody(t *testing.T) {
	g := &gate{FS: faultfs.New(1)}
	m, stop := g.start(t, time.Hour)
	compacted, there := ident.TopicPartition{Topic: "compacted"}, ident.TopicPartition{Topic: "there"}
	config := *storage.DefaultLogConfig()
	config.Compact, config.SegmentBytes = true, 100
	l, err := m.Open(compacted, historyID, [16]byte{}, &config)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := put(t, l, "v"); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	m, stop = g.start(t, time.Millisecond) // with nothing in memory
	if _, err := m.Open(there, historyID, [16]byte{}, storage.DefaultLogConfig()); err != nil {
		t.Fatal(err)
	}
	first := fmt.Sprintf("compacted-0/%020d.", 0)
	g.hold(func(op, path string) bool { return op == "read" && strings.Contains(path, first) })
	if _, err := m.Open(compacted, historyID, [16]byte{}, &config); err != nil {
		t.Fatal(err)
	}
	<-g.reached
	othersGoOn(t, m, there)
	soon(t, "the deletion of what is looked at", func() error { return m.Delete(compacted) })
	close(g.goOn)
	stop()
}
