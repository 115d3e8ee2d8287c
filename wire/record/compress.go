package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codec is the compression of a batch, as in its attributes' three low bits.
type Codec int8

// The codecs that Kafka knows.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

var codecNames = []string{"none", "gzip", "snappy", "lz4", "zstd"}

func (c Codec) String() string {
	if int(c) < len(codecNames) {
		return codecNames[c]
	}
	return fmt.Sprintf("codec %d", int8(c))
}

// ParseCodec reads a codec's name as in Kafka's compression.type; "uncompressed" is none.
func ParseCodec(s string) (Codec, error) {
	if s == "uncompressed" {
		return None, nil
	}
	for i, n := range codecNames {
		if n == s {
			return Codec(i), nil
		}
	}
	return None, fmt.Errorf("unknown compression %q, allowed: %s", s, strings.Join(codecNames, ", "))
}

// ErrTooLarge says that decompressed data passes the limit given.
var ErrTooLarge = errors.New("decompressed records are larger than allowed")

// xerialMagic starts the framing that Java's snappy-java and most clients put around snappy blocks.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const (
	xerialHeader = 16
	xerialBlock  = 32 << 10
)

var (
	gzipReaders sync.Pool
	lz4Readers  = sync.Pool{New: func() any { return lz4.NewReader(nil) }}
	zstdReaders = sync.Pool{New: func() any {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			panic(err) // the options above are constants
		}
		return d
	}}
)

// Decompress appends the decompressed src to dst, which it returns. It stops with ErrTooLarge when
// more than limit bytes come out, so that a small request cannot fill the memory. Data that is not
// what codec says gives an error wrapping ErrCorrupt.
func Decompress(dst []byte, codec Codec, src []byte, limit int) ([]byte, error) {
	switch codec {
	case None:
		return append(dst, src...), nil
	case Snappy:
		return unsnappy(dst, src, limit)
	case Gzip:
		r, _ := gzipReaders.Get().(*gzip.Reader)
		if r == nil {
			r = new(gzip.Reader)
		}
		defer gzipReaders.Put(r)
		if err := r.Reset(bytes.NewReader(src)); err != nil {
			return dst, corrupt("gzip: %v", err)
		}
		return readLimited(dst, r, codec, limit)
	case LZ4:
		r := lz4Readers.Get().(*lz4.Reader)
		defer lz4Readers.Put(r)
		r.Reset(bytes.NewReader(src))
		return readLimited(dst, r, codec, limit)
	case Zstd:
		r := zstdReaders.Get().(*zstd.Decoder)
		defer zstdReaders.Put(r)
		if err := r.Reset(bytes.NewReader(src)); err != nil {
			return dst, corrupt("zstd: %v", err)
		}
		out, err := readLimited(dst, r, codec, limit)
		_ = r.Reset(nil)
		return out, err
	}
	return dst, corrupt("%v", codec)
}

func readLimited(dst []byte, r io.Reader, codec Codec, limit int) ([]byte, error) {
	start := len(dst)
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, make([]byte, max(4096, len(dst)-start))...)[:len(dst)]
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if len(dst)-start > limit {
			return dst[:start], ErrTooLarge
		}
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return dst[:start], corrupt("%v: %v", codec, err)
		}
	}
}

func unsnappy(dst, src []byte, limit int) ([]byte, error) {
	if !bytes.HasPrefix(src, xerialMagic) {
		return unsnappyBlock(dst, src, limit)
	}
	if len(src) < xerialHeader {
		return dst, corrupt("snappy: framing cut short")
	}
	src = src[xerialHeader:]
	start := len(dst)
	for len(src) > 0 {
		if len(src) < 4 {
			return dst, corrupt("snappy: block cut short")
		}
		n := int(binary.BigEndian.Uint32(src))
		src = src[4:]
		if n < 0 || n > len(src) {
			return dst, corrupt("snappy: block of %d bytes in %d", n, len(src))
		}
		var err error
		if dst, err = unsnappyBlock(dst, src[:n], limit-(len(dst)-start)); err != nil {
			return dst, err
		}
		src = src[n:]
	}
	return dst, nil
}

func unsnappyBlock(dst, src []byte, limit int) ([]byte, error) {
	n, err := snappy.DecodedLen(src)
	if err != nil {
		return dst, corrupt("snappy: %v", err)
	}
	if n > limit {
		return dst, ErrTooLarge
	}
	at := len(dst)
	dst = append(dst, make([]byte, n)...)
	out, err := snappy.Decode(dst[at:], src)
	if err != nil {
		return dst[:at], corrupt("snappy: %v", err)
	}
	return append(dst[:at], out...), nil
}

// Compress appends the compressed src to dst. level is the codec's own scale (compression.gzip.level,
// compression.lz4.level, compression.zstd.level); DefaultLevel leaves it to the library.
func Compress(dst []byte, codec Codec, level int, src []byte) ([]byte, error) {
	switch codec {
	case None:
		return append(dst, src...), nil
	case Snappy:
		dst = append(dst, xerialMagic...)
		dst = append(dst, 0, 0, 0, 1, 0, 0, 0, 1)
		for len(src) > 0 {
			n := min(len(src), xerialBlock)
			block := snappy.Encode(nil, src[:n])
			dst = binary.BigEndian.AppendUint32(dst, uint32(len(block)))
			dst = append(dst, block...)
			src = src[n:]
		}
		return dst, nil
	case Gzip:
		if level == DefaultLevel {
			level = gzip.DefaultCompression
		}
		buf := bytes.NewBuffer(dst)
		w, err := gzip.NewWriterLevel(buf, level)
		if err != nil {
			return dst, err
		}
		return closeWriter(buf, w, src)
	case LZ4:
		buf := bytes.NewBuffer(dst)
		w := lz4.NewWriter(buf)
		if err := w.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.CompressionLevelOption(lz4Level(level))); err != nil {
			return dst, err
		}
		return closeWriter(buf, w, src)
	case Zstd:
		if level == DefaultLevel {
			level = 3
		}
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)))
		if err != nil {
			return dst, err
		}
		return w.EncodeAll(src, dst), nil
	}
	return dst, fmt.Errorf("cannot compress with %v", codec)
}

// DefaultLevel asks Compress for the codec's default level.
const DefaultLevel = -1 << 31

// lz4Level maps Kafka's 1 to 17 to the levels of the library; Kafka's default is 9.
func lz4Level(level int) lz4.CompressionLevel {
	if level == DefaultLevel || level <= 1 {
		return lz4.Fast
	}
	return lz4.CompressionLevel(1 << (7 + min(level, 9)))
}

func closeWriter(buf *bytes.Buffer, w io.WriteCloser, src []byte) ([]byte, error) {
	if _, err := w.Write(src); err != nil {
		return buf.Bytes(), err
	}
	if err := w.Close(); err != nil {
		return buf.Bytes(), err
	}
	return buf.Bytes(), nil
}
