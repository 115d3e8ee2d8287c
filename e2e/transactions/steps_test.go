package transactions

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// step is one request of a trial. Its fields mean what the request of its kind needs.
type step struct {
	kind      string
	id        string // transactional id
	pair      string // which pair of the producer
	version   int16
	partition int32
	sequence  string // "next", "gap", "again"
	commit    bool
	verify    bool
	plain     bool // a batch of no transaction
	group     string
	gen       int32
	offset    int64
	at        int64
	isolation int8
	timeout   int32
	level     int8 // transaction.version of a marker
	coord     int32
}

func (s step) String() string {
	switch s.kind {
	case "init":
		return fmt.Sprintf("init v%d %s pair=%s timeout=%d", s.version, s.id, s.pair, s.timeout)
	case "add":
		return fmt.Sprintf("add v%d %s pair=%s partition=%d verify=%v", s.version, s.id, s.pair, s.partition, s.verify)
	case "addOffsets":
		return fmt.Sprintf("addOffsets v%d %s pair=%s group=%s", s.version, s.id, s.pair, s.group)
	case "produce":
		return fmt.Sprintf("produce v%d %s pair=%s partition=%d sequence=%s plain=%v", s.version, s.id, s.pair, s.partition, s.sequence, s.plain)
	case "commitOffset":
		return fmt.Sprintf("commitOffset v%d %s pair=%s group=%s generation=%d partition=%d offset=%d", s.version, s.id, s.pair, s.group, s.gen, s.partition, s.offset)
	case "end":
		return fmt.Sprintf("end v%d %s pair=%s commit=%v", s.version, s.id, s.pair, s.commit)
	case "marker":
		return fmt.Sprintf("marker v%d %s pair=%s partition=%d commit=%v level=%d coordinator=%d", s.version, s.id, s.pair, s.partition, s.commit, s.level, s.coord)
	case "listOffset":
		return fmt.Sprintf("listOffset partition=%d at=%d isolation=%d", s.partition, s.at, s.isolation)
	case "fetch":
		return fmt.Sprintf("fetch partition=%d offset=%d isolation=%d", s.partition, s.offset, s.isolation)
	}
	return fmt.Sprintf("%s %s group=%s partition=%d", s.kind, s.id, s.group, s.partition)
}

var ids = []string{"A", "B"}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// pairs are weighted: most requests are right.
func somePair(r *rand.Rand) string {
	return pick(r, "now", "now", "now", "now", "now", "now", "now", "now", "now", "now", "before", "older", "ahead", "other")
}

func someID(r *rand.Rand) string {
	if r.IntN(40) == 0 {
		return pick(r, "", "unknown")
	}
	return pick(r, ids...)
}

