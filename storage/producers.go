package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"slices"
	"sort"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/wire/record"
)

// rememberedBatches is how many batches of a producer are known for telling duplicates (KIP-98).
const rememberedBatches = 5

// producedBatch is what is remembered of a batch.
type producedBatch struct {
	firstSeq, lastSeq int32
	lastOffset        int64
	offsetDelta       int32
	timestamp         int64
}

func (b producedBatch) firstOffset() int64 { return b.lastOffset - int64(b.offsetDelta) }

// producerEntry is one producer's state in one partition (Kafka's ProducerStateEntry).
type producerEntry struct {
	epoch            int16
	coordinatorEpoch int32
	timestamp        int64           // of the newest batch, in milliseconds
	txnFirst         int64           // first offset of the open transaction, -1 if none
	batches          []producedBatch // newest last, at most rememberedBatches
}

// producerStates are all producers of one partition. Guarded by the log's mutex.
type producerStates struct {
	byID map[int64]*producerEntry

	ended        *endedTxn  // by the batch applied last
	unreplicated []endedTxn // whose markers lie above the high watermark
}

// endedTxn is a transaction whose marker has been appended.
type endedTxn struct {
	producerID  int64
	first, last int64 // the first record's offset, and the marker's
	aborted     bool
}

// clone returns a copy that shares nothing with p.
func (p *producerStates) clone() *producerStates {
	c := &producerStates{byID: make(map[int64]*producerEntry, len(p.byID)), unreplicated: slices.Clone(p.unreplicated)}
	for id, e := range p.byID {
		own := *e
		own.batches = slices.Clone(e.batches)
		c.byID[id] = &own
	}
	if p.ended != nil {
		ended := *p.ended
		c.ended = &ended
	}
	return c
}

// firstOpen is the first offset of the earliest open transaction, -1 if none is open.
func (p *producerStates) firstOpen() int64 {
	first := int64(-1)
	for _, e := range p.byID {
		if e.txnFirst >= 0 && (first < 0 || e.txnFirst < first) {
			first = e.txnFirst
		}
	}
	return first
}

// stableAfter is the last stable offset once t has ended, if all were replicated.
func (p *producerStates) stableAfter(t *endedTxn) int64 {
	if first := p.firstOpen(); first >= 0 {
		return first
	}
	return t.last + 1
}

func newProducerStates() *producerStates { return &producerStates{} }

// check judges a batch from a client before it is appended, as Kafka's ProducerAppendInfo does. It
// returns the batch that it repeats, if it does.
func (p *producerStates) check(b record.Batch) (duplicate *producedBatch, err error) {
	id := b.ProducerID()
	if id < 0 {
		return nil, nil
	}
	e := p.byID[id]
	if e == nil {
		return nil, nil // an unknown or expired producer may start anywhere
	}
	epoch, seq, last := b.ProducerEpoch(), b.BaseSequence(), b.LastSequence()
	if epoch < e.epoch {
		return nil, fmt.Errorf("producer %d epoch %d, partition has seen %d: %w", id, epoch, e.epoch, kerr.InvalidProducerEpoch)
	}
	if epoch > e.epoch {
		if seq != 0 {
			return nil, fmt.Errorf("producer %d starts epoch %d with sequence %d: %w", id, epoch, seq, kerr.OutOfOrderSequenceNumber)
		}
		return nil, nil
	}
	for i := range e.batches {
		if e.batches[i].firstSeq == seq && e.batches[i].lastSeq == last {
			return &e.batches[i], nil
		}
	}
	if len(e.batches) == 0 {
		return nil, nil
	}
	newest := e.batches[len(e.batches)-1].lastSeq
	if want := record.AddSequence(newest, 1); seq != want {
		return nil, fmt.Errorf("producer %d sends sequence %d, expected %d: %w", id, seq, want, kerr.OutOfOrderSequenceNumber)
	}
	return nil, nil
}

// apply notes an appended batch.
func (p *producerStates) apply(b record.Batch) {
	id := b.ProducerID()
	if id < 0 {
		return
	}
	e := p.byID[id]
	if e == nil {
		if p.byID == nil {
			p.byID = map[int64]*producerEntry{}
		}
		e = &producerEntry{coordinatorEpoch: -1, txnFirst: -1}
		p.byID[id] = e
	}
	if b.ProducerEpoch() != e.epoch {
		e.epoch = b.ProducerEpoch()
		e.batches = nil
	}
	e.timestamp = b.MaxTimestamp()
	if b.IsControl() {
		p.applyMarker(id, e, b)
		return
	}
	if b.IsTransactional() && e.txnFirst < 0 {
		e.txnFirst = b.BaseOffset()
	}
	if len(e.batches) == rememberedBatches {
		e.batches = append(e.batches[:0], e.batches[1:]...)
	}
	e.batches = append(e.batches, producedBy(b))
}

func producedBy(b record.Batch) producedBatch {
	return producedBatch{b.BaseSequence(), b.LastSequence(), b.LastOffset(), b.LastOffsetDelta(), b.MaxTimestamp()}
}

// activeSince says that a producer wrote at the given time or later, in milliseconds.
func (p *producerStates) activeSince(ms int64) bool {
	for _, e := range p.byID {
		if e.timestamp >= ms {
			return true
		}
	}
	return false
}

