package wire

import (
	"context"
	"slices"
	"sync"
	"time"
)

// memory bounds what requests take while they are read and handled. A request reserves all that it promises in one piece, so that no two
// wait for what the other has. While there is plenty it does so at once, else when some of it has come. A peer that stands still in the
// middle of a frame while others wait for memory loses its connection.
type memory struct {
	capacity int64
	patience time.Duration // how long a peer may stand still while others wait: stalled

	mu       sync.Mutex // guards the rest, and what holdings say
	used     int64
	holdings map[*holding]struct{}
	waiting  []*waiter // first come, first served, of those that are known before others
}

// holding is what one request has.
type holding struct {
	memory *memory
	evict  func() // ends the request's connection, and must not block
	size   int64  // of the request
	bytes  int64  // that are reserved
	got    int64  // that have come
	came   time.Time
	since  time.Time // when they were reserved
}

type waiter struct {
	holding *holding
	known   bool
	granted chan struct{} // closed when the request has its bytes
}

const (
	// stalled is how long a peer may send nothing in the middle of a frame while others wait for memory. Where many stand still harm is
	// meant, or a network is gone: then it is stalledTogether.
	stalled         = time.Second
	stalledTogether = 400 * time.Millisecond
	manyStalled     = 8
	// slowest is what a peer must send, in bytes a second from the time when its memory was reserved, when that is longer ago than
	// slowAfter and others wait.
	slowest   = 64 << 10
	slowAfter = 5 * time.Second
	// stalledCheck is how often who waits for memory looks for such peers.
	stalledCheck = 50 * time.Millisecond
	// promised is up to which size requests have their memory at once while less than half of all is used.
	promised = 2 << 20
)

func newMemory(capacity int64) *memory {
	return &memory{capacity: capacity, patience: stalled, holdings: map[*holding]struct{}{}}
}

// enter begins a request of so many bytes, and reports whether they are reserved. leave must be called when it is handled.
func (m *memory) enter(size int, evict func()) (h *holding, reserved bool) {
	h = &holding{memory: m, evict: evict, size: int64(size), came: time.Now()}
	m.mu.Lock()
	defer m.mu.Unlock()
	if size <= promised && m.used+h.size <= m.capacity/2 && len(m.waiting) == 0 {
		h.take()
	}
	return h, h.bytes > 0
}

// take is called with the memory's mu held.
func (h *holding) take() {
	h.bytes = min(h.size, h.memory.capacity)
	h.memory.used += h.bytes
	h.memory.holdings[h] = struct{}{}
	h.since = time.Now()
	h.came = h.since
}

// reserve waits until the request's bytes are reserved. known requests, of peers that have had answers, come before others.
func (h *holding) reserve(ctx context.Context, known bool) error {
	m := h.memory
	w := &waiter{h, known, make(chan struct{})}
	m.mu.Lock()
	at := len(m.waiting)
	if known {
		at = slices.IndexFunc(m.waiting, func(other *waiter) bool { return !other.known })
		if at < 0 {
			at = len(m.waiting)
		}
	}
	m.waiting = slices.Insert(m.waiting, at, w)
	m.serve()
	m.mu.Unlock()
	check := time.NewTicker(stalledCheck)
	defer check.Stop()
	for {
		select {
		case <-w.granted:
			return nil
		case now := <-check.C:
			m.evictStalled(now)
		case <-ctx.Done():
			m.mu.Lock()
			m.waiting = slices.DeleteFunc(m.waiting, func(other *waiter) bool { return other == w })
			m.mu.Unlock()
			return ctx.Err() // what was granted meanwhile goes with leave
		}
	}
}

// note says how many of the request's bytes have come.
func (h *holding) note(got int) {
	h.memory.mu.Lock()
	defer h.memory.mu.Unlock()
	h.got, h.came = int64(got), time.Now()
}

// leave gives everything back.
func (h *holding) leave() {
	m := h.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= h.bytes
	delete(m.holdings, h)
	m.serve()
}

// serve gives to who waits what there is. mu is held.
func (m *memory) serve() {
	for len(m.waiting) > 0 {
		w := m.waiting[0]
		if m.used+min(w.holding.size, m.capacity) > m.capacity {
			return
		}
		w.holding.take()
		close(w.granted)
		m.waiting = m.waiting[1:]
	}
}

// evictStalled ends the connections of peers that stand still in the middle of a frame.
func (m *memory) evictStalled(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	still := map[*holding]time.Duration{}
	for h := range m.holdings {
		if h.got == h.size {
			continue
		}
		if silent := now.Sub(h.came); silent > stalledTogether {
			still[h] = silent
		}
		if long := now.Sub(h.since); long > slowAfter && h.got < int64(long.Seconds()*slowest) {
			h.evict()
		}
	}
	for h, silent := range still {
		if silent > m.patience || len(still) >= manyStalled {
			h.evict()
		}
	}
}
