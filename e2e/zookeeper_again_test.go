package e2e

import (
	"context"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"kraft/e2e/harness"
)

// TestZooKeeperOutage: after all nodes have stopped, the one that starts first says whom it waits for, and returns a script that starts it as
// a daemon; until then zkServer does not call it a follower.
func TestZooKeeperOutage(t *testing.T) {
	dir := t.TempDir()
	list := strings.Join([]string{freeAddress(t), freeAddress(t), freeAddress(t)}, ",")
	var nodes []*oldNode
	for id := range 3 {
		nodes = append(nodes, byZooKeeper(t, dir, id, list))
		nodes[id].start(t)
	}
	for _, n := range nodes {
		n.serves(t)
	}
	for _, n := range nodes {
		if err := n.Stop(20 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	first := nodes[0]
	first.start(t)
	first.says(t, "waiting for a majority of the metadata quorum: node ")
	if out, err := exec.Command(bin, "zkServer", "status").CombinedOutput(); err == nil && strings.Contains(string(out), "follower") {
		t.Errorf("a node that waits is said to follow: %s", out)
	}
	first.Kill()

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	daemon := exec.CommandContext(ctx, bin, "kafka-server-start", "-daemon", first.file)
	daemon.Dir = dir
	out, err := daemon.CombinedOutput()
	t.Cleanup(func() { _ = exec.Command(bin, "kafka-server-stop", "--node-id=0").Run() })
	if err != nil || !strings.Contains(string(out), "it is waiting for a majority of the metadata quorum: node ") {
		t.Errorf("%v: %s", err, out)
	}
	for _, n := range nodes[1:] {
		n.start(t)
	}
	for _, n := range nodes[1:] {
		n.serves(t)
	}
	nodes[1].seesRunning(t, 3)
}

// TestOneZooKeeperByManyNames: localhost, another address of the machine's own and its name are one ZooKeeper in the files of several nodes,
// and the nodes one cluster.
func TestOneZooKeeperByManyNames(t *testing.T) {
	dir, address := t.TempDir(), freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	var nodes []*oldNode
	for id, host := range []string{"localhost", "127.0.1.1", "127.0.0.1", name} {
		nodes = append(nodes, byZooKeeper(t, dir, id, net.JoinHostPort(host, port)+"/kafka"))
	}
	for range 2 {
		for _, n := range nodes {
			n.start(t)
			n.serves(t)
		}
		for _, n := range nodes {
			n.seesRunning(t, len(nodes))
		}
		if t.Failed() {
			return
		}
		for _, path := range []string{"/brokers/ids", "/kafka/brokers/ids", "/a/b/brokers/ids"} { // the chroot may be in the path
			if out := nodes[0].CLI(t, "", "zookeeper-shell", address, "ls", path); !strings.Contains(out, "[0, 1, 2, 3]") {
				t.Errorf("ls %s: %s", path, out)
			}
		}
		for _, n := range slices.Backward(nodes) {
			if err := n.Stop(20 * time.Second); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestZooKeeperAfterJoin: a node that joined by another setting goes on by its file, whose zookeeper.connect lists the quorum, unless it has
// become a voter.
func TestZooKeeperAfterJoin(t *testing.T) {
	dir, address := t.TempDir(), freeAddress(t)
	voter, joined := byZooKeeper(t, dir, 0, address), byZooKeeper(t, dir, 1, address)
	voter.start(t)
	voter.serves(t)
	listeners := "listeners=PLAINTEXT://" + joined.Addr + ",CONTROLLER://" + freeAddress(t)
	joined.start(t, "--join", address, "--override", listeners)
	joined.serves(t)
	if !strings.Contains(joined.Output(), "zookeeper.connect has no effect: controller.quorum.bootstrap.servers (--join) is given") {
		t.Errorf("it says %s", joined.Output())
	}
	if err := joined.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	joined.start(t)
	joined.serves(t)
	if err := joined.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	joined.start(t, "--join", address, "--override", listeners)
	joined.serves(t)
	voter.CLI(t, "", "quorum", "add", "1")
	if err := joined.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	joined.start(t)
	if out := joined.ends(t); !strings.Contains(out, "this node is a voter of the metadata quorum") {
		t.Errorf("it says %s", out)
	}
}
