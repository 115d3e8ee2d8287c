package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"kraft/wire/quota"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lockedBuffer is a log that a server writes while a test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rig is a server with a few handlers on a loopback port.
type rig struct {
	*Server
	addr    string
	log     *lockedBuffer
	release chan struct{} // lets deferred answers go
}

// A Metadata request with so many topics takes so long.
const (
	slowTopics = 7
	slowness   = 40 * time.Millisecond
)

func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	r := &rig{log: &lockedBuffer{}, release: make(chan struct{})}
	reg := new(Registry)
	Handle(reg, 0, 13, func(_ *Request, q *kmsg.MetadataRequest) (*kmsg.MetadataResponse, error) {
		switch len(q.Topics) {
		case slowTopics:
			time.Sleep(slowness)
		case brokenTopics:
			panic("a test")
		}
		resp := kmsg.NewPtrMetadataResponse()
		resp.ControllerID = int32(len(q.Topics))
		return resp, nil
	})
	HandleDeferred(reg, 0, 13, func(ctx *Request, q *kmsg.ProduceRequest) (Answer, error) {
		resp := kmsg.NewPtrProduceResponse()
		resp.Version = ctx.Version
		broken := len(q.Topics) == brokenTopics
		return Answer{Await: func(c context.Context) Response {
			if broken {
				panic("a test")
			}
			select {
			case <-r.release:
				return resp
			case <-c.Done():
				return nil
			}
		}}, nil
	})
	config := Config{MaxRequestBytes: 1 << 20, MaxQueuedBytes: 64 << 20, IdleTimeout: time.Minute, Limits: limits(100)}
	if change != nil {
		change(&config)
	}
	id := Identity{NodeID: 1, ClusterID: func() string { return "c" }, Features: func() ([]Feature, int64) {
		return []Feature{{Name: "from.zero", Max: 2, Level: 1}, {Name: "from.one", Min: 1, Max: 3, Level: 3}}, 7
	}}
	r.Server = NewServer(config, reg, id, zerolog.New(r.log))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	r.Serve(Listener{Name: "PLAINTEXT", Protocol: "PLAINTEXT", Net: l})
	t.Cleanup(r.Close)
	return r
}

// limits are those of a server that takes some connections, from whatever address.
func limits(connections int) func() *Limits {
	return func() *Limits {
		return &Limits{ListenerLimits: ListenerLimits{connections, math.MaxInt32}, PerAddress: connections}
	}
}

// TestLimits: how many connections there may be at all, on one listener, from one address, and from one that has a limit of its own.
func TestLimits(t *testing.T) {
	l := Limits{
		ListenerLimits: ListenerLimits{Connections: 10}, Listeners: map[string]ListenerLimits{"NARROW": {Connections: 2}}, Protected: "BROKERS",
		PerAddress: 3, Overrides: map[netip.Addr]int{netip.MustParseAddr("10.0.0.1"): 5, netip.MustParseAddr("::1"): 0},
	}
	for _, tc := range []struct {
		now      opened
		listener string
		from     string
		want     string
		crowded  bool
	}{
		{opened{}, "WIDE", "10.0.0.2", "", false},
		{opened{9, 9, 2}, "WIDE", "10.0.0.2", "", false},
		{opened{10, 9, 0}, "WIDE", "10.0.0.2", "(max.connections)", false},
		{opened{5, 5, 3}, "WIDE", "10.0.0.2", "max.connections.per.ip", false},
		{opened{5, 5, 4}, "WIDE", "10.0.0.1", "", false},
		{opened{5, 5, 5}, "WIDE", "10.0.0.1", "max.connections.per.ip", false},
		{opened{}, "WIDE", "::1", "max.connections.per.ip", false},
		{opened{5, 1, 0}, "NARROW", "10.0.0.2", "", false},
		{opened{5, 2, 0}, "NARROW", "10.0.0.2", "max.connections of NARROW", false},
		{opened{10, 4, 0}, "BROKERS", "10.0.0.2", "", true},
		{opened{10, 10, 0}, "BROKERS", "10.0.0.2", "(max.connections)", false}, // there is none to take its place
		{opened{10, 4, 3}, "BROKERS", "10.0.0.2", "max.connections.per.ip", false},
	} {
		got, crowded := l.refuse(tc.listener, netip.MustParseAddr(tc.from), tc.now)
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) || crowded != tc.crowded {
			t.Errorf("%+v: %q, %v", tc, got, crowded)
		}
	}
}

