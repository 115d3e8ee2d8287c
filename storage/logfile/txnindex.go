package logfile

import (
	"encoding/binary"
	"fmt"
)

// AbortedTxn is one aborted transaction in a log (KIP-98), as an entry of a segment's .txnindex: int16
// version, then four int64.
type AbortedTxn struct {
	ProducerID int64
	First      int64 // its first record's offset
	Last       int64 // the abort marker's offset
	LastStable int64 // last stable offset when it was aborted
}

const (
	txnEntrySize    = 2 + 4*8
	txnEntryVersion = 0
)

// AppendTo appends the entry to b.
func (t AbortedTxn) AppendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, txnEntryVersion)
	for _, v := range []int64{t.ProducerID, t.First, t.Last, t.LastStable} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return b
}

// DecodeTxnIndex reads a whole .txnindex.
func DecodeTxnIndex(data []byte) ([]AbortedTxn, error) {
	if len(data)%txnEntrySize != 0 {
		return nil, fmt.Errorf("%w: transaction index of %d bytes", ErrBadIndex, len(data))
	}
	var out []AbortedTxn
	for ; len(data) > 0; data = data[txnEntrySize:] {
		if v := binary.BigEndian.Uint16(data); v != txnEntryVersion {
			return nil, fmt.Errorf("transaction index entry of version %d, known is %d", v, txnEntryVersion)
		}
		i64 := func(at int) int64 { return int64(binary.BigEndian.Uint64(data[2+8*at:])) }
		t := AbortedTxn{i64(0), i64(1), i64(2), i64(3)}
		if n := len(out); t.First > t.Last || n > 0 && t.Last <= out[n-1].Last {
			return nil, fmt.Errorf("%w: transaction %d does not rise", ErrBadIndex, n)
		}
		out = append(out, t)
	}
	return out, nil
}
