package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// writeMore writes b and tells the kernel that more follows, so that a head and the region behind it
// share packets.
func writeMore(conn net.Conn, b []byte) error {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		_, err := conn.Write(b)
		return err
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = raw.Write(func(fd uintptr) bool {
		for len(b) > 0 {
			n, e := unix.SendmsgN(int(fd), b, nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL)
			switch e {
			case nil:
				b = b[n:]
			case unix.EAGAIN:
				return false
			case unix.EINTR:
			default:
				sendErr = e
				return true
			}
		}
		return true
	})
	if err == nil {
		err = sendErr
	}
	return err
}

// sendRegion sends a file region by sendfile(2). The file cannot be closed meanwhile: the raw
// connection of an *os.File holds a reference to its descriptor. What sendfile cannot read goes through a
// buffer: for file systems that have no sendfile, and so that a failing disk is noticed where files are read.
func sendRegion(conn net.Conn, r Region) error {
	out, ok := conn.(syscall.Conn)
	file, ok2 := r.File.(syscall.Conn)
	if !ok || !ok2 {
		return copyRegion(conn, r)
	}
	rawFile, err := file.SyscallConn()
	if errors.Is(err, errors.ErrUnsupported) {
		return copyRegion(conn, r)
	}
	if err != nil {
		return err
	}
	rawConn, err := out.SyscallConn()
	if err != nil {
		return err
	}
	off, left := r.Offset, r.Length
	var sendErr error
	var sock uintptr
	blocked := false
	send := func(fd uintptr) {
		for left > 0 {
			n, e := unix.Sendfile(int(sock), int(fd), &off, left)
			switch {
			case e == unix.EAGAIN:
				blocked = true
				return
			case e == unix.EINTR:
			case e != nil:
				sendErr = e
				return
			case n == 0:
				sendErr = fmt.Errorf("log ended %d bytes before the answer did: %w", left, io.ErrUnexpectedEOF)
				return
			default:
				left -= n
			}
		}
	}
	// The file's descriptor is pinned only while bytes flow, not while the peer is slow.
	pinned := func(s uintptr) bool {
		if blocked { // the socket has room again: go round to pin the file anew
			return true
		}
		sock = s
		if err := rawFile.Control(send); err != nil {
			sendErr = err
		}
		return !blocked
	}
	for left > 0 && sendErr == nil {
		blocked = false
		if err := rawConn.Write(pinned); err != nil {
			return err
		}
	}
	if errno := unix.Errno(0); errors.As(sendErr, &errno) { // of the socket, and then it comes again, or of the file
		return copyRegion(conn, Region{File: r.File, Offset: off, Length: left})
	}
	return sendErr
}
