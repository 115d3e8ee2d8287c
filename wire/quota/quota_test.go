package quota

import (
	_ "embed"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// series are amounts that Apache Kafka's Rate and TokenBucket were given, with the milliseconds after which they were and the milliseconds for
// which a client would have been throttled then. A line "rate COUNT SECONDS LIMIT" or "tokens ..." begins a series.
//
//go:embed testdata/series.txt
var series string

// TestSeries: as Apache Kafka 4.4.0 measures.
func TestSeries(t *testing.T) {
	var w Windows
	var limit float64
	var rate *Rate
	var bucket *tokens
	epoch := time.UnixMilli(1_000_000_000_000)
	title, begun := "", 0
	for line := range strings.Lines(series) {
		line = strings.TrimSpace(line)
		fields := strings.Fields(line)
		if len(fields) == 4 {
			seconds := 0
			if _, err := fmt.Sscan(strings.Join(fields[1:], " "), &w.Count, &seconds, &limit); err != nil {
				t.Fatal(line, err)
			}
			w.Each = time.Duration(seconds) * time.Second
			rate, bucket = nil, nil
			if fields[0] == "rate" {
				rate = new(Rate)
			} else {
				bucket = new(tokens)
			}
			title = line
			begun++
			continue
		}
		var at, want int64
		var amount float64
		if _, err := fmt.Sscan(line, &at, &amount, &want); err != nil {
			t.Fatal(line, err)
		}
		now := epoch.Add(time.Duration(at) * time.Millisecond)
		var got time.Duration
		if rate != nil {
			rate.Take(w, amount, now)
			got = rate.Throttle(w, limit, now)
		} else {
			bucket.refill(w, limit, now)
			bucket.left -= amount
			got = bucket.throttle(w, limit, now)
		}
		if d := got.Milliseconds() - want; d < -1 || d > 1 {
			t.Fatalf("%s: at %d: throttled for %v, Kafka %d ms", title, at, got, want)
		}
	}
	if begun < 60 {
		t.Fatalf("%d series", begun)
	}
}

// TestPrecedence: which of the quotas that match counts, and who shares it.
func TestPrecedence(t *testing.T) {
	name := func(s string) Part { return Part{Name: s} }
	any, none := Part{Default: true}, Part{}
	order := []struct {
		of  Entity
		who client
	}{
		{Entity{name("u"), name("c")}, client{"u", "c"}},
		{Entity{name("u"), any}, client{"u", "c"}},
		{Entity{name("u"), none}, client{user: "u"}},
		{Entity{any, name("c")}, client{"u", "c"}},
		{Entity{any, any}, client{"u", "c"}},
		{Entity{any, none}, client{user: "u"}},
		{Entity{none, name("c")}, client{id: "c"}},
		{Entity{none, any}, client{id: "c"}},
	}
	for set := range 1 << len(order) {
		l := new(Limits)
		first := -1
		for i, o := range order {
			if set&(1<<i) == 0 {
				continue
			}
			l.Set(o.of, Keys[Fetch], float64(i+1))
			l.Set(o.of, "unknown", 1)
			if first < 0 {
				first = i
			}
		}
		limit, who, ok := l.find(Fetch, "u", "c")
		if ok != (first >= 0) || ok && (limit != float64(first+1) || who != order[first].who) {
			t.Fatalf("set %b: %v of %v, %v", set, limit, who, ok)
		}
		if _, _, ok := l.find(Produce, "u", "c"); ok {
			t.Fatal("a quota of another kind")
		}
		if _, _, ok := l.find(Fetch, "v", "d"); ok != (set&0b10110000 != 0) {
			t.Fatalf("set %b: another user's: %v", set, ok)
		}
	}
}

func manager(l *Limits) *Manager {
	w := Windows{11, time.Second}
	m := NewManager(Config{Requests: w, Controller: w})
	m.SetLimits(l)
	return m
}

// TestManager: what is throttled, for how long, and what is only counted.
func TestManager(t *testing.T) {
	l := new(Limits)
	each := Entity{User: Part{Default: true}}
	l.Set(each, Keys[Produce], 10_000)
	l.Set(each, Keys[Request], 1)
	l.Set(each, Keys[Mutations], 1)
	m := manager(l)
	now := time.Unix(1_000_000, 0)
	if got := m.Take(Produce, "a", "", 100_000, now); got != 0 {
		t.Errorf("within the quota: %v", got)
	}
	if got := m.Take(Produce, "a", "", 100_000, now); got != 10*time.Second {
		t.Errorf("twice the quota: %v", got)
	}
	m.Count(Produce, "a", "", -100_000, now)
	if got := m.Take(Produce, "a", "", 1, now); got > time.Millisecond {
		t.Errorf("what was given back counts: %v", got)
	}
	if got := m.Take(Produce, "b", "", 100_000, now); got != 0 {
		t.Errorf("another user: %v", got)
	}
	if got := m.Take(Fetch, "a", "", 1e12, now); got != 0 {
		t.Errorf("without a quota: %v", got)
	}
	if got := m.Take(Request, "a", "", 1e6, now); got != time.Second {
		t.Errorf("request time throttles for %v, at most a window", got)
	}
	if got := m.Most(Produce, "a", "", 1<<20); got != 100_000 {
		t.Errorf("at most %d at once", got)
	}
	for i, want := range []time.Duration{0, 0, 5 * time.Second} { // 11 tokens, 3, -5
		if got := m.Spend("a", "", 8, now); got != want {
			t.Errorf("mutations %d: %v", i, got)
		}
	}
	if got := m.Spend("a", "", 8, now.Add(6*time.Second)); got != 0 {
		t.Errorf("mutations later: %v", got)
	}
	if got := m.Take(Mutations, "a", "", 100, now.Add(6*time.Second)); got != 107*time.Second {
		t.Errorf("mutations that are not refused: %v", got)
	}
	if s := m.Throttled(); s[Produce].Times != 1 || s[Produce].Time != 10*time.Second || s[Request].Times != 1 || s[Mutations].Times != 2 {
		t.Errorf("counted %+v", s)
	}
	m.SetLimits(new(Limits))
	if got := m.Take(Produce, "a", "", 1e9, now); got != 0 {
		t.Errorf("the quota was removed: %v", got)
	}
	var nobody *Manager
	if nobody.Take(Produce, "a", "", 1e9, now) != 0 || nobody.Most(Fetch, "a", "", 7) != 7 || nobody.Limits(Fetch, "a", "") || nobody.Spend("a", "", 1, now) != 0 {
		t.Error("a nil Manager limits")
	}
}

// TestManyClients: names that a client makes up take a bounded amount of memory, and do not get it more than any one name would after a while.
func TestManyClients(t *testing.T) {
	l := new(Limits)
	l.Set(Entity{Part{Default: true}, Part{Default: true}}, Keys[Produce], 1000)
	m := manager(l)
	now := time.Unix(1_000_000, 0)
	throttled := false
	for i := range maxTakers + 1000 {
		throttled = m.Take(Produce, "a", fmt.Sprint(i), 1000, now) > 0
	}
	if len(m.takers) > maxTakers+1 || !throttled {
		t.Errorf("%d clients are known; throttled %v", len(m.takers), throttled)
	}
	m.Take(Produce, "a", "x", 1, now.Add(12*time.Second))
	if len(m.takers) != 2 { // and who is throttled, of whom the log tells once a minute
		t.Errorf("%d clients are known after a while", len(m.takers))
	}
	m.Take(Produce, "a", "x", 1, now.Add(2*time.Minute))
	if len(m.takers) != 1 {
		t.Errorf("%d clients are known after two minutes", len(m.takers))
	}
}

// TestDebts: who is in debt for mutations is known until that is paid, for an hour at most, and long names take no more memory than short ones.
func TestDebts(t *testing.T) {
	l := new(Limits)
	l.Set(Entity{Client: Part{Default: true}}, Keys[Mutations], 1)
	l.Set(Entity{Client: Part{Default: true}}, Keys[Produce], math.Inf(1))
	m := manager(l)
	now := time.Unix(1_000_000, 0)
	name := strings.Repeat("x", 32000)
	for i := range 100 {
		m.Spend("u", fmt.Sprint(name, i), 100, now)
	}
	m.Spend("u", "endless", 1e12, now)
	for who := range m.takers {
		if len(who.id) > maxID {
			t.Fatalf("a name of %d bytes is kept", len(who.id))
		}
	}
	if m.Limits(Produce, "u", "x") {
		t.Error("an infinite quota is one")
	}
	for _, tc := range []struct {
		after time.Duration
		known int
	}{{30 * time.Second, 102}, {2 * time.Minute, 2}, {2 * time.Hour, 1}} {
		if m.Spend("u", "another", 1, now.Add(tc.after)); len(m.takers) != tc.known {
			t.Errorf("%d are known after %v, not %d", len(m.takers), tc.after, tc.known)
		}
	}
	if got := m.Spend("u", fmt.Sprint(name, 1), 1, now.Add(2*time.Minute)); got != 0 {
		t.Errorf("the debt is paid, and counts: %v", got)
	}
}

// TestLines: the log tells once a minute that somebody is throttled, cuts what clients make up, and does not fill up.
func TestLines(t *testing.T) {
	var out strings.Builder
	l := new(Limits)
	l.Set(Entity{Client: Part{Default: true}}, Keys[Produce], 1000)
	m := manager(l)
	m.config.Log = zerolog.New(&out)
	now := time.Unix(1_000_000, 0)
	for i := range 36 / 12 {
		m.Take(Produce, "u", "honest", 22_000, now.Add(time.Duration(i)*12*time.Second))
	}
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Errorf("%d lines within 36 seconds", n)
	}
	now = now.Add(time.Hour)
	for i := range 1000 {
		m.Take(Produce, "u", fmt.Sprint(strings.Repeat("x", 30_000), i), 22_000, now)
	}
	if n := strings.Count(out.String(), "\n"); n > 1+linesAtOnce || out.Len() > 5000 {
		t.Errorf("%d lines, %d bytes", n, out.Len())
	}
}
