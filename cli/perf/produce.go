// Package perf measures how fast a cluster takes and gives records.
package perf

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"
)

// Load is what is produced.
type Load struct {
	Records, Warmup int64   // of all, those that are not measured
	Rate            float64 // records a second, below 0 for no bound
	Payload         func(n int64) []byte
	Key             func() []byte
	Interval        time.Duration // between reports
	Report          func(Window)  // called one at a time, from the client's goroutines
}

// RandomLetters makes payloads of a size in bytes.
func RandomLetters(size int, rng *rand.Rand) func(int64) []byte {
	letters := make([]byte, size)
	return func(int64) []byte {
		for i := range letters {
			letters[i] = 'A' + byte(rng.IntN(26))
		}
		return bytes.Clone(letters)
	}
}

// NoKey is a Load's Key for records without.
func NoKey() []byte { return nil }

// Window is what happened in some time.
type Window struct {
	Passed         time.Duration
	Records, Bytes int64
	Mean, Longest  time.Duration
}

// PerSecond are records and bytes a second.
func (w *Window) PerSecond() (records, bytes float64) {
	seconds := max(w.Passed.Seconds(), 1e-9)
	return float64(w.Records) / seconds, float64(w.Bytes) / seconds
}

// Result is a Window of everything, with quantiles.
type Result struct {
	Window
	sample []time.Duration // sorted
}

// Quantile is how long a share of the records took at most.
func (r *Result) Quantile(q float64) time.Duration {
	n := len(r.sample)
	if n == 0 {
		return 0
	}
	return r.sample[min(n-1, int(q*float64(n)))]
}

// run is a measurement under way.
type run struct {
	Load
	mu      sync.Mutex // guards the rest
	failed  error      // the first
	begun   time.Time
	total   latencies // but for the warm-up
	window  latencies
	windowT time.Time
	done    int64
}

// latencies are those of some records.
type latencies struct {
	count, bytes int64
	sum, longest time.Duration
	sample       []time.Duration // for quantiles, of one in so many records
}

// sampled is how many latencies are kept, as Kafka's tool does it.
const sampled = 500_000

// Produce produces a load to the client's default topic, and returns when all is acknowledged, or ctx ends, or something has failed.
func Produce(ctx context.Context, cl *kgo.Client, load Load) (*Result, error) {
	r := &run{Load: load, begun: time.Now()}
	r.windowT = r.begun
	limit := rate.NewLimiter(rate.Inf, 1)
	if load.Rate >= 0 {
		const burst = 50 // a second's share of what may come together
		limit = rate.NewLimiter(rate.Limit(load.Rate), max(1, int(load.Rate/burst)))
	}
	for n := range load.Records {
		if err := limit.Wait(ctx); err != nil {
			break
		}
		record := &kgo.Record{Key: load.Key(), Value: load.Payload(n)}
		sent := time.Now()
		cl.Produce(ctx, record, func(done *kgo.Record, err error) { r.took(time.Since(sent), len(done.Key)+len(done.Value), err) })
	}
	if err := cl.Flush(context.WithoutCancel(ctx)); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed != nil {
		return nil, r.failed
	}
	slices.Sort(r.total.sample)
	return &Result{r.total.over(time.Since(r.begun)), r.total.sample}, nil
}

// took counts a record, and reports a window when it is full.
func (r *run) took(latency time.Duration, size int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if r.failed == nil {
			r.failed = err
		}
		return
	}
	now := time.Now()
	if r.done++; r.done == r.Warmup {
		r.begun = now
	}
	if r.done > r.Warmup {
		r.total.add(latency, size)
		if r.total.count%(r.Records/sampled+1) == 0 {
			r.total.sample = append(r.total.sample, latency)
		}
	}
	r.window.add(latency, size)
	if passed := now.Sub(r.windowT); passed >= r.Interval {
		r.Report(r.window.over(passed))
		r.window, r.windowT = latencies{}, now
	}
}

func (l *latencies) add(d time.Duration, size int) {
	l.count++
	l.bytes += int64(size)
	l.sum += d
	l.longest = max(l.longest, d)
}

func (l *latencies) over(passed time.Duration) Window {
	return Window{passed, l.count, l.bytes, l.sum / time.Duration(max(l.count, 1)), l.longest}
}
