package requests

import (
	"math"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// cases are trials that chance would not find, or not each time. Each stands for a report of somebody.
func cases() []*trial {
	commit := func(version int16, topic string, fill func(*kmsg.OffsetCommitRequest)) kmsg.Request {
		return with(kmsg.NewPtrOffsetCommitRequest(), version, func(r *kmsg.OffsetCommitRequest) {
			r.Group, r.Generation = "G1", -1
			rt, rp := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
			rt.Topic, rp.Offset = topic, 2
			rt.Partitions = append(rt.Partitions, rp)
			r.Topics = append(r.Topics, rt)
			if fill != nil {
				fill(r)
			}
		})
	}
	static := commit(7, "T1", func(r *kmsg.OffsetCommitRequest) { r.InstanceID = kmsg.StringPtr("i1") })
	deletion := func(topics ...kmsg.DeleteTopicsRequestTopic) kmsg.Request {
		return with(kmsg.NewPtrDeleteTopicsRequest(), 6, func(r *kmsg.DeleteTopicsRequest) { r.Topics, r.TimeoutMillis = topics, 1000 })
	}
	named := func(name string, id [16]byte) kmsg.DeleteTopicsRequestTopic {
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.TopicID = id
		if name != "" {
			t.Topic = &name
		}
		return t
	}
	joined := preambles[2][0]
	fetch := func(version int16, fill func(*kmsg.FetchRequest, *kmsg.FetchRequestTopicPartition)) kmsg.Request {
		return with(kmsg.NewPtrFetchRequest(), version, func(r *kmsg.FetchRequest) {
			r.ReplicaID, r.MaxWaitMillis, r.MinBytes, r.MaxBytes, r.SessionEpoch = -1, 50, 1, 1<<20, -1
			ft, fp := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
			ft.Topic, ft.TopicID, fp.PartitionMaxBytes, fp.CurrentLeaderEpoch = "T1", id("T1"), 1<<20, -1
			fill(r, &fp)
			ft.Partitions = append(ft.Partitions, fp)
			r.Topics = append(r.Topics, ft)
		})
	}
	return append([]*trial{
		// A consumer that waits for more than it takes: 10 s for each answer.
		{shared: true, steps: []kmsg.Request{fetch(11, func(r *kmsg.FetchRequest, _ *kmsg.FetchRequestTopicPartition) {
			r.MaxWaitMillis, r.MinBytes, r.MaxBytes = 10_000, 1<<20, 60
		})}},
		// KAFKA-14201: a consumer with group.instance.id that assigns its partitions itself commits a second time.
		{steps: []kmsg.Request{static, static}, probes: groupProbes},
		{steps: []kmsg.Request{with(kmsg.NewPtrDescribeConfigsRequest(), 4, func(r *kmsg.DescribeConfigsRequest) {
			c := kmsg.NewDescribeConfigsRequestResource()
			c.ResourceType, c.ResourceName, c.ConfigNames = 2, "T1", []string{}
			r.Resources = append(r.Resources, c)
		})}},
		{steps: []kmsg.Request{deletion(named("T1", otherID))}, probes: topicProbes},
		{steps: []kmsg.Request{deletion(named("T1", id("T1")))}, probes: topicProbes},
		{steps: []kmsg.Request{deletion(named("T1", noID), named("T1", noID), named("T2", noID))}, probes: topicProbes},
		{steps: []kmsg.Request{deletion(named("", id("T1")), named("", id("T1")))}, probes: topicProbes},
		{steps: []kmsg.Request{deletion(named("T1", noID), named("", id("T1")))}, probes: topicProbes},
		{steps: []kmsg.Request{deletion(named("", noID))}, probes: topicProbes},
		{steps: []kmsg.Request{with(kmsg.NewPtrCreateTopicsRequest(), 7, func(r *kmsg.CreateTopicsRequest) {
			t := kmsg.NewCreateTopicsRequestTopic()
			t.Topic, t.NumPartitions, t.ReplicationFactor = "__cluster_metadata", 1, 1
			r.Topics, r.TimeoutMillis = append(r.Topics, t), 1000
		})}},
		{shared: true, steps: []kmsg.Request{with(kmsg.NewPtrDescribeTopicPartitionsRequest(), 0, func(r *kmsg.DescribeTopicPartitionsRequest) {
			t := kmsg.NewDescribeTopicPartitionsRequestTopic()
			t.Topic = "T1"
			r.Topics, r.ResponsePartitionLimit = append(r.Topics, t), 0
		})}},
		// A commit that fails leaves no group behind.
		{steps: []kmsg.Request{commit(8, "Tx", nil)}, probes: groupProbes},
		{steps: []kmsg.Request{commit(8, "T1", func(r *kmsg.OffsetCommitRequest) {
			r.Topics[0].Partitions[0].Metadata = kmsg.StringPtr(string(make([]byte, 5000)))
		})}, probes: groupProbes},
		{steps: []kmsg.Request{commit(8, "T1", func(r *kmsg.OffsetCommitRequest) { r.Topics[0].Partitions[0].Partition = math.MaxInt32 })}, probes: groupProbes},
		{steps: []kmsg.Request{commit(8, "T1", func(r *kmsg.OffsetCommitRequest) { r.Generation, r.MemberID = 3, "nobody" })}, probes: groupProbes},
		// A group whose record is larger than the offsets topic takes.
		{steps: []kmsg.Request{joined, with(kmsg.NewPtrSyncGroupRequest(), 3, func(r *kmsg.SyncGroupRequest) {
			r.Group, r.Generation, r.MemberID = "G1", 1, "M1"
			r.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: "M1", MemberAssignment: []byte("huge")}}
		})}},
		{shared: true, steps: []kmsg.Request{with(kmsg.NewPtrSASLHandshakeRequest(), 1, func(r *kmsg.SASLHandshakeRequest) { r.Mechanism = "PLAIN" })}},
		{shared: true, steps: []kmsg.Request{with(kmsg.NewPtrSASLAuthenticateRequest(), 2, func(r *kmsg.SASLAuthenticateRequest) { r.SASLAuthBytes = []byte("x") })}},
	}, differing(fetch)...)
}

