package replication

import (
	"sync/atomic"
	"time"

	"kraft/wire/record"
)

// TopicStats count what this broker has done with a topic since it started (Kafka's BrokerTopicMetrics). Any goroutine may use them.
type TopicStats struct {
	MessagesIn, BytesIn, BytesOut           atomic.Int64 // of producers and to consumers
	ReplicationBytesIn, ReplicationBytesOut atomic.Int64 // from leaders and to followers
	Produces, FailedProduces                atomic.Int64 // partitions of Produce requests
	Fetches, FailedFetches                  atomic.Int64 // partitions of Fetch requests
}

// add counts what another has counted.
func (s *TopicStats) add(o *TopicStats) {
	to, from := s.fields(), o.fields()
	for i := range to {
		to[i].Add(from[i].Load())
	}
}

func (s *TopicStats) fields() [9]*atomic.Int64 {
	return [...]*atomic.Int64{&s.MessagesIn, &s.BytesIn, &s.BytesOut, &s.ReplicationBytesIn, &s.ReplicationBytesOut,
		&s.Produces, &s.FailedProduces, &s.Fetches, &s.FailedFetches}
}

// PartitionStats are the state of a partition's replica on this broker.
type PartitionStats struct {
	Topic          string
	Partition      int32
	Leads, Offline bool
	InSync         int   // replicas in the ISR, while it leads
	Replicas       int   // while it leads
	MinInSync      int   // min.insync.replicas, while it leads
	Start, High    int64 // log start offset and high watermark
	End, Size      int64 // log end offset, and bytes of the segments
}

// Stats are this broker's part in replication.
type Stats struct {
	Topics                 map[string]*TopicStats
	All                    *TopicStats // of all topics, also of those that are gone
	Partitions             []PartitionStats
	ISRShrinks, ISRExpands int64 // that this broker has seen while it led
}

// Stats tells what there is and what has been counted. Any goroutine may call it.
func (m *Manager) Stats() Stats {
	st := Stats{Topics: map[string]*TopicStats{}, All: new(TopicStats), ISRShrinks: m.shrinks.Load(), ISRExpands: m.expands.Load()}
	m.mu.RLock()
	defer m.mu.RUnlock()
	st.All.add(&m.others)
	for _, t := range m.byID {
		st.Topics[t.name] = t.stats
		st.All.add(t.stats)
		for _, p := range t.partitions {
			st.Partitions = append(st.Partitions, p.stat())
		}
	}
	return st
}

func (p *Partition) stat() PartitionStats {
	st := PartitionStats{Topic: p.topic, Partition: p.n, Offline: p.offline.Load()}
	if l := p.leadership.Load(); l != nil {
		st.Leads, st.InSync, st.Replicas, st.MinInSync = true, len(l.isr), len(l.replicas), l.minInSync
	}
	if log := p.Log(); log != nil {
		st.Start, st.High, st.End, st.Size = log.StartOffset(), log.HighWatermark(), log.EndOffset(), log.Size()
	}
	return st
}

// Behind tells how far a reader at offset is behind the high watermark of this broker's replica, and when the oldest record that it
// has not read was written (the timestamp of its batch), zero if there is none. ok is false where this broker has no such replica. Any
// goroutine may call it; it reads a batch's header.
func (m *Manager) Behind(topic string, n int32, offset int64) (records int64, oldest time.Time, ok bool) {
	p, err := m.Partition(topic, n)
	if err != nil || p.Log() == nil || p.offline.Load() {
		return 0, oldest, false
	}
	log := p.Log()
	high, start := log.HighWatermark(), log.StartOffset()
	if offset >= high {
		return 0, oldest, true
	}
	offset = max(offset, start)
	s, err := p.read(offset, record.HeaderSize, high, false)
	if err == nil && s.Length >= record.HeaderSize {
		head := make(record.Batch, record.HeaderSize)
		if _, err := s.File.ReadAt(head, s.Offset); err == nil {
			oldest = time.UnixMilli(head.BaseTimestamp())
		}
	}
	return high - offset, oldest, true
}

// count notes what a Fetch request's answer holds.
func (f *fetching) count() {
	for i, p := range f.found {
		stats := &f.manager.others
		if p != nil {
			stats = p.stats
		}
		stats.Fetches.Add(1)
		r := &f.results[i]
		switch size := int64(r.Size()); {
		case r.ErrorCode != 0:
			stats.FailedFetches.Add(1)
		case f.replica >= 0:
			stats.ReplicationBytesOut.Add(size)
		default:
			stats.BytesOut.Add(size)
		}
	}
}
