// Package race has three nodes of one process do everything at once, so that the race detector sees code that only concurrent load
// reaches:
//
//	go test -race ./e2e/race
package race

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"kraft/cli/config"
	"kraft/cli/node"
	"kraft/e2e/harness"
	"kraft/e2e/workload"
	"kraft/internal/freeport"
	"kraft/storage"
	"kraft/wire/logging"
)

// patience is for a machine that does other work.
const patience = time.Minute

// cluster is three nodes of this process, with two log directories each.
type cluster struct {
	configs []*config.Config
	nodes   []*node.Node
	work    *workload.Workload
	metrics []string // URLs

	scraped [3]atomic.Int32 // answers with the metrics of each node
	nearby  [3]atomic.Int32 // records read by the reader of each rack
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{nodes: make([]*node.Node, 3), work: &workload.Workload{History: workload.NewHistory(), Pause: 5 * time.Millisecond}}
	c.work.Dial = func(ctx context.Context, _ int, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	var addresses [3][3]string // of each node: for clients, for the quorum, for metrics
	var voters []string
	for i := range addresses {
		for j := range addresses[i] {
			port, err := freeport.Get()
			if err != nil {
				t.Fatal(err)
			}
			addresses[i][j] = fmt.Sprintf("127.0.0.1:%d", port)
		}
		voters = append(voters, fmt.Sprintf("%d@%s", i+1, addresses[i][1]))
	}
	root := t.TempDir()
	for i, at := range addresses {
		first, second := filepath.Join(root, fmt.Sprint(i+1), "a"), filepath.Join(root, fmt.Sprint(i+1), "b")
		conf, err := config.New(map[string]string{
			"node.id": fmt.Sprint(i + 1), "log.dirs": first + "," + second, "listeners": "PLAINTEXT://" + at[0] + ",CONTROLLER://" + at[1],
			"controller.listener.names": "CONTROLLER", "controller.quorum.voters": strings.Join(voters, ","), "admin.listener": at[2],
			"broker.rack": fmt.Sprint(i + 1), "replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector",
			"min.insync.replicas":              "1", // the operator moves partitions to two brokers, and one of them stops
			"group.initial.rebalance.delay.ms": "0", "log.flush.policy": []string{"none", "commit", "none"}[i],
			// What usually happens now and then happens all the time.
			"log.roll.ms": "300", "offsets.topic.segment.bytes": "1048576", "log.index.interval.bytes": "100", "log.retention.check.interval.ms": "100", "log.segment.delete.delay.ms": "100",
			"log.cleaner.backoff.ms": "50", "log.cleaner.min.cleanable.ratio": "0.01", "metadata.log.max.record.bytes.between.snapshots": "2000",
			"replica.high.watermark.checkpoint.interval.ms": "100", "leader.imbalance.check.interval.seconds": "1", "offsets.topic.num.partitions": "3",
		})
		if err != nil {
			t.Fatal(err)
		}
		c.configs = append(c.configs, conf)
		c.work.LogDirs = append(c.work.LogDirs, first, second)
		c.work.Seeds = append(c.work.Seeds, at[0])
		c.metrics = append(c.metrics, "http://"+at[2]+"/metrics")
	}
	var starting sync.WaitGroup
	for i := range c.nodes {
		starting.Go(func() { c.start(t, i) })
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, topic := range []string{"t0", "t1"} {
		for n := range int32(3) {
			c.work.Parts = append(c.work.Parts, workload.Partition{Topic: topic, N: n})
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.work.Create(ctx, 3, 3); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) start(t *testing.T, i int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	log := logging.New(zerolog.New(c.work.History.Log(fmt.Sprintf("node %d", i+1))).Level(zerolog.InfoLevel), nil)
	n, err := node.StartOn(ctx, node.World{FS: storage.OS{}}, c.configs[i], log)
	if err != nil {
		t.Error(err)
		return
	}
	c.nodes[i] = n
}

// acked waits until so many more records are acknowledged in each partition that a broker other than stopped (0 for none) may lead.
// There are some that no other may lead: the operator moves partitions to two brokers, and a throttle keeps the second one from
// the ISR.
func (c *cluster) acked(more int, stopped int32) error {
	client, err := c.work.Client(60)
	if err != nil {
		return err
	}
	defer client.Close()
	before := map[workload.Partition]int{}
	for _, p := range c.work.Parts {
		before[p] = c.work.History.Acks(p)
	}
	return harness.Eventually(patience, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		req := kmsg.NewPtrDescribeTopicPartitionsRequest()
		for _, name := range []string{"t0", "t1"} {
			topic := kmsg.NewDescribeTopicPartitionsRequestTopic()
			topic.Topic = name
			req.Topics = append(req.Topics, topic)
		}
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			return err
		}
		behind := ""
		for _, topic := range resp.Topics {
			for _, at := range topic.Partitions {
				p := workload.Partition{Topic: *topic.Topic, N: at.Partition}
				n := c.work.History.Acks(p) - before[p]
				mayLead := append(at.ISR, at.EligibleLeaderReplicas...)
				if n < more && !slices.Equal(mayLead, []int32{stopped}) {
					behind += fmt.Sprintf(" %v: %d (leader %d, replicas %v, ISR %v, ELR %v, last known ELR %v)", p, n, at.LeaderID, at.Replicas, at.ISR, at.EligibleLeaderReplicas, at.LastKnownELR)
				}
			}
		}
		if behind != "" {
			return fmt.Errorf("too few records are acknowledged:%s", behind)
		}
		return nil
	})
}

// TestEverythingAtOnce: clients of all kinds, an operator, somebody who reads metrics, and a stop and a start of each node.
func TestEverythingAtOnce(t *testing.T) {
	before := goleak.IgnoreCurrent()
	c := newCluster(t)
	working, stop := context.WithCancel(context.Background())
	defer stop()
	c.work.Context = working
	producing, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	var clients sync.WaitGroup
	var trimmed workload.Trimmed
	w := c.work
	for i, client := range []func(int, *rand.Rand) error{
		func(i int, rng *rand.Rand) error { return w.Produce(producing, i, true, rng) },
		func(i int, rng *rand.Rand) error { return w.Produce(producing, i, false, rng) },
		func(i int, _ *rand.Rand) error { return w.Consume(i) },
		w.Group, w.Group, w.Administrate, w.Administrate, w.Visit, w.Visit, w.Watch, w.Fence,
		func(i int, rng *rand.Rand) error { return w.Recreate(i, 3, rng) },
		func(i int, rng *rand.Rand) error { return w.Operate(i, 3, rng) },
		func(i int, rng *rand.Rand) error { return w.Trim(i, 3, rng, &trimmed) },
		func(i int, rng *rand.Rand) error { return w.Forget(i, 3, rng) },
	} {
		clients.Go(func() {
			if err := client(i, rand.New(rand.NewPCG(1, uint64(i)))); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	clients.Go(c.scrape)
	for i := range c.nodes {
		clients.Go(func() { c.readNearby(t, i) })
	}
	for i, n := range c.nodes {
		if err := c.acked(100, 0); err != nil {
			t.Error(err)
		}
		if err := n.Stop(); err != nil {
			t.Errorf("node %d: %v", i+1, err)
		}
		if err := c.acked(20, int32(i+1)); err != nil {
			t.Error(err)
		}
		c.start(t, i)
		if t.Failed() {
			break
		}
	}
	if err := c.acked(100, 0); err != nil {
		t.Error(err)
	}
	stop()
	time.AfterFunc(patience, giveUp) // of records that are not answered yet
	clients.Wait()
	c.check(t, &trimmed)
	var stopping sync.WaitGroup
	for i, n := range c.nodes {
		stopping.Go(func() {
			if err := n.Stop(); err != nil {
				t.Errorf("node %d: %v", i+1, err)
			}
		})
	}
	stopping.Wait()
	if err := harness.Eventually(patience, func() error { return goleak.Find(before) }); err != nil {
		t.Error(err)
	}
}

// readNearby reads all from the replicas in the rack of a node, where there are any.
func (c *cluster) readNearby(t *testing.T, i int) {
	rack := fmt.Sprint(i + 1)
	client, err := c.work.Client(50+i, kgo.Rack(rack), kgo.ConsumeTopics("t0", "t1"), kgo.FetchMinBytes(100), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		t.Error(err)
		return
	}
	defer client.Close()
	for c.work.Context.Err() == nil {
		client.PollFetches(c.work.Context).EachRecord(func(r *kgo.Record) {
			c.nearby[i].Add(1)
			c.work.History.Read("reader of rack "+rack, workload.Partition{Topic: r.Topic, N: r.Partition}, r.Offset, string(r.Value))
		})
	}
}

// scrape reads the nodes' metrics, again and again.
func (c *cluster) scrape() {
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: patience}
	for n := 0; c.work.Context.Err() == nil; n++ {
		resp, err := client.Get(c.metrics[n%len(c.metrics)])
		if err != nil {
			select { // it is stopped
			case <-c.work.Context.Done():
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		if _, err := io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode == http.StatusOK {
			c.scraped[n%len(c.metrics)].Add(1)
		}
		_ = resp.Body.Close()
	}
}

// check holds what clients were told against what is there.
func (c *cluster) check(t *testing.T, trimmed *workload.Trimmed) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := c.work.Client(100)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c.lookUp(ctx, t, client)
	if err := c.work.CheckTrimmed(ctx, client, trimmed); err != nil {
		t.Error(err)
	}
	for i := range c.nodes {
		if c.scraped[i].Load() == 0 || c.nearby[i].Load() == 0 {
			t.Errorf("node %d: %d answers with metrics, %d records read in its rack", i+1, c.scraped[i].Load(), c.nearby[i].Load())
		}
	}
	if story := c.work.History.Story(); !strings.Contains(story, " commits t") || !strings.Contains(story, "fencer 10: ") {
		t.Error("groups did nothing")
	}
	c.work.History.CheckReads()
	c.work.History.CheckOrder()
	for _, v := range c.work.History.Violations() {
		t.Error(v)
	}
	if t.Failed() {
		story := slices.DeleteFunc(strings.Split(c.work.History.Story(), "\n"), func(line string) bool {
			return strings.Contains(line, " reads ") || strings.Contains(line, " is t") // they are too many
		})
		t.Log(strings.Join(story[max(0, len(story)-2000):], "\n"))
	}
}

func (c *cluster) lookUp(ctx context.Context, t *testing.T, client *kgo.Client) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 1000))
	for _, p := range c.work.Parts {
		if err := c.work.CheckLookups(ctx, client, p, rng); err != nil {
			t.Error(err)
		}
	}
}
