package storage

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/wire/record"
)

// Appended is what became of an append.
type Appended struct {
	First, Last   int64 // offsets
	LogAppendTime int64 // milliseconds, -1 when the topic keeps the client's timestamps
	Duplicate     bool  // the producer sent it before: nothing was written
	Size          int   // bytes written
}

// InvalidRecords is the error of a batch refused for some of its records (KIP-467). Nothing of the batch
// was appended.
type InvalidRecords struct {
	Indexes []int32 // of the records at fault, within the batch, the first 10,000; none where it cannot be told
	Reason  string
	Code    *kerr.Error
}

func (e *InvalidRecords) Error() string { return e.Reason }
func (e *InvalidRecords) Unwrap() error { return e.Code }

// Validated holds batches that Validate has accepted, ready for AppendValidated.
type Validated struct {
	data    []byte
	batches []record.Batch
	config  *LogConfig
	now     time.Time
	guard   *Guard
}

// First is the first batch. Its producer fields are those that the client sent.
func (v *Validated) First() record.Batch { return v.batches[0] }

// Guarded is v with the guard of a batch that may begin a transaction, nil for one that can't.
func (v Validated) Guarded(g *Guard) Validated {
	v.guard = g
	return v
}

// Validate looks at data, one or more batches as a client sent them, and makes of them what is to be written: message sets of magic 0 and 1
// are converted, batches get the topic's codec. data is changed, and must not be used by others. It can take a second and wait for other
// calls, so the caller should hold no lock. Any goroutine may call it. Errors wrap the kerr code for the client.
func (l *Log) Validate(data []byte, now time.Time) (Validated, error) {
	config := l.config.Load()
	if err := l.space.refuses(false); err != nil {
		return Validated{}, fmt.Errorf("%v: %w", l.tp, err)
	}
	data, batches, err := validate(data, config, now)
	if err != nil {
		return Validated{}, fmt.Errorf("%v: %w", l.tp, err)
	}
	return Validated{data: data, batches: batches, config: config, now: now}, nil
}

// AppendValidated appends v, which this log or the one whose place it took has validated, as the leader of the given epoch. Offsets and epoch are
// set in place: nothing is kept. Any goroutine may call it; appends of one log are serialized. Errors wrap the kerr code for the client.
func (l *Log) AppendValidated(v Validated, leaderEpoch int32) (Appended, error) {
	if err := l.space.refuses(false); err != nil {
		return Appended{}, fmt.Errorf("%v: %w", l.tp, err)
	}
	config, now := v.config, v.now
	a, err := l.append(v.data, v.batches, v.guard, true, leaderEpoch, config, now)
	if err == nil && config.FlushMessages < 1<<63-1 && l.flushDue(now) {
		if err = l.Flush(); errors.Is(err, ErrMoved) {
			err = nil // the log that took this one's place has what was appended, on disk
		}
	}
	return a, err
}

