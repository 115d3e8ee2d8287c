package runtime

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/storage"
	"kraft/wire"
	"kraft/wire/record"
)

// Record is one record of the internal topic. A nil Value is a tombstone.
type Record struct{ Key, Value []byte }

// Entry is a record as it is in the log.
type Entry struct {
	Record
	Offset        int64
	ProducerID    int64 // of the transaction that the record is part of, -1 for none
	ProducerEpoch int16
}

// Token names a caller who waits for a reply. Zero is nobody.
type Token uint64

// Reply answers the caller that To names.
type Reply struct {
	To       Token
	Response any
}

// Effects are what a machine wants done: its Records, or its Marker, are appended together or not at all, and then replayed. The Replies
// and the Events leave when that, and all that was appended before, is committed.
type Effects struct {
	Records []Record
	// Producer is whose transaction the Records are part of, nil for none.
	Producer *Producer
	// Marker ends a transaction in this partition; there are no Records beside it.
	Marker  *storage.Marker
	Replies []Reply
	// Events are for the host's owner, in order.
	Events []any
}

// Producer is a producer whose transaction records are part of.
type Producer struct {
	ID    int64
	Epoch int16
	Guard *storage.Guard // nil where the transaction is open in the partition
}

// Add adds what other asks for, which has no Producer and no Marker.
func (e *Effects) Add(other Effects) {
	e.Records = append(e.Records, other.Records...)
	e.Replies = append(e.Replies, other.Replies...)
	e.Events = append(e.Events, other.Events...)
}

// Call is the occasion of an operation.
type Call struct {
	Now time.Time
	To  Token // who waits for the reply
	// Held says that replies have waited for a commit so long that clients who send nothing may be waiting for them.
	Held bool
	// Check returns why records can't be appended together, nil if they probably can. Its errors wrap the kerr error that clients of
	// coordinators know. An operation calls it before it changes soft state that assumes that the records are appended.
	Check func([]Record) error
}

// Machine is a coordinator's state. It knows no I/O, no clock and no goroutine: all methods are called by its loop.
//
// Replay is the only way from records to state: while the partition is loaded, and after the machine's own records have been appended. An
// operation returns records and leaves it to Replay what they change. Beside that a machine has soft state, which is in no record, such
// as who waits for what until when. If an append fails, the machine is dropped, and a new one loads the partition.
type Machine interface {
	// Replay applies a record, whose bytes are the caller's. Records of kinds that the machine does not know are passed over.
	Replay(e Entry) error
	// EndTransaction says that the records of a producer's open transaction count from now on, or never.
	EndTransaction(producerID int64, committed bool)
	// Loaded ends loading. What it returns has no Records.
	Loaded(now time.Time) Effects
	// Next is when Tick wants to be called; zero for never.
	Next() time.Time
	// Tick does what has fallen due.
	Tick(c Call) Effects
}

// Log is the partition that a loop appends to.
type Log interface {
	// Takes returns why nothing can be appended by the leader of epoch, nil if it probably can.
	Takes(epoch int32) error
	// Append appends a batch as the leader of epoch and returns the offset behind it. guard is that of a batch that may begin a transaction.
	Append(batch record.Batch, guard *storage.Guard, epoch int32, now time.Time) (end int64, err error)
	// AppendMarker appends the marker of a transaction as the leader of epoch and returns the offset behind it.
	AppendMarker(m storage.Marker, epoch int32, now time.Time) (end int64, err error)
	// Syncs reports whether records are committed only after Sync, which blocks.
	Syncs() bool
	// Sync writes the records below end to disk. The syncer's goroutine calls it.
	Sync(end int64) error
	// MaxBatch is how many bytes a batch may have that holds anything but tombstones (max.message.bytes).
	MaxBatch() int
	// ReadAll calls each with every batch up to the end of the log.
	ReadAll(each func(record.Batch) error) error
	// HighWatermark is the offset below which records are committed.
	HighWatermark() int64
	// WatchHighWatermark sends to ch, without waiting, whenever the high watermark moves, until stop.
	WatchHighWatermark(ch chan<- struct{}) (stop func())
}

// recordOverhead is the most that a record has beside its key and value: its length, attributes, two deltas, the lengths of key and
// value, and the number of headers.
const recordOverhead = 5 + 1 + 10 + 5 + 5 + 5 + 1

// atMost bounds the size of records in a batch from above, without its header. It is 0 if all are tombstones, whose batch may be of any
// size: they are as many as there is to forget.
func atMost(records []Record) (size int) {
	values := false
	for _, r := range records {
		size += recordOverhead + len(r.Key) + len(r.Value)
		values = values || r.Value != nil
	}
	if !values {
		return 0
	}
	return size
}

// fits returns kerr.MessageTooLarge if records make a batch of more than limit bytes.
func fits(records []Record, limit int) error {
	if record.HeaderSize+atMost(records) <= limit {
		return nil
	}
	_, err := build(records, nil, limit, time.Now())
	return err
}

// build makes the batch of records, of a producer's transaction or of none. It returns kerr.MessageTooLarge if it has more than limit bytes.
func build(records []Record, of *Producer, limit int, now time.Time) (record.Batch, error) {
	b := record.NewBuilder(record.None)
	if of != nil {
		b.ProducerID, b.ProducerEpoch, b.Attributes = of.ID, of.Epoch, record.TransactionalFlag
	}
	for _, r := range records {
		b.Add(&record.Record{Timestamp: now.UnixMilli(), Key: r.Key, Value: r.Value})
	}
	batch, err := b.Build()
	if err == nil && len(batch) > limit && atMost(records) > 0 {
		return nil, fmt.Errorf("records of %d bytes, max.message.bytes is %d: %w", len(batch), limit, kerr.MessageTooLarge)
	}
	return batch, err
}

// forClients turns an error of the log into one that clients know from coordinators (Kafka's CoordinatorOperationExceptionHelper).
func forClients(err error) error {
	known := func(k *kerr.Error) error { return fmt.Errorf("%v: %w", err, k) }
	is := func(errs ...error) bool { return wire.IsAny(err, errs...) }
	var k *kerr.Error
	switch {
	case err == nil:
		return nil
	case is(kerr.NotLeaderForPartition, kerr.KafkaStorageError, kerr.FencedLeaderEpoch):
		return known(kerr.NotCoordinator)
	case is(kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.UnknownTopicOrPartition, kerr.RequestTimedOut):
		return known(kerr.CoordinatorNotAvailable)
	case is(kerr.MessageTooLarge, kerr.RecordListTooLarge), !errors.As(err, &k):
		return known(kerr.UnknownServerError)
	}
	return err
}
