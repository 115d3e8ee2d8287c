package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire/ident"
)

// Transaction is a transactional id with its state.
type Transaction struct {
	ID          string `json:"transactional_id"`
	Coordinator int32  `json:"coordinator"`
	ProducerID  int64  `json:"producer_id"`
	State       string `json:"state"`
}

// TransactionFilter chooses transactional ids; the zero value chooses all.
type TransactionFilter struct {
	States      []string
	ProducerIDs []int64
	Pattern     string        // RE2, of whole ids
	OlderThan   time.Duration // open for longer; also those without an open transaction, as Kafka's brokers answer; 0 for any age
}

// ListTransactions lists transactional ids, by coordinator and id. It lacks those of brokers that do not answer.
func ListTransactions(ctx context.Context, cl *kgo.Client, f TransactionFilter) (out []Transaction, err error) {
	var lacking Lacking
	req := kmsg.NewPtrListTransactionsRequest()
	req.StateFilters, req.ProducerIDFilters = f.States, f.ProducerIDs
	if f.OlderThan > 0 {
		req.DurationFilterMillis = f.OlderThan.Milliseconds()
	}
	if f.Pattern != "" {
		req.TransactionalIDPattern = &f.Pattern
	}
	for _, shard := range cl.RequestSharded(ctx, req) {
		failure := shard.Err
		if failure == nil {
			failure = kerr.ErrorForCode(shard.Resp.(*kmsg.ListTransactionsResponse).ErrorCode)
		}
		if failure != nil {
			if errors.Is(failure, kerr.InvalidRegularExpression) {
				return nil, failure
			}
			lacking.Add("transactions of broker %d: %v", shard.Meta.NodeID, failure)
			continue
		}
		for _, s := range shard.Resp.(*kmsg.ListTransactionsResponse).TransactionStates {
			out = append(out, Transaction{s.TransactionalID, shard.Meta.NodeID, s.ProducerID, s.TransactionState})
		}
	}
	slices.SortFunc(out, func(a, b Transaction) int {
		return cmp.Or(cmp.Compare(a.Coordinator, b.Coordinator), cmp.Compare(a.ID, b.ID))
	})
	return out, lacking.Err()
}

// TransactionDetail describes a transactional id, by its coordinator.
type TransactionDetail struct {
	Transaction
	Epoch      int16                  `json:"epoch"`
	Timeout    time.Duration          `json:"timeout_ns"`
	Started    *time.Time             `json:"started,omitempty"` // of the newest transaction
	Partitions []ident.TopicPartition `json:"partitions"`
}

// open reports whether the transaction has not ended everywhere.
func (d *TransactionDetail) open() bool { return d.State == "Ongoing" || d.deciding() }

// deciding reports whether the markers are being written.
func (d *TransactionDetail) deciding() bool {
	return d.State == "PrepareCommit" || d.State == "PrepareAbort"
}

// ErrNoTransaction is the error for a transactional id that no coordinator knows.
var ErrNoTransaction = errors.New("no coordinator knows this transactional id")

// DescribeTransaction asks the coordinator of a transactional id. It returns ErrNoTransaction if the id is unknown.
func DescribeTransaction(ctx context.Context, cl *kgo.Client, id string) (*TransactionDetail, error) {
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = []string{id}
	shards := cl.RequestSharded(ctx, req)
	if len(shards) != 1 {
		return nil, fmt.Errorf("transaction %s: %d answers", id, len(shards))
	}
	shard := shards[0]
	if shard.Err != nil {
		return nil, fmt.Errorf("transaction %s: %w", id, shard.Err)
	}
	states := shard.Resp.(*kmsg.DescribeTransactionsResponse).TransactionStates
	if len(states) != 1 {
		return nil, fmt.Errorf("transaction %s: the coordinator describes %d", id, len(states))
	}
	s := states[0]
	if s.ErrorCode == kerr.TransactionalIDNotFound.Code {
		return nil, ErrNoTransaction
	}
	if err := kerr.ErrorForCode(s.ErrorCode); err != nil {
		return nil, fmt.Errorf("transaction %s: %w", id, err)
	}
	d := &TransactionDetail{Transaction: Transaction{id, shard.Meta.NodeID, s.ProducerID, s.State}, Epoch: s.ProducerEpoch, Timeout: time.Duration(s.TimeoutMillis) * time.Millisecond, Partitions: []ident.TopicPartition{}}
	if s.StartTimestamp > 0 {
		started := time.UnixMilli(s.StartTimestamp)
		d.Started = &started
	}
	for _, t := range s.Topics {
		for _, n := range t.Partitions {
			d.Partitions = append(d.Partitions, ident.TopicPartition{Topic: t.Topic, Partition: n})
		}
	}
	slices.SortFunc(d.Partitions, ident.TopicPartition.Compare)
	return d, nil
}

// Producer is a producer that a partition's leader knows.
type Producer struct {
	ident.TopicPartition
	ID               int64
	Epoch            int32
	CoordinatorEpoch int32
	LastSequence     int32
	LastTimestamp    int64 // milliseconds
	Start            int64 // first offset of its open transaction, -1 without
}

