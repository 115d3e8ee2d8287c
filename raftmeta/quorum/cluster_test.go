package quorum

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	pb "go.etcd.io/raft/v3/raftpb"

	"kraft/internal/freeport"
)

// cluster is a quorum on loopback. The addresses of its members stay when they stop.
type cluster struct {
	t       *testing.T
	dir     string
	nodes   map[uint64]*Node
	sums    map[uint64]*sum
	doors   map[uint64]net.Listener
	address map[uint64]string
	voters  []uint64
	insists map[uint64]bool // who is started to be taken with an older disk
	meeting *Meeting        // of the next node that is opened
	dialled func(from uint64, address string)

	mu      sync.Mutex
	names   map[uint64]string // what each takes the cluster to be
	members map[uint64]string // the members that all know
	serving sync.WaitGroup
}

func newCluster(t *testing.T, voters ...uint64) *cluster {
	c := &cluster{t: t, dir: t.TempDir(), nodes: map[uint64]*Node{}, sums: map[uint64]*sum{}, doors: map[uint64]net.Listener{},
		address: map[uint64]string{}, voters: voters, names: map[uint64]string{}, members: map[uint64]string{}}
	for _, id := range voters {
		c.reserve(id)
	}
	t.Cleanup(func() {
		for id := range c.nodes {
			c.stop(id)
		}
		c.serving.Wait()
	})
	return c
}

func (c *cluster) reserve(id uint64) {
	port, err := freeport.Get()
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.address[id] = fmt.Sprintf("127.0.0.1:%d", port)
	c.mu.Unlock()
}

func (c *cluster) start(id uint64, voters []uint64, snapshotBytes int64) *Node {
	c.t.Helper()
	n := c.open(id, voters, snapshotBytes)
	if len(voters) > 0 {
		if err := n.Start(); err != nil {
			c.t.Fatal(err)
		}
	}
	return n
}

// open is start without Start.
func (c *cluster) open(id uint64, voters []uint64, snapshotBytes int64) *Node {
	c.t.Helper()
	m := newSum()
	var n *Node
	network := &Network{
		Listens: c.address[id] != "",
		Seeds:   []string{c.address[1], c.address[2]},
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			if c.dialled != nil {
				c.dialled(id, address)
			}
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
		Address: func(id uint64) string {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, v := range c.voters { // others are learnt of
				if v == id && n.net.network.Listens {
					return c.address[id]
				}
			}
			return ""
		},
		Hello: func() Hello {
			c.mu.Lock()
			defer c.mu.Unlock()
			return Hello{Cluster: c.names[id], Member: n.Member(), Address: c.address[id]}
		},
		Check: func(h Hello) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if mine := c.names[id]; mine != "" && h.Cluster != "" && mine != h.Cluster {
				return fmt.Errorf("cluster %s, not %s", mine, h.Cluster)
			}
			if known := c.members[h.From]; known != "" && known != h.Member {
				return errors.New("another disk")
			}
			return nil
		},
	}
	var err error
	if n, err = Open(Config{ID: id, Path: filepath.Join(c.dir, fmt.Sprint(id)), Voters: voters, Tick: 10 * time.Millisecond,
		Meeting: c.meeting, SnapshotBytes: snapshotBytes, AcceptOlder: c.insists[id], Log: zerolog.Nop(), Network: network}, m); err != nil {
		c.t.Fatal(err)
	}
	c.nodes[id], c.sums[id] = n, m
	if network.Listens {
		c.serve(id, n)
	}
	return n
}

func (c *cluster) serve(id uint64, n *Node) {
	c.t.Helper()
	door, err := net.Listen("tcp", c.address[id])
	if err != nil {
		c.t.Fatal(err)
	}
	c.doors[id] = door
	c.serving.Go(func() {
		for {
			conn, err := door.Accept()
			if err != nil {
				return
			}
			c.serving.Go(func() {
				r := bufio.NewReader(conn)
				if b := make([]byte, len(Preface)); readPreface(r, b) == nil {
					n.Accept(conn, r)
				}
				_ = conn.Close()
			})
		}
	})
}

