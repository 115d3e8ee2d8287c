package quorum

import (
	"context"
	"errors"
	"net"
	"syscall"
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
