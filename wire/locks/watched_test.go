//go:build lockorder

package locks

import (
	"io"
	"testing"

	"github.com/sasha-s/go-deadlock"
)

// TestContradiction: two orders that contradict each other are told, though nobody waits for ever.
func TestContradiction(t *testing.T) {
	told := 0
	end, log := deadlock.Opts.OnPotentialDeadlock, deadlock.Opts.LogBuf
	deadlock.Opts.OnPotentialDeadlock, deadlock.Opts.LogBuf = func() { told++ }, io.Discard
	defer func() { deadlock.Opts.OnPotentialDeadlock, deadlock.Opts.LogBuf = end, log }()
	var a, b Mutex
	take := func(first, second *Mutex) {
		first.Lock()
		defer first.Unlock()
		second.Lock()
		defer second.Unlock()
	}
	take(&a, &b)
	take(&a, &b)
	if told > 0 {
		t.Error("one order is told of")
	}
	take(&b, &a)
	if told == 0 {
		t.Error("the other is not")
	}
}
