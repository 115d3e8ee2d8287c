package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"
)

func analyzeCommand() *cli.Command {
	return &cli.Command{
		Name: "analyze", Usage: "read a topic and tell its size, its rate, and the keys that take most", UsageText: "kraft topic analyze TOPIC [--offset WHERE] [--records N] [--keys N]",
		Description: `Reads from WHERE to the end as it is now, --records at most, and tells of each partition how many records there are, how large they
are and how many come a second; of all, which codecs batches have, and which keys take the most bytes. Of very many keys the
counts of the largest are a little too high at worst.

   kraft topic analyze orders --offset -1h`,
		OnUsageError: usageError, Action: withArguments(analyzeTopic),
		Flags: []cli.Flag{
			bootstrapFlag(), jsonFlag(),
			&cli.StringFlag{Name: "offset", Aliases: []string{"o"}, Value: "start", Usage: "begin at `WHERE`: start, an offset, so many before the end (-1000), a time or so long ago (-1h)"},
			&cli.Int64Flag{Name: "records", Aliases: []string{"n"}, Value: 1_000_000, Usage: "read `N` records at most"},
			&cli.IntFlag{Name: "keys", Value: 10, Usage: "tell the `N` keys that take most"},
		},
	}
}

// analysis is what topic analyze tells.
type analysis struct {
	Topic      string              `json:"topic"`
	Records    int64               `json:"records_read"`
	Complete   bool                `json:"complete"` // to the end, not only to --records
	Partitions []partitionAnalysis `json:"partitions"`
	Codecs     map[string]int64    `json:"records_by_codec"`
	Tombstones int64               `json:"tombstones"` // records without a value
	Keyless    int64               `json:"records_without_key"`
	Largest    []keyShare          `json:"largest_keys"`
}

type partitionAnalysis struct {
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

type keyShare struct {
	Key     string `json:"key"`
	Records int64  `json:"records"`
	Bytes   int64  `json:"bytes"`
}

func (a *analysis) text(w io.Writer) error {
	rows := [][]any{{"PARTITION", "STORED", "START", "END", "READ", "BYTES", "MEAN", "LARGEST", "RECORDS/S", "OLDEST", "NEWEST"}}
	for _, p := range a.Partitions {
		oldest, newest, stored := "-", "-", "-"
		if p.Records > 0 {
			oldest, newest = moment(p.Oldest), moment(p.Newest)
		}
		if p.Stored >= 0 {
			stored = fmt.Sprint(p.Stored)
		}
		rows = append(rows, []any{p.Partition, stored, p.Start, p.End, p.Records, p.Bytes, p.Bytes / max(p.Records, 1), p.Largest, fmt.Sprintf("%.1f", p.Rate), oldest, newest})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%d records read, %d without a key, %d without a value", a.Records, a.Keyless, a.Tombstones)
	for _, codec := range sortedKeys(a.Codecs) {
		fmt.Fprintf(w, ", %d %s", a.Codecs[codec], codec)
	}
	fmt.Fprintln(w)
	if !a.Complete {
		fmt.Fprintln(w, "there are more: --records reads further")
	}
	if len(a.Largest) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	rows = [][]any{{"KEY", "RECORDS", "BYTES"}}
	for _, k := range a.Largest {
		rows = append(rows, []any{k.Key, k.Records, k.Bytes})
	}
	return table(w, rows)
}

func analyzeTopic(c *cli.Context, args []string) error {
	if len(args) != 1 {
		return badUse("kraft topic analyze takes one topic")
	}
	if c.Int64("records") <= 0 || c.Int("keys") < 0 {
		return badUse("--records is a number above 0, and --keys one from 0 on")
	}
	from, err := parseOffset(c.String("offset"), time.Now())
	if err != nil {
		return err
	}
	topic := args[0]
	return withAdmin(c, func(admin *kadm.Client) error {
		a, err := beginAnalysis(c, admin, topic)
		if err != nil {
			return err
		}
		if err := a.read(c, from); err != nil {
			return err
		}
		return tell(c, a)
	})
}

// beginAnalysis finds out where partitions begin and end, and how large they are on disk.
func beginAnalysis(c *cli.Context, admin *kadm.Client, topic string) (*analysis, error) {
	d, err := describeTopic(c, admin, topic)
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", topic, err)
	}
	a := &analysis{Topic: topic, Codecs: map[string]int64{}, Largest: []keyShare{}}
	set := kadm.TopicsSet{}
	for _, p := range d.Partitions {
		set.Add(topic, p.Partition)
	}
	dirs, _ := admin.DescribeAllLogDirs(c.Context, set)
	for _, p := range d.Partitions {
		if p.Start == nil || p.End == nil {
			return nil, fmt.Errorf("topic %s: partition %d has no leader that answers", topic, p.Partition)
		}
		stored := int64(-1)
		if on, ok := dirs[p.Leader]; ok {
			on.EachPartition(func(found kadm.DescribedLogDirPartition) {
				if found.Topic == topic && found.Partition == p.Partition && !found.IsFuture {
					stored = found.Size
				}
			})
		}
		a.Partitions = append(a.Partitions, partitionAnalysis{Partition: p.Partition, Stored: stored, Start: *p.Start, End: *p.End, Oldest: -1, Newest: -1})
	}
	return a, nil
}

// read reads until all partitions are at the ends that they had, or there are enough.
func (a *analysis) read(c *cli.Context, from kgo.Offset) error {
	begin := map[int32]kgo.Offset{}
	open := map[int32]*partitionAnalysis{}
	for i := range a.Partitions {
		if p := &a.Partitions[i]; p.Start < p.End {
			begin[p.Partition], open[p.Partition] = from, p
		}
	}
	a.Complete = true
	if len(open) == 0 {
		return nil
	}
	client, err := newClient(c, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{a.Topic: begin}), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.Close()
	keys := newHeavyKeys(trackedKeys)
	quiet := 0
	for len(open) > 0 && a.Records < c.Int64("records") {
		ctx, cancel := context.WithTimeout(c.Context, time.Second)
		fetches := client.PollFetches(ctx)
		cancel()
		if c.Context.Err() != nil {
			return c.Context.Err()
		}
		if err := fetches.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return explain(err, "")
		}
		fetches.EachRecord(func(r *kgo.Record) {
			p := open[r.Partition]
			if p == nil || a.Records >= c.Int64("records") {
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
	a.Complete = a.Records < c.Int64("records") || len(open) == 0
	for i := range a.Partitions {
		if p := &a.Partitions[i]; p.Newest > p.Oldest {
			p.Rate = float64(p.Records) / (float64(p.Newest-p.Oldest) / 1000)
		}
	}
	a.Largest = keys.largest(c.Int("keys"))
	return nil
}

const (
	trackedKeys  = 100_000 // at a time
	patientPolls = 2       // of a second without a record: the end of what can be seen
)

func (a *analysis) add(p *partitionAnalysis, r *kgo.Record, keys *heavyKeys) {
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
	known map[string]*keyShare
}

func newHeavyKeys(room int) *heavyKeys { return &heavyKeys{room: room, known: map[string]*keyShare{}} }

func (h *heavyKeys) add(key string, bytes int64) {
	k := h.known[key]
	if k == nil {
		if len(h.known) >= h.room {
			h.shrink()
		}
		k = &keyShare{Key: *readable([]byte(key)), Bytes: h.floor}
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

func (h *heavyKeys) largest(n int) []keyShare {
	out := []keyShare{}
	for _, k := range h.known {
		out = append(out, *k)
	}
	slices.SortFunc(out, func(a, b keyShare) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Key, b.Key)) })
	return out[:min(n, len(out))]
}
