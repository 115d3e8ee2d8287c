//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
	"kraft/wire/record"
)

// TestReassign moves all partitions of a topic to a broker that has just joined, under load, and its voter's seat
// too; what was moved away is deleted, and nothing acknowledged is lost.
func TestReassign(t *testing.T) {
	c := harness.NewCluster(t, 3, "--override", "log.segment.delete.delay.ms=0", "--override", "log.retention.check.interval.ms=200")
	c.Nodes[0].CLI(t, "", "topic", "create", "load", "-p", "3", "-r", "2")
	all := c.Bootstrap()
	leaders(t, all, "load", 2)
	l := startLoad(t, all, "load", 3)
	l.more(2000)
	joined := c.Join(t)
	all = c.Bootstrap()
	admin := kadm.NewClient(kgoClient(t, joined.Addr, kgo.SeedBrokers(all...), kgo.MetadataMinAge(10*time.Millisecond)))
	ctx := timeout(t, 2*time.Minute)
	loaded := kadm.TopicsSet{"load": {0: {}, 1: {}, 2: {}}}
	req := kadm.AlterPartitionAssignmentsReq{}
	for p := range int32(3) {
		req.Assign("load", p, []int32{4, 1 + p})
	}
	resp, err := admin.AlterPartitionAssignments(ctx, req)
	if err == nil {
		err = resp.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := harness.Eventually(time.Minute, func() error {
		left, err := admin.ListPartitionReassignments(ctx, loaded) // kadm asks nothing about an empty set
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("under way: %v", left)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	// Leaders that stay among the replicas go on, until the preferred ones are asked for.
	elected, err := admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, loaded)
	if err != nil {
		t.Fatal(err)
	}
	for p, r := range elected["load"] {
		if r.Err != nil && !errors.Is(r.Err, kerr.ElectionNotNeeded) {
			t.Errorf("preferred leader of partition %d: %v %s", p, r.Err, r.ErrMessage)
		}
	}
	if err := harness.Eventually(10*time.Second, func() error {
		for p, leader := range leaders(t, all, "load", 2) {
			if leader != 4 {
				return fmt.Errorf("partition %d is led by %d", p, leader)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	began := time.Now()
	l.more(1000)
	if took := time.Since(began); took > 15*time.Second { // a follower that gets nowhere leaves the ISR after 30 to 45
		t.Errorf("the new leaders took %v for 1000 records", took)
	}
	// Every broker holds what it is to hold, and no more.
	if err := harness.Eventually(20*time.Second, func() error {
		for i, k := range c.Nodes {
			for p := range 3 {
				_, err := os.Stat(filepath.Join(k.Data, fmt.Sprintf("load-%d", p)))
				if want := i == 3 || i == p; (err == nil) != want {
					return fmt.Errorf("broker %d and partition %d: %v", i+1, p, err)
				}
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	l.check(all)
}

// TestClusterTools: Apache Kafka's own tools for clusters, unmodified.
func TestClusterTools(t *testing.T) {
	jars := harness.NeedKafka(t)
	c := harness.NewCluster(t, 3)
	c.Nodes[0].CLI(t, "", "topic", "create", "t", "-p", "2", "-r", "3")
	all := c.Bootstrap()
	leaders(t, all, "t", 3)
	tool := func(class string, args ...string) string {
		t.Helper()
		return harness.RunTool(t, jars, "", "org.apache.kafka.tools."+class, append(args, "--bootstrap-server", all[1])...)
	}
	says := func(out string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(out, p) {
				t.Errorf("no %q in:\n%s", p, out)
			}
		}
	}
	joined := c.Join(t)
	status := func() string {
		return harness.RunTool(t, jars, "", "org.apache.kafka.tools.MetadataQuorumCommand", "--bootstrap-server", all[1], "describe", "--status")
	}
	says(status(), "LeaderId:", "MaxFollowerLag:", `{"id": 1`, `{"id": 2`, `{"id": 3`, "CurrentObservers:", `{"id": 4`)
	says(harness.RunTool(t, jars, "", "org.apache.kafka.tools.MetadataQuorumCommand", "--bootstrap-server", joined.Addr, "describe", "--replication"), "Leader", "Follower", "Observer")

	// The node that joined becomes a voter, and goes back.
	cl := kgoClient(t, joined.Addr)
	if err := voter(cl, true, 4); err != nil {
		t.Fatal(err)
	}
	if err := voter(cl, true, 4); !errors.Is(err, kerr.DuplicateVoter) {
		t.Errorf("made a voter twice: %v", err)
	}
	if out := status(); strings.Contains(out, `CurrentObservers:       [{"id": 4`) {
		t.Errorf("still an observer:\n%s", out)
	}
	if err := voter(cl, false, 4); err != nil {
		t.Fatal(err)
	}
	if err := voter(cl, false, 9); !errors.Is(err, kerr.VoterNotFound) {
		t.Errorf("a voter that there is not: %v", err)
	}

	plan := filepath.Join(t.TempDir(), "plan.json")
	if err := os.WriteFile(plan, []byte(`{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[4,1,2]},{"topic":"t","partition":1,"replicas":[3,4]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	says(tool("reassign.ReassignPartitionsCommand", "--execute", "--reassignment-json-file", plan), "Successfully started partition reassignments for t-0,t-1")
	if err := harness.Eventually(time.Minute, func() error {
		out := tool("reassign.ReassignPartitionsCommand", "--verify", "--reassignment-json-file", plan)
		if strings.Count(out, "is completed.") != 2 {
			return errors.New(out)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	says(tool("LeaderElectionCommand", "--election-type", "preferred", "--all-topic-partitions"), "")
	want := leaders(t, all, "t", 2)
	if want[0] != 4 || want[1] != 3 {
		t.Errorf("leaders are %v, preferred are 4 and 3", want)
	}
	says(harness.RunTool(t, jars, "", "org.apache.kafka.tools.ClusterTool", "cluster-id", "--bootstrap-server", all[0]), "Cluster ID:")
	// A broker that is gone can be forgotten.
	if err := joined.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	says(harness.RunTool(t, jars, "", "org.apache.kafka.tools.ClusterTool", "unregister", "--bootstrap-server", all[0], "--id", "4"), "Broker 4 is no longer registered.")
	meta, err := kadm.NewClient(kgoClient(t, all[0])).BrokerMetadata(context.Background())
	if err != nil || len(meta.Brokers) != 3 {
		t.Errorf("brokers %v, %v", meta.Brokers, err)
	}
}

// voter adds or removes a voter of the quorum.
func voter(cl *kgo.Client, add bool, id int32) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if add {
		req := kmsg.NewPtrAddRaftVoterRequest()
		req.VoterID, req.TimeoutMillis = id, 10_000
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	}
	req := kmsg.NewPtrRemoveRaftVoterRequest()
	req.VoterID = id
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// readFrom counts the brokers that a client's fetches are answered by.
type readFrom struct {
	mu sync.Mutex
	by map[int32]int
}

func (r *readFrom) OnBrokerRead(meta kgo.BrokerMetadata, key int16, bytes int, _, _ time.Duration, err error) {
	if key == 1 && err == nil && bytes > 200 {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.by[meta.NodeID]++
	}
}

// TestNearestReplica: a consumer that says its rack reads from the follower there, and sees new records at once
// (KIP-392); a producer that asks a follower is told the leader and its address (KIP-951).
func TestNearestReplica(t *testing.T) {
	c := harness.NewCluster(t, 3, "--override", "broker.rack=rack-{id}", "--override", "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector")
	c.Nodes[0].CLI(t, "", "topic", "create", "t", "-r", "3")
	all := c.Bootstrap()
	leader := leaders(t, all, "t", 3)[0]
	follower := leader%3 + 1
	ctx := timeout(t, time.Minute)
	seen := &readFrom{by: map[int32]int{}}
	consumer := kgoClient(t, all[0], kgo.SeedBrokers(all...), kgo.Rack(fmt.Sprint("rack-", follower)), kgo.WithHooks(seen),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset().AtStart()}}))
	producer := kgoClient(t, all[0], kgo.DefaultProduceTopic("t"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	begun := time.Now()
	for round := range 20 {
		value := fmt.Sprint(strings.Repeat("x", 300), round)
		if err := producer.ProduceSync(ctx, kgo.StringRecord(value)).FirstErr(); err != nil {
			t.Fatal(err)
		}
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		if records := fetches.Records(); len(records) != 1 || string(records[0].Value) != value {
			t.Fatalf("round %d: %v", round, records)
		}
	}
	took := time.Since(begun)
	t.Logf("20 records one after the other took %v", took)
	if took > 5*time.Second {
		t.Errorf("20 records one after the other took %v", took)
	}
	seen.mu.Lock()
	if seen.by[follower] < 15 || seen.by[leader] > 5 {
		t.Errorf("fetches with records by broker: %v, the follower in the rack is %d", seen.by, follower)
	}
	seen.mu.Unlock()

	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = 1, 1000
	topic := kmsg.NewProduceRequestTopic()
	topics, err := kadm.NewClient(producer).ListTopics(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	topic.Topic, topic.TopicID = "t", topics["t"].ID
	p := kmsg.NewProduceRequestTopicPartition()
	w := record.NewBuilder(record.None)
	w.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte("v")})
	if p.Records, err = w.Build(); err != nil {
		t.Fatal(err)
	}
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	answer, err := producer.Broker(int(follower)).Request(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	resp := answer.(*kmsg.ProduceResponse)
	got := resp.Topics[0].Partitions[0]
	if got.ErrorCode != kerr.NotLeaderForPartition.Code || got.CurrentLeader.LeaderID != leader || len(resp.Brokers) != 1 || resp.Brokers[0].NodeID != leader {
		t.Errorf("a follower answers %+v with brokers %v, the leader is %d", got, resp.Brokers, leader)
	}
}

// TestDrainAndRebalance: a broker that joins gets its share, one that is drained holds nothing, and a plan says
// beforehand what it would do.
func TestDrainAndRebalance(t *testing.T) {
	c := harness.NewCluster(t, 3)
	k := c.Nodes[0]
	k.CLI(t, "", "topic", "create", "t", "-p", "12", "-r", "2")
	leaders(t, c.Bootstrap(), "t", 2)
	l := startLoad(t, c.Bootstrap(), "t", 12)
	l.more(1000)
	c.Join(t)
	holds := func() (held, leads [5]int) {
		t.Helper()
		topics, err := kadm.NewClient(kgoClient(t, k.Addr)).ListTopics(timeout(t, 10*time.Second), "t")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range topics["t"].Partitions {
			leads[p.Leader]++
			for _, r := range p.Replicas {
				held[r]++
			}
		}
		return held, leads
	}
	before, _ := holds()
	if out := k.CLI(t, "", "cluster", "rebalance", "--dry-run"); !strings.Contains(out, "BECOME") {
		t.Errorf("the plan is:\n%s", out)
	}
	if now, _ := holds(); now != before {
		t.Errorf("a dry run moved replicas: %v, %v", before, now)
	}
	if out := k.CLI(t, "", "cluster", "rebalance"); !strings.Contains(out, "moved ") {
		t.Errorf("rebalance says %q", out)
	}
	if err := harness.Eventually(10*time.Second, func() error {
		if held, leads := holds(); held != [5]int{0, 6, 6, 6, 6} || leads != [5]int{0, 3, 3, 3, 3} {
			return fmt.Errorf("brokers hold %v and lead %v", held, leads)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if out := k.CLI(t, "", "cluster", "rebalance"); !strings.Contains(out, "evenly already") {
		t.Errorf("a second rebalance says %q", out)
	}
	if out := k.CLI(t, "", "broker", "drain", "4", "--throttle", "50000000"); !strings.Contains(out, "moved 6 partitions") {
		t.Errorf("drain says %q", out)
	}
	configs, err := kadm.NewClient(kgoClient(t, k.Addr)).DescribeTopicConfigs(timeout(t, 10*time.Second), "t")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range configs[0].Configs {
		if strings.Contains(c.Key, "throttled") && c.MaybeValue() != "" {
			t.Errorf("%s is still %s", c.Key, c.MaybeValue())
		}
	}
	if held, _ := holds(); held[4] != 0 {
		t.Errorf("brokers hold %v after 4 was drained", held)
	}
	if out := k.CLI(t, "", "cluster", "describe"); !strings.Contains(out, "brokers 4  partitions 12") {
		t.Errorf("cluster describe says:\n%s", out)
	}
	if _, err := k.TryCLI(t, "", "broker", "drain", "four"); err == nil || !strings.Contains(err.Error(), "no broker id") {
		t.Errorf("drain four: %v", err)
	}
	l.check(c.Bootstrap())
}

// TestThrottledReassignment: leader.replication.throttled.* and follower.replication.throttled.* slow a move down,
// and no other replication; taken away, the move ends at once.
func TestThrottledReassignment(t *testing.T) {
	c := harness.NewCluster(t, 3)
	all := c.Bootstrap()
	ctx := timeout(t, time.Minute)
	cl := kgoClient(t, all[0], kgo.SeedBrokers(all...), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MetadataMinAge(10*time.Millisecond))
	admin := kadm.NewClient(cl)
	const rate = 2_000_000 // bytes a second
	for _, side := range []string{"leader", "follower"} {
		t.Run(side, func(t *testing.T) {
			s := func(v string) *string { return &v }
			topic := "slow-" + side
			if _, err := admin.CreateTopic(ctx, 1, 1, map[string]*string{side + ".replication.throttled.replicas": s("*")}, topic); err != nil {
				t.Fatal(err)
			}
			if _, err := admin.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Name: side + ".replication.throttled.rate", Value: s(fmt.Sprint(rate))}}); err != nil {
				t.Fatal(err)
			}
			for range 20 {
				if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: make([]byte, 500_000)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			from := leaders(t, all, topic, 1)[0]
			to := from%3 + 1
			begun := time.Now()
			req := kadm.AlterPartitionAssignmentsReq{}
			req.Assign(topic, 0, []int32{to})
			if resp, err := admin.AlterPartitionAssignments(ctx, req); err != nil || resp.Error() != nil {
				t.Fatal(err, resp.Error())
			}
			copied := func() int64 {
				dirs, err := admin.DescribeBrokerLogDirs(ctx, to, kadm.TopicsSet{topic: {0: {}}})
				if err != nil {
					t.Fatal(err)
				}
				p, _ := dirs.LookupPartition(topic, 0)
				return p.Size
			}
			for copied() < 4_000_000 && ctx.Err() == nil {
				time.Sleep(10 * time.Millisecond)
			}
			if took := time.Since(begun); took < 500*time.Millisecond {
				t.Errorf("4 MB at %d bytes a second took %v", rate, took)
			}
			if n := copied(); n > 9_000_000 {
				t.Errorf("%d bytes are copied already", n)
			}
			// Other topics are not slowed down.
			if _, err := admin.CreateTopic(ctx, 1, 3, nil, "fast-"+side); err != nil {
				t.Fatal(err)
			}
			other := time.Now()
			for range 10 {
				if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "fast-" + side, Value: make([]byte, 500_000)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(other); took > time.Second {
				t.Errorf("5 MB to a topic without throttle took %v", took)
			}
			if _, err := admin.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: kadm.DeleteConfig, Name: side + ".replication.throttled.rate"}}); err != nil {
				t.Fatal(err)
			}
			if err := harness.Eventually(5*time.Second, func() error {
				left, err := admin.ListPartitionReassignments(ctx, kadm.TopicsSet{topic: {0: {}}})
				if err == nil && len(left) > 0 {
					err = fmt.Errorf("%d bytes are copied", copied())
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestControllersApart: a controller and a broker by two server.properties, as operators of large clusters have
// them, under Kafka's own keys.
func TestControllersApart(t *testing.T) {
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	ports := make([]int, 2)
	for i := range ports {
		if ports[i], err = freeport.Get(); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	run := func(name string, lines ...string) *harness.Process {
		t.Helper()
		file := filepath.Join(dir, name+".properties")
		lines = append(lines, "log.dirs="+filepath.Join(dir, name), "controller.listener.names=CONTROLLER", fmt.Sprintf("controller.quorum.voters=100@localhost:%d", ports[0]))
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := harness.Start(exec.Command(bin, "server", file))
		if err != nil {
			t.Fatal(err)
		}
		if err := harness.Says(p, "is ready at", 20*time.Second); err != nil {
			p.Kill()
			t.Fatal(err)
		}
		return p
	}
	controller := func() *harness.Process {
		return run("controller", "process.roles=controller", "node.id=100", fmt.Sprintf("listeners=CONTROLLER://localhost:%d", ports[0]))
	}
	broker := func() *harness.Process {
		return run("broker", "process.roles=broker", "node.id=1", fmt.Sprintf("listeners=PLAINTEXT://localhost:%d", ports[1]))
	}
	end := func(p *harness.Process) {
		t.Helper()
		if err := p.Stop(20 * time.Second); err != nil {
			t.Error(err)
		}
	}
	c, b := controller(), broker()
	cl := kgoClient(t, fmt.Sprintf("localhost:%d", ports[1]), kgo.DefaultProduceTopic("t"), kgo.AllowAutoTopicCreation())
	put := func(value string) {
		t.Helper()
		if err := cl.ProduceSync(timeout(t, 20*time.Second), kgo.StringRecord(value)).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	put("one")
	meta, err := kadm.NewClient(cl).BrokerMetadata(timeout(t, 10*time.Second))
	if err != nil || len(meta.Brokers) != 1 || meta.Brokers[0].NodeID != 1 {
		t.Errorf("brokers %v, %v", meta.Brokers, err)
	}
	end(c) // the broker goes on without its controller
	put("two")
	c = controller()
	end(b)
	b = broker()
	put("three")
	if got := readTopicAt(t, []string{fmt.Sprintf("localhost:%d", ports[1])}, "t"); strings.Join(got, ",") != "one,two,three" {
		t.Errorf("the topic holds %v", got)
	}
	end(b)
	end(c)
}

// TestDeletedWhileAway: what a broker has of a topic that was deleted while it did not run is set aside at its start, and its log says so.
func TestDeletedWhileAway(t *testing.T) {
	c := harness.NewCluster(t, 3)
	all := c.Bootstrap()
	c.Nodes[0].CLI(t, "", "topic", "create", "gone", "-p", "1", "-r", "3")
	leaders(t, all, "gone", 3)
	c.Nodes[0].CLI(t, "one\n", "produce", "gone")
	dir := filepath.Join(c.Nodes[2].Data, "gone-0")
	if err := harness.Eventually(10*time.Second, func() error { _, err := os.Stat(dir); return err }); err != nil {
		t.Fatal(err)
	}
	if err := c.Nodes[2].Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	c.Nodes[0].CLI(t, "", "topic", "delete", "gone")
	if err := c.Nodes[2].Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s: %v", dir, err)
	}
	if strays, _ := filepath.Glob(dir + ".*-stray"); len(strays) != 1 || !strings.Contains(c.Nodes[2].Output(), strays[0]) {
		t.Errorf("set aside are %v; the node says\n%s", strays, c.Nodes[2].Output())
	}
}
