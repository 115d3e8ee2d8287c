package groups

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/coordinator"
	"kraft/groups/runtime"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/acl"
)

func (m *Manager) joinGroup(ctx *wire.Request, req *kmsg.JoinGroupRequest) (*kmsg.JoinGroupResponse, error) {
	client := coordinator.Client{ID: ctx.ClientID, Host: "/" + ctx.Session.Host()}
	var resp *kmsg.JoinGroupResponse
	err := ctx.May(acl.Read, acl.Group, req.Group)
	if err != nil {
		req.MemberID = "" // the answer names none
	}
	ctx.Wait(func() {
		if err != nil {
			return
		}
		resp, err = ask[*kmsg.JoinGroupResponse](ctx.Context(), m, req.Group, false, func(c *coordinator.Coordinator, call runtime.Call) runtime.Effects {
			return c.Join(call, client, req)
		})
	})
	if err != nil {
		resp = kmsg.NewPtrJoinGroupResponse()
		resp.ErrorCode, resp.MemberID, resp.Generation = wire.ErrorCode(err), req.MemberID, -1
	}
	if resp.Protocol == nil && ctx.Version < 7 {
		resp.Protocol = new(string) // null came with version 7
	}
	return resp, nil
}

func (m *Manager) syncGroup(ctx *wire.Request, req *kmsg.SyncGroupRequest) (*kmsg.SyncGroupResponse, error) {
	var resp *kmsg.SyncGroupResponse
	err := ctx.May(acl.Read, acl.Group, req.Group)
	if ctx.Version >= 5 && (req.ProtocolType == nil || req.Protocol == nil) { // KIP-559
		err = kerr.InconsistentGroupProtocol
	}
	ctx.Wait(func() {
		if err != nil {
			return
		}
		resp, err = ask[*kmsg.SyncGroupResponse](ctx.Context(), m, req.Group, false, func(c *coordinator.Coordinator, call runtime.Call) runtime.Effects {
			return c.Sync(call, req)
		})
	})
	if err != nil {
		resp = kmsg.NewPtrSyncGroupResponse()
		resp.ErrorCode = wire.ErrorCode(err)
	}
	if resp.MemberAssignment == nil {
		resp.MemberAssignment = []byte{}
	}
	return resp, nil
}

func (m *Manager) heartbeat(ctx *wire.Request, req *kmsg.HeartbeatRequest) (*kmsg.HeartbeatResponse, error) {
	if err := ctx.May(acl.Read, acl.Group, req.Group); err != nil {
		return &kmsg.HeartbeatResponse{ErrorCode: wire.ErrorCode(err)}, nil
	}
	code, err := ask[int16](ctx.Context(), m, req.Group, false, func(c *coordinator.Coordinator, call runtime.Call) runtime.Effects {
		return c.Heartbeat(call, req)
	})
	if err != nil {
		code = wire.ErrorCode(err)
		if code == kerr.CoordinatorLoadInProgress.Code {
			code = 0 // as in Kafka: while it loads, the member is given the benefit of the doubt
		}
	}
	resp := kmsg.NewPtrHeartbeatResponse()
	resp.ErrorCode = code
	return resp, nil
}

func (m *Manager) leaveGroup(ctx *wire.Request, req *kmsg.LeaveGroupRequest) (*kmsg.LeaveGroupResponse, error) {
	var resp *kmsg.LeaveGroupResponse
	err := ctx.May(acl.Read, acl.Group, req.Group)
	if err == nil {
		resp, err = ask[*kmsg.LeaveGroupResponse](ctx.Context(), m, req.Group, false, func(c *coordinator.Coordinator, call runtime.Call) runtime.Effects {
			return c.Leave(call, req)
		})
	}
	if err != nil {
		resp = kmsg.NewPtrLeaveGroupResponse()
		resp.ErrorCode = wire.ErrorCode(err)
	}
	return resp, nil
}

func (m *Manager) describeGroups(ctx *wire.Request, req *kmsg.DescribeGroupsRequest) (*kmsg.DescribeGroupsResponse, error) {
	resp := kmsg.NewPtrDescribeGroupsResponse()
	for _, g := range wire.Distinct(req.Groups, func(g *string) string { return *g }) {
		var d kmsg.DescribeGroupsResponseGroup
		err := ctx.May(acl.Describe, acl.Group, g)
		if err == nil {
			d, err = ask[kmsg.DescribeGroupsResponseGroup](ctx.Context(), m, g, false, func(c *coordinator.Coordinator, call runtime.Call) runtime.Effects {
				return c.Describe(call.To, g, ctx.Version)
			})
		}
		if err != nil {
			d = kmsg.NewDescribeGroupsResponseGroup()
			d.Group, d.ErrorCode = g, wire.ErrorCode(err)
		}
		d.AuthorizedOperations = wire.NoOperations
		if req.IncludeAuthorizedOperations && d.ErrorCode == 0 {
			d.AuthorizedOperations = ctx.Authorized(acl.Group, g)
		}
		resp.Groups = append(resp.Groups, d)
	}
	return resp, nil
}

