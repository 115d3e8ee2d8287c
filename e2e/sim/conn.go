package sim

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"syscall"
	"time"
)

// Conn is one end of a connection. The network's lock guards it.
type Conn struct {
	network               *Network
	local, remote         string
	localPort, remotePort int
	dialled               bool // this end did
	peer                  *Conn
	in                    *stream // what comes to this end
	err                   error   // why this end is of no more use
	orphan                bool    // the other end has forgotten the connection, and has not said so
	readBy, writeBy       time.Time
	changed               chan struct{} // closed, and made anew, whenever something here changes
}

// stream is the bytes on their way to one end of a connection, each piece with its own instant of arrival.
type stream struct {
	to     *Conn
	way    *condition
	rng    *rand.Rand
	flight []segment
	last   time.Time // arrival of the newest segment
	ready  []byte
	end    error // after ready: io.EOF or a reset
}

type segment struct {
	at   time.Time
	data []byte
	end  error
}

// push sends a piece, or an end, on its way. network.mu is held.
func (s *stream) push(data []byte, end error) {
	if s.to.err != nil || s.end != nil {
		return
	}
	at := s.arrival()
	s.flight = append(s.flight, segment{at, data, end})
	s.schedule(at)
}

// arrival is when what is sent now arrives: never before what was sent earlier.
func (s *stream) arrival() time.Time {
	delay := soundDelay + time.Duration(s.rng.Int64N(int64(soundJitter))) + s.way.delay
	if s.to.localPort == controllerPort {
		delay += s.way.late
	}
	for i := 0; i < resends && s.rng.Float64() < s.way.loss; i++ {
		delay += resend << i
	}
	at := time.Now().Add(delay)
	if !at.After(s.last) {
		at = s.last.Add(1 + time.Duration(s.rng.Int64N(int64(time.Microsecond))))
	}
	s.last = at
	return at
}

// schedule has delivery looked after at an arrival.
func (s *stream) schedule(at time.Time) {
	outside(func() {
		time.AfterFunc(time.Until(at), func() {
			s.to.network.mu.Lock()
			defer s.to.network.mu.Unlock()
			s.deliver()
		})
	})
}

// deliver hands over what has arrived. network.mu is held.
func (s *stream) deliver() {
	if s.way.cut || s.to.err != nil {
		return
	}
	now, moved := time.Now(), false
	for len(s.flight) > 0 && !s.flight[0].at.After(now) {
		first := s.flight[0]
		s.flight = s.flight[1:]
		s.ready = append(s.ready, first.data...)
		if first.end != nil {
			s.end, s.flight = first.end, nil
		}
		moved = true
	}
	if moved {
		s.to.change()
	}
}

// resume sends again what stalled while the way was cut. network.mu is held.
func (s *stream) resume() {
	now := time.Now()
	for i := range s.flight {
		if !s.flight[i].at.After(now) {
			s.last = now
			s.flight[i].at = s.arrival()
		} else if s.flight[i].at.Before(s.last) {
			s.flight[i].at = s.arrival()
		}
		s.schedule(s.flight[i].at)
	}
}

// change wakes who waits at this end, and who waits at the other for room. network.mu is held.
func (c *Conn) change() {
	c.wake()
	c.peer.wake()
}

// wake has who waits at this end look again. network.mu is held.
func (c *Conn) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// fail ends this end. network.mu is held.
func (c *Conn) fail(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	c.in.flight = nil
	c.network.conns = slices.DeleteFunc(c.network.conns, func(o *Conn) bool { return o == c })
	c.change()
}

func (c *Conn) Read(p []byte) (int, error) {
	for {
		c.network.mu.Lock()
		n, err, changed, by := 0, error(nil), c.changed, c.readBy
		switch {
		case c.err != nil && (c.err == net.ErrClosed || len(c.in.ready) == 0):
			err = c.err
		case expired(by):
			err = os.ErrDeadlineExceeded
		case len(c.in.ready) > 0:
			n = copy(p, c.in.ready)
			c.in.ready = c.in.ready[n:]
			c.change()
		case c.in.end != nil:
			err = c.in.end
		}
		c.network.mu.Unlock()
		if n > 0 || len(p) == 0 {
			return n, nil
		}
		if err == io.EOF {
			return 0, err
		}
		if err != nil {
			return 0, c.wrap("read", err)
		}
		await(changed, by)
	}
}

func (c *Conn) Write(p []byte) (int, error) {
	sent := 0
	for {
		c.network.mu.Lock()
		changed, by, err := c.changed, c.writeBy, c.err
		to := c.peer.in
		room := window - len(to.ready)
		for _, s := range to.flight {
			room -= len(s.data)
		}
		switch {
		case err != nil:
		case c.in.end != nil: // the other end is closed, and has said so
			err = syscall.EPIPE
		case expired(by):
			err = os.ErrDeadlineExceeded
		case c.orphan && c.network.host(c.remote).up:
			c.in.push(nil, syscall.ECONNRESET) // the answer to a segment of a connection that is not known there
			sent = len(p)
		case c.orphan || c.peer.err != nil:
			sent = len(p)
		case room > 0:
			n := min(room, len(p)-sent)
			to.push(append([]byte(nil), p[sent:sent+n]...), nil)
			sent += n
		}
		c.network.mu.Unlock()
		if err != nil {
			return sent, c.wrap("write", err)
		}
		if sent == len(p) {
			return sent, nil
		}
		await(changed, by)
	}
}

// Close closes this end; what was written still arrives, and the end after it.
func (c *Conn) Close() error {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	if c.err == nil && !c.orphan {
		c.peer.in.push(nil, io.EOF)
	}
	if c.err != net.ErrClosed {
		c.fail(net.ErrClosed)
		c.err = net.ErrClosed
	}
	return nil
}

func expired(by time.Time) bool { return !by.IsZero() && !time.Now().Before(by) }

// await waits for a change, or until by.
func await(changed <-chan struct{}, by time.Time) {
	if by.IsZero() {
		<-changed
		return
	}
	t := time.NewTimer(time.Until(by))
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	}
}

func (c *Conn) wrap(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

func (c *Conn) LocalAddr() net.Addr  { return address(c.local, c.localPort) }
func (c *Conn) RemoteAddr() net.Addr { return address(c.remote, c.remotePort) }

func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(&c.readBy, t)
}

func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(&c.writeBy, t)
}

func (c *Conn) setDeadline(which *time.Time, t time.Time) error {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	*which = t
	if c.err != nil {
		return c.wrap("set", c.err)
	}
	c.wake()
	return nil
}
