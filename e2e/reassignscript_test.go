//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
)

// TestReassignScript: kraft's kafka-reassign-partitions moves partitions as Kafka's does, with what it prints on the way; the single-node
// cases are held against Kafka's in e2e/tools.
func TestReassignScript(t *testing.T) {
	c := harness.NewCluster(t, 3)
	k := c.Nodes[0]
	k.CLI(t, "", "topic", "create", "a", "-p", "1", "-r", "2")
	cl := client(t, k, kgo.DefaultProduceTopic("a"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	record := kgo.SliceRecord([]byte(strings.Repeat("x", 500_000)))
	for range 20 {
		if err := cl.ProduceSync(timeout(t, 10*time.Second), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) string {
		t.Helper()
		out, _ := k.TryCLI(t, "", append([]string{"kafka-reassign-partitions", "--bootstrap-server", k.Addr}, args...)...)
		return out
	}
	admin := kadm.NewClient(kgoClient(t, k.Addr, kgo.MetadataMinAge(10*time.Millisecond)))
	replicas := func() []int32 {
		t.Helper()
		topics, err := admin.ListTopics(timeout(t, 10*time.Second), "a")
		if err != nil {
			t.Fatal(err)
		}
		return topics["a"].Partitions[0].Replicas
	}
	before := replicas()
	other := 1 + 2 + 3 - before[0] - before[1]
	plan := filepath.Join(t.TempDir(), "plan.json")
	write := func(ids ...int32) {
		data, err := json.Marshal(map[string]any{"version": 1, "partitions": []map[string]any{{"topic": "a", "partition": 0, "replicas": ids}}})
		if err == nil {
			err = os.WriteFile(plan, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(other, before[1])
	expect := func(what, out string, lines ...string) {
		t.Helper()
		for _, line := range lines {
			if !strings.Contains(out, line) {
				t.Errorf("%s does not say %q: %s", what, line, out)
			}
		}
	}
	expect("--execute", run("--execute", "--reassignment-json-file", plan, "--throttle", "200000"),
		fmt.Sprintf(`Current partition replica assignment`+"\n\n"+`{"version":1,"partitions":[{"topic":"a","partition":0,"replicas":[%d,%d],"log_dirs":["`, before[0], before[1]),
		"Warning: You must run --verify periodically, until the reassignment completes, to ensure the throttle is removed.\nThe inter-broker throttle limit was set to 200000 B/s\n",
		"Successfully started partition reassignment for a-0\n")
	expect("--list", run("--list"), fmt.Sprintf("Current partition reassignments:\na-0: replicas: %d,%d,%d. adding: %d. removing: %d.\n", other, before[1], before[0], other, before[0]))
	expect("--verify", run("--verify", "--reassignment-json-file", plan), "Status of partition reassignment:\nReassignment of partition a-0 is still in progress.\n")
	if out := run("--execute", "--reassignment-json-file", plan); strings.Contains(out, "Successfully") {
		t.Errorf("a second one was begun: %s", out)
	}
	expect("--cancel", run("--cancel", "--reassignment-json-file", plan), "Successfully cancelled partition reassignment for: a-0\n",
		"Clearing broker-level throttles on brokers 1,2,3\nClearing topic-level throttles on topic a\n")
	expect("--verify after --cancel", run("--verify", "--reassignment-json-file", plan), fmt.Sprintf("There is no active reassignment of partition a-0, but replica set is %d,%d rather than %d,%d.", before[1], before[0], other, before[1]))
	run("--execute", "--reassignment-json-file", plan)
	if err := harness.Eventually(20*time.Second, func() error {
		if out := run("--verify", "--reassignment-json-file", plan); !strings.Contains(out, "Reassignment of partition a-0 is completed.") {
			return fmt.Errorf("--verify says %s", out)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if now := replicas(); now[0] != other || now[1] != before[1] {
		t.Errorf("replicas %v, wanted %d and %d", now, other, before[1])
	}
	write(9)
	if out, err := k.TryCLI(t, "", "kafka-reassign-partitions", "--bootstrap-server", k.Addr, "--execute", "--reassignment-json-file", plan); err == nil || !strings.Contains(err.Error()+out, "Unknown broker id 9") {
		t.Errorf("a broker that is not there: %v %s", err, out)
	}
}
