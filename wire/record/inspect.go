package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// ErrMalformed says that the records of a batch are not what they should be.
var ErrMalformed = errors.New("malformed records")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Fields are those of a record that tell where it belongs.
type Fields struct {
	Index          int32  // among the batch's records, from 0 on
	OffsetDelta    int64  // to the batch's base offset
	TimestampDelta int64  // milliseconds to the batch's base timestamp
	Key            []byte // nil for none; valid until the function returns that it was given to
}

// Inspect calls each with the fields of every record, and checks what a reader relies on: their count, lengths, fields, and that their
// offsets are one after the other. Compressed records are looked at as they come out of the decompressor, which takes some ten MiB at
// most for any number of bytes, unless a single record, block or window is larger. Inspect may call each several times for a record: where
// the batch turns out to need more memory it begins anew, and waits until not too many others need as much. Errors wrap ErrCorrupt where
// the batch is not what its codec says, ErrMalformed where its records are not what they should be, and are ErrTooLarge for more than limit
// bytes decompressed. Any goroutine may call it, but each may not.
func (b Batch) Inspect(limit int, each func(Fields)) error {
	return b.windowed(Incoming, limit, func(w *window) error {
		for i := range b.Count() {
			f, err := w.record(i)
			if err != nil {
				return err
			}
			if f.OffsetDelta != int64(i) {
				return malformed("record %d has another offset delta", i)
			}
			each(f)
		}
		more, err := w.need(1)
		if err == nil && more {
			return malformed("bytes after the last of %d records", b.Count())
		}
		return err
	})
}

// Walk calls each with the fields of the records of a batch that is in a log, in their order, until it returns false. It has Inspect's
// limits and errors, but never waits for Inspect, and may call each several times for a record.
func (b Batch) Walk(limit int, each func(Fields) bool) error {
	return b.windowed(Stored, limit, func(w *window) error {
		for i := range b.Count() {
			f, err := w.record(i)
			if err != nil || !each(f) {
				return err
			}
		}
		return nil
	})
}

// windowed calls f with a window at b's first record, once for each tier that it takes.
func (b Batch) windowed(g *Gates, limit int, f func(*window) error) error {
	if b.Count() < 0 {
		return malformed("a count of %d records", b.Count())
	}
	if b.Codec() == None {
		w := plain.Get().(*window)
		defer func() {
			*w = window{}
			plain.Put(w)
		}()
		w.buf, w.end = b.Payload(), len(b.Payload())
		return f(w)
	}
	return g.try(quick, func(t tier) error {
		return decompress(b.Codec(), b.Payload(), limit, t, func(r io.Reader) error {
			w := windows.Get().(*window)
			*w = window{r: r, most: smallMemory, buf: w.buf}
			if t == large {
				w.most = limit + 1 // beyond it the reader ends
			}
			err := f(w)
			if w.r = nil; cap(w.buf) <= quickBytes {
				windows.Put(w)
			}
			return err
		})
	})
}

// plain has windows for batches that are not compressed, which need no buffer.
var plain = sync.Pool{New: func() any { return new(window) }}

// firstWindow is how many bytes a window is large, until a record does not fit.
const firstWindow = 128 << 10

// windows are those of compressed batches, used again.
var windows = sync.Pool{New: func() any { return &window{buf: make([]byte, firstWindow)} }}

// window passes over what a reader has. It belongs to one goroutine.
type window struct {
	r       io.Reader // nil where all is in buf
	most    int       // so many bytes buf may have
	buf     []byte
	at, end int // buf[at:end] has been read from r, and not yet been passed over
}

// record passes over the next record, which is the batch's i-th.
func (w *window) record(i int32) (Fields, error) {
	if w.end-w.at < maxVarint {
		if _, err := w.need(maxVarint); err != nil {
			return Fields{}, err
		}
	}
	size, n := uvarint(w.buf[w.at:w.end])
	length := zigzag(size)
	if n <= 0 || n > maxVarint || length < smallestRecord {
		return Fields{}, malformed("record %d has %d bytes", i, length)
	}
	whole := n + int(length)
	if w.end-w.at < whole {
		if enough, err := w.need(whole); err != nil {
			return Fields{}, err
		} else if !enough {
			return Fields{}, malformed("record %d has %d bytes of %d", i, length, w.end-w.at-n)
		}
	}
	body := w.buf[w.at+n : w.at+whole]
	w.at += whole
	timestamp, t := uvarint(body[1:]) // the first byte, attributes, is unused
	if t <= 0 {
		return Fields{}, malformed("record %d ends in its timestamp", i)
	}
	offset, o := uvarint(body[1+t:])
	if o <= 0 || o > maxVarint {
		return Fields{}, malformed("record %d ends in its offset", i)
	}
	key, rest, ok := field(body[1+t+o:])
	if ok {
		_, rest, ok = field(rest)
	}
	if !ok || !headersEnd(rest) {
		return Fields{}, malformed("record %d of %d bytes does not fit its fields", i, length)
	}
	return Fields{i, zigzag(offset), zigzag(timestamp), key}, nil
}

// smallestRecord is the bytes of a record without its length: attributes, timestamp, offset, a null key, a null value, no header.
const smallestRecord = 6

// need reads on until n bytes are in the window, and reports whether there are so many. Only what came takes memory.
func (w *window) need(n int) (bool, error) {
	for w.end-w.at < n && w.r != nil {
		if w.at > 0 {
			w.end = copy(w.buf, w.buf[w.at:w.end])
			w.at = 0
		}
		if w.end == len(w.buf) {
			if len(w.buf) >= w.most {
				return false, errNextTier
			}
			w.buf = append(w.buf, make([]byte, min(len(w.buf), w.most-len(w.buf)))...)
		}
		read, err := w.r.Read(w.buf[w.end:])
		w.end += read
		if err == io.EOF {
			w.r = nil
		} else if err != nil {
			return false, err
		}
	}
	return w.end-w.at >= n, nil
}

// maxVarint is how many bytes Java reads of a number of 32 bits.
const maxVarint = 5

// field splits off a key or a value, which is nil for null.
func field(b []byte) (value, rest []byte, ok bool) {
	size, n := uvarint(b)
	length := zigzag(size)
	switch {
	case n <= 0 || n > maxVarint || length < -1 || length > int64(len(b)-n):
		return nil, nil, false
	case length == -1:
		return nil, b[n:], true
	}
	end := n + int(length)
	return b[n:end:end], b[end:], true
}

// headersEnd reports whether headers fill the rest of a record.
func headersEnd(b []byte) bool {
	size, n := uvarint(b)
	count := zigzag(size)
	if n <= 0 || n > maxVarint || count < 0 || count > int64(len(b)) {
		return false
	}
	b = b[n:]
	for range count {
		key, rest, ok := field(b)
		if !ok || key == nil {
			return false
		}
		if _, b, ok = field(rest); !ok {
			return false
		}
	}
	return len(b) == 0
}

// zigzag is the signed number that a varint stands for.
func zigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// uvarint is binary.Uvarint with the one- and two-byte cases inlined, which nearly all are.
func uvarint(b []byte) (uint64, int) {
	if len(b) > 1 {
		if b[0] < 0x80 {
			return uint64(b[0]), 1
		}
		if b[1] < 0x80 {
			return uint64(b[0]&0x7f) | uint64(b[1])<<7, 2
		}
	}
	return binary.Uvarint(b)
}
