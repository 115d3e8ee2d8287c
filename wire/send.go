package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// copyBelow is the size in bytes up to which file regions are read and sent with the head by one
// write; above it they go by sendfile where the platform has it.
const copyBelow = 16 << 10

// Region is a run of a file's bytes that becomes part of an answer without passing through the
// program. File should also be a syscall.Conn (as *os.File is) for sendfile to be used.
type Region struct {
	File   io.ReaderAt
	Offset int64
	Length int
}

// part is a Region that follows the first at bytes of an answer's head.
type part struct {
	at     int
	region Region
}

// regional is an answer that carries file regions.
type regional interface {
	// encode appends the head and returns where in it regions belong.
	encode(dst []byte) (head []byte, parts []part)
}

// write encodes and sends one answer. Only one goroutine writes at a time: the connection's, or its
// writer while that runs.
func (c *conn) write(req *Request, h answerHeader, resp Response) error {
	buf := getBuffer(0)
	defer putBuffer(buf)
	b := append(*buf, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(h.correlation))
	if h.tagged {
		b = append(b, 0)
	}
	var parts []part
	if r, ok := resp.(regional); ok {
		b, parts = r.encode(b)
	} else {
		b = resp.AppendTo(b)
	}
	*buf = b
	size := len(b) - 4
	for _, p := range parts {
		size += p.region.Length
	}
	if size > 1<<31-1 {
		return fmt.Errorf("answer of %d bytes does not fit a frame", size)
	}
	binary.BigEndian.PutUint32(b, uint32(size))
	if req.Key != apiVersionsKey {
		c.answered.Store(true)
	}
	if t := c.server.config.IdleTimeout; t > 0 {
		if err := c.tcp.SetWriteDeadline(time.Now().Add(t)); err != nil {
			return err
		}
	}
	var err error
	if len(parts) == 0 {
		_, err = c.tcp.Write(b)
	} else {
		err = c.writeParts(b, parts, size)
	}
	req.end(Sent)
	c.server.took(req, size)
	return err
}

func (c *conn) writeParts(head []byte, parts []part, size int) error {
	if size <= copyBelow {
		buf := getBuffer(size + 4)
		defer putBuffer(buf)
		out, from := *buf, 0
		for _, p := range parts {
			out = append(out, head[from:p.at]...)
			from = p.at
			n := len(out)
			out = out[:n+p.region.Length] // the buffer's capacity is at least size+4
			if _, err := p.region.File.ReadAt(out[n:], p.region.Offset); err != nil {
				return fmt.Errorf("read log for answer: %w", err)
			}
		}
		out = append(out, head[from:]...)
		*buf = out
		_, err := c.tcp.Write(out)
		return err
	}
	from := 0
	for _, p := range parts {
		if err := writeMore(c.tcp, head[from:p.at]); err != nil {
			return err
		}
		from = p.at
		if err := sendRegion(c.tcp, p.region); err != nil {
			return err
		}
	}
	if from < len(head) {
		_, err := c.tcp.Write(head[from:])
		return err
	}
	return nil
}

// copyRegion sends a region through a buffer: the way of platforms and files without sendfile.
func copyRegion(w io.Writer, r Region) error {
	buf := getBuffer(256 << 10)
	defer putBuffer(buf)
	b := (*buf)[:cap(*buf)]
	for r.Length > 0 {
		n := min(r.Length, len(b))
		if _, err := r.File.ReadAt(b[:n], r.Offset); err != nil {
			return fmt.Errorf("read log for answer: %w", err)
		}
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		r.Offset += int64(n)
		r.Length -= n
	}
	return nil
}
