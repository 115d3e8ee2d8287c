package command

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
)

// reading is what kraft consume reads, and where it is to end. One goroutine uses it.
type reading struct {
	client *kgo.Client
	topic  *ops.FoundTopic
	group  string
	own    *ownPartitions
	// With --exit-at-end, else nil: the partitions that are not read up to the end yet, the offset to be read next, and the end.
	next, ends map[int32]int64
}

func newReading(c *cli.Context, client *kgo.Client, topic *ops.FoundTopic, own *ownPartitions) (*reading, error) {
	r := &reading{client: client, topic: topic, group: c.String("group"), own: own}
	if !c.Bool("exit-at-end") {
		return r, nil
	}
	var err error
	if r.next, r.ends, err = r.extent(c); err != nil {
		return nil, fmt.Errorf("cannot find the end of %s: %w", topic.Name, ops.Explain(err, ""))
	}
	for p, end := range r.ends {
		if r.next[p] >= end {
			r.close(p)
		}
	}
	return r, nil
}

// extent is where reading begins and ends in each partition.
func (r *reading) extent(c *cli.Context) (begin, end map[int32]int64, err error) {
	admin := kadm.NewClient(r.client)
	list := func(of func(context.Context, ...string) (kadm.ListedOffsets, error)) (map[int32]int64, error) {
		listed, err := of(c.Context, r.topic.Name)
		if err == nil {
			err = listed.Error()
		}
		out := map[int32]int64{}
		listed.Each(func(o kadm.ListedOffset) { out[o.Partition] = o.Offset })
		return out, err
	}
	first, err := list(admin.ListStartOffsets)
	if err != nil {
		return nil, nil, err
	}
	if end, err = list(admin.ListEndOffsets); err != nil {
		return nil, nil, err
	}
	begin = maps.Clone(end)
	at := c.String("offset")
	n, numberErr := strconv.ParseInt(at, 10, 64)
	switch {
	case c.Bool("from-beginning") || slices.Contains(startWords, at):
		begin = maps.Clone(first)
	case at == "" || at == "end" || at == "latest":
	case numberErr == nil:
		for p := range begin {
			begin[p] = n
			if n < 0 {
				begin[p] = end[p] + n
			}
		}
	default:
		t, _ := parseMoment(at, time.Now()) // consumerOptions has checked it
		if begin, err = list(func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
			return admin.ListOffsetsAfterMilli(ctx, t.UnixMilli(), topics...)
		}); err != nil {
			return nil, nil, err
		}
	}
	if r.group != "" {
		committed, err := admin.FetchOffsets(c.Context, r.group)
		if err != nil {
			return nil, nil, err
		}
		for p := range begin {
			if o, ok := committed.Lookup(r.topic.Name, p); ok && o.At >= 0 {
				begin[p] = o.At
			}
		}
	}
	only := c.IntSlice("partition")
	for p := range end {
		begin[p] = max(begin[p], first[p])
		if len(only) > 0 && !slices.Contains(only, int(p)) {
			delete(end, p)
		}
	}
	return begin, end, nil
}

func (r *reading) close(partition int32) {
	delete(r.ends, partition)
	delete(r.next, partition)
}

// wants notes a record, and reports whether it lies before the end.
func (r *reading) wants(record *kgo.Record) bool {
	if r.ends == nil {
		return true
	}
	end, open := r.ends[record.Partition]
	if !open {
		return false
	}
	if r.next[record.Partition] = record.Offset + 1; record.Offset+1 >= end {
		r.close(record.Partition)
	}
	return record.Offset < end
}

// endPatience is how long --exit-at-end waits for records before it asks the leader whether there are any: the last offsets of a partition may
// hold none, after a compaction or where a transaction ended.
const endPatience = 500 * time.Millisecond

// poll waits for records; with --exit-at-end not for ever.
func (r *reading) poll(ctx context.Context, most int) kgo.Fetches {
	if r.ends != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, endPatience)
		defer cancel()
	}
	return r.client.PollRecords(ctx, most)
}

