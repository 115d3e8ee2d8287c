// Package active is what only the active controller does beyond decisions: it watches which brokers are alive, and handles what brokers ask.
// Its handlers may be called on every node, and answer NOT_CONTROLLER on one that does not lead the quorum.
package active

import (
	"context"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"

	"kraft/raftmeta"
	"kraft/wire"
	"kraft/wire/acl"
	"kraft/wire/logging"
)

// Controller is a node's part of the active controller. Its methods may be called from any goroutine.
type Controller struct {
	meta     *raftmeta.Meta
	log      zerolog.Logger // of the node
	liveness *liveness
	barrier  barrier
}

// New returns the controller of a node. Start begins to watch brokers, Close ends that.
func New(meta *raftmeta.Meta) *Controller {
	return &Controller{meta: meta, log: meta.Config.Logs.For(logging.Node), liveness: newLiveness(meta), barrier: barrier{busy: semaphore.NewWeighted(1)}}
}

// Start watches over brokers whenever this node is the active controller. Call it once, after Meta.Join.
func (c *Controller) Start() { c.liveness.start() }

// Close returns when no goroutine of the controller runs any more. Call it before Meta.Close.
func (c *Controller) Close() { c.liveness.close() }

// RegisterHandlers adds the APIs that brokers ask a controller to r.
func (c *Controller) RegisterHandlers(r *wire.Registry) {
	wire.Handle(r, 0, 4, brokers(c, c.RegisterBroker, func(code int16) *kmsg.BrokerRegistrationResponse {
		return &kmsg.BrokerRegistrationResponse{ErrorCode: code, BrokerEpoch: -1}
	}))
	wire.Handle(r, 0, 2, func(ctx *wire.Request, req *kmsg.BrokerHeartbeatRequest) (*kmsg.BrokerHeartbeatResponse, error) {
		if err := c.authorize(ctx); err != nil {
			return &kmsg.BrokerHeartbeatResponse{ErrorCode: wire.ErrorCode(err), IsFenced: true}, nil
		}
		return c.Heartbeat(ctx.Context(), ctx.Session.Ended(), req)
	})
	wire.Handle(r, 2, 3, brokers(c, c.AlterPartition, func(code int16) *kmsg.AlterPartitionResponse {
		return &kmsg.AlterPartitionResponse{ErrorCode: code}
	}))
	wire.Handle(r, 0, 0, brokers(c, c.AllocateProducerIDs, func(code int16) *kmsg.AllocateProducerIDsResponse {
		return &kmsg.AllocateProducerIDsResponse{ErrorCode: code}
	}))
	wire.Handle(r, 0, 0, brokers(c, c.AssignReplicasToDirs, func(code int16) *kmsg.AssignReplicasToDirsResponse {
		return &kmsg.AssignReplicasToDirsResponse{ErrorCode: code}
	}))
}

// brokers is a handler of what only brokers may ask; refused makes the response to others.
func brokers[P, S any](c *Controller, h func(context.Context, P) (S, error), refused func(code int16) S) func(*wire.Request, P) (S, error) {
	return func(ctx *wire.Request, req P) (S, error) {
		if err := c.authorize(ctx); err != nil {
			return refused(wire.ErrorCode(err)), nil
		}
		return h(ctx.Context(), req)
	}
}

// authorize returns why the sender is not served as a broker. A node that does not lead may not have the ACLs yet.
func (c *Controller) authorize(ctx *wire.Request) error {
	if !c.meta.Leads() {
		return kerr.NotController
	}
	return ctx.MayCluster(acl.ClusterAction)
}
