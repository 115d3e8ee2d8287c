package quorum

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// written is a metadata file with some entries, and the index of the newest.
func written(t *testing.T) (data []byte, newest uint64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "metadata.db")
	s, err := openStore(path, []uint64{1}, false)
	if err != nil {
		t.Fatal(err)
	}
	term := uint64(1)
	for newest = 1; newest <= 200; newest++ {
		e := &pb.Entry{Term: &term, Index: &newest, Data: make([]byte, 300)}
		if err := s.save(raft.Ready{Entries: []*pb.Entry{e}, HardState: &pb.HardState{Term: &term, Commit: &newest}, MustSync: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if data, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(data, "\x00")) // bbolt makes the file larger ahead of time
	return data[:(used+4095)&^4095], newest - 1
}

// TestDamagedFile damages a metadata file in many ways: it is refused with a sentence, or what it had is there, but perhaps for its
// last transaction, which a torn page of bbolt's can take.
func TestDamagedFile(t *testing.T) {
	whole, newest := written(t)
	try := func(t *testing.T, data []byte) (refused bool) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "metadata.db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openStore(path, []uint64{1}, false)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%v", err)
			}
			return true
		}
		defer s.close()
		if last, err := s.LastIndex(); err != nil || last < newest-1 {
			t.Errorf("the log ends at %d, wanted %d: %v", last, newest, err)
		}
		return false
	}
	if try(t, whole) {
		t.Error("a file that is in order is refused")
	}
	rng := rand.New(rand.NewPCG(1, 2))
	garbage := make([]byte, len(whole))
	for i := range garbage {
		garbage[i] = byte(rng.Uint32())
	}
	for name, data := range map[string][]byte{"garbage": garbage, "short": whole[:100], "one page": whole[:4096], "two pages": whole[:8192], "half": whole[:len(whole)/2], "zeros": make([]byte, len(whole))} {
		if !try(t, data) {
			t.Errorf("%s: it is not refused", name)
		}
	}
	refused := 0
	for range 300 {
		data := append([]byte(nil), whole...)
		switch at := rng.IntN(len(data)); rng.IntN(3) {
		case 0:
			data[at] ^= 1 << rng.IntN(8)
		case 1: // a block that was written elsewhere
			copy(data[at&^511:], data[rng.IntN(len(data))&^511:][:512])
		case 2:
			clear(data[at&^511:][:512])
		}
		if try(t, data) {
			refused++
		}
	}
	t.Logf("%d of 300 are refused", refused)
	if refused == 0 {
		t.Error("no damage is noticed")
	}
}

// TestFilesWithoutChecksums: a file from before there were any gets them.
func TestFilesWithoutChecksums(t *testing.T) {
	whole, newest := written(t)
	path := filepath.Join(t.TempDir(), "metadata.db")
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error {
		if err := tx.Bucket(stateBucket).Delete(formatKey); err != nil {
			return err
		}
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			plain := map[string][]byte{}
			_ = b.ForEach(func(k, v []byte) error { plain[string(k)] = append([]byte(nil), v[sealSize:]...); return nil })
			for k, v := range plain {
				if err := b.Put([]byte(k), v); err != nil {
					return err
				}
			}
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s, err := openStore(path, []uint64{1}, false)
		if err != nil {
			t.Fatal(err)
		}
		if last, err := s.LastIndex(); err != nil || last != newest {
			t.Errorf("the log ends at %d, wanted %d: %v", last, newest, err)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
}
