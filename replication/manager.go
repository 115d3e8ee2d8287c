package replication

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

	"kraft/raftmeta"
	"kraft/raftmeta/broker"
	"kraft/raftmeta/configs"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/raftmeta/tags"
	"kraft/storage"
	"kraft/wire"
	"kraft/wire/defect"
	"kraft/wire/ident"
	"kraft/wire/locks"
)

// Watcher learns which partitions of a topic this node leads. It is called from the metadata publisher,
// in order, and must not block for long.
type Watcher interface {
	// Lead says that this node leads p in the given leader epoch.
	Lead(p *Partition, epoch int32)
	// Resign says that it does no longer.
	Resign(n int32)
}

// Manager holds the partitions of this node and follows the metadata.
type Manager struct {
	meta         *raftmeta.Meta
	broker       *broker.Broker
	logs         *storage.Manager
	log          zerolog.Logger
	changes      zerolog.Logger // of partitions' state
	sessions     *sessions
	reports      *reports
	reopening    *reopening
	enlister     Enlister // nil until Enlist
	isr          *isrKeeper
	fetchers     *fetchers
	replicaFetch fetchSettings
	sending      throttle // of records to followers, where a topic asks for it
	taking       throttle // of records from leaders
	rackAware    bool     // replica.selector.class lets consumers read from followers
	// interBroker is the listener of the other brokers that this one fetches from.
	interBroker string
	recovering  chan struct{}  // has room for those of recovered that sync
	closeMu     locks.Mutex    // held by who closes closing, and by who adds to recovered
	closing     chan struct{}  // closed by Close
	recovered   sync.WaitGroup // of commitRecovered
	commits     bool           // log.flush.policy=commit: an acknowledgement leaves after its records are on disk
	maxFetch    int            // fetch.max.bytes

	mu       locks.RWMutex // guards the maps; partitions guard themselves
	byName   map[string]*topic
	byID     map[image.UUID]*topic
	watchers map[string]Watcher

	leaving          atomic.Bool  // set by Hold
	others           TopicStats   // of topics that are gone, or never were
	shrinks, expands atomic.Int64 // of ISRs
}

type topic struct {
	name       string
	stats      *TopicStats
	id         image.UUID
	partitions map[int32]*Partition
}

// fetchSettings are the broker's settings for fetching as a follower: replica.fetch.*.
type fetchSettings struct {
	wait, minBytes, partitionMax, responseMax int32 // milliseconds and bytes
}

// Logs are where a manager tells what happens: StateChange is told each change of a partition's leader or ISR here.
type Logs struct{ Log, StateChange zerolog.Logger }

// NewManager makes a manager; Start makes it follow the metadata. dial connects to other brokers, by their
// listener of the given name.
func NewManager(meta *raftmeta.Meta, b *broker.Broker, logs *storage.Manager, dial wire.Dialer, interBroker string, log Logs) *Manager {
	s := meta.Settings()
	m := &Manager{
		isr: newISRKeeper(meta, b, log.Log), interBroker: interBroker,
		rackAware: s.ReplicaSelector == rackAware,
		replicaFetch: fetchSettings{
			wait: s.ReplicaFetchWait, minBytes: s.ReplicaFetchMinBytes, partitionMax: s.ReplicaFetchMaxBytes, responseMax: s.ReplicaFetchResponse,
		},
		meta: meta, broker: b, logs: logs, log: log.Log, changes: log.StateChange, recovering: make(chan struct{}, recoveredAtOnce), closing: make(chan struct{}), commits: s.FlushPolicy == "commit", maxFetch: s.FetchMaxBytes,
		sessions: newSessions(s.FetchSessions),
		byName:   map[string]*topic{}, byID: map[image.UUID]*topic{}, watchers: map[string]Watcher{},
	}
	m.reports = newReports(b, m.settle, log.Log)
	m.fetchers = newFetchers(m, dial)
	m.reopening = newReopening(meta, m.follow)
	return m
}

// Watch tells w about the partitions of a topic. Call it before Start.
func (m *Manager) Watch(topic string, w Watcher) { m.watchers[topic] = w }

