package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire/quota"
)

// throttlingServer is a server whose clients may produce 1000 bytes a second. Answers wait until answers is closed.
type throttlingServer struct {
	*Server
	addr    string
	handled atomic.Int64
	answers chan struct{}
	allowed atomic.Pointer[Limits]
}

func newThrottling(t *testing.T, idle time.Duration) *throttlingServer {
	t.Helper()
	s := &throttlingServer{answers: make(chan struct{})}
	ofUsers := new(quota.Limits)
	ofUsers.Set(quota.Entity{User: quota.Part{Default: true}}, quota.Keys[quota.Produce], 1000)
	w := quota.Windows{Count: 11, Each: time.Second}
	quotas := quota.NewManager(quota.Config{Requests: w, Controller: w})
	quotas.SetLimits(ofUsers)
	s.allowed.Store(limits(1000)())
	r := new(Registry)
	HandleDeferred(r, 0, 9, func(ctx *Request, req *kmsg.ProduceRequest) (Answer, error) {
		s.handled.Add(1)
		ctx.Take(quota.Produce, float64(req.TimeoutMillis))
		return Answer{Await: func(ctx context.Context) Response {
			select {
			case <-s.answers:
			case <-ctx.Done():
			}
			return &kmsg.ProduceResponse{Version: 9}
		}}, nil
	})
	s.Server = NewServer(Config{MaxRequestBytes: 1 << 20, MaxQueuedBytes: 1 << 20, IdleTimeout: idle, Limits: s.allowed.Load, Quotas: quotas}, r, Identity{ClusterID: func() string { return "c" }, Features: func() ([]Feature, int64) { return nil, 0 }}, zerolog.Nop())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	s.Serve(Listener{Name: "PLAINTEXT", Protocol: "PLAINTEXT", Net: l})
	t.Cleanup(s.Close)
	return s
}

// produced is a client that has sent requests, which count for so many bytes each.
func (s *throttlingServer) produced(t *testing.T, bytes int32, requests int) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	for range requests {
		if _, err := c.Write(kmsg.NewRequestFormatter().AppendRequest(nil, &kmsg.ProduceRequest{Version: 9, Acks: 1, TimeoutMillis: bytes}, 1)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (s *throttlingServer) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func within(t *testing.T, d time.Duration, what string, is func() bool) {
	t.Helper()
	for begun := time.Now(); !is(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > d {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// TestThrottledPipeline: requests that follow on one that is too much are not handled, though the answer to that has not left yet.
func TestThrottledPipeline(t *testing.T) {
	s := newThrottling(t, 0)
	c := s.produced(t, 100_000, 50)
	within(t, 5*time.Second, "the first request is handled", func() bool { return s.handled.Load() > 0 })
	_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an answer before its time: %v", err)
	}
	close(s.answers)
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadFull(c, make([]byte, 8)); err != nil {
		t.Error(err)
	}
	if n := s.handled.Load(); n != 1 {
		t.Errorf("%d requests were handled", n)
	}
}

// TestMutedConnectionsEnd: a connection that is muted for minutes ends with its peer, when it has been idle for too long, and with the server.
func TestMutedConnectionsEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		idle     time.Duration
		requests int
		leave    bool
	}{"the peer leaves": {0, 1, true}, "idle": {300 * time.Millisecond, 1, false}, "idle, with a request": {300 * time.Millisecond, 2, false}, "the peer leaves a request": {300 * time.Millisecond, 2, true}} {
		t.Run(name, func(t *testing.T) {
			s := newThrottling(t, tc.idle)
			close(s.answers)
			c := s.produced(t, 1_000_000, tc.requests)
			if _, err := io.ReadFull(c, make([]byte, 8)); err != nil {
				t.Fatal(err)
			}
			if tc.leave {
				_ = c.Close()
			} else if s.open() != 1 {
				t.Error("closed too early")
			}
			within(t, 5*time.Second, "the connection ends", func() bool { return s.open() == 0 })
		})
	}
	s := newThrottling(t, 0)
	close(s.answers)
	for requests := range 2 {
		if _, err := io.ReadFull(s.produced(t, 1_000_000, requests+1), make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	s.Suspend()
	within(t, 5*time.Second, "connections end when the server suspends", func() bool { return s.open() == 0 })
	s.Resume()
	for requests := range 2 {
		if _, err := io.ReadFull(s.produced(t, 1_000_000, requests+1), make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	s.Drain(ctx)
	if ctx.Err() != nil || time.Since(begun) > 5*time.Second {
		t.Error("muted connections hold up the server's end")
	}
}

// TestEvict: each broker that comes takes the place of another client, though muted.
func TestEvict(t *testing.T) {
	s := newThrottling(t, 0)
	close(s.answers)
	s.allowed.Store(&Limits{ListenerLimits: ListenerLimits{4, Unlimited.Rate}, PerAddress: 1000, Protected: "BROKERS"})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(Listener{Name: "BROKERS", Protocol: "PLAINTEXT", Net: l})
	for range 4 {
		if _, err := io.ReadFull(s.produced(t, 1_000_000, 2), make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	within(t, 5*time.Second, "three brokers are served in place of clients", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.perName["BROKERS"] == 3 && len(s.conns) == 4
	})
}
