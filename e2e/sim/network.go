package sim

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Network joins hosts in memory, with the faults of a real one below TCP: bytes are late, connections stall while a
// way is cut, are reset in the middle of a frame, or stay open at one end only. It runs in virtual time, inside a
// testing/synctest bubble. All methods may be called from any goroutine of the bubble.
type Network struct {
	seed uint64

	mu      sync.Mutex // guards the rest, and all connections
	hosts   map[string]*host
	ways    map[way]*condition
	dialled map[way]int // connections so far: each has its own random numbers, so that none depends on another's
	conns   []*Conn     // open ends, in the order they were made
}

// way is from one host to another; the two directions have their own troubles.
type way struct{ from, to string }

// condition is how a way is at present.
type condition struct {
	cut   bool
	delay time.Duration // on top of a sound way's
	loss  float64       // of packets; TCP sends them again, so that they come late
	late  time.Duration // bytes for a controller listener take so much longer: metadata then arrives after the answers
}

type host struct {
	up        bool // it answers at all: with a refusal where nobody listens
	listeners map[int]*listener
	lastPort  int
}

const (
	soundDelay   = 200 * time.Microsecond // at least, one way
	soundJitter  = 600 * time.Microsecond
	resend       = 200 * time.Millisecond // TCP's first wait for an acknowledgement; doubles
	resends      = 4
	window       = 512 << 10 // bytes on their way or unread, after which a writer waits
	synInterval  = time.Second
	dialPatience = 30 * time.Second
	twins        = 50               // one connection of so many is made twice
	silence      = 15 * time.Second // after which a peer that lost power is given up
)

// NewNetwork returns a network without hosts, whose delays follow from seed.
func NewNetwork(seed uint64) *Network {
	return &Network{seed: seed, hosts: map[string]*host{}, ways: map[way]*condition{}, dialled: map[way]int{}}
}

// outside runs f, whose timers are no machine's: they run while all machines stand still.
var outside = func(f func()) { f() }

// Up makes a host answer. Connections that it had before it lost power are reset at their other ends.
func (n *Network) Up(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.host(name).up = true
	for _, c := range slices.Clone(n.conns) {
		if c.orphan && c.remote == name {
			c.in.push(nil, syscall.ECONNRESET)
		}
	}
}

func (n *Network) host(name string) *host {
	h := n.hosts[name]
	if h == nil {
		h = &host{listeners: map[int]*listener{}, lastPort: 40000}
		n.hosts[name] = h
	}
	return h
}

// Exit ends a process: its listeners and connections are closed, and the others hear of it.
func (n *Network) Exit(name string) { n.end(name, false) }

// PowerOff ends a host: nobody hears of it until they lose patience, or it is up again.
func (n *Network) PowerOff(name string) { n.end(name, true) }

func (n *Network) end(name string, silent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.host(name)
	if silent {
		h.up = false
	}
	for _, l := range h.listeners {
		l.close()
	}
	for _, c := range slices.Clone(n.conns) {
		if c.local != name {
			continue
		}
		if silent {
			c.peer.orphan = true
			c.peer.in.flight = nil
			outside(func() {
				time.AfterFunc(silence, func() {
					n.mu.Lock()
					defer n.mu.Unlock()
					c.peer.fail(syscall.ETIMEDOUT)
				})
			})
		} else {
			c.peer.in.push(nil, syscall.ECONNRESET)
		}
		c.fail(syscall.ENETDOWN)
	}
}

// Set changes how a way is: f is given its condition. Bytes that stalled on it move again once it is not cut.
func (n *Network) Set(from, to string, f func(*condition)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.condition(way{from, to})
	f(w)
	if w.cut {
		return
	}
	for _, c := range n.conns {
		if c.remote == from && c.local == to {
			c.in.resume()
		}
	}
}

// Heal makes all ways sound.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.ways {
		*w = condition{}
	}
	for _, c := range n.conns {
		c.in.resume()
	}
}

func (n *Network) condition(w way) *condition {
	c := n.ways[w]
	if c == nil {
		c = new(condition)
		n.ways[w] = c
	}
	return c
}

