package record

import (
	"encoding/binary"
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

// MaxLegacyBytes bounds what is decompressed for clients that know formats 0 and 1 alone: all of it is in memory, and several times that as records.
const MaxLegacyBytes = 32 << 20

// Records decodes every record of b, of at most limit bytes when they are decompressed. Errors wrap ErrCorrupt, or
// are ErrTooLarge.
func (b Batch) Records(limit int) ([]Record, error) {
	data := b.Payload()
	if c := b.Codec(); c == None && len(data) > limit {
		return nil, ErrTooLarge
	} else if c != None {
		var err error
		if data, err = decompressAll(c, data, limit); err != nil {
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
