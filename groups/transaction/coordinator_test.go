package transaction

import (
	"errors"
	"maps"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"pgregory.net/rapid"

	"kraft/groups/runtime"
	"kraft/wire/ident"
)

// stage runs a coordinator as its loop does, with a log and the events of committed records.
type stage struct {
	c      *Coordinator
	loads  int64
	level  int16
	now    time.Time
	log    []runtime.Record
	events []any
	reply  any
	refuse error // what Check says
}

func newStage(level int16) *stage {
	s := &stage{level: level, now: time.UnixMilli(1_700_000_000_000)}
	s.c = s.load()
	return s
}

func (s *stage) load() *Coordinator {
	s.loads++
	c := New(Config{Load: s.loads, MaxTimeout: 15 * time.Minute, TimeoutCheck: 10 * time.Second, Expiry: 7 * 24 * time.Hour, ExpiryCheck: time.Hour, Level: func() int16 { return s.level }})
	for i, r := range s.log {
		if err := c.Replay(runtime.Entry{Record: r, Offset: int64(i), ProducerID: -1}); err != nil {
			panic(err)
		}
	}
	s.events = append(s.events, c.Loaded(s.now).Events...)
	return c
}

func (s *stage) call() runtime.Call {
	return runtime.Call{Now: s.now, To: 1, Check: func([]runtime.Record) error { return s.refuse }}
}

func (s *stage) carryOut(e runtime.Effects) any {
	for _, r := range e.Records {
		if err := s.c.Replay(runtime.Entry{Record: r, Offset: int64(len(s.log)), ProducerID: -1}); err != nil {
			panic(err)
		}
		s.log = append(s.log, r)
	}
	s.events = append(s.events, e.Events...)
	s.reply = nil
	for _, r := range e.Replies {
		s.reply = r.Response
	}
	return s.reply
}

func (s *stage) init(id string, expected ...int64) Given {
	r := Init{ID: id, Timeout: 60_000, ProducerID: noID, Epoch: noEpoch}
	if len(expected) == 2 {
		r.ProducerID, r.Epoch = expected[0], int16(expected[1])
	}
	return s.carryOut(s.c.Init(s.call(), r, s.fresh())).(Given)
}

// fresh is a producer id that nobody has.
func (s *stage) fresh() int64 { return int64(1000 + len(s.log)) }

func (s *stage) add(id string, pid int64, epoch int16, partitions ...int32) []error {
	r := Add{ID: id, ProducerID: pid, Epoch: epoch, Wait: true}
	for _, n := range partitions {
		r.Partitions = append(r.Partitions, ident.TopicPartition{Topic: "t", Partition: n})
	}
	errs, _ := s.carryOut(s.c.Add(s.call(), r)).([]error)
	return errs
}

func (s *stage) end(id string, pid int64, epoch int16, commit, bumps bool) Given {
	return s.carryOut(s.c.End(s.call(), End{id, pid, epoch, commit, bumps}, s.fresh())).(Given)
}

// completeAll has the markers of all decisions written.
func (s *stage) completeAll() {
	for len(s.events) > 0 {
		e := s.events[0]
		s.events = s.events[1:]
		switch e := e.(type) {
		case Decision:
			s.carryOut(s.c.Completed(s.call(), e))
		case NeedsProducerID:
			s.carryOut(s.c.TimeOut(s.call(), e.ID, s.fresh()))
		}
	}
}

