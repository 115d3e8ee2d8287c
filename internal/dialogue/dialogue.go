// Package dialogue plays scripts that read like a story: lines at the margin are what is done, indented ones what
// comes of it, "#" begins a comment. Tests of state machines keep such files in their testdata.
package dialogue

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what happens into the dialogues")

// Say tells one line of what comes of a command.
type Say func(format string, args ...any)

// Play runs each file that glob names, as a subtest, on a stage of its own; a stage takes a line and says what
// comes of it. What differs from the file fails the test; with -update it is written there.
func Play(t *testing.T, glob string, newStage func(t *testing.T, say Say) (command func(line string))) {
	t.Helper()
	files, err := filepath.Glob(glob)
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var said []string
			command := newStage(t, func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
			got := play(string(want), func(line string) []string {
				said = nil
				command(line)
				return said
			})
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("the dialogue went another way:\n%s", difference(string(want), got))
			}
		})
	}
}

func play(script string, stage func(line string) []string) string {
	var all []string
	for _, line := range strings.Split(strings.TrimRight(script, "\n"), "\n") {
		if strings.HasPrefix(line, "  ") {
			continue
		}
		all = append(all, line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		for _, said := range stage(line) {
			all = append(all, "  "+said)
		}
	}
	return strings.Join(all, "\n") + "\n"
}

func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range w {
		if i >= len(g) || w[i] != g[i] {
			return fmt.Sprintf("line %d: want\n%s\ngot\n%s", i+1, strings.Join(w[i:min(i+6, len(w))], "\n"), strings.Join(g[min(i, len(g)):min(i+6, len(g))], "\n"))
		}
	}
	return "more lines: " + strings.Join(g[len(w):], "\n")
}
