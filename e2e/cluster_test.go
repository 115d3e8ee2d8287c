//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

// load is producers that go on whatever happens, and remember what was acknowledged.
type load struct {
	t          *testing.T
	cl         *kgo.Client
	topic      string
	partitions int32
	stop       context.CancelFunc
	done       chan struct{}

	mu      sync.Mutex
	acked   map[int32][]uint64
	next    []uint64
	failed  []error
	last    time.Time     // of an acknowledgement
	longest time.Duration // between two
	repeats bool          // a record that got no answer may be there twice
}

// startLoad produces numbered records to all partitions with acks=all, some at a time.
func startLoad(t *testing.T, bootstrap []string, topic string, partitions int32, opts ...kgo.Opt) *load {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(bootstrap...), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxBufferedRecords(500), kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }), kgo.MetadataMinAge(20 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, cl: cl, topic: topic, partitions: partitions, stop: cancel, done: make(chan struct{}), acked: map[int32][]uint64{}, next: make([]uint64, partitions)}
	go func() {
		defer close(l.done)
		for i := 0; ctx.Err() == nil; i++ {
			p := int32(i) % partitions
			l.mu.Lock()
			n := l.next[p]
			l.next[p]++
			l.mu.Unlock()
			cl.Produce(context.Background(), &kgo.Record{Partition: p, Value: fmt.Append(nil, n)}, func(_ *kgo.Record, err error) {
				l.mu.Lock()
				defer l.mu.Unlock()
				if err != nil {
					l.failed = append(l.failed, err)
					return
				}
				l.acked[p] = append(l.acked[p], n)
				now := time.Now()
				if !l.last.IsZero() {
					l.longest = max(l.longest, now.Sub(l.last))
				}
				l.last = now
			})
			if i%100 == 99 {
				time.Sleep(time.Millisecond) // a load, not a flood
			}
		}
	}()
	return l
}

func (l *load) count() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.acked {
		n += len(a)
	}
	return n
}

// more waits until n more records are acknowledged.
func (l *load) more(n int) {
	l.t.Helper()
	want := l.count() + n
	if err := harness.Eventually(60*time.Second, func() error {
		if got := l.count(); got < want {
			return fmt.Errorf("%d records are acknowledged, waiting for %d", got, want)
		}
		return nil
	}); err != nil {
		l.t.Fatal(err)
	}
}

// gap is the longest time without an acknowledgement since the last call.
func (l *load) gap() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.longest
	l.longest = 0
	return g
}

// check ends the load and reads everything back: each acknowledged record is there, once and in order, and
// nothing is that was not sent.
func (l *load) check(bootstrap []string) {
	l.t.Helper()
	l.stop()
	<-l.done
	ctx := timeout(l.t, time.Minute)
	if err := l.cl.Flush(ctx); err != nil {
		l.t.Fatal(err)
	}
	l.cl.Close()
	if len(l.failed) > 0 {
		l.t.Fatalf("%d records failed, the first by: %v", len(l.failed), l.failed[0])
	}
	got := map[int32][]uint64{}
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...), kgo.ConsumeTopics(l.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		l.t.Fatal(err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, l.topic)
	if err != nil {
		l.t.Fatal(err)
	}
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	for left > 0 {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			l.t.Fatalf("%d records cannot be read", left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			left--
			var n uint64
			if _, err := fmt.Sscan(string(r.Value), &n); err != nil {
				l.t.Errorf("record %q", r.Value)
			}
			got[r.Partition] = append(got[r.Partition], n)
		})
	}
	for p := range l.partitions {
		at, newest := 0, uint64(0)
		for i, n := range got[p] {
			if n >= l.next[p] {
				l.t.Fatalf("partition %d: record %d was never sent", p, n)
			}
			if i > 0 && n <= newest {
				if l.repeats {
					continue
				}
				l.t.Fatalf("partition %d: record %d follows %d", p, n, got[p][i-1])
			}
			newest = n
			if at < len(l.acked[p]) && n > l.acked[p][at] {
				l.t.Fatalf("partition %d: acknowledged record %d is lost", p, l.acked[p][at])
			}
			if at < len(l.acked[p]) && n == l.acked[p][at] {
				at++
			}
		}
		if at < len(l.acked[p]) {
			l.t.Fatalf("partition %d: acknowledged record %d is lost, the last that can be read is %v", p, l.acked[p][at], got[p][max(0, len(got[p])-1):])
		}
	}
	l.t.Logf("%d acknowledged records", l.count())
}

