package sim

import (
	"slices"
	"testing"
)

// TestShrink: a plan that fails because of two of its faults shrinks to these.
func TestShrink(t *testing.T) {
	p := NewPlan(1)
	for seed := uint64(2); len(p.Faults) < 6 || p.Members == 0; seed++ {
		p = NewPlan(seed)
	}
	pieces := p.Shrink(func(pieces []string) bool {
		left := p.Less(pieces)
		return left.Faults[1].Kind != "" && left.Faults[4].Kind != "" && left.Idempotent+left.Plain > 0
	})
	left := p.Less(pieces)
	for i, f := range left.Faults {
		if (f.Kind != "") != (i == 1 || i == 4) || f.After != p.Faults[i].After {
			t.Errorf("fault %d is left as %v", i, f)
		}
	}
	if left.Members+left.Administrators != 0 || left.Idempotent+left.Plain != 1 || left.Topics != 1 || left.Partitions != 1 || slices.Contains(pieces, "") {
		t.Errorf("left: %+v by %v", left, pieces)
	}
}
