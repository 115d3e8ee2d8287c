package clients

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

const (
	partitions = 4
	records    = 10_000
	topicName  = "orders"
)

// checkClient is what every client has to do.
func checkClient(t *testing.T, d Driver) {
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", topicName, "--partitions", strconv.Itoa(partitions))
	each := records / len(d.codecs)
	for i, codec := range d.codecs {
		d.produce(t, k, codec, i*each, (i+1)*each)
	}
	checkCodecs(t, k, d.codecs, each)

	seen := map[string]int{}
	a := d.consume(t, k)
	a.read(t, "all records", func() bool { return len(seen) == records }, seen)
	b := d.consume(t, k)
	// Both must end up with two of the four partitions.
	deadline := time.Now().Add(45 * time.Second)
	for len(a.assigned) != partitions/2 || len(b.assigned) != partitions/2 {
		if time.Now().After(deadline) {
			t.Fatalf("no rebalance: first has %v, second %v\nfirst said: %s\nsecond said: %s", a.assigned, b.assigned, a.Output(), b.Output())
		}
		a.readFor(t, 50*time.Millisecond, seen)
		b.readFor(t, 50*time.Millisecond, seen)
	}
	const more = 1000
	d.produce(t, k, d.codecs[0], records, records+more)
	fromA, fromB := map[string]int{}, map[string]int{}
	for deadline = time.Now().Add(30 * time.Second); len(fromA)+len(fromB) < more && time.Now().Before(deadline); {
		a.readFor(t, 20*time.Millisecond, fromA)
		b.readFor(t, 20*time.Millisecond, fromB)
	}
	for key := range fromA {
		if fromB[key] > 0 {
			t.Errorf("%s came to both members", key)
		}
	}
	if len(fromA)+len(fromB) != more || len(fromA) == 0 || len(fromB) == 0 {
		t.Fatalf("of %d records one member read %d, the other %d", more, len(fromA), len(fromB))
	}
	a.close(t)
	b.close(t)

	k.Restart(t)
	const last = 10
	d.produce(t, k, d.codecs[0], records+more, records+more+last)
	after := map[string]int{}
	c := d.consume(t, k)
	c.read(t, "the last records", func() bool { return len(after) >= last }, after)
	c.close(t)
	for i := range last {
		if key := fmt.Sprintf("key-%d", records+more+i); after[key] != 1 {
			t.Errorf("after the restart %s came %d times", key, after[key])
		}
	}
	if len(after) != last {
		t.Errorf("after the restart the group read %d records, %d were new: commits are lost", len(after), last)
	}
}

func (d Driver) produce(t *testing.T, k *harness.Kraft, codec string, from, to int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := harness.Run(ctx, d.Command("produce", k.Addr, topicName, codec, strconv.Itoa(from), strconv.Itoa(to))); err != nil {
		t.Fatalf("produce with %s: %v", codec, err)
	}
}

// checkCodecs reads with a client of known behaviour how batches are stored: as each codec's range was
// sent.
func checkCodecs(t *testing.T, k *harness.Kraft, codecs []string, each int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr), kgo.ConsumeTopics(topicName))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	numbers := map[string]uint8{"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
	wrong := map[string]int{}
	for n := 0; n < each*len(codecs); {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d records: %v", n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			n++
			i, err := strconv.Atoi(strings.TrimPrefix(string(r.Key), "key-"))
			if err != nil {
				t.Fatalf("key %q", r.Key)
			}
			if codec := codecs[i/each]; r.Attrs.CompressionType() != numbers[codec] {
				wrong[codec]++
			}
		})
	}
	for codec, n := range wrong {
		// Clients leave a batch uncompressed if it would grow.
		if n > each/2 {
			t.Errorf("%d of %d records sent with %s are stored otherwise", n, each, codec)
		}
	}
}

// consumer is a running consume command.
type consumer struct {
	*Program
	d        Driver
	assigned []string
}

func (d Driver) consume(t *testing.T, k *harness.Kraft) *consumer {
	t.Helper()
	p, err := d.Start("consume", k.Addr, topicName, "billing")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return &consumer{Program: p, d: d}
}

// read takes lines until done says so.
func (c *consumer) read(t *testing.T, what string, done func() bool, into map[string]int) {
	t.Helper()
	timeout := time.After(60 * time.Second)
	for !done() {
		select {
		case line, ok := <-c.Lines:
			if !ok {
				t.Fatalf("client ended: %s", c.Output())
			}
			c.take(t, line, into)
		case <-timeout:
			out := c.Output()
			t.Fatalf("waiting for %s, got %d; the client said: ...%s", what, len(into), out[max(0, len(out)-3000):])
		}
	}
}

// readFor takes the lines that come within the time.
func (c *consumer) readFor(t *testing.T, d time.Duration, into map[string]int) {
	t.Helper()
	timeout := time.After(d)
	for {
		select {
		case line, ok := <-c.Lines:
			if !ok {
				t.Fatalf("client ended: %s", c.Output())
			}
			c.take(t, line, into)
		case <-timeout:
			return
		}
	}
}

func (c *consumer) take(t *testing.T, line string, into map[string]int) {
	t.Helper()
	if list, ok := strings.CutPrefix(line, "assigned"); ok {
		c.assigned = strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
		return
	}
	f := strings.Fields(line)
	if len(f) != 6 || f[0] != "record" {
		return
	}
	key, value, header := f[3], f[4], f[5]
	i := strings.TrimPrefix(key, "key-")
	if !strings.HasPrefix(value, "value-"+i+"-") || header != i && !c.d.noHeaders {
		t.Fatalf("wrong record: %s", line)
	}
	into[key]++
}

func (c *consumer) close(t *testing.T) {
	t.Helper()
	if err := c.End(); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(30 * time.Second); err != nil {
		t.Fatalf("client did not end well: %v\n%s", err, c.Output())
	}
	if !strings.Contains(c.Output(), "closed") {
		t.Fatalf("client did not close: %s", c.Output())
	}
}
