package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"kraft/e2e/sim/planted"
)

var packageClause = regexp.MustCompile(`(?m)^package \w+$`)

// withMistakes builds the test binary from sources that can make every one of mistakes, chosen by the environment.
func withMistakes(t *testing.T, mistakes []Mistake) simulator {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{}
	for _, m := range mistakes {
		if !strings.Contains(m.New, fmt.Sprintf("%q", m.Name)) {
			t.Fatalf("%s does not ask whether it is on", m.Name)
		}
		if err := change(sources, filepath.Join(root, m.File), m.Old, m.New); err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
	}
	for path, text := range sources {
		sources[path] = packageClause.ReplaceAllString(text, "$0\nimport \"kraft/e2e/sim/planted\"\n")
	}
	return build(t, sources)
}

// TestMistakesAreFound: kraft with any of these mistakes does not pass its simulations.
func TestMistakesAreFound(t *testing.T) {
	if os.Getenv("KRAFT_E2E") != "all" {
		t.Skip("some minutes long: it runs with KRAFT_E2E=all")
	}
	all := withMistakes(t, Mistakes)
	for _, m := range Mistakes {
		t.Run(m.Name, func(t *testing.T) {
			seeds, sim := new(search), all.with(planted.Variable, m.Name)
			seeds.try(sim, m.Seed)
			if seeds.found == 0 {
				t.Logf("seed %d does not find it", m.Seed)
				each(1, m.Seeds, func(seed int) { seeds.try(sim, seed) })
			}
			if seeds.found == 0 {
				t.Errorf("not found within %d seeds", m.Seeds)
				return
			}
			t.Logf("| %s | %d | %s | %d |", m.Name, seeds.found, seeds.check, m.Seeds)
		})
	}
}

// TestMistakesFit: the sources have not changed under the mistakes and the candidates.
func TestMistakesFit(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range slices.Concat(Mistakes, Candidates) {
		if err := change(map[string]string{}, filepath.Join(root, m.File), m.Old, m.New); err != nil {
			t.Errorf("%s: it is of sources that have changed: %v", m.Name, err)
		}
	}
}

// TestCandidates says which of Candidates are found within KRAFT_SIM_CANDIDATES seeds each. It judges nothing.
func TestCandidates(t *testing.T) {
	seeds, err := strconv.Atoi(os.Getenv("KRAFT_SIM_CANDIDATES"))
	if err != nil {
		return
	}
	all := withMistakes(t, Candidates)
	for _, m := range Candidates {
		t.Run(m.Name, func(t *testing.T) {
			found, sim := new(search), all.with(planted.Variable, m.Name)
			each(1, seeds, func(seed int) { found.try(sim, seed) })
			t.Logf("| %s | %d | %s |", m.Name, found.found, found.check)
		})
	}
}
