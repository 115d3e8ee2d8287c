package record

import "fmt"

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
