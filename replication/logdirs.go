package replication

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/storage"
	"kraft/wire"
)

// describeLogDirs answers DescribeLogDirs (KIP-113, KIP-827): the directories with the partitions asked
// for, all of them for null.
func (m *Manager) describeLogDirs(_ *wire.Request, req *kmsg.DescribeLogDirsRequest) (*kmsg.DescribeLogDirsResponse, error) {
	resp := kmsg.NewPtrDescribeLogDirsResponse()
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
			p.Partition, p.Size = l.Partition.Partition, l.Size
			t := &dir.Topics[len(dir.Topics)-1]
			t.Partitions = append(t.Partitions, p)
		}
		resp.Dirs = append(resp.Dirs, dir)
	}
	return resp, nil
}

func asked(req *kmsg.DescribeLogDirsRequest, tp storage.TopicPartition) bool {
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
