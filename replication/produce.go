package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
	"kraft/storage"
	"kraft/wire"
	"kraft/wire/acl"
	"kraft/wire/quota"
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
	h := hints{manager: m, listener: ctx.Session.Listener}
	denied := m.authorizeProduce(ctx, req)
	asked := m.enlist(ctx, req, denied, now)
	for i := range req.Topics {
		t := &req.Topics[i]
		out := kmsg.ProduceResponseTopic{Topic: t.Topic, TopicID: t.TopicID, Partitions: make([]kmsg.ProduceResponseTopicPartition, len(t.Partitions))}
		for j := range t.Partitions {
			p := &out.Partitions[j]
			p.Default()
			p.Partition = t.Partitions[j].Partition
			c, err := m.produceOne(ctx, req, t, &t.Partitions[j], denied.of(i), asked[[2]int{i, j}], p, now)
			if doubtful(err) && req.Acks != 0 {
				c.answer, c.doubt = p, err
				durable = append(durable, c)
			} else if err != nil {
				failure = err
				m.refuse(ctx, p, err)
				p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = h.hint(err, ctx.Version >= 13, t.Topic, t.TopicID, p.Partition)
			} else if m.commits || req.Acks == -1 && c.partition.Log().HighWatermark() < c.end {
				c.answer = p
				durable = append(durable, c)
			}
		}
		resp.Topics = append(resp.Topics, out)
	}
	ctx.Take(quota.Produce, float64(ctx.Size()))
	if req.Acks == 0 {
		for _, c := range durable { // nobody waits for it, and it has to be seen
			failure = errors.Join(failure, c.partition.synced(c.log, c.end))
		}
		if failure != nil && quiet(failure) {
			return wire.Answer{}, wire.Refuse(fmt.Errorf("produce with acks=0: %w", failure))
		}
		if failure != nil {
			return wire.Answer{}, fmt.Errorf("produce with acks=0: %w", failure)
		}
		return wire.Answer{}, nil
	}
	nameLeaders := func() {
		if ctx.Version < 10 {
			return
		}
		h.each(func(b *image.Broker, e *image.Endpoint) {
			n := kmsg.NewProduceResponseBroker()
			n.NodeID, n.Host, n.Port, n.Rack = b.ID, e.Host, e.Port, b.Rack
			resp.Brokers = append(resp.Brokers, n)
		})
	}
	if len(durable) == 0 {
		nameLeaders()
		return wire.Answer{Now: resp}, nil
	}
	acks, wait := req.Acks, time.Duration(max(req.TimeoutMillis, 0))*time.Millisecond
	return wire.Answer{Await: func(awaiting context.Context) wire.Response {
		timer := time.NewTimer(wait - time.Since(now))
		defer timer.Stop()
		defer nameLeaders()
		confirmed := confirmation{manager: m}
		for _, c := range durable {
			if c.doubt != nil {
				if !confirmed.leads(awaiting, c.partition, c.epoch) {
					c.doubt = kerr.NotLeaderForPartition
					c.answer.CurrentLeader.LeaderID, c.answer.CurrentLeader.LeaderEpoch = h.hint(c.doubt, false, c.partition.topic, c.partition.id, c.partition.n)
				}
				m.refuse(ctx, c.answer, c.doubt)
				continue
			}
			err := c.partition.synced(c.log, c.end)
			if err == nil && acks == -1 {
				err = c.partition.Committed(awaiting, c.epoch, c.end, timer.C)
			}
			if err != nil {
				m.refuse(ctx, c.answer, err)
			}
			if errors.Is(err, kerr.RequestTimedOut) {
				timer.Reset(0) // for the others, too
			}
		}
		return resp
	}}, nil
}

// committed is what has to be replicated, or on disk, before a partition's answer may leave.
type committed struct {
	partition *Partition
	log       *storage.Log
	epoch     int32
	end       int64 // behind the last record
	answer    *kmsg.ProduceResponseTopicPartition
	doubt     error // instead of a commit: an answer that only who still leads may give
}

func (m *Manager) produceOne(ctx *wire.Request, req *kmsg.ProduceRequest, t *kmsg.ProduceRequestTopic, in *kmsg.ProduceRequestTopicPartition, denied error, asked enlisted, out *kmsg.ProduceResponseTopicPartition, now time.Time) (c committed, err error) {
	var p *Partition
	if err = denied; err == nil {
		p, err = m.find(ctx.Version >= 13, t.Topic, t.TopicID, in.Partition)
	}
	stats := &m.others
	if p != nil {
		stats = p.stats
	}
	stats.Produces.Add(1)
	defer func() {
		if err != nil {
			stats.FailedProduces.Add(1)
		}
	}()
	if err != nil {
		return c, err
	}
	if _, err := checkProduced(ctx.Version, req, in.Records); err != nil {
		return c, err
	}
	if req.Acks < -1 || req.Acks > 1 {
		return c, kerr.InvalidRequiredAcks
	}
	if image.IsInternal(p.topic) {
		return c, fmt.Errorf("%s is written by its coordinator: %w", p.topic, kerr.InvalidTopicException)
	}
	if asked.err != nil {
		return committed{partition: p, epoch: asked.epoch}, asked.err
	}
	a, epoch, err := p.Append(in.Records, asked.guard, req.Acks, now)
	if err != nil {
		return committed{partition: p, epoch: epoch}, err
	}
	if !a.Duplicate {
		stats.BytesIn.Add(int64(len(in.Records)))
		stats.MessagesIn.Add(a.Last - a.First + 1)
	}
	out.BaseOffset, out.LogAppendTime, out.LogStartOffset = a.First, a.LogAppendTime, p.Log().StartOffset()
	return committed{partition: p, log: p.Log(), epoch: epoch, end: a.Last + 1}, nil
}