// leaders waits until every partition of a topic has a leader, and the given number in sync, and returns them.
func leaders(t *testing.T, bootstrap []string, topic string, inSync int) []int32 {
	t.Helper()
	admin := kadm.NewClient(kgoClient(t, bootstrap[0], kgo.SeedBrokers(bootstrap...), kgo.MetadataMinAge(10*time.Millisecond)))
	var out []int32
	if err := harness.Eventually(30*time.Second, func() error {
		out = nil
		topics, err := admin.ListTopics(context.Background(), topic)
		if err != nil {
			return err
		}
		for _, p := range topics[topic].Partitions.Sorted() {
			if p.Leader < 0 || len(p.ISR) < inSync {
				return fmt.Errorf("partition %d: leader %d, ISR %v", p.Partition, p.Leader, p.ISR)
			}
			out = append(out, p.Leader)
		}
		if len(out) == 0 {
			return errors.New("no such topic")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func controllerOf(t *testing.T, bootstrap []string) int32 {
	t.Helper()
	meta, err := kadm.NewClient(kgoClient(t, bootstrap[0], kgo.SeedBrokers(bootstrap...))).BrokerMetadata(timeout(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return meta.Controller
}

// TestKillsLoseNothing kills leaders, followers, the controller and all nodes at once under an acks=all load.
// Nothing acknowledged is lost, and no leader's death stops the load for a second.
func TestKillsLoseNothing(t *testing.T) {
	c := harness.NewCluster(t, 3, "--override", "min.insync.replicas=2")
	all := c.Bootstrap()
	c.Nodes[0].CLI(t, "", "topic", "create", "load", "-p", "3", "-r", "3")
	leaders(t, all, "load", 3)
	l := startLoad(t, all, "load", 3)
	l.more(2000)
	for round := range 4 {
		victim := controllerOf(t, all)
		if round%2 == 1 { // the leader of a partition that is not the controller
			for _, id := range leaders(t, all, "load", 3) {
				if id != victim {
					victim = id
					break
				}
			}
		}
		node := c.Nodes[victim-1]
		l.more(500)
		l.gap()
		node.Kill()
		l.more(2000)
		if gap := l.gap(); gap > time.Second {
			t.Errorf("round %d: %v without an acknowledgement after node %d was killed", round, gap, victim)
		} else {
			t.Logf("round %d: %v without an acknowledgement after node %d was killed", round, gap, victim)
		}
		if err := node.Start(); err != nil {
			t.Fatal(err)
		}
		leaders(t, all, "load", 3)
	}
	for _, k := range c.Nodes {
		k.Kill()
	}
	if err := c.Start(c.Nodes...); err != nil {
		t.Fatal(err)
	}
	leaders(t, all, "load", 3)
	l.more(1000)
	l.check(all)
}

// TestRollingRestart: a client with default settings sees no error while every node is stopped and started.
func TestRollingRestart(t *testing.T) {
	c := harness.NewCluster(t, 3, "--override", "min.insync.replicas=2")
	all := c.Bootstrap()
	c.Nodes[0].CLI(t, "", "topic", "create", "load", "-p", "3", "-r", "3")
	leaders(t, all, "load", 3)
	l := startLoad(t, all, "load", 3)
	l.more(1000)
	for i, k := range c.Nodes {
		l.gap()
		begun := time.Now()
		if err := k.Stop(20 * time.Second); err != nil {
			t.Fatal(err)
		}
		l.more(1000)
		t.Logf("node %d stopped in %v; %v without an acknowledgement", i+1, time.Since(begun), l.gap())
		if err := k.Start(); err != nil {
			t.Fatal(err)
		}
		leaders(t, all, "load", 3)
	}
	l.check(all)
}

// TestDivergedLeader: what a leader took alone, and never had acknowledged by the others, gives way to what the
// next leader wrote at the same offsets.
func TestDivergedLeader(t *testing.T) {
	c := harness.NewCluster(t, 3)
	all := c.Bootstrap()
	c.Nodes[0].CLI(t, "", "topic", "create", "t", "-r", "3")
	ctx := timeout(t, time.Minute)
	put := func(acks kgo.Acks, value string, bootstrap ...string) error {
		cl := kgoClient(t, bootstrap[0], kgo.SeedBrokers(bootstrap...), kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite(), kgo.DefaultProduceTopic("t"))
		return cl.ProduceSync(ctx, kgo.StringRecord(value)).FirstErr()
	}
	leader := leaders(t, all, "t", 3)[0]
	if err := put(kgo.AllISRAcks(), "first", all...); err != nil {
		t.Fatal(err)
	}
	var others []*harness.Kraft
	for i, k := range c.Nodes {
		if int32(i+1) != leader {
			others = append(others, k)
		}
	}
	for _, k := range others {
		pause(t, k)
	}
	for i := range 3 {
		if err := put(kgo.LeaderAck(), fmt.Sprint("alone ", i), c.Nodes[leader-1].Addr); err != nil {
			t.Fatal(err)
		}
	}
	c.Nodes[leader-1].Kill()
	for _, k := range others {
		resume(t, k)
	}
	if err := harness.Eventually(30*time.Second, func() error {
		if next := leaders(t, []string{others[0].Addr, others[1].Addr}, "t", 1)[0]; next == leader {
			return fmt.Errorf("node %d still leads", leader)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := put(kgo.AllISRAcks(), "second", others[0].Addr, others[1].Addr); err != nil {
		t.Fatal(err)
	}
	if err := c.Nodes[leader-1].Start(); err != nil {
		t.Fatal(err)
	}
	leaders(t, all, "t", 3)
	// All three agree, also when the old leader leads again.
	for _, k := range others {
		if err := k.Stop(20 * time.Second); err != nil {
			t.Fatal(err)
		}
		if err := k.Start(); err != nil {
			t.Fatal(err)
		}
		leaders(t, all, "t", 3)
	}
	got := readTopicAt(t, all, "t")
	// The first of the records may have been on its way to the others when they were paused.
	if s := strings.Join(got, ","); s != "first,second" && s != "first,alone 0,second" {
		t.Errorf("the topic holds %v", got)
	}
}

// readTopicAt reads partition 0 of a topic to its end.
func readTopicAt(t *testing.T, bootstrap []string, topic string) (out []string) {
	t.Helper()
	ctx := timeout(t, 30*time.Second)
	cl := kgoClient(t, bootstrap[0], kgo.SeedBrokers(bootstrap...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, 0)
	for int64(len(out)) < end.Offset && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { out = append(out, string(r.Value)) })
	}
	return out
}

// TestJoin: a fourth node joins a running cluster as an observer, takes replicas, and is still a member after
// everything was restarted. Metadata changes reach the controller through whichever node.
func TestJoin(t *testing.T) {
	c := harness.NewCluster(t, 3)
	k := c.Join(t)
	all := c.Bootstrap()
	k.CLI(t, "", "topic", "create", "t", "-p", "4", "-r", "4")
	leaders(t, all, "t", 4)
	if err := kgoClient(t, k.Addr, kgo.DefaultProduceTopic("t")).ProduceSync(timeout(t, 20*time.Second), kgo.StringRecord("v")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		if err := n.Stop(20 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Start(c.Nodes...); err != nil {
		t.Fatal(err)
	}
	leaders(t, all, "t", 4)
	if _, err := k.TryCLI(t, "", "topic", "create", "u", "-r", "5"); err == nil || !strings.Contains(err.Error(), "INVALID_REPLICATION_FACTOR") {
		t.Errorf("five replicas on four brokers: %v", err)
	}
}

// TestDev: one command is a cluster of three, in which a broker can be stopped and started, and which keeps its
// data and its shape over a restart.
func TestDev(t *testing.T) {
	k := harness.NewKraft(t, "--brokers", "3", "--port", "0")
	play := func(command, id string) error {
		_, err := k.TryCLI(t, "", "dev", command, id, "--data", k.Data)
		return err
	}
	k.CLI(t, "", "topic", "create", "t", "-p", "3", "-r", "3")
	leaders(t, []string{k.Addr}, "t", 3)
	if err := play("stop-broker", "2"); err != nil {
		t.Fatal(err)
	}
	for _, l := range leaders(t, []string{k.Addr}, "t", 2) {
		if l == 2 {
			t.Error("a stopped broker leads")
		}
	}
	if err := play("stop-broker", "2"); err == nil || !strings.Contains(err.Error(), "broker 2 is not running") {
		t.Errorf("stopped twice: %v", err)
	}
	if err := play("start-broker", "9"); err == nil || !strings.Contains(err.Error(), "broker 9 does not exist") {
		t.Errorf("a broker that there is not: %v", err)
	}
	if err := play("start-broker", "2"); err != nil {
		t.Fatal(err)
	}
	leaders(t, []string{k.Addr}, "t", 3)
	k.Restart(t)
	leaders(t, []string{k.Addr}, "t", 3)
	if err := k.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := play("stop-broker", "1"); err == nil || !strings.Contains(err.Error(), "no kraft dev") {
		t.Errorf("with no cluster running: %v", err)
	}
	// The ports are the next ones, and one that is taken is named.
	held := harness.NewKraft(t)
	_, port, _ := strings.Cut(held.Addr, ":")
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.TryCLI(t, "", "dev", "--port", fmt.Sprint(n-1), "--data", t.TempDir()); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("with a port that is taken: %v", err)
	}
}

// TestWipedDiskIsRefused: a voter that comes back with an empty disk is told why it may not.
func TestWipedDiskIsRefused(t *testing.T) {
	c := harness.NewCluster(t, 3)
	c.Nodes[0].CLI(t, "", "topic", "create", "t", "-r", "3")
	leaders(t, c.Bootstrap(), "t", 3)
	k := c.Nodes[2]
	if err := k.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	wipe(t, k.Data)
	if err := k.Start(); err == nil || !strings.Contains(err.Error(), "runs on another disk than before") {
		t.Errorf("a node with an empty disk starts: %v", err)
	}
	c.Nodes[0].CLI(t, "", "topic", "create", "u", "-r", "2")
}

// TestGroupSurvivesKills: a consumer group goes on while its coordinator and the leaders it reads from are killed:
// it sees every acknowledged record, and what it committed never goes back.
func TestGroupSurvivesKills(t *testing.T) {
	c := harness.NewCluster(t, 3, "--override", "min.insync.replicas=2")
	all := c.Bootstrap()
	c.Nodes[0].CLI(t, "", "topic", "create", "load", "-p", "3", "-r", "3")
	leaders(t, all, "load", 3)
	l := startLoad(t, all, "load", 3)
	ctx := timeout(t, 2*time.Minute)
	consumer := kgoClient(t, all[0], kgo.SeedBrokers(all...), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("load"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(), kgo.MetadataMinAge(20*time.Millisecond))
	seen := map[int32]map[string]bool{0: {}, 1: {}, 2: {}}
	poll := func(n int) {
		t.Helper()
		for got := 0; got < n; {
			fetches := consumer.PollFetches(ctx)
			if ctx.Err() != nil {
				t.Fatal("nothing comes any more")
			}
			fetches.EachRecord(func(r *kgo.Record) { seen[r.Partition][string(r.Value)] = true; got++ })
		}
		if err := consumer.CommitUncommittedOffsets(ctx); err != nil {
			t.Logf("commit: %v", err) // a rebalance may come between
		}
	}
	committed := func() kadm.OffsetResponses {
		t.Helper()
		var out kadm.OffsetResponses
		if err := harness.Eventually(30*time.Second, func() (err error) {
			out, err = kadm.NewClient(consumer).FetchOffsets(ctx, "g")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	poll(2000)
	var last kadm.OffsetResponses
	for range 3 {
		last = committed()
		described, err := kadm.NewClient(consumer).DescribeGroups(ctx, "g")
		if err != nil {
			t.Fatal(err)
		}
		node := c.Nodes[described["g"].Coordinator.NodeID-1]
		node.Kill()
		poll(2000)
		committed().Each(func(o kadm.OffsetResponse) {
			if before, ok := last.Lookup(o.Topic, o.Partition); ok && o.At < before.At {
				t.Errorf("partition %d: committed offset went from %d to %d", o.Partition, before.At, o.At)
			}
		})
		if err := node.Start(); err != nil {
			t.Fatal(err)
		}
		leaders(t, all, "load", 3)
		leaders(t, all, "__consumer_offsets", 3)
	}
	l.stop()
	<-l.done
	if err := l.cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	missing := func() (n int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for p, acked := range l.acked {
			for _, v := range acked {
				if !seen[p][fmt.Sprint(v)] {
					n++
				}
			}
		}
		return n
	}
	for missing() > 0 {
		poll(1)
	}
	l.cl.Close()
}

// TestPeers: lists of peers that cannot be are told in a sentence.
func TestPeers(t *testing.T) {
	k := harness.NewKraft(t) // for its binary
	port := func() int {
		p, err := freeport.Get()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	a, b := port(), port()
	run := func(args ...string) string {
		_, err := k.TryCLI(t, "", append(args, "--data", t.TempDir(), "--listeners", fmt.Sprintf("PLAINTEXT://localhost:%d", port()))...)
		if err == nil {
			return "it started"
		}
		return err.Error()
	}
	two := fmt.Sprintf("1@localhost:%d,2@localhost:%d", a, b)
	for name, tc := range map[string]struct {
		args []string
		says string
	}{
		"not among them": {[]string{"--node-id", "3", "--peers", two}, "does not list node 3"},
		"no id":          {[]string{"--peers", two}, "which of them is this node"},
		"an id twice":    {[]string{"--node-id", "1", "--peers", two + ",1@h:1"}, "names node 1 twice"},
		"no address":     {[]string{"--node-id", "1", "--peers", "1"}, "does not list node 1"},
		"both":           {[]string{"--node-id", "1", "--peers", two, "--join", "h:1"}, "exclude each other"},
	} {
		if out := run(tc.args...); !strings.Contains(out, tc.says) {
			t.Errorf("%s: %s", name, out)
		}
	}
	// Two nodes that were given different lists both refuse to begin a cluster.
	answers := make(chan string, 2)
	go func() { answers <- run("--node-id", "1", "--peers", two) }()
	go func() { answers <- run("--node-id", "2", "--peers", two+",3@localhost:1") }()
	for range 2 {
		if out := <-answers; !strings.Contains(out, "start all nodes with the same list") {
			t.Errorf("with lists that disagree: %s", out)
		}
	}
}

// TestEligibleLeaders: kafka-topics --describe shows which replicas may lead without being in sync, as Kafka's does.
func TestEligibleLeaders(t *testing.T) {
	c := harness.NewCluster(t, 3)
	k := c.Nodes[0]
	k.CLI(t, "", "kafka-topics", "--bootstrap-server", k.Addr, "--create", "--topic", "t", "--replica-assignment", "3:1", "--config", "min.insync.replicas=2")
	k.CLI(t, "", "kafka-topics", "--bootstrap-server", k.Addr, "--create", "--topic", "u", "--replica-assignment", "3")
	if err := c.Nodes[2].Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := harness.Eventually(10*time.Second, func() error {
		out := k.CLI(t, "", "kafka-topics", "--bootstrap-server", k.Addr, "--describe")
		for _, line := range []string{ // Kafka 4.4.0 prints them
			"Topic: t\tPartition: 0\tLeader: 1\tReplicas: 3,1\tIsr: 1\tElr: 3\tLastKnownElr: \n",
			"Topic: u\tPartition: 0\tLeader: none\tReplicas: 3\tIsr: \tElr: 3\tLastKnownElr: 3\n",
		} {
			if !strings.Contains(out, line) {
				return fmt.Errorf("it says\n%swithout\n%s", out, line)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
