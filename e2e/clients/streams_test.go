package clients

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
)

// TestStreams: two instances of a Kafka Streams application with exactly_once_v2 count words and join a stream with a table, while they and
// the brokers are killed. In the end each count is exact, and each order is joined once.
func TestStreams(t *testing.T) {
	harness.Need(t, "java", "mvn")
	jars := install(t, "streams", []string{"pom.xml"}, []string{"mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=."})
	c := harness.NewCluster(t, 3, "--override", "min.insync.replicas=2", "--override", "group.initial.rebalance.delay.ms=0", "--override", "transaction.abort.timed.out.transaction.cleanup.interval.ms=1000")
	for _, topic := range []string{"lines", "counts", "orders", "joined"} {
		c.Nodes[0].CLI(t, "", "topic", "create", topic, "-p", "4", "-r", "3")
	}
	c.Nodes[0].CLI(t, "", "topic", "create", "users", "-p", "4", "-r", "3", "--config", "cleanup.policy=compact")
	const words, lines, users, orders, rounds = 50, 20_000, 20, 10_000, 10
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	send := func(topic string, from, to int, record func(i int) *kgo.Record) {
		t.Helper()
		var all []*kgo.Record
		for i := from; i < to; i++ {
			r := record(i)
			r.Topic = topic
			all = append(all, r)
		}
		if err := cl.ProduceSync(ctx, all...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	send("users", 0, users, func(i int) *kgo.Record {
		return &kgo.Record{Key: fmt.Appendf(nil, "u%d", i), Value: fmt.Appendf(nil, "user %d", i)}
	})
	state := t.TempDir()
	instances := make([]*harness.Process, 2)
	start := func(i int) {
		t.Helper()
		cmd := exec.Command("java", "-Xmx256M", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", jars+"/*", filepath.Join(dir("streams"), "Application.java"),
			strings.Join(c.Bootstrap(), ","), filepath.Join(state, fmt.Sprint(i)))
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		p, err := harness.Start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Kill(); _ = stdin.Close() })
		instances[i] = p
	}
	start(0)
	start(1)
	for round := range rounds {
		send("lines", lines/rounds*round, lines/rounds*(round+1), func(i int) *kgo.Record {
			return &kgo.Record{Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "word%d", i%words)}
		})
		send("orders", orders/rounds*round, orders/rounds*(round+1), func(i int) *kgo.Record {
			return &kgo.Record{Key: fmt.Appendf(nil, "u%d", i%users), Value: fmt.Appendf(nil, "order %d", i)}
		})
		time.Sleep(3 * time.Second) // the application works, and is killed in the middle of it
		switch round % 3 {
		case 0:
			i := round / 3 % 2
			instances[i].Kill()
			start(i)
		case 1:
			node := c.Nodes[round/3%3]
			node.Kill()
			if err := node.Start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	counts, joined := map[string]string{}, map[string]int{}
	reader, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap()...), kgo.ConsumeTopics("counts", "joined"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	exact := func() bool {
		n := 0
		for _, count := range counts {
			if count == fmt.Sprint(lines/words) {
				n++
			}
		}
		return n == words && len(joined) == orders
	}
	for !exact() {
		polling, cancel := context.WithTimeout(ctx, time.Second)
		reader.PollFetches(polling).EachRecord(func(r *kgo.Record) {
			if r.Topic == "counts" {
				counts[string(r.Key)] = string(r.Value)
			} else {
				joined[string(r.Value)]++
			}
		})
		cancel()
		if ctx.Err() != nil {
			offsets, _ := kadm.NewClient(cl).FetchOffsets(context.Background(), "application")
			t.Fatalf("counts %v, %d orders are joined, offsets %v\n%s\n%s", counts, len(joined), offsets, instances[0].Output(), instances[1].Output())
		}
	}
	time.Sleep(2 * time.Second) // nothing more may come
	polling, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	reader.PollFetches(polling).EachRecord(func(r *kgo.Record) { t.Errorf("%s: %s %s comes late", r.Topic, r.Key, r.Value) })
	for order, times := range joined {
		if times != 1 {
			t.Errorf("%q is joined %d times", order, times)
		}
	}
}
