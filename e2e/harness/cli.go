package harness

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TryCLI is CLI for commands that may fail.
func (k *Kraft) TryCLI(t testing.TB, stdin string, args ...string) (string, error) {
	t.Helper()
	bin, err := Binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.Command(bin, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "KRAFT_BOOTSTRAP_SERVER="+k.Addr)
	return Run(ctx, cmd)
}
