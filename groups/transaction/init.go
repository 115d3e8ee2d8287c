package transaction

import (
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/groups/runtime"
)

// Init is an InitProducerId of a transactional id.
type Init struct {
	ID      string
	Timeout int32 // milliseconds
	// Producer id and epoch that the client holds; noID and noEpoch if none (KIP-360).
	ProducerID int64
	Epoch      int16
	// The fields of KIP-939.
	Enable2PC, KeepPrepared bool
}

// Check returns r as it is to be served, or the error of a request that no coordinator serves with these settings. Any goroutine may call it.
func (c Config) Check(r Init) (Init, error) {
	switch {
	case r.ID == "":
		return r, kerr.InvalidRequest
	case r.Enable2PC && !c.TwoPhase:
		return r, kerr.TransactionalIDAuthorizationFailed
	case r.KeepPrepared:
		return r, kerr.UnsupportedVersion
	case r.Enable2PC:
		r.Timeout = math.MaxInt32
	case r.Timeout <= 0 || time.Duration(r.Timeout)*time.Millisecond > c.MaxTimeout:
		return r, kerr.InvalidTransactionTimeout
	}
	return r, nil
}

// Given is the reply to Init and to End: the pair for the producer's next transaction.
type Given struct {
	ProducerID int64
	Epoch      int16
	Err        error // wraps a kerr error; the pair is then -1 and -1
	// NeedsID asks the caller to call again with a fresh producer id.
	NeedsID bool
}

func failed(err error) Given { return Given{ProducerID: noID, Epoch: noEpoch, Err: err} }

// Init serves InitProducerId of a transactional id that Check has accepted; the reply is a Given. fresh is an unused producer id,
// or noID if the caller has not allocated one.
func (c *Coordinator) Init(call runtime.Call, r Init, fresh int64) runtime.Effects {
	s := c.ids[r.ID]
	if s == nil {
		if fresh == noID {
			return reply(call.To, Given{NeedsID: true})
		}
		s = &status{producerID: fresh, previousID: noID, nextID: noID, epoch: noEpoch, lastEpoch: noEpoch, started: -1}
	}
	next, err := s.initialize(r, fresh, c.level(), call.Now)
	if err == errNeedsID {
		return reply(call.To, Given{NeedsID: true})
	}
	if err != nil {
		return reply(call.To, failed(err))
	}
	e := runtime.Effects{Records: []runtime.Record{c.write(r.ID, next)}}
	given := Given{ProducerID: next.producerID, Epoch: next.epoch}
	if next.decided() { // the producer tries again once the markers are written
		e, given = c.decide(r.ID, next), failed(kerr.ConcurrentTransactions)
	}
	if err := call.Check(e.Records); err != nil {
		return reply(call.To, failed(err))
	}
	e.Replies = []runtime.Reply{{To: call.To, Response: given}}
	return e
}

// errNeedsID is why a transition cannot be made without a fresh producer id.
var errNeedsID = kerr.UnknownProducerID

// initialize is s after an InitProducerId (Kafka's TransactionCoordinator.prepareInitProducerIdTransit).
func (s *status) initialize(r Init, fresh int64, level int16, now time.Time) (*status, error) {
	expected := r.ProducerID != noID
	switch {
	case s.decided():
		return nil, kerr.ConcurrentTransactions
	case expected && !s.accepts(r.ProducerID, r.Epoch):
		return nil, kerr.ProducerFenced
	case s.state == ongoing && level >= 2 && exhausted(s.epoch) && fresh == noID:
		return nil, errNeedsID
	case s.state == ongoing:
		return s.fence(now, level, fresh), nil
	}
	n := s.with(empty, now)
	n.timeout, n.started, n.clientVersion = r.Timeout, -1, 0
	n.partitions, n.nextID = nil, noID
	switch {
	case exhausted(s.epoch) && (!expected || r.Epoch == s.epoch):
		if fresh == noID {
			return nil, errNeedsID
		}
		n.producerID, n.previousID, n.epoch, n.lastEpoch = fresh, s.producerID, 0, noEpoch
		if expected {
			n.lastEpoch = s.epoch
		}
	case !expected:
		n.epoch, n.lastEpoch = s.epoch+1, noEpoch
	case s.epoch == noEpoch || r.Epoch == s.epoch:
		n.epoch, n.lastEpoch = s.epoch+1, s.epoch
	case r.Epoch == s.lastEpoch: // the answer was lost
	default:
		return nil, kerr.ProducerFenced
	}
	return n, nil
}

// accepts reports whether a request's producer id and epoch are current, or those of a repeated request.
func (s *status) accepts(producerID int64, epoch int16) bool {
	switch {
	case s.epoch == noEpoch:
		return true
	case producerID == s.producerID:
		return epoch == s.epoch || epoch == s.lastEpoch
	}
	return producerID == s.previousID && exhausted(epoch) // it repeats a request over a change of the id
}

// fence returns the aborting status that raises the epoch, so that the producer is fenced. At level 2, fresh replaces an exhausted producer
// id.
func (s *status) fence(now time.Time, level int16, fresh int64) *status {
	n := s.with(prepareAbort, now)
	n.clientVersion = 0
	if s.epoch < math.MaxInt16 {
		n.epoch = s.epoch + 1
	}
	n.lastEpoch = noEpoch
	if level >= 2 {
		n.clientVersion, n.lastEpoch = 2, s.epoch
		if exhausted(s.epoch) {
			n.nextID = fresh
		}
	}
	return n
}
