package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"sort"

	"kraft/wire/record"
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

func (t AbortedTxn) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, txnEntryVersion)
	for _, v := range []int64{t.ProducerID, t.First, t.Last, t.LastStable} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return b
}

func decodeTxnIndex(data []byte) ([]AbortedTxn, error) {
	if len(data)%txnEntrySize != 0 {
		return nil, fmt.Errorf("%w: transaction index of %d bytes", errBadIndex, len(data))
	}
	var out []AbortedTxn
	for ; len(data) > 0; data = data[txnEntrySize:] {
		if v := binary.BigEndian.Uint16(data); v != txnEntryVersion {
			return nil, fmt.Errorf("transaction index entry of version %d, known is %d", v, txnEntryVersion)
		}
		i64 := func(at int) int64 { return int64(binary.BigEndian.Uint64(data[2+8*at:])) }
		t := AbortedTxn{i64(0), i64(1), i64(2), i64(3)}
		if n := len(out); t.First > t.Last || n > 0 && t.Last <= out[n-1].Last {
			return nil, fmt.Errorf("%w: transaction %d does not rise", errBadIndex, n)
		}
		out = append(out, t)
	}
	return out, nil
}

// aborted returns the segment's aborted transactions in the order of their markers, reading the index
// file if need be. Most segments have none, and no file.
func (s *segment) aborted() ([]AbortedTxn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.txns != nil {
		return *s.txns, nil
	}
	data, err := s.fs.ReadFile(s.path + txnIndexSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		s.txns = new([]AbortedTxn)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := decodeTxnIndex(data)
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", s.path, txnIndexSuffix, err)
	}
	s.txns = &list
	return list, nil
}

// noteAborted adds a transaction to the index, on disk at once: aborts are rare.
func (s *segment) noteAborted(t AbortedTxn) error {
	list, err := s.aborted()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	grown := append(list[:len(list):len(list)], t) // readers keep what they have
	var data []byte
	for _, e := range grown {
		data = e.appendTo(data)
	}
	if err := writeSynced(s.fs, s.path+txnIndexSuffix, data); err != nil {
		return err
	}
	s.txns = &grown
	return nil
}

// dropAborted forgets the index before it is rebuilt.
func (s *segment) dropAborted() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.txns = new([]AbortedTxn)
	if err := s.fs.Remove(s.path + txnIndexSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// AbortedTransactions lists the aborted transactions with records from offset from to upTo, exclusive, by
// first offset: what a read_committed consumer needs to pass over them. Any goroutine may call it.
func (l *Log) AbortedTransactions(from, upTo int64) ([]AbortedTxn, error) {
	segments := *l.segments.Load()
	i := sort.Search(len(segments), func(i int) bool { return segments[i].base > from }) - 1
	var out []AbortedTxn
scan:
	for _, s := range segments[max(i, 0):] {
		list, err := s.aborted()
		if err != nil {
			return nil, err
		}
		for _, t := range list {
			if t.Last >= from && t.First < upTo {
				out = append(out, t)
			}
			if t.LastStable >= upTo {
				break scan // later markers end transactions that began beyond upTo
			}
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].First < out[j].First })
	return out, nil
}

// LastStableOffset is the offset below which no transaction is open (KIP-98): what read_committed
// consumers may see. Any goroutine may call it.
func (l *Log) LastStableOffset() int64 {
	high := l.high.Load()
	if first := l.unstable.Load(); first >= 0 && first < high {
		return max(first, l.start.Load())
	}
	return high
}

// noteControl brings transactions up to date after a batch was applied. mu is held.
func (l *Log) noteTransaction(b record.Batch, s *segment) error {
	if !b.IsTransactional() && !b.IsControl() {
		return nil
	}
	if t := l.producers.ended; t != nil {
		l.producers.ended = nil
		if t.aborted {
			if err := s.noteAborted(AbortedTxn{t.producerID, t.first, t.last, l.producers.stableAfter(t)}); err != nil {
				return err
			}
		}
		l.producers.unreplicated = append(l.producers.unreplicated, *t)
	}
	l.updateUnstable()
	return nil
}

// updateUnstable publishes the first offset of the earliest transaction that is open, or ended above the
// high watermark. mu is held.
func (l *Log) updateUnstable() {
	p := l.producers
	high := l.high.Load()
	for len(p.unreplicated) > 0 && p.unreplicated[0].last < high {
		p.unreplicated = p.unreplicated[1:]
	}
	first := int64(-1)
	for _, t := range p.unreplicated {
		if first < 0 || t.first < first {
			first = t.first
		}
	}
	if o := p.firstOpen(); o >= 0 && (first < 0 || o < first) {
		first = o
	}
	l.unstable.Store(first)
}
