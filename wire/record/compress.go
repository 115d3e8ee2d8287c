package record

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

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

// xerialMagic starts the framing that Java's snappy-java and most clients put around snappy blocks.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const (
	xerialHeader = 16
	xerialBlock  = 32 << 10
)

// Compress appends the compressed src to dst. level is the codec's own scale (compression.gzip.level,
// compression.lz4.level, compression.zstd.level); DefaultLevel leaves it to the library.
func Compress(dst []byte, codec Codec, level int, src []byte) ([]byte, error) {
	if codec == None {
		return append(dst, src...), nil
	}
	buf := bytes.NewBuffer(dst)
	err := compress(buf, codec, level, bytes.NewReader(src))
	return buf.Bytes(), err
}

// compress writes what src has to dst.
func compress(dst io.Writer, codec Codec, level int, src io.Reader) error {
	if codec == None {
		_, err := io.Copy(dst, src)
		return err
	}
	w, err := compressor(dst, codec, level)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, src); err != nil {
		return err
	}
	return w.Close()
}

func compressor(dst io.Writer, codec Codec, level int) (io.WriteCloser, error) {
	switch codec {
	case Snappy:
		return &snappyWriter{dst: dst}, nil
	case Gzip:
		if level == DefaultLevel {
			level = gzip.DefaultCompression
		}
		return gzip.NewWriterLevel(dst, level)
	case LZ4:
		w := lz4.NewWriter(dst)
		return w, w.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.CompressionLevelOption(lz4Level(level)))
	case Zstd:
		if level == DefaultLevel {
			level = 3
		}
		return zstd.NewWriter(dst, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)))
	}
	return nil, fmt.Errorf("cannot compress with %v", codec)
}

// snappyWriter writes blocks in snappy-java's framing.
type snappyWriter struct {
	dst   io.Writer
	began bool
	block []byte // what waits to be compressed
	out   []byte
}

func (w *snappyWriter) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		n := min(len(p), xerialBlock-len(w.block))
		w.block, p = append(w.block, p[:n]...), p[n:]
		if len(w.block) == xerialBlock {
			if err := w.flush(); err != nil {
				return written - len(p), err
			}
		}
	}
	return written, nil
}

// flush writes what waits, and the framing's head before all.
func (w *snappyWriter) flush() error {
	w.out = w.out[:0]
	if !w.began {
		w.began = true
		w.out = append(append(w.out, xerialMagic...), 0, 0, 0, 1, 0, 0, 0, 1)
	}
	if len(w.block) > 0 {
		block := snappy.Encode(nil, w.block)
		w.out = append(binary.BigEndian.AppendUint32(w.out, uint32(len(block))), block...)
	}
	w.block = w.block[:0]
	_, err := w.dst.Write(w.out)
	return err
}

func (w *snappyWriter) Close() error { return w.flush() }

// DefaultLevel asks Compress for the codec's default level.
const DefaultLevel = -1 << 31

// lz4Level maps Kafka's 1 to 17 to the levels of the library; Kafka's default is 9.
func lz4Level(level int) lz4.CompressionLevel {
	if level == DefaultLevel || level <= 1 {
		return lz4.Fast
	}
	return lz4.CompressionLevel(1 << (7 + min(level, 9)))
}
