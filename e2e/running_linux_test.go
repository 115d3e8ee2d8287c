package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kraft/e2e/harness"
)

// TestNodesHere: kraft status, kraft stop and kafka-server-stop know nodes by the directories that they hold, and nothing else.
func TestNodesHere(t *testing.T) {
	built, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "kraft") // a program file of its own, so that other tests' nodes are left alone
	data, err := os.ReadFile(built)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bin, data, 0o755); err != nil {
		t.Fatal(err)
	}
	start := func(args ...string) *harness.Process {
		t.Helper()
		p, err := harness.Start(exec.Command(bin, args...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		return p
	}
	run := func(status int, says string, args ...string) string {
		t.Helper()
		cmd := exec.Command(bin, args...)
		cmd.Dir = dir
		return exits(t, cmd, status, says)
	}
	node := func(id int) (p *harness.Process, address, path string) {
		t.Helper()
		address, path = freeAddress(t), filepath.Join(dir, fmt.Sprint("data", id))
		p = start("--node-id", fmt.Sprint(id), "--data", path, "--listeners", "PLAINTEXT://"+address)
		ready(t, p)
		return p, address, path
	}
	run(1, "no node of this user runs on this machine", "status")
	run(1, "no node of this user runs on this machine", "stop")
	run(1, "[]", "status", "--json")

	one, address, path := node(1)
	run(0, "created topic server", "topic", "create", "server", "-b", address)
	consumer := start("consume", "server", "-b", address)
	perf := start("consume", "server", "--data", path, "-b", address) // whatever its words
	_ = perf.Wait(10 * time.Second)
	run(0, "1     serving  "+address, "status")
	run(0, path, "status", "--data", path)
	run(1, "no node 4 of this user", "stop", "--node-id", "4")
	run(0, fmt.Sprintf("stopped node 1 (process %d)", one.Cmd.Process.Pid), "stop")
	ended(t, one)
	one, _, _ = node(1)
	two, _, _ := node(2)
	run(2, "several nodes run here", "stop")
	run(2, "leave out --all", "stop", "--all", "--data", path)
	run(0, "stopped node 2", "stop", "--data", "data2")
	ended(t, two)
	if err := os.Symlink(bin, filepath.Join(dir, "kafka-server-stop")); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(filepath.Join(dir, "kafka-server-stop")).CombinedOutput(); err != nil {
		t.Errorf("kafka-server-stop: %v: %s", err, out)
	}
	ended(t, one)
	select {
	case <-consumer.Done():
		t.Errorf("a consumer was taken for a node: %s", consumer.Output())
	default:
	}

	dev := filepath.Join(dir, "dev")
	cluster := start("dev", "--port", "0", "--data", dev)
	ready(t, cluster)
	run(1, "kraft dev stop-broker 2 stops it alone", "stop", "--node-id", "2")
	if got := strings.Count(run(0, "(kraft dev)", "status"), "serving"); got != 3 {
		t.Errorf("%d brokers of a kraft dev", got)
	}
	run(0, "stop-broker 2: done", "dev", "stop-broker", "2", "--data", dev)
	if got := strings.Count(run(0, "(kraft dev)", "status"), "serving"); got != 2 {
		t.Errorf("%d brokers of a kraft dev, one stopped", got)
	}
	run(0, "stopped nodes 1, 3", "stop", "--data", dev)
	ended(t, cluster)

	killed, _, path := node(3)
	killed.Kill()
	run(1, "no node", "status")
	if _, err := os.Stat(filepath.Join(path, "kraft-running.json")); err != nil {
		t.Errorf("the test is wrong: %v", err)
	}
	damaged, _, path := node(4)
	if err := os.WriteFile(filepath.Join(path, "kraft-running.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(0, "?     unknown", "status", "--data", path)
	run(0, fmt.Sprintf("stopped node ? (process %d)", damaged.Cmd.Process.Pid), "stop", "--data", path)
	ended(t, damaged)
}

func ready(t *testing.T, p *harness.Process) {
	t.Helper()
	if err := harness.Says(p, "is ready at", 20*time.Second); err != nil {
		t.Fatal(err)
	}
}

func ended(t *testing.T, p *harness.Process) {
	t.Helper()
	if err := p.Wait(20 * time.Second); err != nil {
		t.Errorf("%v: %s", err, p.Output())
	}
}
