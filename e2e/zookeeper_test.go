package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

// oldNode is a node by a file of the ZooKeeper days.
type oldNode struct {
	*harness.Kraft
	file string
	text string // the file's, up to the list of zookeeper.connect
}

// byZooKeeper writes the file of a node and returns it, not started.
func byZooKeeper(t *testing.T, dir string, id int, list string) *oldNode {
	t.Helper()
	port, err := freeport.Get()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, fmt.Sprintf("server-%d-%d.properties", id, port))
	n := &oldNode{Kraft: harness.Node(fmt.Sprintf("localhost:%d", port), dir, "server", file), file: file}
	n.text = fmt.Sprintf("broker.id=%d\nport=%d\nhost.name=localhost\nlog.dirs=%s\nzookeeper.connect=", id, port, filepath.Join(dir, fmt.Sprint(port)))
	n.lists(t, list)
	return n
}

// lists gives the node's file another list.
func (n *oldNode) lists(t *testing.T, list string) {
	t.Helper()
	if err := os.WriteFile(n.file, []byte(n.text+list+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start starts the node, perhaps with options beside its file, and does not wait for it.
func (n *oldNode) start(t *testing.T, options ...string) {
	t.Helper()
	if err := n.Begin(options...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Kill)
}

func (n *oldNode) serves(t *testing.T) {
	t.Helper()
	if err := n.Ready(); err != nil {
		t.Fatalf("%s: %v", n.file, err)
	}
}

// ends waits until the node has ended, and returns what it said.
func (n *oldNode) ends(t *testing.T) string {
	t.Helper()
	if err := n.Wait(30 * time.Second); err == nil {
		t.Fatalf("%s: it has not failed: %s", n.file, n.Output())
	}
	return n.Output()
}

// says waits until the node has said something.
func (n *oldNode) says(t *testing.T, text string) {
	t.Helper()
	if err := harness.Says(n, text, 10*time.Second); err != nil {
		t.Fatal(err)
	}
}

// seesRunning waits until the node lists so many brokers that run.
func (n *oldNode) seesRunning(t *testing.T, brokers int) {
	t.Helper()
	if err := harness.Eventually(10*time.Second, func() error {
		if out := n.CLI(t, "", "broker", "list"); strings.Count(out, "running") != brokers {
			return fmt.Errorf("%s: not %d brokers: %s", n.file, brokers, out)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestOneZooKeeper: of several brokers with one address the first is the voter, whichever that is, and the others join; so it stays when
// they start again in another order.
func TestOneZooKeeper(t *testing.T) {
	dir, list := t.TempDir(), freeAddress(t)
	var nodes []*oldNode
	for id := range 3 {
		nodes = append(nodes, byZooKeeper(t, dir, id, list+"/kafka"))
	}
	const first = 1
	for round, order := range [][]int{{first, 0, 2}, {2, 0, first}} { // the voter first, and last
		for _, i := range order {
			nodes[i].start(t)
			if round == 0 { // of nodes that start together any may be first
				nodes[i].serves(t)
			}
		}
		for _, n := range nodes {
			if round > 0 {
				n.serves(t)
			}
		}
		if out := nodes[0].CLI(t, "", "quorum", "status"); !strings.Contains(out, "leader "+fmt.Sprint(first)) || strings.Count(out, " learner ") != 2 {
			t.Errorf("not one voter, the node that was first, and two learners: %s", out)
		}
		nodes[0].seesRunning(t, 3)
		for _, n := range nodes {
			if err := n.Stop(20 * time.Second); err != nil {
				t.Errorf("%v: %s", err, n.Output())
			}
		}
	}
}

// TestZooKeeperListsDiffer: a node with another list has it said, and no second quorum begins; with the list of the others it takes part.
func TestZooKeeperListsDiffer(t *testing.T) {
	dir := t.TempDir()
	a, b, c := freeAddress(t), freeAddress(t), freeAddress(t)
	first, second := byZooKeeper(t, dir, 1, a+","+b), byZooKeeper(t, dir, 2, b+","+c+","+a)
	first.start(t)
	first.says(t, "waiting until the nodes at all addresses of the quorum have met: "+b)
	second.start(t)
	second.says(t, "have different lists")
	second.Kill()
	second.lists(t, b+","+a)
	second.start(t)
	first.serves(t)
	second.serves(t)
	if err := second.Stop(20 * time.Second); err != nil {
		t.Error(err)
	}
	second.lists(t, c) // nobody is to begin a cluster alone with this disk
	second.start(t)
	second.serves(t)
	if !strings.Contains(second.Output(), "the change has no effect: this node uses the addresses saved on its disk") {
		t.Errorf("another list: %s", second.Output())
	}
	twin := byZooKeeper(t, dir, 2, a+","+b)
	twin.start(t)
	if out := twin.ends(t); !strings.Contains(out, twin.file+": broker.id=2, zookeeper.connect="+a+","+b) || !strings.Contains(out, "another node with this one's node id is running") {
		t.Errorf("a second node 2: %s", out)
	}
}

// TestZooKeeperAfterPeers: a node whose metadata is of a quorum that --peers named does not begin another by zookeeper.connect.
func TestZooKeeperAfterPeers(t *testing.T) {
	dir := t.TempDir()
	a, b := freeAddress(t), freeAddress(t)
	nodes := []*oldNode{byZooKeeper(t, dir, 1, a), byZooKeeper(t, dir, 2, b)}
	peers := "1@" + a + ",2@" + b
	for _, n := range nodes {
		n.start(t, "--peers", peers)
	}
	for _, n := range nodes {
		n.serves(t)
	}
	for _, n := range nodes {
		if err := n.Stop(20 * time.Second); err != nil {
			t.Error(err)
		}
		n.start(t)
		if out := n.ends(t); !strings.Contains(out, "belongs to a quorum configured by other settings") {
			t.Errorf("it says %s", out)
		}
	}
	begun := byZooKeeper(t, dir, 3, a+","+b) // a quorum of --peers that never came about
	begun.start(t, "--peers", "3@"+a+",4@"+b)
	begun.says(t, "waiting for a majority")
	begun.Kill()
	begun.start(t)
	other := byZooKeeper(t, dir, 4, a+","+b)
	other.start(t)
	begun.serves(t)
	other.serves(t)
}

// TestRealZooKeeper: a node ends, and names the address, where a real ZooKeeper listens; so does a tool.
func TestRealZooKeeper(t *testing.T) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			word := make([]byte, 4)
			if _, err := bufio.NewReader(c).Read(word); err == nil && string(word) == "srvr" {
				_, _ = c.Write([]byte("Zookeeper version: 3.6.3--6401e4ad2087061bc6b9f80dec2d69f2e3c8660a, built on 04/08/2021 16:35 GMT\n"))
			}
			_ = c.Close()
		}
	}()
	n := byZooKeeper(t, t.TempDir(), 1, l.Addr().String())
	n.start(t)
	if out := n.ends(t); !strings.Contains(out, "a ZooKeeper server listens at "+l.Addr().String()) {
		t.Errorf("it says %s", out)
	}
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(bin, "kafka-topics", "--zookeeper", l.Addr().String(), "--list").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "a ZooKeeper listens at") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestZooKeeperOption: each script that once took ZooKeeper's address finds the brokers by it, and says so on stderr.
func TestZooKeeperOption(t *testing.T) {
	list := freeAddress(t)
	n := byZooKeeper(t, t.TempDir(), 1, list)
	n.start(t)
	n.serves(t)
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	election := filepath.Join(t.TempDir(), "election.json")
	if err := os.WriteFile(election, []byte(`{"partitions": [{"topic": "t", "partition": 0}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		command, says string
		fails         bool
	}{
		{"kafka-topics --zookeeper LIST/kafka --create --topic t --partitions 2 --replication-factor 1", "Created topic t.", false},
		{"kafka-topics --zookeeper LIST --alter --topic t --config retention.ms=1000", "Updated config for topic t.", false},
		{"kafka-topics --zookeeper LIST --describe --topics-with-overrides", "Topic: t", false},
		{"kafka-configs --zookeeper LIST --describe --entity-type topics --entity-name t", "retention.ms=1000", false},
		{"kafka-consumer-groups --zookeeper LIST --list", "", false},
		{"kafka-console-consumer --zookeeper LIST --topic t --from-beginning --timeout-ms 500", "", false},
		{"kafka-reassign-partitions --zookeeper LIST --list", "No partition reassignments found.", false},
		{"kafka-preferred-replica-election --zookeeper LIST --path-to-json-file " + election, "", false},
		{"kafka-leader-election --zookeeper LIST --election-type preferred --topic t --partition 0", "", false},
		{"kafka-acls --zookeeper LIST --list", "No Authorizer is configured on the broker", true},
		{"kafka-acls --authorizer-properties zookeeper.connect=LIST --list", "No Authorizer is configured on the broker", true},
	} {
		cmd := exec.Command(bin, strings.Fields(strings.ReplaceAll(step.command, "LIST", list))...)
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if !strings.Contains(said.String(), "the metadata quorum at "+list+" knows the brokers: --bootstrap-server "+n.Addr) {
			t.Errorf("%s: it does not say where it went: %v %s", step.command, err, said.String())
		}
		if (err != nil) != step.fails || !strings.Contains(string(out), step.says) {
			t.Errorf("%s: %v %s%s", step.command, err, out, said.String())
		}
	}
}
