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

// TestDevCluster: kraft dev says what it runs and how to use it, commands find it, nothing that is there is hidden, and q stops it.
func TestDevCluster(t *testing.T) {
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	env := append(os.Environ(), "KRAFT_CACHE="+dir, "KRAFT_PROFILES="+filepath.Join(dir, "profiles.json"))
	run := func(status int, says string, args ...string) string {
		t.Helper()
		cmd := exec.Command(bin, args...)
		cmd.Env = env
		return exits(t, cmd, status, says)
	}
	start := func(args ...string) *harness.Terminal {
		t.Helper()
		cmd := exec.Command(bin, append([]string{"dev"}, args...)...)
		cmd.Env = env
		term := harness.InTerminal(t, cmd)
		term.Await(t, 20*time.Second, func(screen string) bool { return strings.Contains(screen, "q, or Ctrl-C") })
		return term
	}
	stop := func(term *harness.Terminal, key string) {
		t.Helper()
		term.Type(key)
		if status := term.Exit(t, 20*time.Second); status != 0 {
			t.Errorf("%q: status %d: %s", key, status, term.Screen())
		}
	}
	topics := filepath.Join(dir, "topics.txt")
	if err := os.WriteFile(topics, []byte("# ours\npayments:2:1\n\nlogs  # one partition\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	term := start("--port", "0", "--topic", "orders:3", "--topics", topics)
	for _, says := range []string{"BROKER  ADDRESS", "topics              orders, payments, logs", "bootstrap.servers   localhost:", "export KRAFT_BOOTSTRAP_SERVER=localhost:", "kraft dev stop-broker 2"} {
		if !strings.Contains(term.Screen(), says) {
			t.Errorf("%q is not on the screen: %s", says, term.Screen())
		}
	}
	if out := run(0, "orders", "topic", "list"); strings.Join(strings.Fields(out), " ") != "TOPIC PARTITIONS REPLICAS logs 1 3 orders 3 3 payments 2 1" {
		t.Errorf("topics: %s", out)
	}
	run(1, "a kraft dev runs with its data in "+filepath.Join(dir, "dev"), "dev")
	run(1, "a kraft dev runs", "dev", "reset")
	run(2, `did you mean kraft dev stop-broker?`, "dev", "stop-brokr", "2")
	run(2, "takes one broker", "dev", "stop-broker")
	for _, id := range []string{"1", "2"} { // of two partitions without other replicas one is on each of two brokers
		if out := run(0, "stop-broker "+id+": done (", "dev", "stop-broker", id); strings.Contains(out, "without a leader") && !strings.Contains(out, "payments:") {
			t.Error(out)
		}
		run(0, "start-broker "+id+": done", "dev", "start-broker", id)
	}
	run(0, "localhost:", "dev", "snippet", "python")
	run(2, "there are go, java, kcat, node, python, rust, spring", "dev", "snippet", "perl")
	run(1, "no kraft dev runs with its data in "+filepath.Join(dir, "other"), "dev", "--data", filepath.Join(dir, "other"), "stop")
	run(1, "there is no data of a kraft dev in "+filepath.Join(dir, "other"), "dev", "--data", filepath.Join(dir, "other"), "reset")
	run(2, "kraft dev status has no option --fresh", "dev", "--fresh", "status")
	run(2, "--data needs a directory", "dev", "--data", "", "reset")
	run(0, "stop-broker 1: done", "dev", "stop-broker", "1")
	run(0, "stop-broker 2: done", "dev", "stop-broker", "2")
	run(1, "broker 3 is the last one that runs", "dev", "stop-broker", "3")
	run(0, "start-broker 2: done", "dev", "start-broker", "2")
	run(0, "start-broker 1: done", "dev", "start-broker", "1")
	stop(term, "q")
	if _, err := os.Stat(filepath.Join(dir, "dev.json")); err == nil {
		t.Error("something is left of it")
	}
	run(1, "no broker answers at localhost:9092", "topic", "list")

	for _, n := range []string{"1", "2", "5"} {
		run(2, "holds a cluster of 3 brokers: leave out --brokers to run it", "dev", "--brokers", n)
	}
	if _, err := os.Stat(filepath.Join(dir, "dev", "4")); err == nil {
		t.Error("a start that was refused left a directory")
	}
	run(2, "--brokers must be from 1 to 15", "dev", "--fresh", "--brokers", "0")
	term = start("--port", "0")
	run(0, "payments", "topic", "list")
	stop(term, "\x03")

	mine := filepath.Join(dir, "dev", "mine.txt")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(0, "removed the data of 3 brokers", "dev", "reset")
	term = start("--port", "0", "--brokers", "1", "--topic", "com.example.orders")
	run(0, "", "produce", "com.example.orders", "--file", topics)
	stop(term, "q")
	theirs := filepath.Join(dir, "dev", "node-18", "node-18.17.0")
	if err := os.MkdirAll(theirs, 0o755); err != nil {
		t.Fatal(err)
	}
	term = start("--port", "0", "--fresh", "--brokers", "1")
	if found, _ := filepath.Glob(filepath.Join(dir, "dev", "com.example.*")); len(found) > 0 {
		t.Errorf("--fresh leaves %v", found)
	}
	if out := run(0, "", "topic", "list"); strings.Contains(out, "orders") {
		t.Errorf("--fresh keeps topics: %s", out)
	}
	if err := exec.Command(bin, "dev", "snippet", "perl").Run(); err == nil {
		t.Error("no status")
	}
	run(0, "serving", "dev", "status")
	run(0, "stopped node 1 ", "dev", "stop")
	if status := term.Exit(t, 20*time.Second); status != 0 {
		t.Errorf("status %d: %s", status, term.Screen())
	}
	run(2, "holds a cluster of 1 broker", "dev", "--brokers", "3")
	run(0, "removed the data of 1 broker", "dev", "reset")
	run(1, "there is no data of a kraft dev", "dev", "reset")
	left, err := os.ReadDir(filepath.Join(dir, "dev"))
	if err != nil || len(left) != 2 || left[0].Name() != "mine.txt" || left[1].Name() != "node-18" {
		t.Errorf("reset leaves %v (%v)", left, err)
	}
	server := filepath.Join(dir, "server")
	node := exec.Command(bin, "--node-id", "1", "--data", server, "--listeners", "PLAINTEXT://"+freeAddress(t))
	p, err := harness.Start(node)
	if err != nil {
		t.Fatal(err)
	}
	ready(t, p)
	if err := p.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	run(1, "no kraft dev has run there: nothing has been removed", "dev", "reset", "--data", server)
	run(2, "cannot have 4 replicas: there are 3 brokers", "dev", "--topic", "a:1:4")
	run(2, "--port must be from 1 to 65533", "dev", "--port", "65534")
	for _, bad := range []string{"b@d", "..", strings.Repeat("x", 250)} {
		run(2, "is no topic's name", "dev", "--topic", bad)
	}
	for _, bad := range []string{"", ":3", "a:0", "a:x", "a:1:2:3", "a:1:0"} {
		run(2, "a topic is NAME[:PARTITIONS[:REPLICAS]]", "dev", "--topic", bad)
	}
	run(2, fmt.Sprintf("--topics: open %s", filepath.Join(dir, "none")), "dev", "--topics", filepath.Join(dir, "none"))
}
