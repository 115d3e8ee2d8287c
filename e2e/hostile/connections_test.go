//go:build linux

package hostile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
)

func TestMain(m *testing.M) {
	attackIfAsked()
	harness.Main(m)
}

// asking is one ApiVersions request, by which a connection shows that it is served.
var asking = kmsg.NewRequestFormatter().AppendRequest(nil, &kmsg.ApiVersionsRequest{Version: 2}, 9)

// served asks on a connection and takes the answer.
func served(c net.Conn, patience time.Duration) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(asking); err != nil {
		return err
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(size[:])))
	return err
}

// dial connects from one of several loopback addresses: one has too few ports.
func dial(n int, address string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+n%8))}, Timeout: 10 * time.Second}
	return d.Dial("tcp4", address)
}

// start starts a broker, and returns its address as IPv4.
func start(t *testing.T) (*harness.Kraft, string) {
	t.Helper()
	k := harness.NewKraft(t)
	_, port, err := net.SplitHostPort(k.Addr)
	if err != nil {
		t.Fatal(err)
	}
	return k, net.JoinHostPort("127.0.0.1", port)
}

// resident is the broker's memory in bytes.
func resident(t *testing.T, k *harness.Kraft) int {
	t.Helper()
	size, err := k.Resident()
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// files is how many files the broker has open.
func files(t *testing.T, k *harness.Kraft) int {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", k.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// released waits until the broker has about as many files open as before.
func released(t *testing.T, k *harness.Kraft, before int) {
	t.Helper()
	if err := harness.Eventually(30*time.Second, func() error {
		if n := files(t, k); n > before+10 {
			return fmt.Errorf("%d files are open, %d were", n, before)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// quick is how soon another client has to be answered meanwhile.
const quick = 2 * time.Second

// TestManyConnections holds 20,000 connections, or as many as a process may have here, each of which has asked something,
// while another client is served.
func TestManyConnections(t *testing.T) {
	const reserve = 300 // files that broker and test have open besides
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	count := 20_000
	if most := int(limit.Max) - reserve; count > most {
		t.Logf("a process may have %d files open: %d connections instead of %d", limit.Max, most, count)
		count = most
	}
	k, address := start(t)
	before, open := resident(t, k), files(t, k)
	conns := make([]net.Conn, count)
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	began := time.Now()
	var failed atomic.Int32
	var dialing sync.WaitGroup
	const dialers = 16
	for d := range dialers {
		dialing.Go(func() {
			for i := d; i < count; i += dialers {
				c, err := dial(i, address)
				if err == nil {
					conns[i] = c
					err = served(c, time.Minute)
				}
				if err != nil && failed.Add(1) == 1 {
					t.Errorf("connection %d: %v", i, err)
				}
			}
		})
	}
	dialing.Wait()
	took := time.Since(began)
	each := (resident(t, k) - before) / count
	t.Logf("%d connections in %v, %d bytes of the broker's memory each", count, took.Round(time.Millisecond), each)
	if failed.Load() > 0 {
		t.Fatalf("%d connections failed", failed.Load())
	}
	if most := 40 << 10; each > most {
		t.Errorf("a connection takes %d bytes, more than %d", each, most)
	}
	k.CLI(t, "one\n", "produce", "served")
	for i := 0; i < count; i += 97 { // none of them was dropped for the others
		if err := served(conns[i], quick); err != nil {
			t.Fatalf("connection %d, later: %v", i, err)
		}
	}
	for i, c := range conns {
		_ = c.Close()
		conns[i] = nil
	}
	released(t, k, open)
}

// TestConnectionChurn opens and closes 1,000 connections a second, for a minute with KRAFT_E2E=all, while another client is
// served.
func TestConnectionChurn(t *testing.T) {
	const rate, workers = 1000, 20
	length := 5 * time.Second
	if harness.All() {
		length = time.Minute
	}
	k, address := start(t)
	good, err := dial(0, address)
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	before, open := resident(t, k), files(t, k)
	var churning sync.WaitGroup
	var done atomic.Int64
	end := time.Now().Add(length)
	for w := range workers {
		churning.Go(func() {
			tick := time.NewTicker(workers * time.Second / rate)
			defer tick.Stop()
			for n := 0; time.Now().Before(end); n++ {
				<-tick.C
				c, err := dial(w, address)
				if err != nil {
					t.Error(err)
					return
				}
				switch n % 4 {
				case 0: // says nothing
				case 1: // leaves in the middle of a request
					_, _ = c.Write(asking[:6])
				case 2: // leaves without its answer
					_, _ = c.Write(asking)
				case 3:
					if err := served(c, 10*time.Second); err != nil {
						t.Errorf("connection %d of %d: %v", n, w, err)
					}
				}
				_ = c.Close()
				done.Add(1)
			}
		})
	}
	worst := time.Duration(0)
	for time.Now().Before(end) {
		asked := time.Now()
		if err := served(good, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		worst = max(worst, time.Since(asked))
	}
	churning.Wait()
	got := float64(done.Load()) / length.Seconds()
	t.Logf("%.0f connections a second for %v, the slowest answer to another client took %v, memory rose from %d MB to %d MB", got, length, worst, before>>20, resident(t, k)>>20)
	if got < 0.8*rate {
		t.Errorf("only %.0f connections a second", got)
	}
	if worst > quick {
		t.Errorf("another client waited %v", worst)
	}
	if grown := resident(t, k) - before; grown > 100<<20 {
		t.Errorf("memory rose by %d MB", grown>>20)
	}
	released(t, k, open)
}

// TestSlowClients has clients that send a byte at a time, that never take their answers, and that vanish in the middle of a
// request, while another client is served. Those who do not take what they asked for cost little.
func TestSlowClients(t *testing.T) {
	k, address := start(t)
	k.CLI(t, strings.Repeat(strings.Repeat("x", 1000)+"\n", 5000), "produce", "big")
	before := resident(t, k)
	var peers sync.WaitGroup
	stop := make(chan struct{})
	attack := func(count int, what func(c net.Conn)) {
		for i := range count {
			c, err := dial(i, address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			peers.Go(func() { what(c) })
		}
	}
	attack(200, func(c net.Conn) { // slow writers
		for n := 0; ; n++ {
			if _, err := c.Write(asking[n%len(asking) : n%len(asking)+1]); err != nil {
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, fetchRequest("big", 50<<20), 5)
	many := bytes.Repeat(frame, 1000)
	attack(200, func(c net.Conn) { // ask for five megabytes again and again, and take nothing
		for sent := 0; ; {
			_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // the broker soon reads no more
			n, err := c.Write(many[sent:])
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			sent = (sent + n) % len(many)
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	attack(200, func(c net.Conn) { _, _ = c.Write(frame[:20]) }) // the rest never comes
	good, err := dial(0, address)
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	worst, peak := time.Duration(0), 0
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		asked := time.Now()
		if err := served(good, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		worst, peak = max(worst, time.Since(asked)), max(peak, resident(t, k))
	}
	if out := k.CLI(t, "", "consume", "big", "--from-beginning", "-n", "1"); len(out) < 1000 {
		t.Errorf("another client reads %q", out)
	}
	close(stop)
	peers.Wait()
	t.Logf("the slowest answer to another client took %v, memory rose from %d MB to at most %d MB", worst, before>>20, peak>>20)
	if worst > quick {
		t.Errorf("another client waited %v", worst)
	}
	if grown := peak - before; grown > 300<<20 {
		t.Errorf("memory rose by %d MB", grown>>20)
	}
}
