package quorum

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/raft/v3/raftpb"

	"kraft/wire/locks"
)

// standing is how far a member has come, by what another has seen of it. Nothing of it goes back: a node that starts with less
// has an older disk (a backup, a volume of before), which does not know what it voted for and acknowledged.
type standing struct {
	Member string `json:"member"` // of the metadata file
	Starts uint64 `json:"starts"` // of nodes with that file
	Life   string `json:"life"`   // random, the newest start's
	Term   uint64 `json:"term"`
	Index  uint64 `json:"index"` // of a committed entry that the member has
	// The last entry that the disk had when Life began, 0 if it had none, and whether the member said so.
	SaysBegun  bool   `json:"saysBegun,omitempty"`
	BegunTerm  uint64 `json:"begunTerm,omitempty"`
	BegunIndex uint64 `json:"begunIndex,omitempty"`
}

var (
	standingsBucket = []byte("standings") // member id, 8 bytes big endian -> standing as JSON
	startsKey       = []byte("starts")    // in the state bucket: 8 bytes big endian
)

// standings are what this node remembers of the others, and what it tells of itself.
type standings struct {
	db      *file
	insists bool // what this node has is to count, whatever others have seen

	mu    locks.Mutex // guards the rest
	mine  standing
	seen  map[uint64]standing
	dirty map[uint64]bool // those of seen that have grown since they were saved
}

// errOlderDisk is wrapped by what is told to a node whose disk is older than the one it had.
var errOlderDisk = errors.New("give it its newest disk, or remove it from the quorum and let it join with empty directories (--accept-older-disk where all that is left are backups)")

// openStandings reads what is remembered, and counts a start.
func openStandings(db *file, member string) (*standings, error) {
	s := &standings{db: db, mine: standing{Member: member, Life: rand.Text()}, seen: map[uint64]standing{}, dirty: map[uint64]bool{}}
	return s, db.Update(func(tx *bbolt.Tx) error {
		state := tx.Bucket(stateBucket)
		v, err := getBytes(state, startsKey)
		if err != nil {
			return err
		}
		if len(v) == 8 {
			s.mine.Starts = binary.BigEndian.Uint64(v)
		}
		s.mine.Starts++
		if err := state.Put(startsKey, seal(startsKey, indexKey(s.mine.Starts))); err != nil {
			return err
		}
		b, err := tx.CreateBucketIfNotExists(standingsBucket)
		if err != nil {
			return err
		}
		return b.ForEach(func(k, v []byte) error {
			v, err := unseal(k, v)
			if err != nil {
				return err
			}
			var seen standing
			err = json.Unmarshal(v, &seen)
			s.seen[binary.BigEndian.Uint64(k)] = seen
			return err
		})
	})
}

// takeBack makes a start that was refused none: an older disk must not catch up with the newest by trying again.
func (s *standings) takeBack() error {
	s.mu.Lock()
	starts := s.mine.Starts - 1
	s.mu.Unlock()
	return s.db.guarded(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket(stateBucket).Put(startsKey, seal(startsKey, indexKey(starts)))
		})
	})
}

// introduce fills in what a Hello says of this node's disk.
func (s *standings) introduce(h *Hello) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.Starts, h.Life, h.Term, h.Index, h.Insists = s.mine.Starts, s.mine.Life, s.mine.Term, s.mine.Index, s.insists
	h.SaysBegun, h.BegunTerm, h.BegunIndex = s.mine.SaysBegun, s.mine.BegunTerm, s.mine.BegunIndex
}

// reached notes what is on this node's own disk.
func (s *standings) reached(term, index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mine.Term, s.mine.Index = term, index
}

// check refuses a member whose disk is older than one that it was seen with. Only its next start can be: streams of one life may
// overtake each other.
func (s *standings) check(h Hello) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen[h.From]
	if seen.Member != h.Member || h.Life == "" || h.Life == seen.Life || h.Insists {
		return nil
	}
	older := func(what string, is, was uint64) error {
		return fmt.Errorf("its disk is older than the disk that it last ran on: "+what+", and this member has seen %d; votes and entries that it acknowledged since are missing: %w", is, was, errOlderDisk)
	}
	switch {
	case h.Starts <= seen.Starts && !begunLater(h, seen):
		return older("this is start %d of its metadata", h.Starts, seen.Starts)
	case h.Term < seen.Term:
		return older("its metadata is of term %d", h.Term, seen.Term)
	case h.Index < seen.Index:
		return older("its metadata ends with entry %d", h.Index, seen.Index)
	}
	return nil
}

