package scripts

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/cli/config"
)

var getOffsetsScript = script{
	about:   "print offsets of topics: their ends, or where a time begins",
	options: slices.Concat(oldConnection, valued("topic", "partitions", "topic-partitions", "time"), flags("exclude-internal-topics")),
	run:     getOffsets,
}

// times are the names that --time takes, with their numbers in ListOffsets.
var times = map[string]int64{"latest": -1, "earliest": -2, "max-timestamp": -3, "earliest-local": -4, "latest-tiered": -5}

func getOffsets(c *call) error {
	if c.has("topic-partitions") && (c.has("topic") || c.has("partitions")) {
		return c.occurred(errors.New("--topic-partitions cannot be used with --topic or --partitions"))
	}
	at, known := times[c.get("time", "latest")]
	if !known {
		var err error
		if at, err = strconv.ParseInt(c.get("time", ""), 10, 64); err != nil {
			return c.occurred(fmt.Errorf("Malformed time argument %s. Please use -1 or latest / -2 or earliest / -3 or max-timestamp / -4 or earliest-local / -5 or latest-tiered, or a specified long format timestamp", c.get("time", "")))
		}
	}
	keep, err := partitionFilter(c)
	if err != nil {
		return c.occurred(err)
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	list, err := kadm.NewClient(cl).ListTopicsWithInternal(c.ctx)
	if err != nil {
		return c.occurred(err)
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	for _, d := range list.Sorted() {
		if d.IsInternal && c.has("exclude-internal-topics") {
			continue
		}
		r := kmsg.NewListOffsetsRequestTopic()
		r.Topic = d.Topic
		for _, p := range d.Partitions.Sorted() {
			if keep(d.Topic, p.Partition) {
				q := kmsg.NewListOffsetsRequestTopicPartition()
				q.Partition, q.Timestamp = p.Partition, at
				r.Partitions = append(r.Partitions, q)
			}
		}
		if len(r.Partitions) > 0 {
			req.Topics = append(req.Topics, r)
		}
	}
	if len(req.Topics) == 0 {
		return c.occurred(errors.New("Could not match any topic-partitions with the specified filters"))
	}
	resp, err := req.RequestWith(c.ctx, cl)
	if err != nil {
		return c.occurred(err)
	}
	slices.SortFunc(resp.Topics, func(a, b kmsg.ListOffsetsResponseTopic) int { return strings.Compare(a.Topic, b.Topic) })
	for _, t := range resp.Topics {
		slices.SortFunc(t.Partitions, func(a, b kmsg.ListOffsetsResponseTopicPartition) int { return int(a.Partition - b.Partition) })
		for _, p := range t.Partitions {
			switch err := answer(p.ErrorCode, nil); {
			case err != nil:
				fmt.Fprintf(c.errOut, "Skip getting offsets for topic-partition %s-%d due to error: %v\n", t.Topic, p.Partition, err)
			case p.Offset >= 0:
				fmt.Fprintf(c.out, "%s:%d:%d\n", t.Topic, p.Partition, p.Offset)
			}
		}
	}
	return nil
}

// occurred tells an error as this tool does.
func (c *call) occurred(err error) error {
	fmt.Fprintf(c.errOut, "Error occurred: %v\n", err)
	return statusError(1)
}

// partitionFilter is what --topic and --partitions, or --topic-partitions, ask for: topic:0, topic:0-3 (without the 3), topic:2-,
// :-3, with commas.
func partitionFilter(c *call) (func(string, int32) bool, error) {
	if !c.has("topic-partitions") {
		topic, err := nameFilter(c.get("topic", ""))
		if err != nil {
			return nil, err
		}
		var numbers []int32
		for _, text := range strings.FieldsFunc(c.get("partitions", ""), func(r rune) bool { return r == ',' }) {
			n, err := strconv.ParseInt(text, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("--partitions expects a comma separated list of numeric partition ids, but received: %s", c.get("partitions", ""))
			}
			numbers = append(numbers, int32(n))
		}
		return func(name string, n int32) bool { return topic(name) && (numbers == nil || slices.Contains(numbers, n)) }, nil
	}
	var any []func(string, int32) bool
	for _, text := range strings.Split(c.get("topic-partitions", ""), ",") {
		name, span, ranged := strings.Cut(text, ":")
		topic, err := nameFilter(name)
		if err != nil {
			return nil, err
		}
		from, to, err := partitionRange(span, ranged)
		if err != nil {
			return nil, fmt.Errorf("Invalid rule: %s", text)
		}
		any = append(any, func(name string, n int32) bool { return topic(name) && n >= from && n < to })
	}
	return func(name string, n int32) bool {
		return slices.ContainsFunc(any, func(f func(string, int32) bool) bool { return f(name, n) })
	}, nil
}

func partitionRange(span string, ranged bool) (from, to int32, err error) {
	from, to = 0, 1<<31-1
	if !ranged || span == "" {
		return from, to, nil
	}
	low, high, both := strings.Cut(span, "-")
	number := func(text string, into *int32) {
		if text == "" || err != nil {
			return
		}
		var n int64
		n, err = strconv.ParseInt(text, 10, 32)
		*into = int32(n)
	}
	number(low, &from)
	number(high, &to)
	if !both {
		to = from + 1
	}
	return from, to, err
}

var deleteRecordsScript = script{
	about:   "delete records of partitions up to given offsets",
	options: slices.Concat(connection, valued("offset-json-file")),
	run:     deleteRecords,
}

func deleteRecords(c *call) error {
	if !c.has("offset-json-file") {
		return errors.New(`Missing required argument "[offset-json-file]"`)
	}
	data, err := config.ReadText(c.get("offset-json-file", ""))
	if err != nil {
		return err
	}
	var file struct {
		Version    int
		Partitions []struct {
			Topic     string
			Partition int32
			Offset    int64
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return fmt.Errorf("%s is not a valid JSON: %w", c.get("offset-json-file", ""), err)
	}
	if file.Version > 1 {
		return fmt.Errorf("Not supported version field value %d", file.Version)
	}
	offsets := kadm.Offsets{}
	for _, p := range file.Partitions {
		if _, twice := offsets.Lookup(p.Topic, p.Partition); twice {
			return fmt.Errorf("Offset json file contains duplicate topic partitions: %s-%d", p.Topic, p.Partition)
		}
		offsets.AddOffset(p.Topic, p.Partition, p.Offset, -1)
	}
	return c.admin(func(admin *kadm.Client) error {
		fmt.Fprintln(c.out, "Executing records delete operation")
		resp, err := admin.DeleteRecords(c.ctx, offsets)
		if err != nil {
			return err
		}
		fmt.Fprintln(c.out, "Records delete operation completed:")
		for _, p := range resp.Sorted() {
			if p.Err != nil {
				fmt.Fprintf(c.out, "partition: %s-%d\terror: %s\n", p.Topic, p.Partition, message(p.Err, ""))
			} else {
				fmt.Fprintf(c.out, "partition: %s-%d\tlow_watermark: %d\n", p.Topic, p.Partition, p.LowWatermark)
			}
		}
		return nil
	})
}

var clusterScript = script{
	about:   "print the cluster's id, its endpoints or the requests that it knows, or unregister a broker or controller: " + clusterCommands,
	options: slices.Concat(connection, []option{{name: "config"}}, valued("id"), flags("include-fenced-brokers")),
	run:     clusterTool,
}

const clusterCommands = "cluster-id, list-endpoints, api-versions, unregister, unregister-controller"

func clusterTool(c *call) error {
	commands := map[string]func(*call, *kgo.Client) error{
		"cluster-id": clusterID, "list-endpoints": listEndpoints, "api-versions": apiVersionsOf, "unregister": unregister, "unregister-controller": unregisterController,
	}
	if len(c.rest) != 1 || commands[c.rest[0]] == nil {
		return errors.New("kafka-cluster takes one of " + clusterCommands)
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	return commands[c.rest[0]](c, cl)
}

func clusterID(c *call, cl *kgo.Client) error {
	meta, err := kmsg.NewPtrMetadataRequest().RequestWith(c.ctx, cl)
	if err != nil {
		return err
	}
	if meta.ClusterID == nil {
		fmt.Fprintln(c.out, "No cluster ID found. The Kafka version is probably too old.")
	} else {
		fmt.Fprintf(c.out, "Cluster ID: %s\n", *meta.ClusterID)
	}
	return nil
}

func listEndpoints(c *call, cl *kgo.Client) error {
	req := kmsg.NewPtrDescribeClusterRequest()
	req.IncludeFencedBrokers = c.has("include-fenced-brokers")
	resp, err := req.RequestWith(c.ctx, cl)
	if err != nil {
		return err
	}
	return c.endpoints(resp)
}

func unregister(c *call, cl *kgo.Client) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	req := kmsg.NewPtrUnregisterBrokerRequest()
	req.BrokerID = id
	resp, err := req.RequestWith(c.ctx, cl)
	if err == nil {
		err = answer(resp.ErrorCode, resp.ErrorMessage)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Broker %d is no longer registered.\n", id)
	return nil
}

func unregisterController(c *call, cl *kgo.Client) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	req := kmsg.NewPtrUnregisterControllerRequest()
	req.ControllerID = id
	resp, err := req.RequestWith(c.ctx, cl)
	if err == nil {
		err = answer(resp.ErrorCode, resp.ErrorMessage)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Controller %d is no longer registered.\n", id)
	return nil
}

// id is the node that --id names.
func (c *call) id() (int32, error) {
	id, err := strconv.ParseInt(c.get("id", ""), 10, 32)
	if err != nil {
		return 0, errors.New(`Missing required argument "[id]"`)
	}
	return int32(id), nil
}

// endpoints prints brokers in columns as wide as what is in them, as Kafka does.
func (c *call) endpoints(resp *kmsg.DescribeClusterResponse) error {
	wide := len("HOST")
	for _, b := range resp.Brokers {
		wide = max(wide, len(b.Host))
	}
	line := func(cells ...any) {
		fmt.Fprintln(c.out, strings.TrimRight(fmt.Sprintf(fmt.Sprintf("%%-10v %%-%dv %%-10v %%-10v %%-10v %%-15v", wide), cells...), " "))
	}
	line("ID", "HOST", "PORT", "RACK", "STATE", "ENDPOINT_TYPE")
	for _, b := range resp.Brokers {
		rack, state := "null", "unfenced"
		if b.Rack != nil {
			rack = *b.Rack
		}
		if b.IsFenced {
			state = "fenced"
		}
		line(b.NodeID, b.Host, b.Port, rack, state, "broker")
	}
	return nil
}
