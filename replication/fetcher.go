package replication

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/ident"
	"kraft/wire/locks"
)

// following is a partition's role while another node leads it; immutable, so that what was fetched under an
// older one is not taken for this.
type following struct {
	partition *Partition
	leader    int32
	epoch     int32
}

// fetchers are this node's fetchers, one for each leader that it follows.
type fetchers struct {
	manager *Manager
	dial    wire.Dialer
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu locks.Mutex // guards the rest
	by map[int32]*fetcher
	of map[ident.TopicIDPartition]*fetcher
}

func newFetchers(m *Manager, dial wire.Dialer) *fetchers {
	f := &fetchers{manager: m, dial: dial, by: map[int32]*fetcher{}, of: map[ident.TopicIDPartition]*fetcher{}}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// assigned is a partition with its role: the leader to follow, nil for none.
type assigned struct {
	partition *Partition
	role      *following
}

// follow makes partitions follow the leaders of their roles, or nobody for nil. The requests that wait at those
// leaders end, once for all of them: they do not ask for what is new.
func (f *fetchers) follow(roles []assigned) {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := map[int32]*fetcher{} // by leader
	for _, a := range roles {
		p, role := a.partition, a.role
		old := f.of[p.key()]
		if old != nil && (role == nil || old.leader != role.leader) {
			old.set(p, nil)
			delete(f.of, p.key())
		}
		if role == nil || f.ctx.Err() != nil {
			continue
		}
		n := f.by[role.leader]
		if n == nil {
			n = &fetcher{fetchers: f, leader: role.leader, wake: make(chan struct{}, 1), parts: map[ident.TopicIDPartition]*fetchState{}}
			f.by[role.leader] = n
			f.running.Go(n.run)
		}
		f.of[p.key()] = n
		if n.set(p, role) {
			changed[n.leader] = n
		}
	}
	for _, n := range changed {
		n.interrupt()
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
}

func (f *fetchers) close() {
	f.mu.Lock()
	f.cancel()
	for _, n := range f.by {
		n.interrupt()
	}
	f.mu.Unlock()
	f.running.Wait()
}

// fetcher copies partitions from one leader, by one fetch session (KIP-227). Its goroutine runs until the
// fetchers are closed.
type fetcher struct {
	fetchers *fetchers
	leader   int32
	wake     chan struct{}

	mu     locks.Mutex // guards the rest
	parts  map[ident.TopicIDPartition]*fetchState
	gone   []*Partition // dropped, and the leader has yet to hear
	client *wire.Client
	epoch  int64 // of the broker that client goes to

	// Of the goroutine.
	session, next int32  // the session's id and the epoch of the next request; 0 begins one
	unkept        string // why log starts could not be written last, of round's goroutine
	buffer        []byte // for the next response, at most twice replica.fetch.response.max.bytes; or nil
}

// fetchState is one partition of a fetcher.
type fetchState struct {
	role  *following
	wait  time.Time // not before this: the last answer was an error
	fresh bool      // the leader has to be told of it anew
	sent  sentState
}

type sentState struct {
	offset, start int64
	epoch, last   int32
}

// set gives p another role, nil to drop it. It reports whether the leader has to hear of it at once.
func (f *fetcher) set(p *Partition, role *following) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.parts[p.key()]
	switch {
	case role == nil:
		delete(f.parts, p.key())
		if old != nil {
			f.gone = append(f.gone, p)
		}
		return false
	case old != nil && old.role == role:
		return false
	}
	f.parts[p.key()] = &fetchState{role: role, fresh: true}
	return true
}

// drop ends the connection and the session. mu is held.
func (f *fetcher) drop() {
	if f.client != nil {
		f.client.Close()
		f.client = nil
	}
}

func (f *fetcher) interrupt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop()
}

// fetchRetry is how long a fetcher waits after an error (replica.fetch.backoff.ms is a second: too long to find
// a leader again that has just been elected).
const fetchRetry = 50 * time.Millisecond