// TestPace: how long a connection waits, and which are not served at all.
func TestPace(t *testing.T) {
	l := &Limits{
		ListenerLimits: ListenerLimits{Rate: 10}, Listeners: map[string]ListenerLimits{"SLOW": {Rate: 1}}, Protected: "BROKERS",
		AddressRates: map[netip.Addr]int{netip.MustParseAddr("10.0.0.1"): 1}, Windows: quota.Windows{Count: 11, Each: time.Second},
	}
	p, now := new(pace), time.Unix(1000, 0)
	for i := range 101 {
		if wait := p.note(l, "FAST", now); (wait > 0) != (i == 100) { // 10 a second over 10 seconds
			t.Fatalf("connection %d waits for %v", i, wait)
		}
	}
	if wait := p.note(l, "BROKERS", now); wait != 0 {
		t.Errorf("a broker waits for %v", wait)
	}
	now = now.Add(12 * time.Second)
	for i := range 11 {
		if wait := p.note(l, "SLOW", now); (wait > 0) != (i == 10) {
			t.Errorf("connection %d of a slow listener waits for %v", i, wait)
		}
	}
	now = now.Add(12 * time.Second)
	busy, other := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for i := range 200 { // those that are not served count for nothing
		wait := p.note(l, "FAST", now)
		parked := p.noteAddress(l, "FAST", busy, now)
		if wait != 0 || (parked > 0) != (i >= 10) || parked > time.Second {
			t.Fatalf("connection %d of an address waits for %v, is parked for %v", i, wait, parked)
		}
	}
	if parked := p.noteAddress(l, "FAST", other, now); parked != 0 {
		t.Errorf("another address is parked for %v", parked)
	}
	l.AddressRate = 5
	now = now.Add(12 * time.Second)
	if parked := p.noteAddress(l, "FAST", other, now); parked != 0 || len(p.addresses) != 1 {
		t.Errorf("an address is parked for %v, %d are known", parked, len(p.addresses))
	}
}

// brokenTopics is how many topics a request has that the rig cannot answer.
const brokenTopics = 1313

// TestMistakesAreContained: a handler that panics costs its connection, the log says what and where, and everybody else is served.
func TestMistakesAreContained(t *testing.T) {
	r := newRig(t, nil)
	other := r.dial(t)
	meta, produce := kmsg.NewPtrMetadataRequest(), kmsg.NewPtrProduceRequest()
	meta.Topics, produce.Topics = make([]kmsg.MetadataRequestTopic, brokenTopics), make([]kmsg.ProduceRequestTopic, brokenTopics)
	for i := range meta.Topics {
		meta.Topics[i].Topic = kmsg.StringPtr("t")
	}
	for _, req := range []kmsg.Request{meta, produce} {
		req.SetVersion(9)
		p := r.dial(t)
		p.send(1, req)
		if _, _, err := p.tryReceive(); err == nil {
			t.Errorf("%s: a handler that panics has answered", APIName(req.Key()))
		}
		want := APIName(req.Key()) + ": a test at kraft/wire."
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(r.log.String(), want); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the log says %s", APIName(req.Key()), r.log.String())
			}
		}
		fine := kmsg.NewPtrMetadataRequest()
		fine.SetVersion(9)
		other.send(2, fine)
		other.receive()
	}
}

// peer is a bare connection to a rig.
type peer struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (r *rig) dial(t *testing.T) *peer {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return &peer{c, t, bufio.NewReader(c)}
}

func (p *peer) send(id int32, req kmsg.Request) {
	p.t.Helper()
	if _, err := p.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, req, id)); err != nil {
		p.t.Fatal(err)
	}
}

// receive reads one answer: correlation id and the rest.
func (p *peer) receive() (int32, []byte) {
	p.t.Helper()
	id, body, err := p.tryReceive()
	if err != nil {
		p.t.Fatal(err)
	}
	return id, body
}

func (p *peer) tryReceive() (int32, []byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return 0, nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	_, err := io.ReadFull(p.r, body)
	return int32(binary.BigEndian.Uint32(head[4:])), body, err
}

