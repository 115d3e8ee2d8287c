package replication

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
	"kraft/storage"
	"kraft/wire"
	"kraft/wire/acl"
	"kraft/wire/quota"
	"kraft/wire/record"
)

const readCommitted = 1

// fetcherOf is the id of the broker that sends a Fetch, -1 for a client's. The id moved to another field in version 15 (KIP-903).
func fetcherOf(req *kmsg.FetchRequest) int32 { return max(req.ReplicaID, req.ReplicaState.ID, -1) }

// fetch answers with regions of the logs; if there is less than MinBytes it waits for more, at most
// MaxWait. replica is the broker that follows, -1 for a consumer.
func (m *Manager) fetch(ctx *wire.Request, req *kmsg.FetchRequest, replica int32) (wire.Answer, error) {
	ss, list, err := m.sessions.open(ctx.Context(), req, ctx.Received)
	if err != nil {
		return wire.Answer{Now: &wire.FetchResponse{Version: ctx.Version, ErrorCode: wire.ErrorCode(err)}}, nil
	}
	if ss != nil {
		defer ss.close()
		list = ss.list
	}
	f := &fetching{ctx: ctx.Context(), request: ctx, manager: m, confirmed: confirmation{manager: m}, req: req, version: ctx.Version, list: list, replica: replica, hints: hints{manager: m, listener: ctx.Session.Listener}}
	if replica >= 0 {
		f.denied = ctx.MayCluster(acl.ClusterAction)
	}
	f.readAll()
	wait := time.Duration(req.MaxWaitMillis) * time.Millisecond
	if wait > 0 && len(list) > 0 && !f.urgent && f.bytes < f.least() {
		if err := f.wait(ctx, wait); err != nil {
			return wire.Answer{}, err
		}
	}
	if f.err != nil {
		return wire.Answer{}, f.err
	}
	resp := f.response(ss)
	if ctx.TakeOrLeave(quota.Fetch, resp.WireSize) {
		return wire.Answer{Now: m.sessions.withheld(ss, req)}, nil
	}
	f.count()
	if ss != nil {
		f.told(ss)
	}
	return wire.Answer{Now: resp}, nil
}

// fetching is one Fetch request at work.
type fetching struct {
	ctx       context.Context // of the request
	request   *wire.Request
	manager   *Manager
	req       *kmsg.FetchRequest
	confirmed confirmation
	version   int16
	list      []*wanted
	replica   int32 // the broker that follows, -1 for a consumer
	hints     hints

	results []wire.FetchPartition // beside list
	parts   []*Partition          // found
	found   []*Partition          // beside list, nil where there is none
	bytes   int
	denied  error                // why the sender is no broker, though it claims to be one
	decided map[sessionKey]error // by topic, for a consumer: why it may not be read
	urgent  bool                 // an error or a divergence is to be told at once
	err     error                // closes the connection
}

// wait parks the request on its partitions until enough bytes have come or the time is over, and reads
// again.
func (f *fetching) wait(ctx *wire.Request, wait time.Duration) error {
	w := newWaiter(f.parts, f.replica >= 0)
	defer w.leave()
	f.readAll() // what came before the partitions knew of w
	if f.urgent || f.bytes >= f.least() {
		return nil
	}
	w.need = int64(f.least() - f.bytes) // if something came meanwhile it counts twice, and the answer may be early
	timer := time.NewTimer(wait)
	defer timer.Stop()
	ctx.Wait(func() {
		for !w.enough() {
			select {
			case <-w.signal:
			case <-timer.C:
				return
			case <-ctx.Draining():
				return
			case <-ctx.Context().Done():
				return
			}
		}
	})
	if err := ctx.Context().Err(); err != nil {
		return err
	}
	f.decided = nil // rights may have been taken away meanwhile
	f.readAll()
	return nil
}

// least is how many bytes are enough to answer with: no more than an answer may have.
func (f *fetching) least() int { return min(int(f.req.MinBytes), f.most()) }

