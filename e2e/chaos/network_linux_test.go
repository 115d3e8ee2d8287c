package chaos

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"kraft/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// newNetwork makes a network for a test, which is skipped where that is not allowed.
func newNetwork(t *testing.T, hosts int) *Network {
	t.Helper()
	n, err := NewNetwork(hosts)
	if err != nil {
		harness.Skip(t, "network namespaces cannot be made here: %v", err)
	}
	t.Cleanup(n.Close)
	return n
}

// TestNetwork: ways are good, cut in one direction only, slow and lossy as they are told to be.
func TestNetwork(t *testing.T) {
	n := newNetwork(t, 3)
	var l net.Listener
	if err := n.Hosts[1].Do(func() (err error) { l, err = net.Listen("tcp", "10.77.0.2:7"); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	echo := func(from int, wait time.Duration, size int) (time.Duration, error) {
		began := time.Now()
		ctx, cancel := context.WithDeadline(context.Background(), began.Add(wait))
		defer cancel()
		c, err := n.Hosts[from].Dial(ctx, "10.77.0.2:7")
		if err != nil {
			return 0, err
		}
		defer c.Close()
		_ = c.SetDeadline(began.Add(wait))
		go func() { _, _ = c.Write(make([]byte, size)) }()
		_, err = io.ReadFull(c, make([]byte, size))
		return time.Since(began), err
	}
	if _, err := echo(0, 5*time.Second, 1<<20); err != nil {
		t.Fatal(err)
	}
	for _, c := range []Condition{{Cut: true}, {Loss: 1}} {
		n.Set(1, 0, c)
		var timeout net.Error
		if _, err := echo(0, 300*time.Millisecond, 1); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%+v: answers: %v", c, err)
		}
	}
	if _, err := echo(2, 5*time.Second, 1); err != nil {
		t.Errorf("another host's way is cut too: %v", err)
	}
	n.Set(1, 0, Condition{Delay: 100 * time.Millisecond})
	if took, err := echo(0, 5*time.Second, 1); err != nil || took < 200*time.Millisecond {
		t.Errorf("a handshake and an answer, each 100 ms late, take %v: %v", took, err)
	}
	n.Set(1, 0, Condition{Loss: 0.2})
	if _, err := echo(0, 30*time.Second, 100_000); err != nil {
		t.Errorf("with a fifth lost: %v", err)
	}
	n.Heal()
	if _, err := echo(0, 5*time.Second, 1<<20); err != nil {
		t.Fatal(err)
	}
}
