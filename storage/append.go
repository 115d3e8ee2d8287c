package storage

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/wire/record"
)

// Appended is what became of an append.
type Appended struct {
	First, Last   int64 // offsets
	LogAppendTime int64 // milliseconds, -1 when the topic keeps the client's timestamps
	Duplicate     bool  // the producer sent it before: nothing was written
}

// InvalidRecords is the error of a batch refused for some of its records (KIP-467). Nothing of the batch
// was appended.
type InvalidRecords struct {
	Indexes []int32 // of the records at fault, within the batch; none where it cannot be told
	Reason  string
	Code    *kerr.Error
}

func (e *InvalidRecords) Error() string { return e.Reason }
func (e *InvalidRecords) Unwrap() error { return e.Code }

// Append validates data, one or more batches as a client sent them, and appends them as the leader of
// the given epoch. Offsets and epoch are set in place: data must not be used by others meanwhile, nor
// is it kept. Message sets of magic 0 and 1 are converted. Any goroutine may call it; appends of one
// log are serialized. Errors wrap the kerr code for the client.
func (l *Log) Append(data []byte, leaderEpoch int32, now time.Time) (Appended, error) {
	config := l.config.Load()
	if err := l.space.refuses(false); err != nil {
		return Appended{}, fmt.Errorf("%v: %w", l.tp, err)
	}
	data, batches, err := validate(data, config, now)
	if err != nil {
		return Appended{}, fmt.Errorf("%v: %w", l.tp, err)
	}
	a, err := l.append(data, batches, leaderEpoch, config, now)
	if err == nil && config.FlushMessages < 1<<63-1 && l.flushDue(now) {
		if err = l.Flush(); errors.Is(err, ErrMoved) {
			err = nil // the log that took this one's place has what was appended, on disk
		}
	}
	return a, err
}

// AppendInternal appends batches that the broker itself made, such as group offsets.
func (l *Log) AppendInternal(data []byte, batches []record.Batch, leaderEpoch int32, now time.Time) (Appended, error) {
	if err := l.space.refuses(true); err != nil {
		return Appended{}, fmt.Errorf("%v: %w", l.tp, err)
	}
	return l.append(data, batches, leaderEpoch, l.config.Load(), now)
}

