package scripts

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/cli/ops"
)

var topicsScript = script{
	about: "create, delete, describe, or change a topic",
	options: slices.Concat(connection, zooKeeper, flags("force", "disable-rack-aware", "create", "delete", "list", "describe", "alter", "if-exists", "if-not-exists", "exclude-internal",
		"under-replicated-partitions", "unavailable-partitions", "under-min-isr-partitions", "at-min-isr-partitions", "topics-with-overrides"),
		valued("topic", "topic-id", "partitions", "replication-factor", "replica-assignment", "config", "delete-config", "partition-size-limit-per-response")),
	run: topics,
}

func topics(c *call) error {
	action, err := c.one("create", "list", "alter", "describe", "delete")
	if err != nil {
		return err
	}
	if (action == "create" || action == "delete" || action == "alter") && !c.has("topic") {
		return errors.New(`Missing required argument "[topic]"`)
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	t := &topicsCall{c, cl}
	err = map[string]func() error{"create": t.create, "list": t.list, "alter": t.alter, "describe": t.describe, "delete": t.delete}[action]()
	if err != nil {
		fmt.Fprintf(c.out, "Error while executing topic command : %v\n", ops.Plain(err))
		return statusError(1)
	}
	return nil
}

type topicsCall struct {
	*call
	client *kgo.Client
}

func (t *topicsCall) create() error {
	name := t.get("topic", "")
	if strings.ContainsAny(name, "._") {
		fmt.Fprintln(t.out, "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could collide. To avoid issues it is best to use either, but not both.")
	}
	if t.has("if-not-exists") {
		if names, err := t.names("^" + regexp.QuoteMeta(name) + "$"); err != nil || len(names) > 0 {
			return err
		}
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = int32(patience.Milliseconds())
	r := kmsg.NewCreateTopicsRequestTopic()
	r.Topic, r.NumPartitions, r.ReplicationFactor = name, -1, -1
	for _, o := range []struct {
		name string
		bits int
		into func(int64)
	}{{"partitions", 32, func(n int64) { r.NumPartitions = int32(n) }}, {"replication-factor", 16, func(n int64) { r.ReplicationFactor = int16(n) }}} {
		if !t.has(o.name) {
			continue
		}
		n, err := strconv.ParseInt(t.get(o.name, ""), 10, o.bits)
		if err != nil {
			return fmt.Errorf("Cannot parse argument '%s' of option %s", t.get(o.name, ""), o.name)
		}
		if n < 1 {
			return fmt.Errorf("The %s must be greater than 0", o.name)
		}
		o.into(n)
	}
	assignment, err := replicaAssignment(t.get("replica-assignment", ""))
	if err != nil {
		return err
	}
	r.ReplicaAssignment = assignment
	configs, err := t.properties("config")
	if err != nil {
		return err
	}
	for key, value := range configs {
		entry := kmsg.NewCreateTopicsRequestTopicConfig()
		entry.Name, entry.Value = key, &value
		r.Configs = append(r.Configs, entry)
	}
	req.Topics = append(req.Topics, r)
	resp, err := req.RequestWith(t.ctx, t.client)
	if err != nil {
		return err
	}
	if err := answer(resp.Topics[0].ErrorCode, resp.Topics[0].ErrorMessage); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "Created topic %s.\n", name)
	return nil
}

// answer is the error of an answer, in the server's words.
func answer(code int16, words *string) error {
	err := kerr.ErrorForCode(code)
	if err == nil {
		return nil
	}
	text := ""
	if words != nil {
		text = *words
	}
	return errors.New(message(err, text))
}

// replicaAssignment reads 1:2,2:3: the replicas of each partition.
func replicaAssignment(text string) (out []kmsg.CreateTopicsRequestTopicReplicaAssignment, err error) {
	if text == "" {
		return nil, nil
	}
	for n, list := range strings.Split(text, ",") {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition = int32(n)
		for _, id := range strings.Split(list, ":") {
			b, err := strconv.ParseInt(strings.TrimSpace(id), 10, 32)
			if err != nil {
				return nil, fmt.Errorf("%q is no broker id in --replica-assignment", id)
			}
			a.Replicas = append(a.Replicas, int32(b))
		}
		out = append(out, a)
	}
	return out, nil
}

// names are the topics whose whole names a pattern matches; all for "".
func (t *topicsCall) names(pattern string) ([]string, error) {
	list, err := kadm.NewClient(t.client).ListTopicsWithInternal(t.ctx)
	if err != nil {
		return nil, err
	}
	matches, err := nameFilter(pattern)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range list.Sorted() {
		if matches(d.Topic) && !(t.has("exclude-internal") && d.IsInternal) {
			names = append(names, d.Topic)
		}
	}
	return names, nil
}

// nameFilter reads Kafka's lists of topics: a regular expression, with commas for alternatives.
func nameFilter(pattern string) (func(string) bool, error) {
	if pattern == "" {
		return func(string) bool { return true }, nil
	}
	text := strings.ReplaceAll(strings.ReplaceAll(strings.Trim(pattern, `"' `), ",", "|"), " ", "")
	re, err := regexp.Compile("^(?:" + text + ")$")
	if err != nil {
		return nil, fmt.Errorf("%s is an invalid regex.", pattern)
	}
	return re.MatchString, nil
}

// wanted are the topics of --topic, of which there has to be one.
func (t *topicsCall) wanted() ([]string, error) {
	names, err := t.names(t.get("topic", ""))
	if err == nil && len(names) == 0 && t.has("topic") && !t.has("if-exists") {
		err = fmt.Errorf("Topic '%s' does not exist as expected", t.get("topic", ""))
	}
	return names, err
}

func (t *topicsCall) list() error {
	names, err := t.names(t.get("topic", ""))
	for _, name := range names {
		fmt.Fprintln(t.out, name)
	}
	return err
}

func (t *topicsCall) delete() error {
	names, err := t.wanted()
	if err != nil {
		return err
	}
	for _, name := range names {
		resp, err := kadm.NewClient(t.client).DeleteTopics(t.ctx, name)
		if err != nil {
			return err
		}
		for _, r := range resp {
			if r.Err != nil {
				return errors.New(message(r.Err, r.ErrMessage))
			}
		}
	}
	return nil
}

func (t *topicsCall) alter() error {
	names, err := t.wanted()
	if err != nil {
		return err
	}
	if t.has("config") || t.has("delete-config") { // as before kafka-configs
		if err := t.alterConfigs(names); err != nil || !t.has("partitions") {
			return err
		}
	}
	n, err := strconv.ParseInt(t.get("partitions", ""), 10, 32)
	if err != nil {
		return fmt.Errorf("Cannot parse argument '%s' of option partitions", t.get("partitions", ""))
	}
	assignment, err := replicaAssignment(t.get("replica-assignment", ""))
	if err != nil {
		return err
	}
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.TimeoutMillis = int32(patience.Milliseconds())
	for _, name := range names {
		r := kmsg.NewCreatePartitionsRequestTopic()
		r.Topic, r.Count = name, int32(n)
		for _, a := range assignment {
			r.Assignment = append(r.Assignment, kmsg.CreatePartitionsRequestTopicAssignment{Replicas: a.Replicas})
		}
		req.Topics = append(req.Topics, r)
	}
	resp, err := req.RequestWith(t.ctx, t.client)
	if err != nil {
		return err
	}
	for _, r := range resp.Topics {
		if err := answer(r.ErrorCode, r.ErrorMessage); err != nil {
			return err
		}
	}
	return nil
}

// alterConfigs sets and deletes topics' settings, which was this script's in the days of ZooKeeper.
func (t *topicsCall) alterConfigs(names []string) error {
	fmt.Fprintln(t.out, "WARNING: Altering topic configuration from this script has been deprecated and may be removed in future releases.")
	fmt.Fprintln(t.out, "         Going forward, please use kafka-configs.sh for this functionality")
	values, err := t.properties("config")
	if err != nil {
		return err
	}
	var changes []kadm.AlterConfig
	for key, value := range values {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: &value})
	}
	for _, key := range t.all("delete-config") {
		changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: key})
	}
	results, err := kadm.NewClient(t.client).AlterTopicConfigs(t.ctx, changes, names...)
	if err != nil {
		return err
	}
	for _, r := range results {
		if r.Err != nil {
			return errors.New(message(r.Err, r.ErrMessage))
		}
		fmt.Fprintf(t.out, "Updated config for topic %s.\n", r.Name)
	}
	return nil
}

