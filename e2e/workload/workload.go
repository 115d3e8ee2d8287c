package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Workload is clients of a cluster, whose methods go on until the context ends. Its fields are set before the first.
type Workload struct {
	Context context.Context
	History *History
	// Dial connects client i with a broker.
	Dial    func(ctx context.Context, i int, address string) (net.Conn, error)
	Seeds   []string // the brokers' addresses, in the order of their ids from 1 on
	Parts   []Partition
	LogDirs []string      // of brokers
	Pause   time.Duration // at most, between two records of a producer
	Verbose bool          // what the clients' library says is part of the story
	Logins  bool          // clients log in; see Secure
}

const (
	groupName  = "readers"
	watchPause = 300 * time.Millisecond
)

// Client makes client i.
func (w *Workload) Client(i int, more ...kgo.Opt) (*kgo.Client, error) {
	return w.clientAs(i, ClientUser, more...)
}

// clientAs makes client i, which logs in as a user where clients do.
func (w *Workload) clientAs(i int, user string, more ...kgo.Opt) (*kgo.Client, error) {
	if w.Logins {
		more = append([]kgo.Opt{LoginAs(user)}, more...)
	}
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(w.Seeds...),
		kgo.Dialer(func(ctx context.Context, _, host string) (net.Conn, error) { return w.Dial(ctx, i, host) }),
		kgo.WithLogger(clientLog{w, fmt.Sprintf("client %d", i)}),
		kgo.MetadataMinAge(50 * time.Millisecond), kgo.MetadataMaxAge(5 * time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
		kgo.RequestTimeoutOverhead(5 * time.Second), kgo.ConnIdleTimeout(time.Minute),
	}, more...)...)
}

// Produce sends records of a producer to random partitions until the workload stops, and waits until all are
// acknowledged, or end is over.
func (w *Workload) Produce(end context.Context, i int, idempotent bool, rng *rand.Rand) error {
	opts := []kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(time.Millisecond), kgo.ProduceRequestTimeout(5 * time.Second), kgo.UnknownTopicRetries(-1)}
	if !idempotent {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	cl, err := w.Client(i, opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	for n := 0; w.Context.Err() == nil; n++ {
		p := w.Parts[rng.IntN(len(w.Parts))]
		value := fmt.Sprintf("p%d-%d", i, n)
		w.History.Sends(value, Attempt{To: p, Producer: i, N: n, Idempotent: idempotent})
		cl.Produce(end, &kgo.Record{Topic: p.Topic, Partition: p.N, Value: []byte(value)}, func(r *kgo.Record, err error) {
			if err == nil {
				w.History.Acked(value, r.Offset)
			} else {
				w.History.Say("%s failed: %v", value, err)
			}
		})
		w.pause(w.Pause, rng)
	}
	return cl.Flush(end)
}

// pause waits a random time, or until the workload stops.
func (w *Workload) pause(atMost time.Duration, rng *rand.Rand) {
	select {
	case <-w.Context.Done():
	case <-time.After(time.Duration(1 + rng.Int64N(int64(atMost)))):
	}
}

// Consume reads all partitions from their beginning.
func (w *Workload) Consume(i int) error {
	offsets := map[string]map[int32]kgo.Offset{}
	for _, p := range w.Parts {
		if offsets[p.Topic] == nil {
			offsets[p.Topic] = map[int32]kgo.Offset{}
		}
		offsets[p.Topic][p.N] = kgo.NewOffset().AtStart()
	}
	cl, err := w.Client(i, kgo.ConsumePartitions(offsets), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	next := map[Partition]int64{}
	for w.Context.Err() == nil {
		cl.PollFetches(w.Context).EachRecord(func(r *kgo.Record) {
			p := Partition{r.Topic, r.Partition}
			w.History.Read(fmt.Sprintf("consumer %d", i), p, r.Offset, string(r.Value))
			// It may begin again: a client that believes a leader which is cut off is told that there is nothing there yet.
			if r.Offset > next[p] && p.Topic != w.History.Unclean {
				w.History.Wrong("gap read", "consumer %d reads %s/%d after %d", i, p, r.Offset, next[p]-1)
			}
			next[p] = r.Offset + 1
		})
	}
	return nil
}

// Group reads as a member of a group, and commits what it has read.
func (w *Workload) Group(i int, rng *rand.Rand) error {
	who := fmt.Sprintf("member %d", i)
	cl, err := w.Client(i, kgo.ConsumerGroup(groupName), kgo.ConsumeTopics(w.topics()...), kgo.DisableAutoCommit(), kgo.FetchMaxWait(500*time.Millisecond),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(time.Second), kgo.RebalanceTimeout(6*time.Second), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer cl.Close()
	for w.Context.Err() == nil {
		cl.PollFetches(w.Context).EachRecord(func(r *kgo.Record) {
			w.History.Read(who, Partition{r.Topic, r.Partition}, r.Offset, string(r.Value))
		})
		asked := cl.UncommittedOffsets()
		w.History.commits(asked)
		cl.CommitOffsetsSync(w.Context, asked, func(_ *kgo.Client, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			if err == nil {
				w.noteCommits(who, req, resp)
			}
		})
		w.pause(200*time.Millisecond, rng)
	}
	return nil
}

// noteCommits notes what of an OffsetCommit succeeded.
func (w *Workload) noteCommits(who string, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse) {
	good := map[Partition]bool{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			good[Partition{t.Topic, p.Partition}] = p.ErrorCode == 0
		}
	}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			if at := (Partition{t.Topic, p.Partition}); good[at] {
				w.History.committed(who, at, p.Offset)
			}
		}
	}
}

