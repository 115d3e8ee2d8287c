package coordinator

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
	"kraft/wire/ident"
)

func forReplay() *Coordinator { return New(Config{}) }

func entry(key, value []byte) runtime.Entry {
	return runtime.Entry{Record: runtime.Record{Key: key, Value: value}, ProducerID: -1}
}

// TestReplayOffsets: what every version of a committed offset's record says is known again, and only that.
func TestReplayOffsets(t *testing.T) {
	k := kmsg.OffsetCommitKey{Version: offsetCommitV1, Group: "g", Topic: "t", Partition: 3}
	for _, test := range []struct {
		version int16
		epoch   int32
		expires int64
	}{
		{version: 0, epoch: -1, expires: -1},
		{version: 1, epoch: -1, expires: 77},
		{version: 2, epoch: -1, expires: -1},
		{version: 3, epoch: 5, expires: -1},
	} {
		c := forReplay()
		v := kmsg.NewOffsetCommitValue()
		v.Version, v.Offset, v.LeaderEpoch, v.Metadata, v.CommitTimestamp, v.ExpireTimestamp = test.version, 42, 5, "m", 9, 77
		if err := c.Replay(entry(k.AppendTo(nil), v.AppendTo(nil))); err != nil {
			t.Fatal(err)
		}
		want := Offset{Offset: 42, LeaderEpoch: test.epoch, Metadata: "m", Committed: 9, Expires: test.expires}
		if got := c.groups["g"].offsets[ident.TopicPartition{Topic: "t", Partition: 3}]; got != want {
			t.Errorf("version %d: %+v, not %+v", test.version, got, want)
		}
		// What is written of it says the same.
		again := forReplay()
		r := offsetRecord("g", ident.TopicPartition{Topic: "t", Partition: 3}, &want)
		if err := again.Replay(entry(r.Key, r.Value)); err != nil {
			t.Fatal(err)
		}
		if got := again.groups["g"].offsets[ident.TopicPartition{Topic: "t", Partition: 3}]; got.Offset != 42 || got.Expires != test.expires || test.expires < 0 && got != want {
			t.Errorf("version %d, written and read: %+v, not %+v", test.version, got, want)
		}
		if err := c.Replay(entry(k.AppendTo(nil), nil)); err != nil {
			t.Fatal(err)
		}
		if g := c.groups["g"]; g != nil {
			t.Errorf("version %d: the group is there after its only offset is gone", test.version)
		}
	}
}

// TestReplayTransactions: an offset of a transaction counts once that is committed, unless a later record has committed another offset.
func TestReplayTransactions(t *testing.T) {
	c := forReplay()
	at := int64(0)
	commit := func(topic string, offset, producer int64) {
		t.Helper()
		at++
		r := offsetRecord("g", ident.TopicPartition{Topic: topic, Partition: 0}, &Offset{Offset: offset, Expires: -1})
		if err := c.Replay(runtime.Entry{Record: r, Offset: at, ProducerID: producer}); err != nil {
			t.Fatal(err)
		}
	}
	commit("a", 1, -1)
	commit("a", 2, 7)
	commit("b", 3, 7)
	commit("b", 4, -1)
	commit("c", 5, 8)
	commit("d", 6, 7)
	at++
	if err := c.Replay(runtime.Entry{Record: offsetRecord("g", ident.TopicPartition{Topic: "d"}, nil), Offset: at, ProducerID: -1}); err != nil {
		t.Fatal(err)
	}
	if got := c.groups["g"].offsets; got[ident.TopicPartition{Topic: "a", Partition: 0}].Offset != 1 || len(got) != 2 {
		t.Errorf("before their end: %v", got)
	}
	c.EndTransaction(7, true)
	c.EndTransaction(8, false)
	c.EndTransaction(9, true)
	got := c.groups["g"].offsets
	if got[ident.TopicPartition{Topic: "a", Partition: 0}].Offset != 2 || got[ident.TopicPartition{Topic: "b", Partition: 0}].Offset != 4 || len(got) != 2 {
		t.Errorf("after it: %v", got)
	}
	if len(c.open.byProducer)+len(c.open.unstable) != 0 {
		t.Errorf("still open: %v", c.open)
	}
}

// TestReplayGroups: what every version of a group's record says is known again.
func TestReplayGroups(t *testing.T) {
	k := kmsg.GroupMetadataKey{Version: groupMetadataV2, Group: "g"}
	for version := range int16(4) {
		c := forReplay()
		v := kmsg.NewGroupMetadataValue()
		leader, protocol, instance := "a", "range", "i"
		v.Version, v.ProtocolType, v.Generation, v.Protocol, v.Leader = version, "consumer", 7, &protocol, &leader
		v.CurrentStateTimestamp = 11
		for _, id := range []string{"a", "b"} {
			m := kmsg.NewGroupMetadataValueMember()
			m.MemberID, m.ClientID, m.ClientHost = id, "c"+id, "/h"
			m.SessionTimeoutMillis, m.RebalanceTimeoutMillis = 6000, 30_000
			m.Subscription, m.Assignment = []byte("s"+id), []byte("x"+id)
			if id == "b" && version >= 3 {
				m.InstanceID = &instance
			}
			v.Members = append(v.Members, m)
		}
		if err := c.Replay(entry(k.AppendTo(nil), v.AppendTo(nil))); err != nil {
			t.Fatal(err)
		}
		g := c.groups["g"]
		if g == nil || g.state != Stable || g.generation != 7 || g.protocolType != "consumer" || *g.protocol != "range" || g.leader != "a" || len(g.order) != 2 {
			t.Fatalf("version %d: %+v", version, g)
		}
		b := g.members["b"]
		rebalance := 30 * time.Second
		if version < 1 {
			rebalance = 6 * time.Second // its record has none
		}
		if b.sessionTimeout != 6*time.Second || b.rebalanceTimeout != rebalance || string(b.assignment) != "xb" || len(b.protocols) != 1 || b.protocols[0].Name != "range" || string(b.protocols[0].Metadata) != "sb" || b.clientID != "cb" {
			t.Errorf("version %d: member %+v", version, b)
		}
		if static := b.instance != nil && *b.instance == "i" && g.static["i"] == "b"; static != (version >= 3) {
			t.Errorf("version %d: static %v", version, static)
		}
		if err := c.Replay(entry(k.AppendTo(nil), nil)); err != nil {
			t.Fatal(err)
		}
		if g := c.groups["g"]; g != nil {
			t.Errorf("version %d: the group is there after its deletion", version)
		}
	}
}

// TestReplayStrangeRecords: what is damaged is an error, what is of a newer version is passed over.
func TestReplayStrangeRecords(t *testing.T) {
	c := forReplay()
	offset, group := kmsg.OffsetCommitKey{Version: offsetCommitV1, Group: "g", Topic: "t"}, groupKey("g")
	for name, r := range map[string][2][]byte{
		"no key":              {nil, nil},
		"half a version":      {{0}, nil},
		"half an offset key":  {offset.AppendTo(nil)[:5], {0}},
		"half an offset":      {offset.AppendTo(nil), {0, 3, 0}},
		"half a group key":    {group[:3], {0}},
		"half a group record": {group, {0, 3, 0}},
	} {
		if err := c.Replay(entry(r[0], r[1])); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := c.Replay(entry([]byte{0, 99, 1, 2}, []byte{1})); err != nil {
		t.Errorf("of a newer version: %v", err)
	}
	if len(c.groups) != 0 {
		t.Errorf("groups out of nothing: %v", c.groups)
	}
}
