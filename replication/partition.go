// Package replication runs the partitions on this node: leadership, high watermark, requests that wait
// for records; and the handlers of the data APIs.
package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/image"
	"kraft/storage"
	"kraft/wire/ident"
	"kraft/wire/locks"
	"kraft/wire/record"
)

// Partition is one partition with a replica on this node.
type Partition struct {
	topic string
	stats *TopicStats // the topic's
	id    image.UUID
	n     int32
	log   atomic.Pointer[storage.Log] // nil until it could be opened
	// syncs says that records count, on this replica, once they are on disk (log.flush.policy=commit).
	syncs bool
	// eager has followers hear of the high watermark at once: consumers read from them.
	eager bool
	// What throttles say of this node's replica; set with its role.
	slowSending, slowTaking atomic.Bool
	inSync                  atomic.Bool // this node is in the ISR

	offline    atomic.Bool                // there is no log, or its directory has failed
	leaving    *atomic.Bool               // the node hands its partitions over: a leadership that begins now refuses appends
	leadership atomic.Pointer[leadership] // nil while this node does not lead

	role      locks.RWMutex // held while the role changes and while a fetcher writes to the log; read-held while the leader appends
	following *following    // guarded by role; nil while this node does not follow a leader
	held      chan struct{} // guarded by role; while it is not nil, appends wait until it is closed

	mu        locks.Mutex         // guards the rest, and moving the high watermark
	followers map[int32]*follower // while leading, the other replicas
	led       *led                // the newest leadership that has ended, nil before the first
	proposed  proposed            // to the controller, and perhaps undecided
	waiting   waiting             // Fetch requests
	commits   alarms              // of Produce requests, on the high watermark
	// Closed when a follower's log start moves; nil while nobody waits for that.
	startsMoved chan struct{}
	watchers    []chan<- struct{} // told when the high watermark moves
}

// leadership is what this node knows while it leads; immutable.
type leadership struct {
	self           int32
	epoch          int32
	since          int32 // the first of the epochs in which this node has led without a break
	partitionEpoch int32
	begun          int64 // the log end offset when the epoch began
	isr            []int32
	replicas       []int32
	minInSync      int // min.insync.replicas
}

// led is what this node committed while it led, without a break, in the epochs from first to last: everything below high.
type led struct {
	first, last int32
	high        int64
}

// Topic is the partition's topic.
func (p *Partition) Topic() string { return p.topic }

// key names the partition among those of this node, over all lives of its topic's name.
func (p *Partition) key() ident.TopicIDPartition {
	return ident.TopicIDPartition{ID: p.id, Partition: p.n}
}

// Number is the partition's number in its topic.
func (p *Partition) Number() int32 { return p.n }

// Log is the partition's log, for reading by who was told of leadership.
func (p *Partition) Log() *storage.Log { return p.log.Load() }

// become takes up what the metadata says about this node's role. A fenced broker leads nothing: what the
// metadata still names it leader of gets a new epoch when it is let in. It returns what this node is to
// follow, nil if nothing.
func (p *Partition) become(reg *image.Partition, self int32, fenced bool, minInSync int) *following {
	p.role.Lock()
	defer p.role.Unlock()
	p.inSync.Store(slices.Contains(reg.ISR, self))
	if reg.Leader != self || fenced || p.offline.Load() {
		p.abandon()
		if reg.Leader == image.NoLeader || reg.Leader == self || p.offline.Load() {
			p.following = nil
		} else if f := p.following; f == nil || f.leader != reg.Leader || f.epoch != reg.LeaderEpoch {
			p.following = &following{partition: p, leader: reg.Leader, epoch: reg.LeaderEpoch}
		}
		return p.following
	}
	p.following = nil
	old := p.leadership.Load()
	l := &leadership{self: self, epoch: reg.LeaderEpoch, since: reg.LeaderEpoch, partitionEpoch: reg.PartitionEpoch, isr: reg.ISR, replicas: reg.Replicas, minInSync: min(minInSync, len(reg.Replicas))}
	if old != nil {
		l.since = old.since
	}
	if old == nil || old.epoch != reg.LeaderEpoch {
		l.begun = p.Log().EndOffset()
		p.Log().AssignEpoch(reg.LeaderEpoch)
	} else {
		l.begun = old.begun
	}
	if old == nil && p.leaving.Load() {
		p.held = refusing
	}
	p.takeUp(l, old == nil || old.epoch != l.epoch, time.Now())
	p.advance(0)
	return nil
}