// Start opens the logs of all partitions that the metadata places here, and follows changes from then on.
func (m *Manager) Start() {
	m.logs.Watch(m)
	m.broker.NoteRoom(m.room()) // the first heartbeat, which unfences, has it
	m.meta.Subscribe(m.follow)
	m.logs.SetAsideStrays(func(tp ident.TopicPartition) bool {
		t, _ := m.meta.Image().Topic(tp.Topic)
		p, ok := t.Partition(tp.Partition)
		return tp.Topic == image.QuorumTopic || ok && slices.Contains(p.Replicas, m.meta.NodeID())
	})
	m.isr.start(m.led)
	go m.reports.run()
}

// Close ends what Start began; the metadata must not be closed before.
func (m *Manager) Close() {
	m.reopening.close()
	m.closeMu.Lock()
	close(m.closing)
	m.closeMu.Unlock()
	m.recovered.Wait()
	m.fetchers.close()
	m.isr.close()
	m.reports.close()
}

// Hold has appends to all partitions that this node leads wait, and returns when everything appended before is committed, or ctx
// ends. When others lead then, they have all that was acknowledged or is about to be. Appends wait until this node leads their
// partition no more, or for Refuse. A partition that this node leads only from then on, since its leader stops at the same time, refuses
// appends from the start: nobody would wait for their replication.
func (m *Manager) Hold(ctx context.Context) {
	m.leaving.Store(true)
	within(ctx, func() {
		for _, p := range m.all() { // also one that begins to lead at this moment
			p.hold()
		}
		m.settleAll(ctx)
	})
}

// settle waits until all that was appended to partitions that this node leads is committed, or ctx ends.
func (m *Manager) settle(ctx context.Context) { within(ctx, func() { m.settleAll(ctx) }) }

// within runs f, and returns when it has, or when ctx ends: an append to a disk that hangs holds its partition's lock. f goes on then,
// until it gets that lock.
func within(ctx context.Context, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (m *Manager) settleAll(ctx context.Context) {
	for _, p := range m.leading() {
		if ctx.Err() != nil {
			return
		}
		p.role.Lock() // appends under way end
		l, end := p.leadership.Load(), p.Log().EndOffset()
		p.role.Unlock()
		if l != nil && len(l.isr) >= l.minInSync {
			_ = p.Committed(ctx, l.epoch, end, nil)
		}
	}
}

// Refuse ends Hold: appends are refused from now on. It returns when that is so, or when ctx ends.
func (m *Manager) Refuse(ctx context.Context) {
	within(ctx, func() {
		for _, p := range m.leading() {
			p.refuse()
		}
	})
}

// all lists the partitions that this node replicates.
func (m *Manager) all() (out []*Partition) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, t := range m.byID {
		for _, p := range t.partitions {
			out = append(out, p)
		}
	}
	return out
}

// leading lists the partitions that this node leads.
func (m *Manager) leading() []*Partition {
	return slices.DeleteFunc(m.all(), func(p *Partition) bool { return p.leadership.Load() == nil })
}

// led lists the partitions that this node leads and others replicate.
func (m *Manager) led() []*Partition {
	return slices.DeleteFunc(m.leading(), func(p *Partition) bool {
		l := p.leadership.Load()
		return l == nil || len(l.replicas) == 1
	})
}

// RegisterHandlers adds the data APIs to r.
func (m *Manager) RegisterHandlers(r *wire.Registry) {
	wire.HandleDeferred(r, 0, 13, m.produce)
	followers := r.Kind("FetchFollower")
	wire.HandleAnswer(r, 0, 18, func(ctx *wire.Request, req *kmsg.FetchRequest) (wire.Answer, error) {
		by := fetcherOf(req)
		if by >= 0 {
			ctx.CountAs(followers)
		}
		return m.fetch(ctx, req, by)
	})
	wire.Handle(r, 0, 11, m.listOffsets)
	wire.Handle(r, 0, 4, m.offsetForLeaderEpoch)
	wire.HandleAnswer(r, 0, 2, m.deleteRecords)
	wire.Handle(r, 0, 0, m.describeProducers)
	wire.Handle(r, 0, 5, m.describeLogDirs)
	wire.Handle(r, 0, 2, m.alterReplicaLogDirs)
}

