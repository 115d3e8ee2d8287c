package quorum

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"
)

// TestFrames: frames of any length come back whole; a length that lies, or that is beyond the limit, costs no
// memory.
func TestFrames(t *testing.T) {
	for _, n := range []int{0, 1, 1 << 20, 1<<20 + 1, 5<<20 + 17} {
		data := bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
		in := append(binary.BigEndian.AppendUint32(nil, uint32(n)), data...)
		for _, buf := range [][]byte{nil, make([]byte, 0, n), make([]byte, 100)} {
			if got, err := readFrame(bytes.NewReader(in), buf, 10<<20); err != nil || !bytes.Equal(got, data) {
				t.Errorf("frame of %d bytes: %d came back, %v", n, len(got), err)
			}
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	lie := append(binary.BigEndian.AppendUint32(nil, maxMessage), "not that much"...)
	if _, err := readFrame(bytes.NewReader(lie), nil, maxMessage); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a frame that ends early: %v", err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("a length alone cost %d bytes", used)
	}
	if _, err := readFrame(bytes.NewReader(lie), nil, 1<<20); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a frame beyond the limit: %v", err)
	}
}