// denials are why topics of a request may not be written to, by their index; nil if all may.
type denials []error

func (d denials) of(i int) error {
	if d == nil {
		return nil
	}
	return d[i]
}

// authorizeProduce returns the topics that the client may not write to, with the reasons. Where any batch is transactional, the transactional id decides on all.
func (m *Manager) authorizeProduce(ctx *wire.Request, req *kmsg.ProduceRequest) denials {
	var all error
	if transactional(req) {
		if req.TransactionID == nil {
			all = fmt.Errorf("a transactional batch without a transactional id: %w", kerr.TransactionalIDAuthorizationFailed)
		} else {
			all = ctx.May(acl.Write, acl.TransactionalID, *req.TransactionID)
		}
	}
	if all == nil && !ctx.Authorizes() {
		return nil
	}
	d := make(denials, len(req.Topics))
	for i := range req.Topics {
		t := &req.Topics[i]
		if d[i] = all; all != nil {
			continue
		}
		name := t.Topic
		if ctx.Version >= 13 {
			found, ok := m.meta.Newest().TopicByID(t.TopicID)
			if !ok {
				d[i] = kerr.UnknownTopicID
				continue
			}
			name = found.Name
		}
		d[i] = ctx.May(acl.Write, acl.Topic, name)
	}
	return d
}

// transactional reports whether a request has a batch of a transaction.
func transactional(req *kmsg.ProduceRequest) bool {
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			data := req.Topics[i].Partitions[j].Records
			for len(data) >= record.MinFrame+5 && record.Magic(data) == 2 { // several before version 3
				b, rest, err := record.Next(data)
				if err != nil {
					break
				}
				if b.IsTransactional() {
					return true
				}
				data = rest
			}
		}
	}
	return false
}

// checkProduced checks what depends on the request's version (Kafka's ProduceRequest.validateRecords). It returns the batch, nil for a message
// set of magic 0 or 1.
func checkProduced(version int16, req *kmsg.ProduceRequest, data []byte) (record.Batch, error) {
	if len(data) < record.MinFrame+5 {
		return nil, fmt.Errorf("Produce request holds no records for a partition: %w", kerr.InvalidRecord)
	}
	if magic := record.Magic(data); magic < 0 {
		return nil, fmt.Errorf("magic %d: %w", magic, kerr.CorruptMessage)
	} else if magic < 2 {
		if version >= 3 {
			return nil, fmt.Errorf("Produce requests with version %d are only allowed to contain record batches with magic version 2: %w", version, kerr.InvalidRecord)
		}
		return nil, nil
	}
	b, rest, err := record.Next(data)
	switch {
	case errors.Is(err, record.ErrTruncated):
		return nil, fmt.Errorf("Produce request holds no whole record batch for a partition: %w", kerr.InvalidRecord)
	case err != nil:
		return nil, fmt.Errorf("%v: %w", err, kerr.CorruptMessage)
	case version >= 3 && len(rest) >= record.MinFrame+5: // less is no batch: the log refuses it
		return nil, fmt.Errorf("Produce requests with version %d are only allowed to contain exactly one record batch per partition: %w", version, kerr.InvalidRecord)
	case version < 7 && b.Codec() == record.Zstd:
		return nil, fmt.Errorf("Produce requests with version %d are not allowed to use ZStandard compression: %w", version, kerr.UnsupportedCompressionType)
	}
	return b, nil
}

// refuse puts an error into a partition's answer.
func (m *Manager) refuse(ctx *wire.Request, out *kmsg.ProduceResponseTopicPartition, err error) {
	if !quiet(err) {
		m.log.Error().Err(err).Str("peer", ctx.Session.Peer).Msg("produce failed")
	}
	out.BaseOffset, out.LogAppendTime, out.LogStartOffset = -1, -1, -1
	out.ErrorCode, out.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
	var invalid *storage.InvalidRecords
	if errors.As(err, &invalid) && len(invalid.Indexes) > 0 {
		for _, i := range invalid.Indexes {
			r := kmsg.NewProduceResponseTopicPartitionErrorRecord()
			r.RelativeOffset, r.ErrorMessage = i, &invalid.Reason
			out.ErrorRecords = append(out.ErrorRecords, r)
		}
		out.ErrorMessage = kmsg.StringPtr("One or more records have been rejected")
	}
}
