package coordinator

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
)

// Sync serves SyncGroup; the reply is a *kmsg.SyncGroupResponse, for followers when the leader's
// assignment is committed.
func (c *Coordinator) Sync(now time.Time, to runtime.Token, req *kmsg.SyncGroupRequest) runtime.Effects {
	fail := func(err *kerr.Error) runtime.Effects { return failedSync(to, err.Code) }
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
		return c.syncResponse(g, m, to)
	case CompletingRebalance:
	case Empty, Dead:
		return fail(kerr.UnknownMemberID)
	}
	e := failedSync(m.syncing, kerr.RebalanceInProgress.Code)
	m.syncing = to
	delete(g.unsynced, m.id)
	if m.id == g.leader {
		e.Add(c.assign(g, req))
	}
	return e
}

// assign commits the leader's assignment, then tells it to all who wait. If it cannot be committed the
// members join again.
func (c *Coordinator) assign(g *group, req *kmsg.SyncGroupRequest) runtime.Effects {
	assignments := make(map[string][]byte, len(g.order))
	for i := range req.GroupAssignment {
		a := &req.GroupAssignment[i]
		assignments[a.MemberID] = append([]byte{}, a.MemberAssignment...)
	}
	generation := g.generation
	return runtime.Effects{
		Records: []runtime.Record{groupRecord(g, assignments)},
		Apply:   func() { g.known = true },
		Done: func(now time.Time, err error) runtime.Effects {
			if g.state != CompletingRebalance || g.generation != generation {
				return runtime.Effects{} // it was overtaken: whoever waits has been answered
			}
			if err != nil {
				e := c.failSyncs(g, commitError(err))
				e.Add(c.rebalance(now, g))
				return e
			}
			g.enter(Stable, now)
			var e runtime.Effects
			for _, m := range g.order {
				m.assignment = assignments[m.id]
				if m.syncing != 0 {
					e.Add(c.syncResponse(g, m, m.syncing))
					m.syncing = 0
					c.touch(g, m, now)
				}
			}
			return e
		},
	}
}

func (c *Coordinator) syncResponse(g *group, m *member, to runtime.Token) runtime.Effects {
	r := kmsg.NewPtrSyncGroupResponse()
	protocolType := g.protocolType
	r.ProtocolType, r.Protocol, r.MemberAssignment = &protocolType, g.protocol, m.assignment
	return reply(to, r)
}

// commitError is what a client is told when a record could not be appended: errors of the log become
// those that clients know from coordinators.
func commitError(err error) int16 {
	switch {
	case errors.Is(err, kerr.NotLeaderForPartition), errors.Is(err, kerr.KafkaStorageError), errors.Is(err, kerr.FencedLeaderEpoch):
		return kerr.NotCoordinator.Code
	case errors.Is(err, kerr.NotEnoughReplicas), errors.Is(err, kerr.NotEnoughReplicasAfterAppend),
		errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.RequestTimedOut):
		return kerr.CoordinatorNotAvailable.Code
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		return kerr.UnknownServerError.Code
	}
	var k *kerr.Error
	if errors.As(err, &k) {
		return k.Code
	}
	return kerr.UnknownServerError.Code
}

// Heartbeat serves Heartbeat; the reply is an error code.
func (c *Coordinator) Heartbeat(now time.Time, to runtime.Token, req *kmsg.HeartbeatRequest) runtime.Effects {
	if req.Group == "" {
		return reply(to, kerr.InvalidGroupID.Code)
	}
	g := c.groups[req.Group]
	if g == nil {
		return reply(to, kerr.UnknownMemberID.Code)
	}
	m, err := g.find(req.MemberID, req.InstanceID)
	switch {
	case err != nil:
		return reply(to, err.Code)
	case req.Generation != g.generation:
		return reply(to, kerr.IllegalGeneration.Code)
	}
	c.touch(g, m, now)
	if g.state == PreparingRebalance {
		return reply(to, kerr.RebalanceInProgress.Code)
	}
	return reply(to, int16(0))
}

// Leave serves LeaveGroup, in every version's form; the reply is a *kmsg.LeaveGroupResponse.
func (c *Coordinator) Leave(now time.Time, to runtime.Token, req *kmsg.LeaveGroupRequest) runtime.Effects {
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
	e := reply(to, r)
	for i, m := range gone {
		e.Replies = append(e.Replies, failedJoin(m.joining, m.id, kerr.UnknownMemberID.Code).Replies...)
		e.Replies = append(e.Replies, failedSync(m.syncing, kerr.UnknownMemberID.Code).Replies...)
		m.joining, m.syncing = 0, 0
		if i < len(gone)-1 {
			g.drop(m)
			continue
		}
		e.Add(c.remove(now, g, m, kerr.UnknownMemberID.Code)) // one rebalance for all
	}
	if g != nil && len(gone) == 0 {
		e.Add(c.completeIfJoined(now, g)) // one who left may have been waited for
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
