package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

// script is kraft called by a name of one of Kafka's scripts, in a directory.
type script struct {
	t        *testing.T
	dir, bin string
	env      []string
}

func newScripts(t *testing.T) *script {
	t.Helper()
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, dir: t.TempDir(), bin: bin}
	if out, err := exec.Command(bin, "scripts", filepath.Join(s.dir, "bin")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return s
}

func (s *script) run(name string, args ...string) (status int, stdout, stderr string) {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(s.dir, "bin", name), args...)
	var out, errOut bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = s.dir, &out, &errOut, append(os.Environ(), s.env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
}

// write writes a server.properties of a node that listens on a free port, and returns both.
func (s *script) write(name string, id int) (file, address string) {
	s.t.Helper()
	port, err := freeport.Get()
	if err != nil {
		s.t.Fatal(err)
	}
	address = fmt.Sprintf("127.0.0.1:%d", port)
	file = filepath.Join(s.dir, name)
	text := fmt.Sprintf("node.id=%d\nprocess.roles=broker,controller\nlisteners=PLAINTEXT://%s\nlog.dirs=%s\n", id, address, filepath.Join(s.dir, "data"+strconv.Itoa(id)))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return file, address
}

func contents(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestDaemon: kafka-server-start -daemon returns when the server serves clients, or with why it does not; kafka-server-stop stops the one
// that it is asked to.
func TestDaemon(t *testing.T) {
	s := newScripts(t)
	var addresses [2]string
	for i := range addresses {
		var file string
		file, addresses[i] = s.write(fmt.Sprintf("server%d.properties", i+71), i+71)
		s.env = []string{"LOG_DIR=" + filepath.Join(s.dir, fmt.Sprintf("logs%d", i+71))}
		status, out, errOut := s.run("kafka-server-start.sh", "-daemon", filepath.Base(file), "--override", "num.partitions=3")
		if status != 0 || !strings.Contains(out, "kraft runs as process") {
			t.Fatalf("status %d: %s%s", status, out, errOut)
		}
		defer s.run("kafka-server-stop.sh", fmt.Sprintf("--node-id=%d", i+71))
		if status, out, errOut := s.run("kafka-topics.sh", "--bootstrap-server", addresses[i], "--list"); status != 0 {
			t.Errorf("it does not serve: %s%s", out, errOut)
		}
		if status, _, errOut := s.run("kafka-server-start.sh", "-daemon", file); status != 1 || !strings.Contains(errOut, "in use by another process") {
			t.Errorf("a second one on the same address: status %d, %s", status, errOut)
		}
	}
	log := filepath.Join(s.dir, "logs71", "kafkaServer.out")
	if text := contents(t, log); !strings.Contains(text, "[KafkaRaftServer nodeId=71] Kafka Server started") {
		t.Errorf("the log says %s", text)
	}
	if status, out, _ := s.run("kafka-server-stop.sh", "--node-id=70"); status != 1 || !strings.Contains(out, "No kafka server to stop") {
		t.Errorf("stopped one that is not there: status %d, %s", status, out)
	}
	if status, _, errOut := s.run("kafka-server-stop.sh", "--node-id=71"); status != 0 {
		t.Errorf("status %d: %s", status, errOut)
	}
	gone := func(address string) error {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return nil
		}
		_ = c.Close()
		return fmt.Errorf("%s is still served", address)
	}
	if err := harness.Eventually(20*time.Second, func() error { return gone(addresses[0]) }); err != nil {
		t.Error(err)
	}
	if gone(addresses[1]) == nil {
		t.Error("the other one was stopped, too")
	}
}

// TestStorageScript: directories can be formatted, which ties them to a cluster; a server needs that not.
func TestStorageScript(t *testing.T) {
	s := newScripts(t)
	file, _ := s.write("server.properties", 1)
	status, id, _ := s.run("kafka-storage.sh", "random-uuid")
	if id = strings.TrimSpace(id); status != 0 || len(id) != 22 {
		t.Fatalf("status %d, a uuid of %q", status, id)
	}
	for _, step := range []struct {
		args   string
		status int
		says   string
	}{
		{"info -c FILE", 1, "does not exist"},
		{"format -c FILE", 1, "argument --cluster-id/-t is required"},
		{"format -t ID -c FILE", 0, "Formatting metadata directory"},
		{"format --cluster-id ID --config FILE --standalone", 1, "is already formatted. Use --ignore-formatted"},
		{"format -g -t ID -c FILE", 0, "All of the log directories are already formatted."},
		{"format -g -t other -c FILE", 1, "Expected other, but read ID"},
		{"info -c FILE", 0, "Found metadata: {cluster.id=ID, directory.id="},
		{"format -t ID -c /no/such/file", 1, "/no/such/file"},
		{"polish", 1, "random-uuid, format, info"},
	} {
		put := strings.NewReplacer("ID", id, "FILE", file).Replace
		status, out, errOut := s.run("kafka-storage.sh", strings.Fields(put(step.args))...)
		if status != step.status || !strings.Contains(out+errOut, put(step.says)) {
			t.Errorf("%s: status %d, %s%s; wanted %d, %s", step.args, status, out, errOut, step.status, step.says)
		}
	}
	p, err := harness.Start(exec.Command(s.bin, "server", file))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	if err := harness.Says(p, "cluster "+id, 10*time.Second); err != nil {
		t.Error(err)
	}
}

// TestSystemd: a service manager is told when a node is ready, and when it stops; the pid file is there meanwhile.
func TestSystemd(t *testing.T) {
	s := newScripts(t)
	file, _ := s.write("server.properties", 1)
	socket := filepath.Join(s.dir, "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	told := func() string {
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	pidFile := filepath.Join(s.dir, "kraft.pid")
	cmd := exec.Command(s.bin, "server", file, "--pid-file", pidFile, "--log-file", filepath.Join(s.dir, "kraft.log"))
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket)
	p, err := harness.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	if state := told(); state != "READY=1" {
		t.Errorf("told %q", state)
	}
	if pid := strings.TrimSpace(contents(t, pidFile)); pid != strconv.Itoa(cmd.Process.Pid) {
		t.Errorf("the pid file says %s, it is %d", pid, cmd.Process.Pid)
	}
	log := filepath.Join(s.dir, "kraft.log")
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := harness.Eventually(10*time.Second, func() error { _, err := os.Stat(log); return err }); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if state := told(); state != "STOPPING=1" {
		t.Errorf("told %q", state)
	}
	if err := p.Wait(20 * time.Second); err != nil {
		t.Error(err)
	}
	if text := contents(t, log); !strings.Contains(text, "stopping") {
		t.Errorf("the new log says %s", text)
	}
	if _, err := os.Stat(pidFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pid file is still there: %v", err)
	}
}
