package active

import (
	"context"
	mrand "math/rand/v2"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/raftmeta/tags"
	"kraft/wire"
)

// RegisterBroker registers a broker, fenced, in a new epoch (KIP-631).
func (c *Controller) RegisterBroker(ctx context.Context, req *kmsg.BrokerRegistrationRequest) (*kmsg.BrokerRegistrationResponse, error) {
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
	err := c.meta.Decide(ctx, func(work *image.Image) (records []*image.Record, err error) {
		if err := controller.CheckFeatures(work, req.BrokerID, supported); err != nil {
			return nil, err
		}
		records, resp.BrokerEpoch, err = controller.RegisterBroker(work, c.meta.Policy(), req.ClusterID, b, req.PreviousBrokerEpoch)
		return records, err
	})
	resp.ErrorCode = wire.ErrorCode(err)
	if err == nil {
		c.log.Debug().Int32("broker", b.ID).Int64("epoch", resp.BrokerEpoch).Msg("broker registered")
	}
	return resp, nil
}

// Heartbeat decides a broker's state. ended is closed when the connection of the broker has ended; it is nil for this node's own broker.
func (c *Controller) Heartbeat(ctx context.Context, ended <-chan struct{}, req *kmsg.BrokerHeartbeatRequest) (*kmsg.BrokerHeartbeatResponse, error) {
	resp := kmsg.NewPtrBrokerHeartbeatResponse()
	resp.IsFenced = true
	if !c.meta.Leads() {
		resp.ErrorCode = kerr.NotController.Code
		return resp, nil
	}
	img := c.meta.Image()
	b, ok := img.Broker(req.BrokerID)
	if !ok || b.Epoch != req.BrokerEpoch {
		resp.ErrorCode = kerr.StaleBrokerEpoch.Code
		return resp, nil
	}
	c.liveness.touch(b, ended)
	asked := false
	err := c.meta.Decide(ctx, func(work *image.Image) ([]*image.Record, error) {
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
			return controller.SetLogDirs(work, c.meta.Policy(), b.ID, req.BrokerEpoch, online)
		}
		room := tags.RoomOf(req)
		if records, err := controller.SetRoom(work, c.meta.Policy(), b.ID, req.BrokerEpoch, room.Scarce, room.Full); err != nil || len(records) > 0 {
			return records, err
		}
		switch {
		case req.WantShutdown:
			return controller.BeginShutdown(work, c.meta.Policy(), b.ID, req.BrokerEpoch)
		case b.Fenced && !req.WantFence:
			return controller.Unfence(work, c.meta.Policy(), b.ID, req.BrokerEpoch)
		case req.WantFence && !b.Fenced && !b.InControlledShutdown && len(work.ActiveBrokers()) > 1: // others are there to lead
			asked = true
			return controller.Fence(work, c.meta.Policy(), b.ID, req.BrokerEpoch)
		}
		return nil, nil
	})
	if err != nil {
		resp.ErrorCode = wire.ErrorCode(err)
		return resp, nil
	}
	if asked {
		c.liveness.log.Warn().Int32("broker", req.BrokerID).Msg("broker is fenced at its own request")
	}
	img = c.meta.Image()
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

// AlterPartition decides on the ISRs that a leader proposes, each by itself (KIP-497).
func (c *Controller) AlterPartition(ctx context.Context, req *kmsg.AlterPartitionRequest) (*kmsg.AlterPartitionResponse, error) {
	resp := kmsg.NewPtrAlterPartitionResponse()
	err := c.meta.Decide(ctx, func(work *image.Image) ([]*image.Record, error) {
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
				answer, records := c.alterOne(work, req.BrokerID, t.TopicID, &t.Partitions[j])
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

func (c *Controller) alterOne(work *image.Image, broker int32, topic image.UUID, r *kmsg.AlterPartitionRequestTopicPartition) (kmsg.AlterPartitionResponseTopicPartition, []*image.Record) {
	out := kmsg.NewAlterPartitionResponseTopicPartition()
	out.Partition = r.Partition
	s := controller.PartitionState{Topic: topic, Partition: r.Partition, LeaderEpoch: r.LeaderEpoch, PartitionEpoch: r.PartitionEpoch, Recovering: r.LeaderRecoveryState == 1}
	for _, member := range r.NewEpochISR {
		s.ISR = append(s.ISR, controller.Member{Broker: member.BrokerID, Epoch: member.BrokerEpoch})
	}
	for _, id := range r.NewISR {
		s.ISR = append(s.ISR, controller.Member{Broker: id, Epoch: -1})
	}
	records, err := controller.AlterPartition(work, c.meta.Policy(), broker, s)
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

// AllocateProducerIDs gives a broker a block of producer ids (KIP-730).
func (c *Controller) AllocateProducerIDs(ctx context.Context, req *kmsg.AllocateProducerIDsRequest) (*kmsg.AllocateProducerIDsResponse, error) {
	resp := kmsg.NewPtrAllocateProducerIDsResponse()
	err := c.meta.Decide(ctx, func(work *image.Image) (records []*image.Record, err error) {
		records, resp.ProducerIDStart, resp.ProducerIDLen, err = controller.AllocateProducerIDs(work, req.BrokerID, req.BrokerEpoch)
		return records, err
	})
	resp.ErrorCode = wire.ErrorCode(err)
	return resp, nil
}

// AssignReplicasToDirs notes in which log directories a broker has replicas (KIP-858).
func (c *Controller) AssignReplicasToDirs(ctx context.Context, req *kmsg.AssignReplicasToDirsRequest) (*kmsg.AssignReplicasToDirsResponse, error) {
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
	err := c.meta.Decide(ctx, func(work *image.Image) ([]*image.Record, error) {
		return controller.AssignDirectories(work, c.meta.Policy(), req.BrokerID, req.BrokerEpoch, list)
	})
	if err != nil {
		resp.Directories, resp.ErrorCode = nil, wire.ErrorCode(err)
	}
	return resp, nil
}

// CreateTopic creates a topic that a broker needs, if this node is the active controller. A topic that exists is no error.
func (c *Controller) CreateTopic(ctx context.Context, t controller.NewTopic, d controller.Defaults) error {
	return c.meta.Decide(ctx, func(work *image.Image) ([]*image.Record, error) {
		if _, ok := work.Topic(t.Name); ok {
			return nil, nil
		}
		records, _, err := controller.CreateTopic(work, t, d, controller.NewID(), mrand.Uint64())
		return records, err
	})
}
