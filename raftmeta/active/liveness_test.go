package active

import (
	"testing"
	"time"
)

// TestPausesAreDiscounted: time in which the controller's node stands still is in nobody's session, but pauses that come again and again do
// not keep a silent broker alive.
func TestPausesAreDiscounted(t *testing.T) {
	begun := time.Unix(1_700_000_000, 0)
	for name, tc := range map[string]struct {
		every, pause time.Duration // between two pauses; of each
		want         time.Duration // silence after 20 s
	}{
		"none":                  {time.Hour, 0, 20 * time.Second},
		"one of 10 s":           {15 * time.Second, 10 * time.Second, 10 * time.Second},
		"of 0.4 s, each second": {time.Second, 400 * time.Millisecond, 12 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			l := &liveness{}
			now, end := begun, begun.Add(20*time.Second)
			l.tick(now)
			p := pulse{at: now}
			for next := now.Add(tc.every - tc.pause); now.Before(end); {
				late := false
				if !now.Before(next) {
					now, next, late = now.Add(tc.pause), next.Add(tc.every), true
				}
				now = now.Add(sweepEvery)
				if got := l.tick(now); got != late {
					t.Fatalf("after %v: late is %v", now.Sub(begun), got)
				}
			}
			if got := p.silence(end, l.paused); (got - tc.want).Abs() > time.Second {
				t.Errorf("silent for %v, not %v", got, tc.want)
			}
		})
	}
}
