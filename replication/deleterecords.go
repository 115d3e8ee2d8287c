package replication

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/acl"
	"kraft/wire/ident"
)

// deletion is a partition whose records are deleted, and what its answer waits for.
type deletion struct {
	partition *Partition
	epoch     int32
	start     int64 // to be the log start of all replicas that are there
	answer    *kmsg.DeleteRecordsResponseTopicPartition
}

// deleteRecords moves log starts (KIP-107). It answers when every replica whose broker is there has moved its own, as Kafka's
// DelayedDeleteRecords does, and every eligible leader (KIP-966), which Kafka does not wait for: whoever leads next, deleted records do
// not come back. Starts are on disk before that.
func (m *Manager) deleteRecords(ctx *wire.Request, req *kmsg.DeleteRecordsRequest) (wire.Answer, error) {
	now := time.Now()
	resp := kmsg.NewPtrDeleteRecordsResponse()
	resp.SetVersion(ctx.Version)
	resp.Topics = slices.Grow(resp.Topics, len(req.Topics))
	var begun []deletion
	for i := range req.Topics {
		t := &req.Topics[i]
		out := kmsg.NewDeleteRecordsResponseTopic()
		out.Topic, out.Partitions = t.Topic, make([]kmsg.DeleteRecordsResponseTopicPartition, len(t.Partitions))
		denied := ctx.May(acl.Delete, acl.Topic, t.Topic)
		for j := range t.Partitions {
			p := &out.Partitions[j]
			*p = kmsg.NewDeleteRecordsResponseTopicPartition()
			p.Partition, p.LowWatermark = t.Partitions[j].Partition, -1
			if denied != nil {
				p.ErrorCode = wire.ErrorCode(denied)
				continue
			}
			d, err := m.deleteBefore(t.Topic, p.Partition, t.Partitions[j].Offset)
			if err != nil {
				p.ErrorCode = wire.ErrorCode(err)
				continue
			}
			d.answer = p
			begun = append(begun, d)
		}
		resp.Topics = append(resp.Topics, out)
	}
	var waiting []deletion
	for _, d := range begun { // all of one directory at once
		if err := m.logs.KeepStart(ident.TopicPartition{Topic: d.partition.topic, Partition: d.partition.n}); err != nil {
			d.answer.ErrorCode = wire.ErrorCode(err)
			continue
		}
		waiting = append(waiting, d)
	}
	timeout := time.Duration(max(req.TimeoutMillis, 0)) * time.Millisecond
	return wire.Answer{Await: func(awaiting context.Context) wire.Response {
		awaiting, cancel := context.WithDeadline(awaiting, now.Add(timeout))
		defer cancel()
		for _, d := range waiting {
			low, err := d.partition.deleted(awaiting, d.epoch, d.start, func(broker int32) bool { return mustDelete(m.meta.Image(), d.partition.id, d.partition.n, broker) })
			if err != nil {
				d.answer.ErrorCode = wire.ErrorCode(err)
			} else {
				d.answer.LowWatermark = low
			}
		}
		return resp
	}}, nil
}

func (m *Manager) deleteBefore(topic string, n int32, offset int64) (d deletion, err error) {
	if image.IsInternal(topic) {
		return d, kerr.InvalidTopicException
	}
	p, err := m.Partition(topic, n)
	if err != nil {
		return d, err
	}
	l, err := p.lead(-1)
	if err != nil {
		return d, err
	}
	if offset < -1 { // -1 is the high watermark
		return d, kerr.OffsetOutOfRange
	}
	if c := p.Log().Config(); c.Compact && !c.Delete {
		return d, kerr.PolicyViolation
	}
	start, err := p.Log().DeleteBefore(offset, time.Now())
	if err == nil && offset >= 0 {
		start = offset // the log may have begun later already
	}
	return deletion{partition: p, epoch: l.epoch, start: start}, err
}

// mustDelete reports whether a deletion waits for a replica. It does where the replica fetches: where its broker is there and its disk
// works and has room, as far as the metadata knows. Of the others it waits for eligible leaders, which may lead as they are; the rest
// move their log starts before they can.
func mustDelete(img *image.Image, topic [16]byte, n, broker int32) bool {
	t, _ := img.TopicByID(topic)
	p, there := t.Partition(n)
	if !there {
		return false
	}
	b, ok := img.Broker(broker)
	fetches := ok && !b.Fenced && b.HasRoom(p.Directory(broker), image.IsInternal(t.Name))
	return fetches || slices.Contains(p.ELR, broker)
}

// aliveInterval is how often a deletion looks whether all brokers that it waits for are there still.
const aliveInterval = 100 * time.Millisecond

// deleted waits until the log starts of this partition's replicas have reached offset, of those that have to (see mustDelete), and returns
// the least of them (the low watermark). It returns kerr.RequestTimedOut when ctx ends, and kerr.NotLeaderForPartition when leadership of the epoch does.
func (p *Partition) deleted(ctx context.Context, epoch int32, offset int64, waitsFor func(broker int32) bool) (low int64, err error) {
	for {
		p.mu.Lock()
		l := p.leadership.Load()
		if l == nil || l.epoch != epoch {
			p.mu.Unlock()
			return 0, kerr.NotLeaderForPartition
		}
		low = p.Log().StartOffset()
		for id, f := range p.followers {
			if waitsFor(id) {
				low = min(low, f.start)
			}
		}
		if p.startsMoved == nil {
			p.startsMoved = make(chan struct{})
		}
		moved := p.startsMoved
		p.mu.Unlock()
		if low >= offset {
			return low, nil
		}
		again := time.NewTimer(aliveInterval)
		select {
		case <-moved:
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return 0, kerr.RequestTimedOut
		}
		again.Stop()
	}
}

// tellStart notes a follower's log start. mu is held.
func (p *Partition) tellStart(f *follower, start int64) {
	if start == f.start {
		return
	}
	f.start = start
	if p.startsMoved != nil {
		close(p.startsMoved)
		p.startsMoved = nil
	}
}
