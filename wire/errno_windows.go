package wire

import "syscall"

// Winsock's numbers; package syscall's of Unix are never equal to them.
var (
	refused = []syscall.Errno{10061}
	noRoute = []syscall.Errno{10051, 10065}
	reset   = []syscall.Errno{10053, 10054}
)
