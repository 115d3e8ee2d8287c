//go:build unix

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

// pause stops a process where it is, as a machine that hangs does.
func pause(t *testing.T, k *harness.Kraft) { k.Signal(t, syscall.SIGSTOP) }

func resume(t *testing.T, k *harness.Kraft) { k.Signal(t, syscall.SIGCONT) }

// wipe empties a data directory.
func wipe(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSignalWhileStarting: a node that is asked to stop before it is ready stops in good order.
func TestSignalWhileStarting(t *testing.T) {
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	var ports [4]int
	for i := range ports {
		if ports[i], err = freeport.Get(); err != nil {
			t.Fatal(err)
		}
	}
	peers := fmt.Sprintf("1@localhost:%d,2@localhost:%d,3@localhost:%d", ports[0], ports[1], ports[2])
	k, err := harness.Start(exec.Command(bin, "--node-id", "1", "--data", t.TempDir(), "--peers", peers, "--listeners", fmt.Sprintf("PLAINTEXT://localhost:%d", ports[3])))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Kill()
	if err := harness.Says(k, "waiting for a majority", 20*time.Second); err != nil { // it waits for the others, which do not run
		t.Fatal(err)
	}
	if err := k.Stop(5 * time.Second); err != nil {
		t.Errorf("%v: %s", err, k.Output())
	}
	if !strings.Contains(k.Output(), "stopped while starting") {
		t.Errorf("it says %s", k.Output())
	}
}
