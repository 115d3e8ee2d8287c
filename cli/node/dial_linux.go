package node

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// limitSilence has the kernel break a connection whose data is unacknowledged for too long (tcp(7), TCP_USER_TIMEOUT).
func limitSilence(_, _ string, c syscall.RawConn) (err error) {
	if failed := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
	}); failed != nil {
		return failed
	}
	return err
}