func (t *topicsCall) describe() error {
	names, err := t.wanted()
	if err != nil || len(names) == 0 {
		return err
	}
	configs, err := kadm.NewClient(t.client).DescribeTopicConfigs(t.ctx, names...)
	if err != nil {
		return err
	}
	overrides, minInSync := map[string]string{}, map[string]int{}
	for _, r := range configs {
		if r.Err != nil {
			return r.Err
		}
		overrides[r.Name], minInSync[r.Name] = overridden(r.Configs)
	}
	details, err := t.partitions(names)
	if err != nil {
		return err
	}
	only := func(option string, keep func(p *kmsg.DescribeTopicPartitionsResponseTopicPartition, minInSync int) bool) func(string, *kmsg.DescribeTopicPartitionsResponseTopicPartition) bool {
		return func(topic string, p *kmsg.DescribeTopicPartitionsResponseTopicPartition) bool {
			return !t.has(option) || keep(p, minInSync[topic])
		}
	}
	filters := []func(string, *kmsg.DescribeTopicPartitionsResponseTopicPartition) bool{
		only("under-replicated-partitions", func(p *kmsg.DescribeTopicPartitionsResponseTopicPartition, _ int) bool {
			return len(p.ISR) < len(p.Replicas)
		}),
		only("unavailable-partitions", func(p *kmsg.DescribeTopicPartitionsResponseTopicPartition, _ int) bool { return p.LeaderID < 0 }),
		only("under-min-isr-partitions", func(p *kmsg.DescribeTopicPartitionsResponseTopicPartition, m int) bool { return len(p.ISR) < m }),
		only("at-min-isr-partitions", func(p *kmsg.DescribeTopicPartitionsResponseTopicPartition, m int) bool { return len(p.ISR) == m }),
	}
	some := t.has("under-replicated-partitions") || t.has("unavailable-partitions") || t.has("under-min-isr-partitions") || t.has("at-min-isr-partitions")
	for i := range details {
		d := &details[i]
		name := *d.Topic
		if t.has("topics-with-overrides") && overrides[name] == "" {
			continue
		}
		if !some {
			factor := 0
			if len(d.Partitions) > 0 {
				factor = len(d.Partitions[0].Replicas)
			}
			fmt.Fprintf(t.out, "Topic: %s\tTopicId: %s\tPartitionCount: %d\tReplicationFactor: %d\tConfigs: %s\n", name, base64.RawURLEncoding.EncodeToString(d.TopicID[:]), len(d.Partitions), factor, overrides[name])
		}
		if t.has("topics-with-overrides") {
			continue
		}
		for j := range d.Partitions {
			p := &d.Partitions[j]
			if slices.ContainsFunc(filters, func(keep func(string, *kmsg.DescribeTopicPartitionsResponseTopicPartition) bool) bool {
				return !keep(name, p)
			}) {
				continue
			}
			leader := "none"
			if p.LeaderID >= 0 {
				leader = strconv.Itoa(int(p.LeaderID))
			}
			fmt.Fprintf(t.out, "\tTopic: %s\tPartition: %d\tLeader: %s\tReplicas: %s\tIsr: %s\tElr: %s\tLastKnownElr: %s\n", name, p.Partition, leader, join(p.Replicas), join(p.ISR), join(p.EligibleLeaderReplicas), join(p.LastKnownELR))
		}
	}
	return nil
}

