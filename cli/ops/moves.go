package ops

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"kraft/cli/plan"
)

// Assignment reads where all partitions are.
func Assignment(ctx context.Context, admin *kadm.Client) (brokers []plan.Broker, parts []plan.Partition, err error) {
	meta, err := admin.Metadata(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, t := range meta.Topics.Sorted() {
		for _, p := range t.Partitions.Sorted() {
			parts = append(parts, plan.Partition{Topic: t.Topic, Number: p.Partition, Replicas: p.Replicas})
		}
	}
	return brokersOf(meta), parts, nil
}

// brokersOf lists the brokers that may hold replicas.
func brokersOf(meta kadm.Metadata) (brokers []plan.Broker) {
	for _, b := range meta.Brokers {
		p := plan.Broker{ID: b.NodeID}
		if b.Rack != nil {
			p.Rack = *b.Rack
		}
		brokers = append(brokers, p)
	}
	return brokers
}

// offsetsTopic is the topic that brokers create by a replication factor of its own: with fewer replicas, if fewer brokers are registered.
const offsetsTopic, offsetsFactor = "__consumer_offsets", "offsets.topic.replication.factor"

// WantedFactors returns how many replicas topics should have, by the settings of the first broker that answers. It is about topics that
// brokers create with fewer replicas while fewer brokers are registered.
func WantedFactors(ctx context.Context, admin *kadm.Client, brokers []plan.Broker) (map[string]int, error) {
	var failed error
	for _, b := range brokers {
		found, err := admin.DescribeBrokerConfigs(ctx, b.ID)
		if err == nil {
			var r kadm.ResourceConfig
			if r, err = found.On(fmt.Sprint(b.ID), nil); err == nil {
				err = r.Err
			}
			for _, c := range r.Configs {
				if n, e := strconv.Atoi(c.MaybeValue()); c.Key == offsetsFactor && e == nil && err == nil {
					return map[string]int{offsetsTopic: n}, nil
				}
			}
		}
		failed = err
	}
	return nil, failed
}

// Reassignment is a move that is under way.
type Reassignment struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Replicas  []int32 `json:"replicas"`
	Adding    []int32 `json:"adding"`
	Removing  []int32 `json:"removing"`
}

// underWay lists the moves that are under way. It names every partition, since kadm requests nothing for an empty set.
func underWay(ctx context.Context, admin *kadm.Client) (kadm.ListPartitionReassignmentsResponses, error) {
	topics, err := admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return nil, err
	}
	set := kadm.TopicsSet{}
	topics.EachPartition(func(p kadm.PartitionDetail) { set.Add(p.Topic, p.Partition) })
	if len(set) == 0 {
		return nil, nil
	}
	return admin.ListPartitionReassignments(ctx, set)
}

// movesAtOnce bounds the partitions that are reassigned at a time.
const movesAtOnce = 100

// topicsOf names the topics that moves are of.
func topicsOf(moves []plan.Move) (topics []string) {
	for _, m := range moves {
		if n := len(topics); n == 0 || topics[n-1] != m.Topic { // moves are sorted
			topics = append(topics, m.Topic)
		}
	}
	return topics
}

// Throttle limits, in bytes a second, what replication sends and receives: on all brokers, and for all replicas of topics. A rate of 0
// removes the limit.
func Throttle(ctx context.Context, admin *kadm.Client, topics []string, rate int64) error {
	value := strconv.FormatInt(rate, 10)
	replicas := "*"
	if rate == 0 { // the rates go also if a topic is gone
		return errors.Join(SetThrottles(ctx, admin, nil, topics, map[string]*string{LeaderReplicas: nil, FollowerReplicas: nil}),
			SetThrottles(ctx, admin, []int32{}, nil, map[string]*string{LeaderRate: nil, FollowerRate: nil}))
	}
	if err := SetThrottles(ctx, admin, nil, topics, map[string]*string{LeaderReplicas: &replicas, FollowerReplicas: &replicas}); err != nil {
		return err
	}
	return SetThrottles(ctx, admin, []int32{}, nil, map[string]*string{LeaderRate: &value, FollowerRate: &value})
}

// The settings that limit replication: rates of brokers, and the replicas of topics that they are for.
const (
	LeaderRate, FollowerRate         = "leader.replication.throttled.rate", "follower.replication.throttled.rate"
	LeaderReplicas, FollowerReplicas = "leader.replication.throttled.replicas", "follower.replication.throttled.replicas"
	DirsRate                         = "replica.alter.log.dirs.io.max.bytes.per.second"
)

// SetThrottles sets settings of topics, or of brokers (all brokers' default if brokers is empty and not nil). A nil value removes a setting.
func SetThrottles(ctx context.Context, admin *kadm.Client, brokers []int32, topics []string, values map[string]*string) error {
	var changes []kadm.AlterConfig
	for _, name := range slices.Sorted(maps.Keys(values)) {
		change := kadm.AlterConfig{Op: kadm.DeleteConfig, Name: name}
		if v := values[name]; v != nil {
			change = kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: v}
		}
		changes = append(changes, change)
	}
	var out kadm.AlterConfigsResponses
	if len(topics) > 0 {
		resp, err := admin.AlterTopicConfigs(ctx, changes, topics...)
		if err != nil {
			return err
		}
		out = append(out, resp...)
	}
	if brokers != nil {
		resp, err := admin.AlterBrokerConfigs(ctx, changes, brokers...)
		if err != nil {
			return err
		}
		out = append(out, resp...)
	}
	for _, r := range out {
		if r.Err != nil {
			return &AlterError{r.Name, r.Err, r.ErrMessage}
		}
	}
	return nil
}

