package logfile

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Producer is an idempotent or transactional producer that has written to a partition, as a row of a .snapshot.
type Producer struct {
	ID                          int64
	Epoch                       int16
	CoordinatorEpoch            int32 // of the newest end of a transaction, -1 if there was none
	TxnFirst                    int64 // first offset of its open transaction, -1 for none
	Timestamp                   int64 // of its newest batch, in milliseconds since the epoch
	FirstSequence, LastSequence int32 // of its newest batch, -1 if none is known
	LastOffset                  int64 // likewise
	OffsetDelta                 int32
}

// The snapshot file: int16 version 1, uint32 CRC-32C over what follows, int32 count, and per producer
// a row of fixed length.
const (
	snapshotVersion = 1
	snapshotEntry   = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8
	snapshotHead    = 10
)

// EncodeSnapshot is a .snapshot of producers.
func EncodeSnapshot(producers []Producer) []byte {
	be := binary.BigEndian
	b := make([]byte, snapshotHead, snapshotHead+len(producers)*snapshotEntry)
	be.PutUint16(b, snapshotVersion)
	be.PutUint32(b[6:], uint32(len(producers)))
	for _, p := range producers {
		b = be.AppendUint64(b, uint64(p.ID))
		b = be.AppendUint16(b, uint16(p.Epoch))
		b = be.AppendUint32(b, uint32(p.LastSequence))
		b = be.AppendUint64(b, uint64(p.LastOffset))
		b = be.AppendUint32(b, uint32(p.OffsetDelta))
		b = be.AppendUint64(b, uint64(p.Timestamp))
		b = be.AppendUint32(b, uint32(p.CoordinatorEpoch))
		b = be.AppendUint64(b, uint64(p.TxnFirst))
	}
	be.PutUint32(b[2:], crc32.Checksum(b[6:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// DecodeSnapshot reads a whole .snapshot.
func DecodeSnapshot(b []byte) ([]Producer, error) {
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
	out := make([]Producer, 0, n)
	for ; len(b) > 0; b = b[snapshotEntry:] {
		p := Producer{
			ID: int64(be.Uint64(b)), Epoch: int16(be.Uint16(b[8:])), CoordinatorEpoch: int32(be.Uint32(b[34:])), TxnFirst: int64(be.Uint64(b[38:])),
			Timestamp: int64(be.Uint64(b[26:])), FirstSequence: -1, LastSequence: int32(be.Uint32(b[10:])), LastOffset: int64(be.Uint64(b[14:])), OffsetDelta: int32(be.Uint32(b[22:])),
		}
		if p.LastOffset >= 0 {
			p.FirstSequence = subSequence(p.LastSequence, p.OffsetDelta)
		}
		out = append(out, p)
	}
	return out, nil
}

// subSequence is the inverse of record.AddSequence.
func subSequence(seq, delta int32) int32 {
	if seq < delta {
		return 1<<31 - 1 - (delta - seq) + 1
	}
	return seq - delta
}
