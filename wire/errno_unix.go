//go:build unix

package wire

import "syscall"

var (
	refused = []syscall.Errno{syscall.ECONNREFUSED}
	noRoute = []syscall.Errno{syscall.ENETUNREACH, syscall.EHOSTUNREACH}
	reset   = []syscall.Errno{syscall.ECONNRESET, syscall.EPIPE}
)