// applyMarker ends a producer's open transaction. A marker without one moves nothing.
func (p *producerStates) applyMarker(id int64, e *producerEntry, b record.Batch) {
	marker, coordinatorEpoch, ok := b.Marker()
	if !ok {
		return
	}
	e.coordinatorEpoch = coordinatorEpoch
	if e.txnFirst >= 0 {
		p.ended = &endedTxn{producerID: id, first: e.txnFirst, last: b.LastOffset(), aborted: marker == record.Abort}
		e.txnFirst = -1
	}
}

// expire forgets producers that wrote nothing since the given time and have no transaction open.
func (p *producerStates) expire(before int64) {
	for id, e := range p.byID {
		if e.timestamp < before && e.txnFirst < 0 {
			delete(p.byID, id)
		}
	}
}

// The snapshot file: int16 version 1, uint32 CRC-32C over what follows, int32 count, and per producer
// a row of fixed length.
const (
	snapshotVersion = 1
	snapshotEntry   = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8
	snapshotHead    = 10
)

func (p *producerStates) encode() []byte {
	ids := make([]int64, 0, len(p.byID))
	for id := range p.byID {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	be := binary.BigEndian
	b := make([]byte, snapshotHead, snapshotHead+len(ids)*snapshotEntry)
	be.PutUint16(b, snapshotVersion)
	be.PutUint32(b[6:], uint32(len(ids)))
	for _, id := range ids {
		e := p.byID[id]
		last := producedBatch{firstSeq: -1, lastSeq: -1, lastOffset: -1}
		if n := len(e.batches); n > 0 {
			last = e.batches[n-1]
		}
		b = be.AppendUint64(b, uint64(id))
		b = be.AppendUint16(b, uint16(e.epoch))
		b = be.AppendUint32(b, uint32(last.lastSeq))
		b = be.AppendUint64(b, uint64(last.lastOffset))
		b = be.AppendUint32(b, uint32(last.offsetDelta))
		b = be.AppendUint64(b, uint64(e.timestamp))
		b = be.AppendUint32(b, uint32(e.coordinatorEpoch))
		b = be.AppendUint64(b, uint64(e.txnFirst))
	}
	be.PutUint32(b[2:], crc32.Checksum(b[6:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func decodeProducers(b []byte) (*producerStates, error) {
	be := binary.BigEndian
	if len(b) < snapshotHead || be.Uint16(b) != snapshotVersion {
		return nil, fmt.Errorf("not a producer snapshot of version %d", snapshotVersion)
	}
	if crc32.Checksum(b[6:], crc32.MakeTable(crc32.Castagnoli)) != be.Uint32(b[2:]) {
		return nil, fmt.Errorf("producer snapshot fails its checksum")
	}
	n := int(be.Uint32(b[6:]))
	if b = b[snapshotHead:]; len(b) != n*snapshotEntry {
		return nil, fmt.Errorf("producer snapshot of %d producers has %d bytes", n, len(b))
	}
	p := &producerStates{byID: make(map[int64]*producerEntry, n)}
	for ; len(b) > 0; b = b[snapshotEntry:] {
		e := &producerEntry{
			epoch: int16(be.Uint16(b[8:])), timestamp: int64(be.Uint64(b[26:])),
			coordinatorEpoch: int32(be.Uint32(b[34:])), txnFirst: int64(be.Uint64(b[38:])),
		}
		last := producedBatch{
			lastSeq: int32(be.Uint32(b[10:])), lastOffset: int64(be.Uint64(b[14:])),
			offsetDelta: int32(be.Uint32(b[22:])), timestamp: e.timestamp,
		}
		if last.lastOffset >= 0 {
			last.firstSeq = subSequence(last.lastSeq, last.offsetDelta)
			e.batches = []producedBatch{last}
		}
		p.byID[int64(be.Uint64(b))] = e
	}
	return p, nil
}

// subSequence is the inverse of record.AddSequence.
func subSequence(seq, delta int32) int32 {
	if seq < delta {
		return 1<<31 - 1 - (delta - seq) + 1
	}
	return seq - delta
}

// snapshotPath is the file of the state valid up to offset, exclusive.
func snapshotPath(dir string, offset int64) string { return segmentPath(dir, offset) + snapshotSuffix }

func writeProducers(fsys FS, dir string, offset int64, p *producerStates) error {
	return writeWhole(fsys, snapshotPath(dir, offset), p.encode())
}

// loadProducers returns the newest usable snapshot at or below newest and the offset it is valid to;
// without one, an empty state from offset from on. Damaged snapshots, and those beyond the log's end, are
// removed.
func loadProducers(fsys FS, dir string, entries []fs.DirEntry, from, newest, end int64) (*producerStates, int64, error) {
	var offsets []int64
	for _, e := range entries {
		if o, ok := parseSegmentName(e.Name(), snapshotSuffix); ok {
			offsets = append(offsets, o)
		}
	}
	sort.Slice(offsets, func(i, j int) bool { return offsets[i] > offsets[j] })
	for _, o := range offsets {
		if o > newest && o <= end {
			continue
		}
		if o > end {
			if err := fsys.Remove(snapshotPath(dir, o)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, 0, err
			}
			continue
		}
		data, err := fsys.ReadFile(snapshotPath(dir, o))
		if err != nil {
			return nil, 0, err
		}
		if p, err := decodeProducers(data); err == nil {
			return p, o, nil
		}
		if err := fsys.Remove(snapshotPath(dir, o)); err != nil {
			return nil, 0, err
		}
	}
	return newProducerStates(), from, nil
}