func (f *fetcher) run() {
	ctx := f.fetchers.ctx
	for ctx.Err() == nil {
		f.mu.Lock()
		idle := len(f.parts) == 0
		f.mu.Unlock()
		if idle {
			select {
			case <-ctx.Done():
			case <-f.wake:
			}
			continue
		}
		if err := f.round(ctx); err != nil && ctx.Err() == nil {
			if !errors.Is(err, net.ErrClosed) { // dropped by set: go on at once
				f.fetchers.manager.log.Debug().Err(err).Int32("leader", f.leader).Msg("fetch from leader failed")
				select {
				case <-ctx.Done():
				case <-time.After(fetchRetry):
				}
			}
		}
	}
	f.interrupt()
}

// keepStarts has log starts on disk before this fetch tells the leader of them. Where a disk does not take them replication goes on: a
// start that a crash sets back is set right by the leader.
func (f *fetcher) keepStarts() {
	err := f.fetchers.manager.logs.KeepStarts()
	told := f.unkept
	if f.unkept = ""; err != nil {
		f.unkept = err.Error()
	}
	if f.unkept != told && err != nil && !quiet(err) {
		f.fetchers.manager.log.Error().Err(err).Msg("log starts are not on disk")
	}
}

// connection returns a client of the leader, for its present address and epoch.
func (f *fetcher) connection() (*wire.Client, error) {
	m := f.fetchers.manager
	b, ok := m.meta.Image().Broker(f.leader)
	if !ok || b.Fenced {
		return nil, fmt.Errorf("broker %d is not there", f.leader)
	}
	e, ok := b.Endpoint(m.interBroker)
	if !ok {
		return nil, fmt.Errorf("broker %d has no listener %s", f.leader, m.interBroker)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.client != nil && f.epoch != b.Epoch {
		f.drop()
	}
	if f.client == nil {
		f.client = wire.NewClient(f.fetchers.dial, e.Address(), fmt.Sprintf("broker-%d-fetcher", m.meta.NodeID()))
		f.epoch = b.Epoch
		f.newSession()
	}
	return f.client, nil
}

// round sends one Fetch and takes what comes.
func (f *fetcher) round(ctx context.Context) error {
	client, err := f.connection()
	if err != nil {
		return err
	}
	now := time.Now()
	if f.fetchers.manager.commits {
		f.sync(now)
	}
	f.keepStarts()
	req, asked := f.request(now)
	if len(asked) == 0 && f.next == 0 {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(req.MaxWaitMillis) * time.Millisecond):
		}
		return nil
	}
	resp, buffer, err := client.DoInto(ctx, req, f.buffer)
	if f.buffer = buffer; cap(buffer) > 2*int(f.fetchers.manager.replicaFetch.responseMax) { // nobody keeps the records of the answer
		f.buffer = nil
	}
	if err != nil {
		f.interrupt()
		return err
	}
	r := resp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
		f.mu.Lock()
		f.newSession()
		f.mu.Unlock()
		return err
	}
	if f.session = r.SessionID; f.session == 0 {
		f.mu.Lock()
		f.newSession()
		f.mu.Unlock()
	} else {
		f.next++
	}
	byKey := make(map[ident.TopicIDPartition]*fetchState, len(asked))
	for _, s := range asked {
		byKey[s.role.partition.key()] = s
	}
	for i := range r.Topics {
		t := &r.Topics[i]
		for j := range t.Partitions {
			if s := byKey[ident.TopicIDPartition{ID: t.TopicID, Partition: t.Partitions[j].Partition}]; s != nil {
				f.take(ctx, client, s, &t.Partitions[j])
			}
		}
	}
	return nil
}

// sync puts on disk what this node has of its partitions: a request acknowledges what is before its offset.
func (f *fetcher) sync(now time.Time) {
	var syncing sync.WaitGroup
	f.mu.Lock()
	for _, s := range f.parts {
		log := s.role.partition.Log()
		end := log.EndOffset()
		if log.Durable() >= end || s.wait.After(now) {
			continue
		}
		syncing.Go(func() {
			if err := log.Commit(end); err != nil {
				f.failed(s, err)
			}
		})
	}
	f.mu.Unlock()
	syncing.Wait()
}

