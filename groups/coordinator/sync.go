package coordinator

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
	"kraft/wire"
)

// Sync serves SyncGroup; the reply is a *kmsg.SyncGroupResponse, for followers when the leader's
// assignment is committed.
func (c *Coordinator) Sync(call runtime.Call, req *kmsg.SyncGroupRequest) runtime.Effects {
	fail := func(err *kerr.Error) runtime.Effects { return failedSync(call.To, err.Code) }
	if req.Group == "" {
		return fail(kerr.InvalidGroupID)
	}
	g := c.groups[req.Group]
	if g == nil {
		return fail(kerr.UnknownMemberID)
	}
	m, err := g.find(req.MemberID, req.InstanceID)
	switch {
	case err != nil:
		return fail(err)
	case req.Generation != g.generation:
		return fail(kerr.IllegalGeneration)
	case req.ProtocolType != nil && *req.ProtocolType != g.protocolType,
		req.Protocol != nil && (g.protocol == nil || *req.Protocol != *g.protocol):
		return fail(kerr.InconsistentGroupProtocol)
	}
	switch g.state {
	case PreparingRebalance:
		return fail(kerr.RebalanceInProgress)
	case Stable:
		delete(g.unsynced, m.id)
		return c.syncResponse(g, call.To, m.assignment)
	case CompletingRebalance:
	case Empty, Dead:
		return fail(kerr.UnknownMemberID)
	}
	e := failedSync(m.syncing, kerr.RebalanceInProgress.Code)
	m.syncing = call.To
	delete(g.unsynced, m.id)
	if m.id == g.leader {
		e.Add(c.assign(call, g, req))
	}
	return e
}

// assign records the leader's assignment and sends it to all members that wait. If it can't be recorded, the members join again.
func (c *Coordinator) assign(call runtime.Call, g *group, req *kmsg.SyncGroupRequest) runtime.Effects {
	assignments := make(map[string][]byte, len(g.order))
	for i := range req.GroupAssignment {
		a := &req.GroupAssignment[i]
		assignments[a.MemberID] = append([]byte{}, a.MemberAssignment...)
	}
	e := runtime.Effects{Records: []runtime.Record{groupRecord(g, call.Now.UnixMilli(), assignments)}}
	if err := call.Check(e.Records); err != nil {
		e = c.failSyncs(g, wire.ErrorCode(err))
		e.Add(c.rebalance(call, g))
		return e
	}
	for _, m := range g.order {
		if m.syncing != 0 {
			e.Add(c.syncResponse(g, m.syncing, assignments[m.id]))
			m.syncing = 0
			c.touch(g, m, call.Now)
		}
	}
	return e
}

func (c *Coordinator) syncResponse(g *group, to runtime.Token, assignment []byte) runtime.Effects {
	r := kmsg.NewPtrSyncGroupResponse()
	protocolType := g.protocolType
	r.ProtocolType, r.Protocol, r.MemberAssignment = &protocolType, g.protocol, assignment
	return reply(to, r)
}

// Heartbeat serves Heartbeat; the reply is an error code.
func (c *Coordinator) Heartbeat(call runtime.Call, req *kmsg.HeartbeatRequest) runtime.Effects {
	if req.Group == "" {
		return reply(call.To, kerr.InvalidGroupID.Code)
	}
	g := c.groups[req.Group]
	if g == nil {
		return reply(call.To, kerr.UnknownMemberID.Code)
	}
	m, err := g.find(req.MemberID, req.InstanceID)
	switch {
	case err != nil:
		return reply(call.To, err.Code)
	case req.Generation != g.generation:
		return reply(call.To, kerr.IllegalGeneration.Code)
	}
	c.touch(g, m, call.Now)
	if g.state == PreparingRebalance {
		return reply(call.To, kerr.RebalanceInProgress.Code)
	}
	return reply(call.To, int16(0))
}

// Leave serves LeaveGroup, in every version's form; the reply is a *kmsg.LeaveGroupResponse.
func (c *Coordinator) Leave(call runtime.Call, req *kmsg.LeaveGroupRequest) runtime.Effects {
	r := kmsg.NewPtrLeaveGroupResponse()
	members := req.Members
	if req.Version < 3 {
		members = []kmsg.LeaveGroupRequestMember{{MemberID: req.MemberID}}
	}
	g := c.groups[req.Group]
	var gone []*member
	for i := range members {
		lm := &members[i]
		out := kmsg.NewLeaveGroupResponseMember()
		out.MemberID, out.InstanceID = lm.MemberID, lm.InstanceID
		m, err := c.leaver(g, lm)
		if m != nil && slices.Contains(gone, m) {
			m, err = nil, kerr.UnknownMemberID // named twice
		}
		if err != nil {
			out.ErrorCode = err.Code
		}
		if m != nil {
			gone = append(gone, m)
		}
		r.Members = append(r.Members, out)
	}
	if req.Version < 3 {
		r.ErrorCode = r.Members[0].ErrorCode
		r.Members = nil
	}
	if req.Group == "" {
		r.ErrorCode, r.Members = kerr.InvalidGroupID.Code, nil
	}
	e := reply(call.To, r)
	for i, m := range gone {
		e.Replies = append(e.Replies, failedJoin(m.joining, m.id, kerr.UnknownMemberID.Code).Replies...)
		e.Replies = append(e.Replies, failedSync(m.syncing, kerr.UnknownMemberID.Code).Replies...)
		m.joining, m.syncing = 0, 0
		if i < len(gone)-1 {
			g.drop(m)
			continue
		}
		e.Add(c.remove(call, g, m)) // one rebalance for all
	}
	if g != nil && len(gone) == 0 {
		e.Add(c.completeIfJoined(call, g)) // one who left may have been waited for
		c.forgetIfVoid(g)
	}
	return e
}

// leaver finds who leaves: a member, or one that has only got its id so far (nil without error).
func (c *Coordinator) leaver(g *group, lm *kmsg.LeaveGroupRequestMember) (*member, *kerr.Error) {
	if g == nil {
		return nil, kerr.UnknownMemberID
	}
	if lm.InstanceID != nil {
		id, ok := g.static[*lm.InstanceID]
		switch {
		case !ok:
			return nil, kerr.UnknownMemberID
		case lm.MemberID != "" && lm.MemberID != id: // an administrator names the instance only
			return nil, kerr.FencedInstanceID
		}
		return g.members[id], nil
	}
	if _, ok := g.pending[lm.MemberID]; ok {
		delete(g.pending, lm.MemberID)
		return nil, nil
	}
	m := g.members[lm.MemberID]
	if m == nil {
		return nil, kerr.UnknownMemberID
	}
	return m, nil
}
