package ops

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Analysis is what the records of a topic are like.
type Analysis struct {
	Topic      string              `json:"topic"`
	Records    int64               `json:"records_read"`
	Complete   bool                `json:"complete"` // to the end, not only to --records
	Partitions []PartitionAnalysis `json:"partitions"`
	Codecs     map[string]int64    `json:"records_by_codec"`
	Tombstones int64               `json:"tombstones"` // records without a value
	Keyless    int64               `json:"records_without_key"`
	Largest    []KeyShare          `json:"largest_keys"`
}

// PartitionAnalysis is a partition of an Analysis.
type PartitionAnalysis struct {
	Partition int32   `json:"partition"`
	Stored    int64   `json:"stored_bytes"` // on the leader's disk; -1 if it cannot be asked
	Start     int64   `json:"start_offset"`
	End       int64   `json:"end_offset"`
	Records   int64   `json:"records_read"`
	Bytes     int64   `json:"bytes_read"` // of keys and values
	Largest   int     `json:"largest_record_bytes"`
	Oldest    int64   `json:"oldest_timestamp"` // of what was read; -1 for nothing
	Newest    int64   `json:"newest_timestamp"`
	Rate      float64 `json:"records_per_second"`
}

// KeyShare is a key with what its records take.
type KeyShare struct {
	Key     string `json:"key"`
	Records int64  `json:"records"`
	Bytes   int64  `json:"bytes"`
}

// Analyze reads a topic from a place to its end as it is now, but not more than a number of records, and finds the keys that take the most
// bytes, keys of them. connect makes a client that consumes with the given options.
func Analyze(ctx context.Context, admin *kadm.Client, connect func(...kgo.Opt) (*kgo.Client, error), topic string, from kgo.Offset, records int64, keys int) (*Analysis, error) {
	a, err := beginAnalysis(ctx, admin, topic)
	if err != nil {
		return nil, err
	}
	return a, a.read(ctx, connect, from, records, keys)
}

// beginAnalysis finds out where partitions begin and end, and how large they are on disk.
func beginAnalysis(ctx context.Context, admin *kadm.Client, topic string) (*Analysis, error) {
	d, err := DescribeTopic(ctx, admin, topic)
	var lacking Lacking
	if err := lacking.Of(err); err != nil {
		return nil, err
	}
	a := &Analysis{Topic: topic, Codecs: map[string]int64{}, Largest: []KeyShare{}}
	set := kadm.TopicsSet{}
	for _, p := range d.Partitions {
		set.Add(topic, p.Partition)
	}
	dirs, _ := admin.DescribeAllLogDirs(ctx, set)
	for _, p := range d.Partitions {
		if p.Start == nil || p.End == nil {
			return nil, fmt.Errorf("topic %s: partition %d: its leader does not answer: %w", topic, p.Partition, &lacking)
		}
		stored := int64(-1)
		if on, ok := dirs[p.Leader]; ok {
			on.EachPartition(func(found kadm.DescribedLogDirPartition) {
				if found.Topic == topic && found.Partition == p.Partition && !found.IsFuture {
					stored = found.Size
				}
			})
		}
		a.Partitions = append(a.Partitions, PartitionAnalysis{Partition: p.Partition, Stored: stored, Start: *p.Start, End: *p.End, Oldest: -1, Newest: -1})
	}
	return a, nil
}