// Partition finds a partition by its topic's name.
func (m *Manager) Partition(name string, n int32) (*Partition, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if t := m.byName[name]; t != nil && t.partitions[n] != nil {
		return t.partitions[n], nil
	}
	t, ok := m.meta.Newest().Topic(name)
	return nil, missing(t, ok, n)
}

// missing is the error for a partition that is not on this node: one that is elsewhere, or whose log is only now
// being opened, has a leader that the client can find.
func missing(t *image.Topic, ok bool, n int32) error {
	if ok && n >= 0 && int(n) < len(t.Partitions) {
		return kerr.NotLeaderForPartition
	}
	return kerr.UnknownTopicOrPartition
}

// PartitionByID finds a partition by its topic's id.
func (m *Manager) PartitionByID(id image.UUID, n int32) (*Partition, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if t := m.byID[id]; t != nil && t.partitions[n] != nil {
		return t.partitions[n], nil
	}
	t, ok := m.meta.Newest().TopicByID(id)
	if !ok {
		return nil, kerr.UnknownTopicID
	}
	return nil, missing(t, ok, n)
}

// follow applies a metadata change: deleted topics first, their names may come back.
func (m *Manager) follow(img *image.Image, changed *image.Delta) {
	for id := range changed.Removed {
		m.remove(id)
	}
	ids := changed.Topics
	if changed.General {
		ids = image.All(img).Topics
		s := m.meta.Settings()
		if err := defect.Contain("settings", func() error { m.logs.Configure(BackgroundConfig(s)); return nil }); err != nil {
			defect.Tell(&m.log, err).Msg("settings of compaction and of moves between directories stay as they are")
		}
		m.sending.set(s.LeaderThrottledRate)
		m.taking.set(s.FollowerThrottledRate)
	}
	self, ok := img.Broker(m.meta.NodeID())
	fenced := !ok || self.Fenced
	var work []opening
	for id := range ids {
		t, ok := img.TopicByID(id)
		if !ok {
			continue
		}
		layers := m.meta.Layers(img, t.Name)
		config := m.logConfig(t.Name, layers)
		var own replicationSettings
		layers.ReadTopic(&own)
		for n, reg := range t.Partitions {
			if !slices.Contains(reg.Replicas, m.meta.NodeID()) {
				m.drop(t, int32(n))
				continue
			}
			work = append(work, opening{t, int32(n), reg, fenced, config, own})
		}
	}
	m.openAll(work)
}

// opening is a partition to open, or to give its new role.
type opening struct {
	topic    *image.Topic
	n        int32
	reg      *image.Partition
	fenced   bool
	config   *storage.LogConfig // nil where it cannot be made of the topic's settings: a log that is open keeps the one it has
	settings replicationSettings
}

// openingTold is how often it is told how many logs are open, where they take long: after a crash each is read from where it was last
// known to be on disk.
const openingTold = 5 * time.Second

// every calls f at an interval until stop is called, which waits for f.
func every(d time.Duration, f func()) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		t := time.NewTicker(d)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				f()
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

func (m *Manager) openAll(work []opening) {
	var mu locks.Mutex
	roles := make([]assigned, 0, len(work))
	place := func(o opening, l *storage.Log) {
		p, role := m.place(o, l)
		mu.Lock()
		defer mu.Unlock()
		roles = append(roles, assigned{p, role})
	}
	byTP := make(map[ident.TopicPartition]opening, len(work))
	tps := make([]ident.TopicPartition, 0, len(work))
	for _, o := range work {
		tp := ident.TopicPartition{Topic: o.topic.Name, Partition: o.n}
		byTP[tp] = o
		tps = append(tps, tp)
	}
	var opened atomic.Int32
	defer every(openingTold, func() {
		m.log.Info().Msg(fmt.Sprintf("opened %d of %d logs", opened.Load(), len(tps)))
	})()
	_ = m.logs.OpenAll(tps, func(tp ident.TopicPartition) error {
		defer opened.Add(1)
		o := byTP[tp]
		directory := o.reg.Directory(m.meta.NodeID())
		l, err := m.open(tp, o, directory)
		if err != nil {
			switch {
			case storage.IsDiskFull(err):
				m.reopening.later(o.topic.ID)
			case !errors.Is(err, storage.ErrDirOffline): // that was told once for all of them
				defect.Tell(&m.log, err).Str("partition", tp.String()).Msg("partition is offline")
			}
			place(o, nil)
			return nil // the others must open all the same
		}
		if at, ok := m.logs.DirectoryOf(tp); ok && at != directory {
			m.reports.assigned(controller.Assignment{Topic: o.topic.ID, Partition: o.n, Directory: at})
		}
		place(o, l)
		return nil
	})
	m.fetchers.follow(roles)
}

