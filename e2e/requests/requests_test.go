// Package requests sends kraft and Apache Kafka the same requests, of every API in every version, which a machine made up, and compares
// what they answer.
package requests

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
)

// versions are those of each API that both servers serve.
func versions(t *testing.T, servers []*server) map[int16][2]int16 {
	out := map[int16][2]int16{}
	for _, s := range servers {
		resp, err := s.ask(&kmsg.ApiVersionsRequest{Version: 0})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range resp.(*kmsg.ApiVersionsResponse).ApiKeys {
			before, ok := out[k.ApiKey]
			if !ok {
				before = [2]int16{k.MinVersion, kmsg.RequestForKey(k.ApiKey).MaxVersion()}
			}
			out[k.ApiKey] = [2]int16{max(before[0], k.MinVersion), min(before[1], k.MaxVersion)}
		}
	}
	out[0] = [2]int16{3, out[0][1]} // Apache Kafka names versions 0 to 2 of Produce for old librdkafkas, and serves none of them (KAFKA-18659)
	return out
}

// number returns the number in an environment variable, or usual if the variable is not set.
func number(t *testing.T, name string, usual int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestRequests plays some trials of each version of each API on both servers. KRAFT_REQUESTS says how many, KRAFT_REQUESTS_SEED which; each
// trial that differs is made simpler then. CI plays two, the same each time.
func TestRequests(t *testing.T) {
	n, seed := number(t, "KRAFT_REQUESTS", 2), number(t, "KRAFT_REQUESTS_SEED", 1)
	usual := os.Getenv("KRAFT_REQUESTS")+os.Getenv("KRAFT_REQUESTS_SEED") == ""
	if !harness.All() && usual {
		n = 1
	}
	b := &bench{t: t, servers: both(t)}
	for _, s := range b.servers {
		s.coordinate(t)
		w, err := newWorld(s, 0, "T1", "T2")
		if err != nil {
			t.Fatal(err)
		}
		b.shared = append(b.shared, w)
	}
	outcomes := map[string]map[string]string{"kafka": {}, "kraft": {}}
	began := time.Now()
	all := trials(versions(t, b.servers), uint64(seed), n)
	for i, tr := range all {
		differ := b.run(tr)
		name := tr.marks() + tr.String()
		outcomes["kafka"][name], outcomes["kraft"][name] = differ[0], differ[1]
		if !usual && differ != [2]string{} {
			less, d := b.shrink(tr, differ)
			t.Logf("%s\n  in short %s\n  kafka    %s\n  kraft    %s", name, less, d[0], d[1])
		}
		if i%500 == 499 {
			t.Logf("%d of %d trials in %v", i+1, len(all), time.Since(began).Round(time.Second))
		}
	}
	t.Logf("%d trials in %v", len(all), time.Since(began).Round(time.Second))
	harness.Compare(t, "testdata/requests.txt", outcomes, usual && harness.All())
}
