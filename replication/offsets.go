package replication

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/storage"
	"kraft/wire"
	"kraft/wire/acl"
	"kraft/wire/ident"
)

// Special timestamps of ListOffsets.
const (
	latestTime        = -1
	earliestTime      = -2
	maxTimestampTime  = -3 // KIP-734
	earliestLocalTime = -4 // KIP-405
	lastTieredTime    = -5 // KIP-1005
	pendingUploadTime = -6 // KIP-1023
)

// timestampsSince are the versions that special timestamps came with.
var timestampsSince = map[int64]int16{latestTime: 0, earliestTime: 0, maxTimestampTime: 7, earliestLocalTime: 8, lastTieredTime: 9, pendingUploadTime: 11}

func (m *Manager) listOffsets(ctx *wire.Request, req *kmsg.ListOffsetsRequest) (*kmsg.ListOffsetsResponse, error) {
	resp := kmsg.NewPtrListOffsetsResponse()
	repeated := repeatedPartitions(req)
	broker := req.ReplicaID >= 0 && ctx.IsBroker()
	if !broker {
		req.ReplicaID = min(req.ReplicaID, -1) // a client that claims to be a broker sees what is committed
	}
	for i := range req.Topics {
		t := &req.Topics[i]
		out := kmsg.NewListOffsetsResponseTopic()
		out.Topic = t.Topic
		var denied error
		if !broker {
			denied = ctx.May(acl.Describe, acl.Topic, t.Topic)
		}
		for j := range t.Partitions {
			r := &t.Partitions[j]
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.Partition = r.Partition
			var err error = kerr.InvalidRequest // which of two timestamps is meant cannot be known
			if denied != nil {
				err = denied
			} else if !repeated[ident.TopicPartition{Topic: t.Topic, Partition: r.Partition}] {
				err = m.listOne(ctx.Version, req, t.Topic, r, &p)
			}
			if err != nil {
				p.ErrorCode = wire.ErrorCode(err)
				if !quiet(err) {
					m.log.Error().Err(err).Msg("list offsets failed")
				}
			}
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

// repeatedPartitions are those that a request names more than once.
func repeatedPartitions(req *kmsg.ListOffsetsRequest) map[ident.TopicPartition]bool {
	named, repeated := map[ident.TopicPartition]bool{}, map[ident.TopicPartition]bool{}
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			tp := ident.TopicPartition{Topic: req.Topics[i].Topic, Partition: req.Topics[i].Partitions[j].Partition}
			if named[tp] {
				repeated[tp] = true
			}
			named[tp] = true
		}
	}
	return repeated
}

func (m *Manager) listOne(version int16, req *kmsg.ListOffsetsRequest, topic string, r *kmsg.ListOffsetsRequestTopicPartition, out *kmsg.ListOffsetsResponseTopicPartition) error {
	if since, ok := timestampsSince[r.Timestamp]; version > 0 && r.Timestamp < 0 && (!ok || version < since) {
		return kerr.UnsupportedVersion
	}
	p, err := m.Partition(topic, r.Partition)
	if err != nil {
		return err
	}
	epoch := int32(-1)
	if version >= 4 {
		epoch = r.CurrentLeaderEpoch
	}
	l, err := p.lead(epoch)
	if err != nil {
		return err
	}
	high := p.Log().HighWatermark()
	// After an election the high watermark may be behind where clients have seen it, until the followers have
	// fetched.
	var behind error
	if high < l.begun && req.ReplicaID < 0 {
		if behind = kerr.OffsetNotAvailable; version < 5 {
			behind = kerr.LeaderNotAvailable
		}
	}
	switch {
	case req.ReplicaID >= 0: // a follower
		high = p.Log().EndOffset()
	case req.IsolationLevel == readCommitted:
		high = p.Log().LastStableOffset()
	}
	if version == 0 {
		out.OldStyleOffsets = oldOffsets(p.Log(), r, high)
		return nil
	}
	out.Timestamp, out.Offset, out.LeaderEpoch = -1, -1, -1
	var found storage.Stamped
	var ok bool
	switch r.Timestamp {
	case latestTime:
		if behind != nil {
			return behind
		}
		out.Offset, out.LeaderEpoch = high, l.epoch
		return nil
	case earliestTime, earliestLocalTime:
		out.Offset = p.Log().StartOffset()
		out.LeaderEpoch = p.Log().EpochAt(out.Offset)
		return nil
	case lastTieredTime, pendingUploadTime: // nothing is tiered
		return nil
	case maxTimestampTime:
		found, ok, err = p.Log().MaxTimestamp(p.Log().HighWatermark())
		ok = ok && found.Offset < high // of an open transaction it is nobody's to see, and no other record has it
	default:
		found, ok, err = p.Log().OffsetForTime(r.Timestamp, high)
	}
	if err != nil {
		return err
	}
	if ok {
		out.Timestamp, out.Offset, out.LeaderEpoch = found.Timestamp, found.Offset, found.Epoch
		return nil
	}
	return behind
}

// oldOffsets answers version 0: a list of segment starts, newest first.
func oldOffsets(log *storage.Log, r *kmsg.ListOffsetsRequestTopicPartition, high int64) []int64 {
	var out []int64
	switch r.Timestamp {
	case latestTime:
		out = []int64{high}
		out = append(out, log.SegmentOffsets(1<<62, high)...)
		if len(out) > 1 && out[1] == high {
			out = out[1:]
		}
	case earliestTime:
		out = []int64{log.StartOffset()}
	default:
		out = log.SegmentOffsets(r.Timestamp, high)
	}
	if n := int(max(r.MaxNumOffsets, 0)); len(out) > n {
		out = out[:n]
	}
	return out
}

func (m *Manager) offsetForLeaderEpoch(ctx *wire.Request, req *kmsg.OffsetForLeaderEpochRequest) (*kmsg.OffsetForLeaderEpochResponse, error) {
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	broker := ctx.HoldsCluster(acl.ClusterAction)
	if req.ReplicaID >= 0 {
		broker = ctx.IsBroker()
	}
	for i := range req.Topics {
		t := &req.Topics[i]
		out := kmsg.NewOffsetForLeaderEpochResponseTopic()
		out.Topic = t.Topic
		var denied error
		if !broker {
			denied = ctx.May(acl.Describe, acl.Topic, t.Topic)
		}
		for j := range t.Partitions {
			r := &t.Partitions[j]
			p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			p.Partition, p.LeaderEpoch, p.EndOffset = r.Partition, -1, -1
			epoch := int32(-1)
			if ctx.Version >= 2 {
				epoch = r.CurrentLeaderEpoch
			}
			if denied != nil {
				p.ErrorCode = wire.ErrorCode(denied)
				out.Partitions = append(out.Partitions, p)
				continue
			}
			part, err := m.Partition(t.Topic, r.Partition)
			if err == nil {
				if _, err = part.lead(epoch); err == nil {
					p.LeaderEpoch, p.EndOffset = part.Log().EpochEndOffset(r.LeaderEpoch)
				}
			}
			p.ErrorCode = wire.ErrorCode(err)
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}
