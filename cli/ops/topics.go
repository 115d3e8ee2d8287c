package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
)

// TopicSummary is a topic in a list.
type TopicSummary struct {
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
	Replicas   int    `json:"replicas"`
}

// TopicDescription is a topic with its partitions and its own settings.
type TopicDescription struct {
	Topic      string                 `json:"topic"`
	ID         string                 `json:"id"`
	Replicas   int                    `json:"replicas"`
	Configs    map[string]string      `json:"configs"` // its own
	Partitions []PartitionDescription `json:"partitions"`
}

// PartitionDescription is a partition of a TopicDescription.
type PartitionDescription struct {
	Partition   int32   `json:"partition"`
	Leader      int32   `json:"leader"` // -1 for none
	LeaderEpoch int32   `json:"leader_epoch"`
	Replicas    []int32 `json:"replicas"`
	ISR         []int32 `json:"isr"`
	Start       *int64  `json:"start_offset"` // null where the leader does not say
	End         *int64  `json:"end_offset"`   // likewise
}

// DescribeTopic describes one topic. It lacks what leaders do not answer.
func DescribeTopic(ctx context.Context, admin *kadm.Client, name string) (*TopicDescription, error) {
	topics, err := admin.ListTopicsWithInternal(ctx, name)
	if err != nil {
		return nil, err
	}
	t, ok := topics[name]
	if !ok {
		t.Err = kerr.UnknownTopicOrPartition
	}
	if t.Err != nil {
		return nil, ofTopic(ctx, admin, name, t.Err, "")
	}
	configs, err := admin.DescribeTopicConfigs(ctx, name)
	if err != nil {
		return nil, err
	}
	d := &TopicDescription{Topic: t.Topic, ID: image.EncodeUUID(t.ID), Replicas: t.Partitions.NumReplicas(), Configs: map[string]string{}}
	for _, r := range configs {
		for _, kv := range r.Configs {
			if kv.Source == kmsg.ConfigSourceDynamicTopicConfig {
				d.Configs[kv.Key] = kv.MaybeValue()
			}
		}
	}
	var lacking Lacking
	start, end, err := extent(ctx, admin, name)
	if err := lacking.Of(err); err != nil {
		return nil, err
	}
	for _, p := range t.Partitions.Sorted() {
		o := PartitionDescription{p.Partition, p.Leader, p.LeaderEpoch, p.Replicas, p.ISR, offsetOf(start, name, p.Partition), offsetOf(end, name, p.Partition)}
		if o.End == nil {
			lacking.Add("%s:%d has no leader that answers: its offsets are not known", name, p.Partition)
		}
		d.Partitions = append(d.Partitions, o)
	}
	return d, lacking.Err()
}

// Extent says how many offsets the topic has, for people.
func (d *TopicDescription) Extent() string {
	var n int64
	for _, p := range d.Partitions {
		if p.Start == nil || p.End == nil {
			return "an unknown number of records"
		}
		n += *p.End - *p.Start
	}
	if n == 0 {
		return "no record"
	}
	return "up to " + Counted(int(n), "record")
}

// offsetOf is a partition's offset, nil where its leader did not say.
func offsetOf(offsets kadm.ListedOffsets, topic string, partition int32) *int64 {
	o, ok := offsets.Lookup(topic, partition)
	if !ok || o.Err != nil {
		return nil
	}
	return &o.Offset
}

// extent is where a topic's partitions start and end, as far as their leaders answer: else the error is a *Lacking.
func extent(ctx context.Context, admin *kadm.Client, topic string) (start, end kadm.ListedOffsets, err error) {
	var lacking Lacking
	start, err = admin.ListStartOffsets(ctx, topic)
	if err := lacking.Of(err); err != nil {
		return nil, nil, err
	}
	end, err = admin.ListEndOffsets(ctx, topic)
	if err := lacking.Of(err); err != nil {
		return nil, nil, err
	}
	return start, end, lacking.Err()
}

// TrimmedPartition is where a partition begins after TrimTopics.
type TrimmedPartition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Start     int64  `json:"start_offset"`
}

// Outcome is what became of one of several things that an operation was asked for.
type Outcome struct {
	Name string
	Err  error // a sentence with the name in it, nil for success
}

// CreateTopics creates topics. A number of partitions or replicas of -1 is the brokers' default.
func CreateTopics(ctx context.Context, admin *kadm.Client, partitions int32, replicas int16, configs map[string]*string, names []string) (out []Outcome, err error) {
	resp, err := admin.CreateTopics(ctx, partitions, replicas, configs, names...)
	for _, r := range resp.Sorted() {
		out = append(out, Outcome{r.Topic, notCreated(ctx, admin, r)})
	}
	return out, err
}

