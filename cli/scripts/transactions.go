package scripts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/cli/ops"
	"kraft/wire/ident"
)

var transactionsScript = script{
	about: "list and describe transactions and producers, find and abort transactions that hang: list, describe, describe-producers, abort, find-hanging, forceTerminateTransaction",
	options: slices.Concat([]option{{name: "bootstrap-server"}, {name: "command-config"}},
		valued("transactional-id", "transactionalId", "topic", "partition", "broker-id", "start-offset", "producer-id", "producer-epoch", "coordinator-epoch", "max-transaction-timeout", "duration-filter", "transactional-id-pattern")),
	run: transactions,
}

func transactions(c *call) error {
	commands := map[string]func(*call, *kgo.Client) error{
		"list": listTransactions, "describe": describeTransaction, "describe-producers": describeProducers,
		"abort": abortTransaction, "find-hanging": findHanging, "forceTerminateTransaction": terminateTransaction,
	}
	if len(c.rest) != 1 || commands[c.rest[0]] == nil {
		return errors.New("kafka-transactions takes one of list, describe, describe-producers, abort, find-hanging, forceTerminateTransaction")
	}
	return c.adminWith(func(cl *kgo.Client, _ *kadm.Client) error { return commands[c.rest[0]](c, cl) })
}

// needed returns an error if one of the options is missing.
func (c *call) needed(names ...string) error {
	for _, n := range names {
		if !c.has(n) {
			return fmt.Errorf("argument --%s is required", n)
		}
	}
	return nil
}

func listTransactions(c *call, cl *kgo.Client) error {
	older, err := c.number("duration-filter", 0)
	if err != nil {
		return err
	}
	list, err := ops.ListTransactions(c.ctx, cl, ops.TransactionFilter{Pattern: c.get("transactional-id-pattern", ""), OlderThan: time.Duration(older) * time.Millisecond})
	if err != nil {
		return err
	}
	rows := [][]string{{"TransactionalId", "Coordinator", "ProducerId", "TransactionState"}}
	for _, t := range list {
		rows = append(rows, []string{t.ID, fmt.Sprint(t.Coordinator), fmt.Sprint(t.ProducerID), t.State})
	}
	return padded(c.out, rows)
}

func describeTransaction(c *call, cl *kgo.Client) error {
	if err := c.needed("transactional-id"); err != nil {
		return err
	}
	id := c.get("transactional-id", "")
	d, err := ops.DescribeTransaction(c.ctx, cl, id)
	if errors.Is(err, ops.ErrNoTransaction) {
		return fmt.Errorf("Failed to describe transaction state of transactional-id `%s`: DescribeTransactions request for transactionalId `%s` failed because the ID could not be found. Enable debug logging for additional detail.", id, id)
	}
	if err != nil {
		return err
	}
	started, duration := "None", "None"
	if d.Started != nil {
		started, duration = fmt.Sprint(d.Started.UnixMilli()), fmt.Sprint(time.Since(*d.Started).Milliseconds())
	}
	var parts []string
	for _, tp := range d.Partitions {
		parts = append(parts, tp.String())
	}
	return padded(c.out, [][]string{
		{"CoordinatorId", "TransactionalId", "ProducerId", "ProducerEpoch", "TransactionState", "TransactionTimeoutMs", "CurrentTransactionStartTimeMs", "TransactionDurationMs", "TopicPartitions"},
		{fmt.Sprint(d.Coordinator), d.ID, fmt.Sprint(d.ProducerID), fmt.Sprint(d.Epoch), d.State, fmt.Sprint(d.Timeout.Milliseconds()), started, duration, strings.Join(parts, ",")},
	})
}

// partition is that of --topic and --partition.
func (c *call) partition() (tp ident.TopicPartition, err error) {
	if err := c.needed("topic", "partition"); err != nil {
		return tp, err
	}
	n, err := c.number("partition", 0)
	return ident.TopicPartition{Topic: c.get("topic", ""), Partition: int32(n)}, err
}

