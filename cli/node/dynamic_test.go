package node

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/cli/config"
	"kraft/wire/logging"
)

// TestCleanerIsReconfigured: log.cleaner.* that are set while the broker runs count at
// once; a compacted topic that a sleeping cleaner left alone is compacted.
func TestCleanerIsReconfigured(t *testing.T) {
	c, err := config.New(map[string]string{"log.dirs": t.TempDir(), "listeners": "PLAINTEXT://localhost:0", "log.cleaner.backoff.ms": "3600000",
		"log.segment.delete.delay.ms": "0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	n, err := StartOn(ctx, World{}, c, logging.New(zerolog.Nop(), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
	}()
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.Addresses()...), kgo.DefaultProduceTopic("t"), kgo.ProducerBatchMaxBytes(100_000), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	s := func(v string) *string { return &v }
	if _, err := admin.CreateTopic(ctx, 1, 1, map[string]*string{"cleanup.policy": s("compact"), "segment.bytes": s("1048576"), "min.cleanable.dirty.ratio": s("0.01")}, "t"); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		if err := cl.ProduceSync(ctx, &kgo.Record{Key: []byte("k"), Value: make([]byte, 90_000)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	size := func() int64 {
		dirs, err := admin.DescribeAllLogDirs(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, _ := dirs[1].LookupPartition("t", 0)
		return p.Size
	}
	before := size()
	resp, err := admin.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Name: "log.cleaner.backoff.ms", Value: s("5")}, {Name: "log.cleaner.threads", Value: s("2")}})
	if err != nil || resp[0].Err != nil {
		t.Fatal(err, resp[0].Err)
	}

	for size() >= before-1_000_000 {
		select {
		case <-ctx.Done():
			t.Fatalf("%d bytes stay", size())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
