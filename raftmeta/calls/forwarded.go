package calls

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire"
	"kraft/wire/acl"
)

// Forwarded returns a handler that handles a request if this node is the active controller, and otherwise sends the request there as it
// came, in an Envelope (KIP-590).
func Forwarded[Q any, P interface {
	*Q
	kmsg.Request
}, S kmsg.Response](c *Calls, handle func(*wire.Request, P) (S, error)) func(*wire.Request, P) (S, error) {
	return func(ctx *wire.Request, req P) (S, error) {
		if c.meta.Alone() || c.meta.Leads() && !c.meta.Node().Hangs() {
			return handle(ctx, req)
		}
		var none S
		waiting, cancel := context.WithTimeout(ctx.Context(), RequestTimeout)
		defer cancel()
		var resp *kmsg.EnvelopeResponse
		var err error
		ctx.Wait(func() {
			resp, err = Ask(waiting, c, wire.Envelop(ctx, req), func(context.Context, *kmsg.EnvelopeRequest) (*kmsg.EnvelopeResponse, error) {
				return nil, errNowLeading
			}, func(r *kmsg.EnvelopeResponse) bool { return r.ErrorCode == kerr.NotController.Code })
		})
		if errors.Is(err, errNowLeading) {
			return handle(ctx, req)
		}
		if err != nil {
			return none, err
		}
		inner, err := wire.Open(req, resp)
		if err != nil {
			return none, fmt.Errorf("forwarded %s: %w", wire.APIName(req.Key()), err)
		}
		return inner.(S), nil
	}
}

// RequestTimeout is the time limit of requests that carry none: the default of request.timeout.ms.
const RequestTimeout = 30 * time.Second

// errNowLeading says that this node became the controller while it looked for one.
var errNowLeading = errors.New("this node leads now")

// Envelope returns the handler of requests that other brokers forward; r has the handlers of the requests inside.
func (c *Calls) Envelope(r *wire.Registry) func(*wire.Request, *kmsg.EnvelopeRequest) (*kmsg.EnvelopeResponse, error) {
	return func(ctx *wire.Request, req *kmsg.EnvelopeRequest) (*kmsg.EnvelopeResponse, error) {
		resp := kmsg.NewPtrEnvelopeResponse()
		if !c.meta.Leads() {
			resp.ErrorCode = kerr.NotController.Code
			return resp, nil
		}
		if err := ctx.MayCluster(acl.ClusterAction); err != nil {
			resp.ErrorCode = wire.ErrorCode(err)
			return resp, nil
		}
		data, err := r.ServeEnvelope(ctx, req)
		resp.ResponseData, resp.ErrorCode = data, wire.ErrorCode(err)
		if err != nil {
			c.log.Warn().Err(err).Str("peer", ctx.Session.Peer).Msg("forwarded request failed")
		}
		return resp, nil
	}
}
