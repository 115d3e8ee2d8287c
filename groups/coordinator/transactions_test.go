package coordinator

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
	"kraft/wire/ident"
)

// replayed carries out an operation as the loop does, and returns the reply.
func replayed(t *testing.T, c *Coordinator, at *int64, e runtime.Effects) any {
	t.Helper()
	entry := runtime.Entry{ProducerID: -1}
	if e.Producer != nil {
		entry.ProducerID, entry.ProducerEpoch = e.Producer.ID, e.Producer.Epoch
	}
	for _, r := range e.Records {
		entry.Record, entry.Offset = r, *at
		*at++
		if err := c.Replay(entry); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range e.Replies {
		return r.Response
	}
	return nil
}

// TestCommitInTransaction is Kafka's table of who may commit in a transaction: the group, and what the producer says of its member, to the
// answer.
func TestCommitInTransaction(t *testing.T) {
	instance, other := "i", "other"
	member := func(state State, static *string) func(c *Coordinator) {
		return func(c *Coordinator) {
			g := c.group("g")
			m := &member{id: "m", instance: static, sessionTimeout: time.Minute}
			g.add(m)
			g.known, g.generation, g.state, g.protocolType = true, 3, state, "consumer"
		}
	}
	nobody := func(*Coordinator) {}
	empty := func(c *Coordinator) { c.group("g").known = true }
	for name, tc := range map[string]struct {
		group      func(*Coordinator)
		version    int16
		generation int32
		member     string
		instance   *string
		want       *kerr.Error
	}{
		"no group":                          {nobody, 5, -1, "", nil, nil},
		"no group, a generation":            {nobody, 5, 0, "m", nil, kerr.IllegalGeneration},
		"no group, a generation, by id":     {nobody, 6, 0, "m", nil, kerr.GroupIDNotFound},
		"nobody in the group":               {empty, 5, -1, "m", nil, nil},
		"members, an old client":            {member(Stable, nil), 2, 9, "x", nil, nil},
		"members, no member":                {member(Stable, nil), 5, -1, "", nil, nil},
		"members, a member without":         {member(Stable, nil), 5, -1, "m", nil, kerr.IllegalGeneration},
		"the member":                        {member(Stable, nil), 5, 3, "m", nil, nil},
		"the member in a rebalance":         {member(CompletingRebalance, nil), 5, 3, "m", nil, nil},
		"an earlier generation":             {member(Stable, nil), 5, 2, "m", nil, kerr.IllegalGeneration},
		"another member":                    {member(Stable, nil), 5, 3, "x", nil, kerr.UnknownMemberID},
		"the static member":                 {member(Stable, &instance), 5, 3, "m", &instance, nil},
		"a static member that was replaced": {member(Stable, &instance), 5, 3, "x", &instance, kerr.FencedInstanceID},
		"an unknown static member":          {member(Stable, &instance), 5, 3, "m", &other, kerr.UnknownMemberID},
	} {
		c, at := forReplay(), int64(0)
		tc.group(c)
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.Version, req.Group, req.Generation, req.MemberID, req.InstanceID = tc.version, "g", tc.generation, tc.member, tc.instance
		call := runtime.Call{Now: time.Now(), To: 1, Check: func([]runtime.Record) error { return nil }}
		commits := []Commit{{TopicPartition: ident.TopicPartition{Topic: "t"}, Offset: Offset{Offset: 7, LeaderEpoch: -1, Expires: -1}}}
		got := replayed(t, c, &at, c.CommitInTransaction(call, req, runtime.Producer{ID: 5}, commits)).([]Commit)
		if got[0].Err != tc.want {
			t.Errorf("%s: %v, wanted %v", name, got[0].Err, tc.want)
		}
		if open := c.open.unstable[groupPartition{"g", ident.TopicPartition{Topic: "t"}}]; (open == 1) != (tc.want == nil) {
			t.Errorf("%s: %d open offsets", name, open)
		}
	}
}

// TestPendingOffsets: who asks for stable offsets is told of those that a transaction may change; they neither expire nor go with their group,
// and go with their topic.
func TestPendingOffsets(t *testing.T) {
	c, at, now := forReplay(), int64(0), time.Now()
	call := func() runtime.Call {
		return runtime.Call{Now: now, To: 1, Check: func([]runtime.Record) error { return nil }}
	}
	tp := func(topic string) ident.TopicPartition { return ident.TopicPartition{Topic: topic} }
	commit := func(producer int64, topic string, offset int64) {
		t.Helper()
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.Version, req.Group, req.Generation = 5, "g", -1
		commits := []Commit{{TopicPartition: tp(topic), Offset: Offset{Offset: offset, LeaderEpoch: -1, Committed: now.UnixMilli(), Expires: -1}}}
		replayed(t, c, &at, c.CommitInTransaction(call(), req, runtime.Producer{ID: producer}, commits))
	}
	fetch := func(stable bool, topics ...string) Fetched {
		t.Helper()
		var want []ident.TopicPartition
		for _, topic := range topics {
			want = append(want, tp(topic))
		}
		return replayed(t, c, &at, c.FetchOffsets(1, "g", want, stable)).(Fetched)
	}
	commit(1, "a", 5)
	c.EndTransaction(1, true)
	commit(1, "a", 6)
	commit(2, "a", 7)
	commit(2, "b", 8)
	if f := fetch(true, "a", "b", "c"); !f.Unstable[tp("a")] || !f.Unstable[tp("b")] || f.Unstable[tp("c")] {
		t.Errorf("stable: %+v", f)
	}
	if f := fetch(false, "a", "b"); len(f.Unstable) > 0 || f.Offsets[tp("a")].Offset != 5 || len(f.Offsets) != 1 {
		t.Errorf("not stable: %+v", f)
	}
	now = now.Add(100 * 365 * 24 * time.Hour)
	replayed(t, c, &at, c.sweep(call()))
	if f := fetch(false, "a"); f.Offsets[tp("a")].Offset != 5 {
		t.Errorf("it expired beside a transaction: %+v", f)
	}
	c.EndTransaction(1, false)
	if f := fetch(true, "a"); !f.Unstable[tp("a")] {
		t.Errorf("one transaction has ended, and another has not: %+v", f)
	}
	replayed(t, c, &at, c.ForgetTopics(call(), []string{"b"}))
	if f := fetch(true, "a", "b"); !f.Unstable[tp("a")] || f.Unstable[tp("b")] {
		t.Errorf("without topic b: %+v", f)
	}
	c.EndTransaction(2, true)
	if f := fetch(true, "a", "b"); len(f.Unstable) > 0 || f.Offsets[tp("a")].Offset != 7 || len(f.Offsets) != 1 {
		t.Errorf("in the end: %+v", f)
	}
	commit(3, "d", 1)
	c.EndTransaction(3, false)
	if len(c.open.byProducer)+len(c.open.unstable) > 0 || c.groups["g"].open != 0 {
		t.Errorf("left: %+v, %d", c.open, c.groups["g"].open)
	}
}
