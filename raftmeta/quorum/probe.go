package quorum

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
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

// wordPatience is how long a program may take to connect, and again to answer a word.
const wordPatience = time.Second

// FourLetterWord sends one of ZooKeeper's words to an address and returns the answer, or as much of it as came in time.
func FourLetterWord(ctx context.Context, dial func(ctx context.Context, address string) (net.Conn, error), address, word string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, wordPatience)
	defer cancel()
	c, err := dial(ctx, address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wordPatience))
	if _, err := io.WriteString(c, word); err != nil {
		return "", err
	}
	const longest = 1 << 10
	answer, err := io.ReadAll(io.LimitReader(c, longest))
	return string(answer), err
}

// IsZooKeeper reports whether a real ZooKeeper answers at an address. Any failure says nothing.
func IsZooKeeper(ctx context.Context, dial func(ctx context.Context, address string) (net.Conn, error), address string) bool {
	answer, _ := FourLetterWord(ctx, dial, address, "srvr") // the answer's beginning is enough
	return strings.HasPrefix(answer, "Zookeeper version") || strings.Contains(answer, "is not in the whitelist")
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
