package replication

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire"
)

func (m *Manager) describeProducers(_ *wire.Request, req *kmsg.DescribeProducersRequest) (*kmsg.DescribeProducersResponse, error) {
	return m.DescribeProducers(req), nil
}

// DescribeProducers answers DescribeProducers (KIP-664) for partitions that this broker leads. Any goroutine may call it.
func (m *Manager) DescribeProducers(req *kmsg.DescribeProducersRequest) *kmsg.DescribeProducersResponse {
	resp := kmsg.NewPtrDescribeProducersResponse()
	for _, t := range req.Topics {
		out := kmsg.NewDescribeProducersResponseTopic()
		out.Topic = t.Topic
		for _, n := range t.Partitions {
			p := kmsg.NewDescribeProducersResponseTopicPartition()
			p.Partition = n
			active, err := m.producers(t.Topic, n)
			p.ErrorCode, p.ErrorMessage, p.ActiveProducers = wire.ErrorCode(err), wire.ErrorMessage(err), active
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

func (m *Manager) producers(topic string, n int32) ([]kmsg.DescribeProducersResponseTopicPartitionActiveProducer, error) {
	p, err := m.Partition(topic, n)
	if err != nil {
		return nil, err
	}
	if _, err := p.lead(-1); err != nil {
		return nil, err
	}
	active := []kmsg.DescribeProducersResponseTopicPartitionActiveProducer{}
	for _, s := range p.Log().Producers() {
		a := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
		a.ProducerID, a.ProducerEpoch, a.LastSequence, a.LastTimestamp = s.ID, int32(s.Epoch), s.LastSequence, s.Timestamp
		a.CoordinatorEpoch, a.CurrentTxnStartOffset = s.CoordinatorEpoch, s.TxnFirst
		active = append(active, a)
	}
	return active, nil
}