// newSession has the next request begin a session, and name all partitions. mu is held.
func (f *fetcher) newSession() {
	f.session, f.next = 0, 0
	for _, s := range f.parts {
		s.fresh = true
	}
	f.gone = nil
}

// request asks for what changed since the last one; asked are all partitions of the session.
func (f *fetcher) request(now time.Time) (req *kmsg.FetchRequest, asked []*fetchState) {
	m := f.fetchers.manager
	req = kmsg.NewPtrFetchRequest()
	req.ReplicaState.ID, req.ReplicaState.Epoch = m.meta.NodeID(), m.broker.Epoch()
	req.ReplicaID = -1
	req.MaxWaitMillis, req.MinBytes = m.replicaFetch.wait, m.replicaFetch.minBytes
	req.MaxBytes, req.SessionID, req.SessionEpoch = m.replicaFetch.responseMax, f.session, f.next
	at := map[image.UUID]int{}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.parts {
		p := s.role.partition
		if pause := m.pause(p, s, now); pause > 0 {
			req.MaxWaitMillis = int32(min(int64(req.MaxWaitMillis), pause.Milliseconds()+1))
			if !s.fresh { // or the leader would go on to answer for it
				f.gone = append(f.gone, p)
				s.fresh = true
			}
			continue
		}
		asked = append(asked, s)
		log := p.Log()
		want := sentState{offset: log.EndOffset(), start: log.StartOffset(), epoch: s.role.epoch, last: log.LatestEpoch()}
		if !s.fresh && want == s.sent && f.next != 0 {
			continue
		}
		s.sent, s.fresh = want, false
		i, ok := at[p.id]
		if !ok {
			i = len(req.Topics)
			at[p.id] = i
			t := kmsg.NewFetchRequestTopic()
			t.Topic, t.TopicID = p.topic, p.id
			req.Topics = append(req.Topics, t)
		}
		r := kmsg.NewFetchRequestTopicPartition()
		r.Partition, r.FetchOffset, r.LogStartOffset = p.n, want.offset, want.start
		r.CurrentLeaderEpoch, r.LastFetchedEpoch, r.PartitionMaxBytes = want.epoch, want.last, m.replicaFetch.partitionMax
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, r)
	}
	if f.next != 0 {
		for _, p := range f.gone {
			t := kmsg.NewFetchRequestForgottenTopic()
			t.Topic, t.TopicID, t.Partitions = p.topic, p.id, []int32{p.n}
			req.ForgottenTopics = append(req.ForgottenTopics, t)
		}
	}
	f.gone = nil
	return req, asked
}

// pause is for how long nothing is asked for p: an error was the last answer, its share of the network is used up, its disk has no room, or
// what would be acknowledged is not on disk where it has to be.
func (m *Manager) pause(p *Partition, s *fetchState, now time.Time) time.Duration {
	pause := s.wait.Sub(now)
	if p.slowTaking.Load() && !p.inSync.Load() && !m.taking.open(now) {
		pause = max(pause, fetchRetry)
	}
	if log := p.Log(); m.commits && log.Durable() < log.EndOffset() || !log.HasRoom(image.IsInternal(p.topic)) {
		pause = max(pause, fetchRetry)
	}
	return pause
}

// take applies one partition's answer, unless its role has changed meanwhile.
func (f *fetcher) take(ctx context.Context, client *wire.Client, s *fetchState, r *kmsg.FetchResponseTopicPartition) {
	err := kerr.ErrorForCode(r.ErrorCode)
	switch {
	case errors.Is(err, kerr.OffsetOutOfRange):
		err = f.reposition(ctx, client, s)
	case err == nil:
		err = f.apply(s, r)
	}
	if err != nil {
		f.failed(s, err)
	}
}

