package requests

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
)

// mangle makes bytes that are hardly a request: cut short, longer, or with a byte that says something else.
func mangle(g *rand.Rand, body []byte) (out []byte, what string) {
	out = append([]byte{}, body...)
	at := g.IntN(len(out) + 1)
	switch kind := g.IntN(4); {
	case kind == 0:
		return out[:at], fmt.Sprintf("cut at %d", at)
	case kind == 1:
		return append(out, 0, 1, 2), "three bytes more"
	case at == len(out):
		return append(out, 0xff), "a byte more"
	default:
		out[at] = []byte{0xff, 0x7f, 0x80, 0}[g.IntN(4)]
		return out, fmt.Sprintf("%#x at %d", out[at], at)
	}
}

// TestMangled: what ends a connection to Apache Kafka, since it cannot be read, ends one to kraft; and after each such request both answer
// the next one. What they answer where both read something is TestRequests' matter.
func TestMangled(t *testing.T) {
	servers := both(t)
	var worlds []*world
	for _, s := range servers {
		s.coordinate(t)
		w, err := newWorld(s, 0, "T1", "T2")
		if err != nil {
			t.Fatal(err)
		}
		worlds = append(worlds, w)
	}
	known := versions(t, servers)
	const each = 6
	ended, outcomes := 0, map[string]map[string]string{"kafka": {}, "kraft": {}}
	for _, key := range []int16{1, 2, 3, 8, 9, 10, 12, 13, 14, 15, 16, 20, 21, 22, 23, 32, 35, 37, 42, 43, 46, 47, 48, 55, 60, 61, 75} {
		for version := known[key][0]; version <= known[key][1]; version++ {
			for i := range each {
				g := &generator{versions: known, Rand: rand.New(rand.NewPCG(7, uint64(key)<<32|uint64(version)<<16|uint64(i)))}
				req := g.request(key, version)
				seed := g.Uint64()
				for n, s := range servers {
					w := &world{try: worlds[n].try, ids: worlds[n].ids}
					body, what := mangle(rand.New(rand.NewPCG(seed, 0)), w.bind(req).AppendTo(nil))
					trial, outcome := text(req)+", "+what, "goes on"
					if _, err := s.send(key, version, body, req.IsFlexible(), true); err != nil && !errors.Is(err, errWaits) {
						outcome = err.Error()
						ended++
					}
					outcomes[s.name][trial] = outcome
					if _, err := s.ask(&kmsg.ApiVersionsRequest{Version: 0}); err != nil {
						t.Fatalf("%s answers nothing after %s: %v", s.name, trial, err)
					}
				}
			}
		}
	}
	t.Logf("%d requests to each, %d of all ended a connection", len(outcomes["kafka"]), ended)
	harness.Compare(t, "testdata/mangled.txt", outcomes, true)
}