// Watch asks for high watermarks, leaders and committed offsets, again and again.
func (w *Workload) Watch(i int, rng *rand.Rand) error {
	cl, err := w.Client(i)
	if err != nil {
		return err
	}
	defer cl.Close()
	for w.Context.Err() == nil {
		w.Look(w.Context, cl)
		w.pause(watchPause, rng)
	}
	return nil
}

// Look asks once. What is not answered is no fault.
func (w *Workload) Look(ctx context.Context, cl *kgo.Client) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	admin := kadm.NewClient(cl)
	if ends, err := admin.ListEndOffsets(ctx, w.topics()...); err == nil {
		ends.Each(func(o kadm.ListedOffset) {
			if o.Err == nil {
				w.History.end(Partition{o.Topic, o.Partition}, o.LeaderEpoch, o.Offset)
			}
		})
	}
	for id := range w.Seeds {
		topics, err := Ask(ctx, cl, id+1, w.topics())
		if err != nil {
			continue
		}
		for _, t := range topics {
			for _, p := range t.Partitions {
				w.History.leads(int32(id+1), Partition{*t.Topic, p.Partition}, p.LeaderEpoch, p.Leader)
			}
		}
	}
	w.lookAtOffsets(ctx, cl)
}

// lookAtOffsets asks what the group has committed. A coordinator that is cut off goes on to tell what it knows, as in Kafka:
// who tells of less than was committed must not be what any broker takes for the leader of the group's partition.
func (w *Workload) lookAtOffsets(ctx context.Context, cl *kgo.Client) {
	before := map[Partition]int64{}
	for _, p := range w.Parts {
		before[p] = w.History.committedSoFar(p)
	}
	req := kmsg.NewPtrOffsetFetchRequest()
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = groupName
	req.Groups = append(req.Groups, g)
	shards := cl.RequestSharded(ctx, req)
	if len(shards) != 1 || shards[0].Err != nil {
		return
	}
	groups := shards[0].Resp.(*kmsg.OffsetFetchResponse).Groups
	if len(groups) != 1 || groups[0].ErrorCode != 0 {
		return
	}
	told, failed := map[Partition]int64{}, map[Partition]bool{}
	for _, t := range groups[0].Topics {
		for _, p := range t.Partitions {
			at := Partition{t.Topic, p.Partition}
			told[at], failed[at] = p.Offset, p.ErrorCode != 0
		}
	}
	superseded := false
	for _, p := range w.Parts {
		if told[p] < before[p] {
			superseded = w.superseded(ctx, cl, shards[0].Meta.NodeID)
			break
		}
	}
	for _, p := range w.Parts {
		if _, has := told[p]; (has || before[p] > 0) && !failed[p] && !superseded {
			w.History.starts("watcher", p, told[p], before[p])
		}
	}
}

// superseded says that some broker knows of a newer coordinator of the group than this one.
func (w *Workload) superseded(ctx context.Context, cl *kgo.Client, coordinator int32) bool {
	n := offsetsPartition(groupName)
	epoch, leader := int32(-1), int32(-1)
	for id := range w.Seeds {
		topics, err := Ask(ctx, cl, id+1, []string{offsetsTopic})
		if err != nil {
			continue
		}
		for _, p := range topics[0].Partitions {
			if p.LeaderEpoch > epoch && p.Partition == n%int32(len(topics[0].Partitions)) {
				epoch, leader = p.LeaderEpoch, p.Leader
			}
		}
	}
	return leader != coordinator
}

// offsetsTopic is where groups' offsets are.
const offsetsTopic = "__consumer_offsets"

// offsetsPartition chooses a group's partition, before it is divided by their number: Java's hash, without its sign.
func offsetsPartition(group string) int32 {
	h := int32(0)
	for _, c := range group {
		h = 31*h + c
	}
	return h & 0x7fffffff
}

// Ask asks one broker what it knows of topics.
func Ask(ctx context.Context, cl *kgo.Client, broker int, topics []string) ([]kmsg.MetadataResponseTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, topic := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(topic)
		req.Topics = append(req.Topics, t)
	}
	resp, err := cl.Broker(broker).Request(ctx, req)
	if err != nil {
		return nil, err
	}
	return resp.(*kmsg.MetadataResponse).Topics, nil
}

// topics are the names of all topics, each once.
func (w *Workload) topics() []string {
	var out []string
	for _, p := range w.Parts {
		if p.N == 0 {
			out = append(out, p.Topic)
		}
	}
	return out
}

// Create makes the topics, and waits until that is done.
func (w *Workload) Create(ctx context.Context, partitions int32, replicas int16) error {
	cl, err := w.Client(250)
	if err != nil {
		return err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	for _, t := range append(w.topics(), visitTopic) {
		configs := map[string]*string{}
		switch t {
		case w.History.Unclean:
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

// clientLog takes what a client's library has to say into the story.
type clientLog struct {
	work *Workload
	who  string
}

// Level implements kgo.Logger.
func (l clientLog) Level() kgo.LogLevel {
	if l.work.Verbose {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelNone
}

// Log implements kgo.Logger.
func (l clientLog) Log(_ kgo.LogLevel, msg string, keyvals ...any) {
	l.work.History.Note(l.who, fmt.Sprint(append([]any{msg, " "}, keyvals...)...))
}
