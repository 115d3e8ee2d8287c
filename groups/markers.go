package groups

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/coordinator"
	"kraft/groups/runtime"
	"kraft/groups/transaction"
	"kraft/storage"
	"kraft/wire"
	"kraft/wire/acl"
	"kraft/wire/ident"
	"kraft/wire/locks"
)

// markers writes the markers of decided transactions to the leaders of their partitions, and tells the coordinator when all are written
// (Kafka's TransactionMarkerChannelManager). There is at most one request in flight to each broker; transactions that are decided
// meanwhile share the next one. Markers of partitions that this node leads need no request. Any goroutine may use it.
type markers struct {
	txns *transactions
	work sync.WaitGroup // goroutines that write

	mu     locks.Mutex             // guards the rest
	queues map[int32]*markerQueue  // by broker; noBroker's is of partitions without a leader
	under  map[delivered]*delivery // under way
	closed bool
}

// delivered names a decision. The same one comes again when a coordinator has loaded its partition again.
type delivered struct {
	id    string
	pid   int64
	epoch int16
}

// delivery is a decision whose markers are being written. The mutex of markers guards it.
type delivery struct {
	transaction.Decision
	partition, epoch int32 // of __transaction_state, with its leader epoch, which is the markers' coordinator epoch
	left             map[ident.TopicPartition]struct{}
}

// marking is one marker of a delivery.
type marking struct {
	*delivery
	at ident.TopicPartition
	// coordinatorEpoch is the delivery's, or a later one that the partition has seen in somebody else's marker.
	coordinatorEpoch int32
	tries            int // that have failed
}

// markerQueue is what waits for a broker. busy says that a goroutine empties it.
type markerQueue struct {
	waiting []marking
	busy    bool
}

func newMarkers(t *transactions) *markers {
	return &markers{txns: t, queues: map[int32]*markerQueue{}, under: map[delivered]*delivery{}}
}

