package e2e

import (
	"strings"
	"testing"

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
	if said := k.Output(); strings.Count(said, "consumer groups are unavailable") != 1 || !strings.Contains(said, "Invalid value 10000 for configuration segment.bytes: Value must be at least 1048576") {
		t.Errorf("it says %s", said)
	}
}
