package storage

import (
	"fmt"
	"testing"
	"time"

	"kraft/wire/record"
)

// BenchmarkValidate is what a batch of 1 MiB costs before it is written, beside its checksum alone, which is what it costs where batches are
// not looked into.
func BenchmarkValidate(b *testing.B) {
	for codec := range record.Codec(5) {
		w := record.NewBuilder(codec)
		for i := range 1000 {
			value := fmt.Appendf(nil, `{"id":%d,"name":"customer %d","amount":%d.%02d,"note":"%0700d"}`, i, i*7919%1000, i*31%500, i%100, i)
			w.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Key: fmt.Append(nil, i), Value: value})
		}
		batch, err := w.Build()
		if err != nil {
			b.Fatal(err)
		}
		c := DefaultLogConfig()
		b.Run(codec.String()+"/all", func(b *testing.B) {
			for b.Loop() {
				if _, _, err := validate(batch, c, time.Now()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(codec.String()+"/checksum", func(b *testing.B) {
			for b.Loop() {
				if err := batch.Check(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
