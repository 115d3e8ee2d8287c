package replication

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"kraft/raftmeta"
	"kraft/raftmeta/broker"
	"kraft/raftmeta/controller"
	"kraft/wire/locks"
)

// isrKeeper asks the controller for changes of ISRs, several at once, one request at a time.
type isrKeeper struct {
	meta   *raftmeta.Meta
	broker *broker.Broker
	log    zerolog.Logger
	wake   chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	// Of the goroutine that sends.
	said   string // the error that was logged last
	saidAt time.Time

	mu      locks.Mutex // guards waiting
	waiting []*proposal
}

// saidAgain is how long the same error is not logged again.
const saidAgain = 10 * time.Second

func newISRKeeper(meta *raftmeta.Meta, b *broker.Broker, log zerolog.Logger) *isrKeeper {
	k := &isrKeeper{meta: meta, broker: b, log: log, wake: make(chan struct{}, 1)}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	return k
}

// ask sends a proposal soon; nil is none. Any goroutine may call it.
func (k *isrKeeper) ask(p *proposal) {
	if p == nil {
		return
	}
	k.queue(p)
	k.poke()
}

func (k *isrKeeper) queue(p *proposal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting = append(k.waiting, p)
}

func (k *isrKeeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// refusalPause is how long the keeper waits before it asks again about proposals that were refused or not answered.
const refusalPause = 50 * time.Millisecond

// start sends proposals, and looks for laggards among partitions, until close.
func (k *isrKeeper) start(partitions func() []*Partition) {
	k.done.Go(func() {
		for {
			select {
			case <-k.ctx.Done():
				return
			case <-k.wake:
			}
			k.mu.Lock()
			batch := k.waiting
			k.waiting = nil
			k.mu.Unlock()
			k.send(batch)
		}
	})
	k.done.Go(func() {
		lag := k.meta.Settings().ReplicaLagTime
		tick := time.NewTicker(max(lag/2, 10*time.Millisecond))
		defer tick.Stop()
		for {
			select {
			case <-k.ctx.Done():
				return
			case now := <-tick.C:
				for _, p := range partitions() {
					k.ask(p.laggards(lag, now))
				}
			}
		}
	})
}

func (k *isrKeeper) send(batch []*proposal) {
	states := make([]controller.PartitionState, len(batch))
	for i, p := range batch {
		states[i] = p.state
	}
	ctx, cancel := context.WithTimeout(k.ctx, proposalPatience)
	defer cancel()
	result, err := k.broker.AlterPartition(ctx, states)
	if k.ctx.Err() != nil {
		return
	}
	if err != nil {
		if text := err.Error(); text != k.said || time.Since(k.saidAt) > saidAgain {
			k.said, k.saidAt = text, time.Now()
			k.log.Warn().Err(err).Msg("ISRs are not changed yet: asking the controller again")
		}
	}
	again := false
	for _, p := range batch {
		e := err
		if e == nil {
			e = result[controller.Assignment{Topic: p.state.Topic, Partition: p.state.Partition}]
		}
		if e == nil {
			continue // the metadata shows the new ISR
		}
		next := p.partition.refused(p.state, e, time.Now())
		if next == nil {
			continue
		}
		k.queue(next)
		again = true
		if err == nil {
			k.log.Debug().Err(e).Stringer("partition", p.partition).Msg("ISR not changed")
		}
	}
	if again {
		time.AfterFunc(refusalPause, k.poke)
	}
}

func (k *isrKeeper) close() {
	k.cancel()
	k.done.Wait()
}
