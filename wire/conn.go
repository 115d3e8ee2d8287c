package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire/acl"
	"kraft/wire/defect"
)

// maxUnanswered bounds the requests of one connection whose answers wait; past it reading stops.
const maxUnanswered = 256

// maxAdminFrame bounds every request but Produce: they decode to many times their size.
const maxAdminFrame = 8 << 20

const (
	produceKey     = 0
	apiVersionsKey = 18
)

// conn is one client connection.
type conn struct {
	server   *Server
	listener string   // its name, for any goroutine; it is session's, too
	session  *Session // of its own goroutine
	login    *login   // of its own goroutine, nil on a listener that serves everybody
	refused  error    // of its own goroutine: why the connection ends once the present request is answered
	tcp      net.Conn
	log      *zerolog.Logger
	ctx      context.Context
	cancel   context.CancelFunc

	answered atomic.Bool               // a request other than ApiVersions was
	evicted  atomic.Bool               // it held memory that others waited for
	used     atomic.Int64              // when it last waited for a request, in Unix nanoseconds
	muted    atomic.Pointer[time.Time] // until when no request is read; written with mu held, nil for a client that was never throttled

	mu       sync.Mutex // guards the rest
	room     sync.Cond  // signalled when the queue shrinks, and when the writer ends
	queue    ring[queued]
	writing  bool          // a writer goroutine runs; answers must go through the queue
	waiting  bool          // the reading goroutine waits for a frame
	hung     chan struct{} // closed by hangUp
	draining bool          // no frame is read any more
}

type queued struct {
	request *Request
	header  answerHeader
	answer  Answer
}

type answerHeader struct {
	correlation int32
	tagged      bool // flexible responses carry a tag section in the header, ApiVersions never
}

// append appends the header to an answer.
func (h answerHeader) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(h.correlation))
	if h.tagged {
		b = append(b, 0)
	}
	return b
}

// wordPatience is how long the answer to a word may take to be sent.
const wordPatience = 5 * time.Second

// divert serves a connection that begins with stream's preface, and reports whether it does. Otherwise what it
// read comes first for the Kafka protocol.
func (c *conn) divert(stream *Stream) bool {
	if t := c.server.config.IdleTimeout; t > 0 {
		_ = c.tcp.SetReadDeadline(time.Now().Add(t))
	}
	r := bufio.NewReaderSize(c.tcp, 16<<10)
	head, err := r.Peek(4)
	if err == nil && string(head) == stream.Preface[:4] {
		head, err = r.Peek(len(stream.Preface))
		if err != nil || string(head) != stream.Preface {
			_ = c.tcp.Close()
			return true
		}
		_, _ = r.Discard(len(stream.Preface))
		_ = c.tcp.SetReadDeadline(time.Time{})
		if (&Request{Key: noKey, Session: c.session, conn: c}).MayCluster(acl.ClusterAction) != nil {
			_ = c.tcp.Close()
			return true
		}
		stream.Serve(c.tcp, r)
		return true
	}
	if word := stream.Words[string(head)]; err == nil && word != nil {
		_ = c.tcp.SetDeadline(time.Now().Add(wordPatience))
		_, _ = io.WriteString(c.tcp, word())
		_ = c.tcp.Close()
		return true
	}
	c.server.mu.Lock() // Close looks at it
	c.tcp = &peekedConn{c.tcp, r}
	c.server.mu.Unlock()
	return false
}

// peekedConn is a connection of which the beginning was read.
type peekedConn struct {
	net.Conn
	r *bufio.Reader
}

func (p *peekedConn) Read(b []byte) (int, error) { return p.r.Read(b) }

// serve reads and answers requests until the peer leaves, misbehaves or the server closes.
func (c *conn) serve() {
	err := c.loop()
	var refused *refusedLogin
	switch {
	case errors.Is(err, errDrained):
		err = nil
		c.part()
	case errors.As(err, &refused):
		c.part()
	}
	c.cancel()
	if c.server.ctx.Err() != nil {
		c.hangUp()
	} else {
		_ = c.tcp.Close()
	}
	c.mu.Lock()
	c.queue = ring[queued]{}
	c.room.Broadcast()
	c.mu.Unlock()
	if err == nil || isDisconnect(err) {
		return
	}
	var bad *badRequest
	clients := refused != nil || errors.As(err, &bad) || c.login != nil && c.login.principal == nil
	if clients && !c.server.refusals.Allow() {
		return // whoever guesses passwords, or sends what is no request, does not fill the disk
	}
	event := c.log.Warn().Err(err)
	if refused == nil && !errors.As(err, &bad) {
		event = defect.Tell(c.log, err)
	}
	event.Str("peer", c.session.Peer).Str("listener", c.session.Listener).Msg("closed connection")
}

