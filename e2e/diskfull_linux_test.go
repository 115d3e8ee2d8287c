package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/e2e/harness"
)

// TestDiskFull fills a small disk: producers are told to try again, consumers and their commits go on, and
// writing resumes by itself when there is room.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=64m"); err != nil {
		harness.Skip(t, "cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	k, err := harness.StartKraft(dir, "--override", "log.segment.delete.delay.ms=0", "--override", "offsets.topic.num.partitions=1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Process.Kill)
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
