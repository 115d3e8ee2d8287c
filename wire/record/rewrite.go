package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// NoHorizon asks Rewrite to leave a batch's delete horizon as it is.
const NoHorizon = -1

// Rewrite makes a batch of those records of b that a compaction keeps, in their order. It keeps base and
// last offset, producer, sequence, leader epoch and flags, so that offsets and producers' state stay what
// they were; without records only a header remains. A horizon of 0 or more is set as the time in
// milliseconds from which tombstones and markers in the batch may go (KIP-534).
func Rewrite(b Batch, kept []Record, level int, horizon int64) (Batch, error) {
	w := NewBuilder(b.Codec())
	if len(kept) == 0 {
		w.Codec = None
	}
	w.Level = level
	w.ProducerID, w.ProducerEpoch, w.BaseSequence = b.ProducerID(), b.ProducerEpoch(), b.BaseSequence()
	w.Attributes = b.Attributes() &^ codecMask
	w.BaseOffset = b.BaseOffset()
	base := int64(NoTimestamp)
	switch {
	case horizon >= 0:
		w.Attributes |= DeleteHorizonFlag
		base = horizon
	case b.HasDeleteHorizon():
		base = b.BaseTimestamp()
	}
	if base != NoTimestamp {
		w.fixBaseTime(base)
	}
	for i := range kept {
		delta := kept[i].Offset - b.BaseOffset()
		if delta < 0 || delta > int64(b.LastOffsetDelta()) {
			return nil, fmt.Errorf("record at offset %d does not belong to the batch from %d to %d", kept[i].Offset, b.BaseOffset(), b.LastOffset())
		}
		w.AddAt(&kept[i], int32(delta))
	}
	out, err := w.Build()
	if err != nil {
		return nil, err
	}
	if len(kept) == 0 || b.HasLogAppendTime() {
		out.putI64(maxTimeAt, b.MaxTimestamp())
	}
	if len(kept) == 0 && base == NoTimestamp {
		out.putI64(baseTimeAt, b.MaxTimestamp())
	}
	out.setLastOffsetDelta(b.LastOffsetDelta())
	out.SetLeaderEpoch(b.LeaderEpoch())
	out.seal()
	return out, nil
}

// ErrOutgrows says that a batch, compressed in another way, is larger than allowed.
var ErrOutgrows = errors.New("too large when compressed in another way")

// Recompress makes a batch of b's records, which Inspect has seen and which is no control batch, with another codec, of at most maxBytes; it stops with ErrOutgrows
// beyond that. It decompresses at most limit bytes and takes memory, waits, and returns errors, as Inspect does.
func Recompress(b Batch, codec Codec, level, limit, maxBytes int) (out Batch, err error) {
	err = Incoming.try(small, func(t tier) error { // compressors take as much
		return decompress(b.Codec(), b.Payload(), limit, t, func(r io.Reader) error {
			buf := &boundedBuffer{b: bytes.Clone(b[:HeaderSize]), max: maxBytes}
			if err := compress(buf, codec, level, r); err != nil {
				return err
			}
			out = Batch(buf.b)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	out.putI32(lengthAt, int32(len(out)-MinFrame))
	out.setAttributes(b.Attributes()&(LogAppendTimeFlag|TransactionalFlag) | int16(codec))
	out.seal()
	return out, nil
}

// boundedBuffer takes so many bytes, and no more.
type boundedBuffer struct {
	b   []byte
	max int
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if len(b.b)+len(p) > b.max {
		return 0, ErrOutgrows
	}
	b.b = append(b.b, p...)
	return len(p), nil
}