// fail ends leadership because the log cannot be used. It reports whether this node led.
func (p *Partition) fail() (led bool) {
	p.role.Lock()
	defer p.role.Unlock()
	p.offline.Store(true)
	p.following = nil
	return p.abandon()
}

// lead returns this node's leadership, or the error for a client that asks elsewhere or with another
// leader epoch (KIP-320); an epoch of -1 is not checked.
func (p *Partition) lead(epoch int32) (*leadership, error) {
	l := p.leadership.Load()
	switch {
	case l == nil && p.offline.Load():
		return nil, fmt.Errorf("%v: %w", p, storage.ErrDirOffline)
	case l == nil:
		return nil, kerr.NotLeaderForPartition
	case epoch != -1 && epoch < l.epoch:
		return nil, kerr.FencedLeaderEpoch
	case epoch > l.epoch:
		return nil, kerr.UnknownLeaderEpoch
	}
	return l, nil
}

// serves says that consumers may read from this follower (KIP-392): in the leader epoch that they know, -1 for any.
func (p *Partition) serves(epoch int32) error {
	p.role.RLock()
	defer p.role.RUnlock()
	switch f := p.following; {
	case p.offline.Load():
		return fmt.Errorf("%v: %w", p, storage.ErrDirOffline)
	case f == nil || p.Log() == nil:
		return kerr.NotLeaderForPartition
	case epoch != -1 && epoch < f.epoch:
		return kerr.FencedLeaderEpoch
	case epoch > f.epoch:
		return kerr.UnknownLeaderEpoch
	}
	return nil
}

// replicatedTo wakes consumers that wait at a follower for so many bytes.
func (p *Partition) replicatedTo(high int64, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.Log().HighWatermark()
	p.waiting.appended(bytes)
	p.Log().SetHighWatermark(high)
	if high > before {
		p.waiting.publish()
	}
}

// Append appends what a producer sent. acks is the request's: with -1 the ISR must be large enough
// before anything is written. guard is that of a batch that may begin a transaction. It returns the leader epoch that it appended in.
func (p *Partition) Append(data []byte, guard *storage.Guard, acks int16, now time.Time) (storage.Appended, int32, error) {
	a, epoch, err := p.append(data, guard, acks, now)
	if err == nil && !a.Duplicate {
		p.advance(a.Size)
	}
	return a, epoch, err
}

// append validates without holding role. Validation can take seconds: a change of roles would wait for it, and other appends for that.
func (p *Partition) append(data []byte, guard *storage.Guard, acks int16, now time.Time) (a storage.Appended, epoch int32, err error) {
	if _, err := p.enterToWrite(acks); err != nil {
		return a, 0, err
	}
	log := p.Log()
	p.role.RUnlock()
	v, err := log.Validate(data, now)
	if err != nil {
		return a, 0, err
	}
	l, err := p.enterToWrite(acks)
	if err != nil {
		return a, 0, err
	}
	defer p.role.RUnlock()
	err = p.onLog(func(log *storage.Log) (err error) {
		a, err = log.AppendValidated(v.Guarded(guard), l.epoch)
		return err
	})
	return a, l.epoch, err
}

// onLog calls f with the log, and once more if another log took its place meanwhile: a move to another directory ended.
func (p *Partition) onLog(f func(*storage.Log) error) error {
	err := f(p.Log())
	if errors.Is(err, storage.ErrMoved) {
		err = f(p.Log())
	}
	return err
}

// enterToWrite is enter where records with these acks can be appended; otherwise role is not held.
func (p *Partition) enterToWrite(acks int16) (*leadership, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	l, err := p.writable(acks)
	if err != nil {
		p.role.RUnlock()
	}
	return l, err
}

