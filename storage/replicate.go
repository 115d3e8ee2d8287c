package storage

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/wire/record"
)

// AppendReplicated appends whole batches as another log has them: with their offsets and leader epochs.
// A batch that is cut short at the end is left out. It returns how many bytes it took. Errors wrap
// kerr.CorruptMessage for bytes that are none, kerr.KafkaStorageError for a failed write.
func (l *Log) AppendReplicated(data []byte, now time.Time) (int, error) {
	var batches []record.Batch
	n := 0
	for rest := data; len(rest) > 0; {
		b, after, err := record.Next(rest)
		if errors.Is(err, record.ErrTruncated) {
			break
		}
		if err == nil {
			err = b.Check()
		}
		if err != nil {
			return 0, fmt.Errorf("%v: %w: %w", l.tp, err, kerr.CorruptMessage)
		}
		batches = append(batches, b)
		n += len(b)
		rest = after
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.EndOffset()
	for len(batches) > 0 && batches[0].LastOffset() < next { // the read began inside what is here
		data = data[len(batches[0]):]
		n -= len(batches[0])
		batches = batches[1:]
	}
	if len(batches) > 0 && batches[0].BaseOffset() < next && next == l.start.Load() && l.Size() == 0 {
		// The other log begins inside a batch, by DeleteRecords: an empty copy begins with the whole of it.
		next = batches[0].BaseOffset()
		if err := l.restart(next, now); err != nil {
			return 0, err
		}
	}
	for _, b := range batches {
		if b.BaseOffset() < next || b.LastOffset() < b.BaseOffset() {
			return 0, fmt.Errorf("%v: offsets %d to %d follow %d: %w", l.tp, b.BaseOffset(), b.LastOffset(), next-1, kerr.CorruptMessage)
		}
		next = b.LastOffset() + 1
	}
	if len(batches) == 0 {
		return 0, nil
	}
	return n, l.write(data[:n], batches, now)
}

// Restart drops all records and goes on at offset, where another log begins that this one is a copy of.
func (l *Log) Restart(offset int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.restart(offset, time.Now())
}

func (l *Log) restart(offset int64, now time.Time) error {
	segments, err := l.restartAt(offset, *l.segments.Load(), now)
	if err != nil {
		l.broken = fmt.Errorf("%v: begin again at offset %d: %w", l.tp, offset, storageError(err))
		return l.broken
	}
	l.segments.Store(&segments)
	l.start.Store(offset)
	l.high.Store(offset)
	l.recoveryPoint, l.named = offset, false
	l.producers = newProducerStates()
	l.unstable.Store(-1)
	l.epochs.clear()
	return nil
}
