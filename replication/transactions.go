package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
	"kraft/storage"
	"kraft/wire"
	"kraft/wire/ident"
)

// Transaction is a transaction of a producer, as the producer's requests name it.
type Transaction struct {
	ID         string // transactional.id
	ProducerID int64
	Epoch      int16
}

// Enlister asks transaction coordinators about partitions before the first batch of a transaction is appended to them (KIP-890).
type Enlister interface {
	// Enlist returns, for each partition, nil if it is part of t: it was added before, or add is set, and it is added now. The errors wrap
	// the kerr error of the coordinator, or kerr.CoordinatorNotAvailable and others that clients retry where it does not answer. Any
	// goroutine may call it; it returns when ctx ends, at the latest.
	Enlist(ctx context.Context, t Transaction, add bool, partitions []ident.TopicPartition) []error
}

// Enlist has producers' transactions verified by e. Call it before Start.
func (m *Manager) Enlist(e Enlister) { m.enlister = e }

// addsPartitions is the version of Produce from which it adds partitions to a transaction by itself (KIP-890, transaction.version 2).
const addsPartitions = 12

// enlisted is what has been found out about a partition of a Produce request before its batch is appended.
type enlisted struct {
	guard *storage.Guard
	err   error // instead of an append
	epoch int32 // in which this node leads the partition
}

// enlist asks the coordinator about the partitions of a Produce request where its batches may begin a transaction. The result is by
// the indexes of topic and partition, and has none for partitions that need no question, or that denied says are not to be written.
func (m *Manager) enlist(ctx *wire.Request, req *kmsg.ProduceRequest, denied denials, now time.Time) map[[2]int]enlisted {
	if req.TransactionID == nil {
		return nil
	}
	out := map[[2]int]enlisted{}
	var t Transaction
	var asked []ident.TopicPartition
	var of [][2]int
	failAll := func(err error) map[[2]int]enlisted {
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				out[[2]int{i, j}] = enlisted{err: err}
			}
		}
		return out
	}
	adds := ctx.Version >= addsPartitions
	verifies := m.meta.Settings().VerifyTransactions
	for i := range req.Topics {
		if denied.of(i) != nil {
			continue
		}
		for j := range req.Topics[i].Partitions {
			in := &req.Topics[i].Partitions[j]
			b, err := checkProduced(ctx.Version, req, in.Records)
			if err != nil || b == nil || !b.IsTransactional() {
				continue // its append says why, or is of no transaction
			}
			if len(t.ID) > 0 && (t.ProducerID != b.ProducerID() || t.Epoch != b.ProducerEpoch()) {
				return failAll(fmt.Errorf("Transactional records of more than one producer in a request: %w", kerr.InvalidProducerIDMapping))
			}
			t = Transaction{*req.TransactionID, b.ProducerID(), b.ProducerEpoch()}
			at := [2]int{i, j}
			p, err := m.find(ctx.Version >= 13, req.Topics[i].Topic, req.Topics[i].TopicID, in.Partition)
			if err != nil {
				out[at] = enlisted{err: err} // also if this node leads it by the time of the append
				continue
			}
			if image.IsInternal(p.topic) {
				continue
			}
			l, err := p.lead(-1)
			if err != nil {
				out[at] = enlisted{err: err}
				continue
			}
			guard, err := p.Guard(t.ProducerID, t.Epoch, b.BaseSequence(), adds, now)
			switch {
			case err != nil:
				out[at] = enlisted{err: err, epoch: l.epoch}
			case guard != nil && !adds && !verifies:
				out[at] = enlisted{guard: storage.Unguarded, epoch: l.epoch}
			case guard != nil:
				out[at] = enlisted{guard: guard, epoch: l.epoch}
				asked, of = append(asked, ident.TopicPartition{Topic: p.topic, Partition: p.n}), append(of, at)
			}
		}
	}
	if len(asked) == 0 {
		return out
	}
	if m.enlister == nil {
		return failAll(kerr.CoordinatorNotAvailable)
	}
	for i, err := range m.enlister.Enlist(ctx.Context(), t, adds, asked) {
		if err != nil {
			at := out[of[i]]
			at.err = forProducers(ctx.Version, adds, err)
			out[of[i]] = at
		}
	}
	return out
}

