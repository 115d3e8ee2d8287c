package raftmeta

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
)

// Room is which of a broker's log directories have no room left on their disks.
type Room struct {
	Scarce []image.UUID // for records of producers
	Full   []image.UUID // of Scarce, for any records
}

// roomTag is the tag of a BrokerHeartbeat that carries a Room: a byte that counts Scarce, then the ids of Scarce and of Full. Kafka has
// no word for it; its brokers go on until the disk fails. In DescribeCluster's answer an empty one marks such a broker.
const roomTag = 10_000

// tag adds a room to a heartbeat.
func (r Room) tag(req *kmsg.BrokerHeartbeatRequest) {
	if len(r.Scarce) == 0 {
		return
	}
	data := []byte{byte(len(r.Scarce))}
	for _, id := range append(r.Scarce[:len(r.Scarce):len(r.Scarce)], r.Full...) {
		data = append(data, id[:]...)
	}
	req.UnknownTags.Set(roomTag, data)
}

// withoutRoom is what tag wrote.
func withoutRoom(req *kmsg.BrokerHeartbeatRequest) (scarce, full []image.UUID) {
	req.UnknownTags.Each(func(key uint32, data []byte) {
		if key != roomTag || len(data) == 0 {
			return
		}
		count := int(data[0])
		for i := 1; i+16 <= len(data); i += 16 {
			if id := image.UUID(data[i : i+16]); len(scarce) < count {
				scarce = append(scarce, id)
			} else {
				full = append(full, id)
			}
		}
	})
	return scarce, full
}

// DiskFull reports whether a broker has log directories without room, of an answer that includes fenced brokers.
func DiskFull(b *kmsg.DescribeClusterResponseBroker) bool { return hasTag(b, roomTag) }

func hasTag(b *kmsg.DescribeClusterResponseBroker, tag uint32) (yes bool) {
	b.UnknownTags.Each(func(key uint32, _ []byte) { yes = yes || key == tag })
	return yes
}

// NoteRoom has all later heartbeats say which log directories have no room. Any goroutine may call it.
func (m *Meta) NoteRoom(r Room) {
	m.life.mu.Lock()
	defer m.life.mu.Unlock()
	m.life.room = r
}

// SetRoom reports to the controller which of this broker's log directories have no room, so that others lead the partitions there.
// Later heartbeats repeat it. Any goroutine may call it.
func (m *Meta) SetRoom(ctx context.Context, r Room) error {
	m.NoteRoom(r)
	resp, err := m.beat(ctx, false)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}
