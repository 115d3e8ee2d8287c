package active

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/raftmeta/quorum"
	"kraft/wire/locks"
	"kraft/wire/logging"
)

// liveness is what the active controller knows of brokers beyond the metadata: when each was heard from, and
// on which connection. A broker whose process has ended is fenced as soon as its connection breaks and nobody
// listens at its address; one that is silent when its session is over.
type liveness struct {
	meta    *raftmeta.Meta
	log     zerolog.Logger
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     locks.Mutex // guards the rest
	seen   map[int32]pulse
	paused time.Duration // for how long this node has stood still, in all

	// Of run's goroutine.
	elected, rebalanced time.Time // when elections were last looked for
	ticked              time.Time // when run last looked at the time
}

type pulse struct {
	at     time.Time
	paused time.Duration // liveness.paused at that time
	life   string        // of the member of the quorum, at that time: another life's streams do not speak for this broker
	// ended is closed when the connection that it was heard on has ended, and stands for that connection; nil for this node's own broker.
	ended <-chan struct{}
}

func newLiveness(meta *raftmeta.Meta) *liveness {
	l := &liveness{meta: meta, log: meta.Config.Logs.For(logging.Controller), seen: map[int32]pulse{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// sweepEvery is how often sessions are looked at.
const sweepEvery = 100 * time.Millisecond

func (l *liveness) start() {
	if !l.meta.Alone() { // a node that is alone has nobody to look after
		l.running.Go(l.run)
	}
	l.running.Go(l.removeTokens)
}

func (l *liveness) close() {
	l.mu.Lock() // touch starts nothing after this
	l.cancel()
	l.mu.Unlock()
	l.running.Wait()
}

func (l *liveness) run() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.meta.Led():
			l.begin()
		case now := <-tick.C:
			late := l.tick(now)
			if l.meta.Leads() {
				if _, set := l.session(); set || !late { // what came during the pause is read first
					l.sweep(now)
				}
				l.electAgain(now)
				l.ticked = time.Now() // what took time here is no pause
			} else {
				l.elected = now
			}
		}
	}
}

// tick looks at the time. It reports whether this node has stood still until now; that time is in nobody's session.
func (l *liveness) tick(now time.Time) (late bool) {
	since := now.Sub(l.ticked)
	late = !l.ticked.IsZero() && since > 3*sweepEvery
	l.ticked = now
	if late {
		l.mu.Lock()
		l.paused += since - sweepEvery
		l.mu.Unlock()
	}
	return late
}

// silence is how long ago the pulse was while this node did not stand still, which has stood still for paused in all.
func (p pulse) silence(now time.Time, paused time.Duration) time.Duration {
	return now.Sub(p.at) - (paused - p.paused)
}

// begin starts all sessions anew, as a new controller must, and looks who is there at once: the old
// controller's machine may have been a broker too. A broker that the quorum's streams have not heard from for a while has only a
// moment: it was silent before this node was elected, perhaps because of that.
func (l *liveness) begin() {
	now := time.Now()
	session, set := l.session()
	l.mu.Lock()
	l.meta.Image().Brokers(func(b *image.Broker) {
		p := l.seen[b.ID] // a heartbeat may have come before this was noticed
		p.at, p.paused = now, l.paused
		heard, life := l.meta.Node().Heard(raftmeta.MemberID(b.ID))
		if p.life == "" {
			p.life = life
		}
		if !set && now.Sub(heard) > newcomerPatience {
			p.at = now.Add(newcomerPatience - session)
		}
		if before := l.seen[b.ID]; before.at.After(p.at) {
			p.at, p.paused = before.at, before.paused
		}
		l.seen[b.ID] = p
	})
	l.mu.Unlock()
	l.meta.NoteMembers()
	l.meta.Image().Brokers(func(b *image.Broker) {
		if !b.Fenced && b.ID != l.meta.Config.NodeID {
			ended := l.connection(b.ID)
			l.running.Go(func() { l.lost(b.ID, ended) })
		}
	})
}

// connection stands for the one that a broker was last heard on.
func (l *liveness) connection(id int32) (ended <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[id].ended
}

// touch notes a heartbeat, and the connection that it came on by the channel that is closed when that has ended.
func (l *liveness) touch(b *image.Broker, ended <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.seen[b.ID]
	_, life := l.meta.Node().Heard(raftmeta.MemberID(b.ID))
	l.seen[b.ID] = pulse{time.Now(), l.paused, life, ended}
	if ended == nil || before.ended == ended || l.ctx.Err() != nil {
		return
	}
	l.running.Go(func() {
		select {
		case <-l.ctx.Done():
			return
		case <-ended:
		}
		l.lost(b.ID, ended)
	})
}

// lost looks after a broker whose connection broke, until it is fenced or heard from again.
func (l *liveness) lost(id int32, ended <-chan struct{}) {
	quorum.Repeat(l.ctx, firstProbe, func() bool {
		return l.connection(id) != ended || !l.meta.Leads() || l.probe(id)
	})
}

// firstProbe is how long to wait until a broker that still listened is looked at again; longer each time.
const firstProbe = 10 * time.Millisecond

