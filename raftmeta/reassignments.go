package raftmeta

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	pb "go.etcd.io/raft/v3/raftpb"

	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/raftmeta/quorum"
	"kraft/wire"
	"kraft/wire/ident"
)

// alterPartitionReassignments answers AlterPartitionReassignments (KIP-455): begun or taken back, partition by
// partition.
func (m *Meta) alterPartitionReassignments(ctx *wire.Request, req *kmsg.AlterPartitionAssignmentsRequest) (*kmsg.AlterPartitionAssignmentsResponse, error) {
	resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
	resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	keep := ctx.Version >= 1 && !req.AllowReplicationFactorChange
	var partitions []ident.TopicPartition
	var replicas [][]int32
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			partitions, replicas = append(partitions, ident.TopicPartition{Topic: t.Topic, Partition: p.Partition}), append(replicas, p.Replicas)
		}
	}
	errs := m.changeEach(ctx, req.TimeoutMillis, false, len(partitions), func(work *image.Image, i int) ([]*image.Record, error) {
		return controller.Reassign(work, m.policy(), partitions[i].Topic, partitions[i].Partition, replicas[i], keep)
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
func (m *Meta) listPartitionReassignments(_ *wire.Request, req *kmsg.ListPartitionReassignmentsRequest) (*kmsg.ListPartitionReassignmentsResponse, error) {
	resp := kmsg.NewPtrListPartitionReassignmentsResponse()
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
	img := m.Image()
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

// addRaftVoter answers AddRaftVoter (KIP-853): a node that has joined becomes a voter.
func (m *Meta) addRaftVoter(ctx *wire.Request, req *kmsg.AddRaftVoterRequest) (*kmsg.AddRaftVoterResponse, error) {
	resp := kmsg.NewPtrAddRaftVoterResponse()
	err := m.checkVoterRequest(req.ClusterID)
	if err == nil {
		err = m.promote(ctx.Context(), req)
	}
	resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
	return resp, nil
}

func (m *Meta) checkVoterRequest(cluster *string) error {
	if id := m.Image().ClusterID; cluster != nil && *cluster != id {
		return fmt.Errorf("this is cluster %s, not %s: %w", id, *cluster, kerr.InconsistentClusterID)
	}
	if m.Alone() {
		return fmt.Errorf("this node has no listener for a quorum: %w", kerr.InvalidRequest)
	}
	return nil
}

func (m *Meta) promote(ctx context.Context, req *kmsg.AddRaftVoterRequest) error {
	ctx, cancel := context.WithTimeout(ctx, max(time.Duration(req.TimeoutMillis)*time.Millisecond, time.Second))
	defer cancel()
	s, err := m.node.Status(ctx)
	if err != nil {
		return err
	}
	id := raftID(req.VoterID)
	for _, member := range s.Members {
		switch {
		case member.ID != id:
		case !member.Learner:
			return fmt.Errorf("node %d is a voter already: %w", req.VoterID, kerr.DuplicateVoter)
		case !member.Active || member.Match < s.Commit:
			return fmt.Errorf("node %d has not caught up: its log ends at %d, %d is committed: %w", req.VoterID, member.Match, s.Commit, kerr.RequestTimedOut)
		case len(req.Listeners) == 0 && m.controllerAddress(id) == "":
			return fmt.Errorf("node %d has no listener for the quorum, as a voter needs: give it one (process.roles with controller, or CONTROLLER://host:port among listeners): %w", req.VoterID, kerr.InvalidRequest)
		default:
			for _, l := range req.Listeners {
				m.remember(&image.Controller{ID: req.VoterID, Member: m.memberOf(id), Address: net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port)))})
			}
			return m.changeMember(ctx, id, pb.ConfChangeAddNode)
		}
	}
	return fmt.Errorf("node %d is not a member: start it with --join first: %w", req.VoterID, kerr.InvalidRequest)
}

func (m *Meta) memberOf(id uint64) string {
	for _, h := range m.node.Met() {
		if h.From == id {
			return h.Member
		}
	}
	return ""
}

// removeRaftVoter answers RemoveRaftVoter (KIP-853): a voter that runs becomes an observer, one that is gone is
// forgotten.
func (m *Meta) removeRaftVoter(ctx *wire.Request, req *kmsg.RemoveRaftVoterRequest) (*kmsg.RemoveRaftVoterResponse, error) {
	resp := kmsg.NewPtrRemoveRaftVoterResponse()
	err := m.checkVoterRequest(req.ClusterID)
	if err == nil && req.VoterID == m.config.NodeID && m.Leads() && m.yield(ctx.Context()) {
		return forwarded(m, m.removeRaftVoter)(ctx, req)
	}
	if err == nil {
		err = m.demote(ctx.Context(), req.VoterID)
	}
	resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
	return resp, nil
}

