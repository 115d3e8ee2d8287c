package tags

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"kraft/raftmeta/image"
)

// TestRoom: what a heartbeat carries is what it was given, also over the wire.
func TestRoom(t *testing.T) {
	ids := rapid.SliceOfNDistinct(rapid.Byte(), 0, 20, rapid.ID)
	rapid.Check(t, func(t *rapid.T) {
		var r Room
		for i, b := range ids.Draw(t, "ids") {
			id := image.UUID{b, 1}
			r.Scarce = append(r.Scarce, id)
			if i%3 == 0 {
				r.Full = append(r.Full, id)
			}
		}
		req, read := kmsg.NewPtrBrokerHeartbeatRequest(), kmsg.NewPtrBrokerHeartbeatRequest()
		r.Tag(req)
		if err := read.ReadFrom(req.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
		if got := RoomOf(read); !slices.Equal(got.Scarce, r.Scarce) || !slices.Equal(got.Full, r.Full) {
			t.Fatalf("%v, not %v", got, r)
		}
	})
}

// TestForeignTags: a tag of another program, or one that is cut short, gives no room and no panic.
func TestForeignTags(t *testing.T) {
	for _, data := range [][]byte{nil, {5}, {1, 2, 3}, make([]byte, 16)} {
		req := kmsg.NewPtrBrokerHeartbeatRequest()
		req.UnknownTags.Set(roomTag, data)
		if r := RoomOf(req); len(r.Scarce)+len(r.Full) != 0 {
			t.Errorf("%v: %v", data, r)
		}
	}
}

func TestMarks(t *testing.T) {
	var b kmsg.DescribeClusterResponseBroker
	if DiskFull(&b) || Starting(&b) {
		t.Error("marks without a mark")
	}
	MarkDiskFull(&b)
	if !DiskFull(&b) || Starting(&b) {
		t.Error("not the mark of a full disk alone")
	}
	MarkStarting(&b)
	if !Starting(&b) {
		t.Error("not marked as starting")
	}
}
