package replication

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/storage"
	"kraft/wire"
	"kraft/wire/acl"
	"kraft/wire/ident"
)

// describeLogDirs answers DescribeLogDirs (KIP-113, KIP-827): the directories with the partitions asked
// for, all of them for null.
func (m *Manager) describeLogDirs(ctx *wire.Request, req *kmsg.DescribeLogDirsRequest) (*kmsg.DescribeLogDirsResponse, error) {
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	if err := ctx.MayCluster(acl.Describe); err != nil {
		resp.ErrorCode = wire.ErrorCode(err)
		return resp, nil
	}
	for _, u := range m.logs.Usage() {
		dir := kmsg.NewDescribeLogDirsResponseDir()
		dir.Dir, dir.TotalBytes, dir.UsableBytes = u.Path, u.Total, u.Usable
		if u.Err != nil {
			dir.ErrorCode = kerr.KafkaStorageError.Code
		}
		for _, l := range u.Logs { // sorted, so a topic's partitions stand together
			if !asked(req, l.Partition) {
				continue
			}
			if n := len(dir.Topics); n == 0 || dir.Topics[n-1].Topic != l.Partition.Topic {
				t := kmsg.NewDescribeLogDirsResponseDirTopic()
				t.Topic = l.Partition.Topic
				dir.Topics = append(dir.Topics, t)
			}
			p := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
			p.Partition, p.Size, p.OffsetLag, p.IsFuture = l.Partition.Partition, l.Size, l.Lag, l.Future
			t := &dir.Topics[len(dir.Topics)-1]
			t.Partitions = append(t.Partitions, p)
		}
		resp.Dirs = append(resp.Dirs, dir)
	}
	return resp, nil
}

// alterReplicaLogDirs answers AlterReplicaLogDirs (KIP-113): the moves are begun, DescribeLogDirs shows how
// far they are.
func (m *Manager) alterReplicaLogDirs(ctx *wire.Request, req *kmsg.AlterReplicaLogDirsRequest) (*kmsg.AlterReplicaLogDirsResponse, error) {
	resp := kmsg.NewPtrAlterReplicaLogDirsResponse()
	denied := ctx.MayCluster(acl.Alter)
	at := map[string]int{}
	for i := range req.Dirs {
		for _, t := range req.Dirs[i].Topics {
			n, ok := at[t.Topic]
			if !ok {
				n = len(resp.Topics)
				at[t.Topic] = n
				out := kmsg.NewAlterReplicaLogDirsResponseTopic()
				out.Topic = t.Topic
				resp.Topics = append(resp.Topics, out)
			}
			for _, number := range t.Partitions {
				p := kmsg.NewAlterReplicaLogDirsResponseTopicPartition()
				p.Partition = number
				if denied != nil {
					p.ErrorCode = wire.ErrorCode(denied)
				} else if err := m.moveTo(req.Dirs[i].Dir, t.Topic, number); err != nil {
					p.ErrorCode = wire.ErrorCode(err)
					m.log.Info().Err(err).Str("dir", req.Dirs[i].Dir).Str("peer", ctx.Session.Peer).Msg("move to another log directory refused")
				}
				resp.Topics[n].Partitions = append(resp.Topics[n].Partitions, p)
			}
		}
	}
	return resp, nil
}

func (m *Manager) moveTo(dir, topic string, n int32) error {
	if err := m.logs.CheckDir(dir); err != nil {
		return err
	}
	p, err := m.Partition(topic, n)
	if err == nil && p.offline.Load() {
		err = storage.ErrDirOffline
	}
	if err != nil {
		return fmt.Errorf("%s-%d: %w", topic, n, err)
	}
	return m.logs.Move(ident.TopicPartition{Topic: topic, Partition: n}, dir)
}

func asked(req *kmsg.DescribeLogDirsRequest, tp ident.TopicPartition) bool {
	if req.Topics == nil {
		return true
	}
	for i := range req.Topics {
		if t := &req.Topics[i]; t.Topic == tp.Topic && slices.Contains(t.Partitions, tp.Partition) {
			return true
		}
	}
	return false
}