// logConfig makes a log's configuration of a topic's settings; nil where that is not possible.
func (m *Manager) logConfig(topic string, l configs.Layers) (c *storage.LogConfig) {
	if err := defect.Contain("settings", func() error { c = logConfig(l); return nil }); err != nil {
		defect.Tell(&m.log, err).Str("topic", topic).Msg("the topic's settings cannot take effect")
		return nil
	}
	return c
}

// open opens a log with the settings of its topic, or has one that is open take them.
func (m *Manager) open(tp ident.TopicPartition, o opening, directory image.UUID) (*storage.Log, error) {
	if o.config == nil {
		if p, err := m.PartitionByID(o.topic.ID, o.n); err == nil && p.Log() != nil {
			return p.Log(), nil
		}
		return nil, errors.New("its topic's settings cannot take effect")
	}
	for {
		l, err := m.logs.Open(tp, o.topic.ID, directory, o.config)
		if err != nil || l.Config() == o.config {
			return l, err
		}
		l.SetConfig(o.config) // and again: it may have moved to another directory meanwhile, with the configuration of before
	}
}

// place gives a partition its role, and returns what it is to follow; l is nil if its log could not be opened.
func (m *Manager) place(o opening, l *storage.Log) (*Partition, *following) {
	m.mu.Lock()
	t := m.byID[o.topic.ID]
	if t == nil {
		t = &topic{name: o.topic.Name, stats: new(TopicStats), id: o.topic.ID, partitions: map[int32]*Partition{}}
		m.byID[t.id], m.byName[t.name] = t, t
	}
	p := t.partitions[o.n]
	if p == nil {
		p = &Partition{topic: t.name, stats: t.stats, id: t.id, n: o.n, syncs: m.commits, eager: m.rackAware, leaving: &m.leaving}
		t.partitions[o.n] = p
	}
	m.mu.Unlock()
	if l != nil {
		m.logs.Note(ident.TopicPartition{Topic: p.topic, Partition: p.n}, l, p.log.Store)
	}
	p.offline.Store(l == nil)
	p.slowSending.Store(isThrottled(o.settings.SlowSending, o.n, m.meta.NodeID()))
	p.slowTaking.Store(isThrottled(o.settings.SlowTaking, o.n, m.meta.NodeID()))
	before, followed := p.leadership.Load(), p.follows()
	role := p.become(o.reg, m.meta.NodeID(), o.fenced, o.settings.MinInSync)
	after := p.leadership.Load()
	m.tellChange(p, o.reg, before, after, followed, role)
	if before != nil && after != nil && before.epoch == after.epoch {
		switch was, is := len(before.isr), len(after.isr); {
		case is < was:
			m.shrinks.Add(1)
		case is > was:
			m.expands.Add(1)
		}
	}
	if after != nil && (before == nil || before.epoch != after.epoch) {
		m.commitRecovered(p)
	}
	if after != nil && o.reg.Recovering && (before == nil || before.epoch != after.epoch) {
		m.isr.ask(p.recovered(time.Now()))
	}
	w := m.watchers[t.name]
	if w == nil {
		return p, role
	}
	if before != nil && (after == nil || after.epoch != before.epoch) {
		w.Resign(p.n)
	}
	if after != nil && (before == nil || after.epoch != before.epoch) {
		w.Lead(p, after.epoch)
	}
	return p, role
}

// recoveredAtOnce bounds the logs that commitRecovered syncs at a time.
const recoveredAtOnce = 8