// AlterError says that the settings of a topic or a broker were not changed.
type AlterError struct {
	Name    string // of the topic or the broker
	Err     error  // a kerr error
	Message string // the broker's, or ""
}

// Error implements error.
func (e *AlterError) Error() string {
	return fmt.Sprintf("throttle %s: %v", e.Name, Explain(e.Err, e.Message))
}

// Unwrap gives errors.Is the kerr error.
func (e *AlterError) Unwrap() error { return e.Err }

// Unthrottle removes the limits of replication of all brokers and topics.
func Unthrottle(ctx context.Context, admin *kadm.Client) error {
	topics, err := admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return err
	}
	return Throttle(ctx, admin, topics.Names(), 0)
}

// Move moves partitions, movesAtOnce at a time, waits until all have moved, and lets their preferred replicas lead. A rate above 0 limits
// it, in bytes a second. progress is called with how many have moved. A move that was begun goes on when ctx ends, with its limit.
func Move(ctx context.Context, admin *kadm.Client, moves []plan.Move, rate int64, progress func(done int)) (err error) {
	if rate > 0 {
		topics := topicsOf(moves)
		if err := Throttle(ctx, admin, topics, rate); err != nil {
			return err
		}
		defer func() {
			if err != nil && ctx.Err() != nil { // without its throttle what is still moved would race on
				err = fmt.Errorf("%w; the throttle of %d bytes a second stays set: watch the moves with kraft partition status, and when all are done, run kraft partition unthrottle", err, rate)
				return
			}
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			if e := Throttle(ctx, admin, topics, 0); e != nil && err == nil {
				err = fmt.Errorf("cannot remove the replication throttle: %w", e)
			}
		}()
	}
	for done := 0; done < len(moves); {
		batch := moves[done:min(len(moves), done+movesAtOnce)]
		if err := reassign(ctx, admin, batch, func(n int) { progress(done + n) }); err != nil {
			return err
		}
		done += len(batch)
	}
	return nil
}

// reassign begins moves, waits until they are done, and lets the preferred replicas lead.
func reassign(ctx context.Context, admin *kadm.Client, moves []plan.Move, progress func(done int)) error {
	req := kadm.AlterPartitionAssignmentsReq{}
	set := kadm.TopicsSet{}
	for _, m := range moves {
		req.Assign(m.Topic, m.Number, m.Replicas)
		set.Add(m.Topic, m.Number)
	}
	resp, err := admin.AlterPartitionAssignments(ctx, req)
	if err != nil {
		return err
	}
	for _, r := range resp.Sorted() {
		if r.Err != nil {
			return fmt.Errorf("move %s-%d: %w", r.Topic, r.Partition, Explain(r.Err, r.ErrMessage))
		}
	}
	for {
		left, err := admin.ListPartitionReassignments(ctx, set)
		if err != nil {
			return err
		}
		n := 0
		left.Each(func(kadm.ListPartitionReassignmentsResponse) { n++ })
		progress(len(moves) - n)
		if n == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stopped waiting: the brokers are still moving %s", Counted(n, "partition"))
		case <-time.After(200 * time.Millisecond):
		}
	}
	_, err = admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, set) // one whose first replica cannot lead stays as it is
	return err
}

// Reassignments lists the moves that are under way.
func Reassignments(ctx context.Context, admin *kadm.Client) ([]Reassignment, error) {
	found, err := underWay(ctx, admin)
	out := []Reassignment{}
	for _, r := range found.Sorted() {
		out = append(out, Reassignment{r.Topic, r.Partition, r.Replicas, r.AddingReplicas, r.RemovingReplicas})
	}
	return out, err
}

// CancelMoves takes back the moves of partitions that are under way, and returns how many there were.
func CancelMoves(ctx context.Context, admin *kadm.Client, names []PartitionName) (int, error) {
	parts, err := Find(ctx, admin, names)
	if err != nil {
		return 0, err
	}
	moving, err := underWay(ctx, admin)
	if err != nil {
		return 0, err
	}
	req, n := kadm.AlterPartitionAssignmentsReq{}, 0
	for _, p := range parts {
		if _, ok := moving[p.Topic][p.Number]; ok {
			req.CancelAssign(p.Topic, p.Number)
			n++
		}
	}
	if n == 0 {
		return 0, nil
	}
	resp, err := admin.AlterPartitionAssignments(ctx, req)
	if err != nil {
		return 0, err
	}
	for _, r := range resp.Sorted() {
		if r.Err != nil {
			return 0, fmt.Errorf("%s:%d: %w", r.Topic, r.Partition, Explain(r.Err, r.ErrMessage))
		}
	}
	return n, nil
}
