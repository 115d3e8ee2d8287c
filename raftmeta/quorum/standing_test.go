package quorum

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
)

// TestOlderDiskIsRefused: a member that starts with a copy of its disk from before does not take part, whatever the copy lacks; with
// its newest disk it does.
func TestOlderDiskIsRefused(t *testing.T) {
	for _, test := range []struct {
		name, says string
		since      func(c *cluster, id uint64) // what happens between the copy and the node's end
	}{
		{"entries", "ends with entry", func(c *cluster, _ uint64) { c.add(1) }},
		{"a term", "is of term", func(c *cluster, id uint64) {
			c.crash(id%3 + 1)
			c.crash((id+1)%3 + 1)
			c.start(id%3+1, c.voters, 1<<20)
			c.start((id+1)%3+1, c.voters, 1<<20)
			c.add(1)
		}},
		{"a start", "start 2 of its metadata, and this member has seen 2", func(c *cluster, id uint64) {
			c.stop(id)
			c.start(id, c.voters, 1<<20)
			c.add(1)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, 1, 2, 3)
			for _, id := range c.voters {
				c.start(id, c.voters, 1<<20)
			}
			c.add(1)
			c.agree(1)
			id := c.leader()%3 + 1
			path := c.nodes[id].config.Path
			older := path + ".older"
			copyFile(t, path, older) // nothing is written at the moment
			test.since(c, id)
			c.agree(2)
			knows := c.leader()
			for ; knows == id; knows = c.leader() { // as it may after others' crash
				c.nodes[id].HandOver()
			}
			c.sees(knows, id)
			c.stop(id)
			newest := path + ".newest"
			copyFile(t, path, newest)
			copyFile(t, older, path)
			third := 1 + 2 + 3 - id - knows
			var refused *RefusedError
			for range 3 { // a service manager does not give up
				n := c.open(id, c.voters, 1<<20)
				// Who knows nothing of it and connects meanwhile is not to remember this start.
				conn, _, err := c.nodes[third].net.connect(context.Background(), c.address[id], messagesStream, id)
				if err == nil {
					_ = conn.Close()
				}
				err = n.Start()
				if !errors.As(err, &refused) || !refused.Older || !strings.Contains(err.Error(), test.says) {
					t.Fatalf("a node with an older disk: %v", err)
				}
				c.stop(id)
			}

			// Where nobody is there to ask, it stops when somebody is.
			c.stop(knows)
			c.stop(third)
			copyFile(t, older, path)
			n := c.start(id, c.voters, 1<<20)
			c.start(knows, c.voters, 1<<20)
			select {
			case <-n.Done():
				if !errors.As(n.Err(), &refused) || !strings.Contains(refused.Reason, test.says) {
					t.Errorf("it stopped for another reason: %v", n.Err())
				}
			case <-time.After(10 * time.Second):
				t.Fatal("it goes on with an older disk")
			}
			c.stop(id)
			c.start(third, c.voters, 1<<20)
			c.leader()

			if test.name == "a start" { // where the newest is lost, somebody may decide that the older one counts
				copyFile(t, older, path)
				c.insists = map[uint64]bool{id: true}
				c.start(id, c.voters, 1<<20)
				c.insists = nil
				c.add(1)
				c.agree(3)
				c.stop(id)
			} else {
				copyFile(t, newest, path)
			}
			c.start(id, c.voters, 1<<20)
			total, _, _ := c.sums[knows].state()
			c.add(1)
			c.agree(total + 1)
		})
	}
}

