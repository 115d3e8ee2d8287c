// Package transaction is the transaction coordinator of one __transaction_state partition as a pure state machine (Kafka's
// TransactionCoordinator and TransactionStateManager; KIP-98, KIP-360, KIP-890). It knows no I/O, no clock and no goroutine; package runtime
// runs it, and package groups writes the markers of the transactions that it decides.
//
// To read it, begin with status, which is what a record says of a transactional id; init.go, add.go and end.go have the transitions, as
// functions from a status to the next. A status changes in Replay only.
package transaction

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
	"kraft/wire/ident"
)

// Config holds the broker's settings for transactions.
type Config struct {
	MaxTimeout   time.Duration // transaction.max.timeout.ms
	TwoPhase     bool          // transaction.two.phase.commit.enable
	TimeoutCheck time.Duration // transaction.abort.timed.out.transaction.cleanup.interval.ms
	Expiry       time.Duration // transactional.id.expiration.ms
	ExpiryCheck  time.Duration // transaction.remove.expired.transaction.cleanup.interval.ms
	// Level returns the cluster's level of transaction.version.
	Level func() int16
	// Load is a number that no other coordinator of this process has. Decisions carry it: what was decided before the partition was loaded
	// again is delivered anew, and only the new delivery completes it.
	Load int64
}

// Coordinator holds the transactional ids of one partition. Only its loop may touch it.
type Coordinator struct {
	config Config
	ids    map[string]*status

	// Soft state.
	waiting   map[string][]waiter // requests that add partitions, by the id whose previous transaction is about to end
	timeoutAt time.Time           // when open transactions are next looked at
	expiryAt  time.Time           // when ids are next looked at
	holdUntil time.Time           // the earliest end of a wait; zero for none
	timedOut  []string            // ids that the sweep of timeouts has found and not yet aborted
	open      map[string]openTxn  // transactions that the newest sweep of timeouts has found open
	written   []Decision          // whose markers are written, and whose completion could not be recorded
	writtenAt time.Time           // when that is tried again
}

// New returns a coordinator without transactions.
func New(config Config) *Coordinator {
	return &Coordinator{config: config, ids: map[string]*status{}, waiting: map[string][]waiter{}}
}

// Decision is an event: a transaction was committed or aborted, and the markers are to be written. Once all are, the owner calls Completed.
type Decision struct {
	ID         string
	ProducerID int64
	Epoch      int16 // of the markers
	Commit     bool
	Version    int16 // transaction.version of the client, for the markers
	Partitions []ident.TopicPartition
	load       int64 // Config.Load of the coordinator that emitted it
}

// NeedsProducerID is an event: a transaction that has timed out can be aborted only with a fresh producer id. The owner calls TimeOut.
type NeedsProducerID struct {
	ID string
}

func (c *Coordinator) decision(id string, s *status) Decision {
	d := Decision{load: c.config.Load, ID: id, ProducerID: s.producerID, Epoch: s.epoch, Commit: s.state == prepareCommit, Version: s.clientVersion, Partitions: make([]ident.TopicPartition, 0, len(s.partitions))}
	for tp := range s.partitions {
		d.Partitions = append(d.Partitions, tp)
	}
	slices.SortFunc(d.Partitions, ident.TopicPartition.Compare)
	return d
}

// Loaded implements runtime.Machine: markers of decided transactions are written again.
func (c *Coordinator) Loaded(now time.Time) (e runtime.Effects) {
	c.timeoutAt, c.expiryAt = now.Add(c.config.TimeoutCheck), now.Add(c.config.ExpiryCheck)
	for id, s := range c.ids {
		if s.decided() {
			e.Events = append(e.Events, c.decision(id, s))
		}
	}
	return e
}

// EndTransaction implements runtime.Machine: the partition's own records are in no transaction.
func (c *Coordinator) EndTransaction(int64, bool) {}

// Next implements runtime.Machine.
func (c *Coordinator) Next() time.Time {
	next := c.timeoutAt
	if c.expiryAt.Before(next) {
		next = c.expiryAt
	}
	if !c.holdUntil.IsZero() && c.holdUntil.Before(next) {
		next = c.holdUntil
	}
	if len(c.written) > 0 && c.writtenAt.Before(next) {
		next = c.writtenAt
	}
	return next
}

