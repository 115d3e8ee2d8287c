package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

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
