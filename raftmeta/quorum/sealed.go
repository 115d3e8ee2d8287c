package quorum

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"kraft/wire/locks"
)

// ErrDamaged says that the metadata file is not what was written to it.
var ErrDamaged = errors.New("the metadata file is damaged: restore this node's newest backup; or, while a majority of the other voters runs, " +
	"take this node out of the quorum (kraft quorum remove N), empty its data directory and start it with --join")

// formatKey, in the state bucket, is there once all values carry a checksum.
var formatKey = []byte("format")

const sealSize = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal is a value as it is in the file: a CRC-32C of key and value, then the value. A bit that flips in a metadata record must not
// make this node believe something else than the others.
func seal(key, value []byte) []byte {
	out := make([]byte, sealSize, sealSize+len(value))
	binary.BigEndian.PutUint32(out, checksum(key, value))
	return append(out, value...)
}

func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// unseal returns the value that seal wrote for a key. The error wraps ErrDamaged.
func unseal(key, sealed []byte) ([]byte, error) {
	if len(sealed) < sealSize || binary.BigEndian.Uint32(sealed) != checksum(key, sealed[sealSize:]) {
		return nil, fmt.Errorf("the checksum of %q is wrong: %w", key, ErrDamaged)
	}
	return sealed[sealSize:], nil
}

// put stores a message.
func put(b *bbolt.Bucket, key []byte, m proto.Message) error {
	v, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return b.Put(key, seal(key, v))
}

// get reads what put stored into m, and reports whether there is anything.
func get(b *bbolt.Bucket, key []byte, m proto.Message) (bool, error) {
	v, err := getBytes(b, key)
	if v == nil || err != nil {
		return false, err
	}
	return true, proto.Unmarshal(v, m)
}

// getBytes reads a sealed value, nil if there is none.
func getBytes(b *bbolt.Bucket, key []byte) ([]byte, error) {
	sealed := b.Get(key)
	if sealed == nil {
		return nil, nil
	}
	return unseal(key, sealed)
}

// sealAll gives every value its checksum in a file from before there were any.
func sealAll(db *bbolt.DB) error {
	return db.Update(func(tx *bbolt.Tx) error {
		state := tx.Bucket(stateBucket)
		if state == nil || state.Get(formatKey) != nil {
			return nil
		}
		for _, name := range [][]byte{stateBucket, logBucket, standingsBucket} {
			b := tx.Bucket(name)
			if b == nil {
				continue
			}
			var pairs [][2][]byte
			if err := b.ForEach(func(k, v []byte) error {
				pairs = append(pairs, [2][]byte{bytes.Clone(k), seal(k, v)})
				return nil
			}); err != nil {
				return err
			}
			for _, p := range pairs {
				if err := b.Put(p[0], p[1]); err != nil {
					return err
				}
			}
		}
		return state.Put(formatKey, seal(formatKey, []byte{1}))
	})
}

// guarded runs f, which uses the file. Where the file's pages are damaged bbolt panics, and where they are missing the memory map
// faults: both become an error that wraps ErrDamaged.
func guarded(f func() error) (err error) {
	before := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(before)
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if fault, ok := p.(runtime.Error); ok {
			if at, ok := fault.(interface{ Addr() uintptr }); !ok || at.Addr() < firstMapped {
				panic(p) // a mistake of the program's
			}
			p = "a page cannot be read"
		}
		err = fmt.Errorf("%v: %w", p, ErrDamaged)
	}()
	return f()
}

// file is the metadata file. After damage bbolt's locks stay held: nothing more is done with the file then, and it stays open until the
// process ends.
type file struct {
	*bbolt.DB
	using   locks.Mutex // held by who uses it: nobody is to wait for bbolt's locks
	damaged atomic.Bool
}

// guarded is guarded for what uses an open file.
func (f *file) guarded(use func() error) error {
	f.using.Lock()
	defer f.using.Unlock()
	if f.damaged.Load() {
		return ErrDamaged
	}
	err := guarded(use)
	if errors.Is(err, ErrDamaged) {
		f.damaged.Store(true)
	}
	return err
}

// firstMapped is above every address that a nil pointer leads to.
const firstMapped = 1 << 20

// inspect reads a whole file before it is used: every page, key and checksum. bbolt would find damage on goroutines of its own, where
// a panic cannot be recovered from. A file that is missing, or as bbolt leaves it when a process ends while it makes one, is in order.
func inspect(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return view(path, func(tx *bbolt.Tx) error {
		sealed := false
		if state := tx.Bucket(stateBucket); state != nil {
			sealed = state.Get(formatKey) != nil
		}
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return inspectBucket(b, sealed) })
	})
}

// view opens a file to read, calls f with its content, and closes it. Errors wrap ErrInUse, ErrDamaged, or are f's.
func view(path string, f func(*bbolt.Tx) error) error {
	return guarded(func() error {
		db, err := bbolt.Open(path, 0o644, &bbolt.Options{Timeout: lockPatience, ReadOnly: true})
		if errors.Is(err, bolterrors.ErrTimeout) {
			return ErrInUse
		}
		if err != nil {
			return fmt.Errorf("%v: %w", err, ErrDamaged)
		}
		defer db.Close()
		return db.View(f)
	})
}

// inspectBucket checks that keys ascend, that each can be found, and, where values are sealed, that their checksums are right.
func inspectBucket(b *bbolt.Bucket, sealed bool) error {
	var last []byte
	return b.ForEach(func(k, v []byte) error {
		if last != nil && bytes.Compare(last, k) >= 0 || !bytes.Equal(b.Get(k), v) {
			return fmt.Errorf("the key %q is out of order: %w", k, ErrDamaged)
		}
		last = k
		if !sealed {
			return nil
		}
		_, err := unseal(k, v)
		return err
	})
}

// lockPatience is how long a start waits for another process that has the file open.
const lockPatience = 200 * time.Millisecond

// Known reads from a metadata file, which no process has open, which members were to vote first in the quorum that the file knows, and
// whether that quorum has begun. Both are empty for a file that is missing or knows none. Errors wrap ErrDamaged or ErrInUse.
func Known(path string) (first []uint64, begun bool, err error) {
	if info, err := os.Stat(path); errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil, false, nil
	}
	if err := view(path, func(tx *bbolt.Tx) error {
		state, log := tx.Bucket(stateBucket), tx.Bucket(logBucket)
		if state == nil || log == nil {
			return nil
		}
		key, _ := log.Cursor().First()
		begun = key != nil || state.Get(snapshotKey) != nil
		if state.Get(formatKey) == nil {
			return nil // of a version that sealed no values, and began alone or by --peers
		}
		conf := new(pb.ConfState)
		_, err := get(state, firstKey, conf)
		first = conf.GetVoters()
		return err
	}); err != nil {
		return nil, false, fmt.Errorf("open metadata %s: %w", path, err)
	}
	return first, begun, nil
}
