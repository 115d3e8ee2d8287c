package quorum

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// NobodyListens says that an address, as host:port, refuses connections: the process that listened there has
// ended. Any other failure, and ctx's end, says nothing.
func NobodyListens(ctx context.Context, dial func(ctx context.Context, address string) (net.Conn, error), address string) bool {
	c, err := dial(ctx, address)
	if err == nil {
		_ = c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// Repeat calls look until it says that it is done, or ctx ends, after pauses that begin with first and double. Once is not
// enough to see whether a process has ended: it does not close all its sockets at the same moment.
func Repeat(ctx context.Context, first time.Duration, look func() (done bool)) {
	for wait := first; !look(); wait *= 2 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
