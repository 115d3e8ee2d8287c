package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

var allCodecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

// drawRecords draws records with offsets 0, 1, 2...
func drawRecords(t *rapid.T, headers bool) []Record {
	n := rapid.IntRange(1, 30).Draw(t, "records")
	out := make([]Record, n)
	optional := func(name string) []byte {
		if rapid.Bool().Draw(t, name+" is null") {
			return nil
		}
		return rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, name)
	}
	for i := range out {
		out[i] = Record{Offset: int64(i), Timestamp: rapid.Int64Range(0, 1<<40).Draw(t, "timestamp"), Key: optional("key"), Value: optional("value")}
		if headers {
			for range rapid.IntRange(0, 2).Draw(t, "headers") {
				out[i].Headers = append(out[i].Headers, Header{Key: rapid.String().Draw(t, "header"), Value: optional("header value")})
			}
		}
	}
	return out
}

func TestBatchRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := drawRecords(t, true)
		w := NewBuilder(rapid.SampledFrom(allCodecs).Draw(t, "codec"))
		w.ProducerID, w.ProducerEpoch, w.BaseSequence = 7, 2, rapid.Int32Range(0, 1<<31-1).Draw(t, "sequence")
		for i := range records {
			w.Add(&records[i])
		}
		b, err := w.Build()
		if err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "stored") { // offset and epoch lie outside the checksum
			b.SetBaseOffset(1000)
			b.SetLeaderEpoch(4)
			for i := range records {
				records[i].Offset += 1000
			}
		}
		got, rest, err := Next(append(bytes.Clone(b), 1, 2, 3))
		if err != nil || len(rest) != 3 {
			t.Fatalf("Next: %v, %d bytes left", err, len(rest))
		}
		if err := got.Check(); err != nil {
			t.Fatal(err)
		}
		back, err := got.Records(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(back, records) {
			t.Fatalf("got %+v\nwant %+v", back, records)
		}
		var fields []Record
		err = got.Inspect(MaxRecordsBytes, func(f Fields) {
			fields = append(fields, Record{Offset: got.BaseOffset() + f.OffsetDelta, Timestamp: got.BaseTimestamp() + f.TimestampDelta, Key: bytes.Clone(f.Key)})
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := range records {
			records[i].Value, records[i].Headers = nil, nil
		}
		if !reflect.DeepEqual(fields, records) {
			t.Fatalf("Inspect finds %+v\nwant %+v", fields, records)
		}
		if _, _, err := Next(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]); !errors.Is(err, ErrTruncated) {
			t.Fatalf("a cut batch: %v", err)
		}
	})
}

func TestLegacyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := drawRecords(t, false)
		magic := rapid.Int8Range(0, 1).Draw(t, "magic")
		codec := rapid.SampledFrom(allCodecs[:4]).Draw(t, "codec")
		set, err := ToLegacy(nil, magic, codec, false, records)
		if err != nil {
			t.Fatal(err)
		}
		back, gotCodec, err := FromLegacy(set, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if gotCodec != codec || len(back) != len(records) {
			t.Fatalf("%v and %d records, want %v and %d", gotCodec, len(back), codec, len(records))
		}
		for i := range records {
			if magic == 0 {
				records[i].Timestamp = NoTimestamp
			}
			if !reflect.DeepEqual(back[i], records[i]) {
				t.Fatalf("record %d: got %+v, want %+v", i, back[i], records[i])
			}
		}
		first, _, err := NextLegacy(set)
		if err != nil {
			t.Fatal(err)
		}
		first[rapid.IntRange(MinFrame, len(first)-1).Draw(t, "flip")] ^= 1 // offset and size are not under the checksum
		if _, _, err := FromLegacy(set, 1<<20); err == nil {
			t.Fatal("a flipped bit went unnoticed")
		}
	})
}

