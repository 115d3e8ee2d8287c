package quorum

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
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
		{"a start", "start 2 of its metadata, and 2 was seen", func(c *cluster, id uint64) {
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
