package harness

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kraft/internal/freeport"
)

// Cluster is several kraft nodes on loopback, each its own process.
type Cluster struct {
	Nodes []*Kraft // node n+1 at n
	peers string
	args  []string
	dir   string
}

// NewCluster is StartCluster for a test: it fails the test on an error, and stops the nodes at the end.
func NewCluster(t testing.TB, n int, args ...string) *Cluster {
	t.Helper()
	c, err := StartCluster(t.TempDir(), n, args...)
	if c != nil {
		t.Cleanup(func() { c.end(t) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// StartCluster starts n voters, which are brokers too, in directories below dir, and waits until all are ready.
// More arguments may follow; {id} in them is the node's id.
func StartCluster(dir string, n int, args ...string) (*Cluster, error) {
	c := &Cluster{dir: dir, args: args}
	var peers []string
	for i := range n {
		port, err := freeport.Get()
		if err != nil {
			return nil, err
		}
		peers = append(peers, fmt.Sprintf("%d@localhost:%d", i+1, port))
	}
	c.peers = strings.Join(peers, ",")
	for i := range n {
		k, err := c.node(i+1, "--peers", c.peers)
		if err != nil {
			return nil, err
		}
		c.Nodes = append(c.Nodes, k)
	}
	return c, c.Start(c.Nodes...)
}

func (c *Cluster) node(id int, quorum ...string) (*Kraft, error) {
	port, err := freeport.Get()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(c.dir, fmt.Sprint(id))
	listeners := fmt.Sprintf("PLAINTEXT://localhost:%d", port)
	k := &Kraft{Data: dir, Addr: fmt.Sprintf("localhost:%d", port)}
	if quorum[0] == "--join" {
		if port, err = freeport.Get(); err != nil {
			return nil, err
		}
		listeners += fmt.Sprintf(",CONTROLLER://localhost:%d", port)
	}
	k.args = append([]string{"--node-id", fmt.Sprint(id), "--data", dir, "--listeners", listeners, "--log-level", "info"}, quorum...)
	for _, a := range c.args {
		k.args = append(k.args, strings.ReplaceAll(a, "{id}", fmt.Sprint(id)))
	}
	return k, nil
}

// Join starts one more node, which asks node 1's controller listener to be taken in.
func (c *Cluster) Join(t testing.TB, args ...string) *Kraft {
	t.Helper()
	_, first, _ := strings.Cut(strings.Split(c.peers, ",")[0], "@")
	k, err := c.node(len(c.Nodes)+1, append([]string{"--join", first}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
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

// Controllers are the controller listeners of the first nodes, as host:port.
func (c *Cluster) Controllers() (out []string) {
	for _, peer := range strings.Split(c.peers, ",") {
		_, address, _ := strings.Cut(peer, "@")
		out = append(out, address)
	}
	return out
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