// generate makes a trial's steps. modern says that most requests are those of transaction.version 2.
func generate(r *rand.Rand, n int) (out []step) {
	modern := r.IntN(2) == 0
	version := func(old, new []int16) int16 {
		if modern != (r.IntN(8) == 0) {
			return pick(r, new...)
		}
		return pick(r, old...)
	}
	for _, id := range ids {
		out = append(out, step{kind: "init", id: id, pair: "nobody", version: pick[int16](r, 0, 2, 3, 5), timeout: 60_000})
	}
	for len(out) < n {
		s := step{id: someID(r), pair: somePair(r), partition: int32(r.IntN(partitions)), group: pick(r, "g", "g", "h")}
		switch k := r.IntN(100); {
		case k < 8:
			s.kind, s.version, s.pair, s.timeout = "init", pick[int16](r, 3, 4, 5), pick(r, "nobody", "nobody", "now", "before", "older", "ahead", "other"), pick[int32](r, 60_000, 60_000, 60_000, 0, 900_001)
		case k < 22:
			s.kind, s.version, s.verify = "add", version([]int16{0, 1, 2, 3}, []int16{4, 5}), r.IntN(2) == 0
			s.partition = pick(r, s.partition, s.partition, s.partition, s.partition, s.partition, 99)
			if s.version < 4 {
				s.verify = false
			}
		case k < 27:
			s.kind, s.version = "addOffsets", pick[int16](r, 0, 1, 2, 3, 4)
		case k < 52:
			s.kind, s.version, s.sequence, s.plain = "produce", version([]int16{3, 7, 9, 10, 11}, []int16{12, 13}), pick(r, "next", "next", "next", "next", "next", "next", "gap", "again"), r.IntN(15) == 0
		case k < 62:
			s.kind, s.version, s.gen, s.offset = "commitOffset", version([]int16{0, 1, 2, 3, 4}, []int16{5, 6}), pick[int32](r, -1, -1, -1, -1, 5), int64(r.IntN(50))
		case k < 80:
			s.kind, s.version, s.commit = "end", version([]int16{0, 1, 2, 3, 4}, []int16{5}), r.IntN(3) > 0
		case k < 82:
			s.kind, s.version, s.commit, s.level, s.coord = "marker", 2, r.IntN(2) == 0, pick[int8](r, 0, 2), pick[int32](r, 0, 0, -1)
		case k < 85:
			s.kind = "describe"
		case k < 88:
			s.kind = "producers"
		case k < 92:
			s.kind, s.at, s.isolation = "listOffset", pick[int64](r, -1, -2, 0, -3), int8(r.IntN(2))
		case k < 96:
			s.kind, s.offset, s.isolation = "fetch", int64(r.IntN(6)), int8(r.IntN(2))
		case k < 98:
			s.kind = "offsets"
		default:
			s.kind = "stable"
		}
		out = append(out, s)
	}
	for p := range int32(partitions) {
		out = append(out, step{kind: "producers", partition: p}, step{kind: "listOffset", partition: p, at: -1, isolation: 1}, step{kind: "fetch", partition: p, isolation: 1})
	}
	for _, id := range ids {
		out = append(out, step{kind: "describe", id: id})
	}
	return append(out, step{kind: "stable", group: "g"}, step{kind: "offsets", group: "g"})
}

// play sends a step's request and returns the answer in words that mean the same on both servers.
func (w *world) play(ctx context.Context, s step) (string, error) {
	p := w.which(s.id, s.pair)
	switch s.kind {
	case "init":
		req := kmsg.NewPtrInitProducerIDRequest()
		id := w.tid(s.id)
		req.TransactionalID, req.TransactionTimeoutMillis = &id, s.timeout
		if s.version >= 3 {
			req.ProducerID, req.ProducerEpoch = p.id, p.epoch
		}
		resp, err := w.ask(ctx, req, s.version)
		if err != nil {
			return "", err
		}
		r := resp.(*kmsg.InitProducerIDResponse)
		if r.ErrorCode == 0 {
			w.learn(s.id, pair{r.ProducerID, r.ProducerEpoch})
		}
		return fmt.Sprintf("%s %s %d", code(r.ErrorCode), w.name(r.ProducerID), r.ProducerEpoch), nil
	case "add":
		return w.add(ctx, s, p)
	case "addOffsets":
		req := kmsg.NewPtrAddOffsetsToTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = w.tid(s.id), p.id, p.epoch, w.tid(s.group)
		resp, err := w.ask(ctx, req, s.version)
		if err != nil {
			return "", err
		}
		return code(resp.(*kmsg.AddOffsetsToTxnResponse).ErrorCode), nil
	case "produce":
		return w.produce(ctx, s, p)
	case "commitOffset":
		return w.commitOffset(ctx, s, p)
	case "end":
		req := kmsg.NewPtrEndTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = w.tid(s.id), p.id, p.epoch, s.commit
		resp, err := w.ask(ctx, req, s.version)
		if err != nil {
			return "", err
		}
		r := resp.(*kmsg.EndTxnResponse)
		if r.ErrorCode == 0 && s.version >= 5 {
			w.learn(s.id, pair{r.ProducerID, r.ProducerEpoch})
			return fmt.Sprintf("ok %s %d", w.name(r.ProducerID), r.ProducerEpoch), nil
		}
		return code(r.ErrorCode), nil
	case "marker":
		req := kmsg.NewPtrWriteTxnMarkersRequest()
		m := kmsg.NewWriteTxnMarkersRequestMarker()
		m.ProducerID, m.ProducerEpoch, m.Committed, m.CoordinatorEpoch, m.TransactionVersion = p.id, p.epoch, s.commit, s.coord, s.level
		t := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
		t.Topic, t.Partitions = w.topic, []int32{s.partition}
		m.Topics = append(m.Topics, t)
		req.Markers = append(req.Markers, m)
		resp, err := w.ask(ctx, req, s.version)
		if err != nil {
			return "", err
		}
		return code(resp.(*kmsg.WriteTxnMarkersResponse).Markers[0].Topics[0].Partitions[0].ErrorCode), nil
	case "describe":
		return w.describe(ctx, s)
	case "producers":
		return w.producers(ctx, s)
	case "listOffset":
		answer, err := w.listOffset(ctx, s.partition, s.at, s.isolation)
		if answer != "" {
			err = nil
		}
		return answer, err
	case "fetch":
		return w.fetch(ctx, s)
	case "offsets", "stable":
		return w.offsets(ctx, s)
	}
	panic(s.kind)
}

