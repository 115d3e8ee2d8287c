//go:build linux

package hostile

import (
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
)

// promises are requests of which peers send little, or nearly all, and then nothing.
var promises = map[string]attack{
	"one with eleven bytes of a large request":    {1, promise(8<<20, 11)},
	"many with little of the largest":             {300, promise(100<<20, 100_000)},
	"some with nearly all of the largest":         {8, promise(100<<20, 99<<20)},
	"many with nearly all of requests of 1 MiB":   {300, promise(1<<20, 1<<20-1)},
	"many with nearly all of requests of 200 KiB": {300, promise(200<<10, 200<<10-1)},
}

// TestPromises: while peers send what they promise no request of another client takes two seconds; after that its 99th percentile is below
// three times what it was. The broker's memory stays within bounds.
func TestPromises(t *testing.T) {
	k, address := start(t)
	v := newVictim(t, k, address)
	for name := range promises {
		t.Run(name, func(t *testing.T) {
			v.goesOn(t, besiege(t, name, address))
		})
	}
}

// victim is a client that does nothing wrong, while others do.
type victim struct {
	broker *harness.Kraft
	client *kgo.Client
	value  []byte
	before time.Duration // the 99th percentile of what it waited while nobody asked anything of the broker
}

func newVictim(t *testing.T, k *harness.Kraft, address string) *victim {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr), kgo.DefaultProduceTopic("t"), kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	v := &victim{broker: k, client: cl, value: make([]byte, 200_000)}
	v.p99(t)
	s := besiege(t, busy, address)
	defer s.end()
	s.awaitActed()
	v.before = v.p99(t)
	return v
}

// produce returns how long a record took.
func (v *victim) produce(t *testing.T) time.Duration {
	t.Helper()
	begun := time.Now()
	if err := v.client.ProduceSync(t.Context(), &kgo.Record{Value: v.value}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return time.Since(begun)
}

func (v *victim) p99(t *testing.T) time.Duration {
	t.Helper()
	var took []time.Duration
	for range 600 {
		took = append(took, v.produce(t))
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// goesOn measures the client while s lasts, ends s, and fails the test if a request waits too long or the broker takes too much memory.
func (v *victim) goesOn(t *testing.T, s *siege) {
	t.Helper()
	defer s.end()
	const noise = 50 * time.Millisecond // of a machine with other work; who holds memory held it for minutes
	longest := time.Duration(0)
	begun, late := time.Now(), time.After(actPatience)
	for waiting := true; waiting || time.Since(begun) < 2*time.Second; {
		longest = max(longest, v.produce(t))
		select {
		case <-s.acted:
			waiting = false
		case <-late:
			waiting = false
		default:
		}
	}
	after := v.p99(t)
	resident, err := v.broker.Resident()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("longest %v, 99th percentile %v, before %v; %d MiB resident", longest, after, v.before, resident>>20)
	if longest > 2*time.Second {
		t.Errorf("a request took %v", longest)
	}
	if after > max(3*v.before, noise) {
		t.Errorf("the 99th percentile is %v, before %v", after, v.before)
	}
	if resident > 500<<20 {
		t.Errorf("%d MiB resident", resident>>20)
	}
}

// promise sends the beginning of a Produce request, or of Metadata where that is short, and then nothing.
func promise(size, sent int) func(int, net.Conn, func()) error {
	return func(_ int, c net.Conn, did func()) error {
		key := uint16(0)
		if sent < 100 {
			key = 3
		}
		frame := binary.BigEndian.AppendUint32(nil, uint32(size))
		frame = binary.BigEndian.AppendUint16(frame, key)
		frame = append(frame, 0, 3, 0, 0, 0, 1, 0xff, 0xff)
		if _, err := c.Write(frame[:min(len(frame), sent)]); err != nil {
			return err
		}
		chunk := make([]byte, 64<<10)
		for left := sent + 4 - len(frame); left > 0; left -= len(chunk) {
			if _, err := c.Write(chunk[:min(left, len(chunk))]); err != nil {
				return nil // the broker has had enough of it
			}
			did() // at least this much: what comes after it may not be read for a while
		}
		did()
		return nil
	}
}