// most is how many bytes an answer may have, but for its first batch.
func (f *fetching) most() int {
	if f.version < 3 {
		return math.MaxInt32
	}
	return f.request.Most(quota.Fetch, min(int(f.req.MaxBytes), f.manager.maxFetch))
}

func (f *fetching) readAll() {
	budget := f.most()
	f.results = make([]wire.FetchPartition, len(f.list))
	f.parts, f.found = f.parts[:0], make([]*Partition, len(f.list))
	f.bytes, f.urgent = 0, false
	for i, w := range f.list {
		out := &f.results[i]
		*out = wire.NewFetchPartition(w.n)
		p, err := f.read(w, out, budget)
		if p != nil {
			f.parts = append(f.parts, p)
			f.found[i] = p
		}
		if err != nil {
			f.urgent = true
			out.ErrorCode = wire.ErrorCode(err)
			out.CurrentLeader, out.CurrentLeaderEpoch = f.hints.hint(err, f.version >= 13, w.topic, w.id, w.n)
			if !quiet(err) {
				f.manager.log.Error().Err(err).Msg("fetch failed")
			}
			continue
		}
		f.bytes += out.Size()
		budget -= out.Size()
	}
}

// may returns why a topic may not be read. An id that there is not is UNKNOWN_TOPIC_ID; a name that there is not is denied like any other to
// who may not read it.
func (f *fetching) may(w *wanted) error {
	switch {
	case f.replica >= 0:
		if f.denied != nil {
			return kerr.TopicAuthorizationFailed
		}
		return nil
	case !f.request.Authorizes():
		return nil
	}
	key := sessionKey{topic: w.topic, id: w.id}
	if err, known := f.decided[key]; known {
		return err
	}
	name := w.topic
	if f.version >= 13 {
		t, ok := f.manager.meta.Newest().TopicByID(w.id)
		if !ok {
			return kerr.UnknownTopicID
		}
		name = t.Name
	}
	if f.decided == nil {
		f.decided = map[sessionKey]error{}
	}
	err := f.request.May(acl.Read, acl.Topic, name)
	f.decided[key] = err
	return err
}