// hangUp closes the connection before all requests are answered.
func (c *conn) hangUp() {
	c.mu.Lock()
	select {
	case <-c.hung:
	default:
		close(c.hung)
	}
	c.mu.Unlock()
	if c.answered.Load() {
		_ = below(c.tcp).Close() // TLS would wait to say goodbye
	} else {
		closeUnanswered(c.tcp)
	}
}

// stopReading has the connection read no further frame, answer those that it read, and end. One that comes in the same moment may still be
// read, and is answered then. Any goroutine may call it.
func (c *conn) stopReading() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if c.waiting {
		_ = c.tcp.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
	}
}

// errDrained ends a connection whose requests are all answered, because the server drains.
var errDrained = errors.New("the server drains")

// await is called before the reader waits for a frame.
func (c *conn) await() error {
	now := time.Now()
	c.used.Store(now.UnixNano())
	return c.awaitUntil(c.login.sooner(c.idleFrom(now)))
}

// idleFrom is when a connection that is used for the last time now has been idle for too long; zero for never.
func (c *conn) idleFrom(now time.Time) time.Time {
	if t := c.server.config.IdleTimeout; t > 0 {
		return now.Add(t)
	}
	return time.Time{}
}

// awaitUntil has the reader wait until a deadline, or until the connection drains.
func (c *conn) awaitUntil(deadline time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining {
		return errDrained
	}
	c.waiting = true
	return c.tcp.SetReadDeadline(deadline)
}

