package raftmeta

import (
	"context"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"

	"kraft/raftmeta/configs"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/raftmeta/watched"
	"kraft/wire"
	"kraft/wire/locks"
)

// lifecycle is this broker's registration with the controller, kept up by heartbeats (Kafka's
// BrokerLifecycleManager).
type lifecycle struct {
	incarnation image.UUID
	epoch       atomic.Int64        // set by Register before anything serves
	serving     atomic.Bool         // the broker is ready to be unfenced
	withdrawn   watched.Value[bool] // it asks to be fenced: see Withdraw
	fenced      atomic.Bool         // the controller's last word

	mu        locks.Mutex // guards the rest
	dirs      []image.UUID
	online    []image.UUID // of dirs, those that work
	room      Room
	cancel    context.CancelFunc
	heartbeat sync.WaitGroup

	ids    *semaphore.Weighted // guards the block of producer ids at hand, also while the next is asked for
	nextID int64
	lastID int64 // exclusive
}

// Register announces this broker, fenced, under a new incarnation, with the ids of its log directories, and
// returns when this node has seen that. cleanEpoch is what the clean-shutdown file said, -1 without one.
func (m *Meta) Register(ctx context.Context, directories []image.UUID, cleanEpoch int64) error {
	m.life.incarnation = controller.NewID()
	m.life.mu.Lock()
	m.life.dirs, m.life.online = directories, directories
	m.life.mu.Unlock()
	return m.register(ctx, cleanEpoch)
}

func (m *Meta) register(ctx context.Context, cleanEpoch int64) error {
	req := kmsg.NewPtrBrokerRegistrationRequest()
	req.BrokerID, req.ClusterID, req.IncarnationID = m.config.NodeID, m.Image().ClusterID, m.life.incarnation
	req.Rack, req.PreviousBrokerEpoch = m.config.Rack, cleanEpoch
	m.life.mu.Lock()
	req.LogDirs = m.life.online
	m.life.mu.Unlock()
	for _, e := range m.config.Endpoints {
		l := kmsg.NewBrokerRegistrationRequestListener()
		l.Name, l.Host, l.Port = e.Listener, e.Host, uint16(e.Port)
		req.Listeners = append(req.Listeners, l)
	}
	for name, r := range m.config.Features {
		f := kmsg.NewBrokerRegistrationRequestFeature()
		f.Name, f.MinSupportedVersion, f.MaxSupportedVersion = name, r[0], r[1]
		req.Features = append(req.Features, f)
	}
	told := false
	for {
		resp, err := ask(ctx, m, req, m.registerBroker, func(r *kmsg.BrokerRegistrationResponse) bool { return r.ErrorCode == kerr.NotController.Code })
		if err != nil {
			return err
		}
		err = kerr.ErrorForCode(resp.ErrorCode)
		if errors.Is(err, kerr.DuplicateBrokerRegistration) {
			if !told {
				told = true
				m.log.Warn().Msg(fmt.Sprintf("another broker with id %d is registered: waiting until its session ends", m.config.NodeID))
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("another broker with id %d is running: give each its own --node-id", m.config.NodeID)
			case <-time.After(controllerRetry * 10):
			}
			continue
		}
		if err != nil {
			return err
		}
		m.life.epoch.Store(resp.BrokerEpoch)
		return m.controller.Until(ctx, func(img *image.Image) bool {
			b, ok := img.Broker(m.config.NodeID)
			return ok && b.Epoch >= resp.BrokerEpoch
		})
	}
}

// CatchUp returns when this node has applied all that was committed when it was called: Newest is no older. The controller that it asks
// commits something first, so that one that has a successor cannot answer. Call it after Join, from any goroutine.
func (m *Meta) CatchUp(ctx context.Context) error {
	resp, err := ask(ctx, m, kmsg.NewPtrDescribeQuorumRequest(), m.quorumStatus, func(r *kmsg.DescribeQuorumResponse) bool {
		return r.ErrorCode != 0 || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1
	})
	if err != nil {
		return err
	}
	return m.node.CatchUp(ctx, uint64(resp.Topics[0].Partitions[0].HighWatermark))
}

