package scripts

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"

	"kraft/cli/ops"
)

// throttle sets what --throttle and --replica-alter-log-dirs-throttle say.
func (r *reassigning) throttle(current []plannedPartition) error {
	between, dirs := int64(-1), int64(-1)
	for option, into := range map[string]*int64{"throttle": &between, "replica-alter-log-dirs-throttle": &dirs} {
		text, err := r.get(option, "-1"), error(nil)
		if *into, err = strconv.ParseInt(text, 10, 64); err != nil {
			return fmt.Errorf("Cannot parse argument '%s' of option %s", text, option)
		}
	}
	if between < 0 && dirs < 0 {
		return nil
	}
	fmt.Fprintln(r.out, "Warning: You must run --verify periodically, until the reassignment completes, to ensure the throttle is removed.")
	if between >= 0 {
		if err := r.throttleBetween(current, between); err != nil {
			return err
		}
		fmt.Fprintf(r.out, "The inter-broker throttle limit was set to %d B/s\n", between)
	}
	if dirs < 0 {
		return nil
	}
	brokers := map[int32]bool{}
	for _, m := range r.dirMoves() {
		brokers[m.broker] = true
	}
	if err := r.alterBrokers(slices.Sorted(maps.Keys(brokers)), map[string]int64{ops.DirsRate: dirs}); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "The replica-alter-dir throttle limit was set to %d B/s\n", dirs)
	return nil
}

// throttleBetween slows down what leaves the replicas that there are, and what comes to those that are new.
func (r *reassigning) throttleBetween(current []plannedPartition, rate int64) error {
	type sides struct{ from, to []string }
	topics, brokers := map[string]*sides{}, map[int32]bool{}
	for i, p := range r.plan {
		t := topics[p.Topic]
		if t == nil {
			t = &sides{}
			topics[p.Topic] = t
		}
		for _, id := range current[i].Replicas {
			t.from = append(t.from, fmt.Sprintf("%d:%d", p.Partition, id))
			brokers[id] = true
		}
		for _, id := range p.Replicas {
			if brokers[id] = true; !slices.Contains(current[i].Replicas, id) {
				t.to = append(t.to, fmt.Sprintf("%d:%d", p.Partition, id))
			}
		}
	}
	for topic, t := range topics {
		from, to := strings.Join(t.from, ","), strings.Join(t.to, ",")
		if err := r.alter(nil, []string{topic}, map[string]*string{ops.LeaderReplicas: &from, ops.FollowerReplicas: &to}); err != nil {
			return err
		}
	}
	return r.alterBrokers(slices.Sorted(maps.Keys(brokers)), map[string]int64{ops.LeaderRate: rate, ops.FollowerRate: rate})
}

// alter is ops.SetThrottles with an error as Kafka's script prints it.
func (r *reassigning) alter(brokers []int32, topics []string, values map[string]*string) error {
	err := ops.SetThrottles(r.ctx, r.admin, brokers, topics, values)
	var failed *ops.AlterError
	if errors.As(err, &failed) {
		return fmt.Errorf("%s: %s", failed.Name, message(failed.Err, failed.Message))
	}
	return err
}

// alterBrokers sets numbers of brokers, each by itself; below 0 they are removed.
func (r *reassigning) alterBrokers(ids []int32, values map[string]int64) error {
	texts := map[string]*string{}
	for name, n := range values {
		texts[name] = nil
		if n >= 0 {
			texts[name] = kadm.StringPtr(strconv.FormatInt(n, 10))
		}
	}
	for _, id := range ids {
		if err := r.alter([]int32{id}, nil, texts); err != nil {
			return err
		}
	}
	return nil
}

// clearThrottles takes all throttles away of the brokers that there are and of the plan's, and of the plan's topics.
func (r *reassigning) clearThrottles(meta kadm.Metadata) error {
	brokers, topics := meta.Brokers.NodeIDs(), []string{}
	for _, p := range r.plan {
		brokers = append(brokers, p.Replicas...)
		if !slices.Contains(topics, p.Topic) {
			topics = append(topics, p.Topic)
		}
	}
	slices.Sort(brokers)
	brokers = slices.Compact(brokers)
	fmt.Fprintf(r.out, "Clearing broker-level throttles on broker%s %s\n", plural(brokers), join(brokers))
	if err := r.alterBrokers(brokers, map[string]int64{ops.LeaderRate: -1, ops.FollowerRate: -1, ops.DirsRate: -1}); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "Clearing topic-level throttles on topic%s %s\n", plural(topics), strings.Join(topics, ","))
	for _, topic := range topics {
		if err := r.alter(nil, []string{topic}, map[string]*string{ops.LeaderReplicas: nil, ops.FollowerReplicas: nil}); err != nil {
			return err
		}
	}
	return nil
}
