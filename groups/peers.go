package groups

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta"
	"kraft/wire"
	"kraft/wire/locks"
)

// peers sends requests to other brokers, over one connection to each. Any goroutine may use it.
type peers struct {
	meta     *raftmeta.Meta
	dial     wire.Dialer
	listener string // of the brokers

	mu      locks.Mutex // guards the rest
	clients map[int32]*wire.Client
	closed  bool
}

func newPeers(meta *raftmeta.Meta, dial wire.Dialer, listener string) *peers {
	return &peers{meta: meta, dial: dial, listener: listener, clients: map[int32]*wire.Client{}}
}

// peerPatience is how long a broker may take for an answer.
const peerPatience = 10 * time.Second

// ask sends req to a broker.
func (p *peers) ask(ctx context.Context, id int32, req kmsg.Request) (kmsg.Response, error) {
	c, err := p.to(id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, peerPatience)
	defer cancel()
	resp, err := c.Do(ctx, req)
	if errors.Is(err, context.DeadlineExceeded) {
		p.hangUp(id, c) // later requests of the connection would wait behind this one
	}
	return resp, err
}

// hangUp ends the connection of a client; the next request makes another.
func (p *peers) hangUp(id int32, c *wire.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.Close()
	if p.clients[id] == c {
		delete(p.clients, id)
	}
}

func (p *peers) to(id int32) (*wire.Client, error) {
	b, ok := p.meta.Image().Broker(id)
	if !ok || b.Fenced {
		return nil, fmt.Errorf("broker %d is fenced or not registered", id)
	}
	e, ok := b.Endpoint(p.listener)
	if !ok {
		return nil, fmt.Errorf("broker %d has no listener %s", id, p.listener)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, net.ErrClosed
	}
	c := p.clients[id]
	if c != nil && c.Address() != e.Address() { // the broker has moved
		c.Close()
		c = nil
	}
	if c == nil {
		c = wire.NewClient(p.dial, e.Address(), fmt.Sprintf("broker-%d-coordinator", p.meta.NodeID()))
		p.clients[id] = c
	}
	return c, nil
}

// close ends all connections; requests that wait fail.
func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.clients {
		c.Close()
	}
}
