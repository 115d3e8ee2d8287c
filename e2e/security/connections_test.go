package security

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"kraft/e2e/harness"
)

// TestConnectionsOfAnAddress: an address has as many connections as the settings allow, which change while the broker runs.
func TestConnectionsOfAnAddress(t *testing.T) {
	k := harness.NewKraft(t, "--override", "max.connections.per.ip=5")
	var open []net.Conn
	hangUp := func() {
		for _, c := range open {
			_ = c.Close()
		}
		open = nil
	}
	defer hangUp()
	// connect says whether the broker keeps another connection.
	connect := func() bool {
		t.Helper()
		c, err := net.Dial("tcp", k.Addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			_ = c.Close()
			if !errors.Is(err, io.EOF) && !isReset(err) {
				t.Fatal(err)
			}
			return false
		}
		open = append(open, c)
		return true
	}
	kept := 0
	for range 8 {
		if connect() {
			kept++
		}
	}
	if kept != 5 {
		t.Errorf("%d connections of 5 are kept", kept)
	}
	hangUp()
	if err := harness.Eventually(5*time.Second, func() error {
		if !connect() {
			return errors.New("a connection counts after its end")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]int{"max.connections.per.ip.overrides=localhost:9": 9, "max.connections.per.ip.overrides=127.0.0.1:7,10.0.0.1:1": 7} {
		hangUp()
		k.CLI(t, "", "config", "set", value, "--all-brokers")
		if err := harness.Eventually(10*time.Second, func() error {
			for len(open) <= want {
				if !connect() {
					break
				}
			}
			if n := len(open); n != want {
				hangUp() // the broker has noted that by the next try
				return fmt.Errorf("%s: %d connections are kept", value, n)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}
