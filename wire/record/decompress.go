package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// ErrTooLarge says that decompressed data passes the limit given.
var ErrTooLarge = errors.New("decompressed records are larger than allowed")

// errNextTier says that a decompression takes more than its tier may.
var errNextTier = errors.New("takes more memory to decompress than is allowed")

// tier is what one decompression may take. A few bytes can become very many, and many clients can bring such bytes at the same moment:
// all begin in the first tier, and those that need more begin anew in the next, where fewer run at a time.
type tier int

const (
	quick tier = iota // quickBytes come out at most, from a window of quickWindow: it is soon over
	small             // smallMemory for a window, a block or a record
	large             // largeMemory for a window of zstd, any block, any record
)

const (
	quickBytes  = 1 << 20
	quickWindow = 2 << 20 // of zstd, as Java's clients have by default
	smallMemory = 8 << 20
	largeMemory = 128 << 20 // libzstd allows no more by default
)

// Gates limit how many decompressions run at once in each tier.
type Gates [large + 1]chan struct{}

func newGates() *Gates {
	processors := runtime.GOMAXPROCS(0)
	return &Gates{quick: make(chan struct{}, 8*processors), small: make(chan struct{}, processors), large: make(chan struct{}, 1)}
}

// Incoming is for what clients bring, Stored for what is read from logs: neither waits for the other.
var Incoming, Stored = newGates(), newGates()

// try calls f with one tier after the other, beginning with t, until it returns something else than errNextTier. It waits where a tier is
// full.
func (g *Gates) try(t tier, f func(t tier) error) (err error) {
	for ; t <= large; t++ {
		if err = within(g[t], func() error { return f(t) }); !errors.Is(err, errNextTier) {
			break
		}
	}
	return err
}

func within(gate chan struct{}, f func() error) error {
	gate <- struct{}{}
	defer func() { <-gate }()
	return f()
}

// Bounded calls f, which is to decode the whole of what a client brought or asks for, with the number of bytes that it may decompress: a
// MiB, and if f returns ErrTooLarge, limit, while no other call does. The structures that f makes of these bytes can be 14 times as large
// (a Record takes 88 bytes, a message of format 0 or 1 at least 26). f may not call Bounded, Inspect, Recompress or Decompress.
func (g *Gates) Bounded(limit int, f func(limit int) error) error {
	err := within(g[quick], func() error { return f(min(limit, quickBytes)) })
	if limit > quickBytes && errors.Is(err, ErrTooLarge) {
		err = within(g[large], func() error { return f(limit) })
	}
	return err
}

// Decompress returns the decompressed src. It stops with ErrTooLarge when more than limit bytes come out. Data that is not what codec says
// gives an error wrapping ErrCorrupt. It may wait for others that take much memory.
func Decompress(codec Codec, src []byte, limit int) (out []byte, err error) {
	err = Incoming.try(quick, func(t tier) (err error) {
		out, err = decompressWhole(codec, src, limit, t)
		return err
	})
	return out, err
}

// decompressAll is Decompress without a wait. Limits of more than quickBytes allow largeMemory.
func decompressAll(codec Codec, src []byte, limit int) ([]byte, error) {
	out, err := decompressWhole(codec, src, limit, small)
	if errors.Is(err, errNextTier) && limit > quickBytes {
		out, err = decompressWhole(codec, src, limit, large)
	}
	if errors.Is(err, errNextTier) {
		err = ErrTooLarge
	}
	return out, err
}