// overridden are the settings that are not defaults, as Kafka's tools list them, and min.insync.replicas.
func overridden(configs []kadm.Config) (text string, minInSync int) {
	values := map[string]string{}
	var names []string
	for _, c := range configs {
		names = append(names, c.Key)
		if c.Key == "min.insync.replicas" {
			minInSync, _ = strconv.Atoi(c.MaybeValue())
		}
		if c.Source != kmsg.ConfigSourceDefaultConfig {
			values[c.Key] = c.MaybeValue()
		}
	}
	var out []string
	for _, name := range hashOrder(names) {
		if v, ok := values[name]; ok {
			out = append(out, name+"="+v)
		}
	}
	return strings.Join(out, ","), minInSync
}

// partitions describes topics, in pages.
func (t *topicsCall) partitions(names []string) (out []kmsg.DescribeTopicPartitionsResponseTopic, err error) {
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.ResponsePartitionLimit = 2000
	for _, name := range names {
		r := kmsg.NewDescribeTopicPartitionsRequestTopic()
		r.Topic = name
		req.Topics = append(req.Topics, r)
	}
	for {
		resp, err := req.RequestWith(t.ctx, t.client)
		if err != nil {
			return nil, err
		}
		for _, r := range resp.Topics {
			if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
				return nil, err
			}
			if n := len(out); n > 0 && *out[n-1].Topic == *r.Topic {
				out[n-1].Partitions = append(out[n-1].Partitions, r.Partitions...)
			} else {
				out = append(out, r)
			}
		}
		if resp.NextCursor == nil {
			return out, nil
		}
		cursor := kmsg.NewDescribeTopicPartitionsRequestCursor()
		cursor.Topic, cursor.Partition = resp.NextCursor.Topic, resp.NextCursor.Partition
		req.Cursor = &cursor
	}
}

func join(ids []int32) string {
	var out []string
	for _, id := range ids {
		out = append(out, strconv.Itoa(int(id)))
	}
	return strings.Join(out, ",")
}

// hashOrder is the order in which a Java HashMap lists keys that were put into it: Kafka's tools print settings in it.
func hashOrder(keys []string) []string {
	buckets := 16
	for len(keys)*4 > buckets*3 {
		buckets *= 2
	}
	at := func(key string) int {
		var h uint32
		for _, c := range key {
			h = 31*h + uint32(c)
		}
		return int((h ^ h>>16) & uint32(buckets-1))
	}
	out := slices.Clone(keys)
	slices.SortStableFunc(out, func(a, b string) int { return at(a) - at(b) })
	return out
}
