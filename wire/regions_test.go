package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"
)

// regions is an answer made of a head and regions of files.
type regions struct {
	head  []byte
	parts []Part
}

func (*regions) IsFlexible() bool                         { return true }
func (r *regions) AppendTo(dst []byte) []byte             { return appendWhole(dst, r) }
func (r *regions) AppendHead(dst []byte) ([]byte, []Part) { return append(dst, r.head...), r.parts }

func (r *regions) size() int {
	size := len(r.head)
	for _, p := range r.parts {
		size += p.Region.Length
	}
	return size
}

// written counts what is written to it, and how often.
type written struct {
	net.Conn
	bytes.Buffer
	times int
}

func (w *written) Write(b []byte) (int, error) { w.times++; return w.Buffer.Write(b) }
func (w *written) Read(b []byte) (int, error)  { return w.Buffer.Read(b) }

// TestRegions: an answer is sent as it is encoded, whatever the sizes of its regions and of what is between them, in few writes.
func TestRegions(t *testing.T) {
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i * 31 >> 3)
	}
	file := bytes.NewReader(data)
	sizes := []int{1, 100, 1000, copyUpTo - 1, copyUpTo, copyUpTo + 1, maxWrite - 1, maxWrite, maxWrite + 1}
	rapid.Check(t, func(t *rapid.T) {
		answer := &regions{head: make([]byte, 4)}
		large := 0
		for range rapid.IntRange(0, 40).Draw(t, "parts") {
			answer.head = append(answer.head, data[:rapid.SampledFrom([]int{1, 50, 50_000}).Draw(t, "between")]...)
			n := rapid.SampledFrom(sizes).Draw(t, "length")
			if n > copyUpTo {
				large += 1 + n/maxWrite
			}
			answer.parts = append(answer.parts, Part{At: len(answer.head), Region: Region{File: file, Offset: rapid.Int64Range(0, int64(len(data)-n)).Draw(t, "offset"), Length: n}})
		}
		answer.head = append(answer.head, "end"...)
		binary.BigEndian.PutUint32(answer.head, uint32(answer.size()-4))
		to := new(written)
		if err := writeParts(to, answer.head, answer.parts, answer.size()-4); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(to.Bytes(), answer.AppendTo(nil)) {
			t.Fatal("other bytes were sent")
		}
		if most := 2*large + 2*answer.size()/maxWrite + 2; to.times > most { // each large one ends a write
			t.Errorf("%d bytes, with %d large regions, are sent by %d writes", answer.size(), large, to.times)
		}
	})
}

// failing is a file on a disk that fails.
type failing struct{ io.ReaderAt }

var errDisk = errors.New("the disk failed")

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errDisk }

// TestRegionFails: what cannot be read ends an answer, of any size.
func TestRegionFails(t *testing.T) {
	for _, n := range []int{1, copyUpTo, copyUpTo + 1} {
		answer := &regions{head: []byte("head"), parts: []Part{{At: 2, Region: Region{File: failing{}, Length: n}}}}
		if err := writeParts(new(written), answer.head, answer.parts, answer.size()-4); !errors.Is(err, errDisk) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// BenchmarkSmallRegions is an answer with 1 KiB of each of 500 files.
func BenchmarkSmallRegions(b *testing.B) {
	const count, size = 500, 1 << 10
	dir, answer := b.TempDir(), &regions{head: make([]byte, 4)}
	for i := range count {
		path := filepath.Join(dir, string(rune('a'+i)))
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			b.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		answer.head = append(answer.head, make([]byte, 40)...)
		answer.parts = append(answer.parts, Part{At: len(answer.head), Region: Region{File: f, Length: size}})
	}
	in, out := tcpPair(b)
	go func() { _, _ = io.Copy(io.Discard, in) }()
	b.SetBytes(int64(answer.size()))
	b.ReportAllocs()
	for b.Loop() {
		if err := writeParts(out, answer.head, answer.parts, answer.size()-4); err != nil {
			b.Fatal(err)
		}
	}
}

func tcpPair(t testing.TB) (in, out *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}