// Reset breaks a connection that pick chooses among those open, in the middle of what is on its way to the end that
// dialled; the other end hears of it only if told, otherwise it stays open until it is written to.
func (n *Network) Reset(pick func(count int) int, told bool) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var open []*Conn
	for _, c := range n.conns {
		if c.dialled && c.err == nil && c.peer.err == nil {
			open = append(open, c)
		}
	}
	if len(open) == 0 {
		return ""
	}
	c := open[pick(len(open))]
	for _, s := range c.in.flight { // a part of a frame arrives
		if len(s.data) > 1 {
			c.in.ready = append(c.in.ready, s.data[:len(s.data)/2]...)
			break
		}
	}
	c.in.flight = nil
	if told {
		c.peer.in.push(nil, syscall.ECONNRESET)
	} else {
		c.peer.orphan = true
	}
	c.fail(syscall.ECONNRESET)
	return fmt.Sprintf("%s to %s:%d", c.local, c.remote, c.remotePort)
}

// Listen binds a host's port.
func (n *Network) Listen(name string, port int) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.host(name)
	if h.listeners[port] != nil {
		return nil, syscall.EADDRINUSE
	}
	l := &listener{network: n, host: h, port: port, address: address(name, port), backlog: make(chan *Conn, 1024), done: make(chan struct{})}
	h.listeners[port] = l
	return l, nil
}

type listener struct {
	network *Network
	host    *host
	port    int
	address *net.TCPAddr
	backlog chan *Conn
	done    chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	l.close()
	return nil
}

// close ends the listener. network.mu is held.
func (l *listener) close() {
	if l.host.listeners[l.port] != l {
		return
	}
	delete(l.host.listeners, l.port)
	close(l.done)
	for len(l.backlog) > 0 {
		c := <-l.backlog
		c.peer.in.push(nil, syscall.ECONNRESET)
		c.fail(net.ErrClosed)
	}
}

func (l *listener) Addr() net.Addr { return l.address }

func address(name string, port int) *net.TCPAddr {
	return &net.TCPAddr{IP: net.ParseIP(name), Port: port}
}

// Dial connects a host to an address, which is a host's name and a port. While a way is cut, or the other host is
// down, it waits, as TCP does.
func (n *Network) Dial(ctx context.Context, from, to string) (net.Conn, error) {
	a, err := net.ResolveTCPAddr("tcp", to)
	if err != nil {
		return nil, err
	}
	w := way{from, a.IP.String()}
	n.mu.Lock()
	count := n.dialled[w]
	n.dialled[w]++
	n.mu.Unlock()
	own := fnv.New64a()
	_, _ = fmt.Fprint(own, w, count)
	rng := rand.New(rand.NewPCG(n.seed, own.Sum64()))
	timeout := time.NewTimer(dialPatience)
	defer timeout.Stop()
	for wait := roundTrip(rng); ; wait = synInterval + time.Duration(rng.Int64N(int64(soundJitter))) {
		select {
		case <-time.After(wait):
		case <-timeout.C:
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: a, Err: syscall.ETIMEDOUT}
		case <-ctx.Done():
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: a, Err: context.Cause(ctx)}
		}
		c, err := n.connect(w, a.Port, rng)
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: a, Err: err}
		}
		if c == nil {
			continue
		}
		if rng.IntN(twins) == 0 {
			n.twin(w, a.Port, rng)
		}
		return c, nil
	}
}

// twin makes the connection once more, of which only the other end knows: its first packet came twice.
func (n *Network) twin(w way, port int, rng *rand.Rand) {
	c, err := n.connect(w, port, rng)
	if c == nil || err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	c.peer.orphan = true
	c.fail(syscall.ECONNRESET)
}

func roundTrip(rng *rand.Rand) time.Duration {
	return 2*soundDelay + time.Duration(rng.Int64N(int64(2*soundJitter)))
}

// connect makes a connection, or none when nothing answers.
func (n *Network) connect(w way, port int, rng *rand.Rand) (*Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, own := n.host(w.to), n.host(w.from)
	if !own.up || !h.up || n.condition(w).cut || n.condition(way{w.to, w.from}).cut {
		return nil, nil
	}
	l := h.listeners[port]
	if l == nil || len(l.backlog) == cap(l.backlog) {
		return nil, syscall.ECONNREFUSED
	}
	own.lastPort++
	near := &Conn{network: n, local: w.from, remote: w.to, localPort: own.lastPort, remotePort: port, dialled: true, changed: make(chan struct{})}
	far := &Conn{network: n, local: w.to, remote: w.from, localPort: port, remotePort: own.lastPort, changed: make(chan struct{})}
	near.peer, far.peer = far, near
	near.in = &stream{to: near, way: n.condition(way{w.to, w.from}), rng: rand.New(rand.NewPCG(rng.Uint64(), 1))}
	far.in = &stream{to: far, way: n.condition(w), rng: rand.New(rand.NewPCG(rng.Uint64(), 2))}
	n.conns = append(n.conns, near, far)
	l.backlog <- far
	return near, nil
}