func (m *Manager) listGroups(ctx *wire.Request, req *kmsg.ListGroupsRequest) (*kmsg.ListGroupsResponse, error) {
	resp := kmsg.NewPtrListGroupsResponse()
	every := ctx.CouldCluster(acl.Describe)
	for _, l := range m.host.All() {
		groups, err := runtime.Ask[[]kmsg.ListGroupsResponseGroup](ctx.Context(), l, false, func(c *coordinator.Coordinator, call runtime.Call) runtime.Effects {
			return c.List(call.To, req)
		})
		if err != nil && !isNotCoordinator(err) { // lost a moment ago: its new leader lists it
			resp.ErrorCode = wire.ErrorCode(err)
			resp.Groups = nil
			return resp, nil
		}
		resp.Groups = append(resp.Groups, slices.DeleteFunc(groups, func(g kmsg.ListGroupsResponseGroup) bool {
			return !every && !ctx.Could(acl.Describe, acl.Group, g.Group)
		})...)
	}
	return resp, nil
}

func isNotCoordinator(err error) bool { return wire.ErrorCode(err) == kerr.NotCoordinator.Code }

func (m *Manager) deleteGroups(ctx *wire.Request, req *kmsg.DeleteGroupsRequest) (*kmsg.DeleteGroupsResponse, error) {
	resp := kmsg.NewPtrDeleteGroupsResponse()
	for i, g := range req.Groups {
		if slices.Contains(req.Groups[:i], g) {
			continue
		}
		var d kmsg.DeleteGroupsResponseGroup
		err := ctx.May(acl.Delete, acl.Group, g)
		if err == nil {
			d, err = ask[kmsg.DeleteGroupsResponseGroup](ctx.Context(), m, g, false, func(c *coordinator.Coordinator, call runtime.Call) runtime.Effects {
				return c.DeleteGroup(call, g)
			})
		}
		if err != nil {
			d = kmsg.NewDeleteGroupsResponseGroup()
			d.Group, d.ErrorCode, d.ErrorMessage = g, wire.ErrorCode(err), wire.ErrorMessage(err)
		}
		resp.Groups = append(resp.Groups, d)
	}
	return resp, nil
}

// Kinds of coordinators in FindCoordinator.
const (
	groupCoordinator       = 0
	transactionCoordinator = 1
)

// shareCoordinators is the version of FindCoordinator that brought those of share groups (KIP-932), which only brokers ask for.
const shareCoordinators = 6

func (m *Manager) findCoordinator(ctx *wire.Request, req *kmsg.FindCoordinatorRequest) (*kmsg.FindCoordinatorResponse, error) {
	resp := kmsg.NewPtrFindCoordinatorResponse()
	keys := req.CoordinatorKeys
	if ctx.Version < 4 {
		keys = []string{req.CoordinatorKey}
	}
	for _, key := range keys {
		out := kmsg.NewFindCoordinatorResponseCoordinator()
		out.Key, out.NodeID, out.Port = key, -1, -1
		e, id, err := m.findOne(ctx, key, req.CoordinatorType)
		if err == nil {
			out.NodeID, out.Host, out.Port = id, e.Host, e.Port
		}
		out.ErrorCode, out.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
		resp.Coordinators = append(resp.Coordinators, out)
	}
	if ctx.Version < 4 {
		only := resp.Coordinators[0]
		resp.ErrorCode, resp.ErrorMessage, resp.NodeID, resp.Host, resp.Port = only.ErrorCode, only.ErrorMessage, only.NodeID, only.Host, only.Port
		resp.Coordinators = nil
	}
	return resp, nil
}

func (m *Manager) findOne(ctx *wire.Request, key string, kind int8) (*image.Endpoint, int32, error) {
	var topic *internalTopic
	var denied error
	switch kind {
	case groupCoordinator:
		topic, denied = m.topic, ctx.May(acl.Describe, acl.Group, key)
	case transactionCoordinator:
		topic, denied = m.txns.topic, ctx.May(acl.Describe, acl.TransactionalID, key)
	default:
		if ctx.Version >= shareCoordinators {
			if err := ctx.MayCluster(acl.ClusterAction); err != nil {
				return nil, 0, err
			}
		}
		m.logUnsupported(ctx, "share groups")
		return nil, 0, errNoShareGroups
	}
	if denied != nil {
		return nil, 0, denied
	}
	if _, err := topic.ensure(ctx.Context()); err != nil {
		topic.logUnavailable(err)
		return nil, 0, kerr.CoordinatorNotAvailable
	}
	b, err := topic.leader(key)
	if err != nil {
		return nil, 0, err
	}
	e, ok := b.Endpoint(ctx.Session.Listener)
	if !ok {
		return nil, 0, kerr.CoordinatorNotAvailable
	}
	return e, b.ID, nil
}
