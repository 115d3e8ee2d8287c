package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sort"

	"kraft/storage/logfile"
)

// aborted returns the segment's aborted transactions in the order of their markers, reading the index
// file if need be. Most segments have none, and no file.
func (s *segment) aborted() ([]logfile.AbortedTxn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.txns != nil {
		return *s.txns, nil
	}
	data, err := s.fs.ReadFile(s.path + logfile.TxnIndexSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		s.txns = new([]logfile.AbortedTxn)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := logfile.DecodeTxnIndex(data)
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", s.path, logfile.TxnIndexSuffix, err)
	}
	s.txns, s.txnsInFile = &list, len(list)
	return list, nil
}

// noteAborted appends a transaction to the index, without waiting for the disk: sync does that. Recovery makes the indexes of the segments anew
// that were not synced. Where the disk is full, the file gets the entry later: the marker is in the log already.
func (s *segment) noteAborted(t logfile.AbortedTxn) error {
	list, err := s.aborted()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list = append(list, t) // readers have the list as it was, and its length
	s.txns = &list
	s.unsyncedAborts.Store(true)
	if err := s.writeAborted(); err != nil && !IsDiskFull(err) {
		return err
	}
	return nil
}

// writeAborted writes what the file of the index lacks. mu is held.
func (s *segment) writeAborted() error {
	if s.txns == nil || s.txnsInFile >= len(*s.txns) {
		return nil
	}
	list := *s.txns
	var entries []byte
	for _, t := range list[s.txnsInFile:] {
		entries = t.AppendTo(entries)
	}
	size := len(entries) / (len(list) - s.txnsInFile)
	f, err := s.fs.OpenFile(s.path+logfile.TxnIndexSuffix, true)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(entries, int64(s.txnsInFile*size))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	s.txnsInFile = len(list)
	return nil
}

// writeAborts writes what the file of the index lacks since the disk was full. It comes before syncAborted.
func (s *segment) writeAborts() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeAborted()
}

// syncAborted puts the index on disk if it has grown since the last time.
func (s *segment) syncAborted() error {
	if !s.unsyncedAborts.Swap(false) {
		return nil
	}
	err := syncFile(s.fs, s.path+logfile.TxnIndexSuffix)
	if errors.Is(err, fs.ErrNotExist) { // a log that is cut meanwhile drops it
		return nil
	}
	if err == nil {
		err = s.fs.SyncDir(filepath.Dir(s.path)) // it may be new
	}
	if err != nil {
		s.unsyncedAborts.Store(true)
	}
	return err
}

// dropAborted forgets the index before it is rebuilt.
func (s *segment) dropAborted() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.txns, s.txnsInFile = new([]logfile.AbortedTxn), 0
	if err := s.fs.Remove(s.path + logfile.TxnIndexSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// AbortedTransactions lists the aborted transactions with records from offset from to upTo, exclusive, by
// first offset: what a read_committed consumer needs to pass over them. Any goroutine may call it.
func (l *Log) AbortedTransactions(from, upTo int64) ([]logfile.AbortedTxn, error) {
	segments := *l.segments.Load()
	i := sort.Search(len(segments), func(i int) bool { return segments[i].base > from }) - 1
	var out []logfile.AbortedTxn
scan:
	for _, s := range segments[max(i, 0):] {
		list, err := s.aborted()
		if err != nil {
			return nil, err
		}
		for _, t := range list[sort.Search(len(list), func(i int) bool { return list[i].Last >= from }):] {
			if t.First < upTo {
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
