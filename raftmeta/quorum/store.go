package quorum

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

var (
	logBucket    = []byte("log")   // index, 8 bytes big endian -> entry
	stateBucket  = []byte("state") // the keys below
	hardStateKey = []byte("hard-state")
	confStateKey = []byte("conf-state")
	snapshotKey  = []byte("snapshot")
	memberKey    = []byte("member")
	firstKey     = []byte("first-voters")
)

// store keeps raft's log, votes and snapshot in bbolt, with the entries since the last compaction in
// memory too, from where raft reads them.
type store struct {
	*raft.MemoryStorage
	db     *file
	conf   *pb.ConfState
	member string        // random, made with the file
	first  *pb.ConfState // who the voters were before the first entry
	born   time.Time     // of what saving counts from
	saving atomic.Int64  // when the save at hand began, in nanoseconds since born; 0 without one

	standings *standings
}

// ErrInUse says that another process has the metadata file open.
var ErrInUse = errors.New("metadata file is in use by another process")

// openStore opens a metadata file. voters begin the quorum of one that is new, or whose quorum never came about; of the latter sort none are
// kept where anew is set.
func openStore(path string, voters []uint64, anew bool) (s *store, err error) {
	if err := inspect(path); err != nil {
		return nil, fmt.Errorf("open metadata %s: %w", path, err)
	}
	failed := guarded(func() error {
		s, err = openInspected(path, voters, anew)
		return err
	})
	if failed != nil {
		return nil, failed
	}
	return s, nil
}

func openInspected(path string, voters []uint64, anew bool) (*store, error) {
	_ = os.Chmod(path, 0o600) // of versions without secrets in it
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockPatience, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true, InitialMmapSize: 16 << 20})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open metadata %s: %w", path, err)
	}
	s := &store{MemoryStorage: raft.NewMemoryStorage(), db: &file{DB: db}, born: time.Now()}
	err = sealAll(db)
	if err == nil {
		err = s.load(voters, anew)
	}
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("load metadata %s: %w", path, err)
	}
	if s.standings, err = openStandings(s.db, s.member); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("begin with metadata %s: %w", path, err)
	}
	if err := s.begins(); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("begin with metadata %s: %w", path, err)
	}
	return s, s.reached()
}

// begins tells the standings with which last entry this life begins.
func (s *store) begins() error {
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	term, err := s.Term(last)
	s.standings.mine.SaysBegun, s.standings.mine.BegunTerm, s.standings.mine.BegunIndex = true, term, last
	return err
}

func (s *store) load(voters []uint64, anew bool) error {
	fresh := false
	if err := s.db.View(func(tx *bbolt.Tx) error {
		state := tx.Bucket(stateBucket)
		if state == nil {
			fresh = true
			return nil
		}
		return s.read(state, tx.Bucket(logBucket))
	}); err != nil {
		return err
	}
	if last, err := s.LastIndex(); !fresh && err == nil && last == 0 && (anew || len(voters) > 0) {
		// The quorum of the last start never came about, and its voters may have been wrong.
		if err := s.begin(voters); err != nil {
			return err
		}
	}
	if !fresh {
		return s.identify()
	}
	s.conf = &pb.ConfState{Voters: voters}
	s.first = s.conf
	if err := s.db.Update(func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucket(logBucket); err != nil {
			return err
		}
		state, err := tx.CreateBucket(stateBucket)
		if err != nil {
			return err
		}
		if err := state.Put(formatKey, seal(formatKey, []byte{1})); err != nil {
			return err
		}
		if err := put(state, firstKey, s.first); err != nil {
			return err
		}
		return put(state, confStateKey, s.conf)
	}); err != nil {
		return err
	}
	return s.identify()
}

// begin gives a file that knows no voters those that the quorum had before its first entry.
func (s *store) begin(voters []uint64) error {
	s.conf = &pb.ConfState{Voters: voters}
	s.first = s.conf
	return s.db.Update(func(tx *bbolt.Tx) error {
		state := tx.Bucket(stateBucket)
		if err := put(state, firstKey, s.first); err != nil {
			return err
		}
		return put(state, confStateKey, s.conf)
	})
}

// identify reads the file's member id, or makes one up.
func (s *store) identify() error {
	if err := s.db.View(func(tx *bbolt.Tx) error {
		v, err := getBytes(tx.Bucket(stateBucket), memberKey)
		s.member = string(v)
		return err
	}); err != nil || s.member != "" {
		return err
	}
	s.member = rand.Text()
	return s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(stateBucket).Put(memberKey, seal(memberKey, []byte(s.member)))
	})
}

func (s *store) read(state, log *bbolt.Bucket) error {
	s.conf = new(pb.ConfState)
	if _, err := get(state, confStateKey, s.conf); err != nil {
		return err
	}
	s.first = new(pb.ConfState)
	if has, err := get(state, firstKey, s.first); err != nil {
		return err
	} else if !has {
		s.first = proto.Clone(s.conf).(*pb.ConfState)
	}
	snap := new(pb.Snapshot)
	if has, err := get(state, snapshotKey, snap); err != nil {
		return err
	} else if has {
		if err := s.ApplySnapshot(snap); err != nil {
			return err
		}
	}
	hard := new(pb.HardState)
	if has, err := get(state, hardStateKey, hard); err != nil {
		return err
	} else if has {
		if at := s.snapshotIndex(); hard.GetCommit() < at {
			hard.Commit = &at // commits are not synced one by one, snapshots hold only what was committed
		}
		if err := s.SetHardState(hard); err != nil {
			return err
		}
	}
	var entries []*pb.Entry
	if err := log.ForEach(func(k, v []byte) error {
		v, err := unseal(k, v)
		if err != nil {
			return err
		}
		e := new(pb.Entry)
		if err := proto.Unmarshal(v, e); err != nil {
			return err
		}
		entries = append(entries, e)
		return nil
	}); err != nil {
		return err
	}
	return s.Append(entries)
}