// expectClosed waits for the server to close the connection.
func (p *peer) expectClosed() {
	p.t.Helper()
	if _, _, err := p.tryReceive(); err == nil || errors.Is(err, context.DeadlineExceeded) {
		p.t.Fatalf("connection is not closed: %v", err)
	}
}

func metadata(topics int) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 9
	req.Topics = make([]kmsg.MetadataRequestTopic, topics)
	for i := range req.Topics {
		req.Topics[i].Topic = kmsg.StringPtr("t")
	}
	return req
}

func TestAnswersInRequestOrder(t *testing.T) {
	r := newRig(t, nil)
	p := r.dial(t)
	produce := kmsg.NewPtrProduceRequest()
	produce.Version = 9
	for i := int32(0); i < 20; i++ {
		if i%3 == 0 {
			p.send(i, produce)
		} else {
			p.send(i, metadata(int(i)))
		}
	}
	go func() {
		for range 7 {
			r.release <- struct{}{}
		}
	}()
	for i := int32(0); i < 20; i++ {
		if id, _ := p.receive(); id != i {
			t.Fatalf("answer %d came when %d was due", id, i)
		}
	}
}

func TestAPIVersions(t *testing.T) {
	r := newRig(t, nil)
	p := r.dial(t)
	ask := func(version int16, change func(*kmsg.ApiVersionsRequest)) *kmsg.ApiVersionsResponse {
		t.Helper()
		req := kmsg.NewPtrApiVersionsRequest()
		req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = version, "test", "1.0"
		req.NodeID = -1
		if change != nil {
			change(req)
		}
		p.send(5, req)
		_, body := p.receive()
		resp := kmsg.NewPtrApiVersionsResponse()
		resp.Version = version
		if err := resp.ReadFrom(body); err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		return resp
	}
	for version := int16(0); version <= 5; version++ {
		if resp := ask(version, nil); resp.ErrorCode != 0 || len(resp.ApiKeys) != 5 {
			t.Errorf("version %d: error %d, %d APIs", version, resp.ErrorCode, len(resp.ApiKeys))
		}
	}
	// KIP-511: an unknown version is answered in version 0.
	if _, err := p.Write([]byte{0, 0, 0, 10, 0, 18, 0, 99, 0, 0, 0, 5, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	_, body := p.receive()
	resp := kmsg.NewPtrApiVersionsResponse()
	if err := resp.ReadFrom(body); err != nil {
		t.Fatal(err)
	}
	if resp.ErrorCode != kerr.UnsupportedVersion.Code || len(resp.ApiKeys) != 1 || resp.ApiKeys[0].MaxVersion != 5 {
		t.Errorf("version 99: %+v", resp)
	}
	if resp := ask(3, func(q *kmsg.ApiVersionsRequest) { q.ClientSoftwareName = "no spaces" }); resp.ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("bad software name: error %d", resp.ErrorCode)
	}
	if n := len(ask(3, nil).SupportedFeatures); n != 1 {
		t.Errorf("version 3 shows %d features, of which one starts at 0 and must not be shown", n)
	}
	if n := len(ask(4, nil).SupportedFeatures); n != 2 {
		t.Errorf("version 4 shows %d features", n)
	}
	other := func(q *kmsg.ApiVersionsRequest) { q.ClusterID, q.NodeID = kmsg.StringPtr("other"), 1 }
	if resp := ask(5, other); resp.ErrorCode != rebootstrapRequired {
		t.Errorf("another cluster's id: error %d", resp.ErrorCode)
	}
}

func TestBadInput(t *testing.T) {
	r := newRig(t, nil)
	good := r.dial(t)
	frame := func(size uint32, rest ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, size), rest...)
	}
	random := make([]byte, 4096)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	random[0] = 0xff // a negative length, whatever follows
	for name, tc := range map[string]struct {
		data []byte
		says string
	}{
		"random bytes":    {random, "allowed 8 to"},
		"too long":        {frame(1<<20 + 1), "socket.request.max.bytes"},
		"too short":       {frame(3, 0, 3, 0), "frame of 3 bytes"},
		"unknown API":     {frame(10, 0, 99, 0, 0, 0, 0, 0, 1, 0xff, 0xff), "unknown kind 99"},
		"unknown version": {frame(10, 0, 3, 0, 77, 0, 0, 0, 1, 0xff, 0xff), "Metadata version 77, served are 0 to 13"},
		"cut header":      {frame(9, 0, 3, 0, 1, 0, 0, 0, 1, 0xff), "Metadata header"},
		"long client id":  {frame(10, 0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff), "Metadata header"},
		"claims topics":   {frame(14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff), "Metadata version 1"},
		"claims produce":  {frame(20, 0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff, 0, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff), "claims more than it holds"},
		"HTTP":            {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "which is not Kafka's protocol"},
	} {
		p := r.dial(t)
		if _, err := p.Write(tc.data); err != nil {
			t.Fatal(err)
		}
		p.expectClosed()
		r.expectLogged(t, name, tc.says, p.LocalAddr().String())
	}
	p := r.dial(t) // ended in the middle of a frame
	if _, err := p.Write(frame(1000, 0, 3, 0, 1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	_ = p.Close()
	good.send(1, metadata(3)) // nobody else notices
	if id, _ := good.receive(); id != 1 {
		t.Fatalf("answer %d", id)
	}
}

// expectLogged waits for a line that says what was wrong and names the peer.
func (r *rig) expectLogged(t *testing.T, name, says, peer string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		for _, line := range strings.Split(r.log.String(), "\n") {
			if strings.Contains(line, peer) && strings.Contains(line, says) {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: no line with %q and %s in\n%s", name, says, peer, r.log)
		}
	}
}

func TestConnectionLimits(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits, c.IdleTimeout = limits(2), 50*time.Millisecond })
	a, b := r.dial(t), r.dial(t)
	a.send(1, metadata(1))
	a.receive()
	b.send(1, metadata(1))
	b.receive()
	r.dial(t).expectClosed() // one too many
	a.expectClosed()         // idle
}

