package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// TestInspectTakesLittleMemory: what batches become when they are decompressed is not in memory all at once, however many are looked at.
func TestInspectTakesLittleMemory(t *testing.T) {
	const size = 40
	at := 16 * runtime.GOMAXPROCS(0)
	value := make([]byte, 1<<20)
	for _, codec := range allCodecs[1:] {
		w := NewBuilder(codec)
		for range size {
			w.Add(&Record{Value: value})
		}
		b, err := w.Build()
		if err != nil {
			t.Fatal(err)
		}
		var before, now runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var inspecting sync.WaitGroup
		for range at {
			inspecting.Go(func() {
				seen := map[int32]bool{}
				if err := b.Inspect(2*size<<20, func(f Fields) { seen[f.Index] = true }); err != nil || len(seen) != size {
					t.Errorf("%v: %d records, %v", codec, len(seen), err)
				}
			})
		}
		ended := make(chan struct{})
		go func() {
			inspecting.Wait()
			close(ended)
		}()
		peak := uint64(0)
		for waiting := true; waiting; {
			select {
			case <-ended:
				waiting = false
			case <-time.After(5 * time.Millisecond):
			}
			runtime.ReadMemStats(&now)
			peak = max(peak, now.HeapInuse)
		}
		allowed := uint64(70<<20) * uint64(runtime.GOMAXPROCS(0)) // garbage counts, too
		if took := peak - min(peak, before.HeapInuse); took > allowed {
			t.Errorf("%v: %d MiB are taken to look at %d batches of %d MiB", codec, took>>20, at, size)
		} else {
			t.Logf("%v: %d MiB", codec, took>>20)
		}
		if err := b.Inspect(size/2<<20, func(Fields) {}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: %d MiB where half is allowed: %v", codec, size, err)
		}
	}
}

// TestFramesOfLZ4: what has large blocks is looked at nonetheless, and what is no frame is refused.
func TestFramesOfLZ4(t *testing.T) {
	w := NewBuilder(None)
	w.Add(&Record{Value: make([]byte, 600_000)})
	for _, size := range []lz4.BlockSize{lz4.Block64Kb, lz4.Block1Mb, lz4.Block4Mb} {
		var frame bytes.Buffer
		z := lz4.NewWriter(&frame)
		if err := z.Apply(lz4.BlockSizeOption(size)); err != nil {
			t.Fatal(err)
		}
		_, _ = z.Write(w.records)
		_ = z.Close()
		alone := size == lz4.Block4Mb
		if err := checkLZ4Frame(frame.Bytes(), quick); errors.Is(err, errNextTier) != alone {
			t.Errorf("blocks of %d bytes: %v", size, err)
		}
		if err := compressed(LZ4, frame.Bytes(), 1).Inspect(1<<20, func(Fields) {}); err != nil {
			t.Errorf("blocks of %d bytes: %v", size, err)
		}
	}
	var before bytes.Buffer
	z := lz4.NewWriter(&before)
	if err := z.Apply(lz4.LegacyOption(true)); err != nil {
		t.Fatal(err)
	}
	_, _ = z.Write(w.records)
	_ = z.Close()
	for _, src := range [][]byte{before.Bytes(), nil, []byte("lz4")} {
		if err := compressed(LZ4, src, 1).Inspect(1<<20, func(Fields) {}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes that are no frame: %v", len(src), err)
		}
	}
}

// compressed makes a batch of records that are compressed already.
func compressed(codec Codec, records []byte, count int) Batch {
	b := append(bytes.Clone(batchWithout(codec)), records...)
	batch := Batch(b)
	batch.putI32(lengthAt, int32(len(b)-MinFrame))
	batch.putI32(countAt, int32(count))
	batch.seal()
	return batch
}

// batchWithout is the header of a batch.
func batchWithout(codec Codec) []byte {
	b, err := NewBuilder(None).Build()
	if err != nil {
		panic(err)
	}
	b.setAttributes(int16(codec))
	return b[:HeaderSize]
}

// TestLargeOnesWait: what takes much memory to look at is looked at alone.
func TestLargeOnesWait(t *testing.T) {
	w := NewBuilder(None)
	w.Add(&Record{Value: make([]byte, 20<<20)})
	one := bytes.Clone(w.records)
	w.Add(&Record{Value: []byte("small")})
	window, err := zstd.NewWriter(nil, zstd.WithWindowSize(64<<20), zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		codec   Codec
		records []byte
		count   int
	}{
		{"one record", Gzip, must(Compress(nil, Gzip, DefaultLevel, one)), 1},
		{"a block of snappy without framing", Snappy, snappy.Encode(nil, w.records), 2},
		{"a window of zstd", Zstd, window.EncodeAll(w.records, nil), 2},
	} {
		b := compressed(tc.codec, tc.records, tc.count)
		var seen []int32
		err := b.Inspect(64<<20, func(f Fields) {
			if int(f.Index) == tc.count-1 && len(Incoming[large]) == 0 {
				t.Errorf("%s is seen by many at a time", tc.name)
			}
			seen = append(seen, f.Index)
		})
		if err != nil || len(seen) < tc.count || seen[len(seen)-1] != int32(tc.count-1) {
			t.Errorf("%s: records %v, %v", tc.name, seen, err)
		}
	}
}

