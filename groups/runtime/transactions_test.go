package runtime

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/storage"
	"kraft/wire/record"
)

// startEmitting is startCounter with a channel that gets the machine's events.
func startEmitting(t *testing.T, log *memoryLog) (*Loop[*counter], chan any) {
	t.Helper()
	events := make(chan any, 10)
	l := Start(func() *counter { return &counter{open: map[int64]uint64{}, ticks: make(chan time.Time, 1)} }, func(e any) { events <- e }, Log(log), 1, zerolog.Nop())
	t.Cleanup(l.Stop)
	return l, events
}

func ask(t *testing.T, l *Loop[*counter], e Effects) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := Ask[bool](ctx, l, false, func(_ *counter, call Call) Effects {
		e.Replies = []Reply{{call.To, true}}
		return e
	})
	return err
}

// TestEventsWaitForCommit: an event leaves with its records' commit, not before.
func TestEventsWaitForCommit(t *testing.T) {
	log := &memoryLog{}
	l, events := startEmitting(t, log)
	done := make(chan error, 1)
	go func() { done <- ask(t, l, Effects{Records: []Record{number(1)}, Events: []any{"decided"}}) }()
	select {
	case e := <-events:
		t.Fatalf("%v left before the commit", e)
	case <-time.After(50 * time.Millisecond):
	}
	log.commit()
	if e := <-events; e != "decided" {
		t.Errorf("%v", e)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestMarkers: records of a producer's transaction count with its marker; what the log refuses a producer does not cost the machine.
func TestMarkers(t *testing.T) {
	log := &memoryLog{auto: true}
	l, _ := startEmitting(t, log)
	write := Effects{Records: []Record{number(10)}, Producer: &Producer{ID: 7, Epoch: 2}}
	if err := ask(t, l, write); err != nil {
		t.Fatal(err)
	}
	if b := log.batches[0]; !b.IsTransactional() || b.ProducerID() != 7 || b.ProducerEpoch() != 2 || b.BaseSequence() != record.NoSequence {
		t.Errorf("the batch: %d %d %d", b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	}
	if got := total(t, l); got != 0 {
		t.Errorf("before the marker: %d", got)
	}
	log.mu.Lock()
	log.failure, log.once = kerr.InvalidProducerEpoch, true
	log.mu.Unlock()
	if err := ask(t, l, Effects{Marker: &storage.Marker{ProducerID: 7, Epoch: 1, Commit: true}}); !errors.Is(err, kerr.InvalidProducerEpoch) {
		t.Errorf("a marker that the log refuses: %v", err)
	}
	if err := ask(t, l, Effects{Marker: &storage.Marker{ProducerID: 7, Epoch: 2, Commit: true}}); err != nil {
		t.Fatal(err)
	}
	if got := total(t, l); got != 10 {
		t.Errorf("after the marker: %d", got)
	}
	if log.reads != 1 {
		t.Errorf("the partition was loaded %d times", log.reads)
	}
}

// TestLoadedMayBeLost: what a new leader has loaded counts for nobody until it is committed.
func TestLoadedMayBeLost(t *testing.T) {
	log := &memoryLog{}
	batch, err := build([]Record{number(5)}, nil, 1000, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(batch, nil, 1, time.Now()); err != nil {
		t.Fatal(err)
	}
	l, _ := startEmitting(t, log)
	got := make(chan uint64, 1)
	go func() { got <- total(t, l) }()
	select {
	case v := <-got:
		t.Fatalf("answered %d before the commit", v)
	case <-time.After(50 * time.Millisecond):
	}
	log.commit()
	if v := <-got; v != 5 {
		t.Errorf("total %d", v)
	}
}
