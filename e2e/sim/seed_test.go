//go:build synctests

package sim

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seed  = flag.Uint64("seed", 1, "the first seed of TestSeed")
	count = flag.Int("seeds", 1, "how many seeds TestSeed tries")
	story = flag.Bool("story", false, "tell what happened, also of a seed that found nothing")
)

// TestSeed runs the simulations of -seed and those after it.
func TestSeed(t *testing.T) {
	for s := *seed; s < *seed+uint64(*count); s++ {
		runSeed(t, s)
	}
}

// realTime is what a simulation may take; most take a twentieth of a second.
const realTime = 40 * time.Second

func runSeed(t *testing.T, seed uint64) {
	began := time.Now()
	dir, err := os.MkdirTemp("/dev/shm", "kraft-sim-")
	if err != nil {
		dir = t.TempDir()
	}
	defer os.RemoveAll(dir)
	// A goroutine that waits for a lock whose holder waits stops virtual time: it is a fault of the product, too.
	stuck := time.AfterFunc(realTime, func() {
		fmt.Printf("%s\nseed %d: stuck: after %v\n", Running.Load().Story(), seed, realTime)
		debug.SetTraceback("all")
		panic("virtual time stands still: who waits for a lock, and who holds it?")
	})
	defer stuck.Stop()
	var h *History
	var took time.Duration
	synctest.Test(t, func(*testing.T) {
		virtual := time.Now()
		h = Run(NewPlan(seed), dir)
		took = time.Since(virtual)
	})
	h.CheckOrder()
	t.Logf("seed %d: %d lines, %v in %v, hash %016x", seed, len(h.lines), took.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), h.Hash())
	if wrong := h.Violations(); len(wrong) > 0 || *story {
		t.Logf("%s", h.Story())
		for _, w := range wrong {
			t.Errorf("seed %d: %s", seed, w)
		}
	}
}
