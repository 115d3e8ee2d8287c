package storage

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/wire/record"
)

// TestTrustCompressed: with log.check.compressed.records=false what is in a compressed batch is not looked at, but for keys that a compacted
// topic needs; otherwise it is.
func TestTrustCompressed(t *testing.T) {
	w := record.NewBuilder(record.Zstd)
	w.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte("v")})
	w.Add(&record.Record{Timestamp: time.Now().Add(72 * time.Hour).UnixMilli(), Value: []byte("v")})
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
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
