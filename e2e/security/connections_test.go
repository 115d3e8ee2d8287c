package security

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

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

// TestHalfOpenHandshakes: a thousand clients a second that begin a TLS handshake and go no further do not keep anybody else from being served, and
// take a bounded amount of memory, which comes back.
func TestHalfOpenHandshakes(t *testing.T) {
	b := start(t)
	before, err := b.Resident()
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.addresses["SSL"]), kgo.DialTLSConfig(b.trust(t, true)), kgo.RequestRetries(0))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	const second, seconds = 1000, 4
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	hello := append([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}, make([]byte, 100)...) // a record of 512 bytes that does not go on
	var slowest time.Duration
	most := 0
	for range seconds {
		begun := time.Now()
		for i := range second {
			c, err := net.DialTimeout("tcp", b.addresses["SSL"], 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write(hello)
			open = append(open, c)
			if i%100 == 0 {
				asked := time.Now()
				if err := cl.Ping(t.Context()); err != nil {
					t.Fatal(err)
				}
				slowest = max(slowest, time.Since(asked))
			}
		}
		asked := time.Now()
		c, err := tls.Dial("tcp", b.addresses["SSL"], b.trust(t, true))
		if err != nil {
			t.Fatalf("a new client: %v", err)
		}
		_ = c.Close()
		slowest = max(slowest, time.Since(asked))
		resident, err := b.Resident()
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, resident-before)
		time.Sleep(time.Second - time.Since(begun))
	}
	t.Logf("%d connections, %d MB more at most, the slowest answer after %v", len(open), most>>20, slowest)
	if slowest > 2*time.Second {
		t.Errorf("somebody waited for %v", slowest)
	}
	if most > 100<<20 {
		t.Errorf("%d MB for connections that stand still", most>>20)
	}
	if err := harness.Eventually(30*time.Second, func() error {
		for _, c := range open {
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				return errors.New("connections stay open")
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
