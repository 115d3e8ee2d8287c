package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
)

// step is a command line, and what it says; with a status it is one that fails.
type step struct {
	args, says string
	status     int
}

func playSteps(t *testing.T, k *harness.Kraft, steps []step) {
	t.Helper()
	for _, s := range steps {
		out, err := k.TryCLI(t, "", strings.Fields(s.args)...)
		if s.status == 0 {
			if err != nil || !strings.Contains(out, s.says) {
				t.Errorf("kraft %s: %v: %s, wanted %q", s.args, err, out, s.says)
			}
			continue
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != s.status || !strings.Contains(err.Error(), s.says) {
			t.Errorf("kraft %s: %v, wanted status %d and %q", s.args, err, s.status, s.says)
		}
	}
}

// TestClusterCommands: partitions, brokers, the quorum and settings by kraft's own commands, on three brokers.
func TestClusterCommands(t *testing.T) {
	c := harness.NewCluster(t, 3)
	k := c.Nodes[0]
	playSteps(t, k, []step{
		{"topic create orders -p 3 -r 2", "created topic orders", 0},
		{"partition list", "orders", 0},
		{"partition list orders nothing", `there is no topic "nothing"`, 1},
		{"partition move orders:0 --to 1,2,3 --dry-run", "1,2,3", 0},
		{"partition move orders --to 1,2,3", "moved 3 partitions", 0},
		{"partition move orders --to 3,1", "moved 3 partitions", 0},
		{"partition list orders --not-preferred --json", "[]", 0},
		{"partition move orders:0 --to 3,1", "they are there already", 0},
		{"partition move orders:7 --to 3,1", "there is no partition orders:7", 1},
		{"partition move orders:x --to 3,1", `"orders:x" is no partition`, 2},
		{"partition move orders --to 1,1", "--to is ids of brokers", 2},
		{"partition move orders --to 9", "no such broker is registered", 1},
		{"partition status", "TOPIC", 0},
		{"partition cancel orders", "none of them is being moved", 0},
		{"partition elect orders", "elected the leaders of 0 partitions", 0},
		{"partition elect --unclean", "name the partitions", 2},
		{"broker list", "running", 0},
		{"broker remove 2", "broker 2 runs", 1},
		{"broker remove two", `"two" is no node's id`, 2},
		{"broker remove 9", "broker 9 does not exist", 1},
		{"broker log-level 2 groups=debug", "DEBUG", 0},
		{"broker log-level 2 groups=loud", "INVALID_CONFIG", 1},
		{"broker log-level 2 groups", "takes LOGGER=LEVEL", 2},
		{"quorum status", "leader", 0},
		{"quorum add 1", "node 1 votes already", 0},
		{"quorum add 9", "node 9 is not in the quorum", 1},
		{"quorum remove 3", "node 3 votes no more", 0},
		{"quorum remove 3", "node 3 does not vote", 0},
		{"quorum status", "learner", 0},
		{"quorum add 3", "node 3 votes now", 0},
		{"config set --topic orders retention.ms=3600000", "set 1 setting of topic orders", 0},
		{"config list --topic orders", "retention.ms", 0},
		{"config list --topic orders --all", "segment.bytes", 0},
		{"config unset retention.ms --topic orders", "unset 1 setting", 0},
		{"config set --topic orders retention.ms=soon", "retention.ms takes a whole number", 2},
		{"config set --topic orders retention.ms", "takes KEY=VALUE", 2},
		{"config set --topic orders --broker 1 retention.ms=1", "say whose settings", 2},
		{"config set --all-brokers log.retention.hour=3", "did you mean log.retention.hours?", 2},
		{"config set --all-brokers log.retention.ms=300000", "set 1 setting of all brokers", 0},
		{"config list --broker 2", "all brokers", 0},
		{"topic add-partitions orders --to 5", "extended topic orders", 0},
		{"topic add-partitions orders --to 2", "INVALID_PARTITIONS", 1},
	})
	if err := c.Nodes[2].Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	playSteps(t, k, []step{
		{"broker list", "down", 0},
		{"broker remove 3", "holds", 1},
		{"partition list orders --under-replicated", "orders", 0},
		{"partition move orders --to 1,2", "moved", 0},
		{"broker remove 3", "forgot broker 3", 0},
	})
}

// TestTopicCommands: what topics hold is analyzed, trimmed, measured and watched, and their files are read.
func TestTopicCommands(t *testing.T) {
	k := harness.NewKraft(t)
	var lines strings.Builder
	for n := range 300 {
		fmt.Fprintf(&lines, "key%d:%s\n", n%3, strings.Repeat("x", 100*(n%3)))
	}
	k.CLI(t, "", "topic", "create", "orders", "-p", "1")
	k.CLI(t, lines.String(), "produce", "orders", "-k", ":", "-z", "gzip")
	var a struct {
		Records    int64 `json:"records_read"`
		Complete   bool
		Partitions []struct {
			Stored int64 `json:"stored_bytes"`
			Bytes  int64 `json:"bytes_read"`
		}
		Codecs  map[string]int64 `json:"records_by_codec"`
		Largest []struct {
			Key            string
			Records, Bytes int64
		} `json:"largest_keys"`
	}
	if err := json.Unmarshal([]byte(k.CLI(t, "", "topic", "analyze", "orders", "--keys", "2", "--json")), &a); err != nil {
		t.Fatal(err)
	}
	if a.Records != 300 || !a.Complete || len(a.Partitions) != 1 || a.Partitions[0].Bytes != 300*4+100*300 || a.Partitions[0].Stored <= 0 || a.Codecs["gzip"] != 300 ||
		len(a.Largest) != 2 || a.Largest[0].Key != "key2" || a.Largest[0].Bytes != 100*204 || a.Largest[1].Records != 100 {
		t.Errorf("analyzed: %+v", a)
	}
	segment := filepath.Join(k.Data, "orders-0", "00000000000000000000.log")
	playSteps(t, k, []step{
		{"topic analyze orders -n 10", "there are more", 0},
		{"topic analyze orders -o -1h", "300 records read", 0},
		{"topic analyze nothing", `there is no topic "nothing"`, 1},
		{"topic analyze orders -o sometime", "--offset must be start", 2},
		{"topic trim orders:0 --before 100", "100", 0},
		{"topic trim orders --before sometime", "--before must be end", 2},
		{"topic analyze orders", "200 records read", 0},
		{"perf produce measured -n 500 -s 10 --keys 3 -z zstd", "P99", 0},
		{"perf produce measured -n 0", "--records must be above 0", 2},
		{"perf produce measured -s -1", "--size must be a number of bytes", 2},
		{"perf produce measured --acks some", "--acks must be 0, 1 or all", 2},
		{"perf consume measured -n 500", "500", 0},
		{"perf consume measured -n 501 --patience 100ms", "500", 0},
		{"top -i 100ms --once", "measured", 0},
		{"top -i 0s", "--interval must be", 2},
		{"log dump " + segment + " -n 1", "gzip", 0},
		{"log dump " + segment + " --records -n 1 --offset 200", "key2", 0},
		{"log dump /no/such.log", "no such file", 2},
		{"log dump /no/such.index", "is no segment", 2},
		{"log verify " + k.Data, "sound", 0},
		{"log verify " + filepath.Dir(segment), "orders-0", 0},
		{"log verify /no/such", "no such file", 2},
		{"storage random-uuid", "", 0},
		{"storage info", "needs --config", 2},
	})
}

// TestDocumentation: DescribeConfigs tells what settings are for to who asks.
func TestDocumentation(t *testing.T) {
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", "orders")
	c := dial(t, k.Addr)
	for _, documented := range []bool{true, false} {
		req := kmsg.NewPtrDescribeConfigsRequest()
		req.Version, req.IncludeDocumentation = 4, documented
		for kind, name := range map[kmsg.ConfigResourceType]string{kmsg.ConfigResourceTypeTopic: "orders", kmsg.ConfigResourceTypeBroker: "1", kmsg.ConfigResourceTypeGroupConfig: "g", kmsg.ConfigResourceTypeClientMetrics: "m"} {
			r := kmsg.NewDescribeConfigsRequestResource()
			r.ResourceType, r.ResourceName = kind, name
			req.Resources = append(req.Resources, r)
		}
		for _, r := range c.ask(req).(*kmsg.DescribeConfigsResponse).Resources {
			if len(r.Configs) == 0 {
				t.Errorf("nothing of resource %d", r.ResourceType)
			}
			for _, e := range r.Configs {
				if (e.Documentation != nil && len(*e.Documentation) > 20) != documented {
					t.Errorf("%s, asked for with documentation %v, has %v", e.Name, documented, e.Documentation)
				}
			}
		}
	}
}
