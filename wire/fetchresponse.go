package wire

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// FetchResponse is a Fetch answer whose records are regions of log files, sent by sendfile. Fields are
// those of kmsg.FetchResponse; a property test holds the encoder against kmsg's for each version.
type FetchResponse struct {
	Version        int16
	ThrottleMillis int32
	ErrorCode      int16
	SessionID      int32
	Topics         []FetchTopic
	Brokers        []kmsg.FetchResponseBroker // endpoints of the leaders named, KIP-951
}

// FetchTopic is one topic of a FetchResponse.
type FetchTopic struct {
	Topic      string
	TopicID    [16]byte
	Partitions []FetchPartition
}

// FetchPartition is one partition's answer. Its records are Region, or Inline where they had to be
// converted for an old client.
type FetchPartition struct {
	Partition            int32
	ErrorCode            int16
	HighWatermark        int64
	LastStableOffset     int64
	LogStartOffset       int64
	AbortedTransactions  []kmsg.FetchResponseTopicPartitionAbortedTransaction // nil is null
	PreferredReadReplica int32
	Region               Region
	Inline               []byte

	// Tagged from version 12; DivergingEpoch and CurrentLeader are left out while their epochs are -1.
	DivergingEpoch     int32
	DivergingEndOffset int64
	CurrentLeader      int32
	CurrentLeaderEpoch int32
}

// NewFetchPartition returns a partition answer with Kafka's defaults.
func NewFetchPartition(partition int32) FetchPartition {
	return FetchPartition{
		Partition: partition, HighWatermark: -1, LastStableOffset: -1, LogStartOffset: -1, PreferredReadReplica: -1,
		DivergingEpoch: -1, DivergingEndOffset: -1, CurrentLeader: -1, CurrentLeaderEpoch: -1,
	}
}

// Size is the number of bytes of records.
func (p *FetchPartition) Size() int { return p.Region.Length + len(p.Inline) }

// Throttle implements kmsg.ThrottleResponse.
func (f *FetchResponse) Throttle() (millis int32, passed bool) {
	return f.ThrottleMillis, f.Version >= 8
}

// SetThrottle implements kmsg.SetThrottleResponse.
func (f *FetchResponse) SetThrottle(millis int32) { f.ThrottleMillis = millis }

// WireSize is how many bytes the encoded answer has.
func (f *FetchResponse) WireSize() int {
	buf := getBuffer(0)
	defer putBuffer(buf)
	b, parts := f.AppendHead((*buf)[:0])
	*buf = b
	size := len(b)
	for _, p := range parts {
		size += p.Region.Length
	}
	return size
}

// IsFlexible says whether the version uses KIP-482's encoding.
func (f *FetchResponse) IsFlexible() bool { return f.Version >= 12 }

// AppendTo encodes the answer with its regions read into dst, for tests and connections in memory.
func (f *FetchResponse) AppendTo(dst []byte) []byte { return appendWhole(dst, f) }

// AppendHead implements Regional.
func (f *FetchResponse) AppendHead(b []byte) ([]byte, []Part) {
	v, flexible := f.Version, f.IsFlexible()
	var parts []Part
	if v >= 1 {
		b = kbin.AppendInt32(b, f.ThrottleMillis)
	}
	if v >= 7 {
		b = kbin.AppendInt16(b, f.ErrorCode)
		b = kbin.AppendInt32(b, f.SessionID)
	}
	b = appendLength(b, len(f.Topics), flexible)
	for i := range f.Topics {
		t := &f.Topics[i]
		switch {
		case v >= 13:
			b = append(b, t.TopicID[:]...)
		case flexible:
			b = kbin.AppendCompactString(b, t.Topic)
		default:
			b = kbin.AppendString(b, t.Topic)
		}
		b = appendLength(b, len(t.Partitions), flexible)
		for j := range t.Partitions {
			b, parts = t.Partitions[j].encode(b, v, parts)
		}
		if flexible {
			b = append(b, 0)
		}
	}
	if flexible {
		b = f.appendTags(b)
	}
	return b, parts
}

func (p *FetchPartition) encode(b []byte, v int16, parts []Part) ([]byte, []Part) {
	flexible := v >= 12
	b = kbin.AppendInt32(b, p.Partition)
	b = kbin.AppendInt16(b, p.ErrorCode)
	b = kbin.AppendInt64(b, p.HighWatermark)
	if v >= 4 {
		b = kbin.AppendInt64(b, p.LastStableOffset)
		if v >= 5 {
			b = kbin.AppendInt64(b, p.LogStartOffset)
		}
		b = appendAborted(b, p.AbortedTransactions, flexible)
	}
	if v >= 11 {
		b = kbin.AppendInt32(b, p.PreferredReadReplica)
	}
	n := p.Size()
	if flexible {
		b = kbin.AppendUvarint(b, uint32(n+1))
	} else {
		b = kbin.AppendInt32(b, int32(n))
	}
	b = append(b, p.Inline...)
	if p.Region.Length > 0 {
		parts = append(parts, Part{At: len(b), Region: p.Region})
	}
	if flexible {
		b = p.appendTags(b)
	}
	return b, parts
}

func appendAborted(b []byte, aborted []kmsg.FetchResponseTopicPartitionAbortedTransaction, flexible bool) []byte {
	switch {
	case aborted != nil:
		b = appendLength(b, len(aborted), flexible)
	case flexible:
		b = append(b, 0)
	default:
		b = kbin.AppendInt32(b, -1)
	}
	for _, a := range aborted {
		b = kbin.AppendInt64(b, a.ProducerID)
		b = kbin.AppendInt64(b, a.FirstOffset)
		if flexible {
			b = append(b, 0)
		}
	}
	return b
}

func (p *FetchPartition) appendTags(b []byte) []byte {
	diverges, leads := p.DivergingEpoch != -1 || p.DivergingEndOffset != -1, p.CurrentLeader != -1 || p.CurrentLeaderEpoch != -1
	count := byte(0)
	for _, set := range []bool{diverges, leads} {
		if set {
			count++
		}
	}
	b = append(b, count)
	if diverges {
		b = append(b, 0, 13) // tag 0: int32, int64, no tags
		b = kbin.AppendInt32(b, p.DivergingEpoch)
		b = kbin.AppendInt64(b, p.DivergingEndOffset)
		b = append(b, 0)
	}
	if leads {
		b = append(b, 1, 9) // tag 1: two int32, no tags
		b = kbin.AppendInt32(b, p.CurrentLeader)
		b = kbin.AppendInt32(b, p.CurrentLeaderEpoch)
		b = append(b, 0)
	}
	return b
}

func (f *FetchResponse) appendTags(b []byte) []byte {
	if len(f.Brokers) == 0 {
		return append(b, 0)
	}
	body := kbin.AppendCompactArrayLen(nil, len(f.Brokers))
	for i := range f.Brokers {
		n := &f.Brokers[i]
		body = kbin.AppendInt32(body, n.NodeID)
		body = kbin.AppendCompactString(body, n.Host)
		body = kbin.AppendInt32(body, n.Port)
		body = kbin.AppendCompactNullableString(body, n.Rack)
		body = append(body, 0)
	}
	b = append(b, 1, 0)
	b = kbin.AppendUvarint(b, uint32(len(body)))
	return append(b, body...)
}

func appendLength(b []byte, n int, flexible bool) []byte {
	if flexible {
		return kbin.AppendCompactArrayLen(b, n)
	}
	return binary.BigEndian.AppendUint32(b, uint32(n))
}
