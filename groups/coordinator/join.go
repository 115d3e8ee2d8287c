package coordinator

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
	"kraft/wire"
)

// newMemberTimeout bounds how long a new member waits in JoinGroup: its client may be gone, and it has
// no session yet that could tell.
const newMemberTimeout = 5 * time.Minute

// Join serves JoinGroup; the reply is a *kmsg.JoinGroupResponse, often much later.
func (c *Coordinator) Join(call runtime.Call, client Client, req *kmsg.JoinGroupRequest) runtime.Effects {
	session := time.Duration(req.SessionTimeoutMillis) * time.Millisecond
	rebalance := time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond
	if req.Version < 1 || rebalance < 0 {
		rebalance = session
	}
	fail := func(err *kerr.Error) runtime.Effects { return failedJoin(call.To, req.MemberID, err.Code) }
	switch {
	case req.Group == "":
		return fail(kerr.InvalidGroupID)
	case session < c.config.MinSession || session > c.config.MaxSession:
		return fail(kerr.InvalidSessionTimeout)
	}
	g := c.groups[req.Group]
	if g == nil {
		if req.MemberID != "" {
			return fail(kerr.UnknownMemberID)
		}
		g = newGroup(req.Group)
	}
	if !g.supports(req.ProtocolType, req.Protocols) {
		return fail(kerr.InconsistentGroupProtocol)
	}
	if c.full(g, req) {
		return fail(kerr.GroupMaxSizeReached)
	}
	c.groups[g.id] = g
	m := &member{id: req.MemberID, instance: req.InstanceID, clientID: client.ID, host: client.Host,
		sessionTimeout: session, rebalanceTimeout: rebalance, protocols: cloneProtocols(req.Protocols), joining: call.To}
	if req.MemberID == "" {
		return c.joinNew(call, g, m, req)
	}
	return c.joinKnown(call, g, m, req)
}

// cloneProtocols copies metadata out of the request's frame.
func cloneProtocols(in []kmsg.JoinGroupRequestProtocol) []kmsg.JoinGroupRequestProtocol {
	out := make([]kmsg.JoinGroupRequestProtocol, len(in))
	for i := range in {
		out[i] = kmsg.JoinGroupRequestProtocol{Name: in[i].Name, Metadata: append([]byte{}, in[i].Metadata...)}
	}
	return out
}

// full says that the request would take the group past group.max.size.
func (c *Coordinator) full(g *group, req *kmsg.JoinGroupRequest) bool {
	if g.members[req.MemberID] != nil {
		return false
	}
	if req.InstanceID != nil && g.static[*req.InstanceID] != "" {
		return false
	}
	n := len(g.members)
	if _, ok := g.pending[req.MemberID]; !ok {
		n += len(g.pending)
	}
	return n >= c.config.MaxSize
}

// joinNew takes in a client that has no member id yet.
func (c *Coordinator) joinNew(call runtime.Call, g *group, m *member, req *kmsg.JoinGroupRequest) runtime.Effects {
	if m.instance != nil {
		m.id = *m.instance + "-" + c.config.NewID()
		if old := g.members[g.static[*m.instance]]; old != nil {
			return c.rejoinStatic(call, g, old, m, req)
		}
		return c.admit(call, g, m, req)
	}
	name := m.clientID
	if name == "" {
		name = "member"
	}
	m.id = name + "-" + c.config.NewID()
	if req.Version < 4 {
		return c.admit(call, g, m, req)
	}
	// KIP-394: the client must come again with its id, so that one that gave up leaves no ghost member.
	if c.handed >= maxHanded {
		c.forgetIfVoid(g)
		return failedJoin(m.joining, "", kerr.CoordinatorLoadInProgress.Code)
	}
	until := call.Now.Add(m.sessionTimeout)
	g.pending[m.id] = until
	c.handed++
	c.at(until, func(call runtime.Call) runtime.Effects {
		c.handed--
		if t, ok := g.pending[m.id]; !ok || call.Now.Before(t) {
			return runtime.Effects{}
		}
		delete(g.pending, m.id)
		c.forgetIfVoid(g)
		return c.completeIfJoined(call, g)
	})
	return failedJoin(m.joining, m.id, kerr.MemberIDRequired.Code)
}

// joinKnown serves a client that names its member id.
func (c *Coordinator) joinKnown(call runtime.Call, g *group, m *member, req *kmsg.JoinGroupRequest) runtime.Effects {
	to := m.joining
	if _, ok := g.pending[m.id]; ok {
		if m.instance != nil {
			return failedJoin(to, m.id, kerr.UnknownMemberID.Code)
		}
		return c.admit(call, g, m, req)
	}
	old, err := g.find(m.id, m.instance)
	if err != nil {
		return failedJoin(to, m.id, err.Code)
	}
	switch {
	case g.state == CompletingRebalance && old.matches(m.protocols):
		// It lost the answer to its last JoinGroup: the generation stands.
		return c.joinResponse(g, old, to)
	case g.state == Stable && m.id != g.leader && old.matches(m.protocols):
		return c.joinResponse(g, old, to)
	}
	old.update(m)
	e := c.setJoining(call.Now, old, to)
	e.Add(c.rebalance(call, g))
	return e
}

