package transaction

import (
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
)

// End commits or aborts a transaction.
type End struct {
	ID         string
	ProducerID int64
	Epoch      int16
	Commit     bool
	// Bumps: EndTxn raises the producer's epoch (version 5, KIP-890).
	Bumps bool
}

// End serves EndTxn; the reply is a Given. fresh is an unused producer id, or noID if the caller has not allocated one.
func (c *Coordinator) End(call runtime.Call, r End, fresh int64) runtime.Effects {
	s := c.ids[r.ID]
	if s == nil {
		return reply(call.To, failed(errUnknownID))
	}
	end := s.end
	if r.Bumps {
		end = func(r End, now time.Time) (*status, error) { return s.endAndBump(r, fresh, now) }
	}
	next, err := end(r, call.Now)
	if err == errNeedsID {
		return reply(call.To, Given{NeedsID: true})
	}
	if err != nil {
		return reply(call.To, failed(err))
	}
	given := Given{ProducerID: next.producerID, Epoch: next.epoch}
	if next.nextID != noID {
		given = Given{ProducerID: next.nextID}
	}
	if next == s { // a repeated request
		return reply(call.To, given)
	}
	var e runtime.Effects
	if len(next.partitions) > 0 {
		e = c.decide(r.ID, next)
	} else { // an abort of nothing needs no markers
		e.Records = []runtime.Record{c.write(r.ID, next), c.write(r.ID, next.complete(call.Now))}
	}
	if err := call.Check(e.Records); err != nil {
		return reply(call.To, failed(err))
	}
	e.Replies = []runtime.Reply{{To: call.To, Response: given}}
	return e
}

// states are those of a transaction that r has decided: while its markers are written, and after that.
func (r End) states() (prepared, done kmsg.TransactionState) {
	if r.Commit {
		return prepareCommit, completeCommit
	}
	return prepareAbort, completeAbort
}

// end is s after an EndTxn that leaves the epoch as it is; s itself if r repeats an earlier EndTxn.
func (s *status) end(r End, now time.Time) (*status, error) {
	prepared, done := r.states()
	switch {
	case s.producerID != r.ProducerID:
		return nil, errUnknownID
	case s.epoch != r.Epoch:
		return nil, kerr.ProducerFenced
	case s.decided():
		return nil, kerr.ConcurrentTransactions
	case s.state == done:
		return s, nil
	case s.state != ongoing:
		return nil, kerr.InvalidTxnState
	}
	n := s.with(prepared, now)
	n.clientVersion = 0
	return n, nil
}

// endAndBump is s after an EndTxn that raises the epoch; s itself if r repeats an earlier EndTxn.
func (s *status) endAndBump(r End, fresh int64, now time.Time) (*status, error) {
	if s.decided() {
		return nil, kerr.ConcurrentTransactions
	}
	over := r.ProducerID == s.previousID && r.Epoch == lastClientEpoch && s.epoch == 0 // repeated over a change of the id
	again := over || r.ProducerID == s.producerID && s.epoch == r.Epoch+1
	prepared, done := r.states()
	switch {
	case s.producerID != r.ProducerID && !over:
		return nil, errUnknownID
	case s.epoch != r.Epoch && !again:
		return nil, kerr.ProducerFenced
	case again && s.state == done:
		return s, nil
	case again && (s.state == empty || s.state == ongoing):
		return nil, kerr.ProducerFenced
	case again, s.state != ongoing && r.Commit:
		return nil, kerr.InvalidTxnState
	case exhausted(s.epoch) && fresh == noID:
		return nil, errNeedsID
	}
	n := s.with(prepared, now)
	n.clientVersion, n.lastEpoch = 2, s.epoch
	n.epoch = s.epoch + 1
	if exhausted(s.epoch) {
		n.epoch, n.nextID = math.MaxInt16, fresh
	}
	if s.state != ongoing {
		n.started, n.partitions = now.UnixMilli(), nil
	}
	return n, nil
}