// Tick implements runtime.Machine.
func (c *Coordinator) Tick(call runtime.Call) runtime.Effects {
	if !c.holdUntil.IsZero() && !call.Now.Before(c.holdUntil) {
		return c.endWaits(call.Now)
	}
	if len(c.written) > 0 && !call.Now.Before(c.writtenAt) {
		d := c.written[0]
		c.written = c.written[1:]
		return c.Completed(call, d)
	}
	if !call.Now.Before(c.timeoutAt) {
		return c.sweepTimeouts(call)
	}
	if !call.Now.Before(c.expiryAt) {
		return c.sweepExpired(call)
	}
	return runtime.Effects{}
}

// One step of a sweep changes sweepTransactions at most, and ends when their records have sweepBytes.
const (
	sweepTransactions = 200
	sweepBytes        = 256 << 10
)

// openTxn is a transaction that this coordinator has seen open since a time of its own clock, which may differ from the clock that started it.
type openTxn struct {
	started int64 // of the status
	since   time.Time
}

// expired reports whether a transaction has been open for longer than its timeout: by the time of day at which it began, or by how long this
// coordinator has seen it open. The second holds if a clock has been put back since.
func (c *Coordinator) expired(id string, s *status, now time.Time) bool {
	if s.state != ongoing {
		return false
	}
	seen, ok := c.open[id]
	byItself := ok && seen.started == s.started && now.Sub(seen.since) > time.Duration(s.timeout)*time.Millisecond
	return s.timedOut(now) || byItself
}

// seeOpen notes which transactions are open.
func (c *Coordinator) seeOpen(now time.Time) {
	open := map[string]openTxn{}
	for id, s := range c.ids {
		if s.state != ongoing {
			continue
		}
		if seen, ok := c.open[id]; ok && seen.started == s.started {
			open[id] = seen
		} else {
			open[id] = openTxn{s.started, now}
		}
	}
	c.open = open
}

// sweepTimeouts aborts transactions that have been open for longer than their timeouts.
func (c *Coordinator) sweepTimeouts(call runtime.Call) (e runtime.Effects) {
	if c.timedOut == nil {
		c.seeOpen(call.Now)
		for id, s := range c.ids {
			if c.expired(id, s, call.Now) {
				c.timedOut = append(c.timedOut, id)
			}
		}
	}
	n, size := 0, 0
	for ; n < min(len(c.timedOut), sweepTransactions) && size < sweepBytes; n++ {
		id := c.timedOut[n]
		s := c.ids[id]
		switch {
		case s == nil || !c.expired(id, s, call.Now):
		case c.level() >= 2 && exhausted(s.epoch):
			e.Events = append(e.Events, NeedsProducerID{id})
		default:
			aborted := c.decide(id, s.fence(call.Now, c.level(), noID))
			size += len(aborted.Records[0].Value)
			e.Add(aborted)
		}
	}
	if err := call.Check(e.Records); err != nil {
		c.timedOut, c.timeoutAt = nil, call.Now.Add(min(c.config.TimeoutCheck, time.Second))
		return runtime.Effects{}
	}
	if c.timedOut = c.timedOut[n:]; len(c.timedOut) == 0 {
		c.timedOut, c.timeoutAt = nil, call.Now.Add(c.config.TimeoutCheck)
	}
	return e
}

// TimeOut aborts a transaction that has timed out, with a fresh producer id for what follows. There is no reply.
func (c *Coordinator) TimeOut(call runtime.Call, id string, fresh int64) runtime.Effects {
	s := c.ids[id]
	if s == nil || !c.expired(id, s, call.Now) {
		return runtime.Effects{}
	}
	e := c.decide(id, s.fence(call.Now, c.level(), fresh))
	if call.Check(e.Records) != nil {
		return runtime.Effects{} // the next sweep tries again
	}
	return e
}

// expiredBytes bounds the keys of one batch of tombstones (Kafka's transactions use 16 KiB).
const expiredBytes = 16 << 10

