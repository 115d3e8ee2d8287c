package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/wire/record"
)

// built is a batch of records.
func built(t *testing.T, codec record.Codec, records ...record.Record) record.Batch {
	t.Helper()
	w := record.NewBuilder(codec)
	for i := range records {
		w.Add(&records[i])
	}
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTrustCompressed: with log.check.compressed.records=false what is in a compressed batch is not looked at, but for keys that a compacted
// topic needs; otherwise it is.
func TestTrustCompressed(t *testing.T) {
	b := built(t, record.Zstd, record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte("v")},
		record.Record{Timestamp: time.Now().Add(72 * time.Hour).UnixMilli(), Value: []byte("v")})
	b.SetCreateTime(time.Now().UnixMilli())
	for _, c := range []struct {
		trust, compacted bool
		want             error
	}{{false, false, kerr.InvalidTimestamp}, {true, false, nil}, {true, true, kerr.InvalidRecord}} {
		config := *DefaultLogConfig()
		config.TrustCompressed, config.Compact = c.trust, c.compacted
		if err := checkRecords(b, &config, time.Now()); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestGrowsBeyondMaxMessageBytes: what is small as it comes and too large as the topic keeps it is refused, as Kafka's UnifiedLog does.
func TestGrowsBeyondMaxMessageBytes(t *testing.T) {
	const allowed = 1 << 20
	value := bytes.Repeat([]byte("0123456789abcdef"), 2*allowed/16)
	for sent := record.Gzip; sent <= record.Zstd; sent++ {
		for kept := range record.Zstd + 1 {
			batch := built(t, sent, record.Record{Timestamp: time.Now().UnixMilli(), Value: value})
			config := *DefaultLogConfig()
			config.KeepCodec, config.Codec, config.CodecLevel, config.MaxMessageBytes = false, kept, record.DefaultLevel, allowed
			var want error
			if kept == record.None {
				want = kerr.MessageTooLarge
			}
			_, batches, err := validate(batch, &config, time.Now())
			if !errors.Is(err, want) || err == nil && batches[0].Codec() != kept {
				t.Errorf("%v to %v: %v, batches %d", sent, kept, err, len(batches))
			}
			if sent == record.Zstd {
				continue
			}
			set, err := record.ToLegacy(nil, 1, sent, false, []record.Record{{Timestamp: time.Now().UnixMilli(), Value: value}})
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := validate(set, &config, time.Now()); !errors.Is(err, want) {
				t.Errorf("message set, %v to %v: %v", sent, kept, err)
			}
		}
	}
}

// TestLegacyBombs: a small message set that becomes very large is refused, before it has.
func TestLegacyBombs(t *testing.T) {
	set, err := record.ToLegacy(nil, 1, record.Gzip, false, []record.Record{{Timestamp: time.Now().UnixMilli(), Value: make([]byte, record.MaxLegacyBytes)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := validate(set, DefaultLogConfig(), time.Now()); !errors.Is(err, kerr.InvalidRecord) || !errors.Is(err, record.ErrTooLarge) {
		t.Errorf("%d bytes that become more than %d: %v", len(set), record.MaxLegacyBytes, err)
	}
}

// TestTrustedBatchesAreLookedAtToChangeThem: what is stored in another codec than it came in is looked at, whatever is trusted.
func TestTrustedBatchesAreLookedAtToChangeThem(t *testing.T) {
	b := built(t, record.None, record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte("v")})
	payload := b.Payload()
	garbage, err := record.Compress(nil, record.Gzip, record.DefaultLevel, append(bytes.Clone(payload), "and more"...))
	if err != nil {
		t.Fatal(err)
	}
	bad := compressedAs(b, record.Gzip, garbage)
	config := *DefaultLogConfig()
	config.TrustCompressed, config.KeepCodec, config.Codec = true, false, record.LZ4
	if _, _, err := validate(bad, &config, time.Now()); !errors.Is(err, kerr.InvalidRecord) {
		t.Errorf("stored as lz4: %v", err)
	}
	config.Codec = record.Gzip
	if _, _, err := validate(bytes.Clone(bad), &config, time.Now()); err != nil {
		t.Errorf("stored as it came: %v", err)
	}
}

// sealed is a batch whose header, and what comes after it, edit has changed.
func sealed(b record.Batch, edit func(b []byte)) record.Batch {
	out := record.Batch(bytes.Clone(b))
	edit(out)
	binary.BigEndian.PutUint32(out[17:], crc32.Checksum(out[21:], crc32.MakeTable(crc32.Castagnoli)))
	return out
}

// compressedAs is a batch with other records, which are compressed.
func compressedAs(b record.Batch, codec record.Codec, records []byte) record.Batch {
	return sealed(append(bytes.Clone(b[:record.HeaderSize]), records...), func(out []byte) {
		binary.BigEndian.PutUint32(out[8:], uint32(len(out)-12))
		binary.BigEndian.PutUint16(out[21:], uint16(codec))
	})
}

// Where fields of a batch are.
const (
	attributesAt, lastDeltaAt, baseTimeAt, maxTimeAt, producerAt, epochAt, sequenceAt, countAt = 21, 23, 27, 35, 43, 51, 53, 57
)

// refusal is what is to become of a batch or a message set.
type refusal struct {
	data    []byte
	config  func(c *LogConfig) // nil for the defaults
	code    error              // nil if it is accepted
	indexes []int32            // of the records that are named
}

func (r refusal) check(t *testing.T, name string, now time.Time) {
	t.Helper()
	c := *DefaultLogConfig()
	if r.config != nil {
		r.config(&c)
	}
	_, _, err := validate(bytes.Clone(r.data), &c, now)
	if !errors.Is(err, r.code) {
		t.Errorf("%s: %v, wanted %v", name, err, r.code)
	}
	var refused *InvalidRecords
	if errors.As(err, &refused); refused != nil && !slices.Equal(refused.Indexes, r.indexes) || refused == nil && r.indexes != nil {
		t.Errorf("%s: %v, wanted records %v to be named", name, err, r.indexes)
	}
}

// TestRefusedBatches: what Kafka's LogValidator refuses is refused with its code, and what is next to it is not.
func TestRefusedBatches(t *testing.T) {
	now := time.Now()
	ms := now.UnixMilli()
	made := func(codec record.Codec, records ...record.Record) record.Batch { return built(t, codec, records...) }
	three := []record.Record{{Timestamp: ms, Key: []byte("a")}, {Timestamp: ms + 1, Value: []byte("b")}, {Timestamp: ms + 2, Key: []byte("c")}}
	good := made(record.None, three...)
	put := func(at, size int, v int64) record.Batch {
		return sealed(good, func(b []byte) {
			switch size {
			case 2:
				binary.BigEndian.PutUint16(b[at:], uint16(v))
			case 4:
				binary.BigEndian.PutUint32(b[at:], uint32(v))
			default:
				binary.BigEndian.PutUint64(b[at:], uint64(v))
			}
		})
	}
	producer := func(id int64, epoch int16, sequence int32, attributes int16) record.Batch {
		return sealed(good, func(b []byte) {
			binary.BigEndian.PutUint64(b[producerAt:], uint64(id))
			binary.BigEndian.PutUint16(b[epochAt:], uint16(epoch))
			binary.BigEndian.PutUint32(b[sequenceAt:], uint32(sequence))
			binary.BigEndian.PutUint16(b[attributesAt:], uint16(attributes))
		})
	}
	at := func(deltas ...int64) record.Batch {
		var records []record.Record
		for _, d := range deltas {
			records = append(records, record.Record{Timestamp: ms + d, Key: []byte("k")})
		}
		return made(record.None, records...)
	}
	const day = 24 * 60 * 60 * 1000
	ranged := func(c *LogConfig) { c.TimestampBefore, c.TimestampAfter = day*time.Millisecond, day*time.Millisecond }
	compact := func(c *LogConfig) { c.Compact = true }
	appendTime := func(c *LogConfig) { c.LogAppendTime = true }
	for name, tc := range map[string]refusal{
		"good":      {data: good},
		"no record": {data: put(countAt, 4, 0), code: kerr.InvalidRecord},
		"less than no record": {data: sealed(good, func(b []byte) {
			binary.BigEndian.PutUint32(b[countAt:], 1<<32-1)
			binary.BigEndian.PutUint32(b[lastDeltaAt:], 1<<32-2)
		}), code: kerr.InvalidRecord},
		"more records than there are":         {data: sealed(good, func(b []byte) { b[countAt+3], b[lastDeltaAt+3] = 4, 3 }), code: kerr.InvalidRecord},
		"fewer records than there are":        {data: sealed(good, func(b []byte) { b[countAt+3], b[lastDeltaAt+3] = 2, 1 }), code: kerr.InvalidRecord},
		"a count beside the last delta":       {data: put(lastDeltaAt, 4, 3), code: kerr.InvalidRecord},
		"a control batch":                     {data: put(attributesAt, 2, record.ControlFlag), code: kerr.InvalidRecord},
		"a delete horizon":                    {data: put(attributesAt, 2, record.DeleteHorizonFlag), code: kerr.InvalidRecord},
		"the broker's time by a producer":     {data: put(attributesAt, 2, record.LogAppendTimeFlag), config: appendTime, code: kerr.InvalidTimestamp, indexes: []int32{0, 1, 2}},
		"the broker's time of another":        {data: put(attributesAt, 2, record.LogAppendTimeFlag)},
		"a base offset":                       {data: put(0, 8, 5), code: kerr.InvalidRecord},
		"a codec that is not known":           {data: put(attributesAt, 2, 5), code: kerr.UnsupportedCompressionType},
		"a producer":                          {data: producer(9, 0, 0, 0)},
		"a producer without sequence":         {data: producer(9, 0, -1, 0), code: kerr.InvalidRecord},
		"a producer without epoch":            {data: producer(9, -1, 0, 0), code: kerr.InvalidRecord},
		"a transaction":                       {data: producer(9, 0, 0, record.TransactionalFlag)},
		"a transaction of nobody":             {data: producer(-1, -1, -1, record.TransactionalFlag), code: kerr.InvalidRecord},
		"garbage that is gzip":                {data: compressedAs(good, record.Gzip, []byte("no gzip")), code: kerr.UnknownServerError},
		"a record cut short":                  {data: compressedAs(good, record.Gzip, mustCompress(t, good.Payload()[:len(good.Payload())-1])), code: kerr.InvalidRecord},
		"too much that is compressed":         {data: made(record.Gzip, record.Record{Timestamp: ms, Value: make([]byte, 5000)}), config: func(c *LogConfig) { c.MaxDecompressed = 4000 }, code: kerr.InvalidRecord},
		"no key":                              {data: good, config: compact, code: kerr.InvalidRecord, indexes: []int32{1}},
		"no key, compressed and trusted":      {data: made(record.Zstd, three...), config: func(c *LogConfig) { c.Compact, c.TrustCompressed = true, true }, code: kerr.InvalidRecord, indexes: []int32{1}},
		"just young enough":                   {data: at(0, -day+5000), config: ranged},
		"too old":                             {data: at(0, -day-5000, -day-6000), config: ranged, code: kerr.InvalidTimestamp, indexes: []int32{1, 2}},
		"too new":                             {data: at(day+5000, 0), config: ranged, code: kerr.InvalidTimestamp, indexes: []int32{0}},
		"too new, where the broker says when": {data: at(day+5000, 0), config: func(c *LogConfig) { ranged(c); appendTime(c) }},
		"no timestamp":                        {data: at(-ms-1, -ms-1), config: ranged},
		"too new beside no timestamp":         {data: at(-ms-1, day+5000), config: ranged, code: kerr.InvalidTimestamp, indexes: []int32{1}},
		"timestamps beyond a number":          {data: sealed(at(0, 1), func(b []byte) { binary.BigEndian.PutUint64(b[baseTimeAt:], 1<<63-1) }), config: func(c *LogConfig) { c.TimestampAfter = 1<<63 - 1 }, code: kerr.InvalidTimestamp},
		"timestamps below a number":           {data: sealed(at(0, -1), func(b []byte) { binary.BigEndian.PutUint64(b[baseTimeAt:], 1<<63) }), config: func(c *LogConfig) { c.TimestampAfter = 1<<63 - 1 }, code: kerr.InvalidTimestamp},
		"a trusted header too new":            {data: made(record.Gzip, record.Record{Timestamp: ms + day + 5000}), config: func(c *LogConfig) { ranged(c); c.TrustCompressed = true }, code: kerr.InvalidTimestamp, indexes: []int32{0}},
		"a trusted header, own time":          {data: made(record.Gzip, record.Record{Timestamp: ms + day + 5000}), config: func(c *LogConfig) { ranged(c); appendTime(c); c.TrustCompressed = true }},
	} {
		tc.check(t, name, now)
	}
}

func mustCompress(t *testing.T, data []byte) []byte {
	t.Helper()
	out, err := record.Compress(nil, record.Gzip, record.DefaultLevel, data)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestWhatIsWritten: validation makes of what came what is to be written.
func TestWhatIsWritten(t *testing.T) {
	now := time.Now()
	ms := now.UnixMilli()
	records := []record.Record{{Timestamp: ms + 3, Key: []byte("a")}, {Timestamp: ms - 5, Value: []byte("b")}}
	made := func(codec record.Codec) record.Batch { return built(t, codec, records...) }
	legacy := func(magic int8, codec record.Codec) []byte {
		set, err := record.ToLegacy(nil, magic, codec, false, records)
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	wrongMax := sealed(made(record.LZ4), func(b []byte) { binary.BigEndian.PutUint64(b[maxTimeAt:], 1<<64-1) })
	ownTime := sealed(made(record.None), func(b []byte) { binary.BigEndian.PutUint16(b[attributesAt:], record.LogAppendTimeFlag) })
	for name, tc := range map[string]struct {
		data       []byte
		kept       bool // the codec
		codec      record.Codec
		appendTime bool
		batches    int
		wants      record.Codec
		stamp      int64 // the batches' newest
	}{
		"as it came":                      {made(record.Snappy), true, 0, false, 1, record.Snappy, ms + 3},
		"a newest timestamp that is none": {wrongMax, true, 0, false, 1, record.LZ4, ms + 3},
		"a client's own append time":      {ownTime, true, 0, false, 1, record.None, ms + 3},
		"the broker's time":               {made(record.Gzip), true, 0, true, 1, record.Gzip, ms},
		"another codec, two batches":      {append(made(record.Gzip), made(record.None)...), false, record.Zstd, false, 2, record.Zstd, ms + 3},
		"another codec, broker's time":    {made(record.Gzip), false, record.None, true, 1, record.None, ms},
		"magic 1":                         {legacy(1, record.None), true, 0, false, 1, record.None, ms + 3},
		"magic 1, compressed":             {legacy(1, record.Gzip), true, 0, false, 1, record.Gzip, ms + 3},
		"magic 1, another codec":          {legacy(1, record.Gzip), false, record.LZ4, false, 1, record.LZ4, ms + 3},
		"magic 0":                         {legacy(0, record.Snappy), true, 0, false, 1, record.Snappy, -1},
		"magic 0, broker's time":          {legacy(0, record.Snappy), true, 0, true, 1, record.Snappy, ms},
	} {
		c := *DefaultLogConfig()
		c.KeepCodec, c.Codec, c.CodecLevel, c.LogAppendTime = tc.kept, tc.codec, record.DefaultLevel, tc.appendTime
		data, batches, err := validate(bytes.Clone(tc.data), &c, now)
		if err != nil || len(batches) != tc.batches {
			t.Errorf("%s: %d batches, %v", name, len(batches), err)
			continue
		}
		if whole := slices.Concat(batches...); !bytes.Equal(whole, data) {
			t.Errorf("%s: the batches are not what is written", name)
		}
		for _, b := range batches {
			b.SetBaseOffset(7)
			got, err := b.Records(1 << 20)
			if err != nil || b.Check() != nil || len(got) != 2 || string(got[0].Key) != "a" || string(got[1].Value) != "b" {
				t.Errorf("%s: %v, %v, records %v", name, err, b.Check(), got)
			}
			if b.Codec() != tc.wants || b.MaxTimestamp() != tc.stamp || b.HasLogAppendTime() != tc.appendTime {
				t.Errorf("%s: %v, newest %d, wanted %d, append time %v", name, b.Codec(), b.MaxTimestamp(), tc.stamp, b.HasLogAppendTime())
			}
		}
		if binary.BigEndian.Uint64(data) != 7 {
			t.Errorf("%s: what is written does not see the batch's offset", name)
		}
	}
}

// TestRefusedMessageSets are those of formats 0 and 1.
func TestRefusedMessageSets(t *testing.T) {
	now := time.Now()
	set := func(records ...record.Record) []byte {
		out, err := record.ToLegacy(nil, 1, record.None, false, records)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	old := record.Record{Timestamp: now.Add(-72 * time.Hour).UnixMilli(), Value: []byte("v")}
	recent := record.Record{Timestamp: now.UnixMilli(), Key: []byte("k"), Value: []byte("v")}
	ranged := func(c *LogConfig) { c.TimestampBefore = 24 * time.Hour }
	for name, tc := range map[string]refusal{
		"good":                                {data: set(recent, old)},
		"larger than max.message.bytes":       {data: set(recent, old), config: func(c *LogConfig) { c.MaxMessageBytes = 60 }, code: kerr.MessageTooLarge},
		"too old":                             {data: set(recent, old), config: ranged, code: kerr.InvalidTimestamp, indexes: []int32{0}},
		"too old, where the broker says when": {data: set(recent, old), config: func(c *LogConfig) { ranged(c); c.LogAppendTime = true }},
		"no key":                              {data: set(recent, old, old), config: func(c *LogConfig) { c.Compact = true }, code: kerr.InvalidRecord, indexes: []int32{1, 2}},
		"cut short":                           {data: set(recent)[:30], code: kerr.CorruptMessage},
	} {
		tc.check(t, name, now)
	}
}

// TestAppendedTimes: a producer is told of the broker's time where that counts, also for what it sent before, and of none otherwise.
func TestAppendedTimes(t *testing.T) {
	for _, own := range []bool{false, true} {
		m := testManager(t, t.TempDir())
		c := *DefaultLogConfig()
		c.LogAppendTime = own
		l := open(t, m, &c)
		first, later := time.Now(), time.Now().Add(time.Minute)
		want := int64(record.NoTimestamp)
		if own {
			want = first.UnixMilli()
		}
		if a := appendTo(t, l, batch(t, 2, first.UnixMilli(), 7, 0, 0), first); a.LogAppendTime != want || a.First != 0 || a.Last != 1 {
			t.Errorf("append time %v: %+v, wanted time %d", own, a, want)
		}
		if a := appendTo(t, l, batch(t, 2, first.UnixMilli(), 7, 0, 0), later); a.LogAppendTime != want || !a.Duplicate || a.Last != 1 {
			t.Errorf("append time %v, again: %+v, wanted time %d", own, a, want)
		}
		stop(t, m)
	}
}
