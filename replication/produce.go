package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta"
	"kraft/storage"
	"kraft/wire"
	"kraft/wire/record"
)

// produce appends each partition's records in the order of the request. With acks=0 the client expects
// no answer; a failure closes the connection, so that it learns at all.
func (m *Manager) produce(ctx *wire.Request, req *kmsg.ProduceRequest) (wire.Answer, error) {
	now := time.Now()
	resp := kmsg.NewPtrProduceResponse()
	resp.Version = ctx.Version
	resp.Topics = make([]kmsg.ProduceResponseTopic, 0, len(req.Topics))
	var failure error
	var durable []committed
	for i := range req.Topics {
		t := &req.Topics[i]
		out := kmsg.ProduceResponseTopic{Topic: t.Topic, TopicID: t.TopicID, Partitions: make([]kmsg.ProduceResponseTopicPartition, len(t.Partitions))}
		for j := range t.Partitions {
			p := &out.Partitions[j]
			p.Default()
			p.Partition = t.Partitions[j].Partition
			log, err := m.produceOne(ctx, req, t, &t.Partitions[j], p, now)
			if err != nil {
				failure = err
				m.refuse(ctx, p, err)
			} else if m.commits {
				durable = append(durable, committed{log, log.EndOffset(), p})
			}
		}
		resp.Topics = append(resp.Topics, out)
	}
	if req.Acks == 0 {
		if failure != nil {
			return wire.Answer{}, fmt.Errorf("produce with acks=0: %w", failure)
		}
		return wire.Answer{}, nil
	}
	if len(durable) == 0 {
		return wire.Answer{Now: resp}, nil
	}
	return wire.Answer{Await: func(context.Context) wire.Response {
		for _, c := range durable {
			if err := c.log.Commit(c.end); err != nil {
				m.refuse(ctx, c.answer, err)
			}
		}
		return resp
	}}, nil
}

// committed is what has to be on disk before a partition's answer may leave.
type committed struct {
	log    *storage.Log
	end    int64
	answer *kmsg.ProduceResponseTopicPartition
}

func (m *Manager) produceOne(ctx *wire.Request, req *kmsg.ProduceRequest, t *kmsg.ProduceRequestTopic, in *kmsg.ProduceRequestTopicPartition, out *kmsg.ProduceResponseTopicPartition, now time.Time) (*storage.Log, error) {
	if req.Acks < -1 || req.Acks > 1 {
		return nil, kerr.InvalidRequiredAcks
	}
	p, err := m.find(ctx.Version >= 13, t.Topic, t.TopicID, in.Partition)
	if err != nil {
		return nil, err
	}
	if raftmeta.IsInternal(p.topic) {
		return nil, fmt.Errorf("%s is written by its coordinator: %w", p.topic, kerr.InvalidTopicException)
	}
	if err := checkProduced(ctx.Version, req, in.Records); err != nil {
		return nil, err
	}
	a, err := p.Append(in.Records, req.Acks, now)
	if err != nil {
		return nil, err
	}
	out.BaseOffset, out.LogAppendTime, out.LogStartOffset = a.First, a.LogAppendTime, p.Log().StartOffset()
	return p.Log(), nil
}

// checkProduced checks what depends on the request's version (Kafka's ProduceRequest.validateRecords).
func checkProduced(version int16, req *kmsg.ProduceRequest, data []byte) error {
	if len(data) < record.MinFrame+5 {
		return fmt.Errorf("Produce request holds no records for a partition: %w", kerr.InvalidRecord)
	}
	if record.Magic(data) < 2 {
		if version >= 3 {
			return fmt.Errorf("Produce requests with version %d are only allowed to contain record batches with magic version 2: %w", version, kerr.InvalidRecord)
		}
		return nil
	}
	b, rest, err := record.Next(data)
	if err != nil {
		return fmt.Errorf("%v: %w", err, kerr.CorruptMessage)
	}
	switch {
	case version >= 3 && len(rest) > 0:
		return fmt.Errorf("Produce requests with version %d are only allowed to contain exactly one record batch per partition: %w", version, kerr.InvalidRecord)
	case version < 7 && b.Codec() == record.Zstd:
		return fmt.Errorf("Produce requests with version %d are not allowed to use ZStandard compression: %w", version, kerr.UnsupportedCompressionType)
	case req.TransactionID != nil || b.IsTransactional():
		return fmt.Errorf("no transaction was begun: %w", kerr.InvalidTxnState)
	}
	return nil
}

// refuse puts an error into a partition's answer.
func (m *Manager) refuse(ctx *wire.Request, out *kmsg.ProduceResponseTopicPartition, err error) {
	if !quiet(err) {
		m.log.Error().Err(err).Str("peer", ctx.Conn.RemoteAddr()).Msg("produce failed")
	}
	out.BaseOffset, out.LogAppendTime, out.LogStartOffset = -1, -1, -1
	out.ErrorCode, out.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
	var invalid *storage.InvalidRecords
	if errors.As(err, &invalid) {
		for _, i := range invalid.Indexes {
			r := kmsg.NewProduceResponseTopicPartitionErrorRecord()
			r.RelativeOffset, r.ErrorMessage = i, &invalid.Reason
			out.ErrorRecords = append(out.ErrorRecords, r)
		}
		out.ErrorMessage = kmsg.StringPtr("One or more records have been rejected")
	}
}
