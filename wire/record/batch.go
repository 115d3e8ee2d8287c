// Package record reads and writes Kafka's record formats as bytes: batches of magic 2 (KIP-98), the
// message sets of magic 0 and 1 that clients before 0.11 speak, and their compression. It knows no
// log, no topic and no network. Nothing in it keeps state but what is used again, and how much of
// the memory that decompression takes is taken; every function may be called from any goroutine.
package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// HeaderSize is the length in bytes of a magic 2 batch without its records.
const HeaderSize = 61

// MinFrame is the length in bytes of what every magic has in common: offset and size.
const MinFrame = 12

const (
	offsetAt       = 0
	lengthAt       = 8
	leaderEpochAt  = 12
	magicAt        = 16
	crcAt          = 17
	attributesAt   = 21
	lastDeltaAt    = 23
	baseTimeAt     = 27
	maxTimeAt      = 35
	producerIDAt   = 43
	producerEpAt   = 51
	baseSequenceAt = 53
	countAt        = 57
)

// Bits of a batch's attributes.
const (
	codecMask         = 0x07
	LogAppendTimeFlag = 0x08
	TransactionalFlag = 0x10
	ControlFlag       = 0x20
	DeleteHorizonFlag = 0x40
	// knownAttributes are what Kafka leaves of a batch's attributes where it changes one of them.
	knownAttributes = codecMask | LogAppendTimeFlag | TransactionalFlag | ControlFlag | DeleteHorizonFlag
)

// NoProducerID marks a batch whose producer is not idempotent, NoSequence one without a sequence.
const (
	NoProducerID = -1
	NoSequence   = -1
	NoTimestamp  = -1
)

// ErrTruncated says that bytes end before the batch does: the usual tail of a fetch or of a torn write.
var ErrTruncated = errors.New("record batch is cut short")

// ErrCorrupt is wrapped by every error about bytes that cannot be a valid batch.
var ErrCorrupt = errors.New("corrupt record batch")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is a view of one record batch of magic 2. The accessors below read the header in place;
// call Next or Check first, they establish that the bytes are there.
type Batch []byte

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// Next returns the first batch in b and what follows it. It checks magic and length but not the CRC.
// It returns ErrTruncated if b ends early, and an error wrapping ErrCorrupt if b is no magic 2 batch.
func Next(b []byte) (batch Batch, rest []byte, err error) {
	if len(b) < MinFrame+5 {
		return nil, b, ErrTruncated
	}
	if m := Magic(b); m != 2 {
		return nil, b, corrupt("magic %d", m)
	}
	size := int64(int32(binary.BigEndian.Uint32(b[lengthAt:]))) + MinFrame
	if size < HeaderSize {
		return nil, b, corrupt("length %d is less than a header's", size)
	}
	if int64(len(b)) < size {
		return nil, b, ErrTruncated
	}
	return Batch(b[:size:size]), b[size:], nil
}

// Magic returns the format version of the batch or message at the start of b, which must hold at
// least MinFrame+5 bytes.
func Magic(b []byte) int8 { return int8(b[magicAt]) }

func (b Batch) i64(at int) int64 { return int64(binary.BigEndian.Uint64(b[at:])) }
func (b Batch) i32(at int) int32 { return int32(binary.BigEndian.Uint32(b[at:])) }
func (b Batch) i16(at int) int16 { return int16(binary.BigEndian.Uint16(b[at:])) }

