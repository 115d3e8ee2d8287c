package transaction

import (
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/groups/runtime"
	"kraft/wire/ident"
)

// Add adds partitions to a transaction, or verifies that they are part of it.
type Add struct {
	ID         string
	ProducerID int64
	Epoch      int16
	Partitions []ident.TopicPartition
	Verify     bool  // change nothing
	Wait       bool  // for the end of the previous transaction, in place of CONCURRENT_TRANSACTIONS
	Version    int16 // transaction.version of the client: 2 if its Produce requests add the partitions
}

// waiter is a request that waits until the previous transaction of its id is complete.
type waiter struct {
	to    runtime.Token
	add   Add
	until time.Time
}

// HoldAdds is how long a request that begins the next transaction waits until the previous one is complete, before it is answered
// CONCURRENT_TRANSACTIONS (Kafka's add.partitions.to.txn.retry.backoff.max.ms).
const HoldAdds = 100 * time.Millisecond

// maxHeld bounds the waiting requests of one id. A producer has one for each broker that it writes to.
const maxHeld = 100

// Add serves AddPartitionsToTxn and AddOffsetsToTxn of one id; the reply is an []error, an element for each partition, nil or a kerr error.
func (c *Coordinator) Add(call runtime.Call, r Add) runtime.Effects {
	s := c.ids[r.ID]
	if s == nil {
		return reply(call.To, all(r, errUnknownID))
	}
	if r.Verify {
		return reply(call.To, s.verify(r))
	}
	if s.decided() {
		if !r.Wait || len(c.waiting[r.ID]) >= maxHeld {
			return reply(call.To, all(r, kerr.ConcurrentTransactions))
		}
		w := waiter{call.To, r, call.Now.Add(HoldAdds)}
		c.waiting[r.ID] = append(c.waiting[r.ID], w)
		if c.holdUntil.IsZero() || w.until.Before(c.holdUntil) {
			c.holdUntil = w.until
		}
		return runtime.Effects{}
	}
	next, errs := s.add(r, call.Now)
	if next == nil || next == s {
		return reply(call.To, errs)
	}
	e := runtime.Effects{Records: []runtime.Record{c.write(r.ID, next)}}
	if err := call.Check(e.Records); err != nil {
		return reply(call.To, all(r, err))
	}
	e.Replies = []runtime.Reply{{To: call.To, Response: errs}}
	return e
}

// all is err for each partition.
func all(r Add, err error) []error {
	return slices.Repeat([]error{err}, len(r.Partitions))
}

// add returns the status with r's partitions added: s itself if it has them all; nil and an error for each partition if the producer id or
// the epoch is wrong. s must not be decided.
func (s *status) add(r Add, now time.Time) (*status, []error) {
	switch {
	case s.producerID != r.ProducerID:
		return nil, all(r, errUnknownID)
	case s.epoch != r.Epoch:
		return nil, all(r, kerr.ProducerFenced)
	}
	missing := s.state != ongoing
	for _, tp := range r.Partitions {
		_, has := s.partitions[tp]
		missing = missing || !has
	}
	if !missing {
		return s, all(r, nil)
	}
	n := s.with(ongoing, now)
	n.clientVersion = r.Version
	if s.state != ongoing {
		n.started, n.partitions = now.UnixMilli(), nil
	}
	n.partitions = maps.Clone(n.partitions)
	if n.partitions == nil {
		n.partitions = make(map[ident.TopicPartition]struct{}, len(r.Partitions))
	}
	for _, tp := range r.Partitions {
		n.partitions[tp] = struct{}{}
	}
	return n, all(r, nil)
}

// verify says which partitions are part of the producer's transaction.
func (s *status) verify(r Add) []error {
	switch {
	case s.producerID != r.ProducerID:
		return all(r, errUnknownID)
	case s.epoch != r.Epoch:
		return all(r, kerr.ProducerFenced)
	case s.decided():
		return all(r, kerr.ConcurrentTransactions)
	}
	errs := all(r, nil)
	for i, tp := range r.Partitions {
		if _, has := s.partitions[tp]; !has {
			errs[i] = kerr.TransactionAbortable
		}
	}
	return errs
}

// endWaits answers requests that have waited for too long.
func (c *Coordinator) endWaits(now time.Time) (e runtime.Effects) {
	c.holdUntil = time.Time{}
	for id, waiting := range c.waiting {
		left := waiting[:0]
		for _, w := range waiting {
			if !now.Before(w.until) {
				e.Replies = append(e.Replies, runtime.Reply{To: w.to, Response: all(w.add, kerr.ConcurrentTransactions)})
				continue
			}
			left = append(left, w)
			if c.holdUntil.IsZero() || w.until.Before(c.holdUntil) {
				c.holdUntil = w.until
			}
		}
		if len(left) == 0 {
			delete(c.waiting, id)
		} else {
			c.waiting[id] = left
		}
	}
	return e
}