// read fills one partition's answer from at most budget bytes.
func (f *fetching) read(w *wanted, out *wire.FetchPartition, budget int) (*Partition, error) {
	if err := f.may(w); err != nil {
		return nil, err
	}
	p, err := f.manager.find(f.version >= 13, w.topic, w.id, w.n)
	if err != nil {
		return nil, err
	}
	l, err := p.lead(w.leaderEpoch)
	if errors.Is(err, kerr.NotLeaderForPartition) && f.replica < 0 && f.version >= 11 {
		err = p.serves(w.leaderEpoch)
	}
	if err != nil {
		return nil, err
	}
	if f.replica >= 0 && (!slices.Contains(l.replicas, f.replica) || f.replica == f.manager.meta.NodeID()) {
		return nil, fmt.Errorf("broker %d is no replica of %v: %w", f.replica, p, kerr.NotLeaderForPartition)
	}
	log := p.Log()
	if l == nil && w.offset > log.EndOffset() {
		return nil, kerr.OffsetNotAvailable // this follower is behind; it will have it
	}
	if l != nil && f.req.Rack != "" && f.replica < 0 && len(l.replicas) > 1 && f.manager.rackAware {
		if near := f.manager.nearest(p, l, f.req.Rack, w.offset); near >= 0 {
			out.HighWatermark, out.LogStartOffset = log.HighWatermark(), log.StartOffset()
			out.PreferredReadReplica = near
			f.urgent = true
			return p, nil
		}
	}
	out.HighWatermark = log.HighWatermark()
	out.LastStableOffset = log.LastStableOffset()
	out.LogStartOffset = log.StartOffset()
	committed := f.req.IsolationLevel == readCommitted
	if committed {
		out.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
	}
	if epoch, end, yes := diverges(log, w.lastFetchedEpoch, w.offset); yes {
		f.urgent = true
		out.DivergingEpoch, out.DivergingEndOffset = epoch, end
		return p, nil
	}
	limit := min(int(max(w.maxBytes, 0)), max(budget, 0))
	// The first batch goes out whole, however large, or a consumer could never pass it (KIP-74).
	whole := f.version >= 3 && f.bytes == 0 || f.version < 3
	upTo := out.HighWatermark
	if committed {
		upTo = out.LastStableOffset
	}
	if f.replica >= 0 {
		upTo = log.EndOffset()
		// Where it reads from is what it has.
		f.manager.isr.ask(p.fetchedBy(f.replica, f.req.ReplicaState.Epoch, w.start, w.offset, time.Now(), func(broker int32, epoch int64) bool { return f.manager.eligible(p, broker, epoch) }))
		out.HighWatermark = log.HighWatermark()
		f.urgent = f.urgent || p.eager && out.HighWatermark != w.sentHigh
		if p.slowSending.Load() && !slices.Contains(l.isr, f.replica) {
			if !f.manager.sending.open(time.Now()) {
				return p, nil
			}
			defer func() { f.manager.sending.took(out.Size()) }()
		}
	}
	s, err := p.read(w.offset, limit, upTo, whole)
	if err != nil {
		if errors.Is(err, kerr.OffsetOutOfRange) {
			out.HighWatermark, out.LastStableOffset, out.LogStartOffset, out.AbortedTransactions = -1, -1, -1, nil
			if f.replica < 0 && l != nil && w.offset > log.EndOffset() && !f.confirmed.leads(f.ctx, p, l.epoch) {
				return p, kerr.NotLeaderForPartition // its successor may have the offset; without it a consumer begins anew
			}
		}
		return p, err
	}
	if s.Length == 0 || s.FirstCut {
		return p, nil
	}
	if committed {
		if out.AbortedTransactions, err = aborted(log, w.offset, s.End); err != nil {
			return p, err
		}
	}
	out.Region = wire.Region{File: s.File, Offset: s.Offset, Length: s.Length}
	if c := log.Config(); f.version < 10 && !c.KeepCodec && c.Codec == record.Zstd {
		out.Region = wire.Region{}
		return p, kerr.UnsupportedCompressionType
	}
	if f.version < 4 {
		return p, f.downConvert(w, out, limit)
	}
	return p, nil
}

// eligible says that a broker may join a partition's ISR.
func (m *Manager) eligible(p *Partition, broker int32, epoch int64) bool {
	img := m.meta.Image()
	b, ok := img.Broker(broker)
	if !ok || b.Fenced || b.InControlledShutdown || epoch >= 0 && epoch != b.Epoch {
		return false
	}
	t, _ := img.TopicByID(p.id)
	reg, ok := t.Partition(p.n)
	return ok && b.HasRoom(reg.Directory(broker), image.IsInternal(p.topic))
}

// aborted lists the transactions whose records a read_committed consumer passes over.
func aborted(log *storage.Log, from, upTo int64) ([]kmsg.FetchResponseTopicPartitionAbortedTransaction, error) {
	list, err := log.AbortedTransactions(from, upTo)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", err, kerr.KafkaStorageError)
	}
	out := make([]kmsg.FetchResponseTopicPartitionAbortedTransaction, 0, len(list))
	for _, t := range list {
		a := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
		a.ProducerID, a.FirstOffset = t.ProducerID, t.First
		out = append(out, a)
	}
	return out, nil
}

