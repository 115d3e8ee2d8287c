package quorum

import (
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sum is a machine that adds up numbers.
type sum struct {
	mu       sync.Mutex
	total    uint64
	applied  int
	restored int
	leads    chan uint64
}

func newSum() *sum { return &sum{leads: make(chan uint64, 10)} }

func (s *sum) Restore(snapshot []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total = binary.BigEndian.Uint64(snapshot)
	s.restored++
	return nil
}

func (s *sum) Apply(_, _ uint64, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total += binary.BigEndian.Uint64(data)
	s.applied++
}

func (s *sum) Applied(uint64) {}

func (s *sum) Snapshot() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return binary.BigEndian.AppendUint64(nil, s.total), nil
}

func (s *sum) Lead(term uint64)      { s.leads <- term }
func (s *sum) Follow(uint64, uint64) {}

func (s *sum) state() (uint64, int, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total, s.applied, s.restored
}

func start(t *testing.T, path string, m Machine, snapshotBytes int64) *Node {
	t.Helper()
	n, err := Open(Config{ID: 1, Path: path, Voters: []uint64{1}, Tick: 10 * time.Millisecond, SnapshotBytes: snapshotBytes, Log: zerolog.Nop()}, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	return n
}

func add(t *testing.T, n *Node, v uint64) {
	t.Helper()
	failed := make(chan error, 1)
	if err := n.Do(context.Background(), func(propose func([]byte) error) {
		failed <- propose(binary.BigEndian.AppendUint64(nil, v))
	}); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

func waitFor(t *testing.T, m *sum, total uint64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if got, _, _ := m.state(); got == total {
			return
		}
		if time.Now().After(deadline) {
			got, _, _ := m.state()
			t.Fatalf("total %d, want %d", got, total)
		}
	}
}

func TestEntriesSurviveRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meta.db")
	total, lastTerm := uint64(0), uint64(0)
	for round := range 4 {
		m := newSum()
		n := start(t, path, m, 1<<30)
		term := <-m.leads
		if term <= lastTerm {
			t.Errorf("round %d leads in term %d after %d", round, term, lastTerm)
		}
		lastTerm = term
		waitFor(t, m, total)
		for v := range uint64(50) {
			add(t, n, v)
			total += v
		}
		waitFor(t, m, total)
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSnapshotsReplaceEntries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meta.db")
	m := newSum()
	n := start(t, path, m, 100) // one every thirteen entries
	<-m.leads
	for range 1000 {
		add(t, n, 1)
	}
	waitFor(t, m, 1000)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	m = newSum()
	n = start(t, path, m, 100)
	<-m.leads
	waitFor(t, m, 1000)
	if _, applied, restored := m.state(); restored != 1 || applied > 400 {
		t.Errorf("restart restored %d snapshots and applied %d entries", restored, applied)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meta.db")
	m := newSum()
	n := start(t, path, m, 1<<30)
	if _, err := Open(Config{ID: 1, Path: path, Voters: []uint64{1}, Tick: time.Millisecond, Log: zerolog.Nop()}, newSum()); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Do(context.Background(), func(func([]byte) error) { t.Error("ran on a closed node") }); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a closed node takes calls: %v", err)
	}
}