func (s *store) snapshotIndex() uint64 {
	snap, err := s.Snapshot()
	if err != nil || raft.IsEmptySnap(snap) {
		return 0
	}
	return snap.GetMetadata().GetIndex()
}

// InitialState implements raft.Storage; the membership is the store's own.
func (s *store) InitialState() (*pb.HardState, *pb.ConfState, error) {
	hard, _, err := s.MemoryStorage.InitialState()
	return hard, s.conf, err
}

func indexKey(i uint64) []byte { return binary.BigEndian.AppendUint64(nil, i) }

// save makes everything of one Ready durable in one transaction. Where only the commit index moved,
// nothing is written: the next leader finds it again.
func (s *store) save(rd raft.Ready) error {
	defer s.writes(0)()
	return s.db.guarded(func() error { return s.saveReady(rd) })
}

// snapshotPatience is how much longer a snapshot may take than other changes, for its size.
const snapshotPatience = 5 * time.Second

// writes notes that the file is written from now on, or counts as written from a moment later on, until what it returns is called. Only the
// quorum's goroutine writes.
func (s *store) writes(later time.Duration) (ended func()) {
	s.saving.Store(max(1, int64(time.Since(s.born)+later)))
	return func() { s.saving.Store(0) }
}

// waited is how long the save at hand has been under way, 0 without one. Any goroutine may call it.
func (s *store) waited() time.Duration {
	begun := s.saving.Load()
	if begun == 0 {
		return 0
	}
	return max(0, time.Since(s.born)-time.Duration(begun))
}

func (s *store) saveReady(rd raft.Ready) error {
	hard, entries, snap := rd.HardState, rd.Entries, rd.Snapshot
	// How far the log is committed need not be on disk, but for changes of members: a node that has applied one must not
	// run for election, nor count votes, by the members of before when it starts again.
	members := slices.ContainsFunc(rd.CommittedEntries, func(e *pb.Entry) bool { return e.GetType() != pb.EntryNormal })
	if members && hard == nil {
		state, _, err := s.InitialState()
		if err != nil {
			return err
		}
		hard = state
	}
	if !rd.MustSync && raft.IsEmptySnap(snap) && !members {
		if hard != nil {
			return s.SetHardState(hard)
		}
		return nil
	}
	if err := s.db.Update(func(tx *bbolt.Tx) error {
		state, log := tx.Bucket(stateBucket), tx.Bucket(logBucket)
		log.FillPercent = 0.9 // keys only grow
		if !raft.IsEmptySnap(snap) {
			if err := put(state, snapshotKey, snap); err != nil {
				return err
			}
			if err := put(state, confStateKey, snap.GetMetadata().GetConfState()); err != nil {
				return err
			}
			if err := deleteFrom(log, 0); err != nil {
				return err
			}
		}
		if hard != nil {
			if err := put(state, hardStateKey, hard); err != nil {
				return err
			}
		}
		if err := s.standings.put(tx); err != nil {
			return err
		}
		if len(entries) == 0 {
			return nil
		}
		if err := deleteFrom(log, entries[0].GetIndex()); err != nil {
			return err
		}
		for _, e := range entries {
			if err := put(log, indexKey(e.GetIndex()), e); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if !raft.IsEmptySnap(snap) {
		if err := s.ApplySnapshot(snap); err != nil {
			return err
		}
	}
	if hard != nil {
		if err := s.SetHardState(hard); err != nil {
			return err
		}
	}
	if err := s.Append(entries); err != nil {
		return err
	}
	return s.reached()
}

// reached tells the standings what is on disk.
func (s *store) reached() error {
	hard, _, err := s.InitialState()
	if err != nil {
		return err
	}
	last, err := s.LastIndex()
	s.standings.reached(hard.GetTerm(), last)
	return err
}

func deleteFrom(log *bbolt.Bucket, index uint64) error {
	c := log.Cursor()
	for k, _ := c.Seek(indexKey(index)); k != nil; k, _ = c.Seek(indexKey(index)) {
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return nil
}

// snapshot replaces everything up to index by data, except the last keep entries.
func (s *store) snapshot(index uint64, conf *pb.ConfState, data []byte, keep uint64) error {
	defer s.writes(snapshotPatience)()
	return s.db.guarded(func() error { return s.compact(index, conf, data, keep) })
}

func (s *store) compact(index uint64, conf *pb.ConfState, data []byte, keep uint64) error {
	snap, err := s.CreateSnapshot(index, conf, data)
	if err != nil {
		return err
	}
	upTo := uint64(0)
	if index > keep {
		upTo = index - keep
	}
	first, err := s.FirstIndex()
	if err != nil {
		return err
	}
	if err := s.db.Update(func(tx *bbolt.Tx) error {
		state, log := tx.Bucket(stateBucket), tx.Bucket(logBucket)
		if err := put(state, snapshotKey, snap); err != nil {
			return err
		}
		if err := put(state, confStateKey, conf); err != nil {
			return err
		}
		// What the snapshot covers is not read back at the next start.
		for i := first; i <= index; i++ {
			if err := log.Delete(indexKey(i)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if upTo > first {
		return s.Compact(upTo)
	}
	return nil
}

func (s *store) close() error {
	if s.db.damaged.Load() {
		return nil // who met that has said so
	}
	return errors.Join(s.standings.close(), s.db.guarded(s.db.Close))
}