// TakesInternal returns the error with which AppendInternal would refuse any batch now, nil if none. As that does, it waits while appends
// are held.
func (p *Partition) TakesInternal(epoch int32) error {
	if err := p.enterInternal(epoch); err != nil {
		return err
	}
	defer p.role.RUnlock()
	return p.onLog((*storage.Log).TakesInternal)
}

// enterInternal is enterToWrite for the coordinator of a leader epoch.
func (p *Partition) enterInternal(epoch int32) error {
	l, err := p.enterToWrite(-1)
	if err == nil && l.epoch != epoch {
		p.role.RUnlock()
		err = kerr.NotLeaderForPartition
	}
	return err
}

// AppendInternal appends a batch that a coordinator of the given leader epoch made, as acks=all would. If the partition Syncs, the batch
// counts only after SyncInternal. guard is that of a batch that may begin a transaction.
func (p *Partition) AppendInternal(b record.Batch, guard *storage.Guard, epoch int32, now time.Time) (storage.Appended, error) {
	a, err := p.appendInternal(b, guard, epoch, now)
	if err == nil {
		p.advance(len(b))
	}
	return a, err
}

// Syncs reports whether records count only when they are on disk (log.flush.policy=commit).
func (p *Partition) Syncs() bool { return p.syncs }

// SyncInternal has the records below end count, which AppendInternal appended. It returns when they are on disk.
func (p *Partition) SyncInternal(end int64) error {
	return p.onLog(func(log *storage.Log) error { return p.synced(log, end) })
}

// synced has the records below offset count: at once, or when they are on disk.
func (p *Partition) synced(log *storage.Log, offset int64) error {
	if !p.syncs {
		return nil
	}
	if err := log.Commit(offset); err != nil {
		return err
	}
	p.advance(0)
	return nil
}

func (p *Partition) appendInternal(b record.Batch, guard *storage.Guard, epoch int32, now time.Time) (a storage.Appended, err error) {
	if err := p.enterInternal(epoch); err != nil {
		return a, err
	}
	defer p.role.RUnlock()
	err = p.onLog(func(log *storage.Log) (err error) {
		a, err = log.AppendInternal(b, []record.Batch{b}, guard, epoch, now)
		return err
	})
	if err == nil {
		p.stats.BytesIn.Add(int64(len(b)))
		p.stats.MessagesIn.Add(a.Last - a.First + 1)
	}
	return a, err
}

// enter read-locks role for an append. While appends are held it waits for another leader instead, and returns
// kerr.NotLeaderForPartition, on which clients refresh their metadata.
func (p *Partition) enter() error {
	p.role.RLock()
	held := p.held
	if held == nil {
		return nil
	}
	p.role.RUnlock()
	<-held
	return kerr.NotLeaderForPartition
}

// hold has appends wait from now on, until this node leads no more or refuse is called. It returns once no append is under way.
func (p *Partition) hold() {
	p.role.Lock()
	defer p.role.Unlock()
	if p.held == nil && p.leadership.Load() != nil {
		p.held = make(chan struct{})
	}
}

// refuse ends hold: appends are refused until this node leads no more. Others may lead already, and this node has yet to see it.
func (p *Partition) refuse() {
	p.role.Lock()
	defer p.role.Unlock()
	p.release()
	if p.leadership.Load() != nil {
		p.held = refusing
	}
}

// refusing is a closed channel: a partition that holds it refuses appends without a wait.
var refusing = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()

// release ends hold and refuse. role is held.
func (p *Partition) release() {
	if p.held != nil && p.held != refusing {
		close(p.held)
	}
	p.held = nil
}

func (p *Partition) writable(acks int16) (*leadership, error) {
	l, err := p.lead(-1)
	if err != nil {
		return nil, err
	}
	if acks == -1 && len(l.isr) < l.minInSync {
		return nil, fmt.Errorf("The size of the current ISR is insufficient to satisfy the min.isr requirement of %d for partition %s-%d: %w", l.minInSync, p.topic, p.n, kerr.NotEnoughReplicas)
	}
	return l, nil
}

