package e2e

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
)

// TestCoordinatorOfMany: when the coordinator of 1,000 groups is killed, the next one serves them within 100 ms after it was elected, and
// knows all their members and offsets.
func TestCoordinatorOfMany(t *testing.T) {
	const many, topic = 1000, "t"
	c := harness.NewCluster(t, 3, "--override", "offsets.topic.num.partitions=1", "--override", "group.initial.rebalance.delay.ms=0",
		"--override", "offsets.topic.segment.bytes=1048576") // several segments, and several reads to load them
	all := c.Bootstrap()
	c.Nodes[0].CLI(t, "", "topic", "create", topic, "-r", "3")
	var coordinator int32
	if err := harness.Eventually(20*time.Second, func() error {
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.Version, find.CoordinatorKeys = 4, []string{"g"}
		found := dial(t, all[0]).ask(find).(*kmsg.FindCoordinatorResponse).Coordinators[0]
		coordinator = found.NodeID
		return kerr.ErrorForCode(found.ErrorCode)
	}); err != nil {
		t.Fatal(err)
	}
	group := func(i int) string { return fmt.Sprint("g", i) }
	assignment := func(i int) []byte { return bytes.Repeat([]byte(group(i)), 500) }
	members := make([]string, many)
	old := dial(t, all[coordinator-1])
	for i := range members {
		join := kmsg.NewPtrJoinGroupRequest()
		join.Version, join.Group, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis, join.ProtocolType = 3, group(i), 60_000, 60_000, "consumer"
		join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: make([]byte, 2000)}}
		var joined *kmsg.JoinGroupResponse
		if err := harness.Eventually(20*time.Second, func() error { // at first it is loaded
			joined = old.ask(join).(*kmsg.JoinGroupResponse)
			return kerr.ErrorForCode(joined.ErrorCode)
		}); err != nil {
			t.Fatal(err)
		}
		members[i] = joined.MemberID
		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Version, sync.Group, sync.MemberID, sync.Generation = 3, group(i), members[i], 1
		sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: members[i], MemberAssignment: assignment(i)}}
		if err := kerr.ErrorForCode(old.ask(sync).(*kmsg.SyncGroupResponse).ErrorCode); err != nil {
			t.Fatal(err)
		}
		commit := kmsg.NewPtrOffsetCommitRequest()
		commit.Version, commit.Group, commit.MemberID, commit.Generation = 8, group(i), members[i], 1
		ct, cp := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
		ct.Topic, cp.Offset = topic, int64(i)
		ct.Partitions = append(ct.Partitions, cp)
		commit.Topics = append(commit.Topics, ct)
		if err := kerr.ErrorForCode(old.ask(commit).(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode); err != nil {
			t.Fatal(err)
		}
	}
	// One connection looks for the election, another for the coordinator. Both begin before the kill.
	type connections struct{ elections, offsets *conn }
	var others []connections
	for _, k := range c.Nodes {
		if k != c.Nodes[coordinator-1] {
			others = append(others, connections{dial(t, k.Addr), dial(t, k.Addr)})
		}
	}
	c.Nodes[coordinator-1].Kill()
	killed := time.Now()
	elected := make(chan time.Time, 1)
	go func() {
		for time.Since(killed) < 20*time.Second {
			for _, o := range others {
				meta := kmsg.NewPtrMetadataRequest()
				meta.Version = 9
				mt := kmsg.NewMetadataRequestTopic()
				mt.Topic = kmsg.StringPtr("__consumer_offsets")
				meta.Topics = append(meta.Topics, mt)
				resp, err := o.elections.try(meta)
				if err != nil {
					break
				}
				if leader := resp.(*kmsg.MetadataResponse).Topics[0].Partitions[0].Leader; leader >= 0 && leader != coordinator {
					elected <- time.Now()
					return
				}
			}
		}
		close(elected)
	}()
	var next *conn
	for next == nil {
		if time.Since(killed) > 20*time.Second {
			t.Fatal("no coordinator serves")
		}
		for _, o := range others {
			fetch := kmsg.NewPtrOffsetFetchRequest()
			fetch.Version, fetch.Group = 7, group(0)
			if err := kerr.ErrorForCode(o.offsets.ask(fetch).(*kmsg.OffsetFetchResponse).ErrorCode); err == nil {
				next = o.offsets
			}
		}
	}
	served := time.Now()
	seen, ok := <-elected
	if !ok {
		t.Fatal("no election was seen")
	}
	t.Logf("the election was seen %v after the kill, and offsets %v after it", seen.Sub(killed), served.Sub(killed))
	if late := served.Sub(seen); late > 100*time.Millisecond {
		t.Errorf("served %v after the election was seen", late)
	}
	for i := range many {
		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Version, sync.Group, sync.MemberID, sync.Generation = 3, group(i), members[i], 1
		if resp := next.ask(sync).(*kmsg.SyncGroupResponse); resp.ErrorCode != 0 || !bytes.Equal(resp.MemberAssignment, assignment(i)) {
			t.Fatalf("group %d: %v, assignment %q", i, kerr.ErrorForCode(resp.ErrorCode), resp.MemberAssignment)
		}
		fetch := kmsg.NewPtrOffsetFetchRequest()
		fetch.Version, fetch.Group = 7, group(i)
		topics := next.ask(fetch).(*kmsg.OffsetFetchResponse).Topics
		if len(topics) != 1 || topics[0].Partitions[0].Offset != int64(i) {
			t.Fatalf("group %d: offsets %+v", i, topics)
		}
	}
}
