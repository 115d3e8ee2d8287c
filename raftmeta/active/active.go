// Package active is what only the active controller does beyond decisions: it watches which brokers are alive, and handles what brokers ask.
// Its handlers may be called on every node, and answer NOT_CONTROLLER on one that does not lead the quorum.
package active

import (
	"context"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"

	"kraft/raftmeta"
	"kraft/wire"
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
	wire.Handle(r, 0, 4, direct(c.RegisterBroker))
	wire.Handle(r, 0, 2, func(ctx *wire.Request, req *kmsg.BrokerHeartbeatRequest) (*kmsg.BrokerHeartbeatResponse, error) {
		return c.Heartbeat(ctx.Context(), ctx.Session.Ended(), req)
	})
	wire.Handle(r, 2, 3, direct(c.AlterPartition))
	wire.Handle(r, 0, 0, direct(c.AllocateProducerIDs))
	wire.Handle(r, 0, 0, direct(c.AssignReplicasToDirs))
}

// direct is a handler that needs nothing of the connection.
func direct[P, S any](h func(context.Context, P) (S, error)) func(*wire.Request, P) (S, error) {
	return func(ctx *wire.Request, req P) (S, error) { return h(ctx.Context(), req) }
}