// commitRecovered has the end of a log that this node now leads reach its disk, in the background: what a crash left in the page cache
// does not count as committed before that, and nobody may write for a long time (log.flush.policy=commit).
func (m *Manager) commitRecovered(p *Partition) {
	log := p.Log()
	end := log.EndOffset()
	if !m.commits || log.Durable() >= end {
		return
	}
	m.closeMu.Lock()
	defer m.closeMu.Unlock()
	select {
	case <-m.closing:
		return
	default:
	}
	m.recovered.Go(func() {
		select {
		case m.recovering <- struct{}{}:
		case <-m.closing:
			return
		}
		defer func() { <-m.recovering }()
		if err := p.synced(log, end); err != nil && !quiet(err) {
			m.log.Error().Err(err).Stringer("partition", p).Msg("what was recovered is not committed")
		}
	})
}

// drop deletes this node's replica of a partition that was moved to others, if there is one.
func (m *Manager) drop(t *image.Topic, n int32) {
	m.mu.Lock()
	local := m.byID[t.ID]
	var p *Partition
	if local != nil {
		p = local.partitions[n]
		delete(local.partitions, n)
	}
	m.mu.Unlock()
	if p != nil {
		m.discard(p)
	}
}

// discard ends a partition's role and deletes its log.
func (m *Manager) discard(p *Partition) {
	m.lose(p)
	m.fetchers.follow([]assigned{{p, nil}})
	if err := m.logs.Delete(ident.TopicPartition{Topic: p.topic, Partition: p.n}); err != nil {
		m.log.Error().Err(err).Str("partition", p.String()).Msg("delete failed")
	}
}

func (m *Manager) remove(id image.UUID) {
	m.mu.Lock()
	t := m.byID[id]
	delete(m.byID, id)
	if t != nil && m.byName[t.name] == t {
		delete(m.byName, t.name)
	}
	if t != nil {
		m.others.add(t.stats)
	}
	m.mu.Unlock()
	if t == nil {
		return
	}
	for _, p := range t.partitions {
		m.discard(p)
	}
}

// lose ends this node's leadership of a partition whose log is gone.
func (m *Manager) lose(p *Partition) {
	if led := p.fail(); led && m.watchers[p.topic] != nil {
		m.watchers[p.topic].Resign(p.n)
	}
}

// DirFailed implements storage.Watcher.
func (m *Manager) DirFailed(_ *storage.Dir, lost []ident.TopicPartition) {
	for _, tp := range lost {
		if p, err := m.Partition(tp.Topic, tp.Partition); err == nil {
			m.lose(p)
		}
	}
	m.reports.online(m.logs.OnlineDirectories())
	m.RoomChanged()
}

// RoomChanged implements storage.Watcher.
func (m *Manager) RoomChanged() {
	m.reports.room(m.room())
}

func (m *Manager) room() tags.Room {
	scarce, full := m.logs.WithoutRoom()
	return tags.Room{Scarce: scarce, Full: full}
}

// Moved implements storage.Watcher.
func (m *Manager) Moved(tp ident.TopicPartition, l *storage.Log, directory [16]byte) {
	p, err := m.Partition(tp.Topic, tp.Partition)
	if err != nil {
		return // deleted meanwhile
	}
	p.log.Store(l)
	m.reports.assigned(controller.Assignment{Topic: p.id, Partition: p.n, Directory: directory})
}

// Settled implements storage.Watcher.
func (m *Manager) Settled(tp ident.TopicPartition) {
	if p, err := m.Partition(tp.Topic, tp.Partition); err == nil {
		p.advance(0) // the high watermark may have moved on the old log since it was copied
	}
}

// find resolves a topic given by id from the version on, by name before; the name is for answers.
func (m *Manager) find(byID bool, name string, id image.UUID, n int32) (*Partition, error) {
	if byID {
		return m.PartitionByID(id, n)
	}
	return m.Partition(name, n)
}

// quiet says that an error is everyday business of clients, or is told elsewhere, and not worth a line.
func quiet(err error) bool {
	if err == error(kerr.KafkaStorageError) {
		return true // the leader's word for what it has logged
	}
	var k *kerr.Error
	if errors.As(err, new(*storage.InvalidRecords)) {
		return true // the client's mistake, by whatever code Kafka has for it
	}
	return errors.Is(err, context.Canceled) || storage.IsDiskFull(err) || errors.Is(err, storage.ErrDirOffline) || errors.As(err, &k) && k != kerr.KafkaStorageError && k != kerr.UnknownServerError
}
