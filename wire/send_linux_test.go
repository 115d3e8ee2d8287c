package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// noSendfile reads, but has no descriptor that sendfile takes.
type noSendfile struct {
	io.ReaderAt
	err error
}

func (n noSendfile) SyscallConn() (syscall.RawConn, error) { return n, n.err }

// Control hands out a descriptor that has no bytes at all: sendfile gives EINVAL for it.
func (n noSendfile) Control(use func(uintptr)) error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	use(uintptr(fd))
	return unix.Close(fd)
}
func (noSendfile) Read(func(uintptr) bool) error  { return errors.ErrUnsupported }
func (noSendfile) Write(func(uintptr) bool) error { return errors.ErrUnsupported }

// TestRegionsWithoutSendfile: a file that sendfile cannot read is copied, and the client sees the same bytes.
func TestRegionsWithoutSendfile(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 50_000)
	for name, f := range map[string]noSendfile{
		"no descriptor": {bytes.NewReader(data), errors.ErrUnsupported},
		"refused":       {bytes.NewReader(data), nil},
	} {
		t.Run(name, func(t *testing.T) {
			in, out := tcpPair(t)
			sent := make(chan error, 1)
			go func() { sent <- sendRegion(out, Region{File: f, Offset: 10, Length: len(data) - 10}) }()
			got := make([]byte, len(data)-10)
			if _, err := io.ReadFull(in, got); err != nil {
				t.Fatal(err)
			}
			if err := <-sent; err != nil || !bytes.Equal(got, data[10:]) {
				t.Errorf("sent other bytes, or: %v", err)
			}
		})
	}
}

// BenchmarkSendRegion is an answer's way from page cache to socket, beside a bare loop of sendfile(2) on
// the same connection and file.
func BenchmarkSendRegion(b *testing.B) {
	const size = 64 << 20
	path := filepath.Join(b.TempDir(), "log")
	if err := os.WriteFile(path, bytes.Repeat([]byte{1}, size), 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const region = 1 << 20
	send := map[string]func(out *net.TCPConn, at int64) error{
		"region": func(out *net.TCPConn, at int64) error {
			return sendRegion(out, Region{File: f, Offset: at, Length: region})
		},
		"bare": func(out *net.TCPConn, at int64) error {
			if _, err := f.Seek(at, io.SeekStart); err != nil {
				return err
			}
			_, err := out.ReadFrom(io.LimitReader(f, region)) // package net's own sendfile loop
			return err
		},
	}
	for _, name := range []string{"bare", "region"} {
		b.Run(name, func(b *testing.B) {
			in, out := tcpPair(b)
			go func() {
				buf := make([]byte, 1<<20)
				for {
					if _, err := in.Read(buf); err != nil {
						return
					}
				}
			}()
			b.SetBytes(region)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := send[name](out, int64(i)*region%size); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
