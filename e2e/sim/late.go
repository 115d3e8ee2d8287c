package sim

import (
	"context"
	"math/rand/v2"
	"time"
)

// delayMetadata delays metadata to one node, or to all but one, if the plan says so, and chooses again every 50 to 300 ms until stop is
// called.
func (s *Sim) delayMetadata() (stop func()) {
	if !s.plan.Late {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for rng := rand.New(rand.NewPCG(s.plan.Seed, 17)); ctx.Err() == nil; {
			allButOne := rng.IntN(2) == 0
			one := s.machines[rng.IntN(len(s.machines))]
			for _, m := range s.machines {
				by := time.Duration(rng.Int64N(int64(40 * time.Millisecond)))
				if (m == one) == allButOne {
					by = 0
				}
				s.delayMetadataTo(m, by)
			}
			select {
			case <-time.After(time.Duration(50+rng.IntN(250)) * time.Millisecond):
			case <-ctx.Done():
			}
		}
		for _, m := range s.machines {
			s.delayMetadataTo(m, 0)
		}
	}()
	return func() { cancel(); <-done }
}

func (s *Sim) delayMetadataTo(m *Machine, by time.Duration) {
	for _, from := range s.machines {
		if from != m {
			s.network.Set(from.name, m.name, func(w *condition) { w.late = by })
		}
	}
}
