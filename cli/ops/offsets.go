package ops

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Where finds a place in all partitions of topics.
type Where func(ctx context.Context, admin *kadm.Client, topics []string) (kadm.ListedOffsets, error)

// Start is the first record of each partition.
func Start(ctx context.Context, admin *kadm.Client, topics []string) (kadm.ListedOffsets, error) {
	return admin.ListStartOffsets(ctx, topics...)
}

// End is behind the last record of each partition.
func End(ctx context.Context, admin *kadm.Client, topics []string) (kadm.ListedOffsets, error) {
	return admin.ListEndOffsets(ctx, topics...)
}

// After is the first record of each partition whose timestamp is not before t.
func After(t time.Time) Where {
	return func(ctx context.Context, admin *kadm.Client, topics []string) (kadm.ListedOffsets, error) {
		return admin.ListOffsetsAfterMilli(ctx, t.UnixMilli(), topics...)
	}
}

// At is an offset in each partition, or as near to it as the partition has records.
func At(offset int64) Where {
	return func(ctx context.Context, admin *kadm.Client, topics []string) (kadm.ListedOffsets, error) {
		first, err := admin.ListStartOffsets(ctx, topics...)
		if err != nil {
			return nil, err
		}
		end, err := admin.ListEndOffsets(ctx, topics...)
		if err != nil {
			return nil, err
		}
		for topic, partitions := range end {
			for n, last := range partitions {
				begin, _ := first.Lookup(topic, n)
				last.Offset = min(max(offset, begin.Offset), last.Offset)
				partitions[n] = last
			}
		}
		return end, nil
	}
}

// OffsetMove is a committed offset that ResetGroup changes.
type OffsetMove struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Before    *int64 `json:"before"` // null for none
	After     int64  `json:"after"`
}

// ResetGroup commits a place for a group without members: in topics, or in all topics of which the group has offsets if none is named.
// With dryRun it only returns what it would change.
func ResetGroup(ctx context.Context, admin *kadm.Client, group string, topics []string, to Where, create, dryRun bool) ([]OffsetMove, error) {
	if listed, err := admin.ListGroups(ctx); err == nil && !create {
		if _, ok := listed[group]; !ok {
			return nil, fmt.Errorf("%w; --create makes it, with the offsets", noGroup(ctx, admin, group))
		}
	}
	described, err := admin.DescribeGroups(ctx, group)
	if err != nil {
		return nil, err
	}
	if d := described[group]; len(d.Members) > 0 {
		return nil, fmt.Errorf("group %s has %s, whose positions would stay: stop its consumers first", group, Counted(len(d.Members), "member"))
	}
	committed, err := admin.FetchOffsets(ctx, group)
	if err != nil {
		return nil, err
	}
	if len(topics) == 0 {
		for topic := range committed {
			topics = append(topics, topic)
		}
	}
	if len(topics) == 0 {
		return nil, fmt.Errorf("group %s has no offsets: name its topics with --topic", group)
	}
	targets, err := to(ctx, admin, topics)
	if err == nil {
		err = targets.Error()
	}
	if err != nil {
		return nil, Explain(err, "")
	}
	moves, offsets := []OffsetMove{}, kadm.Offsets{}
	for _, t := range targets.Offsets().Sorted() {
		m := OffsetMove{Topic: t.Topic, Partition: t.Partition, After: t.At}
		if before, ok := committed.Lookup(t.Topic, t.Partition); ok {
			m.Before = &before.At
		}
		moves = append(moves, m)
		offsets.Add(kadm.Offset{Topic: t.Topic, Partition: t.Partition, At: t.At, LeaderEpoch: -1})
	}
	if !dryRun {
		if err := admin.CommitAllOffsets(ctx, group, offsets); err != nil {
			return nil, Explain(err, "")
		}
	}
	return moves, nil
}
