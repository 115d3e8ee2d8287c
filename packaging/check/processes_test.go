// Package check holds what kraft is deployed by against the code that reads it: the Helm chart, rendered by Helm, against Kubernetes' own types,
// compose files against docker compose's reader; and runs what they start as processes. It is a module of its own, so that kraft
// depends on none of these.
package check

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// free is a port that nothing listens on, below those that systems give to outgoing connections. This module is not kraft's, whose tests have
// internal/freeport.
func free(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 15_000 + rand.IntN(17_000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// build builds kraft.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "kraft")
	if out, err := exec.Command("go", "build", "-C", "../..", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

// start starts a node, which ends with the test.
func start(t *testing.T, bin string, env []string, args ...string) {
	t.Helper()
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%q %q\n%s", env, args, &out)
		}
	})
}

// await waits until a cluster's description has some words.
func await(t *testing.T, bin, address, words string) {
	t.Helper()
	var described []byte
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if described, err = exec.Command(bin, "cluster", "describe", "-b", address).CombinedOutput(); err == nil && strings.Contains(string(described), words) {
			return
		}
	}
	t.Fatalf("%v: %s", err, described)
}