// find looks a member up and holds it against the instance id that it claims.
func (g *group) find(id string, instance *string) (*member, *kerr.Error) {
	if instance != nil {
		current, ok := g.static[*instance]
		if !ok {
			return nil, kerr.UnknownMemberID
		}
		if current != id {
			return nil, kerr.FencedInstanceID
		}
	}
	m := g.members[id]
	if m == nil || g.state == Dead {
		return nil, kerr.UnknownMemberID
	}
	return m, nil
}

func (m *member) update(from *member) {
	m.clientID, m.host, m.protocols = from.clientID, from.host, from.protocols
	m.sessionTimeout, m.rebalanceTimeout = from.sessionTimeout, from.rebalanceTimeout
}

// setJoining notes who waits for the member's JoinGroup; an earlier request of it is answered that a
// rebalance goes on.
func (c *Coordinator) setJoining(now time.Time, m *member, to runtime.Token) (e runtime.Effects) {
	if m.joining != 0 {
		e = failedJoin(m.joining, m.id, kerr.RebalanceInProgress.Code)
	}
	m.joining, m.joinedAt = to, now
	return e
}

// admit adds a new member and starts a rebalance.
func (c *Coordinator) admit(call runtime.Call, g *group, m *member, req *kmsg.JoinGroupRequest) runtime.Effects {
	m.isNew, m.joinedAt = true, call.Now
	if len(g.members) == 0 {
		g.protocolType = req.ProtocolType
	}
	g.add(m)
	c.touch(g, m, call.Now)
	g.newcomers = true
	return c.rebalance(call, g)
}

// rejoinStatic puts a client in the place of the static member whose instance id it has (KIP-345). While
// the group is stable and the protocol would stay the same, nobody else needs to notice.
func (c *Coordinator) rejoinStatic(call runtime.Call, g *group, old, m *member, req *kmsg.JoinGroupRequest) runtime.Effects {
	if g.state == Stable {
		if after, next := g.replaced(old, m); same(after.vote(), g.protocol) {
			return c.keepStatic(call, g, after, old, next, m, req.Version)
		}
	}
	to := m.joining
	e := fence(old)
	g.rename(old, m.id)
	old.update(m)
	c.touch(g, old, call.Now)
	old.joining, old.joinedAt = to, call.Now
	e.Add(c.rebalance(call, g))
	return e
}

func same(a, b *string) bool { return a != nil && b != nil && *a == *b }

// replaced returns a copy of g in which next, another client, has a static member's place. Maps are shared.
func (g *group) replaced(old, m *member) (after *group, next *member) {
	as := *old
	as.id = m.id
	as.update(m)
	other := *g
	other.order = slices.Clone(g.order)
	other.order[slices.Index(g.order, old)] = &as
	if g.leader == old.id {
		other.leader = m.id
	}
	return &other, &as
}

// fence answers whatever the former holder of an instance id waits for.
func fence(m *member) runtime.Effects {
	e := failedJoin(m.joining, m.id, kerr.FencedInstanceID.Code)
	e.Add(failedSync(m.syncing, kerr.FencedInstanceID.Code))
	m.joining, m.syncing = 0, 0
	return e
}

// keepStatic answers a static member, m, that came back to a Stable group. It records the group as after, where next has old's place.
func (c *Coordinator) keepStatic(call runtime.Call, g, after *group, old, next, m *member, version int16) runtime.Effects {
	records := []runtime.Record{groupRecord(after, after.since, after.assignments())}
	if err := call.Check(records); err != nil {
		return failedJoin(m.joining, m.id, wire.ErrorCode(err))
	}
	r := c.joinReply(after, next)
	leads := after.leader == next.id
	if leads && version < 9 {
		// A client that thinks it leads would compute an assignment nobody waits for: older ones
		// are told of the former leader, newer ones to skip the assignment (KIP-814).
		r.LeaderID, r.Members = old.id, nil
	}
	r.SkipAssignment = leads && version >= 9
	e := fence(old)
	old.update(m)
	c.touch(g, old, call.Now)
	e.Records = records
	e.Add(reply(m.joining, r))
	return e
}

func (g *group) assignments() map[string][]byte {
	a := make(map[string][]byte, len(g.order))
	for _, m := range g.order {
		a[m.id] = m.assignment
	}
	return a
}

func (c *Coordinator) joinResponse(g *group, m *member, to runtime.Token) runtime.Effects {
	return reply(to, c.joinReply(g, m))
}

// joinReply is what a member of the current generation is told; the leader also learns the members.
func (c *Coordinator) joinReply(g *group, m *member) *kmsg.JoinGroupResponse {
	r := kmsg.NewPtrJoinGroupResponse()
	r.MemberID, r.Generation, r.LeaderID, r.Protocol = m.id, g.generation, g.leader, g.protocol
	protocolType := g.protocolType
	r.ProtocolType = &protocolType
	if m.id == g.leader {
		for _, other := range g.order {
			jm := kmsg.NewJoinGroupResponseMember()
			jm.MemberID, jm.InstanceID, jm.ProtocolMetadata = other.id, other.instance, other.metadata(g.protocol)
			r.Members = append(r.Members, jm)
		}
	}
	return r
}