// yield has another voter lead before this one is taken away. A leader that took itself away might be left with entries behind
// that change, which only it knows to be committed: those left would need the vote of one that finds them behind.
func (m *Meta) yield(ctx context.Context) bool {
	m.node.HandOver()
	for {
		changed := m.controller.LeaderChanged()
		if !m.Leads() {
			return true
		}
		if s, err := m.node.Status(ctx); err != nil || s.Leader == raftID(m.config.NodeID) {
			return false
		}
		select {
		case <-changed:
		case <-m.node.Done():
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (m *Meta) demote(ctx context.Context, voter int32) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout*time.Millisecond)
	defer cancel()
	s, err := m.node.Status(ctx)
	if err != nil {
		return err
	}
	id := raftID(voter)
	voters, running := 0, 0 // running are those that would be left
	var found *quorum.Member
	for i := range s.Members {
		switch member := &s.Members[i]; {
		case member.Learner:
		case member.ID == id:
			voters++
			found = member
		default:
			voters++
			if member.Active {
				running++
			}
		}
	}
	switch {
	case found == nil:
		return fmt.Errorf("node %d is no voter: %w", voter, kerr.VoterNotFound)
	case voters == 1:
		return fmt.Errorf("node %d is the last voter: %w", voter, kerr.InvalidRequest)
	case running <= (voters-1)/2:
		return fmt.Errorf("node %d stays a voter: of the %d that would be left only %d run, which is no majority: %w", voter, voters-1, running, kerr.InvalidRequest)
	case found.Active && !quorum.NobodyListens(ctx, m.config.Dial, m.controllerAddress(id)):
		return m.changeMember(ctx, id, pb.ConfChangeAddLearnerNode)
	}
	if err := m.changeMember(ctx, id, pb.ConfChangeRemoveNode); err != nil {
		return err
	}
	return m.decide(ctx, func(work *image.Image) ([]*image.Record, error) { return controller.ForgetMember(work, voter), nil })
}

// unregisterController answers UnregisterController (KIP-1312): a controller that is gone is forgotten. One that runs would be
// noted again, and a voter's address is needed, so that those are refused; Kafka forgets them too, for a moment.
func (m *Meta) unregisterController(ctx *wire.Request, req *kmsg.UnregisterControllerRequest) (*kmsg.UnregisterControllerResponse, error) {
	resp := kmsg.NewPtrUnregisterControllerResponse()
	err := m.forget(ctx.Context(), req.ControllerID)
	resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
	return resp, nil
}

func (m *Meta) forget(ctx context.Context, controllerID int32) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout*time.Millisecond)
	defer cancel()
	s, err := m.node.Status(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(s.Members, func(member quorum.Member) bool { return member.ID == raftID(controllerID) })
	_, known := m.Image().Controller(controllerID)
	switch {
	case controllerID == m.config.NodeID && m.Leads():
		return fmt.Errorf("Controller cannot unregister itself while it is active.: %w", kerr.InvalidRequest)
	case at < 0 && !known:
		return fmt.Errorf("Controller ID %d is not currently registered.: %w", controllerID, kerr.ControllerIDNotRegistered)
	case at >= 0 && !s.Members[at].Learner:
		return fmt.Errorf("Controller %d is a voter of the metadata quorum: remove it from the quorum first.: %w", controllerID, kerr.InvalidRequest)
	case at >= 0 && s.Members[at].Active:
		return fmt.Errorf("Controller %d runs: stop it first.: %w", controllerID, kerr.InvalidRequest)
	case at >= 0:
		if err := m.changeMember(ctx, raftID(controllerID), pb.ConfChangeRemoveNode); err != nil {
			return err
		}
	}
	return m.decide(ctx, func(work *image.Image) ([]*image.Record, error) {
		return controller.ForgetMember(work, controllerID), nil
	})
}

func (m *Meta) changeMember(ctx context.Context, id uint64, kind pb.ConfChangeType) error {
	err := m.node.ChangeMember(ctx, id, kind)
	if errors.Is(err, quorum.ErrNotLeader) {
		return kerr.NotController
	}
	return err
}
