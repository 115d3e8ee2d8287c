package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
)

// Header is one header of a record. A nil Value is null.
type Header struct {
	Key   string
	Value []byte
}

// Record is one decoded record. Key and Value are nil when null, and point into the batch's bytes.
type Record struct {
	Offset    int64
	Timestamp int64 // milliseconds since the epoch
	Key       []byte
	Value     []byte
	Headers   []Header
}

// MaxRecordsBytes bounds what Records decompresses when the caller has no limit of its own.
const MaxRecordsBytes = 512 << 20

// Records decodes every record of b, decompressing at most limit bytes. Errors wrap ErrCorrupt, or
// are ErrTooLarge.
func (b Batch) Records(limit int) ([]Record, error) {
	data := b.Payload()
	if c := b.Codec(); c != None {
		var err error
		if data, err = Decompress(nil, c, data, limit); err != nil {
			return nil, err
		}
	}
	n := int(b.Count())
	if n < 0 || n > len(data) {
		return nil, corrupt("%d records in %d bytes", n, len(data))
	}
	out := make([]Record, 0, n)
	for i := 0; i < n; i++ {
		var r Record
		var err error
		var tsDelta int64
		var offDelta int32
		if tsDelta, offDelta, data, err = decodeRecord(data, &r); err != nil {
			return nil, err
		}
		r.Offset = b.BaseOffset() + int64(offDelta)
		r.Timestamp = b.BaseTimestamp() + tsDelta
		if b.HasLogAppendTime() {
			r.Timestamp = b.MaxTimestamp()
		}
		out = append(out, r)
	}
	if len(data) != 0 {
		return nil, corrupt("%d bytes after the last record", len(data))
	}
	return out, nil
}

func decodeRecord(src []byte, r *Record) (tsDelta int64, offDelta int32, rest []byte, err error) {
	size, n := binary.Varint(src)
	if n <= 0 || size < 1 || size > int64(len(src)-n) {
		return 0, 0, nil, corrupt("record of %d bytes in %d", size, len(src))
	}
	body, rest := src[n:n+int(size)], src[n+int(size):]
	d := decoder{b: body[1:]} // the first byte, attributes, is unused
	tsDelta = d.varint()
	offDelta = int32(d.varint())
	r.Key = d.bytes()
	r.Value = d.bytes()
	count := d.varint()
	if count < 0 || count > int64(len(d.b)) {
		return 0, 0, nil, corrupt("%d headers in %d bytes", count, len(d.b))
	}
	if count > 0 {
		r.Headers = make([]Header, count)
		for i := range r.Headers {
			r.Headers[i] = Header{Key: string(d.bytes()), Value: d.bytes()}
		}
	}
	if d.bad || len(d.b) != 0 {
		return 0, 0, nil, corrupt("record of %d bytes does not fit its fields", size)
	}
	return tsDelta, offDelta, rest, nil
}

type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.varint()
	if n < 0 {
		return nil
	}
	if n > int64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

// Shape is what Inspect finds in a batch.
type Shape struct {
	Keyless            []int32 // records without a key, by their places in the batch (KIP-467's batch indexes)
	MinDelta, MaxDelta int64   // of the records' timestamps to the batch's base
}

// inspectBuffers are what Inspect decompresses into.
var inspectBuffers = sync.Pool{New: func() any { return new([]byte) }}

// maxInspectBuffer is up to which size in bytes batches are decompressed at the same time, in buffers that are used again.
const maxInspectBuffer = 4 << 20

