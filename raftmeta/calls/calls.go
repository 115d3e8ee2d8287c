// Package calls sends requests to the active controller: a broker's own (Ask), and those of clients (Forwarded).
package calls

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta"
	"kraft/wire"
	"kraft/wire/locks"
	"kraft/wire/logging"
)

// Calls sends requests to the active controller, which may change at any moment. Any goroutine may use it.
type Calls struct {
	meta *raftmeta.Meta
	log  zerolog.Logger
	turn atomic.Uint32 // of anyOther

	mu      locks.Mutex             // guards the rest
	clients map[string]*wire.Client // by address, of members that are or were the controller
	closed  bool
}

// New returns the calls of a node to the controller that meta knows. Close ends them.
func New(meta *raftmeta.Meta) *Calls {
	return &Calls{meta: meta, log: meta.Config.Logs.For(logging.Node), clients: map[string]*wire.Client{}}
}

// to returns a client of the controller at address.
func (c *Calls) to(address string) (*wire.Client, error) {
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
		client = wire.NewClient(c.meta.Config.Dial, address, fmt.Sprintf("broker-%d", c.meta.Config.NodeID))
		c.clients[address] = client
	}
	return client, nil
}

// Close closes all connections. Requests fail from then on, unless this node is the active controller.
func (c *Calls) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, client := range c.clients {
		client.Close()
	}
}

// maxControllers bounds the members to which connections are kept.
const maxControllers = 16

// Retry is how long a call waits for a controller to be elected before it looks again.
const Retry = 10 * time.Millisecond

// Ask has the active controller handle req: by handle if this node is the controller, otherwise over the wire. It tries again until a
// controller answers, whose response notController does not reject, or ctx ends. A request whose connection broke is sent again:
// req must do no harm twice.
func Ask[Q kmsg.Request, R kmsg.Response](ctx context.Context, c *Calls, req Q, handle func(context.Context, Q) (R, error), notController func(R) bool) (R, error) {
	var none R
	for {
		resp, err := askOnce(ctx, c, req, handle)
		if err == nil && !notController(resp) {
			return resp, nil
		}
		if errors.Is(err, errNowLeading) {
			return none, err
		}
		c.turn.Add(1)
		if err != nil && !errors.Is(err, kerr.NotController) {
			c.log.Debug().Err(err).Str("request", wire.APIName(req.Key())).Msg("controller not reached")
		}
		select {
		case <-ctx.Done():
			return none, fmt.Errorf("no answer from the controller: %w", errors.Join(ctx.Err(), err))
		case <-c.meta.Node().Done():
			return none, kerr.NotController
		case <-time.After(Retry):
		}
	}
}

func askOnce[Q kmsg.Request, R kmsg.Response](ctx context.Context, c *Calls, req Q, handle func(context.Context, Q) (R, error)) (R, error) {
	var none R
	leader, guessed := c.meta.Controller(), c.meta.Node().Hangs()
	if guessed {
		leader = c.anyOther() // who may lead
	}
	if leader == c.meta.Config.NodeID {
		here, cancel := context.WithCancel(ctx)
		defer cancel()
		go cancelWhen(here, cancel, c.meta.Node().Hangs) // another one leads soon
		resp, err := handle(here, req)
		if here.Err() != nil && ctx.Err() == nil { // the disk hangs: resp says REQUEST_TIMED_OUT because of our own cancel
			return none, kerr.NotController
		}
		return resp, err
	}
	if leader < 0 || c.meta.Node().Err() != nil {
		return none, kerr.NotController
	}
	client, err := c.to(c.meta.ControllerAddress(raftmeta.MemberID(leader)))
	if err != nil {
		return none, err
	}
	once, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	if !guessed {
		go cancelWhen(once, cancel, func() bool { return c.superseded(leader, req.Key() == kmsg.Envelope.Int16()) })
	}
	resp, err := client.Do(once, req)
	if err != nil {
		return none, err
	}
	return resp.(R), nil
}

// cancelWhen cancels a call to the controller as soon as it is to be given up, which is looked at until ctx ends.
func cancelWhen(ctx context.Context, cancel func(), givenUp func() bool) {
	tick := time.NewTicker(5 * Retry)
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
func (c *Calls) anyOther() int32 {
	voters := slices.DeleteFunc(slices.Clone(c.meta.Node().Voters()), func(id uint64) bool { return id == c.meta.Node().ID() })
	if len(voters) == 0 {
		return -1
	}
	return raftmeta.NodeOf(voters[int(c.turn.Load())%len(voters)])
}

// superseded reports whether the controller that was asked is not the active one any more: it may be one that stands still. A request
// whose repetition could be answered by an error (once), as an administrator's can, is given up only if that controller is silent.
func (c *Calls) superseded(asked int32, once bool) bool {
	heard, _ := c.meta.Node().Heard(raftmeta.MemberID(asked))
	silent := time.Since(heard) > time.Second
	now := c.meta.Controller()
	return now >= 0 && now != asked && (silent || !once)
}

// Patience is how long a call waits for one response of a controller.
const Patience = 5 * time.Second
