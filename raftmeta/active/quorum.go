package active

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/acl"
)

// DescribeQuorum answers DescribeQuorum (KIP-595, KIP-836) from raft's own view; only the leader knows the
// others' progress.
func (c *Controller) DescribeQuorum(ctx *wire.Request, req *kmsg.DescribeQuorumRequest) (*kmsg.DescribeQuorumResponse, error) {
	if !ctx.HoldsCluster(acl.ClusterAction) { // of nodes that catch up
		if err := ctx.MayCluster(acl.Describe); err != nil {
			resp := kmsg.NewPtrDescribeQuorumResponse()
			resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
			return resp, nil
		}
	}
	return c.QuorumStatus(ctx.Context(), req)
}

// QuorumStatus answers for the one partition that is a quorum's (KIP-595, Kafka's KafkaRaftClient.handleDescribeQuorumRequest). Nodes ask
// for it without its name (CatchUp).
func (c *Controller) QuorumStatus(ctx context.Context, req *kmsg.DescribeQuorumRequest) (*kmsg.DescribeQuorumResponse, error) {
	resp := kmsg.NewPtrDescribeQuorumResponse()
	t := req.Topics
	if len(t) == 0 && c.meta.Leads() && !c.meta.Alone() { // CatchUp: a controller that has a successor and does not know it can commit nothing
		ctx, cancel := context.WithTimeout(ctx, barrierPatience)
		defer cancel()
		if err := c.barrier.pass(ctx, c.meta); err != nil {
			resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
			return resp, nil
		}
	}
	if len(t) > 0 && (len(t) > 1 || t[0].Topic != image.QuorumTopic || len(t[0].Partitions) != 1 || t[0].Partitions[0].Partition != 0) {
		for _, r := range t {
			out := kmsg.NewDescribeQuorumResponseTopic()
			out.Topic = r.Topic
			for _, n := range r.Partitions {
				p := kmsg.NewDescribeQuorumResponseTopicPartition()
				p.Partition, p.ErrorCode = n.Partition, kerr.UnknownTopicOrPartition.Code
				out.Partitions = append(out.Partitions, p)
			}
			resp.Topics = append(resp.Topics, out)
		}
		return resp, nil
	}
	s, err := c.meta.Node().Status(ctx)
	if err == nil && !c.meta.Leads() {
		err = kerr.NotLeaderForPartition
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
		return resp, nil
	}
	p := kmsg.NewDescribeQuorumResponseTopicPartition()
	p.LeaderID, p.LeaderEpoch, p.HighWatermark = raftmeta.NodeOf(s.Leader), int32(s.Term), int64(s.Commit)
	now := time.Now().UnixMilli()
	for _, member := range s.Members {
		r := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
		r.ReplicaID, r.LogEndOffset, r.LastFetchTimestamp, r.LastCaughtUpTimestamp = raftmeta.NodeOf(member.ID), int64(member.Match), -1, -1
		if member.Heard {
			r.LastFetchTimestamp = now
		}
		if member.Active && member.Match >= s.Commit {
			r.LastCaughtUpTimestamp = now
		}
		if member.Learner {
			p.Observers = append(p.Observers, r)
		} else {
			p.CurrentVoters = append(p.CurrentVoters, r)
		}
		n := kmsg.NewDescribeQuorumResponseNode()
		n.NodeID = raftmeta.NodeOf(member.ID)
		if host, port, ok := splitAddress(c.meta.ControllerAddress(member.ID)); ok {
			l := kmsg.NewDescribeQuorumResponseNodeListener()
			l.Name, l.Host, l.Port = "CONTROLLER", host, port
			n.Listeners = append(n.Listeners, l)
		}
		resp.Nodes = append(resp.Nodes, n)
	}
	out := kmsg.NewDescribeQuorumResponseTopic()
	out.Topic = image.QuorumTopic
	out.Partitions = append(out.Partitions, p)
	resp.Topics = append(resp.Topics, out)
	return resp, nil
}

// splitAddress takes host:port apart.
func splitAddress(address string) (host string, port uint16, ok bool) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, false
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return host, uint16(n), err == nil
}
