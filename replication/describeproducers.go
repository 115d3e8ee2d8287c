package replication

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire"
	"kraft/wire/acl"
)

func (m *Manager) describeProducers(ctx *wire.Request, req *kmsg.DescribeProducersRequest) (*kmsg.DescribeProducersResponse, error) {
	broker := ctx.HoldsCluster(acl.ClusterAction) // a coordinator that writes markers
	return m.producersOf(req, func(topic string) error {
		if broker {
			return nil
		}
		return ctx.May(acl.Read, acl.Topic, topic)
	}), nil
}

// DescribeProducers answers DescribeProducers (KIP-664) for partitions that this broker leads, for this broker itself. Any goroutine may call it.
func (m *Manager) DescribeProducers(req *kmsg.DescribeProducersRequest) *kmsg.DescribeProducersResponse {
	return m.producersOf(req, func(string) error { return nil })
}

func (m *Manager) producersOf(req *kmsg.DescribeProducersRequest, may func(topic string) error) *kmsg.DescribeProducersResponse {
	resp := kmsg.NewPtrDescribeProducersResponse()
	for _, t := range req.Topics {
		out := kmsg.NewDescribeProducersResponseTopic()
		out.Topic = t.Topic
		denied := may(t.Topic)
		for _, n := range t.Partitions {
			p := kmsg.NewDescribeProducersResponseTopicPartition()
			p.Partition = n
			err := denied
			if err == nil {
				p.ActiveProducers, err = m.producers(t.Topic, n)
			}
			p.ErrorCode, p.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
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