// TestEnds is Kafka's table of EndTxn: state and request to answer, in either version of transactions.
func TestEnds(t *testing.T) {
	states := map[string]func(*stage) Given{
		"Empty":   func(s *stage) Given { return s.init("x") },
		"Ongoing": func(s *stage) Given { g := s.init("x"); s.add("x", g.ProducerID, g.Epoch, 0); return g },
		"Prepare": func(s *stage) Given {
			g := s.init("x")
			s.add("x", g.ProducerID, g.Epoch, 0)
			s.end("x", g.ProducerID, g.Epoch, true, false)
			return g
		},
		"CompleteCommit": func(s *stage) Given {
			g := s.init("x")
			s.add("x", g.ProducerID, g.Epoch, 0)
			g = s.end("x", g.ProducerID, g.Epoch, true, true)
			s.completeAll()
			return g
		},
		"CompleteAbort": func(s *stage) Given {
			g := s.init("x")
			s.add("x", g.ProducerID, g.Epoch, 0)
			g = s.end("x", g.ProducerID, g.Epoch, false, true)
			s.completeAll()
			return g
		},
	}
	for _, tc := range []struct {
		state  string
		ago    int16 // epochs before the current one
		commit bool
		bumps  bool
		want   error
		by     int16 // the answer's epoch is the current one and this
	}{
		{"Empty", 0, true, false, kerr.InvalidTxnState, 0}, {"Empty", 0, false, false, kerr.InvalidTxnState, 0},
		{"Ongoing", 0, true, false, nil, 0}, {"Ongoing", 0, false, false, nil, 0}, {"Ongoing", 1, true, false, kerr.ProducerFenced, 0},
		{"Prepare", 0, true, false, kerr.ConcurrentTransactions, 0}, {"Prepare", 0, false, false, kerr.ConcurrentTransactions, 0},
		{"CompleteCommit", 0, true, false, nil, 0}, {"CompleteCommit", 0, false, false, kerr.InvalidTxnState, 0},
		{"CompleteAbort", 0, true, false, kerr.InvalidTxnState, 0}, {"CompleteAbort", 0, false, false, nil, 0},
		{"Empty", 0, true, true, kerr.InvalidTxnState, 0}, {"Empty", 0, false, true, nil, 1}, {"Empty", 1, false, true, kerr.ProducerFenced, 0},
		{"Ongoing", 0, true, true, nil, 1}, {"Ongoing", 0, false, true, nil, 1}, {"Ongoing", 1, true, true, kerr.ProducerFenced, 0},
		{"Prepare", 0, true, true, kerr.ConcurrentTransactions, 0}, {"Prepare", 5, true, true, kerr.ConcurrentTransactions, 0},
		{"CompleteCommit", 0, true, true, kerr.InvalidTxnState, 0}, {"CompleteCommit", 0, false, true, nil, 1},
		{"CompleteCommit", 1, true, true, nil, 0}, {"CompleteCommit", 1, false, true, kerr.InvalidTxnState, 0},
		{"CompleteAbort", 0, true, true, kerr.InvalidTxnState, 0}, {"CompleteAbort", 0, false, true, nil, 1},
		{"CompleteAbort", 1, true, true, kerr.InvalidTxnState, 0}, {"CompleteAbort", 1, false, true, nil, 0},
		{"CompleteCommit", 2, true, true, kerr.ProducerFenced, 0}, {"CompleteCommit", -1, true, true, kerr.ProducerFenced, 0},
	} {
		s := newStage(2)
		g := states[tc.state](s)
		got := s.end("x", g.ProducerID, g.Epoch-tc.ago, tc.commit, tc.bumps)
		if !errors.Is(got.Err, tc.want) || got.Err == nil && (got.ProducerID != g.ProducerID || got.Epoch != g.Epoch+tc.by) {
			t.Errorf("%+v: %+v", tc, got)
		}
		if got := s.end("x", g.ProducerID+1, g.Epoch, tc.commit, tc.bumps); !errors.Is(got.Err, errUnknownID) && tc.state != "Prepare" && !errors.Is(got.Err, kerr.ConcurrentTransactions) {
			t.Errorf("%+v of another producer: %+v", tc, got)
		}
	}
}

// TestExhausted: the last transaction of a producer id ends with a new id, at which the producer goes on, also if it asks again.
func TestExhausted(t *testing.T) {
	s := newStage(2)
	g := s.init("x")
	old := g.ProducerID
	set := func(epoch int16) {
		n := *s.c.ids["x"]
		n.epoch = epoch
		s.carryOut(runtime.Effects{Records: []runtime.Record{s.c.write("x", &n)}})
	}
	set(lastClientEpoch - 1)
	s.add("x", old, lastClientEpoch-1, 0)
	if g = s.end("x", old, lastClientEpoch-1, true, true); g.Err != nil || g.ProducerID != old || g.Epoch != lastClientEpoch {
		t.Fatalf("one before the last: %+v", g)
	}
	s.completeAll()
	s.add("x", old, lastClientEpoch, 0)
	given := s.end("x", old, lastClientEpoch, true, true)
	if given.Err != nil || given.ProducerID == old || given.Epoch != 0 {
		t.Fatalf("the last: %+v", given)
	}
	if d := s.events[0].(Decision); d.ProducerID != old || d.Epoch != math.MaxInt16 {
		t.Errorf("its markers: %+v", d)
	}
	s.completeAll()
	for range 2 {
		if again := s.end("x", old, lastClientEpoch, true, true); again != given {
			t.Errorf("asked again: %+v", again)
		}
		s.c = s.load()
	}
	if g := s.init("x", old, lastClientEpoch); g.Err != nil || g.ProducerID != given.ProducerID || g.Epoch != 0 {
		t.Errorf("InitProducerId with the old pair: %+v", g)
	}
	if g := s.init("x", old, lastClientEpoch-1); !errors.Is(g.Err, kerr.ProducerFenced) {
		t.Errorf("with an older pair: %+v", g)
	}
	set(lastClientEpoch)
	if g := s.init("x"); g.Err != nil || g.ProducerID == given.ProducerID || g.Epoch != 0 {
		t.Errorf("InitProducerId at the last epoch: %+v", g)
	}
}

