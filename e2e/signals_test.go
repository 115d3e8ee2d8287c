//go:build unix

package e2e

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"kraft/e2e/harness"
)

// pause stops a process where it is, as a machine that hangs does.
func pause(t *testing.T, k *harness.Kraft) { signal(t, k, syscall.SIGSTOP) }

func resume(t *testing.T, k *harness.Kraft) { signal(t, k, syscall.SIGCONT) }

func signal(t *testing.T, k *harness.Kraft, s os.Signal) {
	t.Helper()
	if err := k.Cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

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
