package node

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"kraft/cli/config"
	"kraft/raftmeta/quorum"
	"kraft/storage"
	"kraft/wire/logging"
)

// trio is three nodes in this process.
type trio struct {
	t       *testing.T
	configs []*config.Config
	nodes   []*Node
}

func newTrio(t *testing.T) *trio {
	t.Helper()
	c := &trio{t: t, nodes: make([]*Node, 3)}
	dir := t.TempDir()
	var doors []net.Listener
	var voters []string
	for i := range c.nodes {
		door, err := net.Listen("tcp", "localhost:0")
		if err != nil {
			t.Fatal(err)
		}
		doors = append(doors, door)
		voters = append(voters, fmt.Sprintf("%d@%s", i+1, door.Addr()))
	}
	for i := range c.nodes {
		conf, err := config.New(map[string]string{"node.id": fmt.Sprint(i + 1), "log.dirs": filepath.Join(dir, fmt.Sprint(i+1)), "listeners": "PLAINTEXT://localhost:0",
			"controller.quorum.voters": strings.Join(voters, ","), "group.initial.rebalance.delay.ms": "0", "min.insync.replicas": "2"})
		if err != nil {
			t.Fatal(err)
		}
		c.configs = append(c.configs, conf)
	}
	var starting sync.WaitGroup
	for i := range c.nodes {
		starting.Go(func() { c.start(i, doors[i]) })
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return c
}

func (c *trio) start(i int, door net.Listener) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	n, err := StartOn(ctx, World{FS: storage.OS{}, Controller: door}, c.configs[i], logging.New(zerolog.Nop(), nil))
	if err != nil {
		c.t.Error(err)
		return
	}
	c.nodes[i] = n
}

func (c *trio) addresses() (out []string) {
	for _, n := range c.nodes {
		out = append(out, n.Addresses()...)
	}
	return out
}

// TestClusterLeavesNothing: three nodes replicate, take a stop and a start of each under load, and end with all of
// their goroutines. It is small enough for the race detector.
func TestClusterLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	c := newTrio(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.addresses()...), kgo.DefaultProduceTopic("t"), kgo.ConsumeTopics("t"), kgo.ConsumerGroup("g"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	admin := kadm.NewClient(cl)
	if _, err := admin.CreateTopic(ctx, 3, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	sent := 0
	send := func() {
		t.Helper()
		var records []*kgo.Record
		for range 200 {
			records = append(records, kgo.StringRecord(fmt.Sprint(sent)))
			sent++
		}
		if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	inSync := func() {
		t.Helper()
		for ctx.Err() == nil {
			topics, err := admin.ListTopics(ctx, "t")
			if err != nil {
				t.Fatal(err)
			}
			full := 0
			for _, p := range topics["t"].Partitions {
				if len(p.ISR) == 3 && p.Leader >= 0 {
					full++
				}
			}
			if full == 3 {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Fatal("not all replicas are in sync")
	}
	for i, n := range c.nodes {
		send()
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
		send()
		c.start(i, nil)
		inSync()
	}
	got := map[string]bool{}
	for len(got) < sent && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { got[string(r.Value)] = true })
	}
	if len(got) != sent {
		t.Errorf("%d records of %d", len(got), sent)
	}
	cl.Close()
	var stopping sync.WaitGroup
	for _, n := range c.nodes {
		stopping.Go(func() {
			if err := n.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
	stopping.Wait()
	goleak.VerifyNone(t, before)
}

// TestAnotherVersion: a node whose version does not support what the cluster has finalized is refused with a sentence
// that says so.
func TestAnotherVersion(t *testing.T) {
	c := newTrio(t)
	defer func() {
		for _, n := range c.nodes {
			if err := n.Stop(); err != nil {
				t.Error(err)
			}
		}
	}()
	conn, err := net.Dial("tcp", c.configs[0].Voters[1])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	hello, err := json.Marshal(quorum.Hello{Kind: "join", Cluster: c.nodes[0].ClusterID(), From: 200, Member: "m", Features: map[string][2]int16{"metadata.version": {7, 8}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32([]byte(quorum.Preface), uint32(len(hello))), hello...)); err != nil {
		t.Fatal(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, binary.BigEndian.Uint32(size[:]))
	var answer quorum.Hello
	if _, err := io.ReadFull(conn, data); err != nil || json.Unmarshal(data, &answer) != nil {
		t.Fatalf("%q: %v", data, err)
	}
	if !strings.Contains(answer.Refused, "supports metadata.version from 7 to 8, this cluster is at 30") {
		t.Errorf("told %q", answer.Refused)
	}
}