// TestTimeouts: a transaction that is open for too long is aborted, and its producer fenced, also at its last epoch.
func TestTimeouts(t *testing.T) {
	for _, epoch := range []int16{0, lastClientEpoch} {
		s := newStage(2)
		g := s.init("x")
		n := *s.c.ids["x"]
		n.epoch = epoch
		s.carryOut(runtime.Effects{Records: []runtime.Record{s.c.write("x", &n)}})
		s.add("x", g.ProducerID, epoch, 0, 1)
		s.now = s.now.Add(61 * time.Second)
		s.carryOut(s.c.Tick(s.call()))
		s.completeAll()
		if st := s.c.ids["x"]; st.state != completeAbort || len(st.partitions) > 0 {
			t.Errorf("epoch %d: %+v", epoch, st)
		}
		if errs := s.add("x", g.ProducerID, epoch, 0); len(errs) != 1 || errs[0] == nil {
			t.Errorf("epoch %d: the producer goes on: %v", epoch, errs)
		}
	}
}

// TestClockPutBack: a transaction that began on a clock that is ahead times out by how long this coordinator has seen it open.
func TestClockPutBack(t *testing.T) {
	s := newStage(2)
	g := s.init("x")
	s.now = s.now.Add(time.Hour)
	s.add("x", g.ProducerID, g.Epoch, 0)
	s.now = s.now.Add(-time.Hour)
	s.events = nil
	s.c = s.load()
	for range 8 {
		s.now = s.now.Add(10 * time.Second)
		s.carryOut(s.c.Tick(s.call()))
		s.completeAll()
	}
	if st := s.c.ids["x"]; st.state != completeAbort {
		t.Errorf("%+v", st)
	}
}

// TestExpires: an id without transactions is forgotten after a while; one with an open transaction is not.
func TestExpires(t *testing.T) {
	s := newStage(2)
	s.init("idle")
	g := s.init("open")
	s.c.config.MaxTimeout = 100 * 24 * time.Hour
	s.add("open", g.ProducerID, g.Epoch, 0)
	s.c.timeoutAt = s.now.Add(100 * 24 * time.Hour)
	s.now = s.now.Add(8 * 24 * time.Hour)
	s.carryOut(s.c.Tick(s.call()))
	if s.c.ids["idle"] != nil || s.c.ids["open"] == nil {
		t.Errorf("left: %v", maps.Collect(maps.All(s.c.ids)))
	}
	if errs := s.add("idle", g.ProducerID, g.Epoch, 0); !errors.Is(errs[0], errUnknownID) {
		t.Errorf("the idle one: %v", errs)
	}
}

// TestNextWaits: what begins the next transaction waits for the end of the one before, for a while.
func TestNextWaits(t *testing.T) {
	s := newStage(2)
	g := s.init("x")
	s.add("x", g.ProducerID, g.Epoch, 0)
	g = s.end("x", g.ProducerID, g.Epoch, true, true)
	if errs := s.add("x", g.ProducerID, g.Epoch, 1); errs != nil {
		t.Fatalf("it was answered: %v", errs)
	}
	s.completeAll()
	if errs, _ := s.reply.([]error); len(errs) != 1 || errs[0] != nil {
		t.Errorf("after the end: %v", s.reply)
	}
	if st := s.c.ids["x"]; st.state != ongoing || len(st.partitions) != 1 {
		t.Errorf("%+v", st)
	}
	g = s.end("x", g.ProducerID, g.Epoch, true, true)
	s.add("x", g.ProducerID, g.Epoch, 1)
	if next := s.c.Next(); next.Sub(s.now) > HoldAdds {
		t.Errorf("it looks again in %v", next.Sub(s.now))
	}
	s.now = s.now.Add(HoldAdds)
	if errs, _ := s.carryOut(s.c.Tick(s.call())).([]error); len(errs) != 1 || !errors.Is(errs[0], kerr.ConcurrentTransactions) {
		t.Errorf("after too long: %v", errs)
	}
}

