package tools

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
)

// TestDumpLog: of all files of a partition, and of the group's offsets, kraft's dump-log prints what Apache Kafka's does.
func TestDumpLog(t *testing.T) {
	jars := harness.NeedKafka(t)
	k := harness.NewKraft(t, "--override", "offsets.topic.num.partitions=1")
	k.CLI(t, "", "topic", "create", "t", "-p", "1", "--config", "segment.bytes=1048576", "--config", "compression.type=producer")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.ZstdCompression()} {
		cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr), kgo.DefaultProduceTopic("t"), kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(16<<10))
		if err != nil {
			t.Fatal(err)
		}
		for n := range 300 {
			r := &kgo.Record{Key: fmt.Append(nil, "k", n), Value: []byte(strings.Repeat(fmt.Sprint(n), 2500)), Headers: []kgo.RecordHeader{{Key: "h"}, {Key: "i", Value: []byte("j")}}}
			if n%7 == 0 {
				r.Key = nil
			}
			cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := cl.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		cl.Close()
	}
	k.CLI(t, "", "consume", "t", "--from-beginning", "-g", "readers", "-n", "3")
	if err := k.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, pattern := range []string{"*.log", "*.index", "*.timeindex", "*.snapshot"} {
		found, err := filepath.Glob(filepath.Join(k.Data, "t-0", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s (%v)", pattern, err)
		}
		files = append(files, found...)
	}
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	offsets := filepath.Join(k.Data, "__consumer_offsets-0", "00000000000000000000.log")
	for _, args := range [][]string{
		{"--files", strings.Join(files, ",")},
		{"--files", files[0], "--print-data-log"},
		{"--files", files[0], "--print-data-log", "--skip-record-metadata"},
		{"--files", files[0], "--max-bytes", "100000"},
		{"--files", offsets, "--offsets-decoder"},
	} {
		want, err := runCommand(harness.Tool(jars, classes["dump-log"], args...), "")
		if err != nil {
			t.Fatal(err)
		}
		got, err := runCommand(exec.Command(bin, append([]string{"kafka-dump-log"}, args...)...), "")
		if err != nil {
			t.Fatal(err)
		}
		if want.status != "0" || got.said() != want.said() || len(want.out) < 300 {
			t.Errorf("%v\n--- Kafka's: %.2000v\n--- kraft's: %.2000v", args, want, got)
		}
	}
}

// TestReplicaVerification: Apache Kafka's tool finds replicas of a cluster the same.
func TestReplicaVerification(t *testing.T) {
	jars := harness.NeedKafka(t)
	c := harness.NewCluster(t, 3)
	k := c.Nodes[0]
	k.CLI(t, "", "topic", "create", "t", "-p", "2", "-r", "3")
	k.CLI(t, "a\nb\nc\n", "produce", "t")
	p, err := harness.Start(harness.Tool(jars, classes["replica-verification"], "--broker-list", k.Addr, "--topics-include", "t", "--report-interval-ms", "100"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	if err := harness.Eventually(30*time.Second, func() error {
		if out := p.Output(); !strings.Contains(out, "max lag is 0 for partition t-") {
			return fmt.Errorf("it says %s", out)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
