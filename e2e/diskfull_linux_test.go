package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
)

// TestDiskFull fills a small disk: producers are told to try again, consumers and their commits go on, and
// writing resumes by itself when there is room.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	// Of 64 MiB, half of the reserve was too little for a batch, the offsets topic and a commit in one of twelve runs.
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=128m"); err != nil {
		harness.Skip(t, "cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	k, err := harness.StartKraft(dir, "--override", "log.segment.delete.delay.ms=0", "--override", "offsets.topic.num.partitions=1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Process.Kill)
	t.Cleanup(func() {
		if t.Failed() {
			var fs syscall.Statfs_t
			_ = syscall.Statfs(dir, &fs)
			t.Logf("%d bytes are left; kraft said:\n%s", fs.Bavail*uint64(fs.Bsize), k.Output())
		}
	})
	k.CLI(t, "", "topic", "create", "filler", "-c", "segment.bytes=1048576")
	k.CLI(t, "one\ntwo\n", "produce", "precious")
	c := dial(t, k.Addr)
	batch := batchAt(t, time.Now().UnixMilli(), 900_000)
	write := func() error { return produceCode(c, produceRequest("filler", 9, batch)) }
	var refused error
	for range 200 {
		if refused = write(); refused != nil {
			break
		}
	}
	if refused != kerr.KafkaStorageError {
		t.Fatalf("a full disk gives %v", refused)
	}
	if out := k.CLI(t, "", "consume", "precious", "--from-beginning", "-n", "1", "--group", "g"); out != "one\n" {
		t.Errorf("reads %q from a full disk", out)
	}
	// Room is made: writing resumes without a restart.
	k.CLI(t, "", "topic", "delete", "filler")
	k.CLI(t, "", "topic", "create", "filler", "-c", "segment.bytes=1048576")
	if err := harness.Eventually(20*time.Second, func() error {
		if err := write(); err != nil {
			return fmt.Errorf("still refused: %w", err)
		}
		return nil
	}); err != nil {
		t.Fatalf("%v\n%s", err, k.Output())
	}
	k.Kill()
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	if out := k.CLI(t, "", "consume", "precious", "--from-beginning", "-n", "1", "--group", "g"); out != "two\n" {
		t.Errorf("the group goes on with %q", out)
	}
	if err := k.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
}

// TestOneDiskFull fills the disk of one of three brokers under load: the others lead and acknowledge within two seconds, nothing that
// was acknowledged is lost or there twice, the metadata goes on, and the broker is in sync again when there is room.
func TestOneDiskFull(t *testing.T) {
	t.Run("the only one", func(t *testing.T) { oneDiskFull(t) })
	t.Run("one of two", func(t *testing.T) { oneDiskFull(t, "b") })
}

// oneDiskFull has further log directories on a large disk, by what their names have behind the small one's.
func oneDiskFull(t *testing.T, further ...string) {
	dir := t.TempDir()
	small := filepath.Join(dir, "1")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", small, "tmpfs", 0, "size=96m"); err != nil {
		harness.Skip(t, "cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(small, syscall.MNT_DETACH) })
	dirs := filepath.Join(dir, "{id}")
	for _, f := range further {
		dirs += "," + filepath.Join(dir, "{id}"+f)
	}
	c, err := harness.StartCluster(dir, 3, "--override", "min.insync.replicas=2", "--override", "log.segment.delete.delay.ms=0", "--data", dirs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for i, k := range c.Nodes {
			if err := k.Stop(20 * time.Second); err != nil {
				t.Errorf("node %d: %v", i+1, err)
			}
			if t.Failed() {
				t.Logf("node %d said:\n%s", i+1, k.Output())
			}
		}
	})
	all := c.Bootstrap()
	for _, topic := range []string{"load", "plain", "filler"} {
		c.Nodes[1].CLI(t, "", "topic", "create", topic, "-p", "6", "-r", "3", "-c", "segment.bytes=4194304")
		leaders(t, all, topic, 3)
	}
	l := startLoad(t, all, "load", 6)
	plain := startLoad(t, all, "plain", 6, kgo.DisableIdempotentWrite())
	l.more(500)
	plain.more(500)
	filler := kgoClient(t, all[0], kgo.SeedBrokers(all...), kgo.DefaultProduceTopic("filler"), kgo.MaxBufferedRecords(64), kgo.ProducerBatchCompression(kgo.NoCompression()))
	l.gap()
	plain.gap()
	value, filling := make([]byte, 100_000), timeout(t, time.Minute)
	inSync := func(topic string) (n int) {
		topics, err := kadm.NewClient(filler).ListTopics(filling, topic)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range topics[topic].Partitions {
			if slices.Contains(p.ISR, 1) {
				n++
			}
		}
		return n
	}
	// kraft broker list says so, and all its replicas on that disk leave their ISRs: all, or those of one directory of two.
	for inSync("filler")+inSync("load") == 12 {
		for range 20 {
			filler.Produce(filling, &kgo.Record{Value: value}, nil)
		}
		if filling.Err() != nil {
			t.Fatal("the broker whose disk is full stays in the ISR")
		}
	}
	for range 200 { // much more than it has
		filler.Produce(filling, &kgo.Record{Value: value}, nil)
	}
	if err := filler.Flush(filling); err != nil {
		t.Fatal(err)
	}
	l.more(500)
	plain.more(500)
	if got := inSync("load"); got != 6*len(further)/2 {
		t.Errorf("the broker whose disk is full is in %d of 6 ISRs of another topic there", got)
	}
	for name, gap := range map[string]time.Duration{"idempotent": l.gap(), "plain": plain.gap()} {
		t.Logf("%s: %v without an acknowledgement", name, gap)
		if gap > 2*time.Second {
			t.Errorf("%s: %v without an acknowledgement", name, gap)
		}
	}
	c.Nodes[0].CLI(t, "", "topic", "create", "later", "-p", "1", "-r", "3") // metadata is written on all
	if out := c.Nodes[0].CLI(t, "", "broker", "list"); !strings.Contains(out, "full") {
		t.Errorf("kraft broker list says nothing of it:\n%s", out)
	}
	c.Nodes[1].CLI(t, "", "topic", "delete", "filler")
	leaders(t, all, "load", 3)
	leaders(t, all, "later", 3)
	l.more(500)
	plain.more(500)
	l.check(all)
	plain.check(all)
}
