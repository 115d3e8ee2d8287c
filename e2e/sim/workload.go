package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// workload is the clients of one simulation, each on a host of its own.
type workload struct {
	network *Network
	history *History
	seeds   []string
	parts   []partition
	unclean string // the topic that may lose records, "" for none

	stop    context.CancelFunc // of what goes on until it is told to end
	ctx     context.Context
	running sync.WaitGroup // all clients
}

const (
	groupName    = "readers"
	producePause = 40 * time.Millisecond // at most, between two records of a producer
	watchPause   = 300 * time.Millisecond
)

func clientName(i int) string { return fmt.Sprintf("10.0.1.%d", i) }

// client makes a client on its own host.
func (w *workload) client(i int, more ...kgo.Opt) (*kgo.Client, error) {
	name := clientName(i)
	w.network.Up(name)
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(w.seeds...),
		kgo.Dialer(func(ctx context.Context, _, host string) (net.Conn, error) { return w.network.Dial(ctx, name, host) }),
		kgo.WithLogger(clientLog{w.history, fmt.Sprintf("client %d", i)}),
		kgo.MetadataMinAge(50 * time.Millisecond), kgo.MetadataMaxAge(5 * time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
		kgo.RequestTimeoutOverhead(5 * time.Second), kgo.ConnIdleTimeout(time.Minute),
	}, more...)...)
}

// produce sends records of a producer to random partitions until the workload stops, and waits until all are
// acknowledged, or end is over.
func (w *workload) produce(end context.Context, i int, idempotent bool, rng *rand.Rand) error {
	opts := []kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(time.Millisecond), kgo.ProduceRequestTimeout(5 * time.Second), kgo.UnknownTopicRetries(-1)}
	if !idempotent {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	cl, err := w.client(i, opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	for n := 0; w.ctx.Err() == nil; n++ {
		p := w.parts[rng.IntN(len(w.parts))]
		value := fmt.Sprintf("p%d-%d", i, n)
		w.history.sends(value, attempt{to: p, producer: i, n: n, idempotent: idempotent})
		cl.Produce(end, &kgo.Record{Topic: p.topic, Partition: p.n, Value: []byte(value)}, func(r *kgo.Record, err error) {
			if err == nil {
				w.history.acked(value, r.Offset)
			} else {
				w.history.say("%s failed: %v", value, err)
			}
		})
		w.pause(producePause, rng)
	}
	return cl.Flush(end)
}

// pause waits a random time, or until the workload stops.
func (w *workload) pause(atMost time.Duration, rng *rand.Rand) {
	select {
	case <-w.ctx.Done():
	case <-time.After(time.Duration(1 + rng.Int64N(int64(atMost)))):
	}
}

// consume reads all partitions from their beginning.
func (w *workload) consume(i int) error {
	offsets := map[string]map[int32]kgo.Offset{}
	for _, p := range w.parts {
		if offsets[p.topic] == nil {
			offsets[p.topic] = map[int32]kgo.Offset{}
		}
		offsets[p.topic][p.n] = kgo.NewOffset().AtStart()
	}
	cl, err := w.client(i, kgo.ConsumePartitions(offsets), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	next := map[partition]int64{}
	for w.ctx.Err() == nil {
		cl.PollFetches(w.ctx).EachRecord(func(r *kgo.Record) {
			p := partition{r.Topic, r.Partition}
			w.history.read(fmt.Sprintf("consumer %d", i), place{p, r.Offset}, string(r.Value))
			if r.Offset != next[p] && p.topic != w.unclean {
				w.history.wrong("gap read", "consumer %d reads %s/%d after %d", i, p, r.Offset, next[p]-1)
			}
			next[p] = r.Offset + 1
		})
	}
	return nil
}

// group reads as a member of a group, and commits what it has read.
func (w *workload) group(i int, rng *rand.Rand) error {
	who := fmt.Sprintf("member %d", i)
	cl, err := w.client(i, kgo.ConsumerGroup(groupName), kgo.ConsumeTopics(w.topics()...), kgo.DisableAutoCommit(), kgo.FetchMaxWait(500*time.Millisecond),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(time.Second), kgo.RebalanceTimeout(6*time.Second), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer cl.Close()
	for w.ctx.Err() == nil {
		cl.PollFetches(w.ctx).EachRecord(func(r *kgo.Record) {
			w.history.read(who, place{partition{r.Topic, r.Partition}, r.Offset}, string(r.Value))
		})
		cl.CommitOffsetsSync(w.ctx, cl.UncommittedOffsets(), func(_ *kgo.Client, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			if err == nil {
				w.noteCommits(who, req, resp)
			}
		})
		w.pause(200*time.Millisecond, rng)
	}
	return nil
}

// noteCommits notes what of an OffsetCommit succeeded.
func (w *workload) noteCommits(who string, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse) {
	good := map[partition]bool{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			good[partition{t.Topic, p.Partition}] = p.ErrorCode == 0
		}
	}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			if at := (partition{t.Topic, p.Partition}); good[at] {
				w.history.committed(who, at, p.Offset)
			}
		}
	}
}

