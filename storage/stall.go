package storage

import (
	"sync/atomic"
	"time"
)

// writes has the start times of the writes to a directory that are under way. Writes to the page cache and changes of names take
// microseconds; one that waits for long has met a disk, or what it is mounted by, that does not answer.
type writes struct {
	born  time.Time                 // of what begun counts from
	begun [writesNoted]atomic.Int64 // nanoseconds since born, 0 where nothing is under way
}

// writesNoted is how many writes at a time are noted. More go unnoticed, which does no harm: where the disk hangs, those that are
// noted hang too.
const writesNoted = 32

// note runs a write.
func (w *writes) note(write func() error) error {
	if begun := w.begin(); begun != nil {
		defer begun.Store(0)
	}
	return write()
}

// begin notes that a write begins, and returns where that is noted; nil if it is not. Setting it to 0 ends the write.
func (w *writes) begin() *atomic.Int64 {
	now := max(1, int64(time.Since(w.born)))
	for i := range w.begun {
		if w.begun[i].Load() == 0 && w.begun[i].CompareAndSwap(0, now) {
			return &w.begun[i]
		}
	}
	return nil
}

// oldest is how long the oldest write has been under way, 0 without one.
func (w *writes) oldest() time.Duration {
	first := int64(0)
	for i := range w.begun {
		if b := w.begun[i].Load(); b != 0 && (first == 0 || b < first) {
			first = b
		}
	}
	if first == 0 {
		return 0
	}
	return time.Since(w.born) - time.Duration(first)
}

// Hangs finds the write to a log directory that has waited longest for its disk: in which directory it is, and for how long it has
// waited, 0 where nothing waits. Any goroutine may call it. It takes no locks: who holds them may be waiting for that disk.
func (m *Manager) Hangs() (dir string, waited time.Duration) {
	for _, d := range m.dirs {
		if d.failure.Load() != nil {
			continue
		}
		if waits := d.writes.oldest(); waits > waited {
			dir, waited = d.path, waits
		}
	}
	return dir, waited
}