// TestLegacyOffsets pins what differs between the formats: inside a wrapper magic 0 counts from the log's
// start and magic 1 from the wrapper's.
func TestLegacyOffsets(t *testing.T) {
	records := []Record{{Offset: 40, Timestamp: 5, Value: []byte("a")}, {Offset: 41, Timestamp: 9, Value: []byte("b")}}
	for magic, first := range []int64{40, 0} {
		set, err := ToLegacy(nil, int8(magic), Gzip, false, records)
		if err != nil {
			t.Fatal(err)
		}
		wrapper := Batch(set)
		if wrapper.BaseOffset() != 41 {
			t.Errorf("magic %d: wrapper has offset %d, want the last record's 41", magic, wrapper.BaseOffset())
		}
		msg, _, err := NextLegacy(set)
		if err != nil {
			t.Fatal(err)
		}
		r, err := legacyRecord(msg)
		if err != nil {
			t.Fatal(err)
		}
		inner, err := Decompress(Gzip, r.Value, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if got := Batch(inner).BaseOffset(); got != first {
			t.Errorf("magic %d: first inner offset %d, want %d", magic, got, first)
		}
	}
}

// TestLZ4OfMagic0 keeps KAFKA-3160's wrong checksum, which readers of magic 0 insist on, and takes both.
func TestLZ4OfMagic0(t *testing.T) {
	records := []Record{{Value: bytes.Repeat([]byte("value "), 100)}}
	set, err := ToLegacy(nil, 0, LZ4, false, records)
	if err != nil {
		t.Fatal(err)
	}
	msg, _, _ := NextLegacy(set)
	r, err := legacyRecord(msg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decompress(LZ4, r.Value, 1<<20); err == nil {
		t.Error("the frame's checksum is right, old clients would refuse it")
	}
	mended := mendLZ4Header(r.Value)
	if out, err := Decompress(LZ4, mended, 1<<20); err != nil || len(out) == 0 {
		t.Errorf("mended frame: %v", err)
	}
}

func TestBombs(t *testing.T) {
	zeros := make([]byte, 32<<20)
	for _, codec := range allCodecs[1:] {
		small, err := Compress(nil, codec, DefaultLevel, zeros)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decompress(codec, small, 1<<20); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: %d bytes that become 32 MiB: %v", codec, len(small), err)
		}
		if out, err := Decompress(codec, small, len(zeros)); err != nil || len(out) != len(zeros) {
			t.Errorf("%v: at the limit: %d bytes, %v", codec, len(out), err)
		}
		if _, err := Decompress(codec, []byte("no compressed data at all"), 1<<20); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: garbage: %v", codec, err)
		}
	}
}

func TestSequencesWrap(t *testing.T) {
	for _, tc := range []struct{ seq, delta, want int32 }{
		{0, 1, 1}, {1<<31 - 1, 1, 0}, {1<<31 - 1, 5, 4}, {1<<31 - 3, 2, 1<<31 - 1}, {10, 0, 10},
	} {
		if got := AddSequence(tc.seq, tc.delta); got != tc.want {
			t.Errorf("%d + %d = %d, want %d", tc.seq, tc.delta, got, tc.want)
		}
	}
}

func batchOf(t testing.TB, codec Codec, n int) Batch {
	w := NewBuilder(codec)
	for i := range n {
		w.Add(&Record{Timestamp: int64(i), Key: []byte("key"), Value: fmt.Appendf(nil, "value %d", i), Headers: []Header{{"h", []byte("v")}}})
	}
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzBatch reads bytes from outside as batches; what is accepted must be what was measured.
func FuzzBatch(f *testing.F) {
	for _, c := range allCodecs {
		f.Add([]byte(batchOf(f, c, 5)))
	}
	negative := batchOf(f, None, 1)[:HeaderSize]
	binary.BigEndian.PutUint32(negative[lengthAt:], HeaderSize-MinFrame)
	binary.BigEndian.PutUint32(negative[countAt:], 1<<31) // of a batch without records
	f.Add([]byte(negative))
	f.Fuzz(func(t *testing.T, data []byte) {
		for {
			b, rest, err := Next(data)
			if err != nil {
				return
			}
			if len(b)+len(rest) != len(data) || b.Size() != len(b) {
				t.Fatalf("batch of %d and rest of %d in %d bytes", len(b), len(rest), len(data))
			}
			b.seal() // else nearly all would fail the checksum
			records, err := b.Records(1 << 20)
			if err == nil && len(records) != int(b.Count()) {
				t.Fatalf("%d records, the header says %d", len(records), b.Count())
			}
			seen := 0
			if b.Inspect(1<<20, func(Fields) { seen++ }) == nil && (err != nil || seen != len(records)) {
				t.Fatalf("Inspect sees %d records, Records %d, %v", seen, len(records), err)
			}
			data = rest
		}
	})
}

// FuzzLegacy does the same for message sets.
func FuzzLegacy(f *testing.F) {
	records := []Record{{Timestamp: 1, Key: []byte("k"), Value: []byte("v")}, {Offset: 1, Timestamp: 2}}
	for magic := int8(0); magic < 2; magic++ {
		for _, c := range allCodecs[:4] {
			set, err := ToLegacy(nil, magic, c, false, records)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(set)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		records, _, err := FromLegacy(data, 1<<20)
		if err == nil && len(data) > 0 && len(records) == 0 {
			t.Fatalf("%d bytes hold no record", len(data))
		}
	})
}

// FuzzDecompress feeds garbage to every codec.
func FuzzDecompress(f *testing.F) {
	for _, c := range allCodecs {
		b, err := Compress(nil, c, DefaultLevel, []byte("some text, some text, some text"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(int8(c), b)
	}
	f.Fuzz(func(t *testing.T, codec int8, data []byte) {
		out, err := Decompress(Codec(codec), data, 1<<16)
		if err == nil && len(out) > 1<<16 && Codec(codec) != None {
			t.Fatalf("%d bytes came out", len(out))
		}
	})
}