// forProducers turns the coordinator's error about a partition into that of Produce in a version (Kafka's ReplicaManager).
func forProducers(version int16, adds bool, err error) error {
	is := func(k *kerr.Error) bool { return errors.Is(err, k) }
	switch {
	case is(kerr.ProducerFenced):
		return fmt.Errorf("%v: %w", err, kerr.InvalidProducerEpoch)
	case is(kerr.InvalidTxnState), is(kerr.TransactionAbortable) && version < 11:
		return fmt.Errorf("Partition was not added to the transaction: %w", kerr.InvalidTxnState)
	case is(kerr.TransactionAbortable), is(kerr.InvalidProducerIDMapping), is(kerr.InvalidProducerEpoch), is(kerr.ConcurrentTransactions) && adds, is(kerr.InvalidRequest):
		return err
	}
	// NOT_ENOUGH_REPLICAS is one that every client retries.
	return fmt.Errorf("Unable to verify the partition has been added to the transaction. Underlying error: %v: %w", err, kerr.NotEnoughReplicas)
}

// Guard is storage's Log.Guard of the partition's log.
func (p *Partition) Guard(producerID int64, epoch int16, sequence int32, adds bool, now time.Time) (g *storage.Guard, err error) {
	err = p.onLog(func(log *storage.Log) (err error) {
		g, err = log.Guard(producerID, epoch, sequence, adds, now)
		return err
	})
	return g, err
}

// AppendMarkers appends markers of transactions. errs has the error of each, which wraps a kerr error; err is that of all. wait returns when
// they are committed, with kerr.RequestTimedOut when ctx ends before. Any goroutine may call it.
func (p *Partition) AppendMarkers(markers []storage.Marker, now time.Time) (errs []error, wait func(ctx context.Context) error, err error) {
	log, a, epoch, errs, err := p.appendMarkers(markers, now)
	if err != nil {
		return nil, nil, err
	}
	p.advance(a.Size)
	return errs, func(ctx context.Context) error {
		if err := p.synced(log, a.Last+1); err != nil {
			return err
		}
		return p.Committed(ctx, epoch, a.Last+1, nil)
	}, nil
}

func (p *Partition) appendMarkers(markers []storage.Marker, now time.Time) (log *storage.Log, a storage.Appended, epoch int32, errs []error, err error) {
	l, err := p.enterToWrite(-1)
	if err != nil {
		return nil, a, 0, nil, err
	}
	defer p.role.RUnlock()
	err = p.onLog(func(on *storage.Log) (err error) {
		log = on
		a, errs, err = on.AppendMarkers(markers, l.epoch, now)
		return err
	})
	if err == nil {
		p.stats.BytesIn.Add(int64(a.Size))
	}
	return log, a, l.epoch, errs, err
}

// AppendMarkerInternal appends a marker to an internal topic's partition as the coordinator of a leader epoch. It returns the offset behind it.
func (p *Partition) AppendMarkerInternal(m storage.Marker, epoch int32, now time.Time) (end int64, err error) {
	if err := p.enterInternal(epoch); err != nil {
		return 0, err
	}
	a, err := p.markInternal(m, epoch, now)
	if err == nil {
		p.advance(a.Size)
	}
	return a.Last + 1, err
}

// markInternal releases role, which the caller has read-locked.
func (p *Partition) markInternal(m storage.Marker, epoch int32, now time.Time) (a storage.Appended, err error) {
	defer p.role.RUnlock()
	err = p.onLog(func(log *storage.Log) error {
		var errs []error
		a, errs, err = log.AppendMarkers([]storage.Marker{m}, epoch, now)
		if err == nil {
			err = errs[0]
		}
		return err
	})
	return a, err
}
