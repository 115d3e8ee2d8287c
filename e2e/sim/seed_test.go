//go:build synctests

package sim

import (
	"fmt"
	"os"
	"runtime/debug"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"kraft/e2e/workload"
)

// reseed has the runtime choose by a seed from now on, where it can.
var reseed = func(uint64) {}

// ended gives the runtime its ways back: goroutines that do not wait are interrupted again.
var ended = func() {}

// waitForLocks says whether time goes on while somebody waits for a lock. A disk can only be slow if it does; otherwise it is a
// fault of the product that one is held.
var waitForLocks = func(bool) {}

// TestSimulation runs the plan of -seed without the pieces of -less. It is for a process of its own, which TestSeed and
// TestSeeds start.
func TestSimulation(t *testing.T) {
	reseed(*seed)
	plan := NewPlan(*seed).Less(ParsePieces(*less))
	waitForLocks(plan.SlowDisks)
	h := runPlan(t, plan)
	wrong := h.Violations()
	if len(wrong) > 0 || *story {
		fmt.Println(h.Story())
	}
	for _, w := range wrong {
		t.Errorf("seed %d: %s", *seed, w)
	}
}

// realTime is what a simulation may take; most take a twentieth of a second.
const realTime = 40 * time.Second

func runPlan(t *testing.T, plan *Plan) *workload.History {
	t.Helper()
	began := time.Now()
	dir := fmt.Sprintf("/dev/shm/kraft-sim-%010d", os.Getpid()) // as long in every process
	if err := os.Mkdir(dir, 0o700); err != nil {
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
	ended()
	h.CheckOrder()
	t.Logf("seed %d: %v in %v, hash %016x", plan.Seed, took.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), h.Hash())
	return h
}
