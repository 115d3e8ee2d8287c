package raftmeta

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/ident"
)

// RegisterControllerHandlers adds the APIs of the controller listener to r: those that brokers ask, those that
// they pass on, and those that tools ask a controller directly.
func (m *Meta) RegisterControllerHandlers(r *wire.Registry) {
	wire.Handle(r, 0, 4, direct(m.registerBroker))
	wire.Handle(r, 0, 2, func(ctx *wire.Request, req *kmsg.BrokerHeartbeatRequest) (*kmsg.BrokerHeartbeatResponse, error) {
		return m.heartbeat(ctx.Context(), ctx.Session.Ended(), req)
	})
	wire.Handle(r, 2, 3, direct(m.alterPartition))
	wire.Handle(r, 0, 0, direct(m.allocateProducerIDs))
	wire.Handle(r, 0, 0, direct(m.assignReplicasToDirs))
	wire.Handle(r, 0, 0, m.envelope(r))
	m.registerAdminHandlers(r)
}

// direct is a handler that needs nothing of the connection.
func direct[P, S any](h func(context.Context, P) (S, error)) func(*wire.Request, P) (S, error) {
	return func(ctx *wire.Request, req P) (S, error) { return h(ctx.Context(), req) }
}

// policy is what topics' settings say about their leaders.
func (m *Meta) policy() controller.Policy {
	return controller.Policy{
		MinISR: func(img *image.Image, topic string) int {
			n, err := strconv.Atoi(m.Layers(img, topic).Effective("min.insync.replicas"))
			if err != nil {
				return 1 // all values were checked when they were set
			}
			return n
		},
		Unclean: func(img *image.Image, topic string) bool {
			return m.Layers(img, topic).Effective("unclean.leader.election.enable") == "true"
		},
		Internal: IsInternal,
	}
}

func (m *Meta) registerBroker(ctx context.Context, req *kmsg.BrokerRegistrationRequest) (*kmsg.BrokerRegistrationResponse, error) {
	resp := kmsg.NewPtrBrokerRegistrationResponse()
	b := image.Broker{ID: req.BrokerID, Incarnation: req.IncarnationID, Rack: req.Rack, LogDirs: req.LogDirs}
	for _, l := range req.Listeners {
		b.Endpoints = append(b.Endpoints, &image.Endpoint{Listener: l.Name, Host: l.Host, Port: int32(l.Port), SecurityProtocol: int32(l.SecurityProtocol)})
	}
	supported := map[string][2]int16{}
	for _, f := range req.Features {
		supported[f.Name] = [2]int16{f.MinSupportedVersion, f.MaxSupportedVersion}
	}
	b.Features = supported
	err := m.decide(ctx, func(work *image.Image) (records []*image.Record, err error) {
		if err := controller.CheckFeatures(work, req.BrokerID, supported); err != nil {
			return nil, err
		}
		records, resp.BrokerEpoch, err = controller.RegisterBroker(work, m.policy(), req.ClusterID, b, req.PreviousBrokerEpoch)
		return records, err
	})
	resp.ErrorCode = wire.ErrorCode(err)
	if err == nil {
		m.log.Debug().Int32("broker", b.ID).Int64("epoch", resp.BrokerEpoch).Msg("broker registered")
	}
	return resp, nil
}

// heartbeat decides a broker's state. ended is closed when the connection of the broker has ended; it is nil for this node's own broker.
func (m *Meta) heartbeat(ctx context.Context, ended <-chan struct{}, req *kmsg.BrokerHeartbeatRequest) (*kmsg.BrokerHeartbeatResponse, error) {
	resp := kmsg.NewPtrBrokerHeartbeatResponse()
	resp.IsFenced = true
	if !m.Leads() {
		resp.ErrorCode = kerr.NotController.Code
		return resp, nil
	}
	img := m.Image()
	b, ok := img.Broker(req.BrokerID)
	if !ok || b.Epoch != req.BrokerEpoch {
		resp.ErrorCode = kerr.StaleBrokerEpoch.Code
		return resp, nil
	}
	m.liveness.touch(b, ended)
	asked := false
	err := m.decide(ctx, func(work *image.Image) ([]*image.Record, error) {
		b, ok := work.Broker(req.BrokerID)
		if !ok {
			return nil, kerr.BrokerIDNotRegistered
		}
		var online []image.UUID
		for _, d := range b.LogDirs {
			if !slices.Contains(req.OfflineLogDirs, d) {
				online = append(online, d)
			}
		}
		if len(online) < len(b.LogDirs) {
			return controller.SetLogDirs(work, m.policy(), b.ID, req.BrokerEpoch, online)
		}
		scarce, full := withoutRoom(req)
		if records, err := controller.SetRoom(work, m.policy(), b.ID, req.BrokerEpoch, scarce, full); err != nil || len(records) > 0 {
			return records, err
		}
		switch {
		case req.WantShutdown:
			return controller.BeginShutdown(work, m.policy(), b.ID, req.BrokerEpoch)
		case b.Fenced && !req.WantFence:
			return controller.Unfence(work, m.policy(), b.ID, req.BrokerEpoch)
		case req.WantFence && !b.Fenced && !b.InControlledShutdown && len(work.ActiveBrokers()) > 1: // others are there to lead
			asked = true
			return controller.Fence(work, m.policy(), b.ID, req.BrokerEpoch)
		}
		return nil, nil
	})
	if err != nil {
		resp.ErrorCode = wire.ErrorCode(err)
		return resp, nil
	}
	if asked {
		m.liveness.log.Warn().Int32("broker", req.BrokerID).Msg("broker is fenced: it asked for that")
	}
	img = m.Image()
	if b, ok = img.Broker(req.BrokerID); ok {
		resp.IsFenced = b.Fenced
	}
	resp.IsCaughtUp = true
	resp.ShouldShutdown = req.WantShutdown && !leads(img, req.BrokerID)
	return resp, nil
}

