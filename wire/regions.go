package wire

import (
	"fmt"
	"io"
	"net"
)

// Region is a run of a file's bytes that becomes part of an answer. File should also be a syscall.Conn (as *os.File is), so that sendfile
// can be used.
type Region struct {
	File   io.ReaderAt
	Offset int64
	Length int
}

// Part is a Region of an answer, behind the first At bytes of the answer's head.
type Part struct {
	At     int
	Region Region
}

// Regional is a Response that is partly in files: a handler answers with one where it has not read what it sends. Large regions go from
// their files to the socket without passing through the program, by sendfile where the platform has it. The files must stay readable until
// the answer has been sent, also while they are deleted. FetchResponse is one.
type Regional interface {
	Response
	// AppendHead appends the answer without its regions, and returns with it where they belong, in order.
	AppendHead(dst []byte) (head []byte, parts []Part)
}

// appendWhole appends an answer with its regions. It ends at the first that cannot be read.
func appendWhole(dst []byte, r Regional) []byte {
	head, parts := r.AppendHead(nil)
	from := 0
	for _, p := range parts {
		dst = append(dst, head[from:p.At]...)
		from = p.At
		n := len(dst)
		dst = append(dst, make([]byte, p.Region.Length)...)
		if _, err := p.Region.File.ReadAt(dst[n:], p.Region.Offset); err != nil {
			return dst[:n]
		}
	}
	return append(dst, head[from:]...)
}

const (
	copyUpTo = 16 << 10  // bytes of a region up to which it is read, and sent together with what is around it
	maxWrite = 256 << 10 // bytes that are sent at once, at most
)

// writeParts sends an answer of size bytes: its head, behind the four bytes of its length, and its regions.
func writeParts(to net.Conn, head []byte, parts []Part, size int) error {
	buf := getBuffer(min(size+4, maxWrite))
	defer putBuffer(buf)
	out, from := *buf, 0
	flush := func() (err error) {
		if len(out) > 0 {
			err = writeMore(to, out)
			out = out[:0]
		}
		return err
	}
	for _, p := range parts {
		out = append(out, head[from:p.At]...)
		from = p.At
		n := p.Region.Length
		if n > copyUpTo || len(out)+n > cap(out) {
			if err := flush(); err != nil {
				return err
			}
		}
		if n > copyUpTo {
			if err := sendRegion(to, p.Region); err != nil {
				return err
			}
			continue
		}
		at := len(out)
		out = out[:at+n] // an empty buffer has room for any region that is no larger than the answer
		if _, err := p.Region.File.ReadAt(out[at:], p.Region.Offset); err != nil {
			return fmt.Errorf("read log for answer: %w", err)
		}
	}
	out = append(out, head[from:]...)
	*buf = out
	if len(out) == 0 {
		return nil
	}
	_, err := to.Write(out)
	return err
}

// copyRegion sends a region through a buffer: the way of platforms and files without sendfile.
func copyRegion(w io.Writer, r Region) error {
	buf := getBuffer(maxWrite)
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
