package ops

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
)

// QuorumDescription is the state of the metadata quorum.
type QuorumDescription struct {
	Cluster       string         `json:"cluster"`
	Leader        int32          `json:"leader"` // -1 for none
	Term          int32          `json:"term"`
	HighWatermark int64          `json:"high_watermark"`
	Members       []QuorumMember `json:"members"`
}

// QuorumMember is a node of the metadata quorum.
type QuorumMember struct {
	Node      int32  `json:"node"`
	Role      string `json:"role"` // leader, voter or learner
	Directory string `json:"directory"`
	directory [16]byte
	Address   string `json:"address,omitempty"`
	End       int64  `json:"end_offset"`
	Lag       int64  `json:"lag"`
	CaughtUp  int64  `json:"last_caught_up"` // milliseconds since 1970, -1 if not known
}

// DescribeQuorum asks for the quorum's state.
func DescribeQuorum(ctx context.Context, client *kgo.Client) (*QuorumDescription, error) {
	resp, q, err := Quorum(ctx, client)
	if err != nil {
		return nil, Explain(err, "")
	}
	cluster, err := kmsg.NewPtrDescribeClusterRequest().RequestWith(ctx, client)
	if err != nil {
		return nil, err
	}
	d := &QuorumDescription{Cluster: cluster.ClusterID, Leader: q.LeaderID, Term: q.LeaderEpoch, HighWatermark: q.HighWatermark, Members: []QuorumMember{}}
	end := q.HighWatermark
	for _, r := range q.CurrentVoters {
		if r.ReplicaID == q.LeaderID {
			end = r.LogEndOffset
		}
	}
	add := func(members []kmsg.DescribeQuorumResponseTopicPartitionReplicaState, role string) {
		for _, r := range members {
			m := QuorumMember{Node: r.ReplicaID, Role: role, Directory: image.EncodeUUID(r.ReplicaDirectoryID), directory: r.ReplicaDirectoryID, End: r.LogEndOffset, Lag: max(end-r.LogEndOffset, 0), CaughtUp: r.LastCaughtUpTimestamp}
			if r.ReplicaID == q.LeaderID {
				m.Role = "leader"
			}
			for _, n := range resp.Nodes {
				if n.NodeID == r.ReplicaID && len(n.Listeners) > 0 {
					m.Address = fmt.Sprintf("%s:%d", n.Listeners[0].Host, n.Listeners[0].Port)
				}
			}
			d.Members = append(d.Members, m)
		}
	}
	add(q.CurrentVoters, "voter")
	add(q.Observers, learner)
	return d, nil
}

// Quorum asks for the state of the metadata quorum, of which there is one partition.
func Quorum(ctx context.Context, cl *kgo.Client) (*kmsg.DescribeQuorumResponse, *kmsg.DescribeQuorumResponseTopicPartition, error) {
	req := kmsg.NewPtrDescribeQuorumRequest()
	t, p := kmsg.NewDescribeQuorumRequestTopic(), kmsg.NewDescribeQuorumRequestTopicPartition()
	t.Topic, t.Partitions = image.QuorumTopic, append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return nil, nil, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, nil, errors.New("the DescribeQuorum response does not describe the metadata quorum")
	}
	q := &resp.Topics[0].Partitions[0]
	return resp, q, kerr.ErrorForCode(q.ErrorCode)
}

var errNoMember = errors.New("is not in the quorum")

// member finds a node of the quorum.
func member(ctx context.Context, client *kgo.Client, id int32) (*QuorumMember, error) {
	d, err := DescribeQuorum(ctx, client)
	if err != nil {
		return nil, err
	}
	var known []string
	for i := range d.Members {
		if d.Members[i].Node == id {
			return &d.Members[i], nil
		}
		known = append(known, fmt.Sprint(d.Members[i].Node))
	}
	return nil, fmt.Errorf("node %d %w, which has %s", id, errNoMember, strings.Join(known, ", "))
}

// VotersWithout are the voters other than a node of the quorum, and whether that votes.
func VotersWithout(ctx context.Context, client *kgo.Client, id int32) (left []int32, votes bool, err error) {
	d, err := DescribeQuorum(ctx, client)
	if err != nil {
		return nil, false, err
	}
	for _, m := range d.Members {
		switch {
		case m.Role == learner:
		case m.Node == id:
			votes = true
		default:
			left = append(left, m.Node)
		}
	}
	if !votes {
		_, err = member(ctx, client, id) // it may not be there at all
	}
	return left, votes, err
}

// AddVoter makes a learner a voter. It reports false if the node votes already.
func AddVoter(ctx context.Context, client *kgo.Client, id int32) (changed bool, err error) {
	m, err := member(ctx, client, id)
	if errors.Is(err, errNoMember) {
		return false, fmt.Errorf("%w: start it with --join first", err)
	}
	if err != nil || m.Role != learner {
		return false, err
	}
	req := kmsg.NewPtrAddRaftVoterRequest()
	req.VoterID, req.VoterDirectoryID, req.TimeoutMillis = m.Node, m.directory, 30_000
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return false, err
	}
	return true, Answered(resp.ErrorCode, resp.ErrorMessage)
}

// RemoveVoter makes a voter a learner, or forgets it if it does not run. It reports false if the node does not vote.
func RemoveVoter(ctx context.Context, client *kgo.Client, id int32) (changed bool, err error) {
	m, err := member(ctx, client, id)
	if err != nil || m.Role == learner {
		return false, err
	}
	req := kmsg.NewPtrRemoveRaftVoterRequest()
	req.VoterID, req.VoterDirectoryID = m.Node, m.directory
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return false, err
	}
	return true, Answered(resp.ErrorCode, resp.ErrorMessage)
}

const learner = "learner"
