package groups

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/coordinator"
	"kraft/groups/runtime"
	"kraft/replication"
	"kraft/storage"
	"kraft/wire"
	"kraft/wire/acl"
	"kraft/wire/ident"
)

// Versions of TxnOffsetCommit.
const (
	txnCommitKnowsAbortable = 4 // TRANSACTION_ABORTABLE
	txnCommitAdds           = 5 // it adds the group's partition to the transaction by itself (KIP-890)
	txnCommitByID           = 6 // topics are named by id (KIP-1319)
)

// txnOffsetCommit commits offsets as part of a transaction (KIP-98, KIP-447).
func (m *Manager) txnOffsetCommit(ctx *wire.Request, req *kmsg.TxnOffsetCommitRequest) (*kmsg.TxnOffsetCommitResponse, error) {
	c, cancel := context.WithTimeout(ctx.Context(), m.meta.Settings().OffsetsCommitTimeout)
	defer cancel()
	var commits []coordinator.Commit
	err := ctx.May(acl.Write, acl.TransactionalID, req.TransactionalID)
	if err == nil {
		err = ctx.May(acl.Read, acl.Group, req.Group)
	}
	if err == nil {
		commits = m.txnCommits(ctx, req)
	}
	if anyLeft(commits) {
		var done []coordinator.Commit
		if done, err = m.commitInTransaction(c, ctx.Version, req, commits); err == nil {
			commits = done
		}
	}
	resp := kmsg.NewPtrTxnOffsetCommitResponse()
	i := 0
	for _, t := range req.Topics {
		out := kmsg.NewTxnOffsetCommitResponseTopic()
		out.Topic, out.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			r := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			r.Partition = p.Partition
			switch {
			case commits != nil && commits[i].Err != nil:
				r.ErrorCode = commits[i].Err.Code
			case err != nil:
				r.ErrorCode = txnCommitCode(ctx.Version, err)
			}
			i++
			out.Partitions = append(out.Partitions, r)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

// txnCommitCode is the code of an error in a version of TxnOffsetCommit.
func txnCommitCode(version int16, err error) int16 {
	is := func(errs ...error) bool { return wire.IsAny(err, errs...) }
	switch {
	case is(kerr.ProducerFenced):
		return kerr.InvalidProducerEpoch.Code
	case is(kerr.TransactionAbortable) && version < txnCommitKnowsAbortable:
		return kerr.InvalidTxnState.Code
	case is(kerr.CoordinatorLoadInProgress) && version < 2:
		return kerr.CoordinatorNotAvailable.Code
	case is(context.DeadlineExceeded, kerr.RequestTimedOut, kerr.NotEnoughReplicas):
		return kerr.CoordinatorNotAvailable.Code
	case is(kerr.NotLeaderForPartition):
		return kerr.NotCoordinator.Code
	}
	return wire.ErrorCode(err)
}

// txnCommits resolves what a request commits. Partitions that do not exist carry their error.
func (m *Manager) txnCommits(ctx *wire.Request, req *kmsg.TxnOffsetCommitRequest) (out []coordinator.Commit) {
	img, now := m.meta.Image(), ctx.Received.UnixMilli()
	for _, t := range req.Topics {
		topic, missing := findTopic(ctx, img, ctx.Version >= txnCommitByID, t.Topic, t.TopicID)
		for _, p := range t.Partitions {
			c := coordinator.Commit{Offset: coordinator.Offset{Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Committed: now, Expires: -1}}
			if p.Metadata != nil {
				c.Offset.Metadata = *p.Metadata
			}
			c.TopicPartition, c.Err = named(topic, p.Partition, missing)
			out = append(out, c)
		}
	}
	return out
}

// commitInTransaction adds or verifies the group's partition in the transaction, then appends the offsets.
func (m *Manager) commitInTransaction(ctx context.Context, version int16, req *kmsg.TxnOffsetCommitRequest, commits []coordinator.Commit) ([]coordinator.Commit, error) {
	if req.Group == "" {
		return nil, kerr.InvalidGroupID
	}
	n, err := m.topic.partition(req.Group)
	if err != nil {
		return nil, err
	}
	if _, err := m.host.Of(n); err != nil {
		return nil, err
	}
	p, err := m.parts.Partition(offsetsTopic, n)
	if err != nil {
		return nil, err
	}
	adds := version >= txnCommitAdds
	guard, err := p.Guard(req.ProducerID, req.ProducerEpoch, -1, adds, time.Now())
	if err != nil {
		return nil, err
	}
	switch {
	case guard == nil:
	case !adds && !m.meta.Settings().VerifyTransactions:
		guard = storage.Unguarded
	default:
		t := replication.Transaction{ID: req.TransactionalID, ProducerID: req.ProducerID, Epoch: req.ProducerEpoch}
		if err := m.txns.Enlist(ctx, t, adds, []ident.TopicPartition{{Topic: offsetsTopic, Partition: n}})[0]; err != nil {
			return nil, fmt.Errorf("transaction of %s: %w", req.Group, err)
		}
	}
	of := runtime.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch, Guard: guard}
	return runtime.AskOf[[]coordinator.Commit](ctx, m.host, n, false, func(c *coordinator.Coordinator, call runtime.Call) runtime.Effects {
		return c.CommitInTransaction(call, req, of, slices.Clone(commits)) // the caller may have stopped waiting
	})
}