// read reads until all partitions are at the ends that they had, or there are enough.
func (a *Analysis) read(ctx context.Context, connect func(...kgo.Opt) (*kgo.Client, error), from kgo.Offset, records int64, keep int) error {
	begin := map[int32]kgo.Offset{}
	open := map[int32]*PartitionAnalysis{}
	for i := range a.Partitions {
		if p := &a.Partitions[i]; p.Start < p.End {
			begin[p.Partition], open[p.Partition] = from, p
		}
	}
	a.Complete = true
	if len(open) == 0 {
		return nil
	}
	client, err := connect(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{a.Topic: begin}), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.Close()
	keys := newHeavyKeys(trackedKeys)
	quiet := 0
	for len(open) > 0 && a.Records < records {
		polling, cancel := context.WithTimeout(ctx, time.Second)
		fetches := client.PollFetches(polling)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := fetches.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return Explain(err, "")
		}
		fetches.EachRecord(func(r *kgo.Record) {
			p := open[r.Partition]
			if p == nil || a.Records >= records {
				return
			}
			if r.Offset < p.End {
				a.add(p, r, keys)
			}
			if r.Offset >= p.End-1 {
				delete(open, r.Partition)
			}
		})
		// A partition may end in what no reader sees: markers, records that were compacted away.
		if quiet++; fetches.NumRecords() > 0 {
			quiet = 0
		}
		if quiet > patientPolls {
			break
		}
	}
	a.Complete = a.Records < records || len(open) == 0
	for i := range a.Partitions {
		if p := &a.Partitions[i]; p.Newest > p.Oldest {
			p.Rate = float64(p.Records) / (float64(p.Newest-p.Oldest) / 1000)
		}
	}
	a.Largest = keys.largest(keep)
	return nil
}

const (
	trackedKeys  = 100_000 // at a time
	patientPolls = 2       // of a second without a record: the end of what can be seen
)

func (a *Analysis) add(p *PartitionAnalysis, r *kgo.Record, keys *heavyKeys) {
	a.Records++
	size := len(r.Key) + len(r.Value)
	ms := r.Timestamp.UnixMilli()
	if p.Records == 0 {
		p.Oldest, p.Newest = ms, ms
	}
	p.Records++
	p.Bytes += int64(size)
	p.Largest = max(p.Largest, size)
	p.Oldest, p.Newest = min(p.Oldest, ms), max(p.Newest, ms)
	a.Codecs[codecNames[r.Attrs.CompressionType()]]++
	if r.Value == nil {
		a.Tombstones++
	}
	if r.Key == nil {
		a.Keyless++
		return
	}
	keys.add(string(r.Key), int64(size))
}

var codecNames = map[uint8]string{0: "uncompressed", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}

// heavyKeys finds the keys that take the most bytes in bounded memory, as Space-Saving does in batches: when there are too many, the
// lighter half goes, and a key that comes later starts with what the heaviest of those had.
type heavyKeys struct {
	room  int
	floor int64 // what a key that is not known may have had at most
	known map[string]*KeyShare
}

func newHeavyKeys(room int) *heavyKeys { return &heavyKeys{room: room, known: map[string]*KeyShare{}} }

func (h *heavyKeys) add(key string, bytes int64) {
	k := h.known[key]
	if k == nil {
		if len(h.known) >= h.room {
			h.shrink()
		}
		k = &KeyShare{Key: *Readable([]byte(key)), Bytes: h.floor}
		h.known[key] = k
	}
	k.Records++
	k.Bytes += bytes
}

func (h *heavyKeys) shrink() {
	sizes := make([]int64, 0, len(h.known))
	for _, k := range h.known {
		sizes = append(sizes, k.Bytes)
	}
	slices.Sort(sizes)
	h.floor = sizes[len(sizes)/2]
	for key, k := range h.known {
		if k.Bytes <= h.floor {
			delete(h.known, key)
		}
	}
}

func (h *heavyKeys) largest(n int) []KeyShare {
	out := []KeyShare{}
	for _, k := range h.known {
		out = append(out, *k)
	}
	slices.SortFunc(out, func(a, b KeyShare) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Key, b.Key)) })
	return out[:min(n, len(out))]
}

// Readable returns bytes as text, or in hexadecimal if they are not UTF-8; nil for nil.
func Readable(b []byte) *string {
	if b == nil {
		return nil
	}
	s := string(b)
	if !utf8.ValidString(s) {
		s = "0x" + hex.EncodeToString(b)
	}
	return &s
}
