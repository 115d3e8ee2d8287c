// Package controller turns requests into metadata records. Decisions are pure functions of an image, a
// request and the time; Controller is the small loop that runs them on the quorum's log.
package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"google.golang.org/protobuf/proto"

	"kraft/raftmeta/image"
	"kraft/raftmeta/quorum"
	"kraft/raftmeta/watched"
	"kraft/wire/defect"
	"kraft/wire/locks"
)

// Decision computes the records that a request needs from the controller's working image, which it must
// not change. Nil records change nothing; the decision's caller keeps the answer.
type Decision func(work *image.Image, now time.Time) []*image.Record

// Subscriber sees every change after it is applied, in order. Changes are published once subscribers have seen them, but wait for
// a subscriber that is slow, because it opens logs or waits for a disk, no longer than subscriberPatience.
type Subscriber func(m *image.Image, changed *image.Delta)

// subscriberPatience is how long a change waits for subscribers. The active controller must hear and answer other brokers
// while its own node is busy with its disks.
const subscriberPatience = 50 * time.Millisecond

// Controller applies the metadata log on every node, and decides on the one that leads.
type Controller struct {
	log  zerolog.Logger
	node *quorum.Node

	published watched.Value[*image.Image]
	newest    atomic.Pointer[image.Image] // applied, and perhaps yet to be seen by subscribers
	leader    watched.Value[uint64]       // raft id of the active controller, 0 while unknown

	// Of the quorum's goroutine.
	applied *image.Image // owned here until published
	delta   *image.Delta
	work    *image.Image // applied plus what is proposed; nil while not leading
	term    uint64
	pending []*pending // proposed and not yet applied, in log order
	settled []func()   // answers to give once this change is published

	// Between the quorum's goroutine and the publisher's.
	mu      locks.Mutex
	changes []change
	wake    chan struct{}
	led     chan struct{} // has room for one: this node became the active controller
	stop    chan struct{}
	running sync.WaitGroup // publisher and notifier, once they are started

	// Between the publisher's goroutine and the notifier's.
	showMu  locks.Mutex
	toShow  []change
	late    bool // a change was published before subscribers had seen it, and there are more to see
	newShow chan struct{}

	subMu       locks.Mutex  // held while a subscriber runs
	shown       *image.Image // the newest that all subscribers have seen
	subscribers []Subscriber
}

type pending struct {
	answer func(error)
}

type change struct {
	image   *image.Image
	delta   *image.Delta
	settled []func()
	seen    chan struct{} // closed when subscribers have seen it
}

// New makes a controller; Start attaches it to its quorum.
func New(log zerolog.Logger) *Controller {
	c := &Controller{log: log, applied: image.Empty(), delta: image.NewDelta(),
		wake: make(chan struct{}, 1), led: make(chan struct{}, 1), stop: make(chan struct{}), newShow: make(chan struct{}, 1), shown: image.Empty()}
	c.published.Store(image.Empty())
	c.newest.Store(image.Empty())
	return c
}

// Subscribe adds a subscriber. It first calls the subscriber, on the caller's goroutine, with the newest image that all subscribers
// have seen and a delta that contains everything in it.
// Subscribers run one after the other on a goroutine of their own, in the order of Subscribe.
func (c *Controller) Subscribe(s Subscriber) {
	c.subMu.Lock()
	defer c.subMu.Unlock()
	s(c.shown, image.All(c.shown))
	c.subscribers = append(c.subscribers, s)
}

// Show has a subscriber see something of the present image again, between changes. Any goroutine may call it except
// subscribers.
func (c *Controller) Show(s Subscriber, again *image.Delta) {
	c.subMu.Lock()
	defer c.subMu.Unlock()
	s(c.shown, again)
}

// Start runs the publisher and then the quorum.
func (c *Controller) Start(node *quorum.Node) error {
	c.node = node
	c.running.Go(c.publish)
	c.running.Go(c.notify)
	return node.Start()
}

// Stop ends publisher and notifier, if they were started; the quorum is closed by whoever opened it, before.
func (c *Controller) Stop() {
	close(c.stop)
	c.running.Wait()
}