// Producers lists the producers of partitions, all partitions for nil, by partition and id. It lacks those of partitions whose leaders do not
// answer.
func Producers(ctx context.Context, admin *kadm.Client, of kadm.TopicsSet) (out []Producer, err error) {
	var lacking Lacking
	described, err := admin.DescribeProducers(ctx, of)
	if err := lacking.Of(err); err != nil {
		return nil, err
	}
	described.EachPartition(func(p kadm.DescribedProducersPartition) {
		if p.Err != nil {
			lacking.Add("producers of %s-%d: %v", p.Topic, p.Partition, p.Err)
		}
	})
	described.EachProducer(func(p kadm.DescribedProducer) {
		out = append(out, Producer{ident.TopicPartition{Topic: p.Topic, Partition: p.Partition}, p.ProducerID, int32(p.ProducerEpoch), p.CoordinatorEpoch, p.LastSequence, p.LastTimestamp, p.CurrentTxnStartOffset})
	})
	slices.SortFunc(out, func(a, b Producer) int {
		return cmp.Or(a.TopicPartition.Compare(b.TopicPartition), cmp.Compare(a.ID, b.ID))
	})
	return out, lacking.Err()
}

// HeldUp is a partition whose readers of committed records wait for a transaction, the first that is open there.
type HeldUp struct {
	Topic      string    `json:"topic"`
	Partition  int32     `json:"partition"`
	Offset     int64     `json:"offset"` // the last stable offset: the transaction's first
	ProducerID int64     `json:"producer_id"`
	Since      time.Time `json:"since"`
	// Of the transaction's coordinator; empty and nil if no coordinator has the partition in a transaction of this producer. The transaction
	// hangs then: nobody ends it.
	Transaction string     `json:"transactional_id,omitempty"`
	Coordinator *int32     `json:"coordinator,omitempty"`
	State       string     `json:"state,omitempty"`
	TimesOut    *time.Time `json:"times_out,omitempty"`
	Why         string     `json:"why"`
}

// Hangs reports whether no coordinator will end the transaction.
func (h *HeldUp) Hangs() bool { return h.Coordinator == nil }

// openAt lists the open producers of partitions, and what coordinators know of them, by producer id. It lacks what Producers and
// ListTransactions lack.
func openAt(ctx context.Context, cl *kgo.Client, of kadm.TopicsSet) (open []Producer, known map[int64]*TransactionDetail, err error) {
	var lacking Lacking
	admin := kadm.NewClient(cl)
	producers, err := Producers(ctx, admin, of)
	if err := lacking.Of(err); err != nil {
		return nil, nil, err
	}
	ids := map[int64]bool{}
	for _, p := range producers {
		if p.Start >= 0 {
			open = append(open, p)
			ids[p.ID] = true
		}
	}
	known = map[int64]*TransactionDetail{}
	if len(ids) == 0 {
		return nil, known, lacking.Err()
	}
	listed, err := ListTransactions(ctx, cl, TransactionFilter{ProducerIDs: slices.Sorted(maps.Keys(ids))})
	if err := lacking.Of(err); err != nil {
		return nil, nil, err
	}
	for _, t := range listed {
		d, err := DescribeTransaction(ctx, cl, t.ID)
		if err == nil {
			known[d.ProducerID] = d
		} else if !errors.Is(err, ErrNoTransaction) {
			lacking.Add("%v", err)
		}
	}
	// A transaction may have ended since: one that no coordinator knows counts only if it is still open.
	suspects := kadm.TopicsSet{}
	for _, p := range open {
		if !known[p.ID].has(p.TopicPartition) {
			suspects.Add(p.Topic, p.Partition)
		}
	}
	if len(suspects) == 0 {
		return open, known, lacking.Err()
	}
	again, err := Producers(ctx, admin, suspects)
	if err := lacking.Of(err); err != nil {
		return nil, nil, err
	}
	open = slices.DeleteFunc(open, func(p Producer) bool {
		return !known[p.ID].has(p.TopicPartition) && !slices.ContainsFunc(again, func(q Producer) bool {
			return q.TopicPartition == p.TopicPartition && q.ID == p.ID && q.Start == p.Start
		})
	})
	return open, known, lacking.Err()
}

// has reports whether d is open and writes to a partition.
func (d *TransactionDetail) has(tp ident.TopicPartition) bool {
	return d != nil && d.open() && slices.Contains(d.Partitions, tp)
}

// Hanging lists open transactions that no coordinator will end and whose last record is older than a duration.
func Hanging(ctx context.Context, cl *kgo.Client, of kadm.TopicsSet, older time.Duration, now time.Time) (out []Producer, err error) {
	open, known, err := openAt(ctx, cl, of)
	for _, p := range open {
		if now.Sub(time.UnixMilli(p.LastTimestamp)) > older && !known[p.ID].has(p.TopicPartition) {
			out = append(out, p)
		}
	}
	return out, err
}

