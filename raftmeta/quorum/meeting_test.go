package quorum

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// knows is what a node answers that knows these nodes by address.
func knows(own string, ids map[string]uint64) Hello {
	h := Hello{From: ids[own], Member: fmt.Sprintf("disk of %s", own), Address: own, Met: map[string]attendee{}}
	for address, id := range ids {
		h.Met[address] = attendee{id, "disk of " + address}
	}
	return h
}

// TestMeeting: a node knows the voters once all others run at the same time and know the same of each other, or one has begun.
func TestMeeting(t *testing.T) {
	list := []string{"c:1", "a:1", "b:1"}
	all := map[string]uint64{"a:1": 10, "b:1": 20, "c:1": 30}
	begun := func(h Hello, voters map[string]uint64) Hello {
		h.Agreed = voters
		return h
	}
	for _, test := range []struct {
		name    string
		answers map[string]Hello
		want    map[string]uint64
		missing string
	}{
		{name: "nobody answers", missing: "all have met"},
		{name: "one of two", answers: map[string]Hello{"b:1": knows("b:1", all)}},
		{name: "all agree", answers: map[string]Hello{"b:1": knows("b:1", all), "c:1": knows("c:1", all)}, want: all},
		{name: "one does not know all yet", answers: map[string]Hello{"b:1": knows("b:1", all), "c:1": knows("c:1", map[string]uint64{"c:1": 30, "a:1": 10})}},
		{name: "one knows another node", answers: map[string]Hello{"b:1": knows("b:1", all), "c:1": knows("c:1", map[string]uint64{"a:1": 10, "b:1": 25, "c:1": 30})}},
		{name: "one has begun", answers: map[string]Hello{"c:1": begun(knows("c:1", all), all)}, want: all},
		{name: "one has begun with another id here", answers: map[string]Hello{"c:1": begun(knows("c:1", all), map[string]uint64{"a:1": 11, "b:1": 20, "c:1": 30})}},
		{name: "an address of another one", answers: map[string]Hello{"b:1": knows("b:1", all), "c:1": knows("b:1", all)}, missing: "c:1 (the node at b:1 answers there: list it once)"},
		{name: "an id twice", answers: map[string]Hello{
			"b:1": knows("b:1", map[string]uint64{"a:1": 10, "b:1": 20, "c:1": 20}),
			"c:1": knows("c:1", map[string]uint64{"a:1": 10, "b:1": 20, "c:1": 20}),
		}, missing: "c:1 (node 20 is there and at b:1: give each node an id of its own)"},
	} {
		m := newMeeting(Meeting{Own: "a:1", Addresses: slices.Clone(list)}, attendee{10, "disk of a:1"})
		name := func(id uint64) string { return fmt.Sprintf("node %d", id) }
		m.begins()
		for _, address := range []string{"b:1", "c:1"} {
			if h, answers := test.answers[address]; answers {
				m.heard(address, h)
			}
		}
		got := m.settled(name)
		if !maps.Equal(got, test.want) || (got == nil) != (test.want == nil) {
			t.Errorf("%s: the voters are %v, not %v", test.name, got, test.want)
		}
		if !strings.Contains(m.missing(), test.missing) {
			t.Errorf("%s: it waits for %s, not %s", test.name, m.missing(), test.missing)
		}
	}
}

