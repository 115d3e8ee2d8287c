package ops

import (
	"fmt"
	"testing"
)

// TestHeavyKeys: among many more keys than are remembered the heaviest are found, with their bytes told a little too high at most.
func TestHeavyKeys(t *testing.T) {
	h := newHeavyKeys(100)
	var light int64
	for n := range 20_000 {
		h.add(fmt.Sprint("light", n), 10)
		light += 10
		if n%10 == 0 {
			h.add("heavy", 50)
		}
		if n%100 == 0 {
			h.add("heavier", 2000)
		}
	}
	found := h.largest(2)
	if len(found) != 2 || found[0].Key != "heavier" || found[1].Key != "heavy" {
		t.Fatalf("%+v", found)
	}
	for i, bytes := range []int64{200 * 2000, 2000 * 50} {
		if got := found[i].Bytes; got < bytes || got > bytes+light/50 { // the least of a hundred has a fiftieth of all at most
			t.Errorf("%s has %d bytes, it had %d", found[i].Key, got, bytes)
		}
	}
	if len(h.known) > 100 {
		t.Errorf("%d keys are remembered", len(h.known))
	}
}
