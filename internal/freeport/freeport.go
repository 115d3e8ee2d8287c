// Package freeport gives tests ports of the loopback interface on which the program under test will listen later.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// Get returns a port of the loopback interface that nothing listens on. It stays free until the caller's program
// uses it: it lies below the ports that systems give to outgoing connections (which "127.0.0.1:0" does not), and
// no other test is given it while this process runs, because a UDP socket of the same number says that it is taken.
// Safe to call from any goroutine.
func Get() (int, error) {
	const lowest, count = 15_000, 17_000 // Linux gives outgoing connections 32768 and up
	first := rand.IntN(count)
	for i := range count {
		port := lowest + (first+i)%count
		address := fmt.Sprintf("127.0.0.1:%d", port)
		claim, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			_ = claim.Close()
			continue
		}
		claims.Lock()
		claims.sockets = append(claims.sockets, claim)
		claims.Unlock()
		return port, l.Close()
	}
	return 0, errors.New("no port of the loopback interface is free")
}

// For is Get for a test, which it fails where no port is free.
func For(t testing.TB) int {
	t.Helper()
	port, err := Get()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// claims are what Get holds until the process ends.
var claims struct {
	sync.Mutex
	sockets []net.PacketConn
}