// downConvert turns the region into a message set for clients before 0.11: magic 0 for versions 0 and
// 1, else magic 1. Versions 0 to 2 know no whole first message: it is cut at limit, which tells the
// client to ask for more.
func (f *fetching) downConvert(w *wanted, out *wire.FetchPartition, limit int) error {
	data := make([]byte, out.Region.Length)
	if _, err := out.Region.File.ReadAt(data, out.Region.Offset); err != nil {
		return fmt.Errorf("%v: %w", err, kerr.KafkaStorageError)
	}
	out.Region = wire.Region{}
	magic := int8(1)
	if f.version < 2 {
		magic = 0
	}
	var set []byte
	for len(data) > 0 {
		b, rest, err := record.Next(data)
		if errors.Is(err, record.ErrTruncated) {
			break
		}
		if err != nil {
			return fmt.Errorf("%v: %w", err, kerr.CorruptMessage)
		}
		data = rest
		if b.IsControl() {
			continue
		}
		if b.Codec() == record.Zstd {
			return kerr.UnsupportedCompressionType
		}
		err = record.Stored.Bounded(max(b.Size(), record.MaxLegacyBytes), func(limit int) error {
			records, err := b.Records(limit)
			if err != nil {
				return err
			}
			for len(records) > 0 && records[0].Offset < w.offset && b.Codec() == record.None {
				records = records[1:]
			}
			set, err = record.ToLegacy(set, magic, b.Codec(), b.HasLogAppendTime(), records)
			return err
		})
		if errors.Is(err, record.ErrTooLarge) && len(set) > 0 {
			break // the next request begins with this batch, and gets the error
		}
		if errors.Is(err, record.ErrTooLarge) {
			return fmt.Errorf("batch at offset %d has more than %d bytes, which is too much for a client of Kafka 0.10 or before: %w",
				b.BaseOffset(), record.MaxLegacyBytes, kerr.MessageTooLarge)
		}
		if err != nil {
			return fmt.Errorf("%v: %w", err, kerr.CorruptMessage)
		}
	}
	if f.version < 3 && len(set) > limit {
		set = set[:limit]
	}
	out.Inline = set
	return nil
}

// changed reports whether an answer tells what the session's last one did not.
func (w *wanted) changed(r *wire.FetchPartition) bool {
	return w.fresh || r.Size() > 0 || r.PreferredReadReplica >= 0 || r.ErrorCode != 0 || r.DivergingEpoch >= 0 || r.HighWatermark != w.sentHigh || r.LogStartOffset != w.sentStart
}

// response groups the results by topic. In a session it leaves out what has not changed.
func (f *fetching) response(ss *session) *wire.FetchResponse {
	resp := &wire.FetchResponse{Version: f.version}
	incremental := ss != nil && f.req.SessionEpoch > 0
	if ss != nil {
		resp.SessionID = ss.id
	}
	at := map[sessionKey]int{}
	for i, w := range f.list {
		r := &f.results[i]
		if incremental && !w.changed(r) {
			continue
		}
		key := sessionKey{topic: w.topic, id: w.id}
		n, ok := at[key]
		if !ok {
			n = len(resp.Topics)
			at[key] = n
			resp.Topics = append(resp.Topics, wire.FetchTopic{Topic: w.topic, TopicID: w.id})
		}
		resp.Topics[n].Partitions = append(resp.Topics[n].Partitions, *r)
	}
	if f.version >= 16 {
		f.hints.each(func(b *image.Broker, e *image.Endpoint) {
			n := kmsg.NewFetchResponseBroker()
			n.NodeID, n.Host, n.Port, n.Rack = b.ID, e.Host, e.Port, b.Rack
			resp.Brokers = append(resp.Brokers, n)
		})
	}
	return resp
}

// told notes in the session what the answer tells.
func (f *fetching) told(ss *session) {
	withData := map[*wanted]bool{}
	for i, w := range f.list {
		r := &f.results[i]
		if r.Size() > 0 {
			withData[w] = true
		}
		w.fresh = r.ErrorCode != 0 // errors are told until they are over
		w.sentHigh, w.sentStart = r.HighWatermark, r.LogStartOffset
	}
	ss.served(withData)
}
