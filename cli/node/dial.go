package node

import (
	"context"
	"net"
	"time"
)

// silence is how long another node's host may leave what was sent unacknowledged, or leave probes unanswered, until the
// connection counts as broken. Without it TCP sends again ever more rarely, and a network that was cut for half a minute
// is not used for half a minute more. A process that is paused is none of its concern: its host still answers.
const silence = 3 * time.Second

// dial connects to another node by TCP.
func dial(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: int(silence / time.Second)},
		Control:         limitSilence,
	}
	return d.DialContext(ctx, "tcp", address)
}