// sweepExpired forgets ids that have begun no transaction for transactional.id.expiration.ms.
func (c *Coordinator) sweepExpired(call runtime.Call) (e runtime.Effects) {
	before, size := call.Now.Add(-c.config.Expiry).UnixMilli(), 0
	next := call.Now.Add(c.config.ExpiryCheck)
	for id, s := range c.ids {
		if s.updated > before || s.state == ongoing || s.decided() {
			continue
		}
		e.Records = append(e.Records, runtime.Record{Key: key(id)})
		if size += len(id); size >= expiredBytes {
			next = call.Now // and the others at once
			break
		}
	}
	if err := call.Check(e.Records); err != nil {
		e, next = runtime.Effects{}, call.Now.Add(min(c.config.ExpiryCheck, time.Minute))
	}
	c.expiryAt = next
	return e
}

// level is the transaction.version that the coordinator itself acts by.
func (c *Coordinator) level() int16 { return c.config.Level() }

// write returns the record of a status.
func (c *Coordinator) write(id string, s *status) runtime.Record {
	return runtime.Record{Key: key(id), Value: s.encode(c.level())}
}

// decide returns the record of a decided transaction and its event.
func (c *Coordinator) decide(id string, s *status) runtime.Effects {
	return runtime.Effects{Records: []runtime.Record{c.write(id, s)}, Events: []any{c.decision(id, s)}}
}

func reply(to runtime.Token, response any) runtime.Effects {
	return runtime.Effects{Replies: []runtime.Reply{{To: to, Response: response}}}
}

// completedRetry is the time until the completion of a transaction is recorded again if the partition takes no records.
const completedRetry = 200 * time.Millisecond

// Completed records that all markers of d are written. It then runs the Adds that wait for this transaction. The caller gets no reply.
func (c *Coordinator) Completed(call runtime.Call, d Decision) (e runtime.Effects) {
	s := c.ids[d.ID]
	if s == nil || !s.decided() || s.producerID != d.ProducerID || s.epoch != d.Epoch || d.load != c.config.Load {
		return e
	}
	done := s.complete(call.Now)
	e.Records = []runtime.Record{c.write(d.ID, done)}
	if call.Check(e.Records) != nil {
		c.written, c.writtenAt = append(c.written, d), call.Now.Add(completedRetry)
		return runtime.Effects{}
	}
	now := done
	for _, w := range c.waiting[d.ID] {
		next, errs := now.add(w.add, call.Now)
		if next != nil && next != now {
			if records := []runtime.Record{e.Records[0], c.write(d.ID, next)}; call.Check(records) == nil {
				now, e.Records = next, records
			} else {
				errs = all(w.add, kerr.CoordinatorNotAvailable)
			}
		}
		e.Replies = append(e.Replies, runtime.Reply{To: w.to, Response: errs})
	}
	delete(c.waiting, d.ID)
	return e
}

// errUnknownID is the error for a transactional id that is unknown, or has another producer id.
var errUnknownID = kerr.InvalidProducerIDMapping

// Describe serves DescribeTransactions of one id; the reply is a kmsg.DescribeTransactionsResponseTransactionState.
func (c *Coordinator) Describe(call runtime.Call, id string) runtime.Effects {
	out := kmsg.NewDescribeTransactionsResponseTransactionState()
	out.TransactionalID = id
	s := c.ids[id]
	if s == nil {
		out.ErrorCode = kerr.TransactionalIDNotFound.Code
		return reply(call.To, out)
	}
	out.State, out.TimeoutMillis, out.StartTimestamp, out.ProducerID, out.ProducerEpoch = s.state.String(), s.timeout, s.started, s.producerID, s.epoch
	for _, t := range s.topics() {
		o := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
		o.Topic, o.Partitions = t.Topic, t.Partitions
		out.Topics = append(out.Topics, o)
	}
	return reply(call.To, out)
}

// Listed is a row of List.
type Listed struct {
	ID         string
	ProducerID int64
	State      string
	Started    int64 // milliseconds, -1 without a transaction
}

// List returns all ids; the reply is a []Listed.
func (c *Coordinator) List(call runtime.Call) runtime.Effects {
	out := make([]Listed, 0, len(c.ids))
	for id, s := range c.ids {
		out = append(out, Listed{id, s.producerID, s.state.String(), s.started})
	}
	return reply(call.To, out)
}