// differing are trials for lines of testdata/requests.txt that TestRequests' own have no use for.
func differing(fetch func(int16, func(*kmsg.FetchRequest, *kmsg.FetchRequestTopicPartition)) kmsg.Request) []*trial {
	return []*trial{
		{shared: true, steps: []kmsg.Request{with(kmsg.NewPtrDescribeQuorumRequest(), 2, func(*kmsg.DescribeQuorumRequest) {})}},
		{shared: true, steps: []kmsg.Request{fetch(16, func(r *kmsg.FetchRequest, _ *kmsg.FetchRequestTopicPartition) { r.ReplicaState.ID = 2 })}},
		{shared: true, steps: []kmsg.Request{fetch(18, func(_ *kmsg.FetchRequest, p *kmsg.FetchRequestTopicPartition) { p.LastFetchedEpoch = 1 })}},
		{shared: true, steps: []kmsg.Request{fetch(17, func(_ *kmsg.FetchRequest, p *kmsg.FetchRequestTopicPartition) { p.PartitionMaxBytes = -1 })}},
		{steps: []kmsg.Request{with(kmsg.NewPtrIncrementalAlterConfigsRequest(), 1, func(r *kmsg.IncrementalAlterConfigsRequest) {
			c := kmsg.NewIncrementalAlterConfigsRequestResource()
			c.ResourceType, c.ResourceName = kmsg.ConfigResourceTypeTopic, "Tx"
			c.Configs = append(c.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: "retention.ms", Op: kmsg.IncrementalAlterConfigOpAppend, Value: kmsg.StringPtr("1000")})
			r.Resources = append(r.Resources, c)
		})}},
		{steps: []kmsg.Request{with(kmsg.NewPtrAlterReplicaLogDirsRequest(), 2, func(r *kmsg.AlterReplicaLogDirsRequest) {
			t := kmsg.NewAlterReplicaLogDirsRequestDirTopic()
			t.Topic, t.Partitions = strings.Repeat("a", 250), []int32{0}
			r.Dirs = append(r.Dirs, kmsg.AlterReplicaLogDirsRequestDir{Dir: "/no/such/dir", Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{t}})
		})}},
		{steps: []kmsg.Request{with(kmsg.NewPtrMetadataRequest(), 12, func(r *kmsg.MetadataRequest) {
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = kmsg.StringPtr("..")
			r.Topics, r.AllowAutoTopicCreation, r.IncludeTopicAuthorizedOperations = append(r.Topics, t), true, true
		})}},
		{steps: []kmsg.Request{with(kmsg.NewPtrMetadataRequest(), 12, func(r *kmsg.MetadataRequest) {
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = kmsg.StringPtr("Tx")
			r.Topics, r.AllowAutoTopicCreation = append(r.Topics, t), true
		})}},
	}
}
