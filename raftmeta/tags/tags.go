// Package tags has the tagged fields that kraft adds to Kafka's messages (KIP-482). Other programs skip them.
package tags

import (
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

// Tag adds a room to a heartbeat.
func (r Room) Tag(req *kmsg.BrokerHeartbeatRequest) {
	if len(r.Scarce) == 0 {
		return
	}
	data := []byte{byte(len(r.Scarce))}
	for _, id := range append(r.Scarce[:len(r.Scarce):len(r.Scarce)], r.Full...) {
		data = append(data, id[:]...)
	}
	req.UnknownTags.Set(roomTag, data)
}

// RoomOf returns the Room that Tag added to a heartbeat.
func RoomOf(req *kmsg.BrokerHeartbeatRequest) (r Room) {
	req.UnknownTags.Each(func(key uint32, data []byte) {
		if key != roomTag || len(data) == 0 {
			return
		}
		count := int(data[0])
		for i := 1; i+16 <= len(data); i += 16 {
			if id := image.UUID(data[i : i+16]); len(r.Scarce) < count {
				r.Scarce = append(r.Scarce, id)
			} else {
				r.Full = append(r.Full, id)
			}
		}
	})
	return r
}

// startingTag is the tag of a fenced broker, in the answer to DescribeCluster, that has not served since it registered: it opens its logs.
const startingTag = roomTag + 1

// MarkDiskFull marks a broker that has log directories without room.
func MarkDiskFull(b *kmsg.DescribeClusterResponseBroker) { b.UnknownTags.Set(roomTag, nil) }

// MarkStarting marks a broker that has not served clients yet since its process began.
func MarkStarting(b *kmsg.DescribeClusterResponseBroker) { b.UnknownTags.Set(startingTag, nil) }

// DiskFull reports whether a broker has log directories without room, of an answer that includes fenced brokers.
func DiskFull(b *kmsg.DescribeClusterResponseBroker) bool { return hasTag(b, roomTag) }

func hasTag(b *kmsg.DescribeClusterResponseBroker, tag uint32) (yes bool) {
	b.UnknownTags.Each(func(key uint32, _ []byte) { yes = yes || key == tag })
	return yes
}

// Starting reports whether a broker has not served clients yet since its process began, of an answer that includes fenced brokers.
func Starting(b *kmsg.DescribeClusterResponseBroker) bool { return hasTag(b, startingTag) }
