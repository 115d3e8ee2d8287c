package chaos

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"kraft/e2e/clients"
	"kraft/e2e/harness"
)

// TestChaos makes nodes, disks and networks fail at random under load. KRAFT_CHAOS is for how long: rounds of two minutes,
// each on a cluster of its own.
func TestChaos(t *testing.T) {
	t.Parallel()
	length, round := time.Minute, 2*time.Minute
	if s := os.Getenv("KRAFT_CHAOS"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	if testing.Short() {
		length = 20 * time.Second
	}
	for end := time.Now().Add(length); time.Now().Before(end) && !t.Failed(); {
		seed := rand.Uint64()
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			c := start(t, []int{3, 3, 5}[seed%3])
			for name, d := range drivers(t) {
				stream(t, c, d, name, "t0", name != "librdkafka")
				consume(t, c, d, name, "t0")
			}
			check(t, c, c.Run(seed, func() error { return c.Fail(seed, min(round, time.Until(end))) }))
		})
	}
}

// start starts a cluster whose first node has a small disk.
func start(t *testing.T, nodes int) *Cluster {
	t.Helper()
	if _, err := harness.Binary(); err != nil {
		t.Fatal(err)
	}
	network, dir := newNetwork(t, nodes+1), t.TempDir()
	unmount, err := SmallDisk(filepath.Join(dir, "1"), 256<<20)
	if err != nil {
		harness.Skip(t, "%v", err)
	}
	t.Cleanup(func() { _ = unmount() })
	c := NewCluster(network, dir)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, n := range c.Nodes {
				t.Logf("node %d said:\n%s", n.ID, n.Output())
			}
		}
	})
	err = c.Start()
	if err == nil {
		err = c.Create("t0", "t1")
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// drivers are those of other languages' clients, as far as this machine can run them.
func drivers(t *testing.T) map[string]clients.Driver {
	out := map[string]clients.Driver{}
	for name, get := range map[string]func(testing.TB) clients.Driver{"java": clients.Java, "librdkafka": clients.Confluent} {
		t.Run(name, func(t *testing.T) { out[name] = get(t) }) // skips itself, and not the rest
	}
	return out
}

// stream starts a producer.
func stream(t *testing.T, c *Cluster, d clients.Driver, name, topic string, idempotent bool) *Program {
	t.Helper()
	p, err := c.Stream(d, name, topic, idempotent)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// consume starts a member of the client's own group.
func consume(t *testing.T, c *Cluster, d clients.Driver, name, topic string) *Program {
	t.Helper()
	p, err := c.Consume(d, name+"'s consumer", topic, name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// check fails the test by what its history found, and keeps the story of a failure.
func check(t *testing.T, c *Cluster, err error) {
	t.Helper()
	found := c.History.Violations()
	if err != nil {
		found = append(found, err.Error())
	}
	story := c.History.Story()
	for line := range strings.Lines(story) {
		if strings.Contains(line, "FAULT") || strings.Contains(line, "mended") || strings.Contains(line, "whole again") {
			t.Log(strings.TrimRight(line, "\n"))
		}
	}
	t.Logf("%d records acknowledged", strings.Count(story, " is t"))
	if len(found) == 0 {
		return
	}
	t.Errorf("%s", strings.Join(found, "\n"))
	file, err := os.CreateTemp("", "kraft-chaos-*.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	_, _ = file.WriteString(story)
	t.Errorf("the whole story is in %s", file.Name())
}
