package coordinator

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
	"kraft/wire"
	"kraft/wire/ident"
)

// typeClassic is how ListGroups names groups of the classic protocol.
const typeClassic = "classic"

// List serves this partition's share of ListGroups; the reply is a []kmsg.ListGroupsResponseGroup.
func (c *Coordinator) List(to runtime.Token, req *kmsg.ListGroupsRequest) runtime.Effects {
	out := []kmsg.ListGroupsResponseGroup{}
	has := func(filter []string, v string) bool {
		return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, v) })
	}
	for _, g := range c.groups {
		if len(g.pending) > 0 && !g.known && len(g.members) == 0 && len(g.offsets) == 0 {
			continue // somebody asked for a member id, no more
		}
		if !has(req.StatesFilter, string(g.state)) || !has(req.TypesFilter, typeClassic) {
			continue
		}
		l := kmsg.NewListGroupsResponseGroup()
		l.Group, l.ProtocolType, l.GroupState, l.GroupType = g.id, g.protocolType, string(g.state), typeClassic
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b kmsg.ListGroupsResponseGroup) int { return strings.Compare(a.Group, b.Group) })
	return reply(to, out)
}

// Stats are a group as its coordinator sees it.
type Stats struct {
	Group, State string
	Members      int
	Offsets      map[ident.TopicPartition]int64 // committed
}

// Stats tells of this partition's groups; the reply is a []Stats.
func (c *Coordinator) Stats(to runtime.Token) runtime.Effects {
	out := make([]Stats, 0, len(c.groups))
	for _, g := range c.groups {
		s := Stats{Group: g.id, State: string(g.state), Members: len(g.members), Offsets: make(map[ident.TopicPartition]int64, len(g.offsets))}
		for tp, o := range g.offsets {
			s.Offsets[tp] = o.Offset
		}
		out = append(out, s)
	}
	return reply(to, out)
}

// Describe serves one group of DescribeGroups; the reply is a kmsg.DescribeGroupsResponseGroup.
func (c *Coordinator) Describe(to runtime.Token, groupID string, version int16) runtime.Effects {
	d := kmsg.NewDescribeGroupsResponseGroup()
	d.Group, d.State = groupID, string(Dead)
	g := c.groups[groupID]
	if g == nil {
		if version >= 6 { // KIP-1043
			d.ErrorCode = kerr.GroupIDNotFound.Code
			d.ErrorMessage = kmsg.StringPtr(fmt.Sprintf("Group %s not found.", groupID))
		}
		return reply(to, d)
	}
	d.State, d.ProtocolType = string(g.state), g.protocolType
	stable := g.state == Stable
	if stable && g.protocol != nil {
		d.Protocol = *g.protocol
	}
	for _, m := range g.order {
		dm := kmsg.NewDescribeGroupsResponseGroupMember()
		dm.MemberID, dm.InstanceID, dm.ClientID, dm.ClientHost = m.id, m.instance, m.clientID, m.host
		dm.ProtocolMetadata, dm.MemberAssignment = []byte{}, m.assignment
		if stable {
			dm.ProtocolMetadata = m.metadata(g.protocol)
		}
		d.Members = append(d.Members, dm)
	}
	return reply(to, d)
}

// DeleteGroup serves one group of DeleteGroups; the reply is a kmsg.DeleteGroupsResponseGroup.
func (c *Coordinator) DeleteGroup(call runtime.Call, groupID string) runtime.Effects {
	d := kmsg.NewDeleteGroupsResponseGroup()
	d.Group = groupID
	fail := func(code int16, message string) runtime.Effects {
		d.ErrorCode, d.ErrorMessage = code, &message
		return reply(call.To, d)
	}
	g := c.groups[groupID]
	switch {
	case g == nil:
		return fail(kerr.GroupIDNotFound.Code, fmt.Sprintf("Group %s not found.", groupID))
	case g.state != Empty: // a client that has only been given a member id joins the next group of this name
		return fail(kerr.NonEmptyGroup.Code, fmt.Sprintf("Group %s is not empty.", groupID))
	}
	tps := make([]ident.TopicPartition, 0, len(g.offsets))
	for tp := range g.offsets {
		tps = append(tps, tp)
	}
	tps = append(tps, c.openOf(g, func(ident.TopicPartition) bool { return true })...)
	e := reply(call.To, d)
	e.Records = tombstones(g, tps, true)
	if err := call.Check(e.Records); err != nil {
		return fail(wire.ErrorCode(err), err.Error())
	}
	clear(g.pending)
	c.forgetIfVoid(g)
	return e
}
