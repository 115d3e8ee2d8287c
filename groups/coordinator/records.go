package coordinator

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
	"kraft/wire/ident"
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

// Offset is one committed offset.
type Offset struct {
	Offset      int64
	LeaderEpoch int32
	Metadata    string
	Committed   int64 // milliseconds
	Expires     int64 // milliseconds, -1 for the broker's retention

	at int64 // offset of its record
}

func offsetRecord(group string, tp ident.TopicPartition, o *Offset) runtime.Record {
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

// groupRecord is the state of g, entered at since (in milliseconds), with the given assignments by member id.
func groupRecord(g *group, since int64, assignments map[string][]byte) runtime.Record {
	v := kmsg.NewGroupMetadataValue()
	v.Version, v.ProtocolType, v.Generation, v.Protocol = groupValueVersion, g.protocolType, g.generation, g.protocol
	v.CurrentStateTimestamp = since
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
func (c *Coordinator) Replay(e runtime.Entry) error {
	if len(e.Key) < 2 {
		return fmt.Errorf("key of %d bytes", len(e.Key))
	}
	switch binary.BigEndian.Uint16(e.Key) {
	case offsetCommitV0, offsetCommitV1:
		return c.replayOffset(e)
	case groupMetadataV2:
		return c.replayGroup(e)
	}
	return nil // of a newer version: passed over, as Kafka does after a downgrade
}

func (c *Coordinator) replayOffset(e runtime.Entry) error {
	var k kmsg.OffsetCommitKey
	if err := k.ReadFrom(e.Key); err != nil {
		return fmt.Errorf("offset key: %w", err)
	}
	tp := ident.TopicPartition{Topic: k.Topic, Partition: k.Partition}
	if e.Value == nil {
		if g := c.groups[k.Group]; g != nil {
			g.open -= c.open.drop(groupPartition{k.Group, tp})
			delete(g.offsets, tp)
			c.forgetIfVoid(g)
		}
		return nil
	}
	v := kmsg.NewOffsetCommitValue()
	if err := v.ReadFrom(e.Value); err != nil {
		return fmt.Errorf("offset value: %w", err)
	}
	o := Offset{Offset: v.Offset, LeaderEpoch: -1, Metadata: v.Metadata, Committed: v.CommitTimestamp, Expires: -1, at: e.Offset}
	if v.Version >= 3 {
		o.LeaderEpoch = v.LeaderEpoch
	}
	if v.Version == expiringValueVersion {
		o.Expires = v.ExpireTimestamp
	}
	if e.ProducerID >= 0 {
		if c.open.put(e.ProducerID, groupPartition{k.Group, tp}, o) {
			c.group(k.Group).open++
		}
		return nil
	}
	c.group(k.Group).offsets[tp] = o
	return nil
}

func (c *Coordinator) replayGroup(e runtime.Entry) error {
	var k kmsg.GroupMetadataKey
	if err := k.ReadFrom(e.Key); err != nil {
		return fmt.Errorf("group key: %w", err)
	}
	if e.Value == nil {
		// Offset records of a deleted group may follow or precede: what is left of it is a simple group.
		if g := c.groups[k.Group]; g != nil {
			n := newGroup(g.id)
			n.offsets, n.pending, n.open = g.offsets, g.pending, g.open
			*g = *n
			c.forgetIfVoid(g)
		}
		return nil
	}
	v := kmsg.NewGroupMetadataValue()
	if err := v.ReadFrom(e.Value); err != nil {
		return fmt.Errorf("group value: %w", err)
	}
	g := c.group(k.Group)
	g.known = true
	g.protocolType, g.generation, g.protocol, g.since, g.leader = v.ProtocolType, v.Generation, v.Protocol, v.CurrentStateTimestamp, ""
	if v.Leader != nil {
		g.leader = *v.Leader
	}
	g.state = Empty
	if len(v.Members) > 0 {
		g.state = Stable
	}
	g.follow(v)
	return nil
}

// follow makes the members those of the group's record. A member keeps its soft state, also if it has a new id under the same instance id.
func (g *group) follow(v kmsg.GroupMetadataValue) {
	members, static := g.members, g.static
	g.members, g.static, g.order = map[string]*member{}, map[string]string{}, nil
	for i := range v.Members {
		vm := &v.Members[i]
		m := members[vm.MemberID]
		if m == nil && vm.InstanceID != nil {
			m = members[static[*vm.InstanceID]]
		}
		if m == nil {
			m = &member{}
		}
		if _, late := g.unsynced[m.id]; late {
			delete(g.unsynced, m.id)
			g.unsynced[vm.MemberID] = struct{}{}
		}
		m.id, m.instance, m.clientID, m.host, m.assignment = vm.MemberID, vm.InstanceID, vm.ClientID, vm.ClientHost, bytes.Clone(vm.Assignment)
		m.sessionTimeout = time.Duration(vm.SessionTimeoutMillis) * time.Millisecond
		m.rebalanceTimeout = time.Duration(vm.RebalanceTimeoutMillis) * time.Millisecond
		if v.Version < 1 || vm.RebalanceTimeoutMillis < 0 {
			m.rebalanceTimeout = m.sessionTimeout
		}
		if v.Protocol != nil && !m.subscribes(*v.Protocol, vm.Subscription) {
			m.protocols = []kmsg.JoinGroupRequestProtocol{{Name: *v.Protocol, Metadata: bytes.Clone(vm.Subscription)}}
		}
		g.members[m.id] = m
		g.order = append(g.order, m)
		if m.instance != nil {
			g.static[*m.instance] = m.id
		}
	}
}

func (m *member) subscribes(protocol string, metadata []byte) bool {
	return slices.ContainsFunc(m.protocols, func(p kmsg.JoinGroupRequestProtocol) bool {
		return p.Name == protocol && bytes.Equal(p.Metadata, metadata)
	})
}
