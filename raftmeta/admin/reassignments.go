package admin

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/acl"
	"kraft/wire/ident"
)

// alterPartitionReassignments answers AlterPartitionReassignments (KIP-455): begun or taken back, partition by
// partition.
func (a *Admin) alterPartitionReassignments(ctx *wire.Request, req *kmsg.AlterPartitionAssignmentsRequest) (*kmsg.AlterPartitionAssignmentsResponse, error) {
	resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
	if err := ctx.MayCluster(acl.Alter); err != nil {
		resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
		for _, t := range req.Topics {
			out := kmsg.NewAlterPartitionAssignmentsResponseTopic()
			out.Topic = t.Topic
			for _, p := range t.Partitions {
				out.Partitions = append(out.Partitions, kmsg.AlterPartitionAssignmentsResponseTopicPartition{Partition: p.Partition, ErrorCode: resp.ErrorCode, ErrorMessage: resp.ErrorMessage})
			}
			resp.Topics = append(resp.Topics, out)
		}
		return resp, nil
	}
	resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	keep := ctx.Version >= 1 && !req.AllowReplicationFactorChange
	var partitions []ident.TopicPartition
	var replicas [][]int32
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			partitions, replicas = append(partitions, ident.TopicPartition{Topic: t.Topic, Partition: p.Partition}), append(replicas, p.Replicas)
		}
	}
	errs := a.changeEach(ctx, req.TimeoutMillis, false, len(partitions), func(work *image.Image, i int) ([]*image.Record, error) {
		return controller.Reassign(work, a.meta.Policy(), partitions[i].Topic, partitions[i].Partition, replicas[i], keep)
	})
	for _, t := range req.Topics {
		out := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		out.Topic = t.Topic
		for _, p := range t.Partitions {
			r := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			r.Partition, r.ErrorCode, r.ErrorMessage = p.Partition, wire.ErrorCode(errs[0]), wire.ErrorMessage(errs[0])
			errs = errs[1:]
			out.Partitions = append(out.Partitions, r)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

// listPartitionReassignments answers ListPartitionReassignments: those under way of the partitions named, or all.
func (a *Admin) listPartitionReassignments(ctx *wire.Request, req *kmsg.ListPartitionReassignmentsRequest) (*kmsg.ListPartitionReassignmentsResponse, error) {
	resp := kmsg.NewPtrListPartitionReassignmentsResponse()
	if err := ctx.MayCluster(acl.Describe); err != nil {
		resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
		for _, t := range req.Topics { // what was asked for, as Apache Kafka has it
			out := kmsg.NewListPartitionReassignmentsResponseTopic()
			out.Topic = t.Topic
			for _, n := range t.Partitions {
				out.Partitions = append(out.Partitions, kmsg.ListPartitionReassignmentsResponseTopicPartition{Partition: n})
			}
			resp.Topics = append(resp.Topics, out)
		}
		return resp, nil
	}
	add := func(t *image.Topic, wanted func(int32) bool) {
		out := kmsg.NewListPartitionReassignmentsResponseTopic()
		out.Topic = t.Name
		for n, p := range t.Partitions {
			if len(p.Adding)+len(p.Removing) == 0 || !wanted(int32(n)) {
				continue
			}
			r := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
			r.Partition, r.Replicas, r.AddingReplicas, r.RemovingReplicas = int32(n), p.Replicas, p.Adding, p.Removing
			out.Partitions = append(out.Partitions, r)
		}
		if len(out.Partitions) > 0 {
			resp.Topics = append(resp.Topics, out)
		}
	}
	img := a.meta.Image()
	if req.Topics == nil {
		img.Topics("", func(t *image.Topic) bool { add(t, func(int32) bool { return true }); return true })
		return resp, nil
	}
	for _, r := range req.Topics {
		if t, ok := img.Topic(r.Topic); ok {
			add(t, func(n int32) bool { return slices.Contains(r.Partitions, n) })
		}
	}
	return resp, nil
}