// TestTooLargeAtLast: what passes the limit, or is more than may be even alone, says so.
func TestTooLargeAtLast(t *testing.T) {
	w := NewBuilder(None)
	w.Add(&Record{Value: make([]byte, 20<<20)})
	var frame bytes.Buffer
	huge, err := zstd.NewWriter(&frame, zstd.WithWindowSize(2*largeMemory))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = huge.Write(w.records)
	_ = huge.Close()
	for limit, want := range map[int]error{len(w.records) - 1: ErrTooLarge, len(w.records): nil} {
		err := compressed(Gzip, must(Compress(nil, Gzip, DefaultLevel, w.records)), 1).Inspect(limit, func(Fields) {})
		if !errors.Is(err, want) {
			t.Errorf("%d bytes where %d are allowed: %v", len(w.records), limit, err)
		}
	}
	b := compressed(Zstd, frame.Bytes(), 1)
	if err := b.Inspect(MaxRecordsBytes, func(Fields) {}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a window of %d MiB: %v", 2*largeMemory>>20, err)
	}
	if _, err := b.Records(MaxRecordsBytes); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a window of %d MiB: %v", 2*largeMemory>>20, err)
	}
}

// TestSnappyPromises: a block that says it becomes very large takes no memory for that.
func TestSnappyPromises(t *testing.T) {
	block := append(binary.AppendUvarint(nil, 400<<20), 0, 'x')
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := compressed(Snappy, block, 1).Inspect(MaxRecordsBytes, func(Fields) {})
	runtime.ReadMemStats(&after)
	if !errors.Is(err, ErrCorrupt) || after.TotalAlloc-before.TotalAlloc > 1<<20 {
		t.Errorf("%v, after %d bytes", err, after.TotalAlloc-before.TotalAlloc)
	}
}

// TestSnappyWithinLimit: a block that passes the limit is not decompressed, nor is memory taken for it.
func TestSnappyWithinLimit(t *testing.T) {
	block := snappy.Encode(nil, make([]byte, 20<<20))
	for _, limit := range []int{1000, 9 << 20} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := compressed(Snappy, block, 1).Inspect(limit, func(Fields) {})
		_, all := Decompress(Snappy, block, limit)
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, ErrTooLarge) || !errors.Is(all, ErrTooLarge) || took > 4<<20 {
			t.Errorf("20 MiB where %d bytes are allowed: %v, %v, and %d bytes are taken", limit, err, all, took)
		}
	}
}

// TestWindowsBesideSmallLimits: what is small is decompressed, whatever window of zstd it says it wants.
func TestWindowsBesideSmallLimits(t *testing.T) {
	w := NewBuilder(None)
	w.Add(&Record{Value: make([]byte, 300_000)})
	var frame bytes.Buffer
	z, err := zstd.NewWriter(&frame, zstd.WithWindowSize(32<<20))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = z.Write(w.records[:1000])
	_ = z.Flush()
	_, _ = z.Write(w.records[1000:])
	_ = z.Close()
	if out, err := Decompress(Zstd, frame.Bytes(), 1<<20); err != nil || !bytes.Equal(out, w.records) {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	if err := compressed(Zstd, frame.Bytes(), 1).Inspect(1<<20, func(Fields) {}); err != nil {
		t.Error(err)
	}
}

// TestRecompress: from any codec to any other the records stay what they are.
func TestRecompress(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, from := range allCodecs {
		for _, to := range allCodecs {
			for _, size := range []int{0, 1, 1000, xerialBlock, 5 * xerialBlock, 1 << 20} {
				w := NewBuilder(from)
				w.ProducerID, w.ProducerEpoch, w.BaseSequence = 5, 6, 7
				value := make([]byte, size)
				for i := range value {
					value[i] = byte(rng.IntN(256))
				}
				for i := range 3 {
					w.Add(&Record{Timestamp: 100 + int64(i), Key: fmt.Append(nil, i), Value: value[:size/(i+1)], Headers: []Header{{"h", nil}}})
				}
				b, err := w.Build()
				if err != nil {
					t.Fatal(err)
				}
				name := fmt.Sprintf("%v to %v, %d bytes", from, to, size)
				limit := 16 << 20
				if from == None {
					limit = 1 // of what is decompressed
				}
				got, err := Recompress(b, to, DefaultLevel, limit, 16<<20)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if err := got.Check(); err != nil || got.Codec() != to || got.Size() != len(got) {
					t.Fatalf("%s: %v, codec %v, %d bytes in %d", name, err, got.Codec(), got.Size(), len(got))
				}
				before, after := must(b.Records(16<<20)), must(got.Records(16<<20))
				if !reflect.DeepEqual(before, after) || !bytes.Equal(b[attributesAt+2:HeaderSize], got[attributesAt+2:HeaderSize]) {
					t.Errorf("%s: records or header differ", name)
				}
				if _, err := Recompress(b, to, DefaultLevel, 16<<20, len(got)-1); !errors.Is(err, ErrOutgrows) {
					t.Errorf("%s: in one byte too few: %v", name, err)
				}
			}
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