// TestAnyRequests: whatever is asked, in any order and with any mistakes: the state is the replay of the records; epochs of a producer id
// never fall; each transaction has one decision, with the partitions that were added; and once the markers are written nothing is open for
// longer than its timeout.
func TestAnyRequests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStage(rapid.SampledFrom([]int16{0, 1, 2, 2, 2}).Draw(t, "level"))
		highest := map[int64]int16{}
		ids := []string{"a", "b"}
		for range rapid.IntRange(1, 60).Draw(t, "requests") {
			id := rapid.SampledFrom(ids).Draw(t, "id")
			pid, epoch := int64(5), int16(0)
			before := s.c.ids[id]
			if before != nil {
				pid, epoch = before.producerID, before.epoch+int16(rapid.SampledFrom([]int{0, 0, 0, 0, 0, -1, 1}).Draw(t, "epoch"))
			}
			if rapid.IntRange(0, 30).Draw(t, "age") == 0 && before != nil && !before.decided() && before.state != ongoing && before.epoch < 100 {
				n := *before
				n.epoch = lastClientEpoch - 1
				s.carryOut(runtime.Effects{Records: []runtime.Record{s.c.write(id, &n)}})
				continue
			}
			if s.refuse = nil; rapid.IntRange(0, 10).Draw(t, "refused") == 0 {
				s.refuse = kerr.CoordinatorNotAvailable
			}
			records, state := len(s.log), maps.Clone(s.c.ids)
			switch rapid.SampledFrom([]string{"init", "init again", "add", "add", "end", "end", "complete", "tick", "load"}).Draw(t, "what") {
			case "init":
				s.init(id)
			case "init again":
				s.init(id, pid, int64(epoch))
			case "add":
				s.add(id, pid, epoch, int32(rapid.IntRange(0, 3).Draw(t, "partition")))
			case "end":
				s.end(id, pid, epoch, rapid.Bool().Draw(t, "commit"), rapid.Bool().Draw(t, "bumps"))
			case "complete":
				s.refuse = nil
				s.completeAll()
			case "tick":
				s.now = s.now.Add(time.Duration(rapid.SampledFrom([]int{1, 20, 70}).Draw(t, "seconds")) * time.Second)
				s.carryOut(s.c.Tick(s.call()))
			case "load":
				s.events = nil
				s.c = s.load()
			}
			if len(s.log) == records && !reflect.DeepEqual(state, s.c.ids) {
				t.Fatalf("the state changed without a record: %v to %v", state, s.c.ids)
			}
			events := s.events
			if loaded := s.load(); !reflect.DeepEqual(loaded.ids, s.c.ids) {
				t.Fatalf("loaded %v, was %v", loaded.ids, s.c.ids)
			}
			s.events = events
			for id, st := range s.c.ids {
				if st.epoch < highest[st.producerID] {
					t.Fatalf("%s: epoch %d of producer %d, was %d", id, st.epoch, st.producerID, highest[st.producerID])
				}
				highest[st.producerID] = st.epoch
				if !st.decided() {
					continue
				}
				found := false
				for _, e := range s.events {
					d, ok := e.(Decision)
					found = found || ok && d.ID == id && d.ProducerID == st.producerID && d.Epoch == st.epoch && len(d.Partitions) == len(st.partitions)
				}
				if !found {
					t.Fatalf("%s is %v and nobody writes its markers", id, st.state)
				}
			}
		}
		s.refuse = nil
		s.now = s.now.Add(2 * time.Hour)
		for range 3 {
			s.carryOut(s.c.Tick(s.call()))
			s.completeAll()
		}
		for id, st := range s.c.ids {
			if st.state == ongoing || st.decided() {
				t.Fatalf("%s is %v for ever", id, st.state)
			}
		}
	})
}
