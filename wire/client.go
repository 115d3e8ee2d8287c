package wire

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"
)

// Dialer connects to an address given as host:port.
type Dialer func(ctx context.Context, address string) (net.Conn, error)

// maxAnswer bounds an answer's size in bytes.
const maxAnswer = 256 << 20

// connectPatience is for a connection and the answer to its ApiVersions.
const connectPatience = 2 * time.Second

// sessionGrace is how long a connection whose session ends stays open for answers.
const sessionGrace = 30 * time.Second

// Client sends requests to one broker, over one connection that it opens when it is needed and again after
// it failed. Requests overlap; answers come in any order that the broker chooses. Any goroutine may use it.
type Client struct {
	address string
	dial    Dialer
	id      string

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	dialing *semaphore.Weighted // held while a connection is opened, so that callers share it; who waits heeds its context

	mu      sync.Mutex // guards the rest
	conn    *clientConn
	retired *clientConn // whose session ends, with requests that may still wait
	closed  bool
}

// NewClient makes a client with the given client id; it connects with the first request.
func NewClient(dial Dialer, address, clientID string) *Client {
	c := &Client{address: address, dial: dial, id: clientID, dialing: semaphore.NewWeighted(1)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Address is where the client connects to.
func (c *Client) Address() string { return c.address }

// Close ends the connection; requests that wait fail. It does not wait for them.
func (c *Client) Close() {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, conn := range []*clientConn{c.conn, c.retired} {
		if conn != nil {
			conn.fail(net.ErrClosed)
		}
	}
}

// Do sends req in the highest version that both sides know and returns the answer. Byte slices in the answer
// are the caller's. A failed connection fails all requests on it; whether the broker acted on them is not
// known then. After Close it gives net.ErrClosed.
func (c *Client) Do(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	resp, _, err := c.DoInto(ctx, req, nil)
	return resp, err
}

// DoInto is Do for a caller that has a buffer for the answer. buf belongs to the client from then on. Byte slices in the answer are parts of
// the returned buffer, which is buf, or a larger one, or nil; the caller may pass it to the next call when it needs the answer no more.
func (c *Client) DoInto(ctx context.Context, req kmsg.Request, buf []byte) (kmsg.Response, []byte, error) {
	conn, err := c.connection(ctx)
	if err != nil {
		return nil, buf, err
	}
	req.SetVersion(min(req.MaxVersion(), conn.highest(req.Key())))
	return conn.do(ctx, req, buf)
}

// usable is the open connection, nil if there is none.
func (c *Client) usable() (*clientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, net.ErrClosed
	}
	if c.conn == nil || c.conn.err() != nil {
		return nil, nil
	}
	if old := c.conn; expires(old.tcp, time.Now()) { // requests that wait on it have their answers by then
		c.conn, c.retired = nil, old
		time.AfterFunc(sessionGrace, func() { old.fail(net.ErrClosed) })
		return nil, nil
	}
	return c.conn, nil
}

func (c *Client) connection(ctx context.Context) (*clientConn, error) {
	if conn, err := c.usable(); conn != nil || err != nil {
		return conn, err
	}
	if err := c.dialing.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer c.dialing.Release(1)
	if conn, err := c.usable(); conn != nil || err != nil { // somebody else was faster
		return conn, err
	}
	conn, err := c.open(ctx)
	if c.ctx.Err() != nil {
		err = net.ErrClosed
	}
	if err != nil {
		if conn != nil {
			conn.fail(err)
		}
		return nil, fmt.Errorf("connect to %s: %w", c.address, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		conn.fail(net.ErrClosed)
		return nil, net.ErrClosed
	}
	c.conn = conn
	return conn, nil
}

func (c *Client) open(ctx context.Context) (*clientConn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	tcp, err := c.dial(ctx, c.address)
	if err != nil {
		return nil, err
	}
	conn := &clientConn{tcp: tcp, format: kmsg.NewRequestFormatter(kmsg.FormatterClientID(c.id)), waiting: map[int32]*awaited{}, done: make(chan struct{}), write: semaphore.NewWeighted(1)}
	go conn.read()
	return conn, conn.learn(ctx)
}

// clientConn is one connection of a Client.
type clientConn struct {
	tcp      net.Conn
	format   *kmsg.RequestFormatter
	versions map[int16]int16 // the broker's highest, set before the connection is used

	write *semaphore.Weighted // held while a request is written

	mu      sync.Mutex // guards the rest
	next    int32
	waiting map[int32]*awaited
	failure error
	done    chan struct{} // closed with failure
}

// awaited is an answer that somebody waits for.
type awaited struct {
	into []byte // a buffer for it, or nil; the reading goroutine's
	body chan []byte
}

func (c *clientConn) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure
}

func (c *clientConn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != nil {
		return
	}
	c.failure = err
	close(c.done)
	_ = c.tcp.Close()
}

func (c *clientConn) highest(key int16) int16 {
	if v, ok := c.versions[key]; ok {
		return v
	}
	return 0
}

// learn asks which versions the broker knows.
func (c *clientConn) learn(ctx context.Context) error {
	req := kmsg.NewPtrApiVersionsRequest()
	req.SetVersion(3)
	req.ClientSoftwareName, req.ClientSoftwareVersion = "kraft", "0"
	resp, _, err := c.do(ctx, req, nil)
	if err != nil {
		return err
	}
	versions := map[int16]int16{}
	for _, k := range resp.(*kmsg.ApiVersionsResponse).ApiKeys {
		versions[k.ApiKey] = k.MaxVersion
	}
	c.versions = versions
	return nil
}

// do sends req. The buffer that it returns holds the answer; it is nil where an answer may still come into buf.
func (c *clientConn) do(ctx context.Context, req kmsg.Request, buf []byte) (resp kmsg.Response, used []byte, err error) {
	answer := &awaited{into: buf, body: make(chan []byte, 1)}
	c.mu.Lock()
	if c.failure != nil {
		c.mu.Unlock()
		return nil, buf, c.failure
	}
	c.next++
	id := c.next
	c.waiting[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, id)
	}()
	frame := c.format.AppendRequest(nil, req, id)
	if err := c.write.Acquire(ctx, 1); err != nil {
		return nil, nil, err
	}
	deadline := time.Now().Add(30 * time.Second)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = c.tcp.SetWriteDeadline(deadline)
	_, err = c.tcp.Write(frame)
	c.write.Release(1)
	if err != nil { // part of it may have gone out
		c.fail(err)
		return nil, nil, err
	}
	select {
	case used = <-answer.body:
	case <-c.done:
		return nil, nil, c.err()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	body, err := answerBody(req, used)
	if err != nil {
		return nil, used, err
	}
	if resp, err = decodeResponse(req, body); err != nil {
		c.fail(err)
	}
	return resp, used, err
}

// answerBody is what is behind the header of an answer to req; data begins behind the correlation id.
func answerBody(req kmsg.Request, data []byte) ([]byte, error) {
	if !isFlexible(req.Key(), req.GetVersion()) || req.Key() == apiVersionsKey {
		return data, nil
	}
	s := shape{b: data}
	if s.tags(); s.bad {
		return nil, io.ErrUnexpectedEOF
	}
	return s.b, nil
}

// decodeResponse decodes the answer to req. What kmsg makes of bytes from outside must never take the process down.
func decodeResponse(req kmsg.Request, body []byte) (resp kmsg.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, fmt.Errorf("undecodable answer: %v", p)
		}
	}()
	resp = req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if err := resp.ReadFrom(body); err != nil {
		return nil, err
	}
	return resp, nil
}

