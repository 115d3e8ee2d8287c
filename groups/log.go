package groups

import (
	"errors"
	"fmt"
	"time"

	"kraft/replication"
	"kraft/storage"
	"kraft/wire/record"
)

// partitionLog is a partition as its coordinator sees it.
type partitionLog struct{ p *replication.Partition }

// loadBytes is how much of a log is read at a time (offsets.load.buffer.size).
const loadBytes = 5 << 20

// Takes implements runtime.Log.
func (l partitionLog) Takes(epoch int32) error { return l.p.TakesInternal(epoch) }

// Append implements runtime.Log.
func (l partitionLog) Append(b record.Batch, guard *storage.Guard, epoch int32, now time.Time) (int64, error) {
	a, err := l.p.AppendInternal(b, guard, epoch, now)
	return a.Last + 1, err
}

// AppendMarker implements runtime.Log.
func (l partitionLog) AppendMarker(m storage.Marker, epoch int32, now time.Time) (int64, error) {
	return l.p.AppendMarkerInternal(m, epoch, now)
}

// Syncs implements runtime.Log.
func (l partitionLog) Syncs() bool { return l.p.Syncs() }

// Sync implements runtime.Log.
func (l partitionLog) Sync(end int64) error { return l.p.SyncInternal(end) }

// MaxBatch implements runtime.Log.
func (l partitionLog) MaxBatch() int { return l.p.Log().Config().MaxMessageBytes }

// HighWatermark implements runtime.Log.
func (l partitionLog) HighWatermark() int64 { return l.p.Log().HighWatermark() }

// WatchHighWatermark implements runtime.Log.
func (l partitionLog) WatchHighWatermark(ch chan<- struct{}) (stop func()) {
	return l.p.WatchHighWatermark(ch)
}

// ReadAll implements runtime.Log.
func (l partitionLog) ReadAll(each func(record.Batch) error) error {
	log := l.p.Log()
	offset, end := log.StartOffset(), log.EndOffset()
	var buf []byte
	for offset < end {
		s, err := log.Read(offset, loadBytes, end, true)
		if err != nil {
			return err
		}
		if s.Length == 0 {
			return nil
		}
		if cap(buf) < s.Length {
			buf = make([]byte, s.Length)
		}
		data := buf[:s.Length]
		if _, err := s.File.ReadAt(data, s.Offset); err != nil {
			return err
		}
		for len(data) > 0 {
			b, rest, err := record.Next(data)
			if errors.Is(err, record.ErrTruncated) {
				break
			}
			if err == nil {
				err = b.Check()
			}
			if err != nil {
				return fmt.Errorf("behind offset %d: %w", offset, err)
			}
			if err := each(b); err != nil {
				return err
			}
			offset = b.LastOffset() + 1
			data = rest
		}
	}
	return nil
}
