package runtime

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
)

// TestHost: a host has loops from Lead until Resign, and none once it is closed.
func TestHost(t *testing.T) {
	h := NewHost(func() *counter { return &counter{open: map[int64]uint64{}, ticks: make(chan time.Time, 1)} }, nil)
	ask := func(n int32) error {
		_, err := AskOf[bool](context.Background(), h, n, false, add(1))
		return err
	}
	if err := ask(1); !errors.Is(err, kerr.NotCoordinator) {
		t.Errorf("before: %v", err)
	}
	logs := []*memoryLog{{auto: true}, {auto: true}}
	for n, log := range logs {
		h.Lead(int32(n), log, 1, zerolog.Nop())
	}
	h.Tell(func(*counter, Call) Effects { return Effects{Records: []Record{number(5)}} })
	for n, log := range logs {
		log.appended(t, 1)
		if err := ask(int32(n)); err != nil {
			t.Error(err)
		}
		log.appended(t, 2)
	}
	h.Resign(1)
	h.Resign(7)
	if err := ask(1); !errors.Is(err, kerr.NotCoordinator) {
		t.Errorf("of another leader's: %v", err)
	}
	if err := ask(0); err != nil || len(h.All()) != 1 {
		t.Errorf("of the other: %v, %d loops", err, len(h.All()))
	}
	h.Close()
	h.Lead(1, logs[1], 2, zerolog.Nop())
	if err := ask(1); !errors.Is(err, kerr.CoordinatorNotAvailable) || len(h.All()) != 0 {
		t.Errorf("once it is closed: %v, %d loops", err, len(h.All()))
	}
}

// TestEnds: a loop whose partition can't be loaded, or whose machine panics, says so and answers that it is not the coordinator.
func TestEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		log  *memoryLog
		op   func(*counter, Call) Effects
		says string
	}{
		"damaged": {&memoryLog{auto: true, end: 1}, get, "cannot load its partition"},
		"panics":  {&memoryLog{auto: true}, func(*counter, Call) Effects { panic("a mistake") }, "has stopped"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.log.end > 0 {
				batch, err := build([]Record{{Key: []byte("n"), Value: []byte("short")}}, nil, 1000, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				tc.log.batches = append(tc.log.batches, batch)
			}
			var said bytes.Buffer
			l := Start(func() *counter { return &counter{} }, nil, Log(tc.log), 1, zerolog.New(&said))
			for range 2 {
				if _, err := Ask[uint64](context.Background(), l, false, tc.op); !errors.Is(err, kerr.NotCoordinator) {
					t.Errorf("answered %v", err)
				}
			}
			l.Stop()
			if !strings.Contains(said.String(), tc.says) {
				t.Errorf("it says %q", &said)
			}
		})
	}
}

// TestLoadsLater: what could not be loaded is tried again, and said once.
func TestLoadsLater(t *testing.T) {
	var said bytes.Buffer
	log := &memoryLog{auto: true, unreadable: 2}
	l := Start(func() *counter { return &counter{} }, nil, Log(log), 1, zerolog.New(&said))
	defer l.Stop()
	eventually(t, func() error {
		_, err := Ask[uint64](context.Background(), l, false, get)
		if err != nil && !errors.Is(err, kerr.NotCoordinator) && !errors.Is(err, kerr.CoordinatorLoadInProgress) {
			t.Fatal(err)
		}
		return err
	})
	l.Stop()
	if n := strings.Count(said.String(), "cannot load its partition"); n != 1 {
		t.Errorf("it says %d times: %s", n, &said)
	}
}

// TestStopWhileLoading: a stop does not wait for the end of the log.
func TestStopWhileLoading(t *testing.T) {
	log := &memoryLog{auto: true, block: make(chan struct{})}
	for range 3 {
		batch, err := build([]Record{number(1)}, nil, 1000, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		log.batches = append(log.batches, batch)
	}
	var said bytes.Buffer
	replayed := 0
	l := Start(func() *counting { return &counting{n: &replayed} }, nil, Log(log), 1, zerolog.New(&said))
	go func() {
		for {
			select {
			case <-l.stop:
				close(log.block)
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	l.Stop()
	if replayed > 0 || said.Len() > 0 {
		t.Errorf("%d records were replayed; it says %q", replayed, &said)
	}
}

// counting counts what it replays.
type counting struct {
	forgetful
	n *int
}

func (c *counting) Replay(Entry) error { *c.n++; return nil }