// Image is the newest published metadata.
func (c *Controller) Image() *image.Image { return c.published.Load() }

// Until returns nil once seen is true of the published metadata, ctx's error when that ends before, and kerr.NotController when the node's
// quorum has stopped. seen runs on the caller's goroutine, which may be any but the publisher's: that would wait for itself.
func (c *Controller) Until(ctx context.Context, seen func(*image.Image) bool) error {
	err := c.published.Until(ctx, c.node.Done(), seen)
	if errors.Is(err, watched.ErrEnded) {
		return kerr.NotController
	}
	return err
}

// Led is sent to, without waiting, whenever this node has become the active controller.
func (c *Controller) Led() <-chan struct{} { return c.led }

// Newest is the newest metadata that this node has applied; it may not be published yet.
func (c *Controller) Newest() *image.Image { return c.newest.Load() }

// FirstRaftID is the raft id of node 0: raft keeps 0 for nobody, Kafka's node ids begin with it.
const FirstRaftID = 1

// Leader is the node id of the active controller, -1 while unknown.
func (c *Controller) Leader() int32 { return int32(int64(c.leader.Load()) - FirstRaftID) }

// LeaderChanged returns a channel that is closed when the active controller may have changed since this call. Call it before Leader.
func (c *Controller) LeaderChanged() <-chan struct{} { return c.leader.Changed() }