// TestMeetingRefusals: what two nodes cannot agree on is a sentence to the one that asks.
func TestMeetingRefusals(t *testing.T) {
	name := func(id uint64) string { return fmt.Sprintf("node %d", id) }
	list := []string{"a:1", "b:1"}
	for _, test := range []struct {
		voters map[string]uint64
		asks   Hello
		says   string
		later  bool
	}{
		{asks: Hello{From: 20, Member: "b", Address: "b:1", Addresses: list}},
		{asks: Hello{From: 10, Member: "b", Address: "b:1", Addresses: list}, says: "node 10 is at a:1, too"},
		{asks: Hello{From: 10, Member: "a", Address: "b:1", Addresses: list}, says: "b:1 and a:1 are the same node"},
		{asks: Hello{From: 20, Member: "b", Address: "b:1", Addresses: []string{"b:1"}}, says: "have different lists, a:1,b:1 and b:1", later: true},
		{voters: map[string]uint64{"a:1": 10, "b:1": 20}, asks: Hello{From: 20, Member: "b", Address: "b:1", Addresses: []string{"b:1"}}, says: "have different lists"},
		{voters: map[string]uint64{"a:1": 10, "b:1": 20}, asks: Hello{From: 25, Member: "b", Address: "b:1", Addresses: list}, says: "node 20 was at b:1 when the quorum began, not node 25"},
		{voters: map[string]uint64{"a:1": 10, "b:1": 20}, asks: Hello{From: 20, Member: "b", Address: "b:1", Addresses: list}},
	} {
		m := newMeeting(Meeting{Own: "a:1", Addresses: list, Voters: test.voters}, attendee{10, "a"})
		if reason, later := m.refusal(test.asks, name); (reason == "") != (test.says == "") || !strings.Contains(reason, test.says) || later != test.later {
			t.Errorf("%+v: %q, %v", test.asks, reason, later)
		}
	}
}

// meets opens a member that knows its voters' addresses alone.
func (c *cluster) meets(id uint64, addresses ...string) *Node {
	c.meeting = &Meeting{Own: c.address[id], Addresses: addresses, Agreed: func(map[string]uint64) error { return nil }}
	defer func() { c.meeting = nil }()
	return c.open(id, nil, 1<<20)
}

// TestMeet: nodes that start in any order, one of them twice, begin one quorum of all of them, and a node that comes once it has begun
// takes part in it.
func TestMeet(t *testing.T) {
	for seed := range uint64(8) {
		c := newCluster(t, 1, 2, 3)
		addresses := []string{c.address[1], c.address[2], c.address[3]}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		order := rand.New(rand.NewPCG(seed, 0)).Perm(3)
		met := make(chan error, 3)
		for i, at := range order {
			id := uint64(at + 1)
			n := c.meets(id, addresses...)
			if i == 0 { // and again
				short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
				if err := n.Meet(short, func(func() string) {}); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("one of three nodes meets: %v", err)
				}
				stop()
				c.stop(id)
				n = c.meets(id, addresses...)
			}
			go func() {
				err := n.Meet(ctx, func(func() string) {})
				if err == nil {
					err = n.Start()
				}
				met <- err
			}()
			time.Sleep(time.Duration(seed) * time.Millisecond)
		}
		for range 3 {
			if err := <-met; err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		c.add(1)
		c.agree(1)
		for id, n := range c.nodes {
			if !slices.Equal(slices.Sorted(slices.Values(n.Voters())), []uint64{1, 2, 3}) {
				t.Errorf("node %d has the voters %v", id, n.Voters())
			}
		}
		cancel()
		for _, id := range c.voters {
			c.stop(id)
		}
	}
}

// TestMeetTwins: of two nodes with one id the one that starts later ends, and the other goes on waiting.
func TestMeetTwins(t *testing.T) {
	c := newCluster(t, 1, 2, 3)
	addresses := []string{c.address[1], c.address[2], c.address[3]}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	first := c.meets(1, addresses...)
	waits := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		waits <- first.Meet(ctx, func(func() string) {
			select {
			case started <- struct{}{}:
			default:
			}
		})
	}()
	<-started
	twin := newCluster(t, 1)
	twin.address[1] = c.address[2]
	err := twin.meets(1, addresses...).Meet(ctx, func(func() string) {})
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Reason, "is at "+c.address[1]+", too") {
		t.Errorf("a second node with an id: %v", err)
	}
	twin.stop(1)
	select {
	case err := <-waits:
		t.Errorf("the first node ends: %v", err)
	default:
	}
	cancel()
	<-waits
}
