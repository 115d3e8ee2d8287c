// Package sim runs whole clusters in one process, in virtual time, with faults that follow from a seed, and holds what
// clients were told against what is there in the end.
package sim

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"kraft/raftmeta/image"
)

// Sim is one simulation at work.
type Sim struct {
	plan          *Plan
	network       *Network
	history       *History
	machines      []*Machine
	work          *workload
	clients       int
	administrator *kadm.Client
	background    sync.WaitGroup // faults that take time

	mu          sync.Mutex                     // guards the rest
	known       map[partition]*image.Partition // the newest of any node
	brokers     map[int32]int64                // newest epochs
	lostAt      map[int32]int64                // the newest broker epoch there was when a machine lost power
	newestEpoch int64
}

// observePause is how often the simulation looks at what nodes know.
const observePause = 10 * time.Millisecond

// Running is the history of the simulation that is at work, for who has lost patience.
var Running atomic.Pointer[History]

// Run runs a plan, in a testing/synctest bubble, with the nodes' metadata below dir. It returns when nothing of it is
// left.
func Run(plan *Plan, dir string) *History {
	h := newHistory()
	Running.Store(h)
	s := &Sim{plan: plan, network: NewNetwork(plan.Seed), history: h, known: map[partition]*image.Partition{}, brokers: map[int32]int64{}, lostAt: map[int32]int64{}}
	if err := s.run(dir); err != nil {
		h.wrong("unavailable", "%v", err)
	}
	s.tellLogs()
	for _, m := range s.machines {
		m.Kill()
	}
	for _, m := range s.machines {
		m.Ended()
	}
	return h
}

func (s *Sim) run(dir string) error {
	voters := voterList(s.plan.Voters)
	for id := int32(1); id <= s.plan.Nodes(); id++ {
		m, err := newMachine(id, voters, s.network, s.history, s.plan.Seed<<8|uint64(id), dir, s.plan.Settings)
		if err != nil {
			return err
		}
		s.machines = append(s.machines, m)
		m.Start()
	}
	w := &workload{network: s.network, history: s.history}
	s.work = w
	w.ctx, w.stop = context.WithCancel(context.Background())
	defer w.stop()
	w.running.Go(func() { s.observe(w.ctx) })
	for _, m := range s.machines {
		w.seeds = append(w.seeds, fmt.Sprintf("%s:%d", m.name, clientPort))
	}
	for t := range s.plan.Topics {
		for n := range s.plan.Partitions {
			w.parts = append(w.parts, partition{fmt.Sprintf("t%d", t), n})
		}
		if s.plan.Unclean && t == s.plan.Topics-1 {
			w.unclean = fmt.Sprintf("t%d", t)
			s.history.unclean = w.unclean
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), calm)
	err := w.create(ctx, s.plan.Partitions, int16(min(3, s.plan.Nodes())))
	cancel()
	if err != nil {
		return err
	}
	admin, err := w.client(251)
	if err != nil {
		return err
	}
	defer admin.Close()
	s.administrator = kadm.NewClient(admin)
	end, cancel := context.WithCancel(context.Background())
	defer cancel()
	producers := s.startWork(end)
	s.fail()
	return s.recover(producers, cancel)
}

// startWork starts the clients. What it returns is closed when the producers have nothing more to wait for.
func (s *Sim) startWork(end context.Context) (done <-chan struct{}) {
	w := s.work
	next := 0
	client := func(group *sync.WaitGroup, f func(i int, rng *rand.Rand) error) {
		i := next
		next++
		rng := rand.New(rand.NewPCG(s.plan.Seed, 1000+uint64(i)))
		group.Go(func() {
			time.Sleep(time.Duration(rng.IntN(100_000_000)))
			if err := f(i, rng); err != nil {
				s.history.say("client %d: %v", i, err)
			}
		})
	}
	var producers sync.WaitGroup
	for range s.plan.Idempotent {
		client(&producers, func(i int, rng *rand.Rand) error { return w.produce(end, i, true, rng) })
	}
	for range s.plan.Plain {
		client(&producers, func(i int, rng *rand.Rand) error { return w.produce(end, i, false, rng) })
	}
	client(&w.running, func(i int, _ *rand.Rand) error { return w.consume(i) })
	for range s.plan.Members {
		client(&w.running, w.group)
	}
	for range s.plan.Administrators {
		client(&w.running, w.administrate)
	}
	for range s.plan.Visitors {
		client(&w.running, w.visit)
	}
	client(&w.running, w.watch)
	s.clients = next
	ch := make(chan struct{})
	go func() {
		producers.Wait()
		close(ch)
	}()
	return ch
}

