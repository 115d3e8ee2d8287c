//go:build unix

package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

// lone is a node by its own flags, on free ports.
type lone struct {
	*harness.Kraft
	id         int
	controller string // host:port of its controller listener
}

func newLone(t *testing.T, id int, args ...string) *lone {
	t.Helper()
	var ports [2]int
	for i := range ports {
		var err error
		if ports[i], err = freeport.Get(); err != nil {
			t.Fatal(err)
		}
	}
	n := &lone{id: id, controller: fmt.Sprintf("localhost:%d", ports[1])}
	data := filepath.Join(t.TempDir(), "data")
	n.Kraft = harness.Node(fmt.Sprintf("localhost:%d", ports[0]), data, append([]string{"--node-id", fmt.Sprint(id), "--data", data,
		"--listeners", fmt.Sprintf("PLAINTEXT://localhost:%d", ports[0])}, args...)...)
	t.Cleanup(func() {
		if n.Process != nil {
			n.Kill()
		}
	})
	return n
}

// peer is how --peers names the node.
func (n *lone) peer() string { return fmt.Sprintf("%d@%s", n.id, n.controller) }

// endsWith starts a node that is to end with a sentence.
func endsWith(t *testing.T, n *lone, sentence string, more ...string) {
	t.Helper()
	if err := n.StartWith(more...); err == nil || !strings.Contains(err.Error(), sentence) {
		t.Errorf("node %d with %v: %v", n.id, more, err)
		if err == nil {
			n.Kill()
		}
	}
}

// TestPeersThatDisagree: nodes that are started one after the other with different lists of voters are no cluster of one voter and
// two learners: the later ones end with a sentence.
func TestPeersThatDisagree(t *testing.T) {
	a, b := newLone(t, 1), newLone(t, 2)
	if err := a.StartWith("--peers", a.peer()); err != nil {
		t.Fatal(err)
	}
	endsWith(t, b, "but the first voters of this cluster are node 1", "--peers", a.peer()+","+b.peer())
	if err := b.StartWith("--join", a.controller); err != nil { // as the sentence says
		t.Error(err)
	}
}

// TestSettingsThatNameAnotherQuorum: a node whose data directory is of another quorum than its settings say ends with a sentence.
func TestSettingsThatNameAnotherQuorum(t *testing.T) {
	a, b, c := newLone(t, 1), newLone(t, 2), newLone(t, 3)
	for _, n := range []*lone{a, c} {
		if err := n.StartWith("--peers", n.peer()); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	endsWith(t, a, "kraft quorum add", "--peers", a.peer()+","+b.peer())
	endsWith(t, a, "this node created alone", "--join", c.controller)
	if err := a.StartWith("--peers", a.peer()); err != nil {
		t.Fatal(err)
	}
	// One node grows into two voters, as the sentence says.
	if err := b.StartWith("--join", a.controller); err != nil {
		t.Fatal(err)
	}
	if err := harness.Eventually(10*time.Second, func() error { _, err := a.TryCLI(t, "", "quorum", "add", "2"); return err }); err != nil {
		t.Fatal(err)
	}
	if err := b.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := b.StartWith("--join", a.controller); err != nil {
		t.Error(err)
	}
}

// TestJoinerStaysOnLoopback: a node whose listeners are on loopback opens no listener for the quorum to the network.
func TestJoinerStaysOnLoopback(t *testing.T) {
	harness.Need(t, "ss")
	a, b := newLone(t, 1), newLone(t, 2)
	if err := a.StartWith("--peers", a.peer()); err != nil {
		t.Fatal(err)
	}
	if err := b.StartWith("--join", a.controller); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ss", "-Hltnp").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, fmt.Sprintf("pid=%d,", b.Cmd.Process.Pid)) {
			continue
		}
		found++
		if local := strings.Fields(line)[3]; !strings.HasPrefix(local, "127.") && !strings.HasPrefix(local, "[::1]") {
			t.Errorf("it listens on %s", local)
		}
	}
	if found < 2 {
		t.Errorf("%d listeners in %s", found, out)
	}
}

// TestDeadVoterIsForgotten: a voter that is removed right after its process ended leaves no learner behind.
func TestDeadVoterIsForgotten(t *testing.T) {
	c := harness.NewCluster(t, 3)
	c.Nodes[2].Kill()
	if err := harness.Eventually(5*time.Second, func() error { _, err := c.Nodes[0].TryCLI(t, "", "quorum", "remove", "3"); return err }); err != nil {
		t.Fatal(err)
	}
	if err := harness.Eventually(5*time.Second, func() error {
		if out := c.Nodes[0].CLI(t, "", "quorum", "status"); strings.Contains(out, "\n3 ") {
			return fmt.Errorf("node 3 is still there:\n%s", out)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestLostDiskIsReplaced follows docs/operating.md.
func TestLostDiskIsReplaced(t *testing.T) {
	c := harness.NewCluster(t, 3)
	all := c.Bootstrap()
	c.Nodes[0].CLI(t, "", "topic", "create", "t", "-r", "3")
	leaders(t, all, "t", 3)
	c.Nodes[0].CLI(t, "one\n", "produce", "t")
	k := c.Nodes[2]
	k.Kill()
	wipe(t, k.Data)
	if err := harness.Eventually(5*time.Second, func() error { _, err := c.Nodes[0].TryCLI(t, "", "quorum", "remove", "3"); return err }); err != nil {
		t.Fatal(err)
	}
	n := newLone(t, 3)
	if err := n.StartWith("--join", c.Controllers()[0], "--accept-lost-directories"); err != nil {
		t.Fatal(err)
	}
	leaders(t, all[:2], "t", 3)
	if err := harness.Eventually(10*time.Second, func() error { _, err := c.Nodes[0].TryCLI(t, "", "quorum", "add", "3"); return err }); err != nil {
		t.Error(err)
	}
}
