package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/calls"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/raftmeta/tags"
	"kraft/wire"
)

// SetLogDirs reports to the controller which of this broker's log directories work.
func (b *Broker) SetLogDirs(ctx context.Context, online []image.UUID) error {
	b.mu.Lock()
	b.online = online
	b.mu.Unlock()
	resp, err := b.beat(ctx, false)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// AssignDirectories tells the cluster in which log directories replicas of this broker are.
func (b *Broker) AssignDirectories(ctx context.Context, list []controller.Assignment) error {
	req := kmsg.NewPtrAssignReplicasToDirsRequest()
	req.BrokerID, req.BrokerEpoch = b.meta.Config.NodeID, b.Epoch()
	byDir := map[image.UUID]map[image.UUID][]int32{}
	for _, a := range list {
		if byDir[a.Directory] == nil {
			byDir[a.Directory] = map[image.UUID][]int32{}
		}
		byDir[a.Directory][a.Topic] = append(byDir[a.Directory][a.Topic], a.Partition)
	}
	for dir, topics := range byDir {
		d := kmsg.NewAssignReplicasToDirsRequestDirectory()
		d.ID = dir
		for topic, partitions := range topics {
			t := kmsg.NewAssignReplicasToDirsRequestDirectoryTopic()
			t.TopicID = topic
			for _, n := range partitions {
				p := kmsg.NewAssignReplicasToDirsRequestDirectoryTopicPartition()
				p.Partition = n
				t.Partitions = append(t.Partitions, p)
			}
			d.Topics = append(d.Topics, t)
		}
		req.Directories = append(req.Directories, d)
	}
	resp, err := calls.Ask(ctx, b.calls, req, b.active.AssignReplicasToDirs, func(r *kmsg.AssignReplicasToDirsResponse) bool { return r.ErrorCode == kerr.NotController.Code })
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// AlterPartition proposes an ISR for a partition that this broker leads; the metadata tells what became of it.
func (b *Broker) AlterPartition(ctx context.Context, states []controller.PartitionState) (map[controller.Assignment]error, error) {
	req := kmsg.NewPtrAlterPartitionRequest()
	req.BrokerID, req.BrokerEpoch = b.meta.Config.NodeID, b.Epoch()
	at := map[image.UUID]int{}
	for _, s := range states {
		i, ok := at[s.Topic]
		if !ok {
			i = len(req.Topics)
			at[s.Topic] = i
			t := kmsg.NewAlterPartitionRequestTopic()
			t.TopicID = s.Topic
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewAlterPartitionRequestTopicPartition()
		p.Partition, p.LeaderEpoch, p.PartitionEpoch = s.Partition, s.LeaderEpoch, s.PartitionEpoch
		if s.Recovering {
			p.LeaderRecoveryState = 1
		}
		for _, member := range s.ISR {
			e := kmsg.NewAlterPartitionRequestTopicPartitionNewEpochISR()
			e.BrokerID, e.BrokerEpoch = member.Broker, member.Epoch
			p.NewEpochISR = append(p.NewEpochISR, e)
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	resp, err := calls.Ask(ctx, b.calls, req, b.active.AlterPartition, func(r *kmsg.AlterPartitionResponse) bool { return r.ErrorCode == kerr.NotController.Code })
	if err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	out := map[controller.Assignment]error{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			out[controller.Assignment{Topic: t.TopidID, Partition: p.Partition}] = kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return out, nil
}

// NextProducerID returns a producer id that no other broker gives out (KIP-730).
func (b *Broker) NextProducerID(ctx context.Context) (int64, error) {
	if err := b.ids.Acquire(ctx, 1); err != nil {
		return 0, err
	}
	defer b.ids.Release(1)
	if b.nextID == b.lastID {
		req := kmsg.NewPtrAllocateProducerIDsRequest()
		req.BrokerID, req.BrokerEpoch = b.meta.Config.NodeID, b.Epoch()
		resp, err := calls.Ask(ctx, b.calls, req, b.active.AllocateProducerIDs, func(r *kmsg.AllocateProducerIDsResponse) bool { return r.ErrorCode == kerr.NotController.Code })
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err != nil {
			return 0, err
		}
		b.nextID, b.lastID = resp.ProducerIDStart, resp.ProducerIDStart+int64(resp.ProducerIDLen)
	}
	b.nextID++
	return b.nextID - 1, nil
}

// CreateTopic creates a topic that the broker itself needs, or that a client's Metadata request implies,
// and returns when this node has it. partitions and factor of -1 are the defaults. A topic that exists
// is no error.
func (b *Broker) CreateTopic(ctx context.Context, t controller.NewTopic, d controller.Defaults) error {
	if b.meta.Alone() {
		return b.active.CreateTopic(ctx, t, d)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = int32(calls.RequestTimeout / time.Millisecond)
	r := kmsg.NewCreateTopicsRequestTopic()
	r.Topic, r.NumPartitions, r.ReplicationFactor = t.Name, t.Partitions, t.Factor
	if r.NumPartitions == -1 {
		r.NumPartitions = d.Partitions
	}
	if r.ReplicationFactor == -1 {
		r.ReplicationFactor = d.FactorFor(b.meta.Image())
		if r.ReplicationFactor < d.Factor {
			b.log.Warn().Str("topic", t.Name).Msg(fmt.Sprintf("created with %d replicas instead of %d: too few brokers are registered; once there are more, kraft cluster rebalance adds replicas", r.ReplicationFactor, d.Factor))
		}
	}
	for k, v := range t.Configs {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = k, v
		r.Configs = append(r.Configs, c)
	}
	req.Topics = append(req.Topics, r)
	ctx, cancel := context.WithTimeout(ctx, calls.RequestTimeout)
	defer cancel()
	resp, err := calls.Ask(ctx, b.calls, req, func(ctx context.Context, _ *kmsg.CreateTopicsRequest) (*kmsg.CreateTopicsResponse, error) {
		resp, created := kmsg.NewPtrCreateTopicsResponse(), kmsg.NewCreateTopicsResponseTopic()
		err := b.active.CreateTopic(ctx, t, d)
		created.ErrorCode, created.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
		resp.Topics = append(resp.Topics, created)
		return resp, nil
	}, func(r *kmsg.CreateTopicsResponse) bool {
		return len(r.Topics) == 1 && r.Topics[0].ErrorCode == kerr.NotController.Code
	})
	if err != nil {
		return err
	}
	if len(resp.Topics) != 1 {
		return fmt.Errorf("the controller answers for %d topics, not one", len(resp.Topics))
	}
	if err := wire.AnswerError(resp.Topics[0].ErrorCode, resp.Topics[0].ErrorMessage); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return err
	}
	return b.meta.Until(ctx, func(img *image.Image) bool { _, ok := img.Topic(t.Name); return ok })
}

// NoteRoom has all later heartbeats say which log directories have no room. Any goroutine may call it.
func (b *Broker) NoteRoom(r tags.Room) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.room = r
}

// SetRoom reports to the controller which of this broker's log directories have no room, so that others lead the partitions there.
// Later heartbeats repeat it. Any goroutine may call it.
func (b *Broker) SetRoom(ctx context.Context, r tags.Room) error {
	b.NoteRoom(r)
	resp, err := b.beat(ctx, false)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}