// probe fences a broker if nobody listens at its address. It reports whether there is nothing more to do.
func (l *liveness) probe(id int32) (done bool) {
	b, ok := l.meta.Image().Broker(id)
	if !ok || b.Fenced {
		return true
	}
	e, ok := b.Endpoint(l.meta.Config.InterBroker)
	if !ok {
		return true
	}
	ctx, cancel := context.WithTimeout(l.ctx, time.Second)
	defer cancel()
	return quorum.NobodyListens(ctx, l.meta.Config.Probe, e.Address()) && l.fence(b, "its process has ended")
}

const (
	// silentAfter is how long a broker may say nothing at all, neither by heartbeats nor by the quorum's streams, where
	// broker.session.timeout.ms is not set. A machine that stands still for a second is not silent.
	silentAfter = 1400 * time.Millisecond
	// newcomerPatience is how long brokers that a new controller has not heard from have to make themselves heard.
	newcomerPatience = 300 * time.Millisecond
)

// session is how long a broker may be silent, and whether somebody set that (broker.session.timeout.ms).
func (l *liveness) session() (timeout time.Duration, set bool) {
	timeout = l.configured()
	if _, set = l.meta.Config.Static[sessionTimeout]; !set {
		timeout = min(timeout, silentAfter)
	}
	return timeout, set
}

const sessionTimeout = "broker.session.timeout.ms"

func (l *liveness) configured() time.Duration {
	return l.meta.Settings().SessionTimeout
}

// sweep fences brokers whose session is over.
func (l *liveness) sweep(now time.Time) {
	timeout, set := l.session()
	var over []*image.Broker
	l.mu.Lock()
	l.meta.Image().Brokers(func(b *image.Broker) {
		if b.Fenced {
			return
		}
		p, ok := l.seen[b.ID]
		if !ok {
			_, life := l.meta.Node().Heard(raftmeta.MemberID(b.ID))
			l.seen[b.ID] = pulse{at: now, paused: l.paused, life: life}
			return
		}
		if set {
			if now.Sub(p.at) > timeout {
				over = append(over, b)
			}
			return
		}
		beaten := p.silence(now, l.paused)
		// Streams speak for a broker that sends no heartbeats only as long as Kafka would wait for those.
		silent := beaten
		heard, life := l.meta.Node().Heard(raftmeta.MemberID(b.ID))
		if p.life == "" { // its heartbeats came before its streams
			p.life = life
			l.seen[b.ID] = p
		}
		if life == p.life {
			silent = min(silent, now.Sub(heard))
		}
		if b.ID != l.meta.Config.NodeID && (silent > timeout || beaten > l.configured()) {
			over = append(over, b)
		}
	})
	l.mu.Unlock()
	for _, b := range over {
		l.fence(b, fmt.Sprintf("it was silent for %v", timeout))
	}
}

// uncleanEvery is how often partitions without leader are looked at, once their topic allows that records are
// lost (unclean.leader.election.interval.ms).
const uncleanEvery = 5 * time.Minute

// electAgain gives leadership back to preferred replicas (auto.leader.rebalance.enable), and leaders to partitions
// that may have one now.
func (l *liveness) electAgain(now time.Time) {
	if now.Sub(l.rebalanced) > l.meta.Settings().ImbalanceCheckInterval {
		first := l.rebalanced.IsZero()
		l.rebalanced = now
		if !first && l.meta.Settings().AutoLeaderRebalance {
			l.elect("preferred leaders", func(work *image.Image) []*image.Record {
				return controller.ElectPreferred(work, l.meta.Policy(), electionsAtOnce)
			})
		}
	}
	if now.Sub(l.elected) > uncleanEvery {
		l.elected = now
		l.elect("leaders", func(work *image.Image) []*image.Record {
			return controller.ElectUnclean(work, l.meta.Policy(), electionsAtOnce)
		})
	}
}

// electionsAtOnce bounds one change of many partitions.
const electionsAtOnce = 10_000

// changePatience is how long the controller tries to commit a change of its own.
const changePatience = 5 * time.Second

func (l *liveness) elect(what string, d func(*image.Image) []*image.Record) {
	ctx, cancel := context.WithTimeout(l.ctx, changePatience)
	defer cancel()
	n := 0
	err := l.meta.Decide(ctx, func(work *image.Image) ([]*image.Record, error) {
		records := d(work)
		n = len(records)
		return records, nil
	})
	if err == nil && n > 0 {
		l.log.Info().Int("partitions", n).Msg("elected " + what)
	}
}

// fence shuts a broker out, and reports whether that is done.
func (l *liveness) fence(b *image.Broker, why string) bool {
	ctx, cancel := context.WithTimeout(l.ctx, changePatience)
	defer cancel()
	err := l.meta.Decide(ctx, func(work *image.Image) ([]*image.Record, error) {
		return controller.Fence(work, l.meta.Policy(), b.ID, b.Epoch)
	})
	switch {
	case err == nil && b.InControlledShutdown:
		l.log.Info().Int32("broker", b.ID).Msg("broker has stopped")
	case err == nil:
		l.log.Warn().Int32("broker", b.ID).Msg("broker is fenced: " + why)
	case !errors.Is(err, kerr.NotController) && l.ctx.Err() == nil:
		l.log.Error().Err(err).Int32("broker", b.ID).Msg("cannot fence broker")
	}
	return err == nil
}