func (l *Log) append(data []byte, batches []record.Batch, leaderEpoch int32, config *LogConfig, now time.Time) (Appended, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Before duplicates are looked for: a log that broke while it was cut knows of records that are gone.
	if err := l.gone(); err != nil {
		return Appended{}, err
	}
	if l.broken != nil {
		return Appended{}, l.broken
	}
	out := Appended{LogAppendTime: record.NoTimestamp}
	if config.LogAppendTime {
		out.LogAppendTime = now.UnixMilli()
	}
	for _, b := range batches {
		dup, err := l.producers.check(b)
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
	next := l.EndOffset()
	out.First = next
	for _, b := range batches {
		b.SetBaseOffset(next)
		b.SetLeaderEpoch(leaderEpoch)
		next = b.LastOffset() + 1
	}
	out.Last = next - 1
	return out, l.write(data, batches, now)
}

// validate is Kafka's LogValidator for batches from clients. It returns what to write, which is data
// itself unless it had to be converted.
func validate(data []byte, c *LogConfig, now time.Time) ([]byte, []record.Batch, error) {
	if len(data) < record.MinFrame+5 {
		return nil, nil, fmt.Errorf("%d bytes are no record batch: %w", len(data), kerr.CorruptMessage)
	}
	if record.Magic(data) < 2 {
		return convertLegacy(data, c, now)
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
		data = nil
		for _, b := range batches {
			data = append(data, b...)
		}
		for i, at := 0, 0; i < len(batches); i++ { // offsets will be set in what is written
			n := len(batches[i])
			batches[i] = record.Batch(data[at : at+n : at+n])
			at += n
		}
	}
	return data, batches, nil
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
	if b.HasLogAppendTime() && !c.LogAppendTime { // no client's to say
		b.SetCreateTime(b.MaxTimestamp())
	}
	if c.TrustCompressed && b.Codec() != record.None && !c.Compact {
		return trustHeader(b, c, now)
	}
	shape, err := b.Inspect(c.MaxDecompressed, c.Compact)
	if errors.Is(err, record.ErrCorrupt) { // not CORRUPT_MESSAGE, on which clients send the same again
		return &InvalidRecords{Reason: err.Error(), Code: kerr.UnknownServerError}
	}
	if err != nil {
		return decompressError(err)
	}
	if len(shape.Keyless) > 0 {
		return &InvalidRecords{Indexes: shape.Keyless, Reason: "Compacted topic cannot accept message without key.", Code: kerr.InvalidRecord}
	}
	if c.LogAppendTime {
		return nil
	}
	oldest, newest := b.BaseTimestamp()+shape.MinDelta, b.BaseTimestamp()+shape.MaxDelta
	if shape.MaxDelta > 0 && newest < b.BaseTimestamp() || shape.MinDelta < 0 && oldest > b.BaseTimestamp() {
		return fmt.Errorf("timestamps of the batch are beyond what a number holds: %w", kerr.InvalidTimestamp)
	}
	if oldest < 0 || checkTimestamp(oldest, c, now) != nil || checkTimestamp(newest, c, now) != nil {
		if err := refuseTimestamps(b, c, now); err != nil {
			return err
		}
	}
	if newest != b.MaxTimestamp() {
		b.SetCreateTime(newest)
	}
	return nil
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
	records, err := b.Records(c.MaxDecompressed)
	if err != nil {
		return decompressError(err)
	}
	refused := &InvalidRecords{Code: kerr.InvalidTimestamp}
	for i := range records {
		if err := checkTimestamp(records[i].Timestamp, c, now); err != nil {
			refused.Indexes, refused.Reason = append(refused.Indexes, int32(i)), err.Error()
		}
	}
	if len(refused.Indexes) == 0 {
		return nil
	}
	return refused
}

func decompressError(err error) error {
	if errors.Is(err, record.ErrTooLarge) || errors.Is(err, record.ErrMalformed) {
		return fmt.Errorf("%v: %w", err, kerr.InvalidRecord)
	}
	return fmt.Errorf("%v: %w", err, kerr.CorruptMessage)
}

func checkTimestamp(ms int64, c *LogConfig, now time.Time) error {
	if ms < 0 {
		return nil
	}
	ahead := ms - now.UnixMilli()
	if ahead > c.TimestampAfter.Milliseconds() || -ahead > c.TimestampBefore.Milliseconds() {
		return &InvalidRecords{Indexes: []int32{0}, Code: kerr.InvalidTimestamp, Reason: fmt.Sprintf(
			"Timestamp %d of message is out of range. The timestamp should be within [%d ms before, %d ms after] the broker's time %d",
			ms, c.TimestampBefore.Milliseconds(), c.TimestampAfter.Milliseconds(), now.UnixMilli())}
	}
	return nil
}

// recompress rewrites a batch with the topic's codec, keeping producer, sequence and timestamps.
func recompress(b record.Batch, c *LogConfig) (record.Batch, error) {
	records, err := b.Records(c.MaxDecompressed)
	if err != nil {
		return nil, decompressError(err)
	}
	w := record.NewBuilder(c.Codec)
	w.Level = c.CodecLevel
	w.ProducerID, w.ProducerEpoch, w.BaseSequence = b.ProducerID(), b.ProducerEpoch(), b.BaseSequence()
	w.Attributes = b.Attributes() &^ 7
	for i := range records {
		w.Add(&records[i])
	}
	return w.Build()
}

// convertLegacy makes one batch of a message set of magic 0 or 1.
func convertLegacy(data []byte, c *LogConfig, now time.Time) ([]byte, []record.Batch, error) {
	if len(data) > c.MaxMessageBytes {
		return nil, nil, fmt.Errorf("message set of %d bytes, max.message.bytes is %d: %w", len(data), c.MaxMessageBytes, kerr.MessageTooLarge)
	}
	records, codec, err := record.FromLegacy(data, c.MaxDecompressed)
	if err != nil {
		return nil, nil, decompressError(err)
	}
	if len(records) == 0 {
		return nil, nil, fmt.Errorf("empty message set: %w", kerr.InvalidRecord)
	}
	if !c.KeepCodec {
		codec = c.Codec
	}
	w := record.NewBuilder(codec)
	if !c.KeepCodec {
		w.Level = c.CodecLevel
	}
	var keyless []int32
	for i := range records {
		if records[i].Key == nil && c.Compact {
			keyless = append(keyless, int32(i))
		}
		if !c.LogAppendTime {
			if err := checkTimestamp(records[i].Timestamp, c, now); err != nil {
				return nil, nil, err
			}
		}
		w.Add(&records[i])
	}
	if len(keyless) > 0 {
		return nil, nil, &InvalidRecords{Indexes: keyless, Reason: "Compacted topic cannot accept message without key.", Code: kerr.InvalidRecord}
	}
	b, err := w.Build()
	if err != nil {
		return nil, nil, err
	}
	if c.LogAppendTime {
		b.SetLogAppendTime(now.UnixMilli())
	}
	return b, []record.Batch{b}, nil
}