// begun notes that a frame has begun, or why none came. A connection whose answers wait is not idle: await again.
func (c *conn) begun(err error) (again bool, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
	if err == nil && c.draining { // stopReading came between the frame and this: the rest of it is to be read
		deadline := time.Time{}
		if t := c.server.config.IdleTimeout; t > 0 {
			deadline = time.Now().Add(t)
		}
		return false, c.tcp.SetReadDeadline(deadline)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && (c.draining || c.writing) {
		return true, nil
	}
	return false, err
}

// partPatience is how long a connection that ends in good order waits for the peer to close its side. Closing earlier could reset
// the connection, and take the last answers from a peer that has sent another request meanwhile.
const partPatience = 200 * time.Millisecond

// part waits until all answers are written, says that no more come, and reads what the peer sent too late.
func (c *conn) part() {
	c.mu.Lock()
	for c.writing && c.ctx.Err() == nil {
		c.room.Wait()
	}
	c.mu.Unlock()
	half, ok := c.stream().(interface{ CloseWrite() error })
	if !c.answered.Load() {
		closeUnanswered(c.tcp)
	} else if ok && half.CloseWrite() == nil && c.tcp.SetReadDeadline(time.Now().Add(partPatience)) == nil {
		_, _ = io.Copy(io.Discard, c.tcp)
	}
}

// stream is the connection below what was read ahead of it.
func (c *conn) stream() net.Conn {
	if p, ok := c.tcp.(*peekedConn); ok {
		return p.Conn
	}
	return c.tcp
}

// below is the connection to the peer's host, without what was read ahead of it and without TLS.
func below(c net.Conn) net.Conn {
	if n, ok := c.(*nodeConn); ok {
		c = n.Conn
	}
	if p, ok := c.(*peekedConn); ok {
		c = p.Conn
	}
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c
}

// closeUnanswered resets a connection on which nothing but ApiVersions was answered. To clients an orderly end before the first
// answer says that they are not wanted (franz-go gives up and supposes that SASL is missing); after a reset they ask another broker.
func closeUnanswered(tcp net.Conn) {
	tcp = below(tcp)
	if l, ok := tcp.(interface{ SetLinger(seconds int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = tcp.Close()
}

func isDisconnect(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, context.Canceled)
}

func (c *conn) loop() error {
	frames := &frameReader{conn: c.tcp, maximum: c.server.config.MaxRequestBytes, begin: c.await}
	for {
		if err := c.unmute(frames); err != nil {
			return err
		}
		frames.minimum = headSize
		if c.login.takesRaw() {
			frames.minimum = 1
		}
		size, err := frames.next()
		again, err := c.begun(err)
		if again {
			continue
		}
		if err != nil {
			return err
		}
		if c.left() > 0 { // an answer has muted it since
			if err := c.sitOut(c.idleFrom(time.Now())); err != nil {
				return err
			}
		}
		if c.ctx.Err() != nil {
			return nil
		}
		if c.login.takesRaw() {
			err = c.token(frames, size)
		} else {
			err = c.request(frames, size)
		}
		if err == nil {
			err = c.refused
		}
		if err != nil {
			return err
		}
	}
}

// request reads one frame of the given size and answers it.
func (c *conn) request(frames *frameReader, size int) error {
	head, err := frames.peek(headSize)
	if err != nil {
		return err
	}
	req := newRequest(head, c, c.session, time.Now())
	req.mark = req.Received
	api := c.server.registry.find(req.Key)
	if api == nil {
		return &badRequest{fmt.Errorf("request of unknown kind %d", req.Key)}
	}
	if req.Key != produceKey && size > maxAdminFrame {
		return &badRequest{fmt.Errorf("%s request of %d bytes, at most %d", api.Name, size, maxAdminFrame)}
	}
	if err := c.login.admit(req.Key, req.Version, size, req.Received); err != nil {
		return &badRequest{err}
	}
	req.size, req.exempt = size, c.login.pending()
	body, done, err := c.body(frames, req.Key, size, api.scoped)
	defer done()
	if err != nil {
		return err
	}
	release, err := c.server.reserve(c.ctx, req.Key, size)
	if err != nil {
		return err
	}
	defer release()
	if req.Version < api.Min || req.Version > api.Max {
		if req.Key == apiVersionsKey {
			return c.answer(req, answerHeader{correlation: req.CorrelationID}, Answer{Now: unsupportedAPIVersions()})
		}
		return &badRequest{fmt.Errorf("%s version %d, served are %d to %d", api.Name, req.Version, api.Min, api.Max)}
	}
	flexible := isFlexible(req.Key, req.Version)
	if req.ClientID, body, err = parseHeader(body, flexible); err != nil {
		return &badRequest{fmt.Errorf("%s header: %w", api.Name, err)}
	}
	if req.Key == produceKey {
		if err := checkProduceShape(body, req.Version); err != nil {
			return &badRequest{err}
		}
	}
	answer, err := api.serve(req, body)
	if err != nil {
		return err
	}
	c.mute(req.throttled) // before the next request, though the answer may wait for replicas
	req.end(Handled)
	if answer.Now == nil && answer.Await == nil {
		c.mute(req.settle(nil))
		c.server.took(req, 0)
		return nil
	}
	return c.answer(req, answerHeader{req.CorrelationID, flexible && req.Key != apiVersionsKey}, answer)
}

// framePatience is how long a peer may send nothing in the middle of a frame where nobody waits for memory; memory.go has the others.
const framePatience = 30 * time.Second

// body reads the current frame. What it returns is valid until done is called, which the caller must do; of a request that is scoped the
// buffer is used again then.
func (c *conn) body(frames *frameReader, key int16, size int, scoped bool) (body []byte, done func(), err error) {
	if frames.w-frames.r < size {
		c.frameGoesOn()
	}
	room, reserved, done := size, true, func() {}
	var held *holding
	if size > smallAdmin && (key != produceKey || size > smallProduce) {
		pool := c.server.large
		if size <= mediumRequest {
			pool = c.server.medium
		}
		held, reserved = pool.enter(size, func() {
			c.evicted.Store(true)
			_ = below(c.tcp).Close()
		})
		done = held.leave
		room = min(size, promised)
		if !reserved {
			room = min(size, smallProduce)
		}
	}
	var buf []byte
	if !scoped {
		buf = make([]byte, 0, min(room, smallProduce))
	} else {
		pooled, left := getBuffer(room), done
		buf = *pooled
		done = func() {
			if body != nil {
				*pooled = body
			}
			putBuffer(pooled)
			left()
		}
	}
	body, err = frames.read(buf, size, func(got int) error {
		c.frameGoesOn()
		if held == nil {
			return nil
		}
		held.note(got)
		if !reserved && got >= room {
			reserved = true
			err := held.reserve(c.ctx, c.answered.Load())
			c.frameGoesOn() // that may have taken long
			return err
		}
		return nil
	})
	if c.evicted.Load() {
		err = fmt.Errorf("%s request of %d bytes stood still after %d while others waited for memory (queued.max.request.bytes)", APIName(key), size, len(body))
	}
	return body, done, asBadRequest(err)
}

// frameGoesOn gives a peer that sends the rest of a frame more time. What cannot be set any more is found out by reading.
func (c *conn) frameGoesOn() {
	patience := framePatience
	if t := c.server.config.IdleTimeout; t > 0 {
		patience = min(patience, t)
	}
	_ = c.tcp.SetReadDeadline(c.login.sooner(time.Now().Add(patience)))
}

func asBadRequest(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return &badRequest{err}
}

// isFlexible says whether requests of this kind and version use KIP-482's encoding.
func isFlexible(key, version int16) bool {
	from := flexibleFrom[key]
	return from >= 0 && version >= from
}

var flexibleFrom = func() (from [128]int16) {
	for key := range from {
		from[key] = -1
		if r := kmsg.RequestForKey(int16(key)); r != nil {
			for v := int16(0); v <= r.MaxVersion() && from[key] < 0; v++ {
				if r.SetVersion(v); r.IsFlexible() {
					from[key] = v
				}
			}
		}
	}
	return from
}()

// parseHeader reads client id and tags behind the eight bytes of a request header.
func parseHeader(frame []byte, flexible bool) (clientID string, body []byte, err error) {
	b := frame[8:]
	if len(b) < 2 {
		return "", nil, io.ErrUnexpectedEOF
	}
	n := int(int16(binary.BigEndian.Uint16(b)))
	if b = b[2:]; n > len(b) {
		return "", nil, io.ErrUnexpectedEOF
	}
	if n > 0 {
		clientID, b = string(b[:n]), b[n:]
	}
	if !flexible {
		return clientID, b, nil
	}
	s := shape{b: b}
	s.tags()
	if s.bad {
		return "", nil, io.ErrUnexpectedEOF
	}
	return clientID, s.b, nil
}

// answer writes a at once if nothing is waiting before it, or queues it. Only the connection's own
// goroutine calls it.
func (c *conn) answer(r *Request, h answerHeader, a Answer) error {
	c.mu.Lock()
	if !c.writing && a.Await == nil {
		c.mu.Unlock()
		c.mute(r.settle(a.Now))
		return c.write(r, h, a.Now)
	}
	for c.queue.len() >= maxUnanswered && c.ctx.Err() == nil {
		c.room.Wait()
	}
	c.queue.push(queued{r, h, a})
	if !c.writing {
		c.writing = true
		c.server.running.Add(1)
		go c.drain()
	}
	c.mu.Unlock()
	return nil
}

// drain writes queued answers in order and ends when none is left.
func (c *conn) drain() {
	defer c.server.running.Done()
	for {
		c.mu.Lock()
		if c.queue.len() == 0 {
			c.writing = false
			c.room.Broadcast()
			c.mu.Unlock()
			return
		}
		q := c.queue.pop()
		c.room.Signal()
		c.mu.Unlock()
		q.request.end(Queued)
		resp := q.answer.Now
		if q.answer.Await != nil {
			if err := defect.Contain(APIName(q.request.Key), func() error { resp = q.answer.Await(c.ctx); return nil }); err != nil {
				defect.Tell(c.log, err).Str("peer", q.request.Session.Peer).Msg("no answer to a request")
			}
			q.request.end(Waited)
		}
		if resp != nil {
			c.mute(q.request.settle(resp))
		}
		if resp == nil || c.write(q.request, q.header, resp) != nil {
			c.cancel()
			c.hangUp() // the reading side reports why
		}
	}
}