// TakesInternal returns the error with which AppendInternal would refuse any batch now, nil if none.
func (l *Log) TakesInternal() error {
	if err := l.space.refuses(true); err != nil {
		return fmt.Errorf("%v: %w", l.tp, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.takes()
}

// AppendInternal appends batches that the broker itself made, such as group offsets. guard is that of a batch that may begin a transaction.
func (l *Log) AppendInternal(data []byte, batches []record.Batch, guard *Guard, leaderEpoch int32, now time.Time) (Appended, error) {
	if err := l.space.refuses(true); err != nil {
		return Appended{}, fmt.Errorf("%v: %w", l.tp, err)
	}
	return l.append(data, batches, guard, false, leaderEpoch, l.config.Load(), now)
}

func (l *Log) append(data []byte, batches []record.Batch, guard *Guard, ofClient bool, leaderEpoch int32, config *LogConfig, now time.Time) (Appended, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Before duplicates are looked for: a log that broke while it was cut knows of records that are gone.
	if err := l.takes(); err != nil {
		return Appended{}, err
	}
	out := Appended{LogAppendTime: record.NoTimestamp}
	if config.LogAppendTime {
		out.LogAppendTime = now.UnixMilli()
	}
	for _, b := range batches {
		dup, err := l.producers.check(b, guard, ofClient)
		if err != nil {
			return Appended{}, fmt.Errorf("%v: %w", l.tp, err)
		}
		if dup != nil {
			if config.LogAppendTime {
				out.LogAppendTime = dup.timestamp
			}
			out.First, out.Last, out.Duplicate = dup.firstOffset(), dup.lastOffset, true
			return out, nil
		}
	}
	a, err := l.place(data, batches, leaderEpoch, out.LogAppendTime, now)
	if err == nil {
		for _, b := range batches {
			if b.IsTransactional() {
				delete(l.producers.guards, b.ProducerID())
			}
		}
	}
	return a, err
}

// place sets the offsets and the leader epoch of batches and writes them. mu is held.
func (l *Log) place(data []byte, batches []record.Batch, leaderEpoch int32, appendTime int64, now time.Time) (Appended, error) {
	next := l.EndOffset()
	out := Appended{First: next, LogAppendTime: appendTime}
	for _, b := range batches {
		b.SetBaseOffset(next)
		b.SetLeaderEpoch(leaderEpoch)
		next = b.LastOffset() + 1
	}
	out.Last, out.Size = next-1, len(data)
	return out, l.write(data, batches, now)
}

// validate is Kafka's LogValidator for batches from clients. It returns what to write, which is data
// itself unless it had to be converted.
func validate(data []byte, c *LogConfig, now time.Time) ([]byte, []record.Batch, error) {
	if len(data) < record.MinFrame+5 {
		return nil, nil, fmt.Errorf("%d bytes are no record batch: %w", len(data), kerr.CorruptMessage)
	}
	if record.Magic(data) < 2 {
		b, err := convertLegacy(data, c, now)
		return b, []record.Batch{b}, err
	}
	var batches []record.Batch
	rebuilt := false
	for rest := data; len(rest) > 0; {
		var b record.Batch
		var err error
		if b, rest, err = record.Next(rest); err != nil {
			return nil, nil, fmt.Errorf("%v: %w", err, kerr.CorruptMessage)
		}
		if err := checkBatch(b, c, now); err != nil {
			return nil, nil, err
		}
		if !c.KeepCodec && b.Codec() != c.Codec {
			if b, err = recompress(b, c); err != nil {
				return nil, nil, err
			}
			rebuilt = true
		}
		if c.LogAppendTime {
			b.SetLogAppendTime(now.UnixMilli())
		}
		batches = append(batches, b)
	}
	if rebuilt {
		data = join(batches)
	}
	return data, batches, nil
}

// join returns batches in one slice, whose parts they become: offsets are set in what is written.
func join(batches []record.Batch) (data []byte) {
	for _, b := range batches {
		data = append(data, b...)
	}
	at := 0
	for i := range batches {
		end := at + len(batches[i])
		batches[i] = record.Batch(data[at:end:end])
		at = end
	}
	return data
}

func checkBatch(b record.Batch, c *LogConfig, now time.Time) error {
	if len(b) > c.MaxMessageBytes {
		return fmt.Errorf("batch of %d bytes, max.message.bytes is %d: %w", len(b), c.MaxMessageBytes, kerr.MessageTooLarge)
	}
	if err := b.Check(); err != nil {
		return fmt.Errorf("%v: %w", err, kerr.CorruptMessage)
	}
	if b.Count() <= 0 || b.LastOffsetDelta()+1 != b.Count() {
		return fmt.Errorf("batch counts %d records and ends at delta %d: %w", b.Count(), b.LastOffsetDelta(), kerr.InvalidRecord)
	}
	if b.IsControl() || b.HasDeleteHorizon() {
		return fmt.Errorf("clients may not write control batches: %w", kerr.InvalidRecord)
	}
	if b.BaseOffset() != 0 {
		return fmt.Errorf("base offset of the batch is not 0 but %d: %w", b.BaseOffset(), kerr.InvalidRecord)
	}
	if b.ProducerID() >= 0 && (b.BaseSequence() < 0 || b.ProducerEpoch() < 0) {
		return fmt.Errorf("producer %d sends epoch %d, sequence %d: %w", b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), kerr.InvalidRecord)
	}
	if b.IsTransactional() && b.ProducerID() < 0 {
		return fmt.Errorf("transactional batch without producer id: %w", kerr.InvalidRecord)
	}
	if b.Codec() > record.Zstd {
		return fmt.Errorf("%v: %w", b.Codec(), kerr.UnsupportedCompressionType)
	}
	return checkRecords(b, c, now)
}

// checkRecords looks at all records, also of batches that are stored as they came: whatever a reader would stumble over is refused. The
// header's word about the newest timestamp is not taken: lookups by time go by it.
func checkRecords(b record.Batch, c *LogConfig, now time.Time) error {
	claimed := b.HasLogAppendTime() // which is no client's to say
	if claimed && !c.LogAppendTime {
		b.SetCreateTime(b.MaxTimestamp())
		claimed = b.MaxTimestamp() == record.NoTimestamp
	}
	if c.TrustCompressed && b.Codec() != record.None && !c.Compact && (c.KeepCodec || b.Codec() == c.Codec) {
		return trustHeader(b, c, now)
	}
	oldest, newest := int64(math.MaxInt64), int64(math.MinInt64) // milliseconds to the batch's timestamp
	var keyless faults
	err := b.Inspect(c.MaxDecompressed, func(f record.Fields) {
		oldest, newest = min(oldest, f.TimestampDelta), max(newest, f.TimestampDelta)
		if f.Key == nil && c.Compact {
			keyless.add(f.Index)
		}
	})
	if errors.Is(err, record.ErrCorrupt) { // not CORRUPT_MESSAGE, on which clients send the same again
		return &InvalidRecords{Reason: err.Error(), Code: kerr.UnknownServerError}
	}
	if err != nil {
		return decompressError(err)
	}
	if len(keyless) > 0 {
		return &InvalidRecords{Indexes: keyless, Reason: "Compacted topic cannot accept message without key.", Code: kerr.InvalidRecord}
	}
	if claimed {
		var all faults
		for i := range min(b.Count(), maxFaults) {
			all.add(i)
		}
		return &InvalidRecords{Indexes: all, Reason: "Invalid timestamp type in message. Producer should not set timestamp type to LogAppendTime.", Code: kerr.InvalidTimestamp}
	}
	if c.LogAppendTime {
		return nil
	}
	base := b.BaseTimestamp()
	if newest > 0 && base+newest < base || oldest < 0 && base+oldest > base {
		return fmt.Errorf("timestamps of the batch are beyond what a number holds: %w", kerr.InvalidTimestamp)
	}
	oldest, newest = base+oldest, base+newest
	if oldest < 0 || !inRange(oldest, c, now) || !inRange(newest, c, now) {
		if err := refuseTimestamps(b, c, now); err != nil {
			return err
		}
	}
	if newest != b.MaxTimestamp() {
		b.SetCreateTime(newest)
	}
	return nil
}

// faults are the indexes of records at fault in a batch, rising. Those beyond the first maxFaults are not named: a small batch can hold
// many millions of records.
type faults []int32

const maxFaults = 10_000

// add names a record once, though Inspect may come to it twice.
func (f *faults) add(index int32) {
	if len(*f) < maxFaults && (len(*f) == 0 || (*f)[len(*f)-1] < index) {
		*f = append(*f, index)
	}
}

// trustHeader checks the timestamps that a header tells.
func trustHeader(b record.Batch, c *LogConfig, now time.Time) error {
	if c.LogAppendTime {
		return nil
	}
	for _, ms := range []int64{b.BaseTimestamp(), b.MaxTimestamp()} {
		if err := checkTimestamp(ms, c, now); err != nil {
			return err
		}
	}
	return nil
}

// refuseTimestamps names the records whose timestamps are out of range; nil if none is.
func refuseTimestamps(b record.Batch, c *LogConfig, now time.Time) error {
	var refused faults
	var last int64
	err := b.Inspect(c.MaxDecompressed, func(f record.Fields) {
		if ms := b.BaseTimestamp() + f.TimestampDelta; !inRange(ms, c, now) {
			last = ms
			refused.add(f.Index)
		}
	})
	if err != nil {
		return decompressError(err)
	}
	if len(refused) == 0 {
		return nil
	}
	return &InvalidRecords{Indexes: refused, Reason: checkTimestamp(last, c, now).Error(), Code: kerr.InvalidTimestamp}
}

func decompressError(err error) error {
	if errors.Is(err, record.ErrTooLarge) || errors.Is(err, record.ErrMalformed) {
		return fmt.Errorf("%w: %w", err, kerr.InvalidRecord)
	}
	return fmt.Errorf("%w: %w", err, kerr.CorruptMessage)
}

// inRange reports whether a record may have this timestamp, which is none below 0.
func inRange(ms int64, c *LogConfig, now time.Time) bool {
	ahead := ms - now.UnixMilli()
	return ms < 0 || ahead <= c.TimestampAfter.Milliseconds() && -ahead <= c.TimestampBefore.Milliseconds()
}

func checkTimestamp(ms int64, c *LogConfig, now time.Time) error {
	if !inRange(ms, c, now) {
		return &InvalidRecords{Indexes: []int32{0}, Code: kerr.InvalidTimestamp, Reason: fmt.Sprintf(
			"Timestamp %d of message is out of range. The timestamp should be within [%d ms before, %d ms after] the broker's time %d",
			ms, c.TimestampBefore.Milliseconds(), c.TimestampAfter.Milliseconds(), now.UnixMilli())}
	}
	return nil
}

// recompress rewrites a batch with the topic's codec. What becomes too large by that is refused.
func recompress(b record.Batch, c *LogConfig) (record.Batch, error) {
	out, err := record.Recompress(b, c.Codec, c.CodecLevel, c.MaxDecompressed, c.MaxMessageBytes)
	if errors.Is(err, record.ErrOutgrows) {
		return nil, fmt.Errorf("batch with compression.type=%v, max.message.bytes is %d: %v: %w", c.Codec, c.MaxMessageBytes, err, kerr.MessageTooLarge)
	}
	if err != nil {
		return nil, decompressError(err)
	}
	return out, nil
}

// convertLegacy makes one batch of a message set of magic 0 or 1.
func convertLegacy(data []byte, c *LogConfig, now time.Time) (batch record.Batch, err error) {
	if len(data) > c.MaxMessageBytes {
		return nil, fmt.Errorf("message set of %d bytes, max.message.bytes is %d: %w", len(data), c.MaxMessageBytes, kerr.MessageTooLarge)
	}
	err = record.Incoming.Bounded(max(len(data), min(c.MaxDecompressed, record.MaxLegacyBytes)), func(limit int) (err error) {
		batch, err = fromLegacy(data, c, now, limit)
		return err
	})
	return batch, err
}

// fromLegacy is convertLegacy, decompressing at most limit bytes.
func fromLegacy(data []byte, c *LogConfig, now time.Time, limit int) (record.Batch, error) {
	records, codec, err := record.FromLegacy(data, limit)
	if err != nil {
		return nil, decompressError(err)
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("empty message set: %w", kerr.InvalidRecord)
	}
	if !c.KeepCodec {
		codec = c.Codec
	}
	w := record.NewBuilder(codec)
	if !c.KeepCodec {
		w.Level = c.CodecLevel
	}
	var keyless faults
	for i := range records {
		if records[i].Key == nil && c.Compact {
			keyless.add(int32(i))
		}
		if !c.LogAppendTime {
			if err := checkTimestamp(records[i].Timestamp, c, now); err != nil {
				return nil, err
			}
		}
		w.Add(&records[i])
	}
	if len(keyless) > 0 {
		return nil, &InvalidRecords{Indexes: keyless, Reason: "Compacted topic cannot accept message without key.", Code: kerr.InvalidRecord}
	}
	b, err := w.Build()
	if err != nil {
		return nil, err
	}
	if len(b) > c.MaxMessageBytes {
		return nil, fmt.Errorf("message set of %d bytes, max.message.bytes is %d: %w", len(b), c.MaxMessageBytes, kerr.MessageTooLarge)
	}
	if c.LogAppendTime {
		b.SetLogAppendTime(now.UnixMilli())
	}
	return b, nil
}