// fail does what the plan says, in its time.
func (s *Sim) fail() {
	for _, f := range s.plan.Faults {
		time.Sleep(f.After)
		s.learn()
		if f.Kind == "" {
			continue
		}
		if what := faults[f.Kind](s, f.Dice); what != "" {
			s.history.say("FAULT %s", what)
		}
	}
	time.Sleep(time.Second)
}

// recover ends all faults, and waits until the cluster is whole again and producers have their answers.
func (s *Sim) recover(producers <-chan struct{}, cancel context.CancelFunc) error {
	w := s.work
	s.background.Wait()
	s.network.Heal()
	for _, m := range s.machines {
		m.Start()
	}
	s.history.say("no more faults")
	w.stop()
	deadline := time.Now().Add(rest)
	var problem error
	select {
	case <-producers:
	case <-time.After(rest):
		problem = fmt.Errorf("producers wait for answers %v after the last fault", rest)
		cancel()
		<-producers
	}
	for !s.whole() && problem == nil {
		if time.Now().After(deadline) {
			problem = fmt.Errorf("not whole %v after the last fault: %s", rest, s.describe())
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.running.Wait()
	if problem != nil {
		return problem
	}
	s.history.say("whole again")
	for _, p := range w.parts {
		var replicas map[int32][]stored
		for range readAgain {
			if replicas = s.readReplicas(p); same(replicas) {
				break
			}
			time.Sleep(time.Second)
		}
		s.history.checkLogs(p, replicas)
	}
	s.checkAdmin()
	return s.lastLook()
}

// readAgain is how often replicas are read before they count as different: one may be on its way to another directory.
const readAgain = 5

// readReplicas reads what each replica of a partition has on its disk.
func (s *Sim) readReplicas(p partition) map[int32][]stored {
	replicas := map[int32][]stored{}
	for _, id := range s.known[p].Replicas {
		log, err := readLog(s.machines[id-1].disk, p)
		if err != nil {
			s.history.wrong("unreadable", "%s on %d: %v", p, id, err)
			continue
		}
		replicas[id] = log
	}
	return replicas
}

// same says that all replicas hold the same; an empty one is as good a measure as another.
func same(replicas map[int32][]stored) bool {
	logs := slices.Collect(maps.Values(replicas))
	return !slices.ContainsFunc(logs, func(l []stored) bool { return !slices.Equal(l, logs[0]) })
}

// lastLook asks once more for what clients were told.
func (s *Sim) lastLook() error {
	cl, err := s.work.client(252)
	if err != nil {
		return err
	}
	defer cl.Close()
	s.work.look(context.Background(), cl)
	return nil
}

// learn takes what any node knows of partitions and brokers, if it is newer, and tells it.
func (s *Sim) learn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.machines {
		img := m.Image()
		if img == nil {
			continue
		}
		s.newestEpoch = max(s.newestEpoch, img.LastEpoch)
		for _, o := range s.machines {
			if b, ok := img.Broker(o.id); ok && b.Epoch > s.brokers[o.id] {
				s.brokers[o.id] = b.Epoch
				s.history.note("metadata", fmt.Sprintf("%v is registered in epoch %d", o, b.Epoch))
			}
		}
		img.Topics("", func(t *image.Topic) bool {
			for n, now := range t.Partitions {
				p := partition{t.Name, int32(n)}
				if old := s.known[p]; old == nil || now.PartitionEpoch > old.PartitionEpoch {
					s.known[p] = now
					s.history.note("metadata", fmt.Sprintf("%v is led by %d in epoch %d, replicas %v, ISR %v, ELR %v, last ELR %v", p, now.Leader, now.LeaderEpoch, now.Replicas, now.ISR, now.ELR, now.LastKnownELR))
				}
			}
			return true
		})
	}
}

// observe learns until ctx ends.
func (s *Sim) observe(ctx context.Context) {
	for ctx.Err() == nil {
		s.learn()
		select {
		case <-ctx.Done():
		case <-time.After(observePause):
		}
	}
}

// whole says that every partition is led, with all its replicas in its ISR and no reassignment, and that every replica has
// all there is.
func (s *Sim) whole() bool {
	s.learn()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.work.parts {
		k := s.known[p]
		if k == nil || k.Leader < 0 || len(k.ISR) != len(k.Replicas) || len(k.Adding)+len(k.Removing) > 0 {
			return false
		}
		for _, m := range s.machines {
			img := m.Image()
			if img == nil {
				return false
			}
			if t, ok := img.Topic(p.topic); !ok || t.Partitions[p.n].PartitionEpoch != k.PartitionEpoch {
				return false
			}
		}
		var size int64 = -1
		for _, id := range k.Replicas {
			log, err := readLog(s.machines[id-1].disk, p)
			if err != nil || size >= 0 && int64(len(log)) != size {
				return false
			}
			size = int64(len(log))
		}
	}
	return true
}

// mayLose says that a machine may lose its power where records count that are not synced: no other that lost its own has
// yet to come back into all its ISRs. It notes that it does.
func (s *Sim) mayLose(m *Machine) bool {
	s.learn()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.machines) == 1 {
		return false
	}
	for id, at := range s.lostAt {
		if id != m.id && (s.brokers[id] <= at || !s.inSync(id)) {
			return false
		}
	}
	clear(s.lostAt)
	s.lostAt[m.id] = s.newestEpoch
	return true
}

