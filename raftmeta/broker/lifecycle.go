// Package broker is the life of a node's broker towards the active controller: it registers the broker, sends heartbeats, and reports what
// only this broker knows. Begin with Register.
package broker

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
	"golang.org/x/sync/semaphore"

	"kraft/raftmeta"
	"kraft/raftmeta/active"
	"kraft/raftmeta/calls"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/raftmeta/tags"
	"kraft/raftmeta/watched"
	"kraft/wire/locks"
	"kraft/wire/logging"
)

// Broker is a node's broker as the controller knows it: registered, and kept so by heartbeats (Kafka's BrokerLifecycleManager). Its methods
// may be called from any goroutine, unless they say otherwise.
type Broker struct {
	meta        *raftmeta.Meta
	calls       *calls.Calls
	active      *active.Controller // answers where this node is the active controller
	log         zerolog.Logger
	incarnation image.UUID
	epoch       atomic.Int64        // set by Register before anything serves
	serving     atomic.Bool         // the broker is ready to be unfenced
	withdrawn   watched.Value[bool] // it asks to be fenced: see Withdraw
	fenced      atomic.Bool         // the controller's last word

	mu        locks.Mutex // guards the rest
	dirs      []image.UUID
	online    []image.UUID // of dirs, those that work
	room      tags.Room
	cancel    context.CancelFunc
	heartbeat sync.WaitGroup

	ids    *semaphore.Weighted // guards the block of producer ids at hand, also while the next is asked for
	nextID int64
	lastID int64 // exclusive
}

// New returns the broker of a node, which is not registered yet.
func New(meta *raftmeta.Meta, c *calls.Calls, a *active.Controller) *Broker {
	return &Broker{meta: meta, calls: c, active: a, log: meta.Config.Logs.For(logging.Node), ids: semaphore.NewWeighted(1)}
}

// Epoch is the broker's epoch since Register, 0 before.
func (b *Broker) Epoch() int64 { return b.epoch.Load() }

// Register announces this broker, fenced, under a new incarnation, with the ids of its log directories, and
// returns when this node has seen that. cleanEpoch is what the clean-shutdown file said, -1 without one.
func (b *Broker) Register(ctx context.Context, directories []image.UUID, cleanEpoch int64) error {
	b.incarnation = controller.NewID()
	b.mu.Lock()
	b.dirs, b.online = directories, directories
	b.mu.Unlock()
	return b.register(ctx, cleanEpoch)
}

func (b *Broker) register(ctx context.Context, cleanEpoch int64) error {
	req := kmsg.NewPtrBrokerRegistrationRequest()
	req.BrokerID, req.ClusterID, req.IncarnationID = b.meta.Config.NodeID, b.meta.Image().ClusterID, b.incarnation
	req.Rack, req.PreviousBrokerEpoch = b.meta.Config.Rack, cleanEpoch
	b.mu.Lock()
	req.LogDirs = b.online
	b.mu.Unlock()
	for _, e := range b.meta.Config.Endpoints {
		l := kmsg.NewBrokerRegistrationRequestListener()
		l.Name, l.Host, l.Port, l.SecurityProtocol = e.Listener, e.Host, uint16(e.Port), int16(e.SecurityProtocol)
		req.Listeners = append(req.Listeners, l)
	}
	for name, r := range b.meta.Config.Features {
		f := kmsg.NewBrokerRegistrationRequestFeature()
		f.Name, f.MinSupportedVersion, f.MaxSupportedVersion = name, r[0], r[1]
		req.Features = append(req.Features, f)
	}
	told := false
	for {
		resp, err := calls.Ask(ctx, b.calls, req, b.active.RegisterBroker, func(r *kmsg.BrokerRegistrationResponse) bool { return r.ErrorCode == kerr.NotController.Code })
		if err != nil {
			return err
		}
		err = kerr.ErrorForCode(resp.ErrorCode)
		if errors.Is(err, kerr.DuplicateBrokerRegistration) {
			if !told {
				told = true
				b.log.Warn().Msg(fmt.Sprintf("another broker with id %d is registered: waiting until its session ends", b.meta.Config.NodeID))
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("another broker with id %d is running: give each its own --node-id", b.meta.Config.NodeID)
			case <-time.After(calls.Retry * 10):
			}
			continue
		}
		if err != nil {
			return err
		}
		b.epoch.Store(resp.BrokerEpoch)
		return b.meta.Until(ctx, func(img *image.Image) bool {
			own, ok := img.Broker(b.meta.Config.NodeID)
			return ok && own.Epoch >= resp.BrokerEpoch
		})
	}
}