// Unfence lets this broker take leadership and serve clients, and keeps it so by heartbeats until Close; its
// logs must be open.
func (m *Meta) Unfence(ctx context.Context) error {
	m.life.serving.Store(true)
	for {
		resp, err := m.beat(ctx, false)
		if err != nil {
			return err
		}
		if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
			return err
		}
		if !resp.IsFenced {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(controllerRetry):
		}
	}
	if err := m.controller.Until(ctx, func(img *image.Image) bool {
		b, ok := img.Broker(m.config.NodeID)
		return ok && !b.Fenced
	}); err != nil {
		return err
	}
	beating, cancel := context.WithCancel(context.Background())
	m.life.mu.Lock()
	m.life.cancel = cancel
	m.life.mu.Unlock()
	m.life.heartbeat.Go(func() { m.keepAlive(beating) })
	return nil
}

// beat sends one heartbeat to whoever is the controller.
func (m *Meta) beat(ctx context.Context, shutdown bool) (*kmsg.BrokerHeartbeatResponse, error) {
	req := kmsg.NewPtrBrokerHeartbeatRequest()
	req.BrokerID, req.BrokerEpoch, req.WantShutdown, req.WantFence = m.config.NodeID, m.BrokerEpoch(), shutdown, !m.life.serving.Load() || m.life.withdrawn.Load()
	m.life.mu.Lock()
	for _, d := range m.life.dirs {
		if !slices.Contains(m.life.online, d) {
			req.OfflineLogDirs = append(req.OfflineLogDirs, d)
		}
	}
	m.life.room.tag(req)
	m.life.mu.Unlock()
	return ask(ctx, m, req, func(ctx context.Context, req *kmsg.BrokerHeartbeatRequest) (*kmsg.BrokerHeartbeatResponse, error) {
		return m.heartbeat(ctx, nil, req)
	}, func(r *kmsg.BrokerHeartbeatResponse) bool { return r.ErrorCode == kerr.NotController.Code })
}

// keepAlive sends heartbeats, at once to each new controller: it does not know yet who is there.
func (m *Meta) keepAlive(ctx context.Context) {
	// A session that is as short as the interval must not end between two heartbeats.
	interval := max(min(configs.Millis(m.IntSetting("broker.heartbeat.interval.ms")), configs.Millis(m.IntSetting("broker.session.timeout.ms"))/2), controllerRetry)
	for {
		elected, withdrawn := m.controller.LeaderChanged(), m.life.withdrawn.Changed()
		once, cancel := context.WithTimeout(ctx, max(interval, callPatience))
		resp, err := m.beat(once, false)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			if err = kerr.ErrorForCode(resp.ErrorCode); err == nil {
				m.life.fenced.Store(resp.IsFenced)
			}
		}
		if errors.Is(err, kerr.StaleBrokerEpoch) || errors.Is(err, kerr.BrokerIDNotRegistered) {
			m.log.Warn().Err(err).Msg("the controller does not know this broker any more: registering again")
			again, cancel := context.WithTimeout(ctx, callPatience)
			err = m.register(again, m.BrokerEpoch())
			cancel()
			if err == nil {
				continue
			}
		}
		if err != nil {
			m.log.Warn().Err(err).Msg("heartbeat failed")
		}
		select {
		case <-ctx.Done():
			return
		case <-elected:
		case <-withdrawn:
		case <-time.After(interval):
		}
	}
}

// Withdraw asks the controller to fence this broker, so that others lead what it leads, until it is called with false. The controller
// does so while another broker is there. Withdraw does not wait for an answer, and does nothing on a node that is alone. One goroutine at a
// time may call it.
func (m *Meta) Withdraw(yes bool) {
	if yes = yes && !m.Alone(); yes != m.life.withdrawn.Load() {
		m.life.withdrawn.Store(yes) // wakes keepAlive
	}
}

// Withdrawn reports whether this broker is fenced because it asked for that. Any goroutine may call it.
func (m *Meta) Withdrawn() bool { return m.life.withdrawn.Load() && m.life.fenced.Load() }

// HangsFor is how long the disk of the metadata has not answered, 0 where it is not asked for anything. Any goroutine may call it.
func (m *Meta) HangsFor() time.Duration { return m.node.HangsFor() }