func describeProducers(c *call, cl *kgo.Client) error {
	tp, err := c.partition()
	if err != nil {
		return err
	}
	of := kadm.TopicsSet{}
	of.Add(tp.Topic, tp.Partition)
	producers, err := ops.Producers(c.ctx, kadm.NewClient(cl), of)
	if err != nil {
		return err
	}
	rows := [][]string{{"ProducerId", "ProducerEpoch", "LatestCoordinatorEpoch", "LastSequence", "LastTimestamp", "CurrentTransactionStartOffset"}}
	for _, p := range producers {
		start := "None"
		if p.Start >= 0 {
			start = fmt.Sprint(p.Start)
		}
		rows = append(rows, []string{fmt.Sprint(p.ID), fmt.Sprint(p.Epoch), fmt.Sprint(p.CoordinatorEpoch), fmt.Sprint(p.LastSequence), fmt.Sprint(p.LastTimestamp), start})
	}
	return padded(c.out, rows)
}

func abortTransaction(c *call, cl *kgo.Client) error {
	tp, err := c.partition()
	if err != nil {
		return err
	}
	offset, err := c.number("start-offset", -1)
	if err != nil {
		return err
	}
	if c.has("start-offset") {
		err := ops.AbortAt(c.ctx, cl, tp, offset)
		if errors.Is(err, ops.ErrNoOpenTransaction) {
			return fmt.Errorf("Could not find any open transactions starting at offset %d on partition %v", offset, tp)
		}
		return err
	}
	if c.needed("producer-id", "producer-epoch", "coordinator-epoch") != nil {
		return errors.New("The transaction to abort must be identified either with --start-offset (for brokers on 3.0 or above) or with --producer-id, --producer-epoch, and --coordinator-epoch (for older brokers)")
	}
	var n [3]int64
	for i, name := range []string{"producer-id", "producer-epoch", "coordinator-epoch"} {
		if n[i], err = c.number(name, 0); err != nil {
			return err
		}
	}
	return ops.AbortProducer(c.ctx, cl, tp, n[0], int16(n[1]), int32(max(n[2], 0)))
}

// defaultMaxTimeout is that of --max-transaction-timeout, in minutes.
const defaultMaxTimeout = 15

func findHanging(c *call, cl *kgo.Client) error {
	if !c.has("topic") && !c.has("broker-id") {
		return errors.New("The `find-hanging` command requires either --topic or --broker-id to limit the scope of the search")
	}
	minutes, err := c.number("max-transaction-timeout", defaultMaxTimeout)
	if err != nil {
		return err
	}
	of, err := c.searched(cl)
	if err != nil {
		return err
	}
	now := time.Now()
	rows := [][]string{{"Topic", "Partition", "ProducerId", "ProducerEpoch", "CoordinatorEpoch", "StartOffset", "LastTimestamp", "Duration(min)"}}
	if len(of) > 0 {
		hanging, err := ops.Hanging(c.ctx, cl, of, time.Duration(minutes)*time.Minute, now)
		if err != nil {
			return err
		}
		for _, p := range hanging {
			rows = append(rows, []string{p.Topic, fmt.Sprint(p.Partition), fmt.Sprint(p.ID), fmt.Sprint(p.Epoch), fmt.Sprint(p.CoordinatorEpoch), fmt.Sprint(p.Start), fmt.Sprint(p.LastTimestamp),
				fmt.Sprint(int64(now.Sub(time.UnixMilli(p.LastTimestamp)).Minutes()))})
		}
	}
	return padded(c.out, rows)
}

// searched are the partitions of --topic, --partition and --broker-id.
func (c *call) searched(cl *kgo.Client) (kadm.TopicsSet, error) {
	only, err := c.number("partition", -1)
	if err != nil {
		return nil, err
	}
	broker, err := c.number("broker-id", -1)
	if err != nil {
		return nil, err
	}
	var names []string
	if c.has("topic") {
		names = []string{c.get("topic", "")}
	}
	topics, err := kadm.NewClient(cl).ListTopicsWithInternal(c.ctx, names...)
	if err != nil {
		return nil, err
	}
	of := kadm.TopicsSet{}
	topics.EachPartition(func(p kadm.PartitionDetail) {
		if (only < 0 || int64(p.Partition) == only) && (broker < 0 || slices.Contains(p.Replicas, int32(broker))) {
			of.Add(p.Topic, p.Partition)
		}
	})
	return of, nil
}

// adminTimeout is the transaction.timeout.ms that Kafka's tool gives an id.
const adminTimeout = 30 * time.Second

func terminateTransaction(c *call, cl *kgo.Client) error {
	id := c.get("transactionalId", c.get("transactional-id", ""))
	if id == "" {
		return errors.New("argument --transactionalId is required")
	}
	return ops.TerminateTransaction(c.ctx, cl, id, adminTimeout)
}
