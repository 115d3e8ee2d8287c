package admin

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/acl"
	"kraft/wire/ident"
)

// Election types (KIP-460).
const (
	preferredElection = 0
	uncleanElection   = 1
)

// electLeaders answers ElectLeaders (KIP-460): the partitions named, or all that need it.
func (a *Admin) electLeaders(ctx *wire.Request, req *kmsg.ElectLeadersRequest) (*kmsg.ElectLeadersResponse, error) {
	resp := kmsg.NewPtrElectLeadersResponse()
	if err := ctx.MayCluster(acl.Alter); err != nil {
		resp.ErrorCode = wire.ErrorCode(err)
		for _, t := range req.Topics {
			out := kmsg.NewElectLeadersResponseTopic()
			out.Topic = t.Topic
			for _, n := range t.Partitions {
				out.Partitions = append(out.Partitions, kmsg.ElectLeadersResponseTopicPartition{Partition: n, ErrorCode: resp.ErrorCode, ErrorMessage: wire.ErrorMessage(err)})
			}
			resp.Topics = append(resp.Topics, out)
		}
		return resp, nil
	}
	topics := req.Topics
	if topics == nil {
		a.meta.Image().Topics("", func(t *image.Topic) bool {
			r := kmsg.NewElectLeadersRequestTopic()
			r.Topic = t.Name
			for n := range t.Partitions {
				r.Partitions = append(r.Partitions, int32(n))
			}
			topics = append(topics, r)
			return true
		})
	}
	var partitions []ident.TopicPartition
	for _, t := range topics {
		for _, n := range t.Partitions {
			partitions = append(partitions, ident.TopicPartition{Topic: t.Topic, Partition: n})
		}
	}
	known := ctx.Version == 0 || req.ElectionType == preferredElection || req.ElectionType == uncleanElection
	if !known {
		resp.ErrorCode = kerr.InvalidRequest.Code
	}
	errs := a.changeEach(ctx, req.TimeoutMillis, false, len(partitions), func(work *image.Image, i int) ([]*image.Record, error) {
		if !known {
			return nil, fmt.Errorf("Unknown election type %d: %w", req.ElectionType, kerr.InvalidRequest)
		}
		return controller.ElectLeader(work, a.meta.Policy(), partitions[i].Topic, partitions[i].Partition, req.ElectionType == uncleanElection)
	})
	for _, t := range topics {
		out := kmsg.NewElectLeadersResponseTopic()
		out.Topic = t.Topic
		for _, n := range t.Partitions {
			err := errs[0]
			errs = errs[1:]
			if req.Topics == nil && errors.Is(err, kerr.ElectionNotNeeded) {
				continue
			}
			p := kmsg.NewElectLeadersResponseTopicPartition()
			p.Partition, p.ErrorCode, p.ErrorMessage = n, wire.ErrorCode(err), wire.ErrorMessage(err)
			out.Partitions = append(out.Partitions, p)
		}
		if len(out.Partitions) > 0 {
			resp.Topics = append(resp.Topics, out)
		}
	}
	return resp, nil
}
