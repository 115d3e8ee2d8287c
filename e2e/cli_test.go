package e2e

import (
	"context"
	"errors"
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

// refused runs kraft with arguments that it must refuse: status 1 and one sentence on stderr, which says
// all of want.
func refused(t *testing.T, change func(*exec.Cmd), args []string, want ...string) {
	t.Helper()
	refusedWith(t, 1, change, args, want...)
}

// badUse is refused for what is wrong in the arguments themselves: status 2.
func badUse(t *testing.T, args []string, want ...string) {
	t.Helper()
	refusedWith(t, 2, nil, args, want...)
}

func refusedWith(t *testing.T, status int, change func(*exec.Cmd), args []string, want ...string) {
	t.Helper()
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	if change != nil {
		change(cmd)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err = <-done:
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		t.Fatalf("kraft %v runs", args)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != status {
		t.Fatalf("kraft %v: %v, want exit status %d", args, err, status)
	}
	text := strings.TrimSpace(stderr.String())
	if strings.Count(text, "\n") > 0 {
		t.Errorf("kraft %v says more than one line:\n%s", args, text)
	}
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("kraft %v says %q, want %q in it", args, text, w)
		}
	}
}

func TestStartErrors(t *testing.T) {
	k := harness.NewKraft(t)
	free := func() string {
		port, err := freeport.Get()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(port)
	}
	_, port, _ := net.SplitHostPort(k.Addr)
	refused(t, nil, []string{"dev", "--brokers", "1", "--port", port, "--data", t.TempDir()}, "in use by another process", port)
	refused(t, nil, []string{"dev", "--brokers", "1", "--port", free(), "--data", k.Data}, "a kraft dev runs with its data in", k.Data)

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, nil, []string{"dev", "--brokers", "1", "--port", free(), "--data", filepath.Join(file, "below")}, "cannot use data directory", "not a directory")
	if os.Getuid() == 0 {
		// Somebody else's directory, seen by a user who may not read it.
		bin, err := harness.Binary()
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{filepath.Dir(bin), filepath.Dir(t.TempDir())} {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		private := t.TempDir()
		if err := os.Chmod(private, 0o700); err != nil {
			t.Fatal(err)
		}
		refused(t, asNobody, []string{"dev", "--brokers", "1", "--port", free(), "--data", private}, "cannot use data directory", "permission denied")
	}

	other := t.TempDir()
	o, err := harness.StartKraft(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	refused(t, nil, []string{"--node-id", "7", "--data", other, "--listeners", "PLAINTEXT://localhost:" + free()}, "belongs to node 1, this is node 7")
	refused(t, nil, []string{"dev", "--brokers", "1", "--port", free(), "--data", other, "--cluster-id", "mine"}, "belongs to cluster", "mine")
	// One directory of one cluster, one of another.
	if err := k.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	refused(t, nil, []string{"dev", "--brokers", "1", "--port", free(), "--data", k.Data + "," + other}, "belongs to cluster", other)

	badUse(t, []string{"dev", "--prot", "1"}, "-prot", "did you mean --port?")
	badUse(t, []string{"topic", "create", "x", "--partitons", "3"}, "-partitons", "did you mean --partitions?")
	badUse(t, []string{"topic", "create", "--partitions", "3", "x", "--config", "nonsense"}, "--config takes KEY=VALUE")
	badUse(t, []string{"topic", "create", "--partitions", "many", "x"}, "many")
	badUse(t, []string{"produce", "a", "b"}, "takes one topic")
	badUse(t, []string{"dev", "--brokers", "1", "--override", "log.retention.hours=soon"}, "soon", "log.retention.hours")
	badUse(t, []string{"dve"}, `unknown command "dve", did you mean "dev"?`)
	badUse(t, []string{"--node-id", "1"}, "--data DIR")
	badUse(t, []string{"--node-id", "1", "--data", other, "--listeners", "nonsense"}, "not of the form NAME://host:port")
	badUse(t, []string{"server", "/does/not/exist"}, "cannot read configuration", "/does/not/exist")
	refused(t, nil, []string{"topic", "list", "-b", "localhost:1"}, "no broker answers at localhost:1")
}

// TestLostDirectory: where one of several log directories is missing, its partitions must not begin empty
// without anybody saying so.
func TestLostDirectory(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	k, err := harness.StartKraft(a + "," + b)
	if err != nil {
		t.Fatal(err)
	}
	k.CLI(t, "", "topic", "create", "spread", "-p", "4")
	for n := range 4 {
		k.CLI(t, "one\n", "produce", "spread", "--partition", fmt.Sprint(n))
	}
	for _, d := range []string{a, b} {
		if parts, err := filepath.Glob(filepath.Join(d, "spread-*")); err != nil || len(parts) != 2 {
			t.Errorf("%s holds %v", d, parts)
		}
	}
	if err := k.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(b, b+".unmounted"); err != nil {
		t.Fatal(err)
	}
	port, err := freeport.Get()
	if err != nil {
		t.Fatal(err)
	}
	refused(t, nil, []string{"dev", "--brokers", "1", "--port", fmt.Sprint(port), "--data", a + "," + b}, "directory.id=", "--accept-lost-directories")
	if err := os.RemoveAll(b); err != nil { // what the refused start made
		t.Fatal(err)
	}
	if err := os.Rename(b+".unmounted", b); err != nil {
		t.Fatal(err)
	}
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	if out := k.CLI(t, "", "consume", "spread", "--from-beginning", "-n", "4"); len(strings.Fields(out)) != 4 {
		t.Errorf("reads %q after the directory is back", out)
	}
	if err := k.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	lost, err := harness.StartKraft(a+","+filepath.Join(dir, "new"), "--accept-lost-directories")
	if err != nil {
		t.Fatal(err)
	}
	if err := lost.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestStopsWithinTwoSeconds(t *testing.T) {
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", "busy", "-p", "50")
	k.CLI(t, "one\ntwo\n", "produce", "busy")
	// A consumer that waits for records and a group member that waits in JoinGroup must not hold it up.
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := harness.Start(exec.Command(bin, "consume", "busy", "-b", k.Addr, "--group", "g", "--from-beginning"))
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Kill()
	for range 2 {
		select {
		case <-waiting.Lines:
		case <-time.After(10 * time.Second):
			t.Fatalf("consumer reads nothing: %s", waiting.Output())
		}
	}
	begun := time.Now()
	if err := k.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("SIGTERM took %v", took)
	}
	if _, err := os.Stat(filepath.Join(k.Data, ".kafka_cleanshutdown")); err != nil {
		t.Errorf("the stop was not clean: %v", err)
	}
}

func TestServerProperties(t *testing.T) {
	port, err := freeport.Get()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "server.properties")
	if err := os.WriteFile(file, fmt.Appendf(nil, `# as it came with Kafka years ago
broker.id=0
listeners=PLAINTEXT://:%d,
advertised.listeners=PLAINTEXT://127.0.0.1:%d
log.dirs=%s/data
num.partitions=2
num.partiton=4
zookeeper.session.timeout.ms=6000
group.initial.rebalance.delay.ms=0
`, port, port, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "server", file, "--override", "log.retention.hours=5", "--override", "num.io.threads=9")
	cmd.Env = append(os.Environ(), "KAFKA_NUM_PARTITIONS=3", "KAFKA_NUM_IO_THREADS=8", "KAFKA_HEAP_OPTS=-Xmx1G", "KAFKA_NUM_PARTITION=7")
	p, err := harness.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	select {
	case line := <-p.Lines:
		if want := fmt.Sprintf("is ready at 127.0.0.1:%d (node 0,", port); !strings.Contains(line, want) {
			t.Fatalf("%q, want %q in it", line, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatal(p.Output())
	}
	k := &harness.Kraft{Process: p, Addr: fmt.Sprintf("127.0.0.1:%d", port)}
	k.CLI(t, "", "topic", "create", "three")
	if out := k.CLI(t, "", "topic", "describe", "three"); !strings.Contains(out, "partitions 3") {
		t.Errorf("num.partitions has no effect: %s", out)
	}
	for _, want := range []string{"zookeeper.session.timeout.ms (there is no ZooKeeper", "num.io.threads (kraft has no pools", "num.partiton is not known and has no effect, did you mean num.partitions?", "did you mean KAFKA_NUM_PARTITIONS?"} {
		if out := p.Output(); !strings.Contains(out, want) {
			t.Errorf("%q is not said: %s", want, out)
		}
	}
	if err := p.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
}

// TestCommands plays a newcomer's first minutes.
func TestCommands(t *testing.T) {
	k := harness.NewKraft(t)
	contains := func(out string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%q is not in:\n%s", w, out)
			}
		}
	}
	contains(k.CLI(t, "", "topic", "create", "orders", "--partitions", "2", "--config", "retention.ms=1000000"), "created topic orders")
	contains(k.CLI(t, "", "topic", "describe", "orders"), "partitions 2", "retention.ms=1000000")
	k.CLI(t, "a:1\nb:2\nc:3\n", "produce", "orders", "--key-separator", ":", "-H", "from=test")
	contains(k.CLI(t, "", "consume", "orders", "--from-beginning", "-n", "3", "--keys", "--meta"), "a\t1\n", "b\t2\n", "c\t3\n", "from=test")
	contains(k.CLI(t, "", "consume", "orders", "-n", "3", "--group", "g", "--from-beginning"), "1\n", "2\n", "3\n")
	contains(k.CLI(t, "", "group", "list"), "g", "Empty", "consumer")
	contains(k.CLI(t, "", "group", "describe", "g"), "lag 0")
	// The group goes on where it was.
	k.CLI(t, "d:4\n", "produce", "orders", "-k", ":")
	contains(k.CLI(t, "", "group", "describe", "g"), "lag 1")
	if out := k.CLI(t, "", "consume", "orders", "-n", "1", "--group", "g", "--from-beginning"); out != "4\n" {
		t.Errorf("the group reads %q, want only the new record", out)
	}
	contains(k.CLI(t, "", "topic", "list"), "orders")
	contains(k.CLI(t, "", "topic", "why-kept", "orders"), "old, retention.ms is 16m40s")
	if _, err := k.TryCLI(t, "", "topic", "create", "bad name"); err == nil || !strings.Contains(err.Error(), "INVALID_TOPIC_EXCEPTION") {
		t.Errorf("a bad name: %v", err)
	}
	if _, err := k.TryCLI(t, "", "topic", "describe", "nothing"); err == nil || !strings.Contains(err.Error(), `kraft: there is no topic "nothing"`) {
		t.Errorf("a missing topic: %v", err)
	}
	contains(k.CLI(t, "", "topic", "delete", "orders"), "deleted topic orders")
	if out := k.CLI(t, "", "topic", "list"); strings.Contains(out, "orders") {
		t.Errorf("deleted, but listed: %s", out)
	}
}
