package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
)

// cluster is three brokers under measurement. Broker n+1 is at n.
type cluster struct {
	o     options
	dir   string
	addrs []string
	nodes []clusterNode

	onDisks bool // each broker has a disk of its own
	disks   []*harness.Disk
}

// clusterNode is one broker's process, which changes when it is started again.
type clusterNode struct {
	process func() *harness.Process
	start   func() error
	stop    func(time.Duration) error
}

type trioStarter func(c *cluster) error

func startKraftTrio(c *cluster) error {
	dir := filepath.Join(c.dir, "kraft")
	if err := c.mount(dir); err != nil {
		return err
	}
	trio, err := harness.StartCluster(dir, 3, append([]string{"--log-level", "warn"}, c.o.kraft...)...)
	if err != nil {
		return err
	}
	for _, k := range trio.Nodes {
		c.addrs = append(c.addrs, k.Addr)
		c.nodes = append(c.nodes, clusterNode{func() *harness.Process { return k.Process }, k.Start, func(d time.Duration) error { return k.Stop(d) }})
	}
	return nil
}

func startKafkaTrio(c *cluster) error {
	jars, err := harness.KafkaJars()
	if err != nil {
		return err
	}
	dir := filepath.Join(c.dir, "kafka")
	if err := c.mount(dir); err != nil {
		return err
	}
	trio, err := harness.StartKafkaCluster(jars, dir, 3)
	if err != nil {
		return err
	}
	for _, k := range trio {
		c.addrs = append(c.addrs, k.Addr)
		c.nodes = append(c.nodes, clusterNode{func() *harness.Process { return k.Process }, k.Start, k.Stop})
	}
	return nil
}

func clusterRound(o options, b benchmark, start trioStarter) (r result, err error) {
	dir, err := os.MkdirTemp("", "kraft-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := touchMemory(filepath.Join(dir, "touch"), o.megabytes(4000, 800)); err != nil {
		return nil, err
	}
	c := &cluster{o: o, dir: dir, onDisks: b.disks}
	defer func() { err = errors.Join(err, c.unmount()) }()
	if err := start(c); err != nil {
		return nil, err
	}
	defer func() {
		for _, n := range c.nodes {
			n.process().Kill()
		}
	}()
	return b.cluster(o, c)
}

// cpu is what all brokers have used so far, in seconds; memory what they hold, in MB.
func (c *cluster) cpu() (sum float64) {
	for _, n := range c.nodes {
		sum += (&target{process: n.process()}).cpu()
	}
	return sum
}

func (c *cluster) memory() (sum float64) {
	for _, n := range c.nodes {
		sum += (&target{process: n.process()}).memory()
	}
	return sum
}

func (c *cluster) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.addrs...), kgo.MetadataMinAge(20 * time.Millisecond)}, opts...)...)
}

// create makes a topic with three replicas and waits until all partitions are led and in sync.
func (c *cluster) create(partitions int32, configs map[string]*string) (leaders []int32, err error) {
	cl, err := c.client()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	admin := kadm.NewClient(cl)
	if _, err := admin.CreateTopic(ctx, partitions, 3, configs, topicName); err != nil {
		return nil, err
	}
	if leaders, err = c.led(ctx, cl, 3); err != nil {
		return nil, err
	}
	return leaders, c.agreed(ctx, cl, leaders)
}

