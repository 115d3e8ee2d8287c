//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
)

// TestReassign moves all partitions of a topic to a broker that has just joined, under load, and its voter's seat
// too; what was moved away is deleted, and nothing acknowledged is lost.
func TestReassign(t *testing.T) {
	c := harness.NewCluster(t, 3, "--override", "log.segment.delete.delay.ms=0", "--override", "log.retention.check.interval.ms=200")
	c.Nodes[0].CLI(t, "", "topic", "create", "load", "-p", "3", "-r", "2")
	all := c.Bootstrap()
	leaders(t, all, "load", 2)
	l := startLoad(t, all, "load", 3)
	l.more(2000)
	joined := c.Join(t)
	all = c.Bootstrap()
	admin := kadm.NewClient(kgoClient(t, joined.Addr, kgo.SeedBrokers(all...), kgo.MetadataMinAge(10*time.Millisecond)))
	ctx := timeout(t, 2*time.Minute)
	req := kadm.AlterPartitionAssignmentsReq{}
	for p := range int32(3) {
		req.Assign("load", p, []int32{4, 1 + p})
	}
	resp, err := admin.AlterPartitionAssignments(ctx, req)
	if err == nil {
		err = resp.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := harness.Eventually(time.Minute, func() error {
		left, err := admin.ListPartitionReassignments(ctx, nil)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("under way: %v", left)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	// Leaders that stay among the replicas go on, until the preferred ones are asked for.
	if _, err := admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, kadm.TopicsSet{"load": {0: {}, 1: {}, 2: {}}}); err != nil {
		t.Fatal(err)
	}
	if err := harness.Eventually(10*time.Second, func() error {
		for p, leader := range leaders(t, all, "load", 2) {
			if leader != 4 {
				return fmt.Errorf("partition %d is led by %d", p, leader)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	l.more(1000)
	// Every broker holds what it is to hold, and no more.
	if err := harness.Eventually(20*time.Second, func() error {
		for i, k := range c.Nodes {
			for p := range 3 {
				_, err := os.Stat(filepath.Join(k.Data, fmt.Sprintf("load-%d", p)))
				if want := i == 3 || i == p; (err == nil) != want {
					return fmt.Errorf("broker %d and partition %d: %v", i+1, p, err)
				}
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	l.check(all)
}

// TestClusterTools: Apache Kafka's own tools for clusters, unmodified.
func TestClusterTools(t *testing.T) {
	jars := harness.NeedKafka(t)
	c := harness.NewCluster(t, 3)
	c.Nodes[0].CLI(t, "", "topic", "create", "t", "-p", "2", "-r", "3")
	all := c.Bootstrap()
	leaders(t, all, "t", 3)
	tool := func(class string, args ...string) string {
		t.Helper()
		return harness.RunTool(t, jars, "", "org.apache.kafka.tools."+class, append(args, "--bootstrap-server", all[1])...)
	}
	says := func(out string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(out, p) {
				t.Errorf("no %q in:\n%s", p, out)
			}
		}
	}
	joined := c.Join(t)
	status := func() string {
		return harness.RunTool(t, jars, "", "org.apache.kafka.tools.MetadataQuorumCommand", "--bootstrap-server", all[1], "describe", "--status")
	}
	says(status(), "LeaderId:", "MaxFollowerLag:", `{"id": 1`, `{"id": 2`, `{"id": 3`, "CurrentObservers:", `{"id": 4`)
	says(harness.RunTool(t, jars, "", "org.apache.kafka.tools.MetadataQuorumCommand", "--bootstrap-server", joined.Addr, "describe", "--replication"), "Leader", "Follower", "Observer")

	// The node that joined becomes a voter, and goes back.
	cl := kgoClient(t, joined.Addr)
	if err := voter(cl, true, 4); err != nil {
		t.Fatal(err)
	}
	if err := voter(cl, true, 4); !errors.Is(err, kerr.DuplicateVoter) {
		t.Errorf("made a voter twice: %v", err)
	}
	if out := status(); strings.Contains(out, `CurrentObservers:       [{"id": 4`) {
		t.Errorf("still an observer:\n%s", out)
	}
	if err := voter(cl, false, 4); err != nil {
		t.Fatal(err)
	}
	if err := voter(cl, false, 9); !errors.Is(err, kerr.VoterNotFound) {
		t.Errorf("a voter that there is not: %v", err)
	}

	plan := filepath.Join(t.TempDir(), "plan.json")
	if err := os.WriteFile(plan, []byte(`{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[4,1,2]},{"topic":"t","partition":1,"replicas":[3,4]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	says(tool("reassign.ReassignPartitionsCommand", "--execute", "--reassignment-json-file", plan), "Successfully started partition reassignments for t-0,t-1")
	if err := harness.Eventually(time.Minute, func() error {
		out := tool("reassign.ReassignPartitionsCommand", "--verify", "--reassignment-json-file", plan)
		if strings.Count(out, "is completed.") != 2 {
			return errors.New(out)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	says(tool("LeaderElectionCommand", "--election-type", "preferred", "--all-topic-partitions"), "")
	want := leaders(t, all, "t", 2)
	if want[0] != 4 || want[1] != 3 {
		t.Errorf("leaders are %v, preferred are 4 and 3", want)
	}
	says(harness.RunTool(t, jars, "", "org.apache.kafka.tools.ClusterTool", "cluster-id", "--bootstrap-server", all[0]), "Cluster ID:")
	// A broker that is gone can be forgotten.
	if err := joined.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	says(harness.RunTool(t, jars, "", "org.apache.kafka.tools.ClusterTool", "unregister", "--bootstrap-server", all[0], "--id", "4"), "Broker 4 is no longer registered.")
	meta, err := kadm.NewClient(kgoClient(t, all[0])).BrokerMetadata(context.Background())
	if err != nil || len(meta.Brokers) != 3 {
		t.Errorf("brokers %v, %v", meta.Brokers, err)
	}
}

// voter adds or removes a voter of the quorum.
func voter(cl *kgo.Client, add bool, id int32) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if add {
		req := kmsg.NewPtrAddRaftVoterRequest()
		req.VoterID, req.TimeoutMillis = id, 10_000
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	}
	req := kmsg.NewPtrRemoveRaftVoterRequest()
	req.VoterID = id
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}
