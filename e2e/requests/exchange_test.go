package requests

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

const (
	patience = 3 * time.Second // how long an answer may take before a request counts as one that waits
	longest  = time.Minute     // and where a trial cannot go on without it
)

// server is one of the two, and a connection to it.
type server struct {
	name, address string
	conn          net.Conn
	asked         int32
	patience      time.Duration
	user          string // who logs in on each connection; "" for nobody
}

var (
	errWaits  = errors.New("no answer")
	errClosed = errors.New("the connection ends")
)

// hangUp ends the connection; the next request makes another.
func (s *server) hangUp() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

// send sends a request whose body is given in bytes, and returns the answer's behind its size, or errWaits or errClosed.
func (s *server) send(key, version int16, body []byte, flexible, answered bool) ([]byte, error) {
	if s.conn == nil {
		conn, err := net.DialTimeout("tcp", s.address, patience)
		if err != nil {
			return nil, fmt.Errorf("%s takes no connection: %w", s.name, err)
		}
		s.conn = conn
		if s.user != "" {
			if err := s.logIn(); err != nil {
				return nil, fmt.Errorf("%s takes no login: %w", s.name, err)
			}
		}
	}
	s.asked++
	frame := make([]byte, 4, len(body)+64)
	frame = binary.BigEndian.AppendUint16(frame, uint16(key))
	frame = binary.BigEndian.AppendUint16(frame, uint16(version))
	frame = binary.BigEndian.AppendUint32(frame, uint32(s.asked))
	frame = append(binary.BigEndian.AppendUint16(frame, 4), "test"...)
	if flexible {
		frame = append(frame, 0)
	}
	frame = append(frame, body...)
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	wait := s.patience
	if !answered {
		wait = 100 * time.Millisecond
	}
	_ = s.conn.SetDeadline(time.Now().Add(wait))
	answer, err := s.exchange(frame)
	switch {
	case err == nil:
		return answer, nil
	case errors.Is(err, errOther):
		return nil, err
	case isTimeout(err):
		if answered {
			s.hangUp()
		}
		return nil, errWaits
	default:
		s.hangUp()
		return nil, errClosed
	}
}

var errOther = errors.New("what comes is no answer")

func (s *server) exchange(frame []byte) ([]byte, error) {
	if _, err := s.conn.Write(frame); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(s.conn, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < 4 || size > 64<<20 {
		return nil, fmt.Errorf("%w: an answer of %d bytes", errOther, size)
	}
	answer := make([]byte, size-4)
	if _, err := io.ReadFull(s.conn, answer); err != nil {
		return nil, err
	}
	if id := int32(binary.BigEndian.Uint32(head[4:])); id != s.asked {
		return nil, fmt.Errorf("%w: %d instead of %d", errOther, id, s.asked)
	}
	return answer, nil
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// need asks as ask does, and waits longer: for requests that a server always answers.
func (s *server) need(req kmsg.Request) (kmsg.Response, error) {
	s.patience = longest
	defer func() { s.patience = patience }()
	return s.ask(req)
}

// ask sends a request and decodes its answer, which is nil if the request wants none.
func (s *server) ask(req kmsg.Request) (kmsg.Response, error) {
	produce, ok := req.(*kmsg.ProduceRequest)
	answered := !ok || produce.Acks != 0
	answer, err := s.send(req.Key(), req.GetVersion(), req.AppendTo(nil), req.IsFlexible(), answered)
	if !answered && errors.Is(err, errWaits) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	return resp, decode(resp, answer)
}

// decode decodes what follows the correlation id.
func decode(resp kmsg.Response, answer []byte) error {
	if resp.IsFlexible() && resp.Key() != 18 { // ApiVersions is answered with the first form of header
		if len(answer) == 0 || answer[0] != 0 {
			return errors.New("the answer's header has tags")
		}
		answer = answer[1:]
	}
	if err := resp.ReadFrom(answer); err != nil {
		return fmt.Errorf("the answer cannot be read: %w", err)
	}
	return nil
}

// coordinate makes the topic of offsets, and waits until the broker coordinates a group.
func (s *server) coordinate(t *testing.T) {
	t.Helper()
	if err := harness.Eventually(30*time.Second, func() error {
		for _, req := range []kmsg.Request{&kmsg.FindCoordinatorRequest{Version: 1, CoordinatorKey: "first"}, &kmsg.ListGroupsRequest{Version: 2}} {
			resp, err := s.need(req)
			if err != nil {
				return err
			}
			code := int16(0)
			switch r := resp.(type) {
			case *kmsg.FindCoordinatorResponse:
				code = r.ErrorCode
			case *kmsg.ListGroupsResponse:
				code = r.ErrorCode
			}
			if err := kerr.ErrorForCode(code); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
}

// both starts the two, with more settings.
func both(t *testing.T, more ...string) []*server {
	t.Helper()
	settings := append([]string{"offsets.topic.num.partitions=3", "group.initial.rebalance.delay.ms=0", "num.partitions=1", "broker.session.timeout.ms=60000"}, more...)
	var args []string
	for _, o := range settings {
		args = append(args, "--override", o)
	}
	kafka, kraft := harness.NewKafka(t, settings...), harness.NewKraft(t, args...)
	out := []*server{{name: "kafka", address: kafka.Addr, patience: patience}, {name: "kraft", address: kraft.Addr, patience: patience}}
	t.Cleanup(func() {
		for _, s := range out {
			s.hangUp()
		}
	})
	return out
}
