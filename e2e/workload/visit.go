package workload

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// visitTopic is what the visitor does as it likes with: it is compacted, grows partitions, loses records to DeleteRecords
// and is moved between log directories.
const visitTopic = "v"

// visits are things that tools and dashboards ask for, while everything goes on. Answers are not checked: that a broker
// survives the question is.
var visits = map[string]func(context.Context, *visitor) error{
	"brokers' settings": func(ctx context.Context, v *visitor) error {
		return second(v.admin.DescribeBrokerConfigs(ctx, v.broker()))
	},
	"topics' settings": func(ctx context.Context, v *visitor) error {
		return second(v.admin.DescribeTopicConfigs(ctx, v.topic(), visitTopic))
	},
	"topics": func(ctx context.Context, v *visitor) error { return second(v.admin.ListTopicsWithInternal(ctx)) },
	"groups": func(ctx context.Context, v *visitor) error {
		return second(v.admin.DescribeGroups(ctx, groupName, "other"))
	},
	"list of groups":  func(ctx context.Context, v *visitor) error { return second(v.admin.ListGroups(ctx)) },
	"lag":             func(ctx context.Context, v *visitor) error { return second(v.admin.Lag(ctx, groupName)) },
	"log directories": func(ctx context.Context, v *visitor) error { return second(v.admin.DescribeAllLogDirs(ctx, nil)) },
	"start offsets":   func(ctx context.Context, v *visitor) error { return second(v.admin.ListStartOffsets(ctx, v.topic())) },
	"offsets by time": func(ctx context.Context, v *visitor) error {
		return second(v.admin.ListOffsetsAfterMilli(ctx, time.Now().Add(-time.Duration(v.rng.IntN(5000))*time.Millisecond).UnixMilli(), v.topic()))
	},
	"latest timestamps": func(ctx context.Context, v *visitor) error {
		return second(v.admin.ListMaxTimestampOffsets(ctx, v.topic()))
	},
	"reassignments": func(ctx context.Context, v *visitor) error {
		return second(v.admin.ListPartitionReassignments(ctx, nil))
	},
	"producers": func(ctx context.Context, v *visitor) error {
		return second(v.admin.DescribeProducers(ctx, kadm.TopicsSet{v.topic(): {0: {}}}))
	},
	"epochs": func(ctx context.Context, v *visitor) error {
		req := kadm.OffsetForLeaderEpochRequest{}
		req.Add(v.topic(), 0, int32(v.rng.IntN(5)))
		return second(v.admin.OffsetForLeaderEpoch(ctx, req))
	},
	"quorum": func(ctx context.Context, v *visitor) error {
		return second(kmsg.NewPtrDescribeQuorumRequest().RequestWith(ctx, v.client))
	},
	"cluster": func(ctx context.Context, v *visitor) error {
		return second(kmsg.NewPtrDescribeClusterRequest().RequestWith(ctx, v.client))
	},
	"api versions": func(ctx context.Context, v *visitor) error { return second(v.admin.ApiVersions(ctx)) },
	"more partitions": func(ctx context.Context, v *visitor) error {
		return second(v.admin.CreatePartitions(ctx, 1, visitTopic))
	},
	"delete records": func(ctx context.Context, v *visitor) error {
		offsets := kadm.Offsets{}
		offsets.AddOffset(visitTopic, 0, int64(v.rng.IntN(20)), -1)
		return second(v.admin.DeleteRecords(ctx, offsets))
	},
	"delete a group": func(ctx context.Context, v *visitor) error { return second(v.admin.DeleteGroups(ctx, "other")) },
	"commit for another group": func(ctx context.Context, v *visitor) error {
		offsets := kadm.Offsets{}
		offsets.AddOffset(visitTopic, 0, int64(v.rng.IntN(20)), -1)
		return second(v.admin.CommitOffsets(ctx, "other", offsets))
	},
	"delete offsets": func(ctx context.Context, v *visitor) error {
		return second(v.admin.DeleteOffsets(ctx, "other", kadm.TopicsSet{visitTopic: {0: {}}}))
	},
	"move to another directory": func(ctx context.Context, v *visitor) error {
		req := kadm.AlterReplicaLogDirsReq{}
		req.Add(v.work.LogDirs[v.rng.IntN(len(v.work.LogDirs))], kadm.TopicsSet{visitTopic: {0: {}}, v.topic(): {0: {}}})
		return second(v.admin.AlterBrokerReplicaLogDirs(ctx, v.broker(), req))
	},
	"set a topic's settings": func(ctx context.Context, v *visitor) error {
		value := strconv.Itoa(1_048_576 + v.rng.IntN(1000))
		return second(v.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "segment.bytes", Value: &value}}, v.topic()))
	},
	"set a broker's settings": func(ctx context.Context, v *visitor) error {
		value := strconv.Itoa(1 + v.rng.IntN(2))
		return second(v.admin.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "log.cleaner.threads", Value: &value}}, v.broker()))
	},
	"take a reassignment back": func(ctx context.Context, v *visitor) error {
		req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		t := kmsg.NewAlterPartitionAssignmentsRequestTopic()
		t.Topic = v.topic()
		t.Partitions = append(t.Partitions, kmsg.AlterPartitionAssignmentsRequestTopicPartition{})
		req.Topics = append(req.Topics, t)
		return second(req.RequestWith(ctx, v.client))
	},
	"write": func(ctx context.Context, v *visitor) error {
		value := []byte(strconv.Itoa(v.rng.Int()))
		if v.rng.IntN(4) == 0 {
			value = nil // a tombstone
		}
		return v.client.ProduceSync(ctx, &kgo.Record{Topic: visitTopic, Key: []byte(strconv.Itoa(v.rng.IntN(3))), Value: value}).FirstErr()
	},
}

// visitNames are in an order of their own: a seed is to choose the same.
var visitNames = slices.Sorted(maps.Keys(visits))

func second[T any](_ T, err error) error { return err }

// visitor is a client that asks for anything.
type visitor struct {
	work   *Workload
	client *kgo.Client
	admin  *kadm.Client
	rng    *rand.Rand
}

func (v *visitor) topic() string { return v.work.topics()[v.rng.IntN(len(v.work.topics()))] }
func (v *visitor) broker() int32 { return int32(1 + v.rng.IntN(len(v.work.Seeds))) }

// Visit asks for random things until the workload stops.
func (w *Workload) Visit(i int, rng *rand.Rand) error {
	cl, err := w.Client(i, kgo.RecordRetries(3), kgo.RecordDeliveryTimeout(5*time.Second))
	if err != nil {
		return err
	}
	defer cl.Close()
	v := &visitor{w, cl, kadm.NewClient(cl), rng}
	for w.Context.Err() == nil {
		name := visitNames[rng.IntN(len(visitNames))]
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := visits[name](ctx, v)
		cancel()
		w.History.Note(fmt.Sprintf("visitor %d", i), fmt.Sprintf("%s: %v", name, err))
		w.pause(200*time.Millisecond, rng)
	}
	return nil
}