func TestCloseEndsWaitingRequests(t *testing.T) {
	r := newRig(t, nil)
	p := r.dial(t)
	produce := kmsg.NewPtrProduceRequest()
	produce.Version = 9
	for i := range int32(maxUnanswered + 10) {
		p.send(i, produce)
	}
	done := make(chan struct{})
	go func() { r.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("server does not close while answers wait")
	}
	p.expectClosed()
}

// TestDrainAnswersWhatWasRead: requests that were read are answered, in order, though the client sends more; what comes later is not
// read, and the connection ends in good order.
func TestDrainAnswersWhatWasRead(t *testing.T) {
	r := newRig(t, nil)
	p, idle, half := r.dial(t), r.dial(t), r.dial(t)
	for _, c := range []*peer{idle, half} {
		c.send(1, metadata(1))
		c.receive()
	}
	produce := kmsg.NewPtrProduceRequest()
	produce.Version = 9
	p.send(1, produce)
	p.send(2, metadata(2))
	p.send(3, produce)
	r.untilQueued(t, 3)
	half.Write([]byte{0, 0, 0, 99, 0, 3}) // a frame that has begun, and never ends
	r.until(t, "a frame has begun", func(c *conn) bool { return !c.waiting && !c.writing })
	ctx, cancel := context.WithCancel(context.Background())
	drained := make(chan struct{})
	go func() { r.Drain(ctx); close(drained) }()
	if _, _, err := idle.tryReceive(); !errors.Is(err, io.EOF) {
		t.Errorf("an idle connection ended with %v, wanted EOF", err)
	}
	r.untilDrains(t)       // the idle connection may have been the first
	p.send(4, metadata(4)) // too late, or nearly
	if _, err := net.Dial("tcp", r.addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection: %v, wanted that it is refused", err)
	}
	for range 2 {
		r.release <- struct{}{}
	}
	for want := int32(1); want <= 3; want++ {
		if id, _ := p.receive(); id != want {
			t.Fatalf("answer %d, wanted %d", id, want)
		}
	}
	id, _, err := p.tryReceive()
	if err == nil && id == 4 { // the reader was woken to end, and bytes came before it ran (runtime's pollWait): it reads this one, and answers it
		_, _, err = p.tryReceive()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("after its answers a connection ended with %v (answer %d), wanted EOF", err, id)
	}
	select {
	case <-drained:
		t.Error("drained while a frame was being read")
	case <-time.After(partPatience + 50*time.Millisecond):
	}
	cancel()
	<-drained
}