// CatchUp returns when this node has applied all that was committed when it was called: Newest is no older. The controller that it asks
// commits something first, so that one that has a successor cannot answer. Call it after Join, from any goroutine.
func (b *Broker) CatchUp(ctx context.Context) error {
	resp, err := calls.Ask(ctx, b.calls, kmsg.NewPtrDescribeQuorumRequest(), b.active.QuorumStatus, func(r *kmsg.DescribeQuorumResponse) bool {
		return r.ErrorCode != 0 || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1
	})
	if err != nil {
		return err
	}
	return b.meta.Node().CatchUp(ctx, uint64(resp.Topics[0].Partitions[0].HighWatermark))
}

// Unfence lets this broker take leadership and serve clients, and keeps it so by heartbeats until Close; its
// logs must be open.
func (b *Broker) Unfence(ctx context.Context) error {
	b.serving.Store(true)
	for {
		resp, err := b.beat(ctx, false)
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
		case <-time.After(calls.Retry):
		}
	}
	if err := b.meta.Until(ctx, func(img *image.Image) bool {
		own, ok := img.Broker(b.meta.Config.NodeID)
		return ok && !own.Fenced
	}); err != nil {
		return err
	}
	beating, cancel := context.WithCancel(context.Background())
	b.mu.Lock()
	b.cancel = cancel
	b.mu.Unlock()
	b.heartbeat.Go(func() { b.keepAlive(beating) })
	return nil
}

// beat sends one heartbeat to whoever is the controller.
func (b *Broker) beat(ctx context.Context, shutdown bool) (*kmsg.BrokerHeartbeatResponse, error) {
	req := kmsg.NewPtrBrokerHeartbeatRequest()
	req.BrokerID, req.BrokerEpoch, req.WantShutdown, req.WantFence = b.meta.Config.NodeID, b.Epoch(), shutdown, !b.serving.Load() || b.withdrawn.Load()
	b.mu.Lock()
	for _, d := range b.dirs {
		if !slices.Contains(b.online, d) {
			req.OfflineLogDirs = append(req.OfflineLogDirs, d)
		}
	}
	b.room.Tag(req)
	b.mu.Unlock()
	return calls.Ask(ctx, b.calls, req, func(ctx context.Context, req *kmsg.BrokerHeartbeatRequest) (*kmsg.BrokerHeartbeatResponse, error) {
		return b.active.Heartbeat(ctx, nil, req)
	}, func(r *kmsg.BrokerHeartbeatResponse) bool { return r.ErrorCode == kerr.NotController.Code })
}

// keepAlive sends heartbeats, at once to each new controller: it does not know yet who is there.
func (b *Broker) keepAlive(ctx context.Context) {
	// A session that is as short as the interval must not end between two heartbeats.
	interval := max(min(b.meta.Settings().HeartbeatInterval, b.meta.Settings().SessionTimeout/2), calls.Retry)
	for {
		elected, withdrawn := b.meta.LeaderChanged(), b.withdrawn.Changed()
		once, cancel := context.WithTimeout(ctx, max(interval, calls.Patience))
		resp, err := b.beat(once, false)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			if err = kerr.ErrorForCode(resp.ErrorCode); err == nil {
				b.fenced.Store(resp.IsFenced)
			}
		}
		if errors.Is(err, kerr.StaleBrokerEpoch) || errors.Is(err, kerr.BrokerIDNotRegistered) {
			b.log.Warn().Err(err).Msg("the controller does not know this broker any more: registering again")
			again, cancel := context.WithTimeout(ctx, calls.Patience)
			err = b.register(again, b.Epoch())
			cancel()
			if err == nil {
				continue
			}
		}
		if err != nil {
			b.log.Warn().Err(err).Msg("heartbeat failed")
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
func (b *Broker) Withdraw(yes bool) {
	if yes = yes && !b.meta.Alone(); yes != b.withdrawn.Load() {
		b.withdrawn.Store(yes) // wakes keepAlive
	}
}

// Withdrawn reports whether this broker is fenced because it asked for that. Any goroutine may call it.
func (b *Broker) Withdrawn() bool { return b.withdrawn.Load() && b.fenced.Load() }

// leaderPatience is how long a broker that stops waits for a controller to be elected.
const leaderPatience = time.Second

// Leave asks the controller to let others lead what this broker leads, and returns when they do, or when ctx
// ends (KIP-631's controlled shutdown). It does nothing for a node that is alone.
func (b *Broker) Leave(ctx context.Context) error {
	b.Close()
	b.serving.Store(false) // no report of this broker's is to have it unfenced any more
	if b.meta.Alone() || b.Epoch() == 0 {
		return nil
	}
	for led := time.Now(); ; {
		once, cancel := context.WithTimeout(ctx, leaderPatience)
		resp, err := b.beat(once, true)
		cancel()
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if b.meta.Controller() >= 0 {
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
		case <-time.After(calls.Retry):
		}
	}
}

// Close ends the heartbeats. It does nothing after Leave.
func (b *Broker) Close() {
	b.mu.Lock()
	cancel := b.cancel
	b.cancel = nil
	b.mu.Unlock()
	if cancel != nil {
		cancel()
		b.heartbeat.Wait()
	}
}
