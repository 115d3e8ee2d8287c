package wire

import (
	"encoding/binary"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// begin opens a connection that promises a frame of so many bytes and sends the first of them.
func (r *rig) begin(t *testing.T, key int16, size, sent int) net.Conn {
	t.Helper()
	p := r.dial(t)
	frame := binary.BigEndian.AppendUint32(nil, uint32(size))
	frame = binary.BigEndian.AppendUint16(frame, uint16(key))
	frame = append(frame, 0, 3, 0, 0, 0, 1, 0xff, 0xff)
	frame = append(frame, make([]byte, max(0, sent+4-len(frame)))...)
	_, _ = p.Write(frame[:sent+4]) // as much as the server takes
	return p
}

// open counts the connections that the server has.
func (r *rig) open() int {
	r.Server.mu.Lock()
	defer r.Server.mu.Unlock()
	return len(r.Server.conns)
}

// big is a Metadata request of so many bytes.
func big(size int) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.SetVersion(1)
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr(strings.Repeat("t", 30_000))
	for n := 0; n < size; n += 30_002 {
		req.Topics = append(req.Topics, topic)
	}
	return req
}

// answeredWithin sends a request of so many bytes, and says how long the answer takes.
func (r *rig) answeredWithin(t *testing.T, size int) time.Duration {
	t.Helper()
	for begun := time.Now(); ; {
		p := r.dial(t)
		p.send(1, metadata(1)) // as clients do first
		p.receive()
		id := int32(0)
		_, err := p.Write(kmsg.NewRequestFormatter().AppendRequest(nil, big(size), 1))
		if err == nil {
			id, _, err = p.tryReceive()
		}
		_ = p.Close()
		switch {
		case err != nil && time.Since(begun) < 5*time.Second: // on a busy machine it may have stood still itself: clients try again
			continue
		case err != nil || id != 1:
			t.Errorf("the answer to %d: %v", id, err)
		}
		return time.Since(begun)
	}
}

const metadataKey = 3

// TestPromisesHoldNothing: peers that promise large frames and send little of them, many or all but a byte, hold up nobody for longer than
// it takes to see that they stand still.
func TestPromisesHoldNothing(t *testing.T) {
	const capacity, largest = 48 << 20, 4 << 20
	for name, c := range map[string]struct {
		peers, size, sent int
		key               int16
		within            time.Duration
	}{
		"eleven bytes of a large one":  {1, largest, 11, metadataKey, time.Second},
		"many with little of theirs":   {50, largest, 2000, produceKey, time.Second},
		"many with a little of medium": {50, mediumRequest, 2000, produceKey, time.Second},
		"many with all but a byte":     {30, largest, largest - 1, produceKey, 2 * time.Second},
		"many medium, all but a byte":  {40, mediumRequest, mediumRequest - 1, produceKey, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.MaxQueuedBytes, c.MaxRequestBytes = capacity, largest })
			for range c.peers {
				go func() { _ = r.begin(t, c.key, c.size, c.sent) }()
			}
			for int(r.Server.counters.accepted.Load()) < c.peers {
				time.Sleep(time.Millisecond)
			}
			for _, size := range []int{100, 40_000, 200_000, 900_000, 3 << 20} {
				if took := r.answeredWithin(t, size); took > slowdown*c.within {
					t.Errorf("a request of %d bytes is answered after %v", size, took)
				}
			}
		})
	}
}

// TestAllComeThrough: more large requests at a time than there is memory for are all answered.
func TestAllComeThrough(t *testing.T) {
	const largest = 4 << 20
	r := newRig(t, func(c *Config) { c.MaxQueuedBytes, c.MaxRequestBytes = largest, largest })
	r.Server.medium.patience, r.Server.large.patience = time.Minute, time.Minute // these clients share two cores
	var clients sync.WaitGroup
	for i := range 24 {
		clients.Go(func() { r.answeredWithin(t, []int{200_000, 900_000, 3_900_000}[i%3]) })
	}
	clients.Wait()
	for r.open() > 0 { // the last leave a moment after their answers
		time.Sleep(time.Millisecond)
	}
	for _, m := range []*memory{r.Server.medium, r.Server.large} {
		m.mu.Lock()
		if m.used != 0 || len(m.holdings) != 0 || len(m.waiting) != 0 {
			t.Errorf("afterwards %d bytes are used by %d requests, and %d wait", m.used, len(m.holdings), len(m.waiting))
		}
		m.mu.Unlock()
	}
}