// Size is the length of the whole batch in bytes, as its header gives it.
func (b Batch) Size() int                  { return int(b.i32(lengthAt)) + MinFrame }
func (b Batch) BaseOffset() int64          { return b.i64(offsetAt) }
func (b Batch) LeaderEpoch() int32         { return b.i32(leaderEpochAt) }
func (b Batch) Attributes() int16          { return b.i16(attributesAt) }
func (b Batch) LastOffsetDelta() int32     { return b.i32(lastDeltaAt) }
func (b Batch) LastOffset() int64          { return b.BaseOffset() + int64(b.LastOffsetDelta()) }
func (b Batch) BaseTimestamp() int64       { return b.i64(baseTimeAt) }
func (b Batch) MaxTimestamp() int64        { return b.i64(maxTimeAt) }
func (b Batch) ProducerID() int64          { return b.i64(producerIDAt) }
func (b Batch) ProducerEpoch() int16       { return b.i16(producerEpAt) }
func (b Batch) BaseSequence() int32        { return b.i32(baseSequenceAt) }
func (b Batch) Count() int32               { return b.i32(countAt) }
func (b Batch) Codec() Codec               { return Codec(b.Attributes() & codecMask) }
func (b Batch) IsTransactional() bool      { return b.Attributes()&TransactionalFlag != 0 }
func (b Batch) IsControl() bool            { return b.Attributes()&ControlFlag != 0 }
func (b Batch) HasLogAppendTime() bool     { return b.Attributes()&LogAppendTimeFlag != 0 }
func (b Batch) HasDeleteHorizon() bool     { return b.Attributes()&DeleteHorizonFlag != 0 }
func (b Batch) CRC() uint32                { return binary.BigEndian.Uint32(b[crcAt:]) }
func (b Batch) Payload() []byte            { return b[HeaderSize:] }
func (b Batch) SetBaseOffset(v int64)      { binary.BigEndian.PutUint64(b[offsetAt:], uint64(v)) }
func (b Batch) SetLeaderEpoch(v int32)     { binary.BigEndian.PutUint32(b[leaderEpochAt:], uint32(v)) }
func (b Batch) computeCRC() uint32         { return crc32.Checksum(b[attributesAt:], castagnoli) }
func (b Batch) seal()                      { binary.BigEndian.PutUint32(b[crcAt:], b.computeCRC()) }
func (b Batch) putI64(at int, v int64)     { binary.BigEndian.PutUint64(b[at:], uint64(v)) }
func (b Batch) putI32(at int, v int32)     { binary.BigEndian.PutUint32(b[at:], uint32(v)) }
func (b Batch) putI16(at int, v int16)     { binary.BigEndian.PutUint16(b[at:], uint16(v)) }
func (b Batch) LastSequence() int32        { return AddSequence(b.BaseSequence(), b.LastOffsetDelta()) }
func (b Batch) setAttributes(v int16)      { b.putI16(attributesAt, v) }
func (b Batch) setLastOffsetDelta(d int32) { b.putI32(lastDeltaAt, d) }

// SetLogAppendTime stamps the whole batch with the broker's time in milliseconds, as
// message.timestamp.type=LogAppendTime asks, and seals the CRC again since it covers the stamp.
func (b Batch) SetLogAppendTime(ms int64) {
	b.setAttributes(b.Attributes()&knownAttributes | LogAppendTimeFlag)
	b.putI64(maxTimeAt, ms)
	b.seal()
}

// SetCreateTime has the batch's records keep their own timestamps, the newest of which is ms milliseconds, and seals the batch again.
func (b Batch) SetCreateTime(ms int64) {
	b.setAttributes(b.Attributes() & (knownAttributes &^ LogAppendTimeFlag))
	b.putI64(maxTimeAt, ms)
	b.seal()
}

// Check verifies the CRC-32C over attributes and records. The error wraps ErrCorrupt.
func (b Batch) Check() error {
	if got, want := b.computeCRC(), b.CRC(); got != want {
		return corrupt("checksum is %08x, header says %08x (base offset %d)", got, want, b.BaseOffset())
	}
	return nil
}

// AddSequence advances a producer's sequence by delta records; after MaxInt32 it wraps to 0
// (Kafka's DefaultRecordBatch.incrementSequence).
func AddSequence(seq, delta int32) int32 {
	if seq > 1<<31-1-delta {
		return delta - (1<<31 - 1 - seq) - 1
	}
	return seq + delta
}

// Kinds of markers that end transactions (KIP-98).
const (
	Abort  = 0
	Commit = 1
)

// Marker reads the kind and the coordinator's epoch of a control batch that ends a transaction; ok is
// false for other batches and for control records of kinds that are not known, which are passed over.
func (b Batch) Marker() (kind int16, coordinatorEpoch int32, ok bool) {
	if !b.IsControl() || b.Codec() != None {
		return 0, 0, false
	}
	records, err := b.Records(MaxRecordsBytes)
	if err != nil || len(records) == 0 || len(records[0].Key) < 4 {
		return 0, 0, false
	}
	kind = int16(binary.BigEndian.Uint16(records[0].Key[2:]))
	if kind != Abort && kind != Commit || len(records[0].Value) < 6 {
		return 0, 0, false
	}
	return kind, int32(binary.BigEndian.Uint32(records[0].Value[2:])), true
}

// NewMarker builds the control batch that ends a transaction: 78 bytes, as Kafka's EndTransactionMarker. kind is Abort or Commit, ms the time
// in milliseconds.
func NewMarker(producerID int64, epoch, kind int16, coordinatorEpoch int32, ms int64) (Batch, error) {
	w := NewBuilder(None)
	w.ProducerID, w.ProducerEpoch, w.Attributes = producerID, epoch, TransactionalFlag|ControlFlag
	key := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(kind))
	value := binary.BigEndian.AppendUint32([]byte{0, 0}, uint32(coordinatorEpoch))
	w.Add(&Record{Timestamp: ms, Key: key, Value: value})
	return w.Build()
}
