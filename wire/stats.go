package wire

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Histogram counts durations, each in a bucket a quarter of an octave wide: those of Prometheus' native histograms of schema
// HistogramSchema. Any goroutine may use it.
type Histogram struct {
	nanoseconds atomic.Int64
	buckets     [lastBucket - firstBucket + 1]atomic.Int64
}

const (
	HistogramSchema = 2
	perOctave       = 1 << HistogramSchema
	firstBucket     = -20 * perOctave // up to a microsecond
	lastBucket      = 7 * perOctave   // two minutes, and all that is longer
)

// quarters are the bounds of the buckets in an octave, of fractions as math.Frexp gives them.
var quarters = func() (bounds [perOctave]float64) {
	for i := range bounds {
		bounds[i] = math.Exp2(float64(i)/perOctave - 1)
	}
	return bounds
}()

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) {
	h.nanoseconds.Add(int64(d))
	fraction, exponent := math.Frexp(d.Seconds())
	i := (exponent - 1) * perOctave
	for _, bound := range quarters {
		if fraction > bound {
			i++
		}
	}
	if d <= 0 {
		i = firstBucket
	}
	h.buckets[min(max(i, firstBucket), lastBucket)-firstBucket].Add(1)
}

// Sum is all durations together.
func (h *Histogram) Sum() time.Duration { return time.Duration(h.nanoseconds.Load()) }

// Buckets are the counts that are not 0, by the number of the bucket: i holds what is longer than 2^((i-1)/4) seconds and not longer
// than 2^(i/4).
func (h *Histogram) Buckets() (counts map[int]int64, total uint64) {
	counts = map[int]int64{}
	for i := range h.buckets {
		if n := h.buckets[i].Load(); n > 0 {
			counts[i+firstBucket] = n
			total += uint64(n)
		}
	}
	return counts, total
}

// Quantiles are the upper bounds, in seconds, of the buckets in which the quantiles lie; NaN while nothing is counted.
func Quantiles(counts map[int]int64, total uint64, q ...float64) (out []float64) {
	for _, q := range q {
		found, below := math.NaN(), 0.0
		for i := firstBucket; i <= lastBucket && total > 0; i++ {
			if below += float64(counts[i]); below >= q*float64(total) {
				found = math.Exp2(float64(i) / perOctave)
				break
			}
		}
		out = append(out, found)
	}
	return out
}

// Phase is a part of a request's time.
type Phase int

const (
	// Handled is the time in the handler, but for Waited.
	Handled Phase = iota
	// Waited is for others: records, replicas, members of a group.
	Waited
	// Queued is an answer's, for those before it on its connection.
	Queued
	// Sent is in writing the answer.
	Sent
	phases
)

// Phases are their names.
var Phases = [phases]string{"handled", "waited", "queued", "sent"}

// RequestStats are what requests of one kind have taken so far.
type RequestStats struct {
	Total          Histogram // from the arrival of a request to the end of its answer
	InPhase        [phases]atomic.Int64
	Received, Sent atomic.Int64 // bytes of frames
}

// Stats are what a server has counted so far.
type Stats struct {
	Requests    map[string]*RequestStats // by the API's name, or the Kind's
	Connections map[string]int           // open now, by listener
	Accepted    int64
	Parked      int64 // connections of addresses that opened too many in a second (connection_creation_rate)
}

// counters are a server's.
type counters struct {
	byKey    [128]*RequestStats // of registered APIs
	byKind   []RequestStats     // from Kind 1 on
	accepted atomic.Int64
	parked   atomic.Int64
}

func newCounters(r *Registry) *counters {
	c := &counters{byKind: make([]RequestStats, len(r.kinds))}
	for _, api := range r.APIs() {
		c.byKey[api.Key] = new(RequestStats)
	}
	return c
}

// Stats tells what the server has counted.
func (s *Server) Stats() Stats {
	st := Stats{Requests: map[string]*RequestStats{}, Connections: map[string]int{}, Accepted: s.counters.accepted.Load(), Parked: s.counters.parked.Load()}
	for _, api := range s.registry.APIs() {
		st.Requests[api.Name] = s.counters.byKey[api.Key]
	}
	for i, name := range s.registry.kinds {
		st.Requests[name] = &s.counters.byKind[i]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		st.Connections[c.listener]++
	}
	return st
}

// took counts a request that was answered, and logs it if it was slow.
func (s *Server) took(r *Request, size int) {
	now := time.Now()
	stats := s.counters.byKey[r.Key]
	if r.kind != 0 {
		stats = &s.counters.byKind[r.kind-1]
	}
	total := now.Sub(r.Received)
	stats.Total.Observe(total)
	stats.Received.Add(int64(r.size))
	stats.Sent.Add(int64(size))
	for p, d := range r.phases {
		stats.InPhase[p].Add(int64(d))
	}
	if limit := s.config.SlowRequest; limit > 0 && r.phases[Handled]+r.phases[Sent] > limit && s.slow.Allow() {
		s.tell(s.log.Warn(), r, total).Msg("slow request")
	}
	if e := s.config.RequestLog.Debug(); e.Enabled() {
		s.tell(e, r, total).Int16("version", r.Version).Str("listener", r.Session.Listener).Int("request_bytes", r.size).Int("response_bytes", size).Msg("request")
	}
}

// tell adds who asked for what, and where the time went.
func (s *Server) tell(e *zerolog.Event, r *Request, total time.Duration) *zerolog.Event {
	e = e.Str("request", s.registry.find(r.Key).Name).Str("client", r.ClientID).Str("peer", r.Session.Peer).Dur("took", total)
	for p, d := range r.phases {
		e = e.Dur(Phases[p], d)
	}
	return e
}
