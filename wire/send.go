package wire

import (
	"encoding/binary"
	"fmt"
	"time"
)

// write encodes and sends one answer. Only one goroutine writes at a time: the connection's, or its
// writer while that runs.
func (c *conn) write(req *Request, h answerHeader, resp Response) error {
	buf := getBuffer(0)
	defer putBuffer(buf)
	b := h.append(append(*buf, 0, 0, 0, 0))
	var parts []Part
	if r, ok := resp.(Regional); ok {
		b, parts = r.AppendHead(b)
	} else {
		b = resp.AppendTo(b)
	}
	*buf = b
	size := len(b) - 4
	for _, p := range parts {
		size += p.Region.Length
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
		err = writeParts(c.tcp, b, parts, size)
	}
	req.end(Sent)
	req.countSending()
	c.server.took(req, size)
	return err
}
