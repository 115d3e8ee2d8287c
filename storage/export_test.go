package storage

import (
	"time"
)

// Retain runs one round of retention.
func (l *Log) Retain(now time.Time) error { return l.retain(now) }

// Append validates data and appends it.
func (l *Log) Append(data []byte, leaderEpoch int32, now time.Time) (Appended, error) {
	v, err := l.Validate(data, now)
	if err != nil {
		return Appended{}, err
	}
	return l.AppendValidated(v, leaderEpoch)
}

// Compact runs one compaction of everything that may be compacted, with a map of so many bytes. It reports
// whether anything was left to do.
func (l *Log) Compact(from int64, memory int64, now time.Time) (next int64, err error) {
	c, err := l.cleanable(from, now)
	if err != nil || c.dirtyBytes == 0 {
		return from, err
	}
	_, next, err = l.compact(c, newOffsetMap(memory), now, func(int) {}, nil)
	return next, err
}

// Roll seals the active segment.
func (l *Log) Roll(now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active().size.Load() == 0 {
		return nil
	}
	return l.roll(l.EndOffset(), now)
}

// Checkpoint writes the checkpoints of all directories.
func (m *Manager) Checkpoint() error { return m.checkpoint() }

// Abandon ends a manager's goroutines as the death of its process would: nothing is written or closed.
func (m *Manager) Abandon() {
	close(m.stop)
	m.mover.close()
	m.cleaner.close()
	m.done.Wait()
}

// Segments is the number of segments.
func (l *Log) Segments() int { return len(*l.segments.Load()) }

// LookAtSpace has the manager look now how full its disks are.
func (m *Manager) LookAtSpace() { m.watchSpace() }
