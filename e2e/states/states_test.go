//go:build unix

// Package states drives the commands of operators through the states of a cluster.
package states

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
)

var writeStates = flag.Bool("write-states", false, "write what commands print into testdata instead of comparing")

// stateCommands are what operators look at a cluster with, and do to it. BROKERS is for all brokers' addresses; commands without it get
// one that runs.
var stateCommands = []string{
	"health -b ONE",
	"broker list -b BROKERS",
	"cluster describe -b BROKERS",
	"quorum status -b BROKERS",
	"doctor -b BROKERS",
	"topic list -b BROKERS",
	"topic describe t -b BROKERS",
	"partition list -b BROKERS",
	"partition list --under-replicated -b BROKERS",
	"partition list --offline -b BROKERS",
	"partition status -b BROKERS",
	"group list -b BROKERS",
	"group describe g -b BROKERS",
	"group lag -b BROKERS",
	"config list --topic t -b BROKERS",
	"topic create new -p 1 -r 3 -b BROKERS",
	"config set --topic t retention.ms=100000 -b BROKERS",
	"partition elect t -b BROKERS",
	"topic delete new -b BROKERS",
}

// TestCommandsInStates has the commands of operators look at a cluster in each state that it can be in, and pins what they print, in
// testdata; -write-states writes that anew. None takes longer than half a minute.
func TestCommandsInStates(t *testing.T) {
	c := harness.NewCluster(t, 3, settings...)
	s := newStates(t, c.Nodes, c.Controllers())
	node := func(i int) *harness.Kraft { return s.nodes[i] }
	s.fill()
	s.run("well")

	node(2).Kill()
	s.until(without3)
	s.run("one down")

	node(1).Kill()
	s.untilSaid("no leader", "health", "-b", node(0).Addr)
	s.run("majority down")

	node(0).Kill()
	s.run("all down")

	if err := c.Start(s.nodes...); err != nil {
		t.Fatal(err)
	}
	s.until(whole)
	s.preferred()
	node(2).Signal(t, syscall.SIGSTOP)
	s.until(without3)
	s.run("one silent")
	node(2).Signal(t, syscall.SIGCONT)
	s.until(whole)

	s.preferred()
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	move, err := harness.Start(exec.Command(bin, "partition", "move", "alone:0", "--to", "2", "--throttle", "1000", "-b", node(0).Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer move.Kill()
	s.untilSaid("alone ", "partition", "status", "-b", node(0).Addr)
	s.run("moving")
}

func TestMain(m *testing.M) { harness.Main(m) }

// settings are those of the brokers.
var settings = []string{"--override", "offsets.topic.num.partitions=1", "--override", "leader.imbalance.check.interval.seconds=100000"}

// What a replicated partition is to be like, for until.
var (
	whole    = func(p kmsg.MetadataResponseTopicPartition) bool { return len(p.ISR) == 3 }
	without3 = func(p kmsg.MetadataResponseTopicPartition) bool { return !slices.Contains(p.ISR, 3) }
)

// states is a cluster of three that each run of the tests sets up in the same way.
type states struct {
	t         *testing.T
	nodes     []*harness.Kraft
	bootstrap []string
	names     *strings.Replacer // of addresses and directories

	// from runs f where the operator is, whose commands these are.
	from func(f func() error) error
	// asked is the broker that commands without BROKERS ask, nil for the first that runs.
	asked *harness.Kraft
}

func newStates(t *testing.T, nodes []*harness.Kraft, controllers []string) *states {
	s := &states{t: t, nodes: nodes, from: func(f func() error) error { return f() }}
	var names []string
	for i, k := range nodes {
		s.bootstrap = append(s.bootstrap, k.Addr)
		names = append(names, k.Addr, fmt.Sprintf("broker%d:9092", i+1), controllers[i], fmt.Sprintf("controller%d:9093", i+1), k.Data, fmt.Sprintf("/data%d", i+1))
	}
	s.names = strings.NewReplacer(names...)
	return s
}

// dial has clients connect from where the operator is.
func (s *states) dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = s.from(func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// fill makes the topics and the group that commands look at.
func (s *states) fill() {
	t := s.t
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.bootstrap...), kgo.Dialer(s.dial), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	create := kmsg.NewPtrCreateTopicsRequest()
	create.TimeoutMillis = 10_000
	for name, assignments := range map[string][][]int32{"t": {{1, 2, 3}, {2, 3, 1}, {3, 1, 2}}, "alone": {{1}}, "__consumer_offsets": {{1, 2, 3}}} {
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, -1, -1
		for n, replicas := range assignments {
			a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
			a.Partition, a.Replicas = int32(n), replicas
			topic.ReplicaAssignment = append(topic.ReplicaAssignment, a)
		}
		create.Topics = append(create.Topics, topic)
	}
	if _, err := create.RequestWith(ctx, cl); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, topic := range []string{"t", "alone"} {
		for n := range 30 {
			r := &kgo.Record{Topic: topic, Value: []byte("x")}
			if topic == "t" {
				r.Partition = int32(n % 3)
			} else { // enough that a throttled move of it goes on to the end
				for len(r.Value) < 10_000 {
					r.Value = append(r.Value, byte(rng.Uint32()))
				}
			}
			if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	offsets := kadm.Offsets{}
	for n := range int32(3) {
		offsets.AddOffset("t", n, 4, -1)
	}
	if _, err := kadm.NewClient(cl).CommitOffsets(ctx, "g", offsets); err != nil {
		t.Fatal(err)
	}
}

// preferred has the first replicas of all partitions lead.
func (s *states) preferred() {
	s.t.Helper()
	s.cli("partition", "elect", "t", "__consumer_offsets", "-b", s.nodes[0].Addr)
	s.until(func(p kmsg.MetadataResponseTopicPartition) bool { return p.Leader == p.Replicas[0] && len(p.ISR) == 3 })
}

// one is the address of the broker that is asked: the first that runs, of all if none does.
func (s *states) one() string {
	if s.asked != nil {
		return s.asked.Addr
	}
	for _, k := range s.nodes {
		select {
		case <-k.Done():
		default:
			return k.Addr
		}
	}
	return s.nodes[0].Addr
}

// cli runs a command, and returns what it prints.
func (s *states) cli(args ...string) string {
	s.t.Helper()
	bin, err := harness.Binary()
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var out []byte
	err = s.from(func() (err error) {
		out, err = exec.CommandContext(ctx, bin, args...).CombinedOutput()
		return err
	})
	if ctx.Err() != nil {
		s.t.Errorf("%v does not end", args)
	}
	status := 0
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		status = ended.ExitCode()
	}
	return fmt.Sprintf("%s[%d]\n", out, status)
}

// until waits until a broker that runs says that all replicated partitions are as they should.
func (s *states) until(good func(kmsg.MetadataResponseTopicPartition) bool) {
	s.t.Helper()
	if err := harness.Eventually(20*time.Second, func() error {
		cl, err := kgo.NewClient(kgo.SeedBrokers(s.one()), kgo.Dialer(s.dial))
		if err != nil {
			return err
		}
		defer cl.Close()
		req := kmsg.NewPtrMetadataRequest()
		for _, name := range []string{"t", "__consumer_offsets"} {
			topic := kmsg.NewMetadataRequestTopic()
			topic.Topic = kmsg.StringPtr(name)
			req.Topics = append(req.Topics, topic)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		for _, topic := range resp.Topics {
			for _, p := range topic.Partitions {
				if !good(p) {
					return fmt.Errorf("%s:%d: leader %d, ISR %v", *topic.Topic, p.Partition, p.Leader, p.ISR)
				}
			}
		}
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
}

// untilSaid waits until a command says something.
func (s *states) untilSaid(text string, args ...string) {
	s.t.Helper()
	if err := harness.Eventually(20*time.Second, func() error {
		if out := s.cli(args...); !strings.Contains(out, text) {
			return fmt.Errorf("%v says %s", args, out)
		}
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
}

// differing matches what no two runs print alike: ids, times, and sizes that depend on them.
var differing = regexp.MustCompile(`leader \d+ +term \d+ +high watermark \d+|(leader|voter) +controller\d:9093 +\d+ +\d+ +\S+( ago)?|controller -?\d+\b|controller\d+:9093|process \d+ here +has \d+ of \d+|127\.0\.0\.1:\d+|\b[A-Za-z0-9_-]{22}\b|\b\d+(\.\d+)?(µs|ms|s)\b|\b\d+ (ms|seconds?)\b`)

// sizes are in the lines of broker list, where a move may be under way.
var sizes = regexp.MustCompile(`((?:running|disk full) +\d+ +\d+ +)[\d.]+ \w+`)

// leaderEpochs are in the lines of topic describe: one more with each election.
var leaderEpochs = regexp.MustCompile(`(?m)^(\d+ +-?\d+ +)\d+( +\d,)`)

// replicasAndISR are columns beside each other. The order of an ISR has no meaning.
var replicasAndISR = regexp.MustCompile(`\d(,\d)+ +\d(,\d)*`)

// between columns is as much as the longest address or path wants.
var between = regexp.MustCompile(`   +`)

func sortISR(columns string) string {
	i := strings.LastIndex(columns, " ") + 1
	isr := strings.Split(columns[i:], ",")
	slices.Sort(isr)
	return columns[:i] + strings.Join(isr, ",")
}

// run compares what all commands print in a state with the file of that state.
func (s *states) run(state string) {
	s.t.Helper()
	var out strings.Builder
	for _, command := range stateCommands {
		args := strings.Fields(strings.NewReplacer("BROKERS", strings.Join(s.bootstrap, ","), "ONE", s.one()).Replace(command))
		said := differing.ReplaceAllString(s.names.Replace(s.cli(args...)), "~")
		said = replicasAndISR.ReplaceAllStringFunc(said, sortISR)
		said = sizes.ReplaceAllString(said, "$1~")
		said = leaderEpochs.ReplaceAllString(said, "$1~$2")
		said = between.ReplaceAllString(said, "  ")
		fmt.Fprintf(&out, "$ kraft %s\n%s\n", strings.TrimSuffix(strings.TrimSuffix(command, " -b BROKERS"), " -b ONE"), said)
	}
	path := filepath.Join("testdata", strings.ReplaceAll(state, " ", "-")+".txt")
	if *writeStates {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			s.t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	wants, gots := strings.Split(string(want), "\n$ "), strings.Split(out.String(), "\n$ ")
	for i := range max(len(wants), len(gots)) {
		if i >= len(wants) || i >= len(gots) || wants[i] != gots[i] {
			s.t.Errorf("%s\n--- is to be\n%s\n--- is\n%s", state, wants[min(i, len(wants)-1)], gots[min(i, len(gots)-1)])
		}
	}
}
