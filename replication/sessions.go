package replication

import (
	"container/list"
	"context"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"

	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/locks"
)

// Fetch sessions (KIP-227): a client names its partitions once, later requests and answers carry only
// what changed.

// sessionIdle is how long a session is safe from eviction (min.incremental.fetch.session.eviction.ms).
const sessionIdle = 120 * time.Second

// maxSessionPartitions bounds the partitions of all sessions together; past it requests stay sessionless.
const maxSessionPartitions = 2_000_000

const (
	finalEpoch   = -1 // close the session, or none wanted
	initialEpoch = 0  // make one
)

// wanted is one partition that a Fetch asks for.
type wanted struct {
	topic string
	id    image.UUID
	n     int32

	offset           int64
	start            int64 // of a follower's log
	maxBytes         int32
	leaderEpoch      int32
	lastFetchedEpoch int32

	// What the session's last answer said of it.
	sentHigh, sentStart int64
	fresh               bool // not answered yet in this session
}

type sessionKey struct {
	topic string
	id    image.UUID
	n     int32
}

func (w *wanted) key() sessionKey { return sessionKey{w.topic, w.id, w.n} }

// session is one client's. Clients send one request at a time; of one that comes while another is still served,
// after its connection broke, the session is not at hand until that one ends.
type session struct {
	busy  *semaphore.Weighted // held while a request is served; guards the rest
	id    int32
	epoch int32 // expected in the next request
	byID  bool
	list  []*wanted // in the order to serve them
	index map[sessionKey]*wanted
	used  time.Time     // guarded by sessions.mu
	size  int           // likewise
	place *list.Element // in sessions.byUse, likewise
}

// sessions is the cache of all sessions of the broker.
type sessions struct {
	mu    locks.Mutex
	slots int
	byID  map[int32]*session
	byUse list.List // *session, the one that was used last at the end
	total int       // partitions
}

func newSessions(slots int) *sessions { return &sessions{slots: slots, byID: map[int32]*session{}} }

// open finds or makes the request's session, which is the caller's until it calls close. A nil session means a
// sessionless full fetch of list.
func (s *sessions) open(ctx context.Context, req *kmsg.FetchRequest, now time.Time) (ss *session, wants []*wanted, err error) {
	byID := req.Version >= 13
	if req.Version < 7 || req.SessionEpoch == finalEpoch || req.SessionEpoch == initialEpoch {
		if req.Version >= 7 && req.SessionID != 0 {
			s.drop(req.SessionID)
		}
		wants = wantedOf(req)
		if req.Version < 7 || req.SessionEpoch == finalEpoch || len(wants) == 0 {
			return nil, wants, nil
		}
		return s.create(wants, byID, now), wants, nil
	}
	s.mu.Lock()
	ss = s.byID[req.SessionID]
	if ss != nil {
		ss.used = now
		s.byUse.MoveToBack(ss.place)
	}
	s.mu.Unlock()
	if ss == nil {
		return nil, nil, kerr.FetchSessionIDNotFound
	}
	if err := ss.busy.Acquire(ctx, 1); err != nil {
		return nil, nil, err
	}
	switch {
	case ss.byID != byID:
		err = kerr.FetchSessionTopicIDError
	case ss.epoch != req.SessionEpoch:
		err = kerr.InvalidFetchSessionEpoch
	}
	if err != nil {
		ss.close()
		return nil, nil, err
	}
	if ss.epoch++; ss.epoch < 0 {
		ss.epoch = 1
	}
	ss.update(req)
	s.resize(ss, len(ss.list))
	return ss, ss.list, nil
}

// close lets the session's next request be served.
func (ss *session) close() { ss.busy.Release(1) }

