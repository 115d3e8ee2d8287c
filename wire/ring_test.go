package wire

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestRing: items leave in the order in which they came, however many are in the queue between.
func TestRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r ring[*int]
		var want []*int
		for step := range rapid.IntRange(0, 200).Draw(t, "steps") {
			if len(want) > 0 && rapid.Bool().Draw(t, "pops") {
				if got := r.pop(); got != want[0] {
					t.Fatalf("%v left before %v", *got, *want[0])
				}
				want = want[1:]
			} else {
				item := &step
				r.push(item)
				want = append(want, item)
			}
			if r.len() != len(want) {
				t.Fatalf("%d items, wanted %d", r.len(), len(want))
			}
			if kept := len(slices.DeleteFunc(slices.Clone(r.items), func(p *int) bool { return p == nil })); kept != len(want) {
				t.Fatalf("%d items are kept of %d", kept, len(want))
			}
		}
	})
}
