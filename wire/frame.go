package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
)

// inlineBuffer is what every connection holds while idle; small requests arrive whole in it, by one
// system call.
const inlineBuffer = 1 << 10

// headSize is of the part of a request's header that every request has, in bytes.
const headSize = 8

// frameReader cuts a byte stream into Kafka's length-prefixed frames. One goroutine uses it.
type frameReader struct {
	conn    net.Conn
	minimum int          // of a frame's size in bytes
	maximum int          // socket.request.max.bytes
	begin   func() error // called before the reader waits for a frame
	in      [inlineBuffer]byte
	r, w    int
}

// fill reads until at least n bytes are buffered in f.in.
func (f *frameReader) fill(n int) error {
	if f.w-f.r >= n {
		return nil
	}
	if f.r > 0 {
		copy(f.in[:], f.in[f.r:f.w])
		f.w -= f.r
		f.r = 0
	}
	for f.w < n {
		m, err := f.conn.Read(f.in[f.w:])
		f.w += m
		if err != nil && f.w < n {
			if err == io.EOF && f.w > 0 {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// awaitByte returns when at least one byte is buffered, or with why none comes.
func (f *frameReader) awaitByte() error { return f.fill(1) }

// next returns the next frame's size in bytes, without its prefix. A size that the protocol cannot
// mean gives a badRequest.
func (f *frameReader) next() (int, error) {
	if err := f.begin(); err != nil {
		return 0, err
	}
	if err := f.fill(4); err != nil {
		return 0, err
	}
	size := int(int32(binary.BigEndian.Uint32(f.in[f.r:])))
	if size < f.minimum || size > f.maximum {
		if text := f.in[f.r : f.r+4]; isText(text) {
			return 0, &badRequest{fmt.Errorf("it begins with %q, which is not Kafka's protocol", text)}
		}
		if isHello(f.in[f.r : f.r+4]) {
			return 0, &badRequest{errors.New("the client speaks TLS, which this listener does not: set its security.protocol to PLAINTEXT or SASL_PLAINTEXT, or let it connect to a listener with TLS")}
		}
		return 0, &badRequest{fmt.Errorf("frame of %d bytes, allowed %d to %d (socket.request.max.bytes)", size, f.minimum, f.maximum)}
	}
	f.r += 4
	return size, nil
}

// isHello reports whether a TLS handshake begins so.
func isHello(data []byte) bool { return data[0] == 22 && data[1] == 3 }

// isText reports whether bytes are printable ASCII, as another protocol's are: HTTP's, a word for ZooKeeper.
func isText(data []byte) bool {
	return !slices.ContainsFunc(data, func(b byte) bool { return b < ' ' || b > '~' })
}

// peek returns the first n bytes of the current frame without consuming them; n is at most headSize.
func (f *frameReader) peek(n int) ([]byte, error) {
	if err := f.fill(n); err != nil {
		return nil, err
	}
	return f.in[f.r : f.r+n], nil
}

// read appends the current frame's size bytes to buf, which grows no faster than bytes arrive. came is called when some have come, with
// how many there are now; its error ends the reading.
func (f *frameReader) read(buf []byte, size int, came func(got int) error) ([]byte, error) {
	n := min(size, f.w-f.r)
	buf = append(buf, f.in[f.r:f.r+n]...)
	f.r += n
	for len(buf) < size {
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, min(size, max(2*cap(buf), inlineBuffer))), buf...)
		}
		m, err := f.conn.Read(buf[len(buf):min(size, cap(buf))])
		buf = buf[:len(buf)+m]
		if err != nil && len(buf) < size {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return buf, fmt.Errorf("frame of %d bytes ended after %d: %w", size, len(buf), err)
		}
		if err := came(len(buf)); err != nil {
			return buf, err
		}
	}
	return buf, nil
}