// HeldUpPartitions lists the partitions with open transactions, all partitions for nil, that wait for longer than a duration. now is the
// time of the caller's clock.
func HeldUpPartitions(ctx context.Context, cl *kgo.Client, of kadm.TopicsSet, longer time.Duration, now time.Time) (out []HeldUp, err error) {
	open, known, err := openAt(ctx, cl, of)
	first := map[ident.TopicPartition]Producer{}
	for _, p := range open {
		if f, ok := first[p.TopicPartition]; !ok || p.Start < f.Start {
			first[p.TopicPartition] = p
		}
	}
	for _, tp := range slices.SortedFunc(maps.Keys(first), ident.TopicPartition.Compare) {
		p := first[tp]
		h := HeldUp{Topic: tp.Topic, Partition: tp.Partition, Offset: p.Start, ProducerID: p.ID, Since: time.UnixMilli(p.LastTimestamp)}
		if d := known[p.ID]; d.has(tp) {
			h.Transaction, h.Coordinator, h.State = d.ID, &d.Coordinator, d.State
			if d.Started != nil {
				h.Since = *d.Started
			}
			if d.Started != nil && !d.deciding() {
				end := d.Started.Add(d.Timeout)
				h.TimesOut = &end
			}
		}
		if now.Sub(h.Since) < longer {
			continue
		}
		h.Why = h.why()
		out = append(out, h)
	}
	return out, err
}

// timeOfDay prints a time of today without its date.
func timeOfDay(t time.Time) string {
	if t.Format(time.DateOnly) == time.Now().Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

func (h *HeldUp) why() string {
	since := fmt.Sprintf("%s-%d waits since %s", h.Topic, h.Partition, timeOfDay(h.Since))
	switch {
	case h.Hangs():
		return fmt.Sprintf("%s for a transaction of producer %d that no coordinator knows; end it with: kraft transaction abort --partition %s:%d --offset %d", since, h.ProducerID, h.Topic, h.Partition, h.Offset)
	case h.TimesOut == nil:
		return fmt.Sprintf("%s for the end of transaction %s: coordinator %d writes its markers (%s)", since, h.Transaction, *h.Coordinator, h.State)
	}
	return fmt.Sprintf("%s for transaction %s of producer %d, coordinator %d, which times out at %s", since, h.Transaction, h.ProducerID, *h.Coordinator, timeOfDay(*h.TimesOut))
}

// AbortTransaction has the coordinator abort the open transaction of an id, whose producer is fenced (KIP-664's forceTerminateTransaction,
// with the id's own timeout). It returns ErrNoTransaction if the id is unknown, and nil at once if no transaction is open.
func AbortTransaction(ctx context.Context, cl *kgo.Client, id string) error {
	d, err := DescribeTransaction(ctx, cl, id)
	if err != nil || !d.open() {
		return err
	}
	if d.State == "PrepareCommit" {
		return fmt.Errorf("transaction %s is being committed: coordinator %d writes its markers", id, d.Coordinator)
	}
	return TerminateTransaction(ctx, cl, id, d.Timeout)
}

// TerminateTransaction fences the producer of a transactional id, which may be new, gives it a timeout, and returns when its transaction has
// ended.
func TerminateTransaction(ctx context.Context, cl *kgo.Client, id string, timeout time.Duration) error {
	for {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID, req.TransactionTimeoutMillis = &id, int32(timeout.Milliseconds())
		resp, err := req.RequestWith(ctx, cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if !errors.Is(err, kerr.ConcurrentTransactions) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("transaction %s: its markers are not written yet: %w", id, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ErrNoOpenTransaction is the error for an offset at which no open transaction begins.
var ErrNoOpenTransaction = errors.New("no open transaction begins there")

// AbortAt writes the marker of an abort for the transaction that begins at an offset of a partition and is open. It is for transactions that no
// coordinator ends. Without one it returns ErrNoOpenTransaction.
func AbortAt(ctx context.Context, cl *kgo.Client, tp ident.TopicPartition, offset int64) error {
	of := kadm.TopicsSet{}
	of.Add(tp.Topic, tp.Partition)
	producers, err := Producers(ctx, kadm.NewClient(cl), of)
	if err != nil {
		return err
	}
	for _, p := range producers {
		if p.Start == offset {
			return AbortProducer(ctx, cl, tp, p.ID, int16(p.Epoch), max(p.CoordinatorEpoch, 0))
		}
	}
	return ErrNoOpenTransaction
}

// AbortProducer writes the marker of an abort for a producer's transaction to the leader of a partition.
func AbortProducer(ctx context.Context, cl *kgo.Client, tp ident.TopicPartition, producer int64, epoch int16, coordinatorEpoch int32) error {
	of := kadm.TopicsSet{}
	of.Add(tp.Topic, tp.Partition)
	r, err := kadm.NewClient(cl).WriteTxnMarkers(ctx, kadm.TxnMarkers{ProducerID: producer, ProducerEpoch: epoch, Commit: false, CoordinatorEpoch: coordinatorEpoch, Topics: of})
	if err != nil {
		return err
	}
	for _, byTopic := range r {
		for _, t := range byTopic.Topics {
			for _, p := range t.Partitions {
				if p.Err != nil {
					return fmt.Errorf("%s-%d: %w", tp.Topic, tp.Partition, p.Err)
				}
			}
		}
	}
	return nil
}