// advance moves the high watermark to what the whole ISR has, and wakes requests that waited for the
// given number of new bytes. While the ISR is smaller than min.insync.replicas it stands still.
func (p *Partition) advance(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.leadership.Load()
	if l == nil {
		return
	}
	p.waiting.appended(bytes)
	if high := p.replicated(l); high > p.Log().HighWatermark() {
		p.moveHigh(high)
	}
}

// moveHigh moves the high watermark and tells who waits for it. mu is held.
func (p *Partition) moveHigh(high int64) {
	p.Log().SetHighWatermark(high)
	for _, ch := range p.watchers {
		select {
		case ch <- struct{}{}:
		default: // it has yet to look at an earlier move
		}
	}
	p.waiting.publish()
	if p.eager {
		p.waiting.wakeReplicas()
	}
	p.commits.reach(high)
}

// WatchHighWatermark sends to ch, without waiting, whenever the high watermark moves, until stop.
func (p *Partition) WatchHighWatermark(ch chan<- struct{}) (stop func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watchers = append(p.watchers, ch)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.watchers = slices.DeleteFunc(p.watchers, func(c chan<- struct{}) bool { return c == ch })
	}
}

// abandon ends this node's leadership, if it leads, and lets waiting requests look again. It reports whether this node led. role is
// held.
func (p *Partition) abandon() (ended bool) {
	p.release()
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.leadership.Swap(nil)
	if l != nil {
		p.led = &led{l.since, l.epoch, p.Log().HighWatermark()}
	}
	p.waiting.wakeAll()
	p.commits.ringAll()
	p.followers = nil
	return l != nil
}

// Committed waits until all records below offset, appended in the given leader epoch, are committed (acks=all). It returns
// kerr.RequestTimedOut at the deadline or when ctx ends, and kerr.NotLeaderForPartition when leadership ended before. Records that
// were committed before leadership ended are committed: a client that was told otherwise would send them twice.
func (p *Partition) Committed(ctx context.Context, epoch int32, offset int64, deadline <-chan time.Time) error {
	var a alarm
	for {
		p.mu.Lock()
		yes, err := p.committed(epoch, offset)
		wait := !yes && err == nil
		if wait {
			if a.signal == nil {
				a = newAlarm(make(chan struct{}, 1))
			}
			p.commits.add(&a, offset)
		}
		p.mu.Unlock()
		if !wait {
			return err
		}
		select {
		case <-a.signal:
		case <-deadline:
			p.forget(&a)
			return kerr.RequestTimedOut
		case <-ctx.Done():
			p.forget(&a)
			return kerr.RequestTimedOut
		}
	}
}

// committed reports whether all records below offset, appended in the given leader epoch, are committed. It returns
// kerr.NotLeaderForPartition if this node can no longer commit them. mu is held.
func (p *Partition) committed(epoch int32, offset int64) (bool, error) {
	switch l := p.leadership.Load(); {
	case l != nil && l.since <= epoch && epoch <= l.epoch:
		return p.Log().HighWatermark() >= offset, nil
	case p.led != nil && p.led.first <= epoch && epoch <= p.led.last && offset <= p.led.high:
		return true, nil
	}
	return false, kerr.NotLeaderForPartition
}

func (p *Partition) forget(a *alarm) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commits.remove(a)
}

// read returns the records from offset up to upTo, exclusive. An offset between that and the log's end is
// no error: its records are yet to become visible.
func (p *Partition) read(offset int64, maxBytes int, upTo int64, whole bool) (storage.Slice, error) {
	s, err := p.Log().Read(offset, maxBytes, upTo, whole)
	if errors.Is(err, kerr.OffsetOutOfRange) && offset > upTo && offset <= p.Log().EndOffset() {
		return storage.Slice{}, nil
	}
	return s, err
}

func (p *Partition) String() string { return p.topic + "-" + strconv.Itoa(int(p.n)) }