func leads(img *image.Image, broker int32) (yes bool) {
	img.Topics("", func(t *image.Topic) bool {
		for _, p := range t.Partitions {
			if p.Leader == broker {
				yes = true
				return false
			}
		}
		return true
	})
	return yes
}

func (m *Meta) alterPartition(ctx context.Context, req *kmsg.AlterPartitionRequest) (*kmsg.AlterPartitionResponse, error) {
	resp := kmsg.NewPtrAlterPartitionResponse()
	err := m.decide(ctx, func(work *image.Image) ([]*image.Record, error) {
		b, ok := work.Broker(req.BrokerID)
		if !ok || b.Epoch != req.BrokerEpoch {
			return nil, kerr.StaleBrokerEpoch
		}
		var all []*image.Record
		for i := range req.Topics {
			t := &req.Topics[i]
			out := kmsg.NewAlterPartitionResponseTopic()
			out.TopidID = t.TopicID
			for j := range t.Partitions {
				answer, records := m.alterOne(work, req.BrokerID, t.TopicID, &t.Partitions[j])
				out.Partitions = append(out.Partitions, answer)
				all = append(all, records...)
			}
			resp.Topics = append(resp.Topics, out)
		}
		return all, nil
	})
	if err != nil {
		resp.Topics, resp.ErrorCode = nil, wire.ErrorCode(err)
	}
	return resp, nil
}

func (m *Meta) alterOne(work *image.Image, broker int32, topic image.UUID, r *kmsg.AlterPartitionRequestTopicPartition) (kmsg.AlterPartitionResponseTopicPartition, []*image.Record) {
	out := kmsg.NewAlterPartitionResponseTopicPartition()
	out.Partition = r.Partition
	s := controller.PartitionState{Topic: topic, Partition: r.Partition, LeaderEpoch: r.LeaderEpoch, PartitionEpoch: r.PartitionEpoch, Recovering: r.LeaderRecoveryState == 1}
	for _, member := range r.NewEpochISR {
		s.ISR = append(s.ISR, controller.Member{Broker: member.BrokerID, Epoch: member.BrokerEpoch})
	}
	for _, id := range r.NewISR {
		s.ISR = append(s.ISR, controller.Member{Broker: id, Epoch: -1})
	}
	records, err := controller.AlterPartition(work, m.policy(), broker, s)
	if err != nil {
		out.ErrorCode = wire.ErrorCode(err)
		return out, nil
	}
	after := work
	if len(records) > 0 {
		after = work.Copy()
		for _, r := range records {
			after.Apply(r)
		}
	}
	t, _ := after.TopicByID(topic)
	p := t.Partitions[r.Partition]
	out.LeaderID, out.LeaderEpoch, out.ISR, out.PartitionEpoch = p.Leader, p.LeaderEpoch, p.ISR, p.PartitionEpoch
	if p.Recovering {
		out.LeaderRecoveryState = 1
	}
	if p.Leader != broker { // the change completed a reassignment
		out.ErrorCode = kerr.NewLeaderElected.Code
	}
	return out, records
}

func (m *Meta) allocateProducerIDs(ctx context.Context, req *kmsg.AllocateProducerIDsRequest) (*kmsg.AllocateProducerIDsResponse, error) {
	resp := kmsg.NewPtrAllocateProducerIDsResponse()
	err := m.decide(ctx, func(work *image.Image) (records []*image.Record, err error) {
		records, resp.ProducerIDStart, resp.ProducerIDLen, err = controller.AllocateProducerIDs(work, req.BrokerID, req.BrokerEpoch)
		return records, err
	})
	resp.ErrorCode = wire.ErrorCode(err)
	return resp, nil
}

