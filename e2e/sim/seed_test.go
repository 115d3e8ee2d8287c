//go:build synctests

package sim

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"kraft/e2e/workload"
)

var (
	seed   = flag.Uint64("seed", 1, "the first seed of TestSeed")
	count  = flag.Int("seeds", 1, "how many seeds TestSeed tries")
	story  = flag.Bool("story", false, "tell what happened, also of a seed that found nothing")
	less   = flag.String("less", "", "leave these pieces of the plan out, as -shrink names them")
	shrink = flag.Bool("shrink", false, "of a seed that finds something, look for the smallest plan that finds it, and tell that one's story")
	tries  = flag.Int("tries", 5, "how often -shrink tries a plan before it takes it for sound")
)

// TestSeed runs the simulations of -seed and those after it.
func TestSeed(t *testing.T) {
	for s := *seed; s < *seed+uint64(*count); s++ {
		plan := NewPlan(s)
		pieces := ParsePieces(*less)
		h := runPlan(t, plan.Less(pieces))
		wrong := h.Violations()
		if *shrink && len(wrong) > 0 {
			pieces, h = smallest(t, plan, wrong[0], h)
			wrong = h.Violations()
			t.Logf("smallest: -seed %d -less %s", s, strings.Join(pieces, ","))
		}
		if len(wrong) > 0 || *story {
			t.Logf("%s", h.Story())
		}
		for _, w := range wrong {
			t.Errorf("seed %d: %s", s, w)
		}
	}
}

// smallest shrinks a plan that went wrong in some way.
func smallest(t *testing.T, plan *Plan, wrong string, h *workload.History) ([]string, *workload.History) {
	check, _, _ := strings.Cut(wrong, ":")
	pieces := plan.Shrink(func(pieces []string) bool {
		for range *tries {
			again := runPlan(t, plan.Less(pieces))
			for _, w := range again.Violations() {
				if strings.HasPrefix(w, check+":") {
					h = again
					return true
				}
			}
		}
		return false
	})
	return pieces, h
}

// realTime is what a simulation may take; most take a twentieth of a second.
const realTime = 40 * time.Second

func runPlan(t *testing.T, plan *Plan) *workload.History {
	t.Helper()
	began := time.Now()
	dir, err := os.MkdirTemp("/dev/shm", "kraft-sim-")
	if err != nil {
		dir = t.TempDir()
	}
	defer os.RemoveAll(dir)
	// A goroutine that waits for a lock whose holder waits stops virtual time: it is a fault of the product, too.
	stuck := time.AfterFunc(realTime, func() {
		fmt.Printf("%s\nseed %d: stuck: after %v\n", Running.Load().Story(), plan.Seed, realTime)
		debug.SetTraceback("all")
		panic("virtual time stands still: who waits for a lock, and who holds it?")
	})
	defer stuck.Stop()
	var h *workload.History
	var took time.Duration
	cryptotest.SetGlobalRandom(t, plan.Seed) // raft's timeouts, ids
	synctest.Test(t, func(*testing.T) {
		virtual := time.Now()
		h = Run(plan, dir)
		took = time.Since(virtual)
	})
	h.CheckOrder()
	t.Logf("seed %d: %v in %v, hash %016x", plan.Seed, took.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), h.Hash())
	return h
}