// notCreated says why a topic was not created.
func notCreated(ctx context.Context, admin *kadm.Client, r kadm.CreateTopicResponse) error {
	switch {
	case errors.Is(r.Err, kerr.TopicAlreadyExists):
		return fmt.Errorf("topic %s exists already", r.Topic)
	case errors.Is(r.Err, kerr.InvalidReplicationFactor):
		if brokers, err := admin.ListBrokers(ctx); err == nil && len(brokers) > 0 {
			return fmt.Errorf("topic %s: there are not enough brokers for so many replicas: %s registered (%s)", r.Topic, map[bool]string{true: "1 is", false: fmt.Sprint(len(brokers), " are")}[len(brokers) == 1], kerr.InvalidReplicationFactor.Message)
		}
	}
	return ofTopic(ctx, admin, r.Topic, r.Err, r.ErrMessage)
}

// DeleteTopics deletes topics with their records.
func DeleteTopics(ctx context.Context, admin *kadm.Client, names []string) (out []Outcome, err error) {
	resp, err := admin.DeleteTopics(ctx, names...)
	for _, r := range resp.Sorted() {
		out = append(out, Outcome{r.Topic, ofTopic(ctx, admin, r.Topic, r.Err, r.ErrMessage)})
	}
	return out, err
}

// ExtendTopics gives topics more partitions, so that they have count each.
func ExtendTopics(ctx context.Context, admin *kadm.Client, count int, names []string) (out []Outcome, err error) {
	resp, err := admin.UpdatePartitions(ctx, count, names...)
	for _, r := range resp.Sorted() {
		out = append(out, Outcome{r.Topic, ofTopic(ctx, admin, r.Topic, r.Err, r.ErrMessage)})
	}
	return out, err
}

// ListTopics lists topics by name, with or without those that only brokers write.
func ListTopics(ctx context.Context, admin *kadm.Client, internal bool) ([]TopicSummary, error) {
	list := admin.ListTopics
	if internal {
		list = admin.ListTopicsWithInternal
	}
	topics, err := list(ctx)
	out := []TopicSummary{}
	for _, t := range topics.Sorted() {
		out = append(out, TopicSummary{t.Topic, len(t.Partitions), t.Partitions.NumReplicas()})
	}
	return out, err
}

// Trim is what TrimTopics does to a partition.
type Trim struct {
	Topic     string
	Partition int32
	From, To  int64 // where it begins, and where it is to begin
}

// PlanTrims finds where partitions are to begin.
func PlanTrims(ctx context.Context, admin *kadm.Client, names []PartitionName, before Where) (out []Trim, err error) {
	parts, err := Find(ctx, admin, names)
	if err != nil {
		return nil, err
	}
	var topics []string
	for _, p := range parts {
		if !slices.Contains(topics, p.Topic) {
			topics = append(topics, p.Topic)
		}
	}
	targets, err := before(ctx, admin, topics)
	if err != nil {
		return nil, Explain(err, "")
	}
	starts, err := admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, Explain(err, "")
	}
	for _, p := range parts {
		o, ok := targets.Lookup(p.Topic, p.Number)
		begin, known := starts.Lookup(p.Topic, p.Number)
		if !ok || !known || o.Err != nil || begin.Err != nil || o.Offset < 0 { // of an offset of -1 a broker would delete everything
			return nil, fmt.Errorf("%s:%d has no leader that answers: nothing has been deleted", p.Topic, p.Number)
		}
		out = append(out, Trim{p.Topic, p.Number, begin.Offset, o.Offset})
	}
	return out, nil
}

// TrimTopics deletes the records of partitions before an offset. It lacks the partitions where that failed.
func TrimTopics(ctx context.Context, admin *kadm.Client, trims []Trim) ([]TrimmedPartition, error) {
	offsets := kadm.Offsets{}
	for _, t := range trims {
		offsets.Add(kadm.Offset{Topic: t.Topic, Partition: t.Partition, At: t.To})
	}
	resp, err := admin.DeleteRecords(ctx, offsets)
	if err != nil {
		return nil, err
	}
	out, lacking := []TrimmedPartition{}, Lacking{}
	for _, r := range resp.Sorted() {
		if r.Err != nil {
			lacking.Add("%s:%d: %v", r.Topic, r.Partition, Explain(r.Err, ""))
			continue
		}
		out = append(out, TrimmedPartition{r.Topic, r.Partition, r.LowWatermark})
	}
	return out, lacking.Err()
}