// TestOlderDiskOfTheOnlyVoter: learners refuse a quorum's only voter with an older disk.
func TestOlderDiskOfTheOnlyVoter(t *testing.T) {
	c := newCluster(t, 1, 2)
	for _, id := range c.voters {
		c.start(id, c.voters, 100)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for c.leader() != 1 {
		c.nodes[2].HandOver()
	}
	c.add(1)
	if err := c.nodes[1].ChangeMember(ctx, 2, pb.ConfChangeAddLearnerNode); err != nil {
		t.Fatal(err)
	}
	const entries = 50 // until a snapshot has the new membership: before, the first voters are asked
	for range entries {
		c.add(1)
	}
	c.agree(1 + entries)
	path := c.nodes[1].config.Path
	older := path + ".older"
	copyFile(t, path, older) // nothing is written at the moment
	for range entries {
		c.add(1)
	}
	c.agree(1 + 2*entries)
	c.stop(1)
	copyFile(t, older, path)
	n := c.open(1, c.voters, 100)
	n.net.network.Seeds = nil
	var refused *RefusedError
	if err := n.Start(); !errors.As(err, &refused) || !refused.Older {
		t.Errorf("a quorum's only voter with an older disk: %v", err)
	}
	c.stop(1)
}

// sees waits until a leader knows that a member has all that is committed.
func (c *cluster) sees(leader, id uint64) {
	c.t.Helper()
	st := c.nodes[leader].store.standings
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		s, err := c.nodes[leader].Status(context.Background())
		if err != nil {
			c.t.Fatal(err)
		}
		st.mu.Lock()
		seen := st.seen[id]
		st.mu.Unlock()
		if seen.Term == s.Term && seen.Index == s.Commit {
			return
		}
	}
	c.t.Fatalf("%d has not seen all of %d", leader, id)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err == nil {
		_, err = io.Copy(dst, src)
	}
	if err == nil {
		err = dst.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestNewestDiskAfterAnOlderOne: a member that has met an older disk in good faith takes the newest one, not the older one again.
func TestNewestDiskAfterAnOlderOne(t *testing.T) {
	first := Hello{From: 5, Member: "m", Starts: 1, Life: "first", Term: 2, Index: 70}
	older := Hello{From: 5, Member: "m", Starts: 2, Life: "older", Term: 2, Index: 70, SaysBegun: true, BegunTerm: 2, BegunIndex: 70}
	silent, voted, empty, unsaid := older, older, older, older
	unsaid.SaysBegun = false
	silent.SaysBegun, silent.BegunTerm, silent.BegunIndex = false, 0, 0
	empty.BegunTerm, empty.BegunIndex = 0, 0
	voted.Term = 9
	for _, test := range []struct {
		name string
		met  Hello // after first
		h    Hello
		says string // "" where h is welcome
	}{
		{"the newest", older, Hello{Starts: 2, Term: 2, Index: 172, BegunTerm: 2, BegunIndex: 172}, ""},
		{"the newest of a later term", older, Hello{Starts: 2, Term: 3, Index: 71, BegunTerm: 3, BegunIndex: 70}, ""},
		{"the newest without an entry that was acknowledged", older, Hello{Starts: 2, Term: 3, Index: 69, BegunTerm: 3, BegunIndex: 69}, "ends with entry"},
		{"the newest before a term that was voted in", voted, Hello{Starts: 2, Term: 3, Index: 172, BegunTerm: 3, BegunIndex: 172}, "is of term"},
		{"the older one again", older, Hello{Starts: 2, Term: 2, Index: 70, BegunTerm: 2, BegunIndex: 70}, "start 2"},
		{"the older one, which has grown", older, Hello{Starts: 2, Term: 2, Index: 90, BegunTerm: 2, BegunIndex: 70}, "start 2"},
		{"one of fewer starts", older, Hello{Starts: 1, Term: 2, Index: 90, BegunTerm: 2, BegunIndex: 90}, "start 1"},
		{"the newest after a copy without entries", empty, Hello{Starts: 2, Term: 2, Index: 172, BegunTerm: 2, BegunIndex: 172}, ""},
		{"a copy without entries again", empty, Hello{Starts: 2, Term: 2, Index: 172}, "start 2"},
		{"the newest after one that an earlier version remembered", unsaid, Hello{Starts: 2, Term: 2, Index: 172, BegunTerm: 2, BegunIndex: 172}, ""},
		{"a seen one that did not say where it began", silent, Hello{Starts: 2, Term: 2, Index: 172, BegunTerm: 2, BegunIndex: 172}, "start 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			st, err := openStore(filepath.Join(t.TempDir(), "quorum.db"), []uint64{1, 2, 3}, false)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = st.close() }()
			s := st.standings
			for _, h := range []Hello{first, test.met} {
				if err := errors.Join(s.check(h), s.meet(h)); err != nil {
					t.Fatal(err)
				}
				s.saw(h.From, h.Life, h.Term, h.Index)
			}
			test.h.From, test.h.Member, test.h.Life = 5, "m", "next"
			err = s.check(test.h)
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("%v, not %q", err, test.says)
			}
		})
	}
}