// untilQueued waits until so many answers of a connection are queued; the writer has taken the first.
func (r *rig) untilQueued(t *testing.T, n int) {
	t.Helper()
	r.until(t, "answers are queued", func(c *conn) bool { return c.writing && c.queue.len()+1 >= n })
}

// until waits for a connection of which is is true, which is called with the connection's lock.
func (r *rig) until(t *testing.T, what string, is func(*conn) bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		found := false
		r.mu.Lock()
		for c := range r.conns {
			c.mu.Lock()
			found = found || is(c)
			c.mu.Unlock()
		}
		r.mu.Unlock()
		if found {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("of no connection: %s", what)
		}
	}
}

// untilDrains waits until no connection reads another frame.
func (r *rig) untilDrains(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		reading := 0
		r.mu.Lock()
		for c := range r.conns {
			c.mu.Lock()
			if !c.draining {
				reading++
			}
			c.mu.Unlock()
		}
		r.mu.Unlock()
		if reading == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections read on", reading)
		}
	}
}

// TestQueuedAnswersAreNotIdle: connections.max.idle.ms does not count while the client waits for an answer.
func TestQueuedAnswersAreNotIdle(t *testing.T) {
	r := newRig(t, func(c *Config) { c.IdleTimeout = 20 * time.Millisecond })
	p := r.dial(t)
	produce := kmsg.NewPtrProduceRequest()
	produce.Version = 9
	p.send(1, produce)
	r.untilQueued(t, 1)
	time.Sleep(100 * time.Millisecond) // five times what is idle
	r.release <- struct{}{}
	if id, _ := p.receive(); id != 1 {
		t.Errorf("answer %d", id)
	}
	p.expectClosed()
}

// TestStopResetsUnanswered: clients take an orderly end before the first answer for a refusal, and do not try again.
func TestStopResetsUnanswered(t *testing.T) {
	r := newRig(t, nil)
	silent, waits, answered, versions := r.dial(t), r.dial(t), r.dial(t), r.dial(t)
	produce := kmsg.NewPtrProduceRequest()
	produce.Version = 9
	waits.send(1, produce)
	answered.send(1, metadata(1))
	answered.receive()
	versions.send(1, kmsg.NewPtrApiVersionsRequest())
	versions.receive()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	r.Drain(ctx)
	r.Close()
	for name, p := range map[string]*peer{"that was silent": silent, "whose request waited": waits, "that asked for versions only": versions} {
		if _, _, err := p.tryReceive(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a connection %s ended with %v, wanted a reset", name, err)
		}
	}
	if _, _, err := answered.tryReceive(); !errors.Is(err, io.EOF) {
		t.Errorf("a connection that was answered ended with %v, wanted EOF", err)
	}
}

// TestDrainBetweenFrameAndNote: a frame that begins in the moment in which the server begins to drain is read to its end.
func TestDrainBetweenFrameAndNote(t *testing.T) {
	r := newRig(t, nil)
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	c := &conn{server: r.Server, tcp: here, waiting: true}
	c.stopReading() // the reader has the frame's size already, and has yet to say so
	if again, err := c.begun(nil); again || err != nil {
		t.Fatalf("again %v, %v", again, err)
	}
	go func() { _, _ = there.Write([]byte("rest")) }()
	if _, err := io.ReadFull(here, make([]byte, 4)); err != nil {
		t.Errorf("the rest of the frame: %v", err)
	}
	if err := c.await(); !errors.Is(err, errDrained) {
		t.Errorf("the next frame: %v", err)
	}
}

// TestSuspend: while a server is suspended nobody is served, also who was; afterwards everybody is.
func TestSuspend(t *testing.T) {
	r := newRig(t, nil)
	before := r.dial(t)
	before.send(1, metadata(1))
	before.receive()
	r.Suspend()
	before.expectClosed()
	if c, err := net.Dial("tcp", r.addr); err == nil { // it may be reset before it is known to be open
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a connection that comes while the server is suspended: %v", err)
		}
		_ = c.Close()
	}
	r.Resume()
	after := r.dial(t)
	after.send(2, metadata(1))
	after.receive()
}
