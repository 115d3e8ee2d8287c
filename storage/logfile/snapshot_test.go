package logfile

import (
	"math/rand/v2"
	"testing"

	"kraft/wire/record"
)

// TestSequencesGoBack: subSequence undoes record.AddSequence, also around the largest number.
func TestSequencesGoBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		seq, delta := rng.Int32(), rng.Int32()
		if rng.IntN(2) == 0 {
			seq, delta = rng.Int32N(10), rng.Int32N(10)
		}
		if got := subSequence(record.AddSequence(seq, delta), delta); got != seq {
			t.Fatalf("%d and %d more, and back: %d", seq, delta, got)
		}
	}
}
