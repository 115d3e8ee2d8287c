package record

import (
	"encoding/binary"
	"hash/crc32"
)

// Message sets of magic 0 and 1 (Kafka before 0.11): a run of
//
//	int64 offset, int32 size, uint32 CRC-32, int8 magic, int8 attributes, [magic 1: int64 timestamp],
//	int32 key length, key, int32 value length, value
//
// A compressed message is a wrapper whose value is itself a message set.

const (
	legacyCRCAt     = 12
	legacyAttrsAt   = 17
	legacyOverhead0 = 14 // after the 12-byte head, without key and value
	legacyOverhead1 = 22
)

// NextLegacy returns the first message of magic 0 or 1 in b with its head, and what follows it. It
// verifies the CRC. It returns ErrTruncated if b ends early, as a message set in a request may.
func NextLegacy(b []byte) (msg, rest []byte, err error) {
	if len(b) < MinFrame+5 {
		return nil, b, ErrTruncated
	}
	magic := Magic(b)
	if magic != 0 && magic != 1 {
		return nil, b, corrupt("magic %d in a message set", magic)
	}
	size := int64(int32(binary.BigEndian.Uint32(b[lengthAt:])))
	least := int64(legacyOverhead0)
	if magic == 1 {
		least = legacyOverhead1
	}
	if size < least {
		return nil, b, corrupt("message of %d bytes", size)
	}
	if int64(len(b)) < size+MinFrame {
		return nil, b, ErrTruncated
	}
	msg, rest = b[:size+MinFrame], b[size+MinFrame:]
	if got, want := crc32.ChecksumIEEE(msg[magicAt:]), binary.BigEndian.Uint32(msg[legacyCRCAt:]); got != want {
		return nil, b, corrupt("message checksum is %08x, head says %08x", got, want)
	}
	return msg, rest, nil
}

// FromLegacy decodes a whole message set of at most limit bytes, decompressing wrappers to at most as many in all. Offsets
// are relative to the first record, 0, 1, 2...: the broker gives them anew. Magic 0 has no timestamp
// (NoTimestamp). codec is the one that the set used, None when it mixes.
func FromLegacy(set []byte, limit int) (records []Record, codec Codec, err error) {
	if len(set) > limit {
		return nil, None, ErrTooLarge
	}
	first := true
	for len(set) > 0 {
		var msg []byte
		if msg, set, err = NextLegacy(set); err == ErrTruncated {
			if len(records) == 0 {
				return nil, None, corrupt("message set of %d bytes holds no whole message", len(set))
			}
			break
		}
		if err != nil {
			return nil, None, err
		}
		m, err := ExpandLegacy(msg, limit)
		if err != nil {
			return nil, None, err
		}
		if first {
			codec, first = m.Codec, false
		} else if codec != m.Codec {
			codec = None
		}
		limit -= m.expanded
		records = append(records, m.Records...)
	}
	for i := range records {
		records[i].Offset = int64(i)
	}
	return records, codec, nil
}

// LegacyMessage is one message of a message set, with the messages inside if it is a wrapper.
type LegacyMessage struct {
	Records       []Record // with the offsets and timestamps that a consumer sees
	Codec         Codec
	LogAppendTime bool // the broker set the timestamps

	expanded int // bytes that a wrapper held
}

// ExpandLegacy decodes a message that NextLegacy found, decompressing a wrapper to at most limit bytes.
// Inside a wrapper of magic 1 offsets count from its first message, and the wrapper has its last one's.
func ExpandLegacy(msg []byte, limit int) (LegacyMessage, error) {
	m := LegacyMessage{Codec: Codec(msg[legacyAttrsAt] & codecMask)}
	m.LogAppendTime = Magic(msg) == 1 && msg[legacyAttrsAt]&LogAppendTimeFlag != 0
	outer, err := legacyRecord(msg)
	if err != nil {
		return m, err
	}
	if m.Codec == None {
		m.Records = []Record{outer}
		return m, nil
	}
	inner, err := decompressLegacy(msg, m.Codec, outer.Value, limit)
	if err != nil {
		return m, err
	}
	m.expanded = len(inner)
	for len(inner) > 0 {
		var in []byte
		if in, inner, err = NextLegacy(inner); err != nil {
			return m, corrupt("inside a compressed message: %v", err)
		}
		if Codec(in[legacyAttrsAt]&codecMask) != None {
			return m, corrupt("compressed message inside a compressed message")
		}
		r, err := legacyRecord(in)
		if err != nil {
			return m, err
		}
		if m.LogAppendTime {
			r.Timestamp = outer.Timestamp
		}
		m.Records = append(m.Records, r)
	}
	if n := len(m.Records); n > 0 && Magic(msg) == 1 {
		base := outer.Offset - m.Records[n-1].Offset
		for i := range m.Records {
			m.Records[i].Offset += base
		}
	}
	return m, nil
}

func decompressLegacy(msg []byte, c Codec, value []byte, limit int) ([]byte, error) {
	if c == Zstd {
		return nil, corrupt("zstd in magic %d", Magic(msg))
	}
	if c == LZ4 && Magic(msg) == 0 {
		value = mendLZ4Header(value)
	}
	return decompressAll(c, value, limit)
}