// inSync says that a broker is in all ISRs that it can be in. mu is held.
func (s *Sim) inSync(id int32) bool {
	for _, k := range s.known {
		if slices.Contains(k.Replicas, id) && !slices.Contains(k.ISR, id) {
			return false
		}
	}
	return true
}

// tellLogs ends the story with what is on the disks.
func (s *Sim) tellLogs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, k := range s.known {
		for _, id := range k.Replicas {
			log, err := readLog(s.machines[id-1].disk, p)
			s.history.note(s.machines[id-1].String(), fmt.Sprintf("has of %v %s %v", p, ranges(log), err))
		}
	}
}

// ranges are the offsets that there are, and their epochs.
func ranges(log []stored) string {
	var out []string
	for i := 0; i < len(log); {
		j := i
		for j+1 < len(log) && log[j+1].offset == log[j].offset+1 && log[j+1].epoch == log[i].epoch {
			j++
		}
		out = append(out, fmt.Sprintf("%d-%d@%d", log[i].offset, log[j].offset, log[i].epoch))
		i = j + 1
	}
	return strings.Join(out, " ")
}

func (s *Sim) describe() string {
	var out []string
	for _, p := range s.work.parts {
		if k := s.known[p]; k != nil {
			var sizes []string
			for _, id := range k.Replicas {
				log, err := readLog(s.machines[id-1].disk, p)
				sizes = append(sizes, fmt.Sprintf("%d has %d records %v", id, len(log), err))
			}
			out = append(out, fmt.Sprintf("%s is led by %d in epoch %d, replicas %v, ISR %v, adding %v, removing %v: %s", p, k.Leader, k.LeaderEpoch, k.Replicas, k.ISR, k.Adding, k.Removing, strings.Join(sizes, ", ")))
		} else {
			out = append(out, p.String()+" is not known")
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.brokers)) {
		if m := s.machines[id-1]; m.Image() == nil {
			out = append(out, fmt.Sprintf("%v does not run", m))
		}
	}
	return strings.Join(out, "; ")
}