// begunLater reports whether a disk that has had as many starts as the one seen last is the newer of the two: it began this start with
// more of the log. What was seen was a copy then, started in the disk's place by somebody's mistake, and this node had no reason to
// refuse it. A disk begins its nth start with at least as much of the log as any copy of it begins that start with.
func begunLater(h Hello, seen standing) bool {
	if h.Starts != seen.Starts || !seen.SaysBegun && seen.BegunIndex == 0 { // before SaysBegun, 0 could mean either
		return false
	}
	return h.BegunTerm > seen.BegunTerm || h.BegunTerm == seen.BegunTerm && h.BegunIndex > seen.BegunIndex
}

// meet notes a start of a member, which check has let pass, before the member is told that it is welcome.
func (s *standings) meet(h Hello) error {
	s.mu.Lock()
	seen := s.seen[h.From]
	if h.Life == "" || h.Life == seen.Life {
		s.mu.Unlock()
		return nil
	}
	if seen.Member != h.Member || h.Insists {
		seen = standing{Member: h.Member}
	}
	seen.Starts, seen.Life = h.Starts, h.Life
	seen.SaysBegun, seen.BegunTerm, seen.BegunIndex = h.SaysBegun, h.BegunTerm, h.BegunIndex
	s.seen[h.From], s.dirty[h.From] = seen, true
	s.mu.Unlock()
	return s.db.guarded(func() error { return s.db.Update(s.put) })
}

// saw notes what a life of a member has shown.
func (s *standings) saw(id uint64, life string, term, index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[id].Life == life {
		s.grow(id, term, index)
	}
}

// acknowledged notes an entry that a member has, in whatever life.
func (s *standings) acknowledged(id, index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grow(id, 0, index)
}

// grow notes that a member that has been met has come so far. mu is held.
func (s *standings) grow(id, term, index uint64) {
	seen, ok := s.seen[id]
	if !ok || term <= seen.Term && index <= seen.Index {
		return
	}
	seen.Term, seen.Index = max(term, seen.Term), max(index, seen.Index)
	s.seen[id], s.dirty[id] = seen, true
}

// put saves what has grown. What others acknowledge goes to disk with the next entries only: a transaction of its own for each
// would cost as much as the entry itself.
func (s *standings) put(tx *bbolt.Tx) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.dirty {
		v, err := json.Marshal(s.seen[id])
		if err != nil {
			return err
		}
		if err := tx.Bucket(standingsBucket).Put(indexKey(id), seal(indexKey(id), v)); err != nil {
			return err
		}
	}
	clear(s.dirty)
	return nil
}

// close saves what has not been.
func (s *standings) close() error {
	s.mu.Lock()
	clean := len(s.dirty) == 0
	s.mu.Unlock()
	if clean {
		return nil
	}
	return s.db.guarded(func() error { return s.db.Update(s.put) })
}

// note takes from a member's message how far the member has come, and that it is there.
func (n *Node) note(d delivery) {
	m := d.message
	if m.GetFrom() == n.leader {
		n.quiet = 0
	}
	switch m.GetType() {
	case pb.MsgPreVote, pb.MsgPreVoteResp: // of terms that may never be
	case pb.MsgApp, pb.MsgHeartbeat: // a leader has all that is committed
		n.store.standings.saw(m.GetFrom(), d.life, m.GetTerm(), m.GetCommit())
	default:
		n.store.standings.saw(m.GetFrom(), d.life, m.GetTerm(), 0)
	}
}

// inquiryPatience is how long a start may wait for members' opinions of this node's disk. Those that are there answer in a round
// trip, and where nobody listens that is known as soon.
const inquiryPatience = 300 * time.Millisecond

// inquire asks the members whether this node's disk is as new as they remember, before it votes or acknowledges anything: those whose
// addresses it knows, learners included, since nobody else can tell a quorum's only voter, and the seeds.
func (t *transport) inquire() error {
	ctx, cancel := context.WithTimeout(t.ctx, inquiryPatience)
	defer cancel()
	own := t.hello().Address
	at := map[string]uint64{} // by address, 0 for a seed
	for _, address := range t.network.Seeds {
		at[address] = 0
	}
	members := t.node.members.Load()
	for _, id := range slices.Concat(members.GetVoters(), members.GetLearners()) {
		at[t.address(id)] = id
	}
	for address, id := range at {
		if address == "" || address == own || id == t.node.config.ID {
			delete(at, address)
		}
	}
	answers, asked := make(chan error, len(at)), len(at)
	for _, address := range slices.Sorted(maps.Keys(at)) {
		id := at[address]
		if !t.start(func() {
			c, _, err := t.connect(ctx, address, helloStream, id)
			if err == nil {
				_ = c.Close()
			}
			answers <- err
		}) {
			return nil
		}
	}
	for range asked {
		var refused *RefusedError
		if err := <-answers; errors.As(err, &refused) && refused.Older {
			return err
		}
	}
	return nil
}
