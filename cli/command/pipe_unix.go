//go:build unix

package command

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// onPipeClosed calls then when whoever read what a command prints has gone (head, less): where out is a pipe or a socket, and not before
// its reader has ended. The goroutine that waits for that ends with the process.
func onPipeClosed(out io.Writer, then func()) {
	f, ok := out.(*os.File)
	if !ok {
		return
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return
	}
	go func() {
		fds := []unix.PollFd{{Fd: int32(f.Fd())}} // of no event but the end
		for {
			_, err := unix.Poll(fds, -1)
			if err == unix.EINTR {
				continue
			}
			if err == nil && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0 {
				then()
			}
			return
		}
	}()
}
