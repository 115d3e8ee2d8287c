package harness

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Cluster is several kraft nodes on loopback, each its own process.
type Cluster struct {
	Nodes []*Kraft // node n+1 at n
	peers string
	args  []string
	dir   string
}

// NewCluster starts n voters, which are brokers too, and waits until all are ready. More arguments may follow.
func NewCluster(t testing.TB, n int, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{dir: t.TempDir(), args: args}
	var peers []string
	for i := range n {
		port, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, fmt.Sprintf("%d@localhost:%d", i+1, port))
	}
	c.peers = strings.Join(peers, ",")
	t.Cleanup(func() { c.end(t) })
	for i := range n {
		c.Nodes = append(c.Nodes, c.node(t, i+1, "--peers", c.peers))
	}
	if err := c.Start(c.Nodes...); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *Cluster) node(t testing.TB, id int, quorum ...string) *Kraft {
	t.Helper()
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(c.dir, fmt.Sprint(id))
	listeners := fmt.Sprintf("PLAINTEXT://localhost:%d", port)
	k := &Kraft{Data: dir, Addr: fmt.Sprintf("localhost:%d", port)}
	if quorum[0] == "--join" {
		if port, err = FreePort(); err != nil {
			t.Fatal(err)
		}
		listeners += fmt.Sprintf(",CONTROLLER://localhost:%d", port)
	}
	k.args = append([]string{"--node-id", fmt.Sprint(id), "--data", dir, "--listeners", listeners, "--log-level", "info"}, append(quorum, c.args...)...)
	return k
}

// Join starts one more node, which asks node 1's controller listener to be taken in.
func (c *Cluster) Join(t testing.TB, args ...string) *Kraft {
	t.Helper()
	_, first, _ := strings.Cut(strings.Split(c.peers, ",")[0], "@")
	k := c.node(t, len(c.Nodes)+1, append([]string{"--join", first}, args...)...)
	c.Nodes = append(c.Nodes, k)
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	return k
}

// Start starts nodes at the same time and waits until all are ready.
func (c *Cluster) Start(nodes ...*Kraft) error {
	errs := make(chan error, len(nodes))
	for _, k := range nodes {
		go func() { errs <- k.Start() }()
	}
	var failed error
	for range nodes {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	return failed
}

// Bootstrap is the addresses of all nodes.
func (c *Cluster) Bootstrap() []string {
	var out []string
	for _, k := range c.Nodes {
		out = append(out, k.Addr)
	}
	return out
}

func (c *Cluster) end(t testing.TB) {
	for i, k := range c.Nodes {
		if k.Process == nil {
			continue
		}
		select {
		case <-k.Done():
		default:
			if err := k.Stop(20 * time.Second); err != nil {
				t.Errorf("node %d did not stop cleanly: %v", i+1, err)
			}
		}
		if t.Failed() {
			t.Logf("node %d said:\n%s", i+1, k.Output())
		}
	}
}
