package wire

import (
	"errors"
	"net"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire/quota"
)

// quotas are those by which the sender of the request is throttled. They are nil for other brokers, for members of the quorum, and during a login.
func (r *Request) quotas() *quota.Manager {
	if r.exempt || r.Session.Member {
		return nil
	}
	return r.conn.server.config.Quotas
}

// Take counts an amount against a quota of the sender. If it is too much, the answer says for how long the sender is throttled (KIP-219), and no
// further request is read from the connection before that time is over. Only the request's handler may call it, and the other methods about quotas.
func (r *Request) Take(k quota.Kind, amount float64) {
	r.throttle(r.quotas().Take(k, r.Session.Principal.Name, r.ClientID, amount, time.Now()))
}

// TakeOrLeave is Take for an answer that the sender gets whole or not at all. It returns true if the sender is throttled, for the answer's bytes or
// for the time that the request took: then the bytes do not count, and the answer is to be left out. bytes is called only if the sender has a quota of that kind.
func (r *Request) TakeOrLeave(k quota.Kind, bytes func() int) (left bool) {
	q, user, now := r.quotas(), r.Session.Principal.Name, time.Now()
	wait, amount := r.throttleTime(q, now), 0.0
	if q.Limits(k, user, r.ClientID) {
		amount = float64(bytes())
		wait = max(wait, q.Take(k, user, r.ClientID, amount, now))
	}
	if wait == 0 {
		return false
	}
	q.Count(k, user, r.ClientID, -amount, now)
	r.throttle(wait)
	return true
}

// Spend takes mutations of the metadata. It returns false if the sender has overdrawn its quota, and the change is to be refused. Before version
// strictFrom of the request, clients do not know that error: the change is made, and the sender is throttled (KIP-599).
func (r *Request) Spend(mutations int, strictFrom int16) bool {
	if r.Version < strictFrom {
		r.Take(quota.Mutations, float64(mutations))
		return true
	}
	wait := r.quotas().Spend(r.Session.Principal.Name, r.ClientID, float64(mutations), time.Now())
	r.throttle(wait)
	return wait == 0
}

// Afford is Spend for a change that the sender may do without: it throttles nobody.
func (r *Request) Afford(mutations int) bool {
	return r.quotas().Spend(r.Session.Principal.Name, r.ClientID, float64(mutations), time.Now()) == 0
}

// Most is how much of an amount the sender may take at once.
func (r *Request) Most(k quota.Kind, amount int) int {
	return r.quotas().Most(k, r.Session.Principal.Name, r.ClientID, amount)
}

// Size is how many bytes the request has on the wire.
func (r *Request) Size() int { return r.size }

// throttle has the sender throttled for at least d.
func (r *Request) throttle(d time.Duration) { r.throttled = max(r.throttled, d) }

// throttleTime counts the time in the handler, once, and returns for how long the sender is to be throttled for it.
func (r *Request) throttleTime(q *quota.Manager, now time.Time) time.Duration {
	if r.timed {
		return 0
	}
	r.timed = true
	spent := r.phases[Handled] + now.Sub(r.mark)
	return q.Take(quota.Request, r.Session.Principal.Name, r.ClientID, percent(spent), now)
}

// countSending counts the time that the answer took to be written, which is over. It throttles nobody by itself, as in Kafka.
func (r *Request) countSending() {
	if q := r.quotas(); q != nil {
		q.Count(quota.Request, r.Session.Principal.Name, r.ClientID, percent(r.phases[Sent]), r.mark)
	}
}

// percent is a time as request_percentage counts it: of a processor, which has a second each second.
func percent(d time.Duration) float64 { return 100 * d.Seconds() }

// settle is called when a request is handled: it has the answer say for how long the sender is throttled, by this broker or by the controller to
// which the request was forwarded, and returns that.
func (r *Request) settle(resp Response) time.Duration {
	if q := r.quotas(); q != nil {
		r.throttle(r.throttleTime(q, time.Now()))
	}
	if tells, ok := resp.(throttling); ok {
		millis, _ := tells.Throttle()
		r.throttle(time.Duration(millis) * time.Millisecond)
		if r.throttled > 0 {
			tells.SetThrottle(int32(r.throttled / time.Millisecond))
		}
	}
	return r.throttled
}

// throttling is an answer that says for how long its receiver is throttled.
type throttling interface {
	kmsg.ThrottleResponse
	kmsg.SetThrottleResponse
}

// mute has the connection read no request for d.
func (c *conn) mute(d time.Duration) {
	if d <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	last, until := c.muted.Load(), time.Now().Add(d)
	if last == nil || until.After(*last) {
		c.muted.Store(&until)
	}
}

// left is how long the connection is muted yet.
func (c *conn) left() time.Duration {
	until := c.muted.Load()
	if until == nil {
		return 0
	}
	return time.Until(*until)
}

// unmute returns when the connection is not muted, or with an error when it is to end: its peer has left, or it would be idle for too long. To
// notice that, it waits for a byte of the next request.
func (c *conn) unmute(frames *frameReader) error {
	left := c.left()
	if left <= 0 {
		return nil
	}
	idle := c.idleFrom(time.Now())
	for ; left > 0; left = c.left() {
		deadline := time.Now().Add(left)
		if !idle.IsZero() && idle.Before(deadline) {
			deadline = idle
		}
		if err := c.awaitUntil(deadline); err != nil {
			return err
		}
		again, err := c.begun(frames.awaitByte())
		switch {
		case again: // an answer waits: it is not idle
			idle = c.idleFrom(time.Now())
		case err == nil:
			return c.sitOut(idle) // the next request has begun
		case !errors.Is(err, os.ErrDeadlineExceeded) || deadline.Equal(idle):
			return err
		}
	}
	return nil
}

// sitOut waits until the connection is not muted, or is to end; with an error if idle, unless it is zero, comes before.
func (c *conn) sitOut(idle time.Time) error {
	for {
		left := c.left()
		if left <= 0 {
			return nil
		}
		if !idle.IsZero() {
			left = min(left, time.Until(idle))
		}
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-c.ctx.Done():
			timer.Stop()
			return c.ctx.Err()
		case <-c.hung:
			timer.Stop()
			return net.ErrClosed
		case <-c.server.draining:
			timer.Stop()
			return nil
		}
	}
}
