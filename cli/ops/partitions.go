package ops

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/cli/plan"
)

// Partition is a partition with its replicas.
type Partition struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Leader    int32   `json:"leader"` // -1 for none
	Replicas  []int32 `json:"replicas"`
	ISR       []int32 `json:"isr"`
	Offline   []int32 `json:"offline"`
}

// ListPartitions lists the partitions of topics, of all topics if none is named, that wanted reports true for.
func ListPartitions(ctx context.Context, admin *kadm.Client, topics []string, wanted func(Partition) bool) ([]Partition, error) {
	found, err := admin.ListTopicsWithInternal(ctx, topics...)
	if err != nil {
		return nil, err
	}
	out := []Partition{}
	for _, t := range found.Sorted() {
		if t.Err != nil {
			return nil, ofTopic(ctx, admin, t.Topic, t.Err, "")
		}
		for _, p := range t.Partitions.Sorted() {
			if p := (Partition{t.Topic, p.Partition, p.Leader, p.Replicas, p.ISR, p.OfflineReplicas}); wanted(p) {
				out = append(out, p)
			}
		}
	}
	return out, nil
}

// PartitionName names a partition, or all partitions of a topic.
type PartitionName struct {
	Topic  string
	Number int32 // -1 for all
}

// String implements fmt.Stringer.
func (n PartitionName) String() string {
	if n.Number < 0 {
		return n.Topic
	}
	return fmt.Sprintf("%s:%d", n.Topic, n.Number)
}

// ParsePartitions reads names of the form TOPIC or TOPIC:PARTITION.
func ParsePartitions(words []string) (out []PartitionName, err error) {
	for _, word := range words {
		topic, number, one := strings.Cut(word, ":")
		name := PartitionName{topic, -1}
		if one {
			n, err := strconv.ParseInt(number, 10, 32)
			if err != nil || n < 0 {
				return nil, fmt.Errorf("%q is no partition: give TOPIC or TOPIC:PARTITION, like orders:3", word)
			}
			name.Number = int32(n)
		}
		out = append(out, name)
	}
	return out, nil
}

// Find returns the partitions that names stand for, with their replicas. A name of a partition that does not exist is an error.
func Find(ctx context.Context, admin *kadm.Client, names []PartitionName) (out []plan.Partition, err error) {
	_, all, err := Assignment(ctx, admin)
	if err != nil {
		return nil, err
	}
	count := map[string]int{} // of partitions
	for _, p := range all {
		count[p.Topic]++
	}
	for _, name := range names {
		found := false
		for _, p := range all {
			if p.Topic == name.Topic && (name.Number < 0 || p.Number == name.Number) {
				out, found = append(out, p), true
			}
		}
		if found {
			continue
		}
		if n := count[name.Topic]; n > 0 {
			return nil, fmt.Errorf("there is no partition %v: topic %s has partitions 0 to %d", name, name.Topic, n-1)
		}
		return nil, &NoTopicError{Name: name.Topic, Near: Closest(name.Topic, maps.Keys(count))}
	}
	return out, nil
}

// Elect has partitions led by their first replicas or, if unclean, by any that lives; all partitions if none is named. It returns how many
// have another leader now, and lacks those where that failed.
func Elect(ctx context.Context, admin *kadm.Client, names []PartitionName, unclean bool) (elected int, err error) {
	how := kadm.ElectPreferredReplica
	if unclean {
		how = kadm.ElectLiveReplica
	}
	var set kadm.TopicsSet
	if len(names) > 0 {
		parts, err := Find(ctx, admin, names)
		if err != nil {
			return 0, err
		}
		set = kadm.TopicsSet{}
		for _, p := range parts {
			set.Add(p.Topic, p.Number)
		}
	}
	results, err := admin.ElectLeaders(ctx, how, set)
	if err != nil {
		return 0, err
	}
	var lacking Lacking
	for _, topic := range slices.Sorted(maps.Keys(results)) {
		for _, n := range slices.Sorted(maps.Keys(results[topic])) {
			switch r := results[topic][n]; {
			case r.Err == nil:
				elected++
			case !errors.Is(r.Err, kerr.ElectionNotNeeded):
				lacking.Add("%s:%d: %v", topic, n, Explain(r.Err, r.ErrMessage))
			}
		}
	}
	return elected, lacking.Err()
}