// apply appends or cuts off what an answer without error says.
func (f *fetcher) apply(s *fetchState, r *kmsg.FetchResponseTopicPartition) error {
	p := s.role.partition
	p.role.Lock()
	defer p.role.Unlock()
	if p.following != s.role {
		return nil
	}
	if r.DivergingEpoch.Epoch >= 0 {
		f.mu.Lock()
		s.fresh = true
		f.mu.Unlock()
		return p.diverge(r.DivergingEpoch.Epoch, r.DivergingEpoch.EndOffset)
	}
	err := p.replicate(r)
	if p.slowTaking.Load() && !p.inSync.Load() {
		f.fetchers.manager.taking.took(len(r.RecordBatches))
	}
	return err
}

// failed has a partition wait before it is asked for again.
func (f *fetcher) failed(s *fetchState, err error) {
	f.mu.Lock()
	s.wait, s.fresh = time.Now().Add(fetchRetry), true
	f.mu.Unlock()
	if !quiet(err) {
		f.fetchers.manager.log.Error().Err(err).Stringer("partition", s.role.partition).Int32("leader", f.leader).Msg("replication failed")
	}
}

// replicate appends what the leader sent. role is held.
func (p *Partition) replicate(r *kmsg.FetchResponseTopicPartition) error {
	log := p.Log()
	now := time.Now()
	if len(r.RecordBatches) > 0 {
		if _, err := log.AppendReplicated(r.RecordBatches, image.IsInternal(p.topic), now); err != nil {
			return err
		}
		p.stats.ReplicationBytesIn.Add(int64(len(r.RecordBatches)))
	}
	p.replicatedTo(min(r.HighWatermark, log.EndOffset()), len(r.RecordBatches))
	return log.SetStart(r.LogStartOffset, now)
}

// diverge cuts off what the leader does not have: it says where the newest epoch that both know ends
// (KIP-595's form of KIP-101). role is held.
func (p *Partition) diverge(epoch int32, end int64) error {
	log := p.Log()
	own, ownEnd := log.EpochEndOffset(epoch)
	to := end
	if own >= 0 {
		to = min(end, ownEnd)
	}
	before, last := log.EndOffset(), log.LatestEpoch()
	if _, err := log.Truncate(to); err != nil {
		return err
	}
	if log.EndOffset() == before && log.LatestEpoch() == last { // asked again, the leader would say the same
		return fmt.Errorf("the leader knows epoch %d, to %d, and this log ends at %d in epoch %d: there is nothing to cut off", epoch, end, before, last)
	}
	return nil
}

// reposition begins a log again where the leader's begins, or cuts it where the leader's ends: it asked for an
// offset that the leader does not have.
func (f *fetcher) reposition(ctx context.Context, client *wire.Client, s *fetchState) error {
	latest, err := f.leaderOffset(ctx, client, s, -1)
	if err != nil {
		return err
	}
	earliest, err := f.leaderOffset(ctx, client, s, -2)
	if err != nil {
		return err
	}
	p := s.role.partition
	p.role.Lock()
	defer p.role.Unlock()
	if p.following != s.role {
		return nil
	}
	log := p.Log()
	if latest < log.EndOffset() {
		_, err := log.Truncate(latest)
		return err
	}
	if earliest > log.EndOffset() {
		return log.Restart(earliest)
	}
	return nil
}

// leaderOffset asks for one of the leader's offsets by ListOffsets' timestamp for it.
func (f *fetcher) leaderOffset(ctx context.Context, client *wire.Client, s *fetchState, timestamp int64) (int64, error) {
	p := s.role.partition
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = f.fetchers.manager.meta.NodeID()
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = p.topic
	q := kmsg.NewListOffsetsRequestTopicPartition()
	q.Partition, q.Timestamp, q.CurrentLeaderEpoch = p.n, timestamp, s.role.epoch
	t.Partitions = append(t.Partitions, q)
	req.Topics = append(req.Topics, t)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	resp, err := client.Do(ctx, req)
	if err != nil {
		return 0, err
	}
	r := resp.(*kmsg.ListOffsetsResponse)
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return 0, errors.New("ListOffsets names no offset")
	}
	a := r.Topics[0].Partitions[0]
	return a.Offset, kerr.ErrorForCode(a.ErrorCode)
}
