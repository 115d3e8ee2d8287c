// Package admin answers what administrators ask: topics, settings, quotas, features, elections, reassignments, and the quorum's voters.
// The active controller decides; other nodes forward. admin.go lists the APIs, change.go runs the decisions.
package admin

import (
	"kraft/raftmeta"
	"kraft/raftmeta/active"
	"kraft/raftmeta/calls"
	"kraft/wire"
)

// Admin answers administrators' requests. Any goroutine may call its handlers.
type Admin struct {
	meta   *raftmeta.Meta
	calls  *calls.Calls
	active *active.Controller
	hmacs  hmacs

	checkOwn func(own map[string]string) error // set by CheckOwn, or nil
}

// CheckOwn has check say why this broker could not use settings of its own, before they are changed. Call it before handlers are registered.
func (a *Admin) CheckOwn(check func(own map[string]string) error) { a.checkOwn = check }

// New returns the admin APIs of a node.
func New(meta *raftmeta.Meta, c *calls.Calls, a *active.Controller) *Admin {
	return &Admin{meta: meta, calls: c, active: a}
}

// RegisterHandlers adds the APIs of this package to r, the registry of a broker or of a controller. Changes go to the active controller.
func (a *Admin) RegisterHandlers(r *wire.Registry) {
	wire.Handle(r, 0, 7, calls.Forwarded(a.calls, a.createTopics))
	wire.Handle(r, 0, 6, calls.Forwarded(a.calls, a.deleteTopics))
	wire.Handle(r, 0, 3, calls.Forwarded(a.calls, a.createPartitions))
	wire.Handle(r, 0, 4, a.describeConfigs)
	wire.Handle(r, 0, 1, a.incrementalAlterConfigs)
	wire.Handle(r, 0, 2, calls.Forwarded(a.calls, a.alterConfigs))
	wire.Handle(r, 0, 1, a.listConfigResources)
	wire.Handle(r, 0, 1, a.describeClientQuotas)
	wire.Handle(r, 0, 1, calls.Forwarded(a.calls, a.alterClientQuotas))
	wire.Handle(r, 0, 2, calls.Forwarded(a.calls, a.updateFeatures))
	wire.Handle(r, 0, 0, a.describeUserScramCredentials)
	wire.Handle(r, 0, 0, calls.Forwarded(a.calls, a.alterUserScramCredentials))
	wire.Handle(r, 0, 3, a.createDelegationToken)
	wire.Handle(r, 0, 2, a.renewDelegationToken)
	wire.Handle(r, 0, 2, a.expireDelegationToken)
	wire.Handle(r, 0, 3, a.describeDelegationToken)
	wire.Handle(r, 0, 3, a.describeACLs)
	wire.Handle(r, 0, 3, a.createACLs)
	wire.Handle(r, 0, 3, a.deleteACLs)
	wire.Handle(r, 0, 2, calls.Forwarded(a.calls, a.electLeaders))
	wire.Handle(r, 0, 0, calls.Forwarded(a.calls, a.unregisterBroker))
	wire.Handle(r, 0, 1, calls.Forwarded(a.calls, a.alterPartitionReassignments))
	wire.Handle(r, 0, 0, calls.Forwarded(a.calls, a.listPartitionReassignments))
	wire.Handle(r, 0, 1, calls.Forwarded(a.calls, a.addRaftVoter))
	wire.Handle(r, 0, 0, calls.Forwarded(a.calls, a.removeRaftVoter))
	wire.Handle(r, 0, 0, calls.Forwarded(a.calls, a.unregisterController))
	wire.Handle(r, 0, 2, calls.Forwarded(a.calls, a.active.DescribeQuorum))
}