func readPreface(r io.Reader, b []byte) error {
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	if string(b) != Preface {
		return errors.New("no preface")
	}
	return nil
}

func (c *cluster) stop(id uint64) {
	n := c.nodes[id]
	delete(c.nodes, id)
	if door := c.doors[id]; door != nil {
		_ = door.Close()
	}
	if err := n.Close(); err != nil {
		c.t.Error(err)
	}
}

// crash stops a node without handing over.
func (c *cluster) crash(id uint64) {
	n := c.nodes[id]
	n.closing.Do(func() { close(n.stop) })
	c.stop(id)
}

// leader waits for a member that leads and that all others follow.
func (c *cluster) leader() uint64 {
	c.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		agreed := map[uint64]int{}
		for _, n := range c.nodes {
			s, err := n.Status(context.Background())
			if err != nil {
				c.t.Fatal(err)
			}
			agreed[s.Leader]++
		}
		for id, count := range agreed {
			if count == len(c.nodes) && c.nodes[id] != nil {
				return id
			}
		}
	}
	c.t.Fatal("no leader")
	return 0
}

// add proposes on whoever leads until it is taken.
func (c *cluster) add(v uint64) {
	c.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		failed := make(chan error, 1)
		n := c.nodes[c.leader()]
		if err := n.Do(context.Background(), func(propose func([]byte) error) {
			failed <- propose([]byte{0, 0, 0, 0, 0, 0, 0, byte(v)})
		}); err != nil {
			continue
		}
		if <-failed == nil {
			return
		}
	}
	c.t.Fatal("nobody takes proposals")
}

func (c *cluster) agree(total uint64) {
	c.t.Helper()
	for id := range c.nodes {
		waitFor(c.t, c.sums[id], total)
	}
}

// TestFailover: entries reach all members; a leader whose process ends is replaced in far less than an
// election timeout, and one that stops hands over; who was away catches up, by a snapshot if it must.
func TestFailover(t *testing.T) {
	c := newCluster(t, 1, 2, 3)
	for _, id := range c.voters {
		c.start(id, c.voters, 200)
	}
	c.add(1)
	c.agree(1)
	first := c.leader()
	begun := time.Now()
	c.crash(first)
	second := c.leader()
	if took := time.Since(begun); took > 2*electionTicks*10*time.Millisecond {
		t.Errorf("a new leader after %v", took)
	}
	for range 500 {
		c.add(1)
	}
	c.agree(501)
	c.start(first, c.voters, 200)
	c.agree(501)
	if _, _, restored := c.sums[first].state(); restored == 0 {
		t.Log("caught up by entries")
	}
	begun = time.Now()
	c.stop(second)
	c.leader()
	if took := time.Since(begun); took > electionTicks*10*time.Millisecond {
		t.Errorf("handed over after %v", took)
	}
	c.add(1)
	c.agree(502)
}

// TestReturn: a member that was away is connected to when it has opened a stream itself, not when the pause between two tries is over.
func TestReturn(t *testing.T) {
	c := newCluster(t, 1, 2, 3)
	const away, peer = 1, 2
	tries := make(chan time.Time, 1000)
	c.dialled = func(from uint64, address string) {
		if from == peer && address == c.address[away] {
			tries <- time.Now()
		}
	}
	for _, id := range c.voters {
		c.start(id, c.voters, 200)
	}
	for range 5 { // starting it may take as long as a pause on a busy machine
		c.add(1)
		c.leader()
		c.crash(away)
		for len(tries) > 0 {
			<-tries // of before
		}
		last := <-tries
		for pause := time.Duration(0); pause < lastRetry; {
			c.add(1) // there is something for it
			select {
			case next := <-tries:
				last, pause = next, next.Sub(last)
			case <-time.After(firstRetry):
			}
		}
		c.start(away, c.voters, 200)
		if took := (<-tries).Sub(last); took < lastRetry*4/5 {
			return
		}
	}
	t.Errorf("it was connected to after the pause of %v each time", lastRetry)
}

