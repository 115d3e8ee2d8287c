package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	_ "kraft/cli/command" // so that go test does not take a result for current when the binary would be another
	"kraft/internal/freeport"
)

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kraft-binary-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "kraft")
	cmd := exec.Command("go", "build", "-o", bin, ".")
	cmd.Dir = Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// Binary builds kraft, once a process, and returns its path. Call RemoveBinary at the end.
func Binary() (string, error) { return build() }

// Install makes a directory for a test with kraft in it, as ./kraft, and returns its path.
func Install(t testing.TB) string {
	t.Helper()
	bin, err := Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(bin, filepath.Join(dir, "kraft")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// RemoveBinary removes what Binary built.
func RemoveBinary() {
	if bin, err := build(); err == nil {
		_ = os.RemoveAll(filepath.Dir(bin))
	}
}

// Main runs a package's tests and cleans up behind the harness; call it from TestMain.
func Main(m *testing.M) {
	cache, err := os.MkdirTemp("", "kraft-cache-")
	if err != nil {
		panic(err)
	}
	if err := os.Setenv("KRAFT_CACHE", cache); err != nil { // not the user's own
		panic(err)
	}
	code := m.Run()
	RemoveBinary()
	_ = os.RemoveAll(cache)
	os.Exit(code)
}

// Kraft is a broker process that can be stopped and started again on the same address and data.
type Kraft struct {
	*Process
	Addr string // host:port
	Data string
	args []string
	past []byte // what earlier processes of it said
}

// Output is what the broker has said, over all its starts, or the end of it.
func (k *Kraft) Output() string {
	if k.Process == nil {
		return string(k.past)
	}
	return string(k.past) + k.Process.Output()
}

var readyLine = regexp.MustCompile(`is ready at ([^ ,]+)`)

// StartKraft starts `kraft dev` on a free port with its data in dir and waits until it is ready. More
// arguments may follow.
func StartKraft(dir string, args ...string) (*Kraft, error) {
	port, err := freeport.Get()
	if err != nil {
		return nil, err
	}
	k := &Kraft{Data: dir, args: append([]string{"dev", "--brokers", "1", "--port", fmt.Sprint(port), "--data", dir, "--log-level", "warn"}, args...)}
	return k, k.Start()
}

// Node is a broker of which the caller knows all arguments. Start starts it.
func Node(addr, data string, args ...string) *Kraft {
	return &Kraft{Addr: addr, Data: data, args: args}
}

// Start starts the broker, for the first time or again after Stop or Kill.
func (k *Kraft) Start() error { return k.StartWith() }

// StartWith is Start with more arguments, for this time only.
func (k *Kraft) StartWith(more ...string) error {
	if err := k.Begin(more...); err != nil {
		return err
	}
	return k.Ready()
}

// Begin is StartWith that does not wait until the broker is ready.
func (k *Kraft) Begin(more ...string) error {
	bin, err := Binary()
	if err != nil {
		return err
	}
	k.past = []byte(k.Output())
	p, err := Start(exec.Command(bin, slices.Concat(k.args, more)...))
	if err != nil {
		return err
	}
	k.Process = p
	return nil
}

// Ready waits until a broker that has begun is ready.
func (k *Kraft) Ready() error {
	p := k.Process
	timeout := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-p.Lines:
			if !ok {
				_ = p.Wait(time.Second)
				return fmt.Errorf("kraft did not start: %s", p.Output())
			}
			if m := readyLine.FindStringSubmatch(line); m != nil {
				k.Addr = m[1]
				return nil
			}
		case <-timeout:
			p.Kill()
			return fmt.Errorf("kraft is not ready after 30 s: %s", p.Output())
		}
	}
}

// NewKraft is StartKraft for a test: it fails the test on an error, and stops the broker at the end.
func NewKraft(t testing.TB, args ...string) *Kraft {
	t.Helper()
	k, err := StartKraft(t.TempDir(), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-k.Done():
			return // the test stopped it
		default:
		}
		if err := k.Stop(10 * time.Second); err != nil {
			t.Errorf("kraft did not stop cleanly: %v", err)
		}
		if t.Failed() {
			t.Logf("kraft said:\n%s", k.Output())
		}
	})
	return k
}

// Restart stops the broker cleanly and starts it again.
func (k *Kraft) Restart(t testing.TB) {
	t.Helper()
	if err := k.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
}

// CLI runs a kraft command against the broker and returns its stdout.
func (k *Kraft) CLI(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	out, err := k.TryCLI(t, stdin, args...)
	if err != nil {
		t.Fatalf("kraft %v: %v", args, err)
	}
	return out
}
