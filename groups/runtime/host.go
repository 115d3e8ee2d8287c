package runtime

import (
	"context"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/wire/locks"
)

// Host has the loops of one internal topic: one for each of its partitions that this node leads. Its methods may be called from any
// goroutine but those of the loops.
type Host[M Machine] struct {
	create func() M
	emit   func(partition, epoch int32, event any)

	mu     locks.RWMutex // guards the rest
	closed bool
	loops  map[int32]*Loop[M]
}

// NewHost makes a host whose partitions are loaded into machines that create makes. emit gets the events of machines with their partition and
// its leader epoch, on the loop's goroutine, and must not block; it is nil for machines without events.
func NewHost[M Machine](create func() M, emit func(partition, epoch int32, event any)) *Host[M] {
	return &Host[M]{create: create, emit: emit, loops: map[int32]*Loop[M]{}}
}

// Lead says that this node leads partition n in a leader epoch. A loop of an earlier one is stopped.
func (h *Host[M]) Lead(n int32, log Log, epoch int32, logger zerolog.Logger) {
	h.Resign(n)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.loops[n] = Start(h.create, func(event any) { h.emit(n, epoch, event) }, log, epoch, logger)
	}
}

// Resign says that this node leads partition n no more; callers who wait get kerr.NotCoordinator.
func (h *Host[M]) Resign(n int32) {
	h.mu.Lock()
	l := h.loops[n]
	delete(h.loops, n)
	h.mu.Unlock()
	if l != nil {
		l.Stop()
	}
}

// Close stops all loops; callers who wait get kerr.NotCoordinator.
func (h *Host[M]) Close() {
	h.mu.Lock()
	h.closed = true
	loops := h.loops
	h.loops = map[int32]*Loop[M]{}
	h.mu.Unlock()
	for _, l := range loops {
		l.Stop()
	}
}

// All are the loops of now.
func (h *Host[M]) All() []*Loop[M] {
	h.mu.RLock()
	defer h.mu.RUnlock()
	out := make([]*Loop[M], 0, len(h.loops))
	for _, l := range h.loops {
		out = append(out, l)
	}
	return out
}

// Of returns the loop of partition n, or kerr.NotCoordinator, and kerr.CoordinatorNotAvailable once the host is closed.
func (h *Host[M]) Of(n int32) (*Loop[M], error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.closed {
		return nil, kerr.CoordinatorNotAvailable
	}
	if l := h.loops[n]; l != nil {
		return l, nil
	}
	return nil, kerr.NotCoordinator
}

// Tell has op run in every loop, as Loop.Tell does.
func (h *Host[M]) Tell(op func(M, Call) Effects) {
	for _, l := range h.All() {
		l.Tell(op)
	}
}

// AskOf is Ask of partition n's loop.
func AskOf[R any, M Machine](ctx context.Context, h *Host[M], n int32, joins bool, op func(M, Call) Effects) (R, error) {
	l, err := h.Of(n)
	if err != nil {
		var none R
		return none, err
	}
	return Ask[R](ctx, l, joins, op)
}
