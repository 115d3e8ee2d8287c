package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
)

func TestUnreached(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "connection refused: no process listens there"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, "no route to the host"},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Name: "a.b", IsNotFound: true}}, "the name a.b does not resolve"},
		{&net.DNSError{Name: "a.b", IsTimeout: true}, "the resolver does not answer for a.b"},
		{fmt.Errorf("hello: %w", io.EOF), "what listens there closes the connection"},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, "what listens there closes the connection"},
		{context.DeadlineExceeded, "no answer from there"},
		{os.ErrDeadlineExceeded, "no answer from there"},
		{errors.New("its id is taken"), "its id is taken"},
	} {
		if got := Unreached(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}
