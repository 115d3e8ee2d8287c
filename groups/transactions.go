package groups

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
	"kraft/groups/transaction"
	"kraft/raftmeta"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/replication"
	"kraft/wire"
	"kraft/wire/acl"
	"kraft/wire/ident"
)

const transactionsTopic = "__transaction_state"

// transactions holds the coordinators of the partitions of __transaction_state that this node leads, and asks those of other nodes. Its
// methods may be called from any goroutine.
type transactions struct {
	groups  *Manager
	meta    *raftmeta.Meta
	log     zerolog.Logger
	host    *runtime.Host[*transaction.Coordinator]
	topic   *internalTopic
	peers   *peers // for questions about transactions
	writers *peers // for markers, which wait for no question
	markers *markers

	loads  atomic.Int64    // numbers for transaction.Config.Load
	ctx    context.Context // ends with close
	cancel context.CancelFunc
	asks   sync.WaitGroup // goroutines that events began
}

func newTransactions(m *Manager, dial wire.Dialer, interBroker string) *transactions {
	t := &transactions{groups: m, meta: m.meta, log: m.log, peers: newPeers(m.meta, dial, interBroker), writers: newPeers(m.meta, dial, interBroker)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.topic = &internalTopic{meta: m.meta, broker: m.broker, log: m.log, name: transactionsTopic, serves: "transactions", settings: func(s *raftmeta.Settings, c map[string]*string) controller.Defaults {
		c["segment.bytes"], c["min.insync.replicas"] = text(s.TransactionSegment), text(s.TransactionMinISR)
		return m.meta.TransactionTopicDefaults()
	}}
	t.markers = newMarkers(t)
	t.host = runtime.NewHost(func() *transaction.Coordinator { return transaction.New(t.config()) }, t.event)
	m.parts.Watch(transactionsTopic, t)
	m.parts.Enlist(t)
	return t
}

func (t *transactions) config() transaction.Config {
	s := t.meta.Settings()
	return transaction.Config{MaxTimeout: s.TransactionMaxTimeout, TwoPhase: s.TransactionTwoPhase, TimeoutCheck: s.TransactionTimeoutCheck, Expiry: s.TransactionalIDExpiry, ExpiryCheck: s.TransactionalIDCheck,
		Load: t.loads.Add(1), Level: func() int16 { return t.meta.Image().Features[controller.TransactionVersion] }}
}

// registerHandlers adds the APIs of transactions to r.
func (t *transactions) registerHandlers(r *wire.Registry) {
	wire.Handle(r, 0, r.Newest(5, 6), t.initProducerID)
	wire.Handle(r, 0, 5, t.addPartitions)
	wire.Handle(r, 0, 4, t.addOffsets)
	wire.Handle(r, 0, 5, t.endTxn)
	wire.Handle(r, 0, 2, t.writeTxnMarkers)
	wire.Handle(r, 0, 0, t.describe)
	wire.Handle(r, 0, 2, t.list)
}

// Lead implements replication.Watcher.
func (t *transactions) Lead(p *replication.Partition, epoch int32) {
	t.host.Lead(p.Number(), partitionLog{p}, epoch, t.log.With().Str("partition", p.String()).Logger())
}

// Resign implements replication.Watcher.
func (t *transactions) Resign(n int32) {
	t.host.Resign(n)
	t.markers.forget(n)
}

func (t *transactions) close() {
	t.host.Close()
	t.cancel()
	t.markers.close()
	t.asks.Wait()
	t.peers.close()
	t.writers.close()
}

// event handles an event of a coordinator. Its loop calls it.
func (t *transactions) event(n, epoch int32, event any) {
	switch e := event.(type) {
	case transaction.Decision:
		t.markers.deliver(n, epoch, e)
	case transaction.NeedsProducerID:
		t.asks.Go(func() {
			fresh, err := t.freshID(t.ctx)
			l, lost := t.host.Of(n)
			if err != nil || lost != nil {
				return // the next sweep asks again
			}
			l.Tell(func(c *transaction.Coordinator, call runtime.Call) runtime.Effects {
				return c.TimeOut(call, e.ID, fresh)
			})
		})
	}
}

// coordinatorPatience is how long a request waits for a transaction coordinator. Its records may not be committed for as long as too few
// replicas are in sync. Clients try again after COORDINATOR_NOT_AVAILABLE.
const coordinatorPatience = 5 * time.Second

// askTransaction runs op on the coordinator of a transactional id, which must be on this node.
func askTransaction[R any](ctx context.Context, t *transactions, id string, op func(*transaction.Coordinator, runtime.Call) runtime.Effects) (R, error) {
	var none R
	n, err := t.topic.partition(id)
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeout(ctx, coordinatorPatience)
	defer cancel()
	r, err := runtime.AskOf[R](ctx, t.host, n, false, op)
	if errors.Is(err, context.DeadlineExceeded) {
		return none, fmt.Errorf("the coordinator's records are not committed after %v: %w", coordinatorPatience, kerr.CoordinatorNotAvailable)
	}
	return r, err
}

// given runs op, again with an unused producer id if op asks for one.
func (t *transactions) given(ctx context.Context, id string, op func(*transaction.Coordinator, runtime.Call, int64) runtime.Effects) transaction.Given {
	fresh := int64(-1)
	for {
		g, err := askTransaction[transaction.Given](ctx, t, id, func(c *transaction.Coordinator, call runtime.Call) runtime.Effects { return op(c, call, fresh) })
		if err == nil && g.NeedsID && fresh < 0 {
			if fresh, err = t.freshID(ctx); err == nil {
				continue
			}
		}
		if err != nil {
			g = transaction.Given{Err: err}
		}
		return g
	}
}

// producerIDPatience is how long a producer waits here for the controller: another broker may reach it.
const producerIDPatience = time.Second

// freshID allocates a producer id, or returns kerr.CoordinatorLoadInProgress, on which clients try again.
func (t *transactions) freshID(ctx context.Context) (int64, error) {
	waiting, cancel := context.WithTimeout(ctx, producerIDPatience)
	defer cancel()
	id, err := t.groups.broker.NextProducerID(waiting)
	if err != nil {
		t.log.Debug().Err(err).Msg("no producer id") // the heartbeats tell, too
		return 0, fmt.Errorf("no producer id: %v: %w", err, kerr.CoordinatorLoadInProgress)
	}
	return id, nil
}

// initProducerID answers InitProducerId. An idempotent producer gets a new producer id for each request. A transactional producer gets the id of
// its transactional id, and its predecessor is fenced (KIP-98, KIP-360). Version 6 is served where unstable versions are (KIP-939): as Apache Kafka 4.4, kraft has
// transactions without a timeout, and none yet that outlive their producer.
func (t *transactions) initProducerID(ctx *wire.Request, req *wire.InitProducerIDRequest) (*wire.InitProducerIDResponse, error) {
	resp := &wire.InitProducerIDResponse{OngoingProducerID: -1, OngoingProducerEpoch: -1}
	g := transaction.Given{Err: authorizeInit(ctx, req)}
	switch {
	case g.Err != nil:
	case (req.ProducerID == -1) != (req.ProducerEpoch == -1): // a producer that has an id has an epoch
		g.Err = kerr.InvalidRequest
	case req.TransactionalID == nil:
		g.ProducerID, g.Err = t.freshID(ctx.Context())
	default:
		r := transaction.Init{ID: *req.TransactionalID, Timeout: req.TransactionTimeoutMillis, ProducerID: req.ProducerID, Epoch: req.ProducerEpoch, Enable2PC: req.Enable2PC, KeepPrepared: req.KeepPreparedTxn}
		if r, g.Err = t.config().Check(r); g.Err != nil {
			break
		}
		g = t.given(ctx.Context(), r.ID, func(c *transaction.Coordinator, call runtime.Call, fresh int64) runtime.Effects {
			return c.Init(call, r, fresh)
		})
	}
	resp.ErrorCode = fencedCode(g.Err, ctx.Version < 4)
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	if g.Err == nil {
		resp.ProducerID, resp.ProducerEpoch = g.ProducerID, g.Epoch
	}
	return resp, nil
}

// authorizeInit returns why a producer may not have an id.
func authorizeInit(ctx *wire.Request, req *wire.InitProducerIDRequest) error {
	if req.TransactionalID == nil {
		if ctx.HoldsCluster(acl.IdempotentWrite) || ctx.HoldsAny(acl.Write, acl.Topic) {
			return nil
		}
		return ctx.MayCluster(acl.IdempotentWrite)
	}
	if err := ctx.May(acl.Write, acl.TransactionalID, *req.TransactionalID); err != nil || !req.Enable2PC {
		return err
	}
	return ctx.May(acl.TwoPhaseCommit, acl.TransactionalID, *req.TransactionalID)
}

// fencedCode is the code of err; old clients know INVALID_PRODUCER_EPOCH in place of PRODUCER_FENCED.
func fencedCode(err error, old bool) int16 {
	code := wire.ErrorCode(err)
	if old && code == kerr.ProducerFenced.Code {
		return kerr.InvalidProducerEpoch.Code
	}
	return code
}

// endTxn commits or aborts a transaction (KIP-98), and raises the producer's epoch from version 5 on (KIP-890).
func (t *transactions) endTxn(ctx *wire.Request, req *kmsg.EndTxnRequest) (*kmsg.EndTxnResponse, error) {
	resp := kmsg.NewPtrEndTxnResponse()
	r := transaction.End{ID: req.TransactionalID, ProducerID: req.ProducerID, Epoch: req.ProducerEpoch, Commit: req.Commit, Bumps: ctx.Version >= 5}
	g := transaction.Given{Err: ctx.May(acl.Write, acl.TransactionalID, r.ID)}
	switch {
	case g.Err != nil:
	case r.ID == "":
		g.Err = kerr.InvalidRequest
	default:
		g = t.given(ctx.Context(), r.ID, func(c *transaction.Coordinator, call runtime.Call, fresh int64) runtime.Effects {
			return c.End(call, r, fresh)
		})
	}
	resp.ErrorCode = fencedCode(g.Err, ctx.Version < 2)
	if g.Err == nil {
		resp.ProducerID, resp.ProducerEpoch = g.ProducerID, g.Epoch
	}
	return resp, nil
}

// addsAsBroker is the version of AddPartitionsToTxn from which brokers send it, for many transactions at once (KIP-890).
const addsAsBroker = 4

// addPartitions adds partitions to transactions, or verifies that they are part of them.
func (t *transactions) addPartitions(ctx *wire.Request, req *kmsg.AddPartitionsToTxnRequest) (*kmsg.AddPartitionsToTxnResponse, error) {
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	if ctx.Version < addsAsBroker {
		topics := make([]kmsg.AddPartitionsToTxnRequestTransactionTopic, len(req.Topics))
		for i, topic := range req.Topics {
			topics[i] = kmsg.AddPartitionsToTxnRequestTransactionTopic{Topic: topic.Topic, Partitions: topic.Partitions}
		}
		tx := kmsg.AddPartitionsToTxnRequestTransaction{TransactionalID: req.TransactionalID, ProducerID: req.ProducerID, ProducerEpoch: req.ProducerEpoch, Topics: topics}
		for _, out := range t.addTo(ctx, &tx).Topics {
			o := kmsg.AddPartitionsToTxnResponseTopic{Topic: out.Topic}
			for _, p := range out.Partitions {
				o.Partitions = append(o.Partitions, kmsg.AddPartitionsToTxnResponseTopicPartition(p))
			}
			resp.Topics = append(resp.Topics, o)
		}
		return resp, nil
	}
	if err := ctx.MayCluster(acl.ClusterAction); err != nil {
		resp.ErrorCode = wire.ErrorCode(err)
		return resp, nil
	}
	for i := range req.Transactions {
		resp.Transactions = append(resp.Transactions, t.addTo(ctx, &req.Transactions[i]))
	}
	return resp, nil
}

func (t *transactions) addTo(ctx *wire.Request, tx *kmsg.AddPartitionsToTxnRequestTransaction) kmsg.AddPartitionsToTxnResponseTransaction {
	r := transaction.Add{ID: tx.TransactionalID, ProducerID: tx.ProducerID, Epoch: tx.ProducerEpoch, Verify: tx.VerifyOnly}
	if ctx.Version >= addsAsBroker {
		r.Version = 2
	} else {
		r.Wait = true // other requests of the connection are the same client's
	}
	img := t.meta.Image()
	var known []error
	refused := false
	client := ctx.Version < addsAsBroker
	var all error // of all partitions
	if client {
		all = ctx.May(acl.Write, acl.TransactionalID, tx.TransactionalID)
	}
	for _, topic := range tx.Topics {
		in, ok := img.Topic(topic.Topic)
		var denied error
		switch {
		case client && all == nil && image.IsInternal(topic.Topic):
			denied = kerr.TopicAuthorizationFailed // clients add them by AddOffsetsToTxn
		case client && all == nil:
			denied = ctx.May(acl.Write, acl.Topic, topic.Topic)
		}
		for _, n := range topic.Partitions {
			r.Partitions = append(r.Partitions, ident.TopicPartition{Topic: topic.Topic, Partition: n})
			var err error
			switch {
			case all != nil:
				err = all
			case denied != nil:
				err = denied
			case !ok || !has(in, n):
				err = kerr.UnknownTopicOrPartition
			}
			refused = refused || err != nil
			known = append(known, err)
		}
	}
	errs := known
	if refused {
		for i := range errs {
			if errs[i] == nil {
				errs[i] = kerr.OperationNotAttempted
			}
		}
	} else {
		errs = t.add(ctx.Context(), r)
	}
	out := kmsg.NewAddPartitionsToTxnResponseTransaction()
	out.TransactionalID = tx.TransactionalID
	i := 0
	for _, topic := range tx.Topics {
		o := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
		o.Topic = topic.Topic
		for _, n := range topic.Partitions {
			p := kmsg.NewAddPartitionsToTxnResponseTransactionTopicPartition()
			p.Partition, p.ErrorCode = n, fencedCode(errs[i], ctx.Version < 2)
			o.Partitions = append(o.Partitions, p)
			i++
		}
		out.Topics = append(out.Topics, o)
	}
	return out
}

// add runs r on its coordinator, which must be on this node.
func (t *transactions) add(ctx context.Context, r transaction.Add) []error {
	err := error(kerr.InvalidRequest)
	if r.ID != "" {
		var errs []error
		if errs, err = askTransaction[[]error](ctx, t, r.ID, func(c *transaction.Coordinator, call runtime.Call) runtime.Effects { return c.Add(call, r) }); err == nil {
			return errs
		}
	}
	return slices.Repeat([]error{err}, len(r.Partitions))
}

// addOffsets adds the partition of a group's offsets to a transaction.
func (t *transactions) addOffsets(ctx *wire.Request, req *kmsg.AddOffsetsToTxnRequest) (*kmsg.AddOffsetsToTxnResponse, error) {
	resp := kmsg.NewPtrAddOffsetsToTxnResponse()
	denied := ctx.May(acl.Write, acl.TransactionalID, req.TransactionalID)
	if denied == nil {
		denied = ctx.May(acl.Read, acl.Group, req.Group)
	}
	if denied != nil {
		resp.ErrorCode = wire.ErrorCode(denied)
		return resp, nil
	}
	topic, err := t.groups.topic.ensure(ctx.Context())
	if err != nil {
		t.groups.topic.logUnavailable(err)
		resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
		return resp, nil
	}
	tp := ident.TopicPartition{Topic: offsetsTopic, Partition: partitionFor(req.Group, int32(len(topic.Partitions)))}
	errs := t.add(ctx.Context(), transaction.Add{ID: req.TransactionalID, ProducerID: req.ProducerID, Epoch: req.ProducerEpoch, Partitions: []ident.TopicPartition{tp}})
	resp.ErrorCode = fencedCode(errs[0], ctx.Version < 2)
	return resp, nil
}

// Enlist implements replication.Enlister.
func (t *transactions) Enlist(ctx context.Context, tx replication.Transaction, add bool, partitions []ident.TopicPartition) []error {
	failAll := func(err error) []error { return slices.Repeat([]error{err}, len(partitions)) }
	b, err := t.topic.leader(tx.ID)
	if err != nil {
		return failAll(err)
	}
	if b.ID == t.meta.NodeID() {
		r := transaction.Add{ID: tx.ID, ProducerID: tx.ProducerID, Epoch: tx.Epoch, Partitions: partitions, Verify: !add, Version: 2, Wait: true}
		return t.add(ctx, r)
	}
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	x := kmsg.NewAddPartitionsToTxnRequestTransaction()
	x.TransactionalID, x.ProducerID, x.ProducerEpoch, x.VerifyOnly = tx.ID, tx.ProducerID, tx.Epoch, !add
	at := map[ident.TopicPartition]int{}
	for i, tp := range partitions {
		at[tp] = i
		if n := len(x.Topics); n == 0 || x.Topics[n-1].Topic != tp.Topic {
			x.Topics = append(x.Topics, kmsg.AddPartitionsToTxnRequestTransactionTopic{Topic: tp.Topic})
		}
		t := &x.Topics[len(x.Topics)-1]
		t.Partitions = append(t.Partitions, tp.Partition)
	}
	req.Transactions = append(req.Transactions, x)
	begun := time.Now()
	for pause := firstAddPause; ; pause *= 2 {
		errs := failAll(kerr.CoordinatorNotAvailable) // what the answer leaves out
		answer, err := t.peers.ask(ctx, b.ID, req)
		if err != nil {
			return failAll(fmt.Errorf("coordinator %d: %v: %w", b.ID, err, kerr.CoordinatorNotAvailable))
		}
		resp := answer.(*kmsg.AddPartitionsToTxnResponse)
		if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
			return failAll(err)
		}
		fillAdded(errs, resp, tx.ID, at)
		if !add || !errors.Is(errs[0], kerr.ConcurrentTransactions) || time.Since(begun)+pause > transaction.HoldAdds {
			return errs
		}
		select {
		case <-ctx.Done():
			return errs
		case <-time.After(pause):
		}
	}
}

// firstAddPause is the time until a coordinator elsewhere is asked again for a transaction whose previous one is not complete; it doubles with
// each try, for transaction.HoldAdds in all. That coordinator does not hold the request, as it does its own clients': those of other
// transactions come by the same connection.
const firstAddPause = 2 * time.Millisecond

// fillAdded sets errs[at[tp]] to the response's error for each partition tp of a transactional id.
func fillAdded(errs []error, resp *kmsg.AddPartitionsToTxnResponse, id string, at map[ident.TopicPartition]int) {
	for _, x := range resp.Transactions {
		for _, topic := range x.Topics {
			for _, p := range topic.Partitions {
				if i, ok := at[ident.TopicPartition{Topic: topic.Topic, Partition: p.Partition}]; ok && x.TransactionalID == id {
					errs[i] = kerr.ErrorForCode(p.ErrorCode)
				}
			}
		}
	}
}