func (m *Meta) assignReplicasToDirs(ctx context.Context, req *kmsg.AssignReplicasToDirsRequest) (*kmsg.AssignReplicasToDirsResponse, error) {
	resp := kmsg.NewPtrAssignReplicasToDirsResponse()
	var list []controller.Assignment
	for _, d := range req.Directories {
		out := kmsg.NewAssignReplicasToDirsResponseDirectory()
		out.ID = d.ID
		for _, t := range d.Topics {
			topic := kmsg.NewAssignReplicasToDirsResponseDirectoryTopic()
			topic.TopicID = t.TopicID
			for _, p := range t.Partitions {
				list = append(list, controller.Assignment{Topic: t.TopicID, Partition: p.Partition, Directory: d.ID})
				partition := kmsg.NewAssignReplicasToDirsResponseDirectoryTopicPartition()
				partition.Partition = p.Partition
				topic.Partitions = append(topic.Partitions, partition)
			}
			out.Topics = append(out.Topics, topic)
		}
		resp.Directories = append(resp.Directories, out)
	}
	err := m.decide(ctx, func(work *image.Image) ([]*image.Record, error) {
		return controller.AssignDirectories(work, m.policy(), req.BrokerID, req.BrokerEpoch, list)
	})
	if err != nil {
		resp.Directories, resp.ErrorCode = nil, wire.ErrorCode(err)
	}
	return resp, nil
}

func (m *Meta) unregisterBroker(ctx *wire.Request, req *kmsg.UnregisterBrokerRequest) (*kmsg.UnregisterBrokerResponse, error) {
	resp := kmsg.NewPtrUnregisterBrokerResponse()
	err := m.change(ctx, adminTimeout, false, func(work *image.Image) ([]*image.Record, error) {
		return controller.Unregister(work, m.policy(), req.BrokerID)
	})
	resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
	return resp, nil
}

// Election types (KIP-460).
const (
	preferredElection = 0
	uncleanElection   = 1
)

// electLeaders answers ElectLeaders (KIP-460): the partitions named, or all that need it.
func (m *Meta) electLeaders(ctx *wire.Request, req *kmsg.ElectLeadersRequest) (*kmsg.ElectLeadersResponse, error) {
	resp := kmsg.NewPtrElectLeadersResponse()
	topics := req.Topics
	if topics == nil {
		m.Image().Topics("", func(t *image.Topic) bool {
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
	errs := m.changeEach(ctx, req.TimeoutMillis, false, len(partitions), func(work *image.Image, i int) ([]*image.Record, error) {
		if !known {
			return nil, fmt.Errorf("Unknown election type %d: %w", req.ElectionType, kerr.InvalidRequest)
		}
		return controller.ElectLeader(work, m.policy(), partitions[i].Topic, partitions[i].Partition, req.ElectionType == uncleanElection)
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

// describeQuorum answers DescribeQuorum (KIP-595, KIP-836) from raft's own view; only the leader knows the
// others' progress.
func (m *Meta) describeQuorum(ctx *wire.Request, req *kmsg.DescribeQuorumRequest) (*kmsg.DescribeQuorumResponse, error) {
	return m.quorumStatus(ctx.Context(), req)
}

// quorumStatus answers for the one partition that is a quorum's (KIP-595, Kafka's KafkaRaftClient.handleDescribeQuorumRequest). Nodes ask
// for it without its name (CatchUp).
func (m *Meta) quorumStatus(ctx context.Context, req *kmsg.DescribeQuorumRequest) (*kmsg.DescribeQuorumResponse, error) {
	resp := kmsg.NewPtrDescribeQuorumResponse()
	t := req.Topics
	if len(t) == 0 && m.Leads() && !m.Alone() { // CatchUp: a controller that has a successor and does not know it can commit nothing
		if err := m.barrier.pass(ctx, m); err != nil {
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
	s, err := m.node.Status(ctx)
	if err == nil && !m.Leads() {
		err = kerr.NotLeaderForPartition
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
		return resp, nil
	}
	p := kmsg.NewDescribeQuorumResponseTopicPartition()
	p.LeaderID, p.LeaderEpoch, p.HighWatermark = nodeID(s.Leader), int32(s.Term), int64(s.Commit)
	now := time.Now().UnixMilli()
	for _, member := range s.Members {
		r := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
		r.ReplicaID, r.LogEndOffset, r.LastFetchTimestamp, r.LastCaughtUpTimestamp = nodeID(member.ID), int64(member.Match), -1, -1
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
		n.NodeID = nodeID(member.ID)
		if host, port, ok := splitAddress(m.controllerAddress(member.ID)); ok {
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
