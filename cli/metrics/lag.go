package metrics

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/ident"
	"kraft/wire/record"
)

// reader is a group's place in a partition.
type reader struct {
	ident.TopicPartition
	offset int64
}

// remoteLags asks leaders about partitions that this broker has no replica of, between scrapes: a scrape does not wait for others.
type remoteLags struct {
	sources Sources
	ctx     context.Context // ends with close
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex // guards the rest
	last   map[reader]lag
	asked  time.Time
	asking bool
}

const (
	lagInterval = 5 * time.Second // between questions to leaders
	lagPatience = 2 * time.Second
	mostRemote  = 10_000 // partitions asked about at once
)

func newRemoteLags(s Sources) *remoteLags {
	r := &remoteLags{sources: s, last: map[reader]lag{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

func (r *remoteLags) close() {
	r.cancel()
	r.running.Wait()
}

// known is what a leader said last.
func (r *remoteLags) known(at reader) (lag, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, ok := r.last[at]
	return l, ok
}

// refresh has leaders asked, unless they were a moment ago.
func (r *remoteLags) refresh(readers []reader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(readers) == 0 || r.asking || r.ctx.Err() != nil || time.Since(r.asked) < lagInterval {
		return
	}
	r.asking = true
	r.running.Go(func() {
		answers := r.ask(readers[:min(len(readers), mostRemote)])
		r.mu.Lock()
		defer r.mu.Unlock()
		r.last, r.asked, r.asking = answers, time.Now(), false
	})
}

func (r *remoteLags) ask(readers []reader) map[reader]lag {
	img := r.sources.Meta.Image()
	byLeader := map[string][]reader{}
	for _, at := range readers {
		t, _ := img.Topic(at.Topic)
		p, ok := t.Partition(at.Partition)
		if !ok {
			continue
		}
		if b, ok := img.Broker(p.Leader); ok {
			if e, ok := b.Endpoint(r.sources.InterBroker); ok {
				byLeader[e.Address()] = append(byLeader[e.Address()], at)
			}
		}
	}
	ctx, cancel := context.WithTimeout(r.ctx, lagPatience)
	defer cancel()
	out := map[reader]lag{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for address, readers := range byLeader {
		asking.Go(func() {
			cl := wire.NewClient(r.sources.Dial, address, "kraft-metrics")
			defer cl.Close()
			// A partition is once in a request: groups that read the same one are asked for one after the other.
			for len(readers) > 0 && ctx.Err() == nil {
				var now, later []reader
				seen := map[ident.TopicPartition]bool{}
				for _, at := range readers {
					if seen[at.TopicPartition] {
						later = append(later, at)
					} else {
						seen[at.TopicPartition] = true
						now = append(now, at)
					}
				}
				lags, err := askLeader(ctx, cl, img, now)
				if err != nil {
					return
				}
				mu.Lock()
				for at, l := range lags {
					out[at] = l
				}
				mu.Unlock()
				readers = later
			}
		})
	}
	asking.Wait()
	return out
}

// askLeader fetches the first batch that each has yet to read, of which the header is enough.
func askLeader(ctx context.Context, cl *wire.Client, img *image.Image, readers []reader) (map[reader]lag, error) {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxBytes, req.SessionEpoch = -1, 1<<20, -1
	byTopic, names := map[string]int{}, map[image.UUID]string{}
	for _, at := range readers {
		i, ok := byTopic[at.Topic]
		if !ok {
			i = len(req.Topics)
			byTopic[at.Topic] = i
			t := kmsg.NewFetchRequestTopic()
			t.Topic = at.Topic
			if known, ok := img.Topic(at.Topic); ok {
				t.TopicID = known.ID
				names[known.ID] = at.Topic
			}
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = at.Partition, at.offset, record.HeaderSize, -1
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	answer, err := cl.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	offsets := map[ident.TopicPartition]int64{}
	for _, at := range readers {
		offsets[at.TopicPartition] = at.offset
	}
	out := map[reader]lag{}
	for _, t := range answer.(*kmsg.FetchResponse).Topics {
		for _, p := range t.Partitions {
			tp := ident.TopicPartition{Topic: names[t.TopicID], Partition: p.Partition}
			if offset, ok := offsets[tp]; ok && p.ErrorCode == 0 {
				l := lag{records: max(0, p.HighWatermark-max(offset, p.LogStartOffset))}
				if l.records > 0 && len(p.RecordBatches) >= record.HeaderSize {
					l.oldest = time.UnixMilli(record.Batch(p.RecordBatches).BaseTimestamp())
				}
				out[reader{tp, offset}] = l
			}
		}
	}
	return out, nil
}