// Inspect reads all records of a batch, decompressing at most limit bytes, and checks what a reader relies on: their count, lengths, fields,
// and that their offsets are one after the other. needKey also lists records without a key. Errors wrap ErrCorrupt where the batch is not
// what its codec says, ErrMalformed where its records are not what they should be, or are ErrTooLarge. Any goroutine may call it.
func (b Batch) Inspect(limit int, needKey bool) (Shape, error) {
	if b.Codec() == None {
		return inspect(b.Payload(), b.Count(), needKey)
	}
	buf := inspectBuffers.Get().(*[]byte)
	defer inspectBuffers.Put(buf)
	data, err := Decompress((*buf)[:0], b.Codec(), b.Payload(), min(limit, maxInspectBuffer))
	if errors.Is(err, ErrTooLarge) && limit > maxInspectBuffer {
		inspectingLarge.Lock()
		defer inspectingLarge.Unlock()
		data, err = Decompress(nil, b.Codec(), b.Payload(), limit)
	} else if cap(data) <= 2*maxInspectBuffer {
		*buf = data
	}
	if err != nil {
		return Shape{}, err
	}
	return inspect(data, b.Count(), needKey)
}

// inspectingLarge is held while a batch is inspected that is larger than maxInspectBuffer when it is decompressed: one at a time, since a
// small request can hold much.
var inspectingLarge sync.Mutex

// ErrMalformed says that the records of a batch are not what they should be.
var ErrMalformed = errors.New("malformed records")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

func inspect(data []byte, count int32, needKey bool) (s Shape, err error) {
	s.MinDelta, s.MaxDelta = math.MaxInt64, math.MinInt64
	for i := int32(0); i < count; i++ {
		size, n := uvarint(data)
		length := int64(size>>1) ^ -int64(size&1)
		if n <= 0 || n > maxVarint || length < 6 || length > int64(len(data)-n) {
			return s, malformed("record %d has %d bytes of %d", i, length, len(data))
		}
		body := data[n : n+int(length)]
		data = data[n+int(length):]
		zigzag, t := uvarint(body[1:]) // the first byte, attributes, is unused
		if t <= 0 {
			return s, malformed("record %d ends in its timestamp", i)
		}
		delta := int64(zigzag>>1) ^ -int64(zigzag&1)
		s.MinDelta, s.MaxDelta = min(s.MinDelta, delta), max(s.MaxDelta, delta)
		offset, o := uvarint(body[1+t:])
		if o <= 0 || o > maxVarint || int64(offset>>1)^-int64(offset&1) != int64(i) {
			return s, malformed("record %d has another offset delta", i)
		}
		rest, null, ok := skipField(body[1+t+o:])
		if null && needKey {
			s.Keyless = append(s.Keyless, i)
		}
		if ok {
			rest, _, ok = skipField(rest)
		}
		if !ok || !headersEnd(rest) {
			return s, malformed("record %d of %d bytes does not fit its fields", i, length)
		}
	}
	if len(data) != 0 {
		return s, malformed("%d bytes after the last of %d records", len(data), count)
	}
	return s, nil
}

// maxVarint is how many bytes Java reads of a number of 32 bits.
const maxVarint = 5

// skipField passes over a key or a value.
func skipField(b []byte) (rest []byte, null, ok bool) {
	size, n := uvarint(b)
	length := int64(size>>1) ^ -int64(size&1)
	switch {
	case n <= 0 || n > maxVarint || length < -1 || length > int64(len(b)-n):
		return nil, false, false
	case length == -1:
		return b[n:], true, true
	}
	return b[n+int(length):], false, true
}

// headersEnd reports whether headers fill the rest of a record.
func headersEnd(b []byte) bool {
	size, n := uvarint(b)
	count := int64(size>>1) ^ -int64(size&1)
	if n <= 0 || n > maxVarint || count < 0 || count > int64(len(b)) {
		return false
	}
	b = b[n:]
	for range count {
		key, null, ok := skipField(b)
		if !ok || null {
			return false
		}
		if b, _, ok = skipField(key); !ok {
			return false
		}
	}
	return len(b) == 0
}

// uvarint is binary.Uvarint with the one- and two-byte cases inlined, which nearly all are.
func uvarint(b []byte) (uint64, int) {
	if len(b) > 1 {
		if b[0] < 0x80 {
			return uint64(b[0]), 1
		}
		if b[1] < 0x80 {
			return uint64(b[0]&0x7f) | uint64(b[1])<<7, 2
		}
	}
	return binary.Uvarint(b)
}

