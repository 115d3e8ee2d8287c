//go:build unix

package e2e

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/clients"
	"kraft/e2e/harness"
)

// streamed is a producer of another language that goes on whatever happens, and what it was told.
type streamed struct {
	*clients.Program
	name string

	mu      sync.Mutex // guards the rest
	sent    map[string]int32
	acked   map[string]string // offset and time of day
	told    []string          // errors
	last    time.Time         // of an acknowledgement
	longest time.Duration     // between two since the last restart began
}

func startStream(t *testing.T, d clients.Driver, bootstrap []string, topic string, partitions int, name string, acks ...string) *streamed {
	t.Helper()
	p, err := d.Start(append([]string{"stream", strings.Join(bootstrap, ","), topic, strconv.Itoa(partitions), name}, acks...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	s := &streamed{Program: p, name: name, sent: map[string]int32{}, acked: map[string]string{}}
	go func() {
		for line := range p.Lines {
			s.hear(strings.Fields(line))
		}
	}()
	return s
}

func (s *streamed) hear(f []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(f) == 3 && f[0] == "sent":
		n, _ := strconv.Atoi(f[2])
		s.sent[f[1]] = int32(n)
	case len(f) == 3 && f[0] == "ack":
		now := time.Now()
		s.acked[f[1]] = fmt.Sprintf("%s at %s", f[2], now.Format("15:04:05.000"))
		if !s.last.IsZero() {
			s.longest = max(s.longest, now.Sub(s.last))
		}
		s.last = now
	case len(f) > 2 && f[0] == "error":
		s.told = append(s.told, strings.Join(f[1:], " "))
	}
}

// more waits until so many more records are acknowledged.
func (s *streamed) more(n int) error {
	count := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.acked)
	}
	want := count() + n
	return harness.Eventually(time.Minute, func() error {
		if got := count(); got < want {
			return fmt.Errorf("%s: %d records are acknowledged, waiting for %d; it says %s", s.name, got, want, s.Output())
		}
		return nil
	})
}

// gap is the longest time between two acknowledgements since the last call.
func (s *streamed) gap() (longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	longest, s.longest = s.longest, 0
	return longest
}

func (s *streamed) toldNothing(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.told) > 0 {
		t.Errorf("%s was told of %d errors, the first: %s", s.name, len(s.told), s.told[0])
	}
}

// end has the program wait for its answers and end.
func (s *streamed) end() error {
	if err := s.End(); err != nil {
		return err
	}
	if err := s.Wait(time.Minute); err != nil {
		return err
	}
	return harness.Eventually(10*time.Second, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.acked)+len(s.told) < len(s.sent) {
			return errors.New("answers are missing")
		}
		return nil
	})
}

// restarts is how many TestStopsDrain does; KRAFT_RESTARTS sets another number.
func restarts() int {
	if n, err := strconv.Atoi(os.Getenv("KRAFT_RESTARTS")); err == nil {
		return n
	}
	return 6
}

// longestGap bounds the time without an acknowledgement while a broker restarts, on a machine that does other things beside.
const longestGap = time.Second

// librdkafkasGap is longestGap for librdkafka. It waits longer each time before it tries a broker again that was not there, and a broker
// that leads again may wait for it: of 100 restarts 7 had a gap above a second, the longest 1.98 s, and with reconnect.backoff.max.ms=100
// none of 60.
const librdkafkasGap = 2500 * time.Millisecond

