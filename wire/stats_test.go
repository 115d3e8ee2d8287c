package wire

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestHistogram(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{0, -time.Second, time.Nanosecond, time.Millisecond, 250 * time.Millisecond, time.Second, time.Second + 1, time.Hour} {
		h.Observe(d)
	}
	counts, total := h.Buckets()
	if total != 8 || h.Sum() != time.Hour+time.Second+251*time.Millisecond+2 {
		t.Errorf("%d counted, %v in all", total, h.Sum())
	}
	for i, want := range map[int]int64{firstBucket: 3, -8: 1, 0: 1, 1: 1, lastBucket: 1} { // 2^(-8/4) s is 250 ms
		if counts[i] != want {
			t.Errorf("bucket %d holds %d, wanted %d of %v", i, counts[i], want, counts)
		}
	}
	q := Quantiles(counts, total, 0.5, 0.75, 1)
	if q[0] > 0.0012 || q[0] < 0.001 || q[1] != 1 || q[2] != 128 {
		t.Errorf("quantiles %v", q)
	}
	if empty := Quantiles(nil, 0, 0.5); !math.IsNaN(empty[0]) {
		t.Errorf("a quantile of nothing is %v", empty)
	}
}

// TestStats: a request is counted with its bytes and its phases, and logged if it is slow for its own part.
func TestStats(t *testing.T) {
	r := newRig(t, func(c *Config) { c.SlowRequest = slowness / 2 })
	p := r.dial(t)
	produce := kmsg.NewPtrProduceRequest()
	produce.Version = 9
	p.send(1, produce)
	p.send(2, metadata(1))
	const patience = 50 * time.Millisecond
	time.Sleep(patience) // what is to be measured
	r.release <- struct{}{}
	p.receive()
	p.receive()
	if log := r.log.String(); log != "" {
		t.Errorf("requests that only waited are logged: %s", log)
	}
	p.send(3, metadata(slowTopics))
	p.receive()
	end := time.Now().Add(10 * time.Second)
	var st Stats
	for st = r.Stats(); !strings.Contains(r.log.String(), "slow request") && time.Now().Before(end); st = r.Stats() {
		time.Sleep(time.Millisecond)
	}
	waited := func(request string, phase Phase) time.Duration {
		return time.Duration(st.Requests[request].InPhase[phase].Load())
	}
	if w := waited("Produce", Waited); w < patience/2 {
		t.Errorf("Produce waited %v", w)
	}
	if q := waited("Metadata", Queued); q < patience/2 {
		t.Errorf("Metadata was queued for %v behind it", q)
	}
	if _, n := st.Requests["Produce"].Total.Buckets(); n != 1 || st.Requests["Produce"].Received.Load() == 0 || st.Accepted != 1 || st.Connections["PLAINTEXT"] != 1 {
		t.Errorf("%d requests, %+v", n, st)
	}
	if log := r.log.String(); !strings.Contains(log, `"request":"Metadata"`) || !strings.Contains(log, `"handled":`) {
		t.Errorf("the log says %s", log)
	}
}

// BenchmarkCounting is what telling requests apart costs each: the ends of its phases, and the counters.
func BenchmarkCounting(b *testing.B) {
	r := new(Registry)
	Handle(r, 0, 13, func(*Request, *kmsg.MetadataRequest) (*kmsg.MetadataResponse, error) { return nil, nil })
	s := NewServer(Config{}, r, Identity{}, zerolog.Nop())
	req := &Request{Key: 3, Received: time.Now()}
	b.ReportAllocs()
	for b.Loop() {
		req.mark = req.Received
		req.end(Handled)
		req.end(Sent)
		s.took(req, 100)
	}
}