// agreed waits until every broker knows these leaders: who has just become one refuses records until it does.
func (c *cluster) agreed(ctx context.Context, cl *kgo.Client, leaders []int32) error {
	for id := 1; id <= len(c.nodes); {
		req := kmsg.NewPtrMetadataRequest()
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(topicName)
		req.Topics = append(req.Topics, t)
		resp, err := cl.Broker(id).RetriableRequest(ctx, req)
		if err != nil {
			return err
		}
		known := make([]int32, len(leaders))
		for _, t := range resp.(*kmsg.MetadataResponse).Topics {
			for _, p := range t.Partitions {
				known[p.Partition] = p.Leader
			}
		}
		if slices.Equal(known, leaders) {
			id++
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// led waits until every partition has a leader and so many in sync.
func (c *cluster) led(ctx context.Context, cl *kgo.Client, inSync int) ([]int32, error) {
	admin := kadm.NewClient(cl)
	for {
		topics, err := admin.ListTopics(ctx, topicName)
		if err == nil {
			var leaders []int32
			for _, p := range topics[topicName].Partitions.Sorted() {
				if p.Leader >= 0 && len(p.ISR) >= inSync && p.Err == nil {
					leaders = append(leaders, p.Leader)
				}
			}
			if n := len(topics[topicName].Partitions); n > 0 && len(leaders) == n {
				return leaders, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("not all partitions are led: %w", errors.Join(err, ctx.Err()))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (c *cluster) controller(ctx context.Context) (int32, error) {
	cl, err := c.client()
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	m, err := kadm.NewClient(cl).BrokerMetadata(ctx)
	return m.Controller, err
}

// gapLoad is an acks=all load of a record each millisecond that knows the longest time without an acknowledgement.
type gapLoad struct {
	cl   *kgo.Client
	stop context.CancelFunc

	mu      sync.Mutex // guards the rest
	last    time.Time
	longest time.Duration
}

func (c *cluster) startGapLoad(ctx context.Context, opts ...kgo.Opt) (*gapLoad, error) {
	cl, err := c.client(append(opts, kgo.DefaultProduceTopic(topicName), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.MaxBufferedRecords(1000), kgo.ProducerLinger(0),
		kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }))...)
	if err != nil {
		return nil, err
	}
	loading, stop := context.WithCancel(ctx)
	l := &gapLoad{cl: cl, stop: stop}
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for loading.Err() == nil {
			<-tick.C
			cl.Produce(ctx, &kgo.Record{Value: []byte("0123456789")}, func(_ *kgo.Record, err error) {
				if err == nil {
					l.acknowledged()
				}
			})
		}
	}()
	time.Sleep(2 * time.Second)
	return l, nil
}

func (l *gapLoad) acknowledged() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.longest = max(l.longest, now.Sub(l.last))
	l.last = now
}

// gap is the longest time without an acknowledgement since the last call, in milliseconds.
func (l *gapLoad) gap() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	longest := max(l.longest, time.Since(l.last))
	l.longest, l.last = 0, time.Now()
	return float64(longest.Microseconds()) / 1000
}

func (l *gapLoad) close() {
	l.stop()
	l.cl.Close()
}

// observed is as long as it takes Apache Kafka to notice a broker that is silent, or whose disk does not work.
const observed = 16 * time.Second

// startImpatientLoad makes a topic and has a producer that gives a request up after a second, and asks for metadata again each half second. It
// returns a leader, which is not the active controller if there is one, and the controller.
func (c *cluster) startImpatientLoad(ctx context.Context) (l *gapLoad, leader, controller int32, err error) {
	two := "2"
	leaders, err := c.create(3, map[string]*string{"min.insync.replicas": &two})
	if err != nil {
		return nil, 0, 0, err
	}
	l, err = c.startGapLoad(ctx, kgo.ProduceRequestTimeout(500*time.Millisecond), kgo.RequestTimeoutOverhead(500*time.Millisecond), kgo.MetadataMaxAge(500*time.Millisecond))
	if err != nil {
		return nil, 0, 0, err
	}
	if controller, err = c.controller(ctx); err != nil {
		l.close()
		return nil, 0, 0, err
	}
	return l, other(leaders, controller), controller, nil
}

// benchSilence has the machine of a broker stand still.
func benchSilence(o options, c *cluster) (result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	l, leader, controller, err := c.startImpatientLoad(ctx)
	if err != nil {
		return nil, err
	}
	defer l.close()
	r := result{}
	for name, victim := range map[string]int32{"longest gap, a leader silent": leader, "longest gap, the controller silent": controller} {
		p := c.nodes[victim-1].process()
		l.gap()
		if err := standStill(p); err != nil {
			return nil, err
		}
		time.Sleep(observed)
		r[name] = l.gap()
		if err := goOn(p); err != nil {
			return nil, err
		}
		if _, err := c.whole(ctx); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// other is a leader that is not the controller, if there is one.
func other(leaders []int32, controller int32) int32 {
	for _, l := range leaders {
		if l != controller {
			return l
		}
	}
	return leaders[0]
}

// whole waits until all replicas are in sync, and a moment more. It returns the leaders.
func (c *cluster) whole(ctx context.Context) ([]int32, error) {
	admin, err := c.client()
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	leaders, err := c.led(ctx, admin, 3)
	if err != nil {
		return nil, err
	}
	time.Sleep(time.Second)
	return leaders, nil
}

// benchFailover ends brokers under an acks=all load, and measures how long nothing is acknowledged.
func benchFailover(o options, c *cluster) (result, error) {
	two := "2"
	leaders, err := c.create(3, map[string]*string{"min.insync.replicas": &two})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	load, err := c.startGapLoad(ctx)
	if err != nil {
		return nil, err
	}
	defer load.close()
	r := result{}
	back := func(i int) (err error) {
		if err := c.nodes[i].start(); err != nil {
			return err
		}
		leaders, err = c.whole(ctx)
		return err
	}
	const observed = 15 * time.Second
	controller, err := c.controller(ctx)
	if err != nil {
		return nil, err
	}
	victim := other(leaders, controller)
	load.gap()
	c.nodes[victim-1].process().Kill()
	time.Sleep(observed)
	r["longest gap, a leader killed"] = load.gap()
	if err := back(int(victim - 1)); err != nil {
		return nil, err
	}
	if controller, err = c.controller(ctx); err != nil {
		return nil, err
	}
	load.gap()
	c.nodes[controller-1].process().Kill()
	begun := time.Now()
	others, err := kgo.NewClient(kgo.SeedBrokers(c.addrs[controller%3]), kgo.MetadataMinAge(20*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }))
	if err != nil {
		return nil, err
	}
	for i := 0; ; i++ {
		if _, err := kadm.NewClient(others).CreateTopic(ctx, 1, 1, nil, fmt.Sprint("after-", i)); err == nil {
			break
		} else if ctx.Err() != nil {
			return nil, err
		}
		time.Sleep(5 * time.Millisecond)
	}
	others.Close()
	r["metadata again after the controller's end"] = float64(time.Since(begun).Microseconds()) / 1000
	time.Sleep(observed - time.Since(begun))
	r["longest gap, the controller killed"] = load.gap()
	if err := back(int(controller - 1)); err != nil {
		return nil, err
	}
	load.gap()
	begun = time.Now()
	if err := c.nodes[leaders[0]-1].stop(time.Minute); err != nil {
		return nil, err
	}
	r["stop of a broker"] = float64(time.Since(begun).Microseconds()) / 1000
	time.Sleep(3 * time.Second)
	r["longest gap, a broker stopped"] = load.gap()
	return r, nil
}

// benchClusterProduce sends batches with acks=all to three partitions with three replicas, a connection to each
// leader.
func benchClusterProduce(o options, c *cluster) (result, error) {
	leaders, err := c.create(3, nil)
	if err != nil {
		return nil, err
	}
	send := func(megabytes int) error {
		return atOnce(len(leaders), func(p int) error {
			return producePartition(c.addrs[leaders[p]-1], int32(p), -1, megabytes/len(leaders))
		})
	}
	if err := send(o.megabytes(200, 100)); err != nil { // warm-up
		return nil, err
	}
	mb := o.megabytes(600, 150)
	cpu, begun := c.cpu(), time.Now()
	if err := send(mb); err != nil {
		return nil, err
	}
	took := time.Since(begun).Seconds()
	return result{"throughput": float64(mb) / took, "broker CPU": perGB(c.cpu()-cpu, mb)}, nil
}

// benchClusterLatency sends 1,000 small records a second to partitions with three replicas.
func benchClusterLatency(o options, c *cluster) (result, error) {
	if _, err := c.create(3, nil); err != nil {
		return nil, err
	}
	cl, err := c.client(kgo.DefaultProduceTopic(topicName), kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	seconds, warmup := 10, 3
	if o.quick {
		seconds, warmup = 3, 1
	}
	const rate = 1000
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	var took []float64
	var failed error
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	for i := range rate * (seconds + warmup) {
		<-tick.C
		begun := time.Now()
		cl.Produce(ctx, &kgo.Record{Value: make([]byte, 100)}, func(_ *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
			if i >= rate*warmup {
				took = append(took, float64(time.Since(begun).Nanoseconds())/1e6)
			}
		})
	}
	if err := errors.Join(cl.Flush(ctx), failed); err != nil {
		return nil, err
	}
	slices.Sort(took)
	return result{"acknowledgement p50": took[len(took)/2], "acknowledgement p99": took[len(took)*99/100]}, nil
}

// benchClusterPartitions makes 3,000 partitions with three replicas, writes to each, and kills a broker that
// leads a third of them.
func benchClusterPartitions(o options, c *cluster) (result, error) {
	n := int32(3000)
	if o.quick {
		n = 300
	}
	r := result{}
	before := c.memory()
	begun := time.Now()
	leaders, err := c.create(n, nil)
	if err != nil {
		return nil, err
	}
	r["3,000 partitions created"] = time.Since(begun).Seconds()
	cl, err := c.client(kgo.DefaultProduceTopic(topicName), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(10_000))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	begun = time.Now()
	var all []*kgo.Record
	for p := range n {
		all = append(all, &kgo.Record{Partition: p, Value: bytes.Repeat([]byte("x"), 100)})
	}
	if err := cl.ProduceSync(ctx, all...).FirstErr(); err != nil {
		return nil, err
	}
	r["each written once"] = time.Since(begun).Seconds()
	r["memory a partition"] = (c.memory() - before) * 1000 / float64(n)
	victim := leaders[0]
	survivors, err := kgo.NewClient(kgo.SeedBrokers(c.addrs[victim%3], c.addrs[(victim+1)%3]), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		return nil, err
	}
	defer survivors.Close()
	if _, err := c.led(ctx, survivors, 3); err != nil {
		return nil, err
	}
	begun = time.Now()
	c.nodes[victim-1].process().Kill()
	for {
		now, err := c.led(ctx, survivors, 2)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(now, victim) {
			break
		}
	}
	r["all led again after a kill"] = time.Since(begun).Seconds()
	return r, nil
}
