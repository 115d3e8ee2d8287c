package raftmeta

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire"
	"kraft/wire/locks"
)

// controllerCalls sends requests to the active controller, which may change at any moment.
type controllerCalls struct {
	meta *Meta
	turn atomic.Uint32 // of anyOther

	mu      locks.Mutex             // guards the rest
	clients map[string]*wire.Client // by address, of members that are or were the controller
	closed  bool
}

func newControllerCalls(m *Meta) *controllerCalls {
	return &controllerCalls{meta: m, clients: map[string]*wire.Client{}}
}

// to returns a client of the controller at address.
func (c *controllerCalls) to(address string) (*wire.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, net.ErrClosed
	}
	client := c.clients[address]
	if client == nil {
		for len(c.clients) >= maxControllers { // members have moved to other addresses
			for old, other := range c.clients {
				other.Close()
				delete(c.clients, old)
				break
			}
		}
		client = wire.NewClient(c.meta.config.Dial, address, fmt.Sprintf("broker-%d", c.meta.config.NodeID))
		c.clients[address] = client
	}
	return client, nil
}

func (c *controllerCalls) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, client := range c.clients {
		client.Close()
	}
}

// maxControllers bounds the members to which connections are kept.
const maxControllers = 16

// controllerRetry is how long a call waits for a controller to be elected before it looks again.
const controllerRetry = 10 * time.Millisecond

// ask has the active controller handle req: by handle if it is this node, else over the wire. It goes on
// until there is a controller that answers, or ctx ends. A request whose connection broke is sent again:
// req must be one that does no harm twice.
func ask[Q kmsg.Request, R kmsg.Response](ctx context.Context, m *Meta, req Q, handle func(context.Context, Q) (R, error), notController func(R) bool) (R, error) {
	var none R
	for {
		resp, err := askOnce(ctx, m, req, handle)
		if err == nil && !notController(resp) {
			return resp, nil
		}
		if errors.Is(err, errNowLeading) {
			return none, err
		}
		m.calls.turn.Add(1)
		if err != nil && !errors.Is(err, kerr.NotController) {
			m.log.Debug().Err(err).Str("request", wire.APIName(req.Key())).Msg("controller not reached")
		}
		select {
		case <-ctx.Done():
			return none, fmt.Errorf("no answer from the controller: %w", errors.Join(ctx.Err(), err))
		case <-m.node.Done():
			return none, kerr.NotController
		case <-time.After(controllerRetry):
		}
	}
}

func askOnce[Q kmsg.Request, R kmsg.Response](ctx context.Context, m *Meta, req Q, handle func(context.Context, Q) (R, error)) (R, error) {
	var none R
	leader, guessed := m.controller.Leader(), m.node.Hangs()
	if guessed {
		leader = m.anyOther() // who may lead
	}
	if leader == m.config.NodeID {
		here, cancel := context.WithCancel(ctx)
		defer cancel()
		go cancelWhen(here, cancel, m.node.Hangs) // another one leads soon
		resp, err := handle(here, req)
		if here.Err() != nil && ctx.Err() == nil { // the disk hangs: resp says REQUEST_TIMED_OUT because of our own cancel
			return none, kerr.NotController
		}
		return resp, err
	}
	if leader < 0 || m.node.Err() != nil {
		return none, kerr.NotController
	}
	client, err := m.calls.to(m.controllerAddress(raftID(leader)))
	if err != nil {
		return none, err
	}
	once, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	if !guessed {
		go cancelWhen(once, cancel, func() bool { return m.superseded(leader, req.Key() == kmsg.Envelope.Int16()) })
	}
	resp, err := client.Do(once, req)
	if err != nil {
		return none, err
	}
	return resp.(R), nil
}

// cancelWhen cancels a call to the controller as soon as it is to be given up, which is looked at until ctx ends.
func cancelWhen(ctx context.Context, cancel func(), givenUp func() bool) {
	tick := time.NewTicker(5 * controllerRetry)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if givenUp() {
				cancel()
			}
		}
	}
}

// anyOther is another voter than this one, -1 if there is none: the same until turn moves on.
func (m *Meta) anyOther() int32 {
	voters := slices.DeleteFunc(slices.Clone(m.node.Voters()), func(id uint64) bool { return id == m.node.ID() })
	if len(voters) == 0 {
		return -1
	}
	return nodeID(voters[int(m.calls.turn.Load())%len(voters)])
}

// superseded reports whether the controller that was asked is not the active one any more: it may be one that stands still. A request
// whose repetition could be answered by an error (once), as an administrator's can, is given up only if that controller is silent.
func (m *Meta) superseded(asked int32, once bool) bool {
	heard, _ := m.node.Heard(raftID(asked))
	silent := time.Since(heard) > time.Second
	now := m.controller.Leader()
	return now >= 0 && now != asked && (silent || !once)
}

// callPatience is for one answer of a controller.
const callPatience = 5 * time.Second

// forwarded is a handler of an admin request: where this node is not the active controller, the request goes
// there as it came, in an Envelope (KIP-590).
func forwarded[Q any, P interface {
	*Q
	kmsg.Request
}, S kmsg.Response](m *Meta, handle func(*wire.Request, P) (S, error)) func(*wire.Request, P) (S, error) {
	return func(ctx *wire.Request, req P) (S, error) {
		if m.Alone() || m.Leads() && !m.node.Hangs() {
			return handle(ctx, req)
		}
		var none S
		c, cancel := context.WithTimeout(ctx.Context(), adminTimeout*time.Millisecond)
		defer cancel()
		resp, err := ask(c, m, wire.Envelop(ctx, req), func(context.Context, *kmsg.EnvelopeRequest) (*kmsg.EnvelopeResponse, error) {
			return nil, errNowLeading
		}, func(r *kmsg.EnvelopeResponse) bool { return r.ErrorCode == kerr.NotController.Code })
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

// errNowLeading says that this node became the controller while it looked for one.
var errNowLeading = errors.New("this node leads now")

// envelope serves a request that another broker passed on.
func (m *Meta) envelope(r *wire.Registry) func(*wire.Request, *kmsg.EnvelopeRequest) (*kmsg.EnvelopeResponse, error) {
	return func(ctx *wire.Request, req *kmsg.EnvelopeRequest) (*kmsg.EnvelopeResponse, error) {
		resp := kmsg.NewPtrEnvelopeResponse()
		if !m.Leads() {
			resp.ErrorCode = kerr.NotController.Code
			return resp, nil
		}
		data, err := r.ServeEnvelope(ctx, req)
		resp.ResponseData, resp.ErrorCode = data, wire.ErrorCode(err)
		if err != nil {
			m.log.Warn().Err(err).Str("peer", ctx.Session.Peer).Msg("request that was passed on failed")
		}
		return resp, nil
	}
}