// watch asks for high watermarks, leaders and committed offsets, again and again.
func (w *workload) watch(i int, rng *rand.Rand) error {
	cl, err := w.client(i)
	if err != nil {
		return err
	}
	defer cl.Close()
	for w.ctx.Err() == nil {
		w.look(w.ctx, cl)
		w.pause(watchPause, rng)
	}
	return nil
}

// look asks once. What is not answered is no fault.
func (w *workload) look(ctx context.Context, cl *kgo.Client) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	admin := kadm.NewClient(cl)
	if ends, err := admin.ListEndOffsets(ctx, w.topics()...); err == nil {
		ends.Each(func(o kadm.ListedOffset) {
			if o.Err == nil {
				w.history.end(partition{o.Topic, o.Partition}, o.LeaderEpoch, o.Offset)
			}
		})
	}
	for id := range w.seeds {
		req := kmsg.NewPtrMetadataRequest()
		for _, t := range w.topics() {
			rt := kmsg.NewMetadataRequestTopic()
			rt.Topic = kmsg.StringPtr(t)
			req.Topics = append(req.Topics, rt)
		}
		resp, err := cl.Broker(id+1).Request(ctx, req)
		if err != nil {
			continue
		}
		for _, t := range resp.(*kmsg.MetadataResponse).Topics {
			for _, p := range t.Partitions {
				w.history.leads(int32(id+1), partition{*t.Topic, p.Partition}, p.LeaderEpoch, p.Leader)
			}
		}
	}
	before := map[partition]int64{}
	for _, p := range w.parts {
		before[p] = w.history.committedSoFar(p)
	}
	offsets, err := admin.FetchOffsets(ctx, groupName)
	if err != nil {
		return
	}
	for _, p := range w.parts {
		if o, ok := offsets.Lookup(p.topic, p.n); ok && o.Err == nil {
			w.history.starts("watcher", p, o.At, before[p])
		} else if before[p] > 0 && !ok {
			w.history.wrong("committed offset went back", "%s has none, and it was %d", p, before[p])
		}
	}
}

// topics are the names of all topics, each once.
func (w *workload) topics() []string {
	var out []string
	for _, p := range w.parts {
		if p.n == 0 {
			out = append(out, p.topic)
		}
	}
	return out
}

// create makes the topics, and waits until that is done.
func (w *workload) create(ctx context.Context, partitions int32, replicas int16) error {
	cl, err := w.client(250)
	if err != nil {
		return err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	for _, t := range append(w.topics(), visitTopic) {
		configs := map[string]*string{}
		switch t {
		case w.unclean:
			configs["unclean.leader.election.enable"] = kadm.StringPtr("true")
		case visitTopic:
			configs["cleanup.policy"], configs["min.cleanable.dirty.ratio"] = kadm.StringPtr("compact,delete"), kadm.StringPtr("0.01")
		}
		for {
			_, err := admin.CreateTopic(ctx, partitions, replicas, configs, t)
			if err == nil || errors.Is(err, kerr.TopicAlreadyExists) {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("create topic %s: %w", t, err)
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
	return nil
}

// clientLog takes what a client's library has to say into the story, with KRAFT_SIM_DEBUG.
type clientLog struct {
	history *History
	who     string
}

// Level implements kgo.Logger.
func (l clientLog) Level() kgo.LogLevel {
	if nodeLevel() == zerolog.DebugLevel {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelNone
}

// Log implements kgo.Logger.
func (l clientLog) Log(_ kgo.LogLevel, msg string, keyvals ...any) {
	l.history.note(l.who, fmt.Sprint(append([]any{msg, " "}, keyvals...)...))
}