// read hands answers to who waits for them, until the connection fails.
func (c *clientConn) read() {
	r := bufio.NewReaderSize(c.tcp, 64<<10)
	for {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			c.fail(err)
			return
		}
		size := int(int32(binary.BigEndian.Uint32(head[:])))
		if size < 4 || size > maxAnswer {
			c.fail(fmt.Errorf("answer of %d bytes", size))
			return
		}
		c.mu.Lock()
		id := int32(binary.BigEndian.Uint32(head[4:]))
		waiting := c.waiting[id]
		delete(c.waiting, id) // a second answer must not come into the same buffer
		c.mu.Unlock()
		var into []byte
		if waiting != nil {
			into = waiting.into
		}
		body, err := readBody(r, size-4, into)
		if err != nil {
			c.fail(err)
			return
		}
		if waiting != nil {
			waiting.body <- body
		}
	}
}

// firstBody is how many bytes of an answer a buffer is made for before any have come.
const firstBody = 1 << 20

// readBody reads n bytes into buf, which it makes larger as they come.
func readBody(r io.Reader, n int, buf []byte) ([]byte, error) {
	buf = buf[:0]
	for len(buf) < n {
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, min(n-len(buf), max(firstBody, len(buf))))
		}
		had := len(buf)
		buf = buf[:min(n, cap(buf))]
		if _, err := io.ReadFull(r, buf[had:]); err != nil {
			return nil, err
		}
	}
	return buf, nil
}