// TestStopsDrain stops and starts one node after the other, and at last all at once, under producers of four clients, idempotent
// and not, with acks=all and acks=1: none is told of an error, and every record is there once and in order.
func TestStopsDrain(t *testing.T) {
	const partitions = 3
	c := harness.NewCluster(t, 3, "--override", "min.insync.replicas=2")
	all := c.Bootstrap()
	c.Nodes[0].CLI(t, "", "topic", "create", "load", "-p", strconv.Itoa(partitions), "-r", "3")
	leaders(t, all, "load", 3)
	var streams []*streamed
	for name, d := range map[string]clients.Driver{"java": clients.Java(t), "librdkafka": clients.Confluent(t), "franz": clients.Franz(t), "sarama": clients.Sarama(t)} {
		streams = append(streams, startStream(t, d, all, "load", partitions, name),
			startStream(t, d, all, "load", partitions, name+"-acks-all", "all"), startStream(t, d, all, "load", partitions, name+"-acks-1", "1"))
	}
	work := func() {
		t.Helper()
		for _, s := range streams {
			if err := s.more(50); err != nil {
				t.Fatal(err)
			}
		}
	}
	work()
	gaps := map[string]time.Duration{}
	for i := range restarts() {
		for _, s := range streams {
			s.gap()
		}
		k := c.Nodes[i%len(c.Nodes)]
		if err := k.Stop(20 * time.Second); err != nil {
			t.Fatal(err)
		}
		if err := k.Start(); err != nil {
			t.Fatal(err)
		}
		leaders(t, all, "load", 3)
		work() // librdkafka 2.16 hangs for good when all brokers restart within its reconnect.backoff.ms
		for _, s := range streams {
			g := s.gap()
			gaps[s.name] = max(gaps[s.name], g)
			bound := longestGap
			if strings.HasPrefix(s.name, "librdkafka") {
				bound = librdkafkasGap
			}
			if g > bound {
				t.Errorf("restart %d: %s had no acknowledgement for %v", i+1, s.name, g)
			}
		}
	}
	t.Logf("longest times without an acknowledgement: %v", gaps)
	for _, s := range streams {
		s.toldNothing(t)
	}
	stopped := make(chan error)
	for _, k := range c.Nodes {
		go func() { stopped <- k.Stop(20 * time.Second) }()
	}
	for range c.Nodes {
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}
	if err := c.Start(c.Nodes...); err != nil {
		t.Fatal(err)
	}
	work()
	for _, s := range streams {
		if err := s.end(); err != nil {
			t.Fatalf("%s: %v: %s", s.name, err, s.Output())
		}
		if !strings.HasPrefix(s.name, "sarama") { // which gives up when no broker has run for a second
			s.toldNothing(t)
		}
	}
	checkOnce(t, all, "load", streams)
}

// checkOnce reads a topic: every record of the producers is there once, and those of one producer in order.
func checkOnce(t *testing.T, bootstrap []string, topic string, streams []*streamed) {
	t.Helper()
	ctx := timeout(t, time.Minute)
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	type producer struct {
		name      string
		partition int32
	}
	seen, newest := map[string]int{}, map[producer]int{}
	twice, disorder := map[string]int{}, map[string]int{}
	for left > 0 {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d records cannot be read", left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			left--
			value := string(r.Value)
			at := strings.LastIndexByte(value, '-')
			n, _ := strconv.Atoi(value[at+1:])
			p := producer{value[:at], r.Partition}
			if seen[value]++; seen[value] > 1 {
				twice[p.name]++
				t.Logf("%s is there again at %d of partition %d, epoch %d", value, r.Offset, r.Partition, r.LeaderEpoch)
			}
			if before, ok := newest[p]; ok && n < before {
				disorder[p.name]++
			}
			newest[p] = n
		})
	}
	if len(twice)+len(disorder) > 0 {
		t.Errorf("records that are there twice: %v, that follow a later one: %v", twice, disorder)
	}
	total := 0
	for _, s := range streams {
		for value, ack := range s.acked {
			if seen[value] == 0 {
				t.Errorf("record %s of partition %d is lost: it was acknowledged with offset %s", value, s.sent[value], ack)
			} else if seen[value] > 1 {
				t.Logf("%s was acknowledged with offset %s", value, ack)
			}
		}
		total += len(s.acked)
	}
	t.Logf("%d records were acknowledged", total)
}