func (w *world) add(ctx context.Context, s step, p pair) (string, error) {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	if s.version < 4 {
		req.TransactionalID, req.ProducerID, req.ProducerEpoch = w.tid(s.id), p.id, p.epoch
		t := kmsg.NewAddPartitionsToTxnRequestTopic()
		t.Topic, t.Partitions = w.topic, []int32{s.partition}
		if s.partition == 99 {
			t.Partitions = []int32{0, 99}
		}
		req.Topics = append(req.Topics, t)
	} else {
		x := kmsg.NewAddPartitionsToTxnRequestTransaction()
		x.TransactionalID, x.ProducerID, x.ProducerEpoch, x.VerifyOnly = w.tid(s.id), p.id, p.epoch, s.verify
		t := kmsg.NewAddPartitionsToTxnRequestTransactionTopic()
		t.Topic, t.Partitions = w.topic, []int32{s.partition}
		if s.partition == 99 {
			t.Partitions = []int32{0, 99}
		}
		x.Topics = append(x.Topics, t)
		req.Transactions = append(req.Transactions, x)
	}
	resp, err := w.ask(ctx, req, s.version)
	if err != nil {
		return "", err
	}
	r := resp.(*kmsg.AddPartitionsToTxnResponse)
	var out []string
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			out = append(out, fmt.Sprintf("%d:%s", p.Partition, code(p.ErrorCode)))
		}
	}
	for _, x := range r.Transactions {
		for _, t := range x.Topics {
			for _, p := range t.Partitions {
				out = append(out, fmt.Sprintf("%d:%s", p.Partition, code(p.ErrorCode)))
			}
		}
	}
	sort.Strings(out)
	return strings.Join(out, " "), nil
}