// TestJoin: a node that joins becomes a learner, gets everything by a snapshot, stays one after a restart,
// and becomes a voter when it is told to.
func TestJoin(t *testing.T) {
	c := newCluster(t, 1, 2, 3)
	for _, id := range c.voters {
		c.start(id, c.voters, 100)
	}
	const total = 50
	for range total {
		c.add(1)
	}
	c.agree(total)
	c.reserve(4)
	follower := c.leader()%3 + 1 // it tells where the leader is
	n := c.start(4, nil, 100)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.Start(); err == nil {
		t.Error("started without a quorum")
	}
	join := func(addresses ...string) {
		t.Helper()
		if err := n.Join(ctx, addresses, func(func() string) {}); err != nil {
			t.Fatal(err)
		}
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	join("127.0.0.1:1", c.address[follower])
	c.agree(total)
	if len(n.Voters()) != 3 {
		t.Errorf("voters %v", n.Voters())
	}
	c.stop(4)
	c.add(1)
	n = c.start(4, nil, 100)
	join()
	c.agree(total + 1)
	leader := c.nodes[c.leader()]
	if err := leader.ChangeMember(ctx, 4, pb.ConfChangeAddNode); err != nil {
		t.Fatal(err)
	}
	if err := n.ChangeMember(ctx, 1, pb.ConfChangeRemoveNode); !errors.Is(err, ErrNotLeader) && n.ID() != c.leader() {
		t.Errorf("a follower changes the membership: %v", err)
	}
	s, err := leader.Status(ctx)
	if err != nil || len(s.Members) != 4 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestJoinWithoutLeader: a node that asks while there is no leader is not turned away for good, and joins when there is one.
func TestJoinWithoutLeader(t *testing.T) {
	c := newCluster(t, 1, 2, 3)
	c.start(1, c.voters, 100)
	c.reserve(4)
	n := c.start(4, nil, 100)
	// What it is told now: it would end by another refusal.
	var refused *RefusedError
	if _, err := n.ask(c.address[1]); !errors.As(err, &refused) || !refused.Later {
		t.Fatalf("a quorum without a leader says %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	joined := make(chan error, 1)
	go func() { joined <- n.Join(ctx, []string{c.address[1]}, func(func() string) {}) }()
	c.start(2, c.voters, 100)
	c.start(3, c.voters, 100)
	if err := <-joined; err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	c.add(1)
	c.agree(1)
}

// TestRemovedNodeReturns: a voter that was removed while it was away is a learner when it comes back, and may be a voter again.
func TestRemovedNodeReturns(t *testing.T) {
	c := newCluster(t, 1, 2, 3)
	for _, id := range c.voters {
		c.start(id, c.voters, 100)
	}
	c.add(1)
	c.agree(1)
	away := c.leader()%3 + 1
	c.stop(away)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	change := func(kind pb.ConfChangeType) {
		t.Helper()
		if err := c.nodes[c.leader()].ChangeMember(ctx, away, kind); err != nil {
			t.Fatal(err)
		}
	}
	change(pb.ConfChangeRemoveNode)
	for range 20 {
		c.add(1)
	}
	back := c.start(away, c.voters, 100)
	c.agree(21)
	if voters := back.Voters(); len(voters) != 2 || slices.Contains(voters, away) {
		t.Errorf("voters %v", voters)
	}
	change(pb.ConfChangeAddNode)
	c.add(1)
	c.agree(22)
	if voters := c.nodes[c.leader()].Voters(); len(voters) != 3 {
		t.Errorf("voters %v", voters)
	}
}

// TestMembersOutliveProcesses: a member that has applied a change of members knows after a crash that it is committed. Otherwise it
// would run for election, and count votes, by the members of before.
func TestMembersOutliveProcesses(t *testing.T) {
	c := newCluster(t, 1, 2, 3)
	for _, id := range c.voters {
		c.start(id, c.voters, 1<<20)
	}
	c.add(1)
	c.agree(1)
	leader := c.leader()
	other := leader%3 + 1
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.nodes[leader].ChangeMember(ctx, other, pb.ConfChangeAddLearnerNode); err != nil {
		t.Fatal(err)
	}
	path := c.nodes[leader].config.Path
	c.crash(leader)
	st, err := openStore(path, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	defer st.close()
	hard, _, err := st.InitialState()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := st.Entries(1, hard.GetCommit()+1, 1<<20)
	if err != nil || !slices.ContainsFunc(entries, func(e *pb.Entry) bool { return e.GetType() != pb.EntryNormal }) {
		t.Errorf("the log is known to be committed up to %d, without the change of members: %v", hard.GetCommit(), err)
	}
}

// TestLearnerThatDoesNotListen: such a member is reached by the streams that it opens, whoever leads, and gets its
// snapshots by them.
func TestLearnerThatDoesNotListen(t *testing.T) {
	c := newCluster(t, 1, 2, 3)
	for _, id := range c.voters {
		c.start(id, c.voters, 100)
	}
	total := uint64(0)
	add := func(n int) {
		t.Helper()
		for range n {
			c.add(1)
			total++
		}
	}
	begin := func(addresses ...string) {
		t.Helper()
		n := c.start(4, nil, 1<<20)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := n.Join(ctx, addresses, func(func() string) {}); err != nil {
			t.Fatal(err)
		}
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	add(20)
	c.agree(total)
	for _, id := range c.voters { // they have the snapshot only, from now on
		c.stop(id)
		c.start(id, c.voters, 100)
	}
	c.leader()
	begin(c.address[1], c.address[2])
	c.agree(total)
	if _, _, restored := c.sums[4].state(); restored == 0 {
		t.Error("no snapshot came")
	}
	for range 2 {
		first := c.leader()
		c.crash(first)
		add(1)
		c.agree(total)
		c.start(first, c.voters, 100)
		c.stop(4)
		add(1)
		begin()
		c.agree(total)
	}
}

// TestStrangersAreRefused: a node of another cluster or with another disk is told so and changes nothing.
func TestStrangersAreRefused(t *testing.T) {
	c := newCluster(t, 1, 2, 3)
	for _, id := range c.voters {
		c.mu.Lock() // members that have started look
		c.names[id] = "ours"
		c.mu.Unlock()
		c.start(id, c.voters, 1<<20)
	}
	c.add(1)
	c.agree(1)
	c.reserve(4)
	c.mu.Lock()
	c.names[4] = "theirs"
	c.mu.Unlock()
	n := c.start(4, nil, 1<<20)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := n.Join(ctx, []string{c.address[1]}, func(func() string) {})
	if err == nil || !strings.Contains(err.Error(), "cluster ours, not theirs") {
		t.Errorf("another cluster's node joins: %v", err)
	}
	c.stop(4)
	c.mu.Lock()
	c.members[2] = "the disk that it had"
	c.mu.Unlock()
	c.stop(2)
	n = c.start(2, c.voters, 1<<20)
	for deadline := time.Now().Add(10 * time.Second); n.Refused() == nil && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
	}
	if err := n.Refused(); err == nil || !strings.Contains(err.Error(), "another disk") {
		t.Errorf("a node with an empty disk: %v", err)
	}
	delete(c.nodes, 2)
	c.add(1)
	c.agree(2)
	c.nodes[2] = n
	if got, _, _ := c.sums[2].state(); got == 2 {
		t.Error("the refused node takes part")
	}
}

// TestStrangers: who pretends to be many nodes does not fill the memory of one.
func TestStrangers(t *testing.T) {
	c := newCluster(t, 1)
	n := c.start(1, []uint64{1}, 1<<20)
	for id := range uint64(5 * maxStrangers) {
		n.net.meet(Hello{From: 1000 + id, Address: "127.0.0.1:1", Member: "m"})
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if len(n.net.met) > maxStrangers+1 || len(n.net.learnt) > maxStrangers+1 {
		t.Errorf("%d nodes and %d addresses are remembered", len(n.net.met), len(n.net.learnt))
	}
}