// StandAside has another member lead the quorum, if this one does and there is another. It waits a moment for that. Any goroutine may
// call it.
func (m *Meta) StandAside() {
	if m.Leads() {
		m.node.HandOver()
	}
}

// leaderPatience is how long a broker that stops waits for a controller to be elected.
const leaderPatience = time.Second

// Leave asks the controller to let others lead what this broker leads, and returns when they do, or when ctx
// ends (KIP-631's controlled shutdown). It does nothing for a node that is alone.
func (m *Meta) Leave(ctx context.Context) error {
	m.stopBeating()
	m.life.serving.Store(false) // no report of this broker's is to have it unfenced any more
	if m.Alone() || m.BrokerEpoch() == 0 {
		return nil
	}
	for led := time.Now(); ; {
		once, cancel := context.WithTimeout(ctx, leaderPatience)
		resp, err := m.beat(once, true)
		cancel()
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if m.controller.Leader() >= 0 {
			led = time.Now()
		}
		switch {
		case err == nil && resp.ShouldShutdown:
			return nil
		case ctx.Err() != nil || err != nil && time.Since(led) > leaderPatience:
			return fmt.Errorf("controlled shutdown: %w", err) // the others are stopping too, or cut off
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(controllerRetry):
		}
	}
}

func (m *Meta) stopBeating() {
	m.life.mu.Lock()
	cancel := m.life.cancel
	m.life.cancel = nil
	m.life.mu.Unlock()
	if cancel != nil {
		cancel()
		m.life.heartbeat.Wait()
	}
}

