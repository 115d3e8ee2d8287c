package replication

import (
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/controller"
	"kraft/storage"
)

// follower is what a leader knows of another replica (Kafka's Replica). Guarded by the partition's mu.
type follower struct {
	end      int64     // its log end offset, -1 while not known
	start    int64     // its log start offset, -1 while not known
	epoch    int64     // the broker's, as of its last fetch; -1 if it did not say
	fetched  time.Time // when it last fetched
	endThen  int64     // this node's log end offset at that time
	caughtUp time.Time // when it last had everything that there was
}

// takeUp takes up leadership, of a new epoch or with another ISR.
func (p *Partition) takeUp(l *leadership, fresh bool, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fresh {
		p.followers = map[int32]*follower{}
	}
	for _, r := range l.replicas {
		if r != l.self && p.followers[r] == nil {
			p.followers[r] = &follower{end: -1, start: -1, epoch: -1, caughtUp: now} // it has the time of replica.lag.time.max.ms to come
		}
	}
	for r := range p.followers {
		if !slices.Contains(l.replicas, r) {
			delete(p.followers, r)
		}
	}
	p.leadership.Store(l)
}

// replicated is the offset below which every replica of the maximal ISR (KIP-497) has everything: the ISR, and every
// replica that an undecided proposal adds to it. mu is held.
func (p *Partition) replicated(l *leadership) int64 {
	high := p.Log().HighWatermark()
	if len(l.isr) < l.minInSync {
		return high
	}
	end := p.Log().EndOffset()
	if p.syncs {
		end = p.Log().Durable()
	}
	for r, f := range p.followers {
		if slices.Contains(l.isr, r) || p.undecided(l) && slices.Contains(p.proposed.isr, r) {
			end = min(end, f.end)
		}
	}
	return max(high, end)
}

// diverges says that a log which ends at offset, in the given leader epoch, has what this one does not: the newest
// epoch of this one that can be common to both, and where that ends (KIP-595). An epoch of -1 is not checked.
func diverges(log *storage.Log, epoch int32, offset int64) (common int32, end int64, yes bool) {
	if epoch < 0 {
		return -1, -1, false
	}
	common, end = log.EpochEndOffset(epoch)
	return common, end, common >= 0 && (common < epoch || end < offset)
}

// fetchedBy notes a follower's fetch from offset, which is where its log ends, and where it starts. It returns a proposal for the
// controller if the follower may join the ISR now.
func (p *Partition) fetchedBy(replica int32, brokerEpoch, start, offset int64, now time.Time, eligible func(int32, int64) bool) *proposal {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.leadership.Load()
	f := p.followers[replica]
	if l == nil || f == nil {
		return nil
	}
	end := p.Log().EndOffset()
	switch {
	case offset >= end:
		f.caughtUp = now
	case offset >= f.endThen && !f.fetched.IsZero():
		f.caughtUp = f.fetched
	}
	f.end, f.epoch, f.fetched, f.endThen = offset, brokerEpoch, now, end
	p.tellStart(f, start)
	if high := p.replicated(l); high > p.Log().HighWatermark() {
		p.moveHigh(high)
	}
	if p.undecided(l) || slices.Contains(l.isr, replica) || offset < p.Log().HighWatermark() || offset < l.begun || !eligible(replica, brokerEpoch) {
		return nil
	}
	return p.propose(l, append(slices.Clone(l.isr), replica), now)
}

// laggards proposes an ISR without those that have not caught up for so long.
func (p *Partition) laggards(maximum time.Duration, now time.Time) *proposal {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.leadership.Load()
	if l == nil {
		return nil
	}
	if p.undecided(l) {
		if now.Sub(p.proposed.asked) > proposalPatience {
			return p.propose(l, l.isr, now)
		}
		return nil
	}
	if len(l.isr) == 1 {
		return nil
	}
	end := p.Log().EndOffset()
	isr := slices.DeleteFunc(slices.Clone(l.isr), func(r int32) bool {
		f := p.followers[r]
		return f != nil && f.end < end && now.Sub(f.caughtUp) > maximum
	})
	if len(isr) == len(l.isr) {
		return nil
	}
	return p.propose(l, isr, now)
}

// proposalPatience is how long a leader waits until the metadata shows what became of a proposal, before it asks the controller
// again.
const proposalPatience = 10 * time.Second

// proposal is an ISR to ask the controller for.
type proposal struct {
	partition *Partition
	state     controller.PartitionState
}

// proposed is what the leader asked the controller for and the metadata has not decided yet (Kafka's PendingPartitionChange).
//
// The controller accepts a proposal only while the partition has the epochs that the proposal names. So a proposal can take
// effect, whatever error came back or none at all, until the metadata shows another partition epoch. Until then the high
// watermark waits for every replica that the proposal adds. Only the metadata ends a proposal: a leader whose proposal was
// refused or not answered asks for the ISR as it is, which the controller answers by the next partition epoch.
type proposed struct {
	leaderEpoch, partitionEpoch int32
	isr                         []int32 // every replica that was proposed against these epochs
	asked                       time.Time
}

// undecided reports whether a proposal may still take effect. mu is held.
func (p *Partition) undecided(l *leadership) bool {
	return p.proposed.isr != nil && p.proposed.leaderEpoch == l.epoch && p.proposed.partitionEpoch == l.partitionEpoch
}

// propose makes a proposal of an ISR. mu is held.
func (p *Partition) propose(l *leadership, isr []int32, now time.Time) *proposal {
	all := slices.Clone(isr)
	if p.undecided(l) {
		for _, r := range p.proposed.isr {
			if !slices.Contains(all, r) {
				all = append(all, r)
			}
		}
	}
	p.proposed = proposed{l.epoch, l.partitionEpoch, all, now}
	s := controller.PartitionState{Topic: p.id, Partition: p.n, LeaderEpoch: l.epoch, PartitionEpoch: l.partitionEpoch}
	for _, r := range isr {
		m := controller.Member{Broker: r, Epoch: -1}
		if f := p.followers[r]; f != nil && !slices.Contains(l.isr, r) {
			m.Epoch = f.epoch
		}
		s.ISR = append(s.ISR, m)
	}
	return &proposal{p, s}
}

// refused returns what to ask next about a proposal that the controller refused, or did not answer: nil if the metadata
// decides it, or has decided it already.
func (p *Partition) refused(s controller.PartitionState, err error, now time.Time) *proposal {
	switch {
	case errors.Is(err, kerr.InvalidUpdateVersion), errors.Is(err, kerr.FencedLeaderEpoch), errors.Is(err, kerr.NewLeaderElected),
		errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.UnknownTopicOrPartition):
		return nil // the controller's partition is newer: its metadata is on the way
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.leadership.Load()
	if l == nil || l.epoch != s.LeaderEpoch || l.partitionEpoch != s.PartitionEpoch {
		return nil
	}
	return p.propose(l, l.isr, now)
}

// recovered proposes to say that a leader that was elected uncleanly has recovered: it has nothing to do.
func (p *Partition) recovered(now time.Time) *proposal {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.leadership.Load()
	if l == nil {
		return nil
	}
	return p.propose(l, l.isr, now)
}
