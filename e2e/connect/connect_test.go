// Package connect runs Kafka Connect and MirrorMaker 2 against kraft.
package connect

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

func TestMain(m *testing.M) { harness.Main(m) }

func skipUnlessAll(t *testing.T) {
	if !harness.All() {
		t.Skip("a minute long: it runs with KRAFT_E2E=all")
	}
}

//go:embed testdata/pom.xml
var pom []byte

// jars is where Connect's jars are.
func jars(t *testing.T) string {
	t.Helper()
	harness.Need(t, "java", "javac", "mvn")
	dir, err := harness.Cached("connect", pom, func(tmp string) error {
		at := filepath.Join(tmp, "pom.xml")
		if err := os.WriteFile(at, pom, 0o644); err != nil {
			return err
		}
		return harness.MavenJars(at, tmp)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// program is a JVM that is started again whenever it was killed.
type program struct {
	*harness.Process
	args []string
}

func begin(t *testing.T, classpath, class, properties string) *program {
	t.Helper()
	file := filepath.Join(t.TempDir(), "properties")
	if err := os.WriteFile(file, []byte(properties), 0o644); err != nil {
		t.Fatal(err)
	}
	p := &program{args: []string{"-Xmx300M", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", classpath, class, file}}
	p.start(t)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			out := p.Output()
			t.Logf("%s says: %s", class, out[max(0, len(out)-5000):])
		}
	})
	return p
}

func (p *program) start(t *testing.T) {
	t.Helper()
	var err error
	if p.Process, err = harness.Start(exec.Command("java", p.args...)); err != nil {
		t.Fatal(err)
	}
}

func (p *program) restart(t *testing.T) {
	t.Helper()
	p.Kill()
	p.start(t)
}

// kept is the number of committed records of a topic, read to its end, after calling each with them.
func kept(bootstrap, topic string, each func(*kgo.Record)) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(bootstrap, ",")...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return err
	}
	next := map[int32]int64{}
	behind := func() (out bool) {
		ends.Each(func(o kadm.ListedOffset) { out = out || next[o.Partition] < o.Offset })
		return out
	}
	for behind() {
		if ctx.Err() != nil {
			return fmt.Errorf("read %s to %v of %v: %w", topic, next, ends, ctx.Err())
		}
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			next[r.Partition] = r.Offset + 1
			if !r.Attrs.IsControl() {
				each(r)
			}
		})
	}
	return nil
}

// TestExactlyOnceSource: two workers of Kafka Connect run a source connector exactly once (KIP-618) while they and the brokers are killed, and
// while the topic of their offsets is compacted. In the end each number is there once, in its order.
func TestExactlyOnceSource(t *testing.T) {
	skipUnlessAll(t)
	const tasks, count = 2, 10_000
	at := jars(t)
	classes := t.TempDir()
	if out, err := exec.Command("javac", "-cp", at+"/*", "-d", classes, "testdata/Numbers.java").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.MkdirAll(filepath.Join(classes, "META-INF", "services"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(classes, "META-INF", "services", "org.apache.kafka.connect.source.SourceConnector"), []byte("Numbers\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := harness.NewCluster(t, 3, "--override", "min.insync.replicas=2", "--override", "group.initial.rebalance.delay.ms=0", "--override", "log.cleaner.backoff.ms=500")
	bootstrap := strings.Join(c.Bootstrap(), ",")
	c.Nodes[0].CLI(t, "", "topic", "create", "numbers", "-p", "4", "-r", "3")
	var workers []*program
	var addresses []string
	for range 2 {
		port, err := freeport.Get()
		if err != nil {
			t.Fatal(err)
		}
		address := fmt.Sprintf("http://127.0.0.1:%d", port)
		addresses = append(addresses, address)
		workers = append(workers, begin(t, classes+":"+at+"/*", "org.apache.kafka.connect.cli.ConnectDistributed", strings.Join([]string{
			"bootstrap.servers=" + bootstrap,
			"listeners=" + address,
			"group.id=workers",
			"exactly.once.source.support=enabled",
			"plugin.discovery=service_load",
			"key.converter=org.apache.kafka.connect.storage.StringConverter",
			"value.converter=org.apache.kafka.connect.storage.StringConverter",
			"config.storage.topic=configs", "config.storage.replication.factor=3",
			"status.storage.topic=status", "status.storage.replication.factor=3", "status.storage.partitions=1",
			"offset.storage.topic=offsets", "offset.storage.replication.factor=3", "offset.storage.partitions=1",
			"offset.storage.segment.ms=1000", "offset.storage.min.cleanable.dirty.ratio=0.01",
			"producer.transaction.timeout.ms=5000",
			"scheduled.rebalance.max.delay.ms=0", "session.timeout.ms=10000", "heartbeat.interval.ms=1000",
		}, "\n")))
	}
	config, err := json.Marshal(map[string]string{
		"connector.class": "Numbers", "tasks.max": strconv.Itoa(tasks), "topic": "numbers", "count": strconv.Itoa(count),
		"exactly.once.support": "required", "transaction.boundary": "poll",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := harness.Eventually(time.Minute, func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, addresses[0]+"/connectors/numbers/config", bytes.NewReader(config))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			return fmt.Errorf("status %s", resp.Status)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(4 * time.Minute)
	for round := 0; ; round++ {
		next, total := map[string]int{}, 0
		wrong := ""
		if err := kept(bootstrap, "numbers", func(r *kgo.Record) {
			total++
			if want := strconv.Itoa(next[string(r.Key)]); string(r.Value) != want && wrong == "" {
				wrong = fmt.Sprintf("task %s: %s in place of %s at %d/%d", r.Key, r.Value, want, r.Partition, r.Offset)
			}
			next[string(r.Key)]++
		}); err != nil {
			t.Logf("round %d: %v", round, err)
		}
		if wrong != "" {
			t.Fatal(wrong)
		}
		if total == tasks*count {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d records are there", total, tasks*count)
		}
		switch {
		case total == 0 || round > 16:
		case round%4 == 0:
			workers[round/4%2].restart(t)
		case round%4 == 2:
			node := c.Nodes[round/4%3]
			node.Kill()
			if err := node.Start(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second) // the pace of kills
	}
	offsets := 0
	if err := kept(bootstrap, "offsets", func(*kgo.Record) { offsets++ }); err != nil {
		t.Fatal(err)
	}
	if offsets > tasks*count/20 { // a record for each poll
		t.Errorf("the topic of offsets has %d records: it was not compacted", offsets)
	}
}
