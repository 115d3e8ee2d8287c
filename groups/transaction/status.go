package transaction

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
	"kraft/wire/ident"
)

// States of a transactional id.
const (
	empty          = kmsg.TransactionStateEmpty
	ongoing        = kmsg.TransactionStateOngoing
	prepareCommit  = kmsg.TransactionStatePrepareCommit
	prepareAbort   = kmsg.TransactionStatePrepareAbort
	completeCommit = kmsg.TransactionStateCompleteCommit
	completeAbort  = kmsg.TransactionStateCompleteAbort
)

const (
	noID    = -1 // no producer id
	noEpoch = -1
	// lastClientEpoch is the highest epoch that a producer may have. math.MaxInt16 is left for coordinators, to fence it.
	lastClientEpoch = math.MaxInt16 - 1
)

// exhausted reports whether a producer id has no epoch left for its producer's next transaction.
func exhausted(epoch int16) bool { return epoch >= lastClientEpoch }

// status is what is known of a transactional id (Kafka's TransactionMetadata). It is never changed: a transition returns another.
type status struct {
	producerID int64
	previousID int64 // the producer id before an exhausted one was replaced, noID without
	nextID     int64 // what replaces an exhausted producer id when the transaction is complete, noID without
	epoch      int16
	// lastEpoch is the epoch before epoch, for clients that repeat a request; noEpoch if their requests are not to be repeated. Kafka keeps
	// it in memory; kraft has it in a tagged field of the record that Kafka passes over.
	lastEpoch     int16
	timeout       int32 // milliseconds
	state         kmsg.TransactionState
	partitions    map[ident.TopicPartition]struct{}
	started       int64 // of the transaction, milliseconds; -1 without
	updated       int64 // milliseconds
	clientVersion int16 // transaction.version that the client uses: 0 or 2
}

// decided reports whether markers are being written.
func (s *status) decided() bool { return s.state == prepareCommit || s.state == prepareAbort }

// timedOut reports whether the transaction of s, which is open, began too long before a time of day.
func (s *status) timedOut(now time.Time) bool { return s.started+int64(s.timeout) < now.UnixMilli() }

// with returns a copy of s in a state.
func (s *status) with(state kmsg.TransactionState, now time.Time) *status {
	n := *s
	n.state, n.updated = state, now.UnixMilli()
	return &n
}

// complete is s, which is decided, once its markers are written.
func (s *status) complete(now time.Time) *status {
	state := completeAbort
	if s.state == prepareCommit {
		state = completeCommit
	}
	n := s.with(state, now)
	n.partitions = nil
	if s.nextID != noID {
		n.producerID, n.previousID, n.nextID, n.epoch = s.nextID, s.producerID, noID, 0
	}
	return n
}

// lastEpochTag is kraft's own tagged field of the value.
const lastEpochTag = 10_000

func key(id string) []byte {
	k := kmsg.TxnMetadataKey{TransactionalID: id}
	return k.AppendTo(nil)
}

// topics are the partitions of s, sorted.
func (s *status) topics() (out []kmsg.TxnMetadataValueTopic) {
	for _, tp := range slices.SortedFunc(maps.Keys(s.partitions), ident.TopicPartition.Compare) {
		if n := len(out); n == 0 || out[n-1].Topic != tp.Topic {
			t := kmsg.NewTxnMetadataValueTopic()
			t.Topic = tp.Topic
			out = append(out, t)
		}
		t := &out[len(out)-1]
		t.Partitions = append(t.Partitions, tp.Partition)
	}
	return out
}

// encode is the record's value at a level of transaction.version, in Kafka's schema. Below level 1 it has no tagged fields, which brokers
// before 4.0 can't read.
func (s *status) encode(level int16) []byte {
	v := kmsg.NewTxnMetadataValue()
	if level >= 1 {
		v.Version = 1
	}
	v.ProducerID, v.ProducerEpoch, v.TimeoutMillis, v.State = s.producerID, s.epoch, s.timeout, s.state
	v.LastUpdateTimestamp, v.StartTimestamp = s.updated, s.started
	if s.state != empty { // Kafka writes null there
		v.Topics = s.topics()
		if v.Topics == nil {
			v.Topics = []kmsg.TxnMetadataValueTopic{}
		}
	}
	if v.Version >= 1 {
		v.PreviousProducerID, v.NextProducerID, v.ClientTransactionVersion = s.previousID, s.nextID, s.clientVersion
		if s.lastEpoch != noEpoch {
			v.UnknownTags.Set(lastEpochTag, binary.BigEndian.AppendUint16(nil, uint16(s.lastEpoch)))
		}
	}
	return v.AppendTo(nil)
}

func decode(value []byte) (*status, error) {
	v := kmsg.NewTxnMetadataValue()
	if err := v.ReadFrom(value); err != nil {
		return nil, err
	}
	s := &status{producerID: v.ProducerID, previousID: v.PreviousProducerID, nextID: v.NextProducerID, epoch: v.ProducerEpoch, lastEpoch: noEpoch,
		timeout: v.TimeoutMillis, state: v.State, started: v.StartTimestamp, updated: v.LastUpdateTimestamp, clientVersion: v.ClientTransactionVersion}
	v.UnknownTags.Each(func(tag uint32, b []byte) {
		if tag == lastEpochTag && len(b) == 2 {
			s.lastEpoch = int16(binary.BigEndian.Uint16(b))
		}
	})
	for _, t := range v.Topics {
		for _, n := range t.Partitions {
			if s.partitions == nil {
				s.partitions = map[ident.TopicPartition]struct{}{}
			}
			s.partitions[ident.TopicPartition{Topic: t.Topic, Partition: n}] = struct{}{}
		}
	}
	return s, nil
}

// Replay implements runtime.Machine.
func (c *Coordinator) Replay(e runtime.Entry) error {
	if len(e.Key) < 2 {
		return fmt.Errorf("key of %d bytes", len(e.Key))
	}
	if binary.BigEndian.Uint16(e.Key) != 0 {
		return nil // of a newer version: passed over, as Kafka does after a downgrade
	}
	var k kmsg.TxnMetadataKey
	if err := k.ReadFrom(e.Key); err != nil {
		return fmt.Errorf("transaction key: %w", err)
	}
	if e.Value == nil {
		delete(c.ids, k.TransactionalID)
		return nil
	}
	s, err := decode(e.Value)
	if err != nil {
		return fmt.Errorf("transaction value: %w", err)
	}
	c.ids[k.TransactionalID] = s
	return nil
}
