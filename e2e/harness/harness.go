// Package harness starts and stops what end-to-end tests and benchmarks run against: kraft, Apache Kafka
// and its tools, other languages' clients. Everything it starts listens on free ports of the loopback
// interface, keeps its data in directories that the caller gives, and is stopped by process id.
package harness

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// All says that KRAFT_E2E=all is set: nothing may be skipped.
func All() bool { return os.Getenv("KRAFT_E2E") == "all" }

// Skip ends a test that lacks something on this machine; with KRAFT_E2E=all that is a failure.
func Skip(t testing.TB, format string, args ...any) {
	t.Helper()
	if All() {
		t.Fatalf("KRAFT_E2E=all: "+format, args...)
	}
	t.Skipf(format, args...)
}

// Need skips the test unless every program is on the PATH.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Skip(t, "%s is not installed", p)
		}
	}
}

// Root is the repository's directory.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Process is a running program whose output is kept.
type Process struct {
	Cmd   *exec.Cmd
	Lines chan string // of stdout, closed at its end; dropped when nobody reads and 100,000 wait
	done  chan struct{}
	err   error

	mu  sync.Mutex
	out []byte // stdout and stderr, the last outputKept bytes
}

const outputKept = 256 << 10

// Start starts a program. Stdin is cmd.Stdin if set.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{Cmd: cmd, Lines: make(chan string, 100_000), done: make(chan struct{})}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var readers sync.WaitGroup
	readers.Add(2)
	go p.read(stdout, &readers, p.Lines)
	go p.read(stderr, &readers, nil)
	go func() {
		readers.Wait()
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *Process) read(r io.Reader, done *sync.WaitGroup, lines chan string) {
	defer done.Done()
	s := bufio.NewScanner(r)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		p.mu.Lock()
		p.out = append(append(p.out, s.Bytes()...), '\n')
		if len(p.out) > 2*outputKept {
			p.out = append([]byte(nil), p.out[len(p.out)-outputKept:]...)
		}
		p.mu.Unlock()
		if lines != nil {
			select {
			case lines <- s.Text():
			default:
			}
		}
	}
	_, _ = io.Copy(io.Discard, r)
	if lines != nil {
		close(lines)
	}
}

// Output is what the program has printed so far, or the end of it.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.out)
}

// Resident is the program's memory in bytes, as /proc says.
func (p *Process) Resident() (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(data), "VmRSS:")
	size, _, _ := strings.Cut(strings.TrimSpace(after), " ")
	kb, err := strconv.Atoi(size)
	return kb << 10, err
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the program's end and returns how it ended.
func (p *Process) Wait(timeout time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(timeout):
		return fmt.Errorf("pid %d did not end within %v; it said:\n%s", p.Cmd.Process.Pid, timeout, p.Output())
	}
}

// Signal sends a signal to the program.
func (p *Process) Signal(t testing.TB, s os.Signal) {
	t.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// Stop asks the program to end, and kills it if it does not within the time.
func (p *Process) Stop(timeout time.Duration) error {
	_ = p.Cmd.Process.Signal(syscall.SIGTERM)
	if err := p.Wait(timeout); err != nil {
		p.Kill()
		return err
	}
	return nil
}

// Kill ends the program by kill -9.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill()
	<-p.done
}

// Run runs a program to its end and returns what it printed on stdout. An error carries all its output.
func Run(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var out, all lockedBuffer
	cmd.Stdout = io.MultiWriter(&out, &all)
	cmd.Stderr = &all
	if err := cmd.Start(); err != nil {
		return "", err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			return out.String(), fmt.Errorf("%s: %w; it said:\n%s", filepath.Base(cmd.Path), err, all.String())
		}
		return out.String(), nil
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		<-done
		return out.String(), fmt.Errorf("%s: %w; it said:\n%s", filepath.Base(cmd.Path), ctx.Err(), all.String())
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  []byte
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	return len(p), nil
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}

// Cached makes a directory by install once and keeps it below the user's cache directory, under a name
// made of the contents of key: what is installed is pinned there.
func Cached(name string, key []byte, install func(dir string) error) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(key)
	dir := filepath.Join(base, "kraft-e2e", name+"-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), name+"-installing-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := install(tmp); err != nil {
		return "", fmt.Errorf("install %s: %w", name, err)
	}
	// Two processes may install at once: the first to finish wins.
	if err := os.Rename(tmp, dir); err != nil {
		if _, statErr := os.Stat(dir); statErr != nil {
			return "", err
		}
	}
	return dir, nil
}

// Eventually calls f until it returns nil, and gives up with its last error.
func Eventually(timeout time.Duration, f func() error) error {
	deadline := time.Now().Add(timeout)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := f()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %v: %w", timeout, err)
		}
		time.Sleep(pause)
	}
}

// Says waits until a process (a *Process or a *Kraft) has written a text.
func Says(process interface{ Output() string }, text string, timeout time.Duration) error {
	return Eventually(timeout, func() error {
		if out := process.Output(); !strings.Contains(out, text) {
			return fmt.Errorf("nothing says %q: %s", text, out)
		}
		return nil
	})
}

// Scrape asks an admin listener, such as for /metrics.
func Scrape(t testing.TB, address, path string) (status int, body string) {
	t.Helper()
	resp, err := http.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

var errNotReady = errors.New("not ready")