// SetLogDirs tells the cluster that only these of this broker's log directories work.
func (m *Meta) SetLogDirs(ctx context.Context, online []image.UUID) error {
	m.life.mu.Lock()
	m.life.online = online
	m.life.mu.Unlock()
	resp, err := m.beat(ctx, false)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// AssignDirectories tells the cluster in which log directories replicas of this broker are.
func (m *Meta) AssignDirectories(ctx context.Context, list []controller.Assignment) error {
	req := kmsg.NewPtrAssignReplicasToDirsRequest()
	req.BrokerID, req.BrokerEpoch = m.config.NodeID, m.BrokerEpoch()
	byDir := map[image.UUID]map[image.UUID][]int32{}
	for _, a := range list {
		if byDir[a.Directory] == nil {
			byDir[a.Directory] = map[image.UUID][]int32{}
		}
		byDir[a.Directory][a.Topic] = append(byDir[a.Directory][a.Topic], a.Partition)
	}
	for dir, topics := range byDir {
		d := kmsg.NewAssignReplicasToDirsRequestDirectory()
		d.ID = dir
		for topic, partitions := range topics {
			t := kmsg.NewAssignReplicasToDirsRequestDirectoryTopic()
			t.TopicID = topic
			for _, n := range partitions {
				p := kmsg.NewAssignReplicasToDirsRequestDirectoryTopicPartition()
				p.Partition = n
				t.Partitions = append(t.Partitions, p)
			}
			d.Topics = append(d.Topics, t)
		}
		req.Directories = append(req.Directories, d)
	}
	resp, err := ask(ctx, m, req, m.assignReplicasToDirs, func(r *kmsg.AssignReplicasToDirsResponse) bool { return r.ErrorCode == kerr.NotController.Code })
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// AlterPartition proposes an ISR for a partition that this broker leads; the metadata tells what became of it.
func (m *Meta) AlterPartition(ctx context.Context, states []controller.PartitionState) (map[controller.Assignment]error, error) {
	req := kmsg.NewPtrAlterPartitionRequest()
	req.BrokerID, req.BrokerEpoch = m.config.NodeID, m.BrokerEpoch()
	at := map[image.UUID]int{}
	for _, s := range states {
		i, ok := at[s.Topic]
		if !ok {
			i = len(req.Topics)
			at[s.Topic] = i
			t := kmsg.NewAlterPartitionRequestTopic()
			t.TopicID = s.Topic
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewAlterPartitionRequestTopicPartition()
		p.Partition, p.LeaderEpoch, p.PartitionEpoch = s.Partition, s.LeaderEpoch, s.PartitionEpoch
		if s.Recovering {
			p.LeaderRecoveryState = 1
		}
		for _, member := range s.ISR {
			e := kmsg.NewAlterPartitionRequestTopicPartitionNewEpochISR()
			e.BrokerID, e.BrokerEpoch = member.Broker, member.Epoch
			p.NewEpochISR = append(p.NewEpochISR, e)
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	resp, err := ask(ctx, m, req, m.alterPartition, func(r *kmsg.AlterPartitionResponse) bool { return r.ErrorCode == kerr.NotController.Code })
	if err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	out := map[controller.Assignment]error{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			out[controller.Assignment{Topic: t.TopidID, Partition: p.Partition}] = kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return out, nil
}

// NextProducerID returns a producer id that no other broker gives out (KIP-730).
func (m *Meta) NextProducerID(ctx context.Context) (int64, error) {
	l := &m.life
	if err := l.ids.Acquire(ctx, 1); err != nil {
		return 0, err
	}
	defer l.ids.Release(1)
	if l.nextID == l.lastID {
		req := kmsg.NewPtrAllocateProducerIDsRequest()
		req.BrokerID, req.BrokerEpoch = m.config.NodeID, m.BrokerEpoch()
		resp, err := ask(ctx, m, req, m.allocateProducerIDs, func(r *kmsg.AllocateProducerIDsResponse) bool { return r.ErrorCode == kerr.NotController.Code })
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err != nil {
			return 0, err
		}
		l.nextID, l.lastID = resp.ProducerIDStart, resp.ProducerIDStart+int64(resp.ProducerIDLen)
	}
	l.nextID++
	return l.nextID - 1, nil
}

// CreateTopic creates a topic that the broker itself needs, or that a client's Metadata request implies,
// and returns when this node has it. partitions and factor of -1 are the defaults. A topic that exists
// is no error.
func (m *Meta) CreateTopic(ctx context.Context, t controller.NewTopic, d controller.Defaults) error {
	if m.Alone() {
		return m.createHere(ctx, t, d)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = adminTimeout
	r := kmsg.NewCreateTopicsRequestTopic()
	r.Topic, r.NumPartitions, r.ReplicationFactor = t.Name, t.Partitions, t.Factor
	if r.NumPartitions == -1 {
		r.NumPartitions = d.Partitions
	}
	if r.ReplicationFactor == -1 {
		r.ReplicationFactor = d.FactorFor(m.Image())
		if r.ReplicationFactor < d.Factor {
			m.log.Warn().Str("topic", t.Name).Msg(fmt.Sprintf("created with %d replicas instead of %d: no more brokers are registered yet; kraft cluster rebalance adds them later", r.ReplicationFactor, d.Factor))
		}
	}
	for k, v := range t.Configs {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = k, v
		r.Configs = append(r.Configs, c)
	}
	req.Topics = append(req.Topics, r)
	ctx, cancel := context.WithTimeout(ctx, adminTimeout*time.Millisecond)
	defer cancel()
	resp, err := ask(ctx, m, req, func(ctx context.Context, _ *kmsg.CreateTopicsRequest) (*kmsg.CreateTopicsResponse, error) {
		resp, created := kmsg.NewPtrCreateTopicsResponse(), kmsg.NewCreateTopicsResponseTopic()
		err := m.createHere(ctx, t, d)
		created.ErrorCode, created.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
		resp.Topics = append(resp.Topics, created)
		return resp, nil
	}, func(r *kmsg.CreateTopicsResponse) bool {
		return len(r.Topics) == 1 && r.Topics[0].ErrorCode == kerr.NotController.Code
	})
	if err != nil {
		return err
	}
	if len(resp.Topics) != 1 {
		return fmt.Errorf("the controller answers for %d topics, not one", len(resp.Topics))
	}
	if err := wire.AnswerError(resp.Topics[0].ErrorCode, resp.Topics[0].ErrorMessage); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return err
	}
	return m.controller.Until(ctx, func(img *image.Image) bool { _, ok := img.Topic(t.Name); return ok })
}

func (m *Meta) createHere(ctx context.Context, t controller.NewTopic, d controller.Defaults) error {
	return m.decide(ctx, func(work *image.Image) ([]*image.Record, error) {
		if _, ok := work.Topic(t.Name); ok {
			return nil, nil
		}
		records, _, err := controller.CreateTopic(work, t, d, mrand.Uint64())
		return records, err
	})
}
