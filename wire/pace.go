package wire

import (
	"math"
	"net"
	"net/netip"
	"time"

	"kraft/wire/quota"
)

// pace measures at which rate connections come (KIP-612). It is guarded by Server.mu.
type pace struct {
	all       quota.Rate
	listeners map[string]*quota.Rate
	addresses map[netip.Addr]*quota.Rate // that have a limit
	swept     time.Time
	parked    int // connections of addresses that come too often, until they are closed
}

const (
	maxPaced  = 100_000 // addresses whose rates are known at the same time; others are not limited
	maxParked = 1000    // connections; past it they are closed at once
)

// note counts a connection, and returns how long to wait before it is served, and more are taken.
func (p *pace) note(l *Limits, listener string, now time.Time) time.Duration {
	if p.listeners == nil {
		p.listeners = map[string]*quota.Rate{}
	}
	rate := p.listeners[listener]
	if rate == nil {
		rate = new(quota.Rate)
		p.listeners[listener] = rate
	}
	wait := paced(rate, l.Windows, l.listener(listener).Rate, now)
	if listener != l.Protected {
		wait = max(wait, paced(&p.all, l.Windows, l.Rate, now))
	}
	return wait
}

// paced counts a connection, and returns how long it has to wait because there are too many: a window at most.
func paced(r *quota.Rate, w quota.Windows, limit int, now time.Time) time.Duration {
	if limit == math.MaxInt32 {
		return 0
	}
	r.Take(w, 1, now)
	return min(r.Throttle(w, float64(limit), now), w.Each)
}

// noteAddress counts a connection of an address, and returns how long it is to stand unserved before it is closed, if it is one too many.
func (p *pace) noteAddress(l *Limits, listener string, from netip.Addr, now time.Time) time.Duration {
	limit := l.rateOf(from)
	if limit == 0 {
		return 0
	}
	if now.Sub(p.swept) >= l.Windows.Each*time.Duration(l.Windows.Count) { // all that was counted before is forgotten, or nearly
		p.swept = now
		for a, r := range p.addresses {
			if r.Idle(l.Windows, now) {
				delete(p.addresses, a)
			}
		}
	}
	rate := p.addresses[from]
	if rate == nil {
		if len(p.addresses) >= maxPaced {
			return 0
		}
		if p.addresses == nil {
			p.addresses = map[netip.Addr]*quota.Rate{}
		}
		rate = new(quota.Rate)
		p.addresses[from] = rate
	}
	wait := paced(rate, l.Windows, limit, now)
	if wait > 0 { // it is not served, and counts nowhere
		rate.Take(l.Windows, -1, now)
		if own := p.listeners[listener]; own != nil && l.listener(listener).Rate != math.MaxInt32 {
			own.Take(l.Windows, -1, now)
		}
		if listener != l.Protected && l.Rate != math.MaxInt32 {
			p.all.Take(l.Windows, -1, now)
		}
	}
	return wait
}

// admit waits until a connection may be served, and returns false if it is not to be: then it is closed.
func (s *Server) admit(l *Listener, tcp net.Conn) bool {
	if l.Member {
		return true
	}
	limits, now := s.config.Limits(), time.Now()
	s.mu.Lock()
	wait, parked := s.pace.note(limits, l.Name, now), time.Duration(0)
	if l.Name != limits.Protected {
		parked = s.pace.noteAddress(limits, l.Name, peerAddress(tcp.RemoteAddr().String()), now)
	}
	s.mu.Unlock()
	if parked > 0 {
		s.park(tcp, parked)
		return false
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.ctx.Done():
		}
	}
	return true
}

// park closes a connection after some time in which it is not read: its client would come again at once.
func (s *Server) park(tcp net.Conn, d time.Duration) {
	s.mu.Lock()
	crowded := s.pace.parked >= maxParked || s.closed
	if !crowded {
		s.pace.parked++
		s.running.Add(1)
	}
	s.mu.Unlock()
	s.counters.parked.Add(1)
	if crowded {
		closeUnanswered(tcp)
		return
	}
	go func() {
		defer s.running.Done()
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.ctx.Done():
		}
		_ = tcp.Close()
		s.mu.Lock()
		s.pace.parked--
		s.mu.Unlock()
	}()
}

// evict ends the connection of another listener than name whose last request is the longest ago. mu is held.
func (s *Server) evict(name string) {
	var oldest *conn
	for c := range s.conns {
		if c.listener != name && c.ctx.Err() == nil && (oldest == nil || c.used.Load() < oldest.used.Load()) {
			oldest = c
		}
	}
	if oldest == nil {
		return
	}
	if s.refusals.Allow() {
		s.log.Warn().Str("peer", oldest.tcp.RemoteAddr().String()).Msg("closed a client's connection: another broker needs its place (max.connections)")
	}
	oldest.cancel()
	oldest.hangUp()
}
