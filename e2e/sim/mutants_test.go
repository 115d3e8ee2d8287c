package sim

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kraft/e2e/mutate/sources"
	"kraft/e2e/sim/planted"
)

// TestMutants says which changes of the sources the simulation notices, of those in the file KRAFT_MUTANTS that e2e/mutate wrote, with
// KRAFT_SIM_SEEDS seeds each. It judges nothing.
func TestMutants(t *testing.T) {
	path := os.Getenv("KRAFT_MUTANTS")
	if path == "" {
		t.Skip("KRAFT_MUTANTS names no file of changes")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	count, err := strconv.Atoi(os.Getenv("KRAFT_SIM_SEEDS"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	wanted, packages := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) < 3 || fields[1] == "lock" {
			continue
		}
		wanted[strings.Join(fields[:3], "\t")] = true
		packages[filepath.Dir(fields[0])] = true
	}
	changed, next := map[string]string{}, 1
	var mutants []sources.Mutant
	for pkg := range packages {
		files, found, err := sources.Plant(root, pkg, next)
		if err != nil {
			t.Fatal(err)
		}
		next += len(found)
		for file, source := range files {
			changed[file] = source
		}
		for _, m := range found {
			if wanted[m.String()] {
				mutants = append(mutants, m)
			}
		}
	}
	sim := build(t, changed)
	seen := filepath.Join(t.TempDir(), "reached")
	watching := sim.with(planted.ReachedVariable, seen)
	each(1, count, func(seed int) {
		if out := watching.run(uint64(seed), ""); len(out.wrong) > 0 || !out.ended {
			t.Errorf("seed %d finds something in the unchanged code: %v", seed, out.wrong)
		}
	})
	reached, err := sources.Reached(seen)
	if err != nil {
		t.Fatal(err)
	}
	var noticed, missed, unseen atomic.Int32
	begun := time.Now()
	each(0, len(mutants), func(i int) {
		m := mutants[i]
		if !reached[m.Number] {
			unseen.Add(1)
			t.Logf("%v\tnot reached", m)
			return
		}
		for seed := range count {
			out := sim.with(planted.MutantVariable, strconv.Itoa(m.Number)).run(uint64(seed+1), "")
			if len(out.wrong) > 0 || !out.ended {
				noticed.Add(1)
				return
			}
		}
		missed.Add(1)
		t.Log(m)
	})
	t.Logf("%d mutants in %v: %d noticed, %d not, %d not reached", len(mutants), time.Since(begun), noticed.Load(), missed.Load(), unseen.Load())
}
