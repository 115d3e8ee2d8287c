package ops

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/configs"
	"kraft/wire/record"
)

// FoundTopic is a topic that there is.
type FoundTopic struct {
	Name       string
	ID         kadm.TopicID
	Partitions int
	leaders    map[int32]int32
}

// NoTopicError says that there is no such topic, and which name is near.
type NoTopicError struct{ Name, Near string }

// Error implements error.
func (e *NoTopicError) Error() string {
	if e.Near != "" {
		return fmt.Sprintf("there is no topic %q, did you mean %q?", e.Name, e.Near)
	}
	return fmt.Sprintf("there is no topic %q: kraft topic list shows the topics", e.Name)
}

// FindTopic asks for a topic, and creates none. The error is a *NoTopicError where there is no such topic.
func FindTopic(ctx context.Context, client *kgo.Client, name string) (*FoundTopic, error) {
	all, err := kadm.NewClient(client).ListTopicsWithInternal(ctx)
	if err != nil {
		return nil, err
	}
	t, ok := all[name]
	if !ok || errors.Is(t.Err, kerr.UnknownTopicOrPartition) {
		return nil, noTopic(all, name)
	}
	if t.Err != nil {
		return nil, fmt.Errorf("topic %s: %w", name, Explain(t.Err, ""))
	}
	found := &FoundTopic{Name: name, ID: t.ID, Partitions: len(t.Partitions), leaders: map[int32]int32{}}
	for _, p := range t.Partitions {
		found.leaders[p.Partition] = p.Leader
	}
	return found, nil
}

func noTopic(all kadm.TopicDetails, name string) *NoTopicError {
	return &NoTopicError{Name: name, Near: Closest(name, func(yield func(string) bool) {
		for _, t := range all {
			if t.Err == nil && !yield(t.Topic) {
				return
			}
		}
	})}
}

// Closest is the one of some names that was probably meant by a name that is none of them; "" if none is like it.
func Closest(name string, names iter.Seq[string]) string {
	return configs.Closest(name, max(1, len(name)/3), names)
}

// ofTopic makes one sentence of an error that a broker answered about a topic: where there is none, a *NoTopicError; else it begins with the
// topic's name.
func ofTopic(ctx context.Context, admin *kadm.Client, name string, err error, message string) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		if all, listing := admin.ListTopicsWithInternal(ctx); listing == nil {
			if t, ok := all[name]; !ok || t.Err != nil {
				return noTopic(all, name)
			}
		}
	}
	return fmt.Errorf("topic %s: %w", name, Explain(err, message))
}

// HasRecords asks a partition's leader whether there is a record from an offset on and before the end. Offsets without a record are behind
// transactions, and where a compaction was.
func HasRecords(ctx context.Context, client *kgo.Client, topic *FoundTopic, partition int32, from, end int64) (bool, error) {
	for from < end {
		data, err := fetchOne(ctx, client, topic, partition, from)
		if kerr.IsRetriable(err) { // another broker leads now: the client finds it
			return true, nil
		}
		if err != nil || len(data) == 0 {
			return false, err
		}
		if len(data) > record.MinFrame+4 && record.Magic(data) < 2 { // of an old broker, which has no offsets without records
			return true, nil
		}
		batch, _, err := record.Next(data) // a leader sends the first batch whole
		if err != nil {
			return false, fmt.Errorf("%s:%d, offset %d: %w", topic.Name, partition, from, err)
		}
		if !batch.IsControl() {
			records, err := batch.Records(record.MaxRecordsBytes)
			if err != nil {
				return false, fmt.Errorf("%s:%d, offset %d: %w", topic.Name, partition, from, err)
			}
			if slices.ContainsFunc(records, func(r record.Record) bool { return r.Offset >= from && r.Offset < end }) {
				return true, nil
			}
		}
		if batch.LastOffset() < from {
			return false, fmt.Errorf("%s:%d, offset %d: the leader sent the batch before it", topic.Name, partition, from)
		}
		from = batch.LastOffset() + 1
	}
	return false, nil
}

// fetchOne fetches a batch from an offset on.
func fetchOne(ctx context.Context, client *kgo.Client, topic *FoundTopic, partition int32, from int64) ([]byte, error) {
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.SessionEpoch = 1<<20, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = topic.Name, topic.ID
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, from, 1
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := client.Broker(int(topic.leaders[partition])).RetriableRequest(ctx, req)
	if err != nil {
		return nil, err
	}
	answer := resp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		return nil, err
	}
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			return p.RecordBatches, kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return nil, errors.New("the leader's answer has no partition")
}
