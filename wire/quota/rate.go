package quota

import (
	"math"
	"time"
)

// Windows are over what time a rate is measured (quota.window.num, quota.window.size.seconds).
type Windows struct {
	Count int
	Each  time.Duration
}

// all is the time of all windows together.
func (w Windows) all() time.Duration { return time.Duration(w.Count) * w.Each }

// Rate measures how much is taken per second (Kafka's Rate of a SampledStat, whose results it has to the millisecond). The zero Rate has
// measured nothing. Its methods take the time now, which must not go back.
type Rate struct{ samples []sample }

// sample is what was taken from begun on, for one window.
type sample struct {
	begun, last time.Time
	sum         float64
}

// Take counts an amount.
func (r *Rate) Take(w Windows, amount float64, now time.Time) {
	r.forget(w, now)
	if n := len(r.samples); n == 0 || now.Sub(r.samples[n-1].begun) >= w.Each {
		r.samples = append(r.samples, sample{begun: now})
	}
	s := &r.samples[len(r.samples)-1]
	s.sum += amount
	s.last = now
}

// forget drops the samples that are too old to count.
func (r *Rate) forget(w Windows, now time.Time) {
	old := 0
	for old < len(r.samples) && now.Sub(r.samples[old].last) >= w.all() {
		old++
	}
	if old > 0 {
		r.samples = append(r.samples[:0], r.samples[old:]...)
	}
}

// Idle reports whether nothing that was taken counts any more.
func (r *Rate) Idle(w Windows, now time.Time) bool {
	r.forget(w, now)
	return len(r.samples) == 0
}

// measure returns the amount per second, and the time over which that is.
func (r *Rate) measure(w Windows, now time.Time) (perSecond float64, over time.Duration) {
	r.forget(w, now)
	total := 0.0
	for _, s := range r.samples {
		total += s.sum
	}
	if len(r.samples) > 0 {
		over = now.Sub(r.samples[0].begun)
	}
	// Whoever has just begun is measured over all windows but one, or a first request would be a torrent.
	if full := int(over / w.Each); full < w.Count-1 {
		over += time.Duration(w.Count-1-full) * w.Each
	}
	over = max(over, w.Each)
	return total / over.Seconds(), over
}

// Throttle returns after what time the rate would be down to limit, 0 if it is not above.
func (r *Rate) Throttle(w Windows, limit float64, now time.Time) time.Duration {
	rate, over := r.measure(w, now)
	if rate <= limit {
		return 0
	}
	return milliseconds((rate - limit) / limit * float64(over.Milliseconds()))
}

// tokens are what may be taken at once (Kafka's TokenBucket). They come back at the quota's rate, up to what that is in all windows.
type tokens struct {
	left float64
	at   time.Time // zero while nothing was taken
}

func (t *tokens) refill(w Windows, limit float64, now time.Time) {
	most := limit * w.all().Seconds()
	if t.at.IsZero() {
		t.left = most
	} else {
		t.left = min(most, t.left+limit*now.Sub(t.at).Seconds())
	}
	t.at = now
}

// throttle returns after what time there would be tokens again, 0 if there are.
func (t *tokens) throttle(w Windows, limit float64, now time.Time) time.Duration {
	t.refill(w, limit, now)
	if t.left >= 0 {
		return 0
	}
	return milliseconds(-t.left / limit * 1000)
}

// milliseconds is n of them, rounded, and no more than an answer can tell.
func milliseconds(n float64) time.Duration {
	return time.Duration(min(math.Round(n), math.MaxInt32)) * time.Millisecond
}