// update takes the changes that an incremental request carries.
func (ss *session) update(req *kmsg.FetchRequest) {
	for _, w := range wantedOf(req) {
		if old := ss.index[w.key()]; old != nil {
			old.offset, old.start, old.maxBytes, old.leaderEpoch, old.lastFetchedEpoch = w.offset, w.start, w.maxBytes, w.leaderEpoch, w.lastFetchedEpoch
			continue
		}
		ss.index[w.key()] = w
		ss.list = append(ss.list, w)
	}
	forgotten := false
	for i := range req.ForgottenTopics {
		t := &req.ForgottenTopics[i]
		for _, n := range t.Partitions {
			delete(ss.index, sessionKey{t.Topic, t.TopicID, n})
			forgotten = true
		}
	}
	if forgotten {
		kept := ss.list[:0:0]
		for _, w := range ss.list {
			if ss.index[w.key()] == w {
				kept = append(kept, w)
			}
		}
		ss.list = kept
	}
}

// served moves partitions that had records behind the others, so that all get their turn.
func (ss *session) served(withData map[*wanted]bool) {
	if len(withData) == 0 || len(withData) == len(ss.list) {
		return
	}
	order := make([]*wanted, 0, len(ss.list))
	for _, w := range ss.list {
		if !withData[w] {
			order = append(order, w)
		}
	}
	for _, w := range ss.list {
		if withData[w] {
			order = append(order, w)
		}
	}
	ss.list = order
}

func wantedOf(req *kmsg.FetchRequest) []*wanted {
	count := 0
	for i := range req.Topics {
		count += len(req.Topics[i].Partitions)
	}
	all, list := make([]wanted, 0, count), make([]*wanted, 0, count)
	for i := range req.Topics {
		t := &req.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			all = append(all, wanted{
				topic: t.Topic, id: t.TopicID, n: p.Partition, offset: p.FetchOffset, maxBytes: p.PartitionMaxBytes,
				start: p.LogStartOffset, leaderEpoch: p.CurrentLeaderEpoch, lastFetchedEpoch: p.LastFetchedEpoch, sentHigh: -1, sentStart: -1, fresh: true,
			})
			list = append(list, &all[len(all)-1])
		}
	}
	return list
}

// create makes a session if there is room, evicting one that was idle long enough; nil otherwise.
func (s *sessions) create(wants []*wanted, byID bool, now time.Time) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.byID) >= s.slots && !s.evict(now) || s.total+len(wants) > maxSessionPartitions {
		return nil
	}
	id := rand.Int32N(1<<31-2) + 1
	for s.byID[id] != nil {
		id = rand.Int32N(1<<31-2) + 1
	}
	ss := &session{busy: semaphore.NewWeighted(1), id: id, epoch: 1, byID: byID, list: wants, index: make(map[sessionKey]*wanted, len(wants)), used: now, size: len(wants)}
	for _, w := range wants {
		ss.index[w.key()] = w
	}
	ss.busy.TryAcquire(1)
	s.byID[id] = ss
	ss.place = s.byUse.PushBack(ss)
	s.total += len(wants)
	return ss
}

func (s *sessions) evict(now time.Time) bool {
	front := s.byUse.Front()
	if front == nil || now.Sub(front.Value.(*session).used) < sessionIdle {
		return false
	}
	s.remove(front.Value.(*session))
	return true
}

// remove forgets a session. mu is held.
func (s *sessions) remove(ss *session) {
	delete(s.byID, ss.id)
	s.byUse.Remove(ss.place)
	s.total -= ss.size
}

func (s *sessions) drop(id int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ss := s.byID[id]; ss != nil {
		s.remove(ss)
	}
}

// withheld is the empty answer to a client that is throttled. The session stays as it was, and one that began with this request is dropped.
func (s *sessions) withheld(ss *session, req *kmsg.FetchRequest) *wire.FetchResponse {
	resp := &wire.FetchResponse{Version: req.Version}
	if ss != nil && req.SessionEpoch == initialEpoch {
		s.drop(ss.id)
	} else if ss != nil {
		resp.SessionID = ss.id
	}
	return resp
}

func (s *sessions) resize(ss *session, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[ss.id] == ss {
		s.total += n - ss.size
		ss.size = n
	}
}