// deliver has the markers of a decision written. A coordinator's loop calls it.
func (m *markers) deliver(partition, epoch int32, d transaction.Decision) {
	v := &delivery{Decision: d, partition: partition, epoch: epoch, left: make(map[ident.TopicPartition]struct{}, len(d.Partitions))}
	all := make([]marking, len(d.Partitions))
	for i, tp := range d.Partitions {
		v.left[tp] = struct{}{}
		all[i] = marking{delivery: v, at: tp, coordinatorEpoch: epoch}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.under[v.name()] = v // in place of that of an earlier load
	if len(all) == 0 {
		m.complete(v)
	}
	m.send(all)
}

func (v *delivery) name() delivered { return delivered{v.ID, v.ProducerID, v.Epoch} }

// current reports whether v is still to be written. mu is held.
func (m *markers) current(v *delivery) bool { return m.under[v.name()] == v }

// send queues markers by the leaders of their partitions. mu is held.
func (m *markers) send(all []marking) {
	img := m.txns.meta.Newest() // as new as the change that made this node the coordinator
	for _, k := range all {
		if !m.current(k.delivery) {
			continue
		}
		to, ok := leaderOf(img, k.at)
		if !ok { // deleted
			m.written(k)
			continue
		}
		q := m.queues[to]
		if q == nil {
			q = new(markerQueue)
			m.queues[to] = q
		}
		q.waiting = append(q.waiting, k)
		if !q.busy && !m.closed {
			q.busy = true
			m.work.Go(func() { m.drain(to, q) })
		}
	}
}

// written notes that a marker is written. mu is held.
func (m *markers) written(k marking) {
	delete(k.left, k.at)
	if len(k.left) == 0 && m.current(k.delivery) {
		m.complete(k.delivery)
	}
}

// complete tells the coordinator that all markers are written. mu is held.
func (m *markers) complete(v *delivery) {
	delete(m.under, v.name())
	if l, err := m.txns.host.Of(v.partition); err == nil {
		l.Tell(func(c *transaction.Coordinator, call runtime.Call) runtime.Effects {
			return c.Completed(call, v.Decision)
		})
	}
}

// forget drops the deliveries of a partition of __transaction_state that this node no longer coordinates. The next coordinator delivers them
// again.
func (m *markers) forget(partition int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, v := range m.under {
		if v.partition == partition {
			delete(m.under, name)
		}
	}
}

func (m *markers) close() {
	m.mu.Lock()
	m.closed = true
	m.under = map[delivered]*delivery{}
	m.mu.Unlock()
	done := make(chan struct{})
	go func() {
		m.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(closePatience): // a disk hangs
	}
}

// closePatience is how long a stop waits for the markers that are being written.
const closePatience = 2 * time.Second

const (
	// markerPause is the time until a marker is sent again that a broker did not write. It doubles with each try.
	markerPause = 20 * time.Millisecond
	// longestMarkerPause bounds it.
	longestMarkerPause = 500 * time.Millisecond
)

// drain writes what waits for a broker, until nothing does.
func (m *markers) drain(to int32, q *markerQueue) {
	for {
		m.mu.Lock()
		var batch []marking
		for _, k := range q.waiting {
			if m.current(k.delivery) {
				batch = append(batch, k)
			}
		}
		q.waiting = nil
		if len(batch) == 0 || m.closed {
			q.busy = false
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		var errs []error
		switch to {
		case noBroker:
			errs = slices.Repeat([]error{kerr.LeaderNotAvailable}, len(batch))
		case m.txns.meta.NodeID():
			errs = m.txns.writeHere(m.txns.ctx, localMarkers(batch))
		default:
			errs = m.request(to, batch)
		}
		settled := make([]bool, len(batch))
		for i := range batch {
			settled[i] = m.settled(&batch[i], errs[i], to)
		}
		again := map[time.Duration][]marking{}
		m.mu.Lock()
		for i, k := range batch {
			if settled[i] {
				m.written(k)
				continue
			}
			pause := min(markerPause<<min(k.tries, 5), longestMarkerPause)
			k.tries++
			again[pause] = append(again[pause], k)
		}
		for pause, list := range again {
			m.sendAfter(pause, list)
		}
		m.mu.Unlock()
	}
}

// sendAfter sends markers again after a pause; others to the same broker leave meanwhile. mu is held.
func (m *markers) sendAfter(pause time.Duration, list []marking) {
	if m.closed {
		return
	}
	m.work.Go(func() {
		select {
		case <-m.txns.ctx.Done():
			return
		case <-time.After(pause):
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.send(list)
	})
}

// settled reports whether a partition needs the marker no more. What is refused for its epoch is behind: the partition has seen the
// producer's next transaction, or a marker of that epoch from somebody else, and either ends the transaction there. A marker that is refused
// for its coordinator's epoch is sent again with the one that the partition knows, if this node is still the coordinator: an operator's marker
// had it (kafka-transactions abort --coordinator-epoch), and without that nobody would end the transaction.
func (m *markers) settled(k *marking, err error, leader int32) bool {
	switch {
	case err == nil, errors.Is(err, kerr.UnsupportedForMessageFormat), errors.Is(err, kerr.UnsupportedVersion):
		return true
	case errors.Is(err, kerr.InvalidProducerEpoch):
		m.txns.log.Warn().Str("transactional_id", k.ID).Str("partition", k.at.String()).Msg("a marker was refused: the partition has seen a newer epoch of its producer")
		return true
	case errors.Is(err, kerr.TransactionCoordinatorFenced):
		ctx, cancel := context.WithTimeout(m.txns.ctx, peerPatience)
		defer cancel()
		if seen := m.seen(ctx, leader, k); seen > k.coordinatorEpoch && m.coordinates(ctx, k.delivery) {
			m.txns.log.Warn().Str("transactional_id", k.ID).Str("partition", k.at.String()).Int32("seen", seen).Msg("a marker was refused: the partition has one of a later coordinator epoch, which this coordinator uses, too")
			k.coordinatorEpoch = seen
		}
	}
	return false
}

// coordinates reports whether this node is the coordinator of a delivery, by the active controller's word.
func (m *markers) coordinates(ctx context.Context, v *delivery) bool {
	p, err := m.txns.groups.parts.Partition(transactionsTopic, v.partition)
	return err == nil && m.txns.groups.parts.Leads(ctx, p, v.epoch)
}

// seen asks the partition's leader for the newest coordinator epoch of the producer; it is -1 if there is no answer.
func (m *markers) seen(ctx context.Context, leader int32, k *marking) int32 {
	req := kmsg.NewPtrDescribeProducersRequest()
	t := kmsg.NewDescribeProducersRequestTopic()
	t.Topic, t.Partitions = k.at.Topic, []int32{k.at.Partition}
	req.Topics = append(req.Topics, t)
	resp := kmsg.NewPtrDescribeProducersResponse()
	if leader == m.txns.meta.NodeID() {
		resp = m.txns.groups.parts.DescribeProducers(req)
	} else if answer, err := m.txns.peers.ask(ctx, leader, req); err == nil {
		resp = answer.(*kmsg.DescribeProducersResponse)
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			for _, producer := range p.ActiveProducers {
				if producer.ProducerID == k.ProducerID {
					return producer.CoordinatorEpoch
				}
			}
		}
	}
	return -1
}

// localMarkers are the markers of deliveries, for writeHere.
func localMarkers(batch []marking) []atPartition {
	out := make([]atPartition, len(batch))
	for i, k := range batch {
		out[i] = atPartition{k.at, storage.Marker{ProducerID: k.ProducerID, Epoch: k.Epoch, Commit: k.Commit, CoordinatorEpoch: k.coordinatorEpoch, Version: k.Version}}
	}
	return out
}

// request sends WriteTxnMarkers to a broker and returns an error for each marker.
func (m *markers) request(to int32, batch []marking) []error {
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	type same struct { // of a marker
		*delivery
		coordinatorEpoch int32
	}
	index := map[same]int{}
	at := map[int64]map[ident.TopicPartition][]int{}
	for i, k := range batch {
		n, ok := index[same{k.delivery, k.coordinatorEpoch}]
		if !ok {
			n = len(req.Markers)
			index[same{k.delivery, k.coordinatorEpoch}] = n
			w := kmsg.NewWriteTxnMarkersRequestMarker()
			w.ProducerID, w.ProducerEpoch, w.Committed, w.CoordinatorEpoch, w.TransactionVersion = k.ProducerID, k.Epoch, k.Commit, k.coordinatorEpoch, int8(k.Version)
			req.Markers = append(req.Markers, w)
		}
		w := &req.Markers[n]
		if last := len(w.Topics); last == 0 || w.Topics[last-1].Topic != k.at.Topic {
			w.Topics = append(w.Topics, kmsg.WriteTxnMarkersRequestMarkerTopic{Topic: k.at.Topic})
		}
		t := &w.Topics[len(w.Topics)-1]
		t.Partitions = append(t.Partitions, k.at.Partition)
		if at[k.ProducerID] == nil {
			at[k.ProducerID] = map[ident.TopicPartition][]int{}
		}
		at[k.ProducerID][k.at] = append(at[k.ProducerID][k.at], i)
	}
	errs := make([]error, len(batch))
	answer, err := m.txns.writers.ask(m.txns.ctx, to, req)
	for i := range errs {
		if errs[i] = err; err == nil {
			errs[i] = kerr.UnknownServerError // what the answer leaves out
		}
	}
	if err != nil {
		return errs
	}
	for _, w := range answer.(*kmsg.WriteTxnMarkersResponse).Markers {
		for _, t := range w.Topics {
			for _, p := range t.Partitions {
				for _, i := range at[w.ProducerID][ident.TopicPartition{Topic: t.Topic, Partition: p.Partition}] {
					errs[i] = kerr.ErrorForCode(p.ErrorCode)
				}
			}
		}
	}
	return errs
}

// offsetMarkersAtOnce bounds the markers of a request that wait for partitions of __consumer_offsets at a time.
const offsetMarkersAtOnce = 200

// atPartition is a marker for a partition.
type atPartition struct {
	ident.TopicPartition
	marker storage.Marker
}

// writeHere appends markers to partitions that this node leads, and returns when they are committed, with the error of each.
func (t *transactions) writeHere(ctx context.Context, all []atPartition) []error {
	errs := make([]error, len(all))
	byPartition := map[ident.TopicPartition][]int{}
	var order []ident.TopicPartition
	for i, k := range all {
		if byPartition[k.TopicPartition] == nil {
			order = append(order, k.TopicPartition)
		}
		byPartition[k.TopicPartition] = append(byPartition[k.TopicPartition], i)
	}
	ctx, cancel := context.WithTimeout(ctx, peerPatience)
	defer cancel()
	now := time.Now()
	type waits struct {
		of   []int
		wait func(context.Context) error
	}
	var committed []waits
	var offsets sync.WaitGroup
	room := make(chan struct{}, offsetMarkersAtOnce)
	for _, tp := range order {
		of := byPartition[tp]
		if tp.Topic == offsetsTopic {
			for _, i := range of {
				room <- struct{}{}
				offsets.Go(func() {
					defer func() { <-room }()
					errs[i] = t.groups.mark(ctx, tp.Partition, all[i].marker)
				})
			}
			continue
		}
		p, err := t.groups.parts.Partition(tp.Topic, tp.Partition)
		var each []error
		var wait func(context.Context) error
		if err == nil {
			markers := make([]storage.Marker, len(of))
			for n, i := range of {
				markers[n] = all[i].marker
			}
			each, wait, err = p.AppendMarkers(markers, now)
		}
		for n, i := range of {
			if errs[i] = err; err == nil {
				errs[i] = each[n]
			}
		}
		if err == nil {
			committed = append(committed, waits{of, wait})
		}
	}
	for _, c := range committed {
		if err := c.wait(ctx); err != nil {
			for _, i := range c.of {
				errs[i] = err // in place of a refusal, too: another leader may know better
			}
		}
	}
	offsets.Wait()
	return errs
}

// mark appends a marker to a partition of __consumer_offsets, and returns when it is committed and its offsets count.
func (m *Manager) mark(ctx context.Context, partition int32, marker storage.Marker) error {
	_, err := runtime.AskOf[struct{}](ctx, m.host, partition, false, func(_ *coordinator.Coordinator, call runtime.Call) runtime.Effects {
		return runtime.Effects{Marker: &marker, Replies: []runtime.Reply{{To: call.To, Response: struct{}{}}}}
	})
	if wire.IsAny(err, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable) {
		return kerr.NotLeaderForPartition
	}
	return err
}

// writeTxnMarkers appends the markers that other coordinators send.
func (t *transactions) writeTxnMarkers(ctx *wire.Request, req *kmsg.WriteTxnMarkersRequest) (*kmsg.WriteTxnMarkersResponse, error) {
	var all []atPartition
	for _, w := range req.Markers {
		m := storage.Marker{ProducerID: w.ProducerID, Epoch: w.ProducerEpoch, Commit: w.Committed, CoordinatorEpoch: w.CoordinatorEpoch, Version: int16(w.TransactionVersion)}
		for _, topic := range w.Topics {
			for _, n := range topic.Partitions {
				all = append(all, atPartition{ident.TopicPartition{Topic: topic.Topic, Partition: n}, m})
			}
		}
	}
	var errs []error
	if err := authorizeMarkers(ctx); err != nil {
		errs = slices.Repeat([]error{err}, len(all))
	} else {
		errs = t.writeHere(ctx.Context(), all)
	}
	resp := kmsg.NewPtrWriteTxnMarkersResponse()
	byID := map[int64]int{}
	i := 0
	for _, w := range req.Markers {
		n, ok := byID[w.ProducerID]
		if !ok {
			n = len(resp.Markers)
			byID[w.ProducerID] = n
			resp.Markers = append(resp.Markers, kmsg.WriteTxnMarkersResponseMarker{ProducerID: w.ProducerID})
		}
		out := &resp.Markers[n]
		for _, topic := range w.Topics {
			o := kmsg.WriteTxnMarkersResponseMarkerTopic{Topic: topic.Topic}
			for _, p := range topic.Partitions {
				r := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
				r.Partition, r.ErrorCode = p, wire.ErrorCode(errs[i])
				o.Partitions = append(o.Partitions, r)
				i++
			}
			out.Topics = append(out.Topics, o)
		}
	}
	return resp, nil
}

// authorizeMarkers returns why the sender may write no markers: brokers may, and administrators who end hanging transactions (KIP-664).
func authorizeMarkers(ctx *wire.Request) error {
	if ctx.HoldsCluster(acl.Alter) {
		return nil
	}
	return ctx.MayCluster(acl.ClusterAction)
}