func (w *world) produce(ctx context.Context, s step, p pair) (string, error) {
	at := sequenceOf{p, s.partition}
	next := w.next[at]
	sequence := next
	switch s.sequence {
	case "gap":
		sequence += 5
	case "again":
		sequence = max(0, next-2)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	id := w.tid(s.id)
	req.TransactionID = &id
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.TopicID = w.topic, w.id
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = s.partition, batch(p, sequence, 2, !s.plain)
	t.Partitions = append(t.Partitions, rp)
	req.Topics = append(req.Topics, t)
	resp, err := w.ask(ctx, req, s.version)
	if err != nil {
		return "", err
	}
	r := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	if r.ErrorCode == 0 {
		w.next[at] = max(next, sequence+2)
	}
	return fmt.Sprintf("%s %d", code(r.ErrorCode), r.BaseOffset), nil
}

func (w *world) commitOffset(ctx context.Context, s step, p pair) (string, error) {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group, req.Generation = w.tid(s.id), p.id, p.epoch, w.tid(s.group), s.gen
	if s.gen >= 0 {
		req.MemberID = "m"
	}
	t := kmsg.NewTxnOffsetCommitRequestTopic()
	t.Topic, t.TopicID = w.topic, w.id
	rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset = s.partition, s.offset
	t.Partitions = append(t.Partitions, rp)
	req.Topics = append(req.Topics, t)
	resp, err := w.ask(ctx, req, s.version)
	if err != nil {
		return "", err
	}
	return code(resp.(*kmsg.TxnOffsetCommitResponse).Topics[0].Partitions[0].ErrorCode), nil
}

func (w *world) describe(ctx context.Context, s step) (string, error) {
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = []string{w.tid(s.id)}
	resp, err := w.ask(ctx, req, 0)
	if err != nil {
		return "", err
	}
	x := resp.(*kmsg.DescribeTransactionsResponse).TransactionStates[0]
	if x.ErrorCode != 0 {
		return code(x.ErrorCode), nil
	}
	var parts []string
	for _, t := range x.Topics {
		slices.Sort(t.Partitions)
		name := strings.TrimSuffix(t.Topic, "-"+w.trial)
		if t.Topic == "__consumer_offsets" {
			t.Partitions = nil
		}
		parts = append(parts, fmt.Sprint(name, t.Partitions))
	}
	sort.Strings(parts)
	return fmt.Sprintf("%s %s %s %d timeout=%d begun=%v %v", code(x.ErrorCode), x.State, w.name(x.ProducerID), x.ProducerEpoch, x.TimeoutMillis, x.StartTimestamp > 0, parts), nil
}

func (w *world) producers(ctx context.Context, s step) (string, error) {
	req := kmsg.NewPtrDescribeProducersRequest()
	t := kmsg.NewDescribeProducersRequestTopic()
	t.Topic, t.Partitions = w.topic, []int32{s.partition}
	req.Topics = append(req.Topics, t)
	resp, err := w.ask(ctx, req, 0)
	if err != nil {
		return "", err
	}
	var out []string
	for _, p := range resp.(*kmsg.DescribeProducersResponse).Topics[0].Partitions[0].ActiveProducers {
		out = append(out, fmt.Sprintf("{%s epoch=%d last=%d coordinator=%v open=%d}", w.name(p.ProducerID), p.ProducerEpoch, p.LastSequence, p.CoordinatorEpoch >= 0, p.CurrentTxnStartOffset))
	}
	sort.Strings(out)
	return strings.Join(out, " "), nil
}

func (w *world) fetch(ctx context.Context, s step) (string, error) {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.IsolationLevel, req.SessionEpoch = 0, 0, 1<<20, s.isolation, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic = w.topic
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = s.partition, s.offset, 1<<20
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := w.ask(ctx, req, 12)
	if err != nil {
		return "", err
	}
	r := resp.(*kmsg.FetchResponse).Topics[0].Partitions[0]
	var aborted, batches []string
	w.read = s.offset
	batches = batchesOf(w, r.RecordBatches)
	for _, a := range r.AbortedTransactions {
		if a.FirstOffset <= w.read { // Apache Kafka lists others, too
			aborted = append(aborted, fmt.Sprintf("%s@%d", w.name(a.ProducerID), a.FirstOffset))
		}
	}
	sort.Strings(aborted)
	return fmt.Sprintf("%s high=%d stable=%d aborted=%v none=%v %v", code(r.ErrorCode), r.HighWatermark, r.LastStableOffset, aborted, r.AbortedTransactions == nil, batches), nil
}

func (w *world) offsets(ctx context.Context, s step) (string, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = s.kind == "stable"
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = w.tid(s.group)
	t := kmsg.NewOffsetFetchRequestGroupTopic()
	t.Topic = w.topic
	for p := range int32(partitions) {
		t.Partitions = append(t.Partitions, p)
	}
	g.Topics = append(g.Topics, t)
	req.Groups = append(req.Groups, g)
	resp, err := w.ask(ctx, req, 8)
	if err != nil {
		return "", err
	}
	r := resp.(*kmsg.OffsetFetchResponse).Groups[0]
	var out []string
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			out = append(out, fmt.Sprintf("%d:%s %d", p.Partition, code(p.ErrorCode), p.Offset))
		}
	}
	sort.Strings(out)
	return code(r.ErrorCode) + " " + strings.Join(out, " "), nil
}
