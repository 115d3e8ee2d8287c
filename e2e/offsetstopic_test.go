package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
)

// TestOffsetsTopicCannotBe: where settings make __consumer_offsets impossible, the log names the setting's value and its limit, once, however
// often clients ask for their coordinator.
func TestOffsetsTopicCannotBe(t *testing.T) {
	k := harness.NewKraft(t, "--override", "offsets.topic.segment.bytes=10000")
	c := dial(t, k.Addr)
	for range 20 {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKey = "readers"
		if resp := c.ask(req).(*kmsg.FindCoordinatorResponse); resp.ErrorCode != kerr.CoordinatorNotAvailable.Code {
			t.Fatalf("answered %v", kerr.ErrorForCode(resp.ErrorCode))
		}
	}
	if err := harness.Eventually(10*time.Second, func() error {
		if said := k.Output(); !strings.Contains(said, "consumer groups are unavailable: Invalid value 10000 for configuration segment.bytes: Value must be at least 1048576") {
			return fmt.Errorf("it says %s", said)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := k.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(k.Output(), "consumer groups are unavailable"); n != 1 {
		t.Errorf("it says so %d times", n)
	}
}

// TestOffsetsTopicGrows: __consumer_offsets that was made while one broker was registered has one replica. The log and the doctor say so, and
// kraft cluster rebalance adds replicas when there are brokers.
func TestOffsetsTopicGrows(t *testing.T) {
	c := harness.NewCluster(t, 1)
	k := c.Nodes[0]
	dial(t, k.Addr).ask(func() kmsg.Request {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKey = "readers"
		return req
	}())
	const says = "kraft cluster rebalance adds replicas"
	if err := harness.Eventually(10*time.Second, func() error {
		if said := k.Output(); !strings.Contains(said, "created with 1 replicas instead of 3") || !strings.Contains(said, says) {
			return fmt.Errorf("it says %s", said)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if out := k.CLI(t, "", "doctor", "-b", k.Addr); strings.Contains(out, says) {
		t.Errorf("there is no other broker, and the doctor says:\n%s", out)
	}
	c.Join(t)
	c.Join(t)
	if out := k.CLI(t, "", "doctor", "-b", k.Addr); !strings.Contains(out, "__consumer_offsets has 1 replicas of each partition, and offsets.topic.replication.factor is 3: "+says) {
		t.Errorf("the doctor says:\n%s", out)
	}
	k.CLI(t, "", "cluster", "rebalance")
	topics, err := kadm.NewClient(kgoClient(t, k.Addr)).ListTopicsWithInternal(timeout(t, 10*time.Second), "__consumer_offsets")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range topics["__consumer_offsets"].Partitions {
		if len(p.Replicas) != 3 || len(p.ISR) != 3 {
			t.Fatalf("partition %d has replicas %v, in sync %v", p.Partition, p.Replicas, p.ISR)
		}
	}
	if out := k.CLI(t, "", "doctor", "-b", k.Addr); strings.Contains(out, says) {
		t.Errorf("afterwards the doctor says:\n%s", out)
	}
}