func legacyRecord(msg []byte) (Record, error) {
	r := Record{Offset: int64(binary.BigEndian.Uint64(msg)), Timestamp: NoTimestamp}
	body := msg[legacyAttrsAt+1:]
	if Magic(msg) == 1 {
		r.Timestamp = int64(binary.BigEndian.Uint64(body))
		body = body[8:]
	}
	var ok bool
	if r.Key, body, ok = legacyBytes(body); !ok {
		return r, corrupt("message key passes the end")
	}
	if r.Value, body, ok = legacyBytes(body); !ok || len(body) != 0 {
		return r, corrupt("message value does not end with the message")
	}
	return r, nil
}

func legacyBytes(b []byte) (v, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := int64(int32(binary.BigEndian.Uint32(b)))
	b = b[4:]
	if n < 0 {
		return nil, b, n == -1
	}
	if n > int64(len(b)) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

// ToLegacy appends records to dst as a message set of the given magic (0 or 1), under one wrapper if
// codec is not None. Headers are lost: the format has none. logAppendTime sets magic 1's timestamp type.
func ToLegacy(dst []byte, magic int8, codec Codec, logAppendTime bool, records []Record) ([]byte, error) {
	if len(records) == 0 {
		return dst, nil
	}
	var attrs byte
	if logAppendTime && magic == 1 {
		attrs = LogAppendTimeFlag
	}
	if codec == None {
		for i := range records {
			dst = appendLegacy(dst, magic, attrs, records[i].Offset, &records[i])
		}
		return dst, nil
	}
	base := records[0].Offset
	var inner []byte
	last := Record{Offset: records[len(records)-1].Offset, Timestamp: NoTimestamp}
	for i := range records {
		off := records[i].Offset
		if magic == 1 {
			off -= base // magic 1 counts inside a wrapper, magic 0 does not
		}
		inner = appendLegacy(inner, magic, attrs, off, &records[i])
		last.Timestamp = max(last.Timestamp, records[i].Timestamp)
	}
	value, err := Compress(nil, codec, DefaultLevel, inner)
	if err != nil {
		return dst, err
	}
	if codec == LZ4 && magic == 0 {
		value = breakLZ4Header(value)
	}
	last.Value = value
	return appendLegacy(dst, magic, attrs|byte(codec), last.Offset, &last), nil
}

func appendLegacy(dst []byte, magic int8, attrs byte, offset int64, r *Record) []byte {
	size := legacyOverhead0 + len(r.Key) + len(r.Value)
	if magic == 1 {
		size += 8
	}
	start := len(dst)
	dst = binary.BigEndian.AppendUint64(dst, uint64(offset))
	dst = binary.BigEndian.AppendUint32(dst, uint32(size))
	dst = append(dst, 0, 0, 0, 0, byte(magic), attrs)
	if magic == 1 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(r.Timestamp))
	}
	dst = appendLegacyBytes(dst, r.Key)
	dst = appendLegacyBytes(dst, r.Value)
	binary.BigEndian.PutUint32(dst[start+legacyCRCAt:], crc32.ChecksumIEEE(dst[start+magicAt:]))
	return dst
}

func appendLegacyBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.BigEndian.AppendUint32(dst, 0xffffffff)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(b)))
	return append(dst, b...)
}

// lz4HeaderSize is the length of an LZ4 frame's head: magic 4, flags 1, block descriptor 1, and the
// content size 8 if flag bit 3 says so; the checksum byte follows.
func lz4HeaderSize(frame []byte) int {
	if len(frame) < 7 {
		return 0
	}
	n := 6
	if frame[4]&0x08 != 0 {
		n += 8
	}
	if len(frame) <= n {
		return 0
	}
	return n
}

// mendLZ4Header gives a frame the right header checksum. Clients of magic 0 compute it over the frame
// magic too (KAFKA-3160), which LZ4 libraries refuse; others send it right. Both are accepted.
func mendLZ4Header(frame []byte) []byte {
	n := lz4HeaderSize(frame)
	if n == 0 {
		return frame
	}
	out := append([]byte(nil), frame...)
	out[n] = byte(xxh32(frame[4:n]) >> 8)
	return out
}

// breakLZ4Header gives a frame the checksum that readers of magic 0 expect.
func breakLZ4Header(frame []byte) []byte {
	if n := lz4HeaderSize(frame); n > 0 {
		frame[n] = byte(xxh32(frame[:n]) >> 8)
	}
	return frame
}

// xxh32 is xxHash32 with seed 0 for inputs shorter than 16 bytes: all that an LZ4 frame head needs,
// and what the LZ4 library keeps to itself.
func xxh32(b []byte) uint32 {
	const p1, p2, p3, p4, p5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
	h := uint32(p5) + uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		h += binary.LittleEndian.Uint32(b) * p3
		h = (h<<17 | h>>15) * p4
	}
	for _, c := range b {
		h += uint32(c) * p5
		h = (h<<11 | h>>21) * p1
	}
	h ^= h >> 15
	h *= p2
	h ^= h >> 13
	h *= p3
	return h ^ h>>16
}
