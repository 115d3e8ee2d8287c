package replication

import (
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/image"
)

// hints collects the leaders that a request's errors name (KIP-951), so that clients need not ask for metadata.
type hints struct {
	manager  *Manager
	listener string // of the client
	leaders  []int32
}

// hint is for a partition whose request failed: its leader and leader epoch, -1 where the error is another.
func (h *hints) hint(err error, byID bool, name string, id image.UUID, n int32) (leader, epoch int32) {
	if !errors.Is(err, kerr.NotLeaderForPartition) && !errors.Is(err, kerr.FencedLeaderEpoch) {
		return -1, -1
	}
	img := h.manager.meta.Image()
	t, _ := img.Topic(name)
	if byID {
		t, _ = img.TopicByID(id)
	}
	p, ok := t.Partition(n)
	if !ok {
		return -1, -1
	}
	if p.Leader != image.NoLeader && !slices.Contains(h.leaders, p.Leader) {
		h.leaders = append(h.leaders, p.Leader)
	}
	return p.Leader, p.LeaderEpoch
}

// each calls f with the brokers that hints named, as the client's listener knows them.
func (h *hints) each(f func(b *image.Broker, e *image.Endpoint)) {
	img := h.manager.meta.Image()
	for _, id := range h.leaders {
		if b, ok := img.Broker(id); ok && !b.Fenced {
			if e, ok := b.Endpoint(h.listener); ok {
				f(b, e)
			}
		}
	}
}

// rackAware is the replica.selector.class that lets consumers read from followers in their rack (KIP-392).
const rackAware = "org.apache.kafka.common.replica.RackAwareReplicaSelector"

// nearest chooses the replica that a consumer in the given rack should read offset from: one of the ISR in that
// rack that has it, -1 for this node.
func (m *Manager) nearest(p *Partition, l *leadership, rack string, offset int64) int32 {
	img := m.meta.Image()
	in := func(id int32) bool {
		b, ok := img.Broker(id)
		return ok && !b.Fenced && b.Rack != nil && *b.Rack == rack
	}
	if in(l.self) {
		return -1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	best, end := int32(-1), int64(-1)
	for id, f := range p.followers {
		if slices.Contains(l.isr, id) && in(id) && f.end >= offset && f.end > end {
			best, end = id, f.end
		}
	}
	return best
}
