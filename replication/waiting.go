package replication

import "sync/atomic"

// waiting holds the Fetch requests that wait for bytes of one partition, and counts those bytes. The partition's mu guards it.
type waiting struct {
	replicas, consumers audience
	unseen              int64 // bytes appended since the high watermark last moved
}

// audience holds the requests of followers, which see appended records, or those of consumers, which see committed ones.
type audience struct {
	bytes    int64 // that the requests could see so far, over all time
	wakings  int64 // calls of wake
	sleepers alarms
}

func (a *audience) came(bytes int64) {
	a.bytes += bytes
	a.sleepers.reach(a.bytes)
}

// wake ends the waiting of all requests: their answers may have changed in another way.
func (a *audience) wake() {
	a.wakings++
	a.sleepers.ringAll()
}

func (w *waiting) appended(bytes int) {
	w.unseen += int64(bytes)
	w.replicas.came(int64(bytes))
}

// publish makes the appended bytes visible to consumers.
func (w *waiting) publish() {
	w.consumers.came(w.unseen)
	w.unseen = 0
}

// wakeAll ends the waiting of followers and consumers, wakeReplicas that of followers.
func (w *waiting) wakeAll() {
	w.unseen = 0
	w.replicas.wake()
	w.consumers.wake()
}

func (w *waiting) wakeReplicas() { w.replicas.wake() }

// waiter is a Fetch request that waits until enough bytes have come to its partitions together. It belongs to the request's goroutine, but
// for rings.
type waiter struct {
	replica bool          // a follower's
	need    int64         // bytes
	signal  chan struct{} // when it is to look
	rings   atomic.Int64  // of its alarms, until the signal
	parts   []partitionWait
}

// partitionWait is a waiter at one of its partitions.
type partitionWait struct {
	p                   *Partition
	alarm               alarm
	bytesAtStart, bytes int64 // of its audience: when it began, and when it last looked
	wakingsAtStart      int64
}

// newWaiter begins to count the bytes that come to parts, of which there is at least one. The caller sets need to 1 or more, calls enough
// before it receives from signal, and calls leave at the end.
func newWaiter(parts []*Partition, replica bool) *waiter {
	parts = distinct(parts)
	w := &waiter{replica: replica, signal: make(chan struct{}, 1), parts: make([]partitionWait, len(parts))}
	for i, p := range parts {
		at := &w.parts[i]
		at.p, at.alarm = p, newAlarm(w.signal)
		at.alarm.rings = &w.rings
		w.at(at, func(a *audience) { at.bytesAtStart, at.wakingsAtStart = a.bytes, a.wakings })
	}
	return w
}

// distinct leaves out what a request names again: an append would ring all of them.
func distinct(parts []*Partition) []*Partition {
	if len(parts) == 1 {
		return parts
	}
	seen, out := make(map[*Partition]struct{}, len(parts)), make([]*Partition, 0, len(parts))
	for _, p := range parts {
		if _, again := seen[p]; !again {
			seen[p] = struct{}{}
			out = append(out, p)
		}
	}
	return out
}

// at calls f with the waiter's audience at one of its partitions, locked.
func (w *waiter) at(at *partitionWait, f func(a *audience)) {
	at.p.mu.Lock()
	defer at.p.mu.Unlock()
	if w.replica {
		f(&at.p.waiting.replicas)
	} else {
		f(&at.p.waiting.consumers)
	}
}

// enough reports whether need bytes have come, or a partition has ended the waiting. If it returns false, the caller calls it again after
// the next signal. Of N partitions each rings at every share of the 2N-th part of what is left, and can hold up to share-1 bytes that no ring has
// counted. So the signal comes when left - N*(share-1) bytes are counted: the rest cannot be there earlier. That is more than half of left,
// so that there are few looks.
func (w *waiter) enough() bool {
	left, ended := w.need, false
	for i := range w.parts {
		at := &w.parts[i]
		w.at(at, func(a *audience) {
			at.bytes = a.bytes
			ended = ended || a.wakings != at.wakingsAtStart
		})
		left -= at.bytes - at.bytesAtStart
	}
	if ended || left <= 0 {
		return true
	}
	n := int64(len(w.parts))
	share := (left + 2*n - 1) / (2 * n)
	uncounted := n * (share - 1)
	w.rings.Store(max(1, (left-uncounted+share-1)/share))
	for i := range w.parts {
		at := &w.parts[i]
		w.at(at, func(a *audience) {
			at.alarm.every = share
			a.sleepers.add(&at.alarm, at.bytes+share)
			a.sleepers.reach(a.bytes) // what came since
			ended = ended || a.wakings != at.wakingsAtStart
		})
	}
	return ended
}

func (w *waiter) leave() {
	for i := range w.parts {
		at := &w.parts[i]
		w.at(at, func(a *audience) { a.sleepers.remove(&at.alarm) })
	}
}