// Builder makes one batch of magic 2 record by record. The zero value with ProducerID and BaseSequence
// set to -1, as NewBuilder gives, is a plain batch. It is for one goroutine.
type Builder struct {
	Codec         Codec
	Level         int // as for Compress
	ProducerID    int64
	ProducerEpoch int16
	BaseSequence  int32
	Attributes    int16 // flags besides the codec
	BaseOffset    int64

	records   []byte
	scratch   []byte
	count     int32
	lastDelta int32
	baseTime  int64
	baseFixed bool // baseTime is not the first record's
	maxTime   int64
}

// NewBuilder returns a builder of a batch without producer.
func NewBuilder(codec Codec) *Builder {
	return &Builder{Codec: codec, Level: DefaultLevel, ProducerID: NoProducerID, ProducerEpoch: -1, BaseSequence: NoSequence}
}

// Len is the number of bytes of records so far, before compression.
func (w *Builder) Len() int { return len(w.records) }

// Count is the number of records so far.
func (w *Builder) Count() int { return int(w.count) }

// Add appends a record whose offset is one past the last one's. r.Offset is ignored.
func (w *Builder) Add(r *Record) {
	delta := int32(0)
	if w.count > 0 {
		delta = w.lastDelta + 1
	}
	w.AddAt(r, delta)
}

// AddAt appends a record at the given distance from the batch's base offset; deltas must rise.
func (w *Builder) AddAt(r *Record, offsetDelta int32) {
	if w.count == 0 {
		w.maxTime = r.Timestamp
		if !w.baseFixed {
			w.baseTime = r.Timestamp
		}
	}
	w.maxTime = max(w.maxTime, r.Timestamp)
	s := append(w.scratch[:0], 0)
	s = binary.AppendVarint(s, r.Timestamp-w.baseTime)
	s = binary.AppendVarint(s, int64(offsetDelta))
	s = appendVarBytes(s, r.Key, r.Key == nil)
	s = appendVarBytes(s, r.Value, r.Value == nil)
	s = binary.AppendVarint(s, int64(len(r.Headers)))
	for _, h := range r.Headers {
		s = appendVarBytes(s, []byte(h.Key), false)
		s = appendVarBytes(s, h.Value, h.Value == nil)
	}
	w.records = binary.AppendVarint(w.records, int64(len(s)))
	w.records = append(w.records, s...)
	w.scratch = s
	w.count++
	w.lastDelta = offsetDelta
}

// fixBaseTime makes the batch's base timestamp another than its first record's.
func (w *Builder) fixBaseTime(ms int64) { w.baseTime, w.baseFixed = ms, true }

func appendVarBytes(dst, b []byte, null bool) []byte {
	if null {
		return binary.AppendVarint(dst, -1)
	}
	dst = binary.AppendVarint(dst, int64(len(b)))
	return append(dst, b...)
}

// Build returns the finished batch. The builder must not be used afterwards.
func (w *Builder) Build() (Batch, error) {
	b := make([]byte, HeaderSize, HeaderSize+len(w.records))
	b, err := Compress(b, w.Codec, w.Level, w.records)
	if err != nil {
		return nil, err
	}
	batch := Batch(b)
	batch.SetBaseOffset(w.BaseOffset)
	batch.putI32(lengthAt, int32(len(b)-MinFrame))
	batch.SetLeaderEpoch(-1)
	batch[magicAt] = 2
	batch.setAttributes(w.Attributes | int16(w.Codec))
	batch.setLastOffsetDelta(w.lastDelta)
	batch.putI64(baseTimeAt, w.baseTime)
	batch.putI64(maxTimeAt, w.maxTime)
	batch.putI64(producerIDAt, w.ProducerID)
	batch.putI16(producerEpAt, w.ProducerEpoch)
	batch.putI32(baseSequenceAt, w.BaseSequence)
	batch.putI32(countAt, w.count)
	batch.seal()
	return batch, nil
}