// looksForEnd drops the partitions that hold no record between the offset to be read next and the end.
func (r *reading) looksForEnd(ctx context.Context) error {
	for p, from := range maps.Clone(r.next) {
		if r.group != "" && !r.own.has(r.topic.Name, p) {
			continue
		}
		some, err := ops.HasRecords(ctx, r.client, r.topic, p, from, r.ends[p])
		if err != nil {
			return fmt.Errorf("cannot find the end of %s:%d: %w", r.topic.Name, p, ops.Explain(err, ""))
		}
		if !some {
			r.close(p)
		}
	}
	return nil
}

// done reports that everything up to the ends has been read: in a group, of the partitions that this member has.
func (r *reading) done() bool {
	if r.ends == nil {
		return false
	}
	if r.group == "" || len(r.ends) == 0 {
		return len(r.ends) == 0
	}
	if !r.own.known() {
		return false
	}
	for p := range r.ends {
		if r.own.has(r.topic.Name, p) {
			return false
		}
	}
	return true
}

// ownPartitions are those that the group has given this member. The client's goroutines write to it.
type ownPartitions struct {
	mu   sync.Mutex // guards the rest
	told bool
	of   map[string][]int32
}

func (o *ownPartitions) assigned(_ context.Context, _ *kgo.Client, more map[string][]int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.told = true; o.of == nil {
		o.of = map[string][]int32{}
	}
	for topic, partitions := range more {
		o.of[topic] = append(o.of[topic], partitions...)
	}
}

func (o *ownPartitions) revoked(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for topic, partitions := range gone {
		o.of[topic] = slices.DeleteFunc(o.of[topic], func(p int32) bool { return slices.Contains(partitions, p) })
	}
}

func (o *ownPartitions) known() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.told
}

func (o *ownPartitions) has(topic string, partition int32) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.of[topic], partition)
}

// announceWait says of an offset that is not there yet that its record is waited for.
func announceWait(c *cli.Context, client *kgo.Client, topic *ops.FoundTopic) error {
	n, err := strconv.ParseInt(c.String("offset"), 10, 64)
	if err != nil || n < 0 || c.Bool("exit-at-end") {
		return nil
	}
	ends, err := kadm.NewClient(client).ListEndOffsets(c.Context, topic.Name)
	if err != nil {
		return ops.Explain(err, "")
	}
	only := c.IntSlice("partition")
	for _, o := range ends.Offsets().Sorted() {
		if o.At < n && (len(only) == 0 || slices.Contains(only, int(o.Partition))) {
			fmt.Fprintf(c.App.ErrWriter, "kraft: %s:%d ends at %d: waiting for offset %d\n", o.Topic, o.Partition, o.At, n)
		}
	}
	return nil
}

// describe says what is read, from where on, and how to stop it.
func (r *reading) describe(c *cli.Context) string {
	what := counted(r.topic.Partitions, "partition")
	if only := c.IntSlice("partition"); len(only) > 0 {
		what = "partition " + strings.Trim(strings.Join(strings.Fields(fmt.Sprint(only)), ", "), "[]")
	}
	from := "from now on"
	switch at := c.String("offset"); {
	case r.group != "":
		from = fmt.Sprintf("as group %s, from its committed offsets on", r.group)
	case c.Bool("from-beginning") || slices.Contains(startWords, at):
		from = "from the beginning"
	case at == "end" || at == "latest" || at == "":
	case strings.HasPrefix(at, "-") && !strings.ContainsAny(at, "smhd"):
		from = "the last " + at[1:] + " of each partition"
	default:
		from = "from " + at + " on"
	}
	until := "Ctrl-C stops it"
	switch {
	case r.ends != nil:
		until = "to the end"
	case c.Int("n") > 0:
		until = "up to " + counted(c.Int("n"), "record")
	}
	return fmt.Sprintf("reading %s (%s) %s; %s", r.topic.Name, what, from, until)
}
