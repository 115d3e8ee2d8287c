package storage

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire/record"
)

// FuzzAppend: franz-go reads whatever a log takes, in as many records as the log counts, and a lookup by time finds none newer than what
// is there.
func FuzzAppend(f *testing.F) {
	now := time.UnixMilli(1_700_000_000_000)
	for codec := range record.Codec(5) {
		for _, n := range []int{1, 3} {
			w := record.NewBuilder(codec)
			for i := range n {
				w.Add(&record.Record{Timestamp: now.UnixMilli() + int64(i), Key: []byte("key"), Value: []byte("a value, a value, a value"), Headers: []record.Header{{Key: "h", Value: []byte("v")}}})
			}
			b, err := w.Build()
			if err != nil {
				f.Fatal(err)
			}
			f.Add([]byte(b))
		}
	}
	l, err := testManager(f, f.TempDir()).Open(testTP, testID, [16]byte{}, DefaultLogConfig())
	if err != nil {
		f.Fatal(err)
	}
	decompress := kgo.DefaultDecompressor()
	f.Fuzz(func(t *testing.T, data []byte) {
		const length, crc, attributes = 8, 17, 21
		if len(data) < record.HeaderSize {
			return
		}
		data = append([]byte{}, data...) // with the length and the checksum that it should have, or nearly none were taken
		binary.BigEndian.PutUint32(data[length:], uint32(len(data)-12))
		binary.BigEndian.PutUint32(data[crc:], crc32.Checksum(data[attributes:], crc32.MakeTable(crc32.Castagnoli)))
		a, err := l.Append(data, 0, now)
		if err != nil || a.Duplicate {
			return
		}
		l.SetHighWatermark(a.Last + 1)
		s, err := l.Read(a.First, 16<<20, a.Last+1, true)
		if err != nil {
			t.Fatal(err)
		}
		stored := make([]byte, s.Length)
		if _, err := s.File.ReadAt(stored, s.Offset); err != nil {
			t.Fatal(err)
		}
		resp := kmsg.NewFetchResponseTopicPartition()
		resp.RecordBatches = stored
		got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: a.First, KeepControlRecords: true}, &resp, decompress, nil)
		if got.Err != nil || int64(len(got.Records)) != a.Last-a.First+1 || next != a.Last+1 {
			t.Fatalf("of %d to %d are read %d records, up to %d: %v", a.First, a.Last, len(got.Records), next, got.Err)
		}
		b, _, err := record.Next(stored)
		if err != nil {
			t.Fatal(err)
		}
		records, err := b.Records(16 << 20) // franz-go's times are of nanoseconds, and end in the year 2262
		if err != nil {
			t.Fatal(err)
		}
		newest := records[0].Timestamp
		for _, r := range records {
			newest = max(newest, r.Timestamp)
		}
		if b.MaxTimestamp() != newest {
			t.Fatalf("the newest timestamp of the records is %d, of the batch %d", newest, b.MaxTimestamp())
		}
	})
}
