package wire

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// FuzzRequest decodes bytes from outside as every kind of request: nothing may crash, and memory must
// stay in proportion to what was sent.
func FuzzRequest(f *testing.F) {
	for key := int16(0); key < 100; key++ {
		if r := kmsg.RequestForKey(key); r != nil {
			for v := int16(0); v <= r.MaxVersion(); v++ {
				r.SetVersion(v)
				f.Add(key, v, r.AppendTo(nil))
			}
		}
	}
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		if len(body) > 64<<10 {
			return
		}
		r := kmsg.RequestForKey(key)
		if r == nil || version < 0 || version > r.MaxVersion() {
			return
		}
		r.SetVersion(version)
		if key == produceKey && checkProduceShape(body, version) != nil {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_ = decode(r, body)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > uint64(len(body)+64)*4*decodedFactor {
			t.Fatalf("%s version %d of %d bytes takes %d bytes of memory", kmsg.NameForKey(key), version, len(body), n)
		}
	})
}

// FuzzFrame cuts arbitrary bytes into frames.
func FuzzFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 10, 0, 18, 0, 3, 0, 0, 0, 5, 0xff, 0xff})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		fr := &frameReader{conn: &byteConn{Reader: bytes.NewReader(data)}, minimum: headSize, maximum: 1 << 16, begin: func() error { return nil }}
		rest := data
		for {
			size, err := fr.next()
			if err != nil {
				return
			}
			head, err := fr.peek(8)
			if err != nil {
				return
			}
			head = bytes.Clone(head)
			body, err := fr.read(nil, size, func(int) error { return nil })
			if err != nil {
				return
			}
			if len(body) != size || !bytes.Equal(body, rest[4:4+size]) || !bytes.Equal(head, body[:8]) {
				t.Fatalf("frame of %d bytes came as %d others", size, len(body))
			}
			rest = rest[4+size:]
			for _, flexible := range []bool{false, true} {
				_, _, _ = parseHeader(body, flexible)
			}
		}
	})
}