// Decide runs d on the active controller and returns when its records are committed, applied on this
// node and published. On another node, and when leadership is lost meanwhile, it returns
// kerr.NotController. Any goroutine may call it except subscribers.
func (c *Controller) Decide(ctx context.Context, d Decision) error {
	result := make(chan error, 1)
	err := c.node.Do(ctx, func(propose func([]byte) error) {
		c.decide(d, propose, func(err error) { result <- err })
	})
	if errors.Is(err, quorum.ErrNotLeader) {
		return kerr.NotController
	}
	if err != nil {
		return err
	}
	select {
	case err := <-result:
		return err
	case <-c.node.Done():
		return kerr.NotController
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Controller) decide(d Decision, propose func([]byte) error, answer func(error)) {
	if c.work == nil {
		answer(kerr.NotController)
		return
	}
	var records []*image.Record
	if err := defect.Contain("controller", func() error { records = d(c.work, time.Now()); return nil }); err != nil {
		defect.Tell(&c.log, err).Msg("a change of the metadata was not decided")
		answer(kerr.UnknownServerError)
		return
	}
	if len(records) == 0 {
		c.afterPending(answer)
		return
	}
	data, err := proto.Marshal(&image.Batch{Term: c.term, Records: records})
	if err != nil {
		answer(fmt.Errorf("the metadata cannot hold that: %w: %w", err, kerr.InvalidRequest)) // a name or value is not UTF-8
		return
	}
	if err = propose(data); err != nil {
		c.log.Warn().Err(err).Msg("metadata change not proposed")
		answer(kerr.NotController)
		return
	}
	for _, r := range records {
		_ = defect.Contain("metadata", func() error { c.work.Apply(r); return nil }) // told when it is applied
	}
	c.pending = append(c.pending, &pending{answer})
}

// afterPending answers once what was decided before has taken effect and is published: an answer must
// not speak of metadata that could still be lost, nor of what its reader cannot see yet.
func (c *Controller) afterPending(answer func(error)) {
	if len(c.pending) == 0 {
		c.hand([]func(){func() { answer(nil) }})
		return
	}
	last := c.pending[len(c.pending)-1]
	first := last.answer
	last.answer = func(err error) { first(err); answer(err) }
}

// Restore implements quorum.Machine.
func (c *Controller) Restore(snapshot []byte) error {
	m, err := image.FromSnapshot(snapshot)
	if err != nil {
		return err
	}
	c.applied, c.delta = m, image.Replaced(c.newest.Load(), m)
	c.hand(nil)
	return nil
}

// Apply implements quorum.Machine.
func (c *Controller) Apply(_, term uint64, data []byte) {
	var b image.Batch
	if err := proto.Unmarshal(data, &b); err != nil {
		// Written by us and agreed on by a quorum: going on would fork the metadata.
		c.log.Panic().Err(err).Msg("undecodable metadata entry")
	}
	if b.Term != term {
		return // computed for a state that another leader's entries have changed
	}
	for _, r := range b.Records {
		// All nodes do the same with the same records, also where they are wrong: what a panic leaves is the same everywhere.
		if err := defect.Contain("metadata", func() error {
			c.delta.Note(c.applied, r)
			c.applied.Apply(r)
			return nil
		}); err != nil {
			defect.Tell(&c.log, err).Stringer("record", r).Msg("a record of the metadata was left out")
		}
	}
	if c.work != nil && term == c.term && len(c.pending) > 0 {
		p := c.pending[0]
		c.pending = c.pending[1:]
		c.settled = append(c.settled, func() { p.answer(nil) })
	}
}

// Applied implements quorum.Machine.
func (c *Controller) Applied(uint64) {
	if c.delta.Empty() && len(c.settled) == 0 {
		return
	}
	settled := c.settled
	c.settled = nil
	c.hand(settled)
}

// hand gives the applied image to the publisher.
func (c *Controller) hand(settled []func()) {
	ch := change{image: c.applied, delta: c.delta, settled: settled}
	c.applied, c.delta = c.applied.Copy(), image.NewDelta()
	c.newest.Store(ch.image)
	c.mu.Lock()
	c.changes = append(c.changes, ch)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// publish has changes shown to subscribers, then publishes them, then answers the callers that waited for them.
func (c *Controller) publish() {
	for {
		c.mu.Lock()
		changes := c.changes
		c.changes = nil
		c.mu.Unlock()
		for _, ch := range changes {
			c.toSubscribers(ch)
			c.published.Store(ch.image)
			for _, f := range ch.settled {
				f()
			}
		}
		if len(changes) > 0 {
			continue
		}
		select {
		case <-c.wake:
		case <-c.stop:
			return
		}
	}
}

// toSubscribers hands a change to the notifier, and waits a moment for subscribers to see it, unless they are late already.
func (c *Controller) toSubscribers(ch change) {
	if ch.delta.Empty() {
		return
	}
	ch.seen = make(chan struct{})
	c.showMu.Lock()
	c.toShow = append(c.toShow, ch)
	late := c.late
	c.showMu.Unlock()
	select {
	case c.newShow <- struct{}{}:
	default:
	}
	if late {
		return
	}
	patience := time.NewTimer(subscriberPatience)
	defer patience.Stop()
	select {
	case <-ch.seen:
	case <-c.stop:
	case <-patience.C:
		c.showMu.Lock()
		c.late = len(c.toShow) > 0
		c.showMu.Unlock()
	}
}

// notify runs the subscribers.
func (c *Controller) notify() {
	for {
		var next change
		c.showMu.Lock()
		some := len(c.toShow) > 0
		if some {
			next = c.toShow[0]
		} else {
			c.late = false
		}
		c.showMu.Unlock()
		if !some {
			select {
			case <-c.newShow:
				continue
			case <-c.stop:
				return
			}
		}
		c.subMu.Lock()
		for _, s := range c.subscribers {
			s(next.image, next.delta)
		}
		c.shown = next.image
		c.subMu.Unlock()
		close(next.seen)
		c.showMu.Lock()
		c.toShow = c.toShow[1:]
		c.showMu.Unlock()
	}
}

// Snapshot implements quorum.Machine.
func (c *Controller) Snapshot() ([]byte, error) { return c.applied.Snapshot() }

// Lead implements quorum.Machine.
func (c *Controller) Lead(term uint64) {
	c.term = term
	c.work = c.applied.Copy()
	c.pending = nil
	c.leader.Store(c.node.ID())
	c.log.Debug().Uint64("term", term).Msg("active controller")
	select {
	case c.led <- struct{}{}:
	default: // whoever listens has yet to look at an earlier one
	}
}

// Follow implements quorum.Machine.
func (c *Controller) Follow(leader, term uint64) {
	if leader != c.leader.Load() {
		c.leader.Store(leader)
	}
	c.work = nil
	for _, p := range c.pending {
		p.answer(kerr.NotController)
	}
	c.pending = nil
}
