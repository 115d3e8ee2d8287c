package coordinator

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
)

// Keys of __consumer_offsets begin with their kind (Kafka's CoordinatorRecordType).
const (
	offsetCommitV0  = 0
	offsetCommitV1  = 1
	groupMetadataV2 = 2
)

// Versions written: those that every Kafka since 2.3 reads.
const (
	offsetValueVersion   = 3
	expiringValueVersion = 1 // the only one with an explicit expiry
	groupValueVersion    = 3
)

// TopicPartition names a partition whose offset is committed.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// Offset is one committed offset.
type Offset struct {
	Offset      int64
	LeaderEpoch int32
	Metadata    string
	Committed   int64 // milliseconds
	Expires     int64 // milliseconds, -1 for the broker's retention
}

func offsetRecord(group string, tp TopicPartition, o *Offset) runtime.Record {
	k := kmsg.OffsetCommitKey{Version: offsetCommitV1, Group: group, Topic: tp.Topic, Partition: tp.Partition}
	r := runtime.Record{Key: k.AppendTo(nil)}
	if o == nil {
		return r
	}
	v := kmsg.NewOffsetCommitValue()
	v.Version, v.Offset, v.LeaderEpoch, v.Metadata, v.CommitTimestamp = offsetValueVersion, o.Offset, o.LeaderEpoch, o.Metadata, o.Committed
	if o.Expires >= 0 {
		v.Version, v.ExpireTimestamp = expiringValueVersion, o.Expires
	}
	r.Value = v.AppendTo(nil)
	return r
}

func groupKey(group string) []byte {
	k := kmsg.GroupMetadataKey{Version: groupMetadataV2, Group: group}
	return k.AppendTo(nil)
}

// groupRecord is the state of g with the given assignments, by member id.
func groupRecord(g *group, assignments map[string][]byte) runtime.Record {
	v := kmsg.NewGroupMetadataValue()
	v.Version, v.ProtocolType, v.Generation, v.Protocol = groupValueVersion, g.protocolType, g.generation, g.protocol
	v.CurrentStateTimestamp = g.since
	if g.leader != "" {
		v.Leader = &g.leader
	}
	for _, m := range g.order {
		vm := kmsg.NewGroupMetadataValueMember()
		vm.MemberID, vm.InstanceID, vm.ClientID, vm.ClientHost = m.id, m.instance, m.clientID, m.host
		vm.RebalanceTimeoutMillis, vm.SessionTimeoutMillis = int32(m.rebalanceTimeout.Milliseconds()), int32(m.sessionTimeout.Milliseconds())
		vm.Subscription, vm.Assignment = m.metadata(g.protocol), assignments[m.id]
		v.Members = append(v.Members, vm)
	}
	return runtime.Record{Key: groupKey(g.id), Value: v.AppendTo(nil)}
}

// Replay implements runtime.Machine.
func (c *Coordinator) Replay(key, value []byte) error {
	if len(key) < 2 {
		return fmt.Errorf("key of %d bytes", len(key))
	}
	switch binary.BigEndian.Uint16(key) {
	case offsetCommitV0, offsetCommitV1:
		return c.replayOffset(key, value)
	case groupMetadataV2:
		return c.replayGroup(key, value)
	}
	return nil // of a newer version: passed over, as Kafka does after a downgrade
}

func (c *Coordinator) replayOffset(key, value []byte) error {
	var k kmsg.OffsetCommitKey
	if err := k.ReadFrom(key); err != nil {
		return fmt.Errorf("offset key: %w", err)
	}
	tp := TopicPartition{k.Topic, k.Partition}
	if value == nil {
		if g := c.groups[k.Group]; g != nil {
			delete(g.offsets, tp)
			c.forgetIfVoid(g)
		}
		return nil
	}
	v := kmsg.NewOffsetCommitValue()
	if err := v.ReadFrom(value); err != nil {
		return fmt.Errorf("offset value: %w", err)
	}
	o := Offset{Offset: v.Offset, LeaderEpoch: -1, Metadata: v.Metadata, Committed: v.CommitTimestamp, Expires: -1}
	if v.Version >= 3 {
		o.LeaderEpoch = v.LeaderEpoch
	}
	if v.Version == expiringValueVersion {
		o.Expires = v.ExpireTimestamp
	}
	c.group(k.Group).offsets[tp] = o
	return nil
}

func (c *Coordinator) replayGroup(key, value []byte) error {
	var k kmsg.GroupMetadataKey
	if err := k.ReadFrom(key); err != nil {
		return fmt.Errorf("group key: %w", err)
	}
	if value == nil {
		// Offset records of a deleted group may follow or precede: what is left of it is a simple group.
		if g := c.groups[k.Group]; g != nil {
			n := newGroup(g.id)
			n.offsets = g.offsets
			c.groups[g.id] = n
			c.forgetIfVoid(n)
		}
		return nil
	}
	v := kmsg.NewGroupMetadataValue()
	if err := v.ReadFrom(value); err != nil {
		return fmt.Errorf("group value: %w", err)
	}
	g := newGroup(k.Group)
	if old := c.groups[k.Group]; old != nil {
		g.offsets = old.offsets
	}
	g.protocolType, g.generation, g.protocol, g.since = v.ProtocolType, v.Generation, v.Protocol, v.CurrentStateTimestamp
	if v.Leader != nil {
		g.leader = *v.Leader
	}
	g.known = true
	for i := range v.Members {
		vm := &v.Members[i]
		m := &member{id: vm.MemberID, instance: vm.InstanceID, clientID: vm.ClientID, host: vm.ClientHost,
			sessionTimeout:   time.Duration(vm.SessionTimeoutMillis) * time.Millisecond,
			rebalanceTimeout: time.Duration(vm.RebalanceTimeoutMillis) * time.Millisecond,
			assignment:       vm.Assignment}
		if v.Version < 1 || vm.RebalanceTimeoutMillis < 0 {
			m.rebalanceTimeout = m.sessionTimeout
		}
		if v.Protocol != nil {
			m.protocols = []kmsg.JoinGroupRequestProtocol{{Name: *v.Protocol, Metadata: vm.Subscription}}
		}
		g.add(m)
		g.state = Stable
	}
	c.groups[g.id] = g
	return nil
}
