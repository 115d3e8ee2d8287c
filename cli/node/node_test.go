package node

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"kraft/cli/config"
	"kraft/wire/logging"
)

// start runs a node in this process on a free port.
func start(t *testing.T, dir string) *Node {
	t.Helper()
	c, err := config.New(map[string]string{"log.dirs": dir, "listeners": "PLAINTEXT://localhost:0", "group.initial.rebalance.delay.ms": "0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	n, err := StartOn(ctx, World{}, c, logging.New(zerolog.Nop(), nil))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestNothingIsLeftBehind: a node that has served producers, a group and waiting fetches stops with all of
// its goroutines, and starts again on the same data.
func TestNothingIsLeftBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	dir := t.TempDir()
	for round := range 2 {
		n := start(t, dir)
		// A group of its own for each round: the member of the last one could not leave it.
		cl, err := kgo.NewClient(kgo.SeedBrokers(n.Addresses()...), kgo.ConsumerGroup(fmt.Sprint("g", round)), kgo.ConsumeTopics("t"),
			kgo.AllowAutoTopicCreation(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < 1; {
			fetches := cl.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			got += fetches.NumRecords()
		}
		if err := cl.CommitUncommittedOffsets(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		// The client still waits in Fetch while the node stops.
		begun := time.Now()
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("stop took %v", took)
		}
		cl.Close()
		if err := n.Stop(); err != nil {
			t.Errorf("stopped twice: %v", err)
		}
	}
	goleak.VerifyNone(t, before)
}

// TestStartWhileStopping: a node that is started while another on its directory still stops waits for that.
func TestStartWhileStopping(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir)
	stopped := make(chan error, 1)
	time.AfterFunc(100*time.Millisecond, func() { stopped <- n.Stop() })
	if err := start(t, dir).Stop(); err != nil {
		t.Error(err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestFailedStartLeavesNothing: what a start had opened is closed again.
func TestFailedStartLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	dir := t.TempDir()
	n := start(t, dir)
	c, err := config.New(map[string]string{"log.dirs": dir, "listeners": "PLAINTEXT://localhost:0"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := StartOn(context.Background(), World{}, c, logging.New(zerolog.Nop(), nil)); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("two nodes on one directory: %v", err)
	}
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, before)
}
