package wire

import (
	"bytes"
	"net"
	"time"
)

// byteConn is a connection that only reads from memory.
type byteConn struct {
	*bytes.Reader
	net.Conn
}

func (c *byteConn) Read(p []byte) (int, error)      { return c.Reader.Read(p) }
func (c *byteConn) Write([]byte) (int, error)       { return 0, net.ErrClosed }
func (c *byteConn) SetReadDeadline(time.Time) error { return nil }
