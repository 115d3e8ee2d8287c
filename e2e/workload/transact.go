package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// TransactTopic, of so many partitions, is written by transactional clients alone.
const (
	TransactTopic      = "exactly"
	TransactPartitions = 3
)

const (
	transactTimeout = 4 * time.Second // of a transaction
)

// CreateTransact makes the topic of transactional clients.
func (w *Workload) CreateTransact(ctx context.Context, replicas int16) error {
	cl, err := w.Client(249)
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		_, err := kadm.NewClient(cl).CreateTopic(ctx, TransactPartitions, replicas, nil, TransactTopic)
		if err == nil || errors.Is(err, kerr.TopicAlreadyExists) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("create topic %s: %w", TransactTopic, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// transactor is a client with a transactional id. It comes back in a new life after each error, and sometimes while the one before still
// works.
type transactor struct {
	work  *Workload
	log   *Transactions
	name  string
	i     int
	rng   *rand.Rand
	topic [16]byte // id of TransactTopic, once it is known
	old   bool     // it makes transactions as clients did before transaction.version 2
	n     int      // transactions
	end   context.Context

	zombies sync.WaitGroup // earlier lives that still work
}

// Transact makes transactions until the workload stops: some are committed, some aborted, some time out, some are left to the next life of
// the client, which fences the one before. Each writes to several partitions; some read, and some commit an offset. end ends its last
// requests.
func (w *Workload) Transact(end context.Context, i int, log *Transactions, rng *rand.Rand) error {
	t := &transactor{work: w, log: log, name: fmt.Sprintf("transactor-%d", i), i: i, rng: rng, old: rng.IntN(2) == 0, end: end}
	for w.Context.Err() == nil {
		if err := t.live(); err != nil {
			w.History.Note(t.name, fmt.Sprintf("life ends: %v", err))
		}
		w.pause(300*time.Millisecond, rng)
	}
	t.zombies.Wait()
	return nil
}

// requestPatience bounds each step of a transaction.
const requestPatience = 10 * time.Second

func (t *transactor) client(opts ...kgo.Opt) (*kgo.Client, error) {
	if t.old {
		opts = append(opts, kgo.MaxVersions(kversion.V3_9_0()))
	}
	return t.work.Client(t.i, opts...)
}

// live is one life of the client: it ends with the first error, or by chance with an open transaction, which goes on as a zombie.
func (t *transactor) live() error {
	cl, err := t.client(kgo.TransactionalID(t.name), kgo.TransactionTimeout(transactTimeout), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(time.Millisecond), kgo.ProduceRequestTimeout(5*time.Second), kgo.RecordDeliveryTimeout(requestPatience))
	if err != nil {
		return err
	}
	reader, err := t.client(kgo.ConsumePartitions(everyTransact(kgo.NewOffset().AtStart())), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(200*time.Millisecond))
	if err != nil {
		cl.Close()
		return err
	}
	defer reader.Close()
	for t.topic == [16]byte{} {
		topics, err := kadm.NewClient(reader).ListTopics(t.work.Context, TransactTopic)
		if err != nil || topics[TransactTopic].Err != nil {
			cl.Close()
			return errors.Join(err, topics[TransactTopic].Err)
		}
		t.topic = topics[TransactTopic].ID
	}
	for t.work.Context.Err() == nil {
		x := t.log.Begin(t.name, fmt.Sprintf("%s.%d", t.name, t.n))
		t.n++
		fate := t.rng.IntN(20)
		if fate == 0 {
			number := t.n // before the next life counts on
			t.work.History.Note(t.name, x.Name+" goes on as a zombie")
			rng := rand.New(rand.NewPCG(t.rng.Uint64(), 1))
			t.zombies.Go(func() {
				defer cl.Close()
				late, cancel := context.WithTimeout(t.end, 2*requestPatience)
				defer cancel()
				if err := t.write(late, cl, x, number, rng); err != nil {
					return
				}
				t.work.pause(2*time.Second, rng)
				if rng.IntN(2) == 0 || t.write(late, cl, x, number, rng) == nil {
					_ = t.finish(late, cl, x, true)
				}
			})
			return errors.New("its next life begins")
		}
		err := t.one(cl, reader, x, fate)
		if err != nil {
			cl.Close()
			return err
		}
		t.work.pause(100*time.Millisecond, t.rng)
	}
	cl.Close()
	return nil
}

func everyTransact(o kgo.Offset) map[string]map[int32]kgo.Offset {
	all := map[int32]kgo.Offset{}
	for n := range int32(TransactPartitions) {
		all[n] = o
	}
	return map[string]map[int32]kgo.Offset{TransactTopic: all}
}

// one is a transaction from begin to end.
func (t *transactor) one(cl, reader *kgo.Client, x *Txn, fate int) error {
	ctx, cancel := context.WithTimeout(t.end, 3*requestPatience)
	defer cancel()
	if err := t.write(ctx, cl, x, t.n, t.rng); err != nil {
		return err
	}
	if t.rng.IntN(2) == 0 {
		polling, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		reader.PollFetches(polling).EachRecord(func(r *kgo.Record) {
			t.log.reads(x, Partition{r.Topic, r.Partition}, r.Offset, string(r.Value))
		})
		cancel()
	}
	if t.rng.IntN(3) == 0 {
		if err := t.commitOffset(ctx, cl, x, int64(t.n)); err != nil {
			return err
		}
	}
	if fate == 1 {
		t.work.pause(2*transactTimeout, t.rng) // it may time out
	}
	return t.finish(ctx, cl, x, fate > 5)
}

// write begins the transaction if it has not, and writes to some partitions. It returns when all is acknowledged.
func (t *transactor) write(ctx context.Context, cl *kgo.Client, x *Txn, number int, rng *rand.Rand) error {
	if len(x.Writes) == 0 {
		if err := cl.BeginTransaction(); err != nil {
			return err
		}
	}
	var failure error
	done := make(chan error, 8)
	count := 1 + rng.IntN(4)
	for k := range count {
		p := Partition{TransactTopic, rng.Int32N(TransactPartitions)}
		value := fmt.Sprintf("%s.%d.%d.%d", x.Name, number, k, len(x.Writes))
		t.log.writes(x, value, p)
		cl.Produce(ctx, &kgo.Record{Topic: p.Topic, Partition: p.N, Value: []byte(value)}, func(r *kgo.Record, err error) {
			if err == nil {
				t.log.acked(x, value, r.Offset)
			}
			done <- err
		})
	}
	for range count {
		failure = errors.Join(failure, <-done)
	}
	return failure
}

// commitOffset commits an offset of the client's own group as part of the transaction.
func (t *transactor) commitOffset(ctx context.Context, cl *kgo.Client, x *Txn, offset int64) error {
	id, epoch, err := cl.ProducerID(ctx)
	if err != nil {
		return err
	}
	t.log.commits(x, offset)
	if t.old {
		add := kmsg.NewPtrAddOffsetsToTxnRequest()
		add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = t.name, id, epoch, t.name
		resp, err := add.RequestWith(ctx, cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err != nil {
			return err
		}
	}
	for {
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group, req.Generation = t.name, id, epoch, t.name, -1
		rt := kmsg.NewTxnOffsetCommitRequestTopic()
		rt.Topic, rt.TopicID = TransactTopic, t.topic
		rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		rp.Offset = offset
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		resp, err := req.RequestWith(ctx, cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
		}
		if err == nil || !kerr.IsRetriable(err) && !errors.Is(err, kerr.ConcurrentTransactions) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// finish ends a transaction, and notes its outcome.
func (t *transactor) finish(ctx context.Context, cl *kgo.Client, x *Txn, commit bool) error {
	err := cl.EndTransaction(ctx, kgo.TransactionEndTry(commit))
	if err != nil {
		return err
	}
	o := aborted
	if commit {
		o = committed
	}
	t.log.ends(x, o)
	t.work.History.Say("%s is %v", x.Name, o)
	return nil
}

// ReadTransact consumes the committed records of the transactional clients' topic until the workload stops. Offsets never go back; the checker
// finds records that the consumer read and that cannot be read in the end.
func (w *Workload) ReadTransact(i int, log *Transactions) error {
	cl, err := w.Client(i, kgo.ConsumePartitions(everyTransact(kgo.NewOffset().AtStart())), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	next := map[Partition]int64{}
	for w.Context.Err() == nil {
		cl.PollFetches(w.Context).EachRecord(func(r *kgo.Record) {
			p := Partition{r.Topic, r.Partition}
			if r.Offset < next[p] {
				log.fault("backward poll: %v/%d after %d", p, r.Offset, next[p]-1)
			}
			next[p] = r.Offset + 1
			log.sees(p, r.Offset, string(r.Value))
		})
	}
	return nil
}

// CheckTransact waits until all transactions have ended, reads what there is in the end, and checks the history. patience bounds the wait: a
// last stable offset that stands still for longer is wrong.
func (w *Workload) CheckTransact(ctx context.Context, clients []int, log *Transactions, patience time.Duration) error {
	cl, err := w.Client(248)
	if err != nil {
		return err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	var ends kadm.ListedOffsets
	for begun := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		var stable kadm.ListedOffsets
		if ends, err = admin.ListEndOffsets(ctx, TransactTopic); err == nil {
			stable, err = admin.ListCommittedOffsets(ctx, TransactTopic)
		}
		still := ""
		if err == nil {
			ends.Each(func(o kadm.ListedOffset) {
				if s, ok := stable.Lookup(o.Topic, o.Partition); !ok || s.Err != nil || o.Err != nil || s.Offset != o.Offset {
					still = fmt.Sprintf("%s-%d ends at %d and is stable to %d (%v, %v)", o.Topic, o.Partition, o.Offset, s.Offset, o.Err, s.Err)
				}
			})
		}
		if err == nil && still == "" {
			break
		}
		if time.Since(begun) > patience {
			w.History.Wrong("last stable offset stands still", "%s, %v; %v after the last client", still, err, patience)
			return nil
		}
	}
	last := Last{Records: map[Partition]map[int64]string{}, Offsets: map[string]int64{}}
	if err := w.readCommitted(ctx, ends, last.Records); err != nil {
		return err
	}
	for _, i := range clients {
		name := fmt.Sprintf("transactor-%d", i)
		offset, err := w.stableOffset(ctx, cl, name)
		if err != nil {
			return err
		}
		last.Offsets[name] = offset
	}
	for _, wrong := range log.Check(last) {
		w.History.Wrong("transactions", "%s", wrong)
	}
	return nil
}

// readCommitted reads all partitions up to their ends.
func (w *Workload) readCommitted(ctx context.Context, ends kadm.ListedOffsets, into map[Partition]map[int64]string) error {
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		into[Partition{o.Topic, o.Partition}] = map[int64]string{}
		left[o.Partition] = o.Offset
	})
	for n, end := range left {
		offset := int64(0)
		cl, err := w.Client(247, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{TransactTopic: {n: kgo.NewOffset().At(0)}}), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond), kgo.KeepControlRecords())
		if err != nil {
			return err
		}
		for offset < end && ctx.Err() == nil {
			idle := true
			cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				idle = false
				offset = r.Offset + 1
				if !r.Attrs.IsControl() {
					into[Partition{r.Topic, r.Partition}][r.Offset] = string(r.Value)
				}
			})
			if idle {
				time.Sleep(10 * time.Millisecond)
			}
		}
		cl.Close()
		if offset < end {
			return fmt.Errorf("%s-%d cannot be read behind %d, and ends at %d: %w", TransactTopic, n, offset, end, ctx.Err())
		}
	}
	return nil
}

// stableOffset asks for a group's offset until no transaction may change it.
func (w *Workload) stableOffset(ctx context.Context, cl *kgo.Client, group string) (int64, error) {
	for {
		req := kmsg.NewPtrOffsetFetchRequest()
		req.RequireStable = true
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = group
		rt := kmsg.NewOffsetFetchRequestGroupTopic()
		rt.Topic, rt.Partitions = TransactTopic, []int32{0}
		g.Topics = append(g.Topics, rt)
		req.Groups = append(req.Groups, g)
		shards := cl.RequestSharded(ctx, req)
		if len(shards) == 1 && shards[0].Err == nil {
			groups := shards[0].Resp.(*kmsg.OffsetFetchResponse).Groups
			if len(groups) == 1 && groups[0].ErrorCode == 0 && len(groups[0].Topics) == 1 {
				for _, t := range groups[0].Topics {
					if p := t.Partitions[0]; p.ErrorCode == 0 {
						return p.Offset, nil
					}
				}
			}
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("offset of group %s: %w", group, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}