// decompressWhole is Decompress in one tier.
func decompressWhole(codec Codec, src []byte, limit int, t tier) (out []byte, err error) {
	err = decompress(codec, src, limit, t, func(r io.Reader) (err error) {
		out, err = io.ReadAll(r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// decompress calls f with a reader of what is compressed in src. Errors of that reader, which f is to return, are ErrTooLarge, errNextTier
// unless the tier is the last, or wrap ErrCorrupt.
func decompress(codec Codec, src []byte, limit int, t tier, f func(io.Reader) error) error {
	if codec == None {
		limit = len(src) // it is there
	}
	l := &limitedReader{codec: codec, tier: t, left: limit, beyond: ErrTooLarge}
	if t == quick && limit > quickBytes {
		l.left, l.beyond = quickBytes, errNextTier
	}
	release, err := l.open(src)
	if err != nil {
		return l.explain(err)
	}
	defer release()
	return f(l)
}

// limitedReader reads what a decompressor does, up to a limit.
type limitedReader struct {
	r      io.Reader
	codec  Codec
	tier   tier
	left   int   // bytes up to the limit
	beyond error // what Read returns beyond the limit
}

func (l *limitedReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= n; l.left < 0 {
		return 0, l.beyond
	}
	if err != nil && err != io.EOF {
		return 0, l.explain(err)
	}
	return n, err
}

// explain says an error of a decompressor in this package's words.
func (l *limitedReader) explain(err error) error {
	switch {
	case errors.Is(err, errBeyond):
		return l.beyond
	case l.tier < large && (errors.Is(err, errNextTier) || errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded)):
		return errNextTier
	}
	return corrupt("%v: %v", l.codec, err)
}

var (
	gzipReaders   sync.Pool
	snappyReaders = sync.Pool{New: func() any { return new(snappyReader) }}
	lz4Readers    = sync.Pool{New: func() any { return lz4.NewReader(nil) }}
	zstdReaders   = [large]*sync.Pool{
		quick: {New: func() any { return newZstdReader(quickWindow) }},
		small: {New: func() any { return newZstdReader(smallMemory) }},
	}
)

func newZstdReader(window uint64) *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		panic(err) // the options above are constants
	}
	return d
}

// open sets the decompressor of src; release is to be called when it is not needed any more.
func (l *limitedReader) open(src []byte) (release func(), err error) {
	switch l.codec {
	case None:
		l.r = bytes.NewReader(src)
		return func() {}, nil
	case Snappy:
		r := snappyReaders.Get().(*snappyReader)
		l.r, release = r, func() {
			r.src, r.unread = nil, nil
			if cap(r.block) <= smallMemory {
				snappyReaders.Put(r)
			}
		}
		err = r.reset(src, l)
	case Gzip:
		r, _ := gzipReaders.Get().(*gzip.Reader)
		if r == nil {
			r = new(gzip.Reader)
		}
		l.r, release = r, func() { gzipReaders.Put(r) }
		err = r.Reset(bytes.NewReader(src))
	case LZ4:
		if err := checkLZ4Frame(src, l.tier); err != nil {
			return nil, err
		}
		r := lz4Readers.Get().(*lz4.Reader)
		l.r, release = r, func() {
			r.Reset(nil) // gives its blocks back
			lz4Readers.Put(r)
		}
		r.Reset(bytes.NewReader(src))
	case Zstd:
		if l.tier == large {
			r := newZstdReader(largeMemory)
			l.r, release = r, r.Close
			err = r.Reset(bytes.NewReader(src))
			break
		}
		pool := zstdReaders[l.tier]
		r := pool.Get().(*zstd.Decoder)
		l.r, release = r, func() {
			_ = r.Reset(nil)
			pool.Put(r)
		}
		err = r.Reset(bytes.NewReader(src))
	default:
		return nil, errors.New("not known")
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// checkLZ4Frame refuses the format before LZ4's frames, which Java's clients do not know either, and in the first tier frames of blocks of
// 4 MiB, of which the decompressor holds two.
func checkLZ4Frame(src []byte, t tier) error {
	const head, blockSizeAt, blocksOf4MiB = 6, 5, 7
	if len(src) < head {
		return io.ErrUnexpectedEOF
	}
	if binary.LittleEndian.Uint32(src) == 0x184c2102 {
		return errors.New("format of before its frames")
	}
	if t == quick && src[blockSizeAt]>>4&7 == blocksOf4MiB {
		return errNextTier
	}
	return nil
}

// errBeyond says that a block alone passes the limit.
var errBeyond = errors.New("block is larger than the limit")

// snappyReader reads the blocks of snappy-java's framing, or one block without.
type snappyReader struct {
	src    []byte
	framed bool
	began  bool
	limit  *limitedReader
	block  []byte // decompressed; kept for the next
	unread []byte // of block
}

func (r *snappyReader) reset(src []byte, limit *limitedReader) error {
	*r = snappyReader{src: src, limit: limit, framed: bytes.HasPrefix(src, xerialMagic), block: r.block}
	if r.framed && len(src) < xerialHeader {
		return errors.New("framing cut short")
	}
	if r.framed {
		r.src = src[xerialHeader:]
	}
	return nil
}

func (r *snappyReader) Read(p []byte) (int, error) {
	for len(r.unread) == 0 {
		block, err := r.next()
		if err != nil {
			return 0, err
		}
		if err := r.decode(block); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.unread)
	r.unread = r.unread[n:]
	return n, nil
}

// next is the next compressed block, io.EOF where there is none.
func (r *snappyReader) next() (block []byte, err error) {
	if len(r.src) == 0 && (r.framed || r.began) {
		return nil, io.EOF
	}
	r.began = true
	size := len(r.src)
	if r.framed {
		if len(r.src) < 4 {
			return nil, errors.New("block cut short")
		}
		size, r.src = int(int32(binary.BigEndian.Uint32(r.src))), r.src[4:]
	}
	if size < 0 || size > len(r.src) {
		return nil, fmt.Errorf("block of %d bytes in %d", size, len(r.src))
	}
	block, r.src = r.src[:size], r.src[size:]
	return block, nil
}

// mostOfSnappy is more than the bytes that one byte of snappy can become: three, a copy, become 64.
const mostOfSnappy = 32

func (r *snappyReader) decode(block []byte) error {
	n, err := snappy.DecodedLen(block)
	if err != nil {
		return err
	}
	switch {
	case n > mostOfSnappy*len(block):
		return fmt.Errorf("%d bytes are no block of %d", len(block), n)
	case n > r.limit.left:
		return errBeyond
	case n > smallMemory && r.limit.tier < large:
		return errNextTier
	}
	r.block = slices.Grow(r.block[:0], n)[:n]
	r.unread, err = snappy.Decode(r.block, block)
	return err
}
