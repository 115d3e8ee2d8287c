package sources

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInstrument: each comparison, branch and lock can be changed, outer before inner, and the rest is as it was.
func TestInstrument(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.go")
	source := `package a

import "sync"

const limit = 1 < 2

func f(mu *sync.Mutex, n int) bool {
	mu.Lock()
	defer mu.Unlock()
	if n > 1 && n != 7 {
		return false
	}
	switch {
	case n == 0:
		return true
	}
	return n < 3
}
`
	if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	got, mutants, err := instrument(path, "a.go", 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"const limit = 1 < 2\n",
		"if planted.Taken(1, planted.Inverted(2, n > 1) && planted.Inverted(3, n != 7)) {",
		"case planted.Taken(4, planted.Inverted(5, n == 0)):",
		"return planted.Inverted(6, n < 3)\n",
		"if planted.Kept(7) { mu.Lock() }\n",
		"if planted.Kept(7) { defer mu.Unlock() }\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
	if len(mutants) != 7 || mutants[0].String() != "a.go:10:5\tbranch\tn > 1 && n != 7" || mutants[6].Kind != "lock" {
		t.Errorf("%v", mutants)
	}
}
