// Package sim runs whole clusters in one process, in virtual time, with faults that follow from a seed, and holds what
// clients were told against what is there in the end.
package sim

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/workload"
	"kraft/raftmeta/image"
)

// Sim is one simulation at work.
type Sim struct {
	plan          *Plan
	network       *Network
	history       *workload.History
	machines      []*Machine
	work          *workload.Workload
	running       sync.WaitGroup // clients, and who looks on
	clients       int
	cluster       string      // the cluster that nodes are of which know only addresses; "" until one is
	client        *kgo.Client // the test's own
	administrator *kadm.Client
	transactions  *workload.Transactions
	transactors   []int               // of the clients with transactions
	trimmed       workload.Trimmed    // what the trimmer knows, for the audit
	background    sync.WaitGroup      // faults that take time
	rotten        *workload.Partition // of which a bit has flipped: it may be unavailable from then on, and no more

	mu          sync.Mutex                          // guards the rest
	known       map[workload.Partition]registration // the newest of any node
	lives       map[image.UUID]int                  // topic ids, in the order in which they were seen first
	brokers     map[int32]int64                     // newest epochs
	lostAt      map[int32]int64                     // the newest broker epoch there was when a machine lost power
	newestEpoch int64
}

// registration is what the metadata says of a partition.
type registration struct {
	*image.Partition
	id image.UUID // its topic's: one that is made again begins anew
}

// observePause is how often the simulation looks at what nodes know.
const observePause = 10 * time.Millisecond

// Running is the history of the simulation that is at work, for who has lost patience.
var Running atomic.Pointer[workload.History]

// Run runs a plan, in a testing/synctest bubble, with the nodes' metadata below dir. It returns when nothing of it is
// left.
func Run(plan *Plan, dir string) *workload.History {
	h := workload.NewHistory()
	Running.Store(h)
	s := &Sim{plan: plan, network: NewNetwork(plan.Seed), history: h, transactions: workload.NewTransactions(), known: map[workload.Partition]registration{}, lives: map[image.UUID]int{}, brokers: map[int32]int64{}, lostAt: map[int32]int64{}}
	if err := s.run(dir); err != nil {
		h.Wrong("unavailable", "%v", err)
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
	voters := voterList(s.plan.Voters, true)
	for id := int32(1); id <= s.plan.Nodes(); id++ {
		m, err := newMachine(id, voters, s.network, s.history, s.plan.Seed<<8|uint64(id), dir, s.plan.Settings, s.plan.Secured)
		if err != nil {
			return err
		}
		s.machines = append(s.machines, m)
		m.SetVersion(s.plan.Upgrade)
		if s.plan.Meet {
			m.knowsAddresses(s.plan.Voters)
		} else {
			m.Start()
		}
	}
	if s.plan.Meet {
		if err := s.meet(); err != nil {
			return err
		}
	}
	working, stop := context.WithCancel(context.Background())
	defer stop()
	w := &workload.Workload{Context: working, History: s.history, Dial: s.dial, LogDirs: logDirs, Pause: s.plan.producePause(), Verbose: nodeLevel() == zerolog.DebugLevel, Logins: s.plan.Secured}
	s.work = w
	s.running.Go(func() { s.observe(working) })
	for _, m := range s.machines {
		w.Seeds = append(w.Seeds, fmt.Sprintf("%s:%d", m.name, clientPort))
	}
	for t := range s.plan.Topics {
		for n := range s.plan.Partitions {
			w.Parts = append(w.Parts, workload.Partition{Topic: fmt.Sprintf("t%d", t), N: n})
		}
		if s.plan.Unclean && t == s.plan.Topics-1 {
			s.history.Unclean = fmt.Sprintf("t%d", t)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), calm)
	var err error
	if s.plan.Secured {
		err = w.Secure(ctx, s.plan.Nodes())
	}
	if err == nil {
		err = w.Create(ctx, s.plan.Partitions, int16(min(3, s.plan.Nodes())))
	}
	if err == nil && s.plan.Transactors > 0 {
		err = w.CreateTransact(ctx, int16(min(3, s.plan.Nodes())))
	}
	cancel()
	if err != nil {
		return err
	}
	admin, err := w.Client(251)
	if err != nil {
		return err
	}
	defer admin.Close()
	s.client, s.administrator = admin, kadm.NewClient(admin)
	end, cancel := context.WithCancel(context.Background())
	defer cancel()
	producers := s.startWork(end)
	prompt := s.delayMetadata()
	s.fail()
	prompt()
	return s.recover(producers, stop, cancel)
}

// producePause is the longest between two records of a producer.
func (p *Plan) producePause() time.Duration {
	if p.Operator {
		return 10 * time.Millisecond
	}
	return 40 * time.Millisecond
}

func clientName(i int) string { return fmt.Sprintf("10.0.1.%d", i) }

// dial connects a client, which has a host of its own.
func (s *Sim) dial(ctx context.Context, i int, address string) (net.Conn, error) {
	name := clientName(i)
	s.network.Up(name)
	return s.network.Dial(ctx, name, address)
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
				s.history.Say("client %d: %v", i, err)
			}
		})
	}
	var producers sync.WaitGroup
	for range s.plan.Idempotent {
		client(&producers, func(i int, rng *rand.Rand) error { return w.Produce(end, i, true, rng) })
	}
	for range s.plan.Plain {
		client(&producers, func(i int, rng *rand.Rand) error { return w.Produce(end, i, false, rng) })
	}
	client(&s.running, func(i int, _ *rand.Rand) error { return w.Consume(i) })
	for range s.plan.Members {
		client(&s.running, w.Group)
	}
	for range s.plan.Administrators {
		client(&s.running, w.Administrate)
	}
	for range s.plan.Visitors {
		client(&s.running, w.Visit)
	}
	if s.plan.Recreate {
		client(&s.running, func(i int, rng *rand.Rand) error { return w.Recreate(i, int16(min(3, s.plan.Nodes())), rng) })
	}
	for n := range s.plan.Transactors {
		s.transactors = append(s.transactors, next)
		client(&producers, func(i int, rng *rand.Rand) error { return w.Transact(end, i, s.transactions, rng) })
		if n == 0 {
			client(&s.running, func(i int, _ *rand.Rand) error { return w.ReadTransact(i, s.transactions) })
		}
	}
	if s.plan.Operator {
		client(&s.running, func(i int, rng *rand.Rand) error { return w.Operate(i, s.plan.Nodes(), rng) })
	}
	client(&s.running, w.Watch)
	if s.plan.Secured {
		client(&s.running, w.Trespass)
	}
	if s.plan.Rules {
		replicas := int16(min(3, s.plan.Nodes()))
		client(&s.running, w.Fence)
		client(&s.running, func(i int, rng *rand.Rand) error { return w.Trim(i, replicas, rng, &s.trimmed) })
		client(&s.running, func(i int, rng *rand.Rand) error { return w.Forget(i, replicas, rng) })
	}
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
			s.history.Say("FAULT %s", what)
		}
	}
	time.Sleep(time.Second)
}

// recover ends all faults and stops the clients, and waits until the cluster is whole again and producers have their
// answers, or cancels what they wait for.
func (s *Sim) recover(producers <-chan struct{}, stop, cancel context.CancelFunc) error {
	w := s.work
	s.background.Wait()
	s.network.Heal()
	for _, m := range s.machines {
		if s.plan.Upgrade {
			m.Kill()
			m.SetVersion(false)
		}
		m.Start()
	}
	s.history.Say("no more faults")
	stop()
	began := time.Now()
	deadline := began.Add(rest)
	lift := s.plan.Operator
	liftLate := func() {
		if lift && time.Since(began) >= workload.LateRequests {
			lift = false
			w.LiftThrottles(s.administrator)
		}
	}
	var problem error
	select {
	case <-producers:
	case <-time.After(workload.LateRequests):
		liftLate()
	}
	select {
	case <-producers:
	case <-time.After(time.Until(deadline)):
		if s.rotten == nil {
			problem = fmt.Errorf("producers wait for answers %v after the last fault", rest)
		}
		cancel()
		<-producers
	}
	s.running.Wait()
	for !s.whole() && problem == nil {
		if time.Now().After(deadline) {
			problem = fmt.Errorf("not whole %v after the last fault: %s", rest, s.describe())
		}
		liftLate()
		time.Sleep(100 * time.Millisecond)
	}
	if problem != nil {
		return problem
	}
	s.history.Say("whole again")
	for _, p := range w.Parts {
		if s.rotten != nil && p == *s.rotten {
			continue
		}
		s.history.CheckLogs(p, s.restingReplicas(p))
	}
	s.history.CheckReads()
	if s.plan.Transactors > 0 {
		if err := s.checkTransactions(); err != nil {
			return err
		}
	}
	s.checkAdmin()
	if err := s.lastLook(); err != nil {
		return err
	}
	return s.audit()
}

// checkTransactions compares the history of transactional clients with the records and offsets that can be read. It does nothing if a bit of
// some record has flipped: the record may be in their topic.
func (s *Sim) checkTransactions() error {
	if s.rotten != nil {
		return nil
	}
	for n := range int32(workload.TransactPartitions) {
		p := workload.Partition{Topic: workload.TransactTopic, N: n}
		s.history.CheckSame(p, s.restingReplicas(p))
	}
	ctx, cancel := context.WithTimeout(context.Background(), rest)
	defer cancel()
	return s.work.CheckTransact(ctx, s.transactors, s.transactions, rest/2)
}

// readAgain is how often replicas are read before they count as different: one may be on its way to another directory.
const readAgain = 5

// restingReplicas reads what each replica of a partition has on its disk, again while they differ.
func (s *Sim) restingReplicas(p workload.Partition) (replicas map[int32][]workload.Stored) {
	for range readAgain {
		if replicas = s.readReplicas(p); workload.Same(replicas) {
			break
		}
		time.Sleep(time.Second)
	}
	return replicas
}

// readReplicas reads what each replica of a partition has on its disk.
func (s *Sim) readReplicas(p workload.Partition) map[int32][]workload.Stored {
	return s.history.ReadReplicas(p, s.known[p].Replicas, func(id int32) workload.Disk { return s.machines[id-1].disk })
}

// topicResource is a topic's type among configurations.
const topicResource = 2

// checkAdmin asks every broker what there is in the end.
func (s *Sim) checkAdmin() {
	time.Sleep(5 * time.Second) // every broker hears of the last change, also what was lost before and is sent again
	for _, m := range s.machines {
		img := m.Image()
		for _, name := range workload.AdminTopics() {
			begun, value := time.Now(), ""
			_, ok := img.Topic(name)
			if ok {
				value = img.Config(topicResource, name)[workload.AdminKey]
			}
			s.history.Found(m.id, name, ok, value, begun)
			time.Sleep(time.Microsecond)
		}
	}
}

// lastLook asks once more for what clients were told.
func (s *Sim) lastLook() error {
	cl, err := s.work.Client(252)
	if err != nil {
		return err
	}
	defer cl.Close()
	s.work.Look(context.Background(), cl)
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
		s.checkFeatures(img)
		for _, o := range s.machines {
			if b, ok := img.Broker(o.id); ok && b.Epoch > s.brokers[o.id] {
				s.brokers[o.id] = b.Epoch
				s.history.Note("metadata", fmt.Sprintf("%v is registered in epoch %d", o, b.Epoch))
			}
		}
		img.Topics("", func(t *image.Topic) bool {
			for n, now := range t.Partitions {
				p := workload.Partition{Topic: t.Name, N: int32(n)}
				if s.newer(t.ID, now, s.known[p]) {
					if old := s.known[p]; s.plan.Steady && old.Partition != nil && old.id == t.ID && old.LeaderEpoch != now.LeaderEpoch {
						s.history.Wrong("deposed", "%v is led by %d in epoch %d, and was by %d", p, now.Leader, now.LeaderEpoch, old.Leader)
					}
					s.known[p] = registration{now, t.ID}
					s.history.Note("metadata", fmt.Sprintf("%v is led by %d in epoch %d, replicas %v, ISR %v, ELR %v, last ELR %v", p, now.Leader, now.LeaderEpoch, now.Replicas, now.ISR, now.ELR, now.LastKnownELR))
				}
			}
			return true
		})
	}
}

// checkFeatures: who is let in supports what is finalized.
func (s *Sim) checkFeatures(img *image.Image) {
	for name, level := range img.Features {
		img.Brokers(func(b *image.Broker) {
			if has := b.Features[name]; !b.Fenced && (level < has[0] || level > has[1]) {
				s.history.Wrong("feature not supported", "%s is at %d, which broker %d, from %d to %d, does not support", name, level, b.ID, has[0], has[1])
			}
		})
	}
}

// newer says that a partition, of a topic with this id, is newer than what is known. mu is held.
func (s *Sim) newer(id image.UUID, p *image.Partition, old registration) bool {
	if s.lives[id] == 0 {
		s.lives[id] = len(s.lives) + 1
	}
	return old.Partition == nil || s.lives[id] > s.lives[old.id] || id == old.id && p.PartitionEpoch > old.PartitionEpoch
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
	if !s.knowAgain() {
		return false
	}
	for _, p := range s.work.Parts {
		if s.rotten != nil && p == *s.rotten {
			continue
		}
		k := s.known[p]
		if k.Partition == nil || k.Leader < 0 || len(k.ISR) != len(k.Replicas) || len(k.Adding)+len(k.Removing) > 0 {
			return false
		}
		for _, m := range s.machines {
			img := m.Image()
			if img == nil {
				return false
			}
			if t, ok := img.Topic(p.Topic); !ok || t.ID != k.id || t.Partitions[p.N].PartitionEpoch != k.PartitionEpoch {
				return false
			}
		}
		var size int64 = -1
		for _, id := range k.Replicas {
			log, err := workload.ReadLog(s.machines[id-1].disk, p)
			if err != nil || size >= 0 && int64(len(log)) != size {
				return false
			}
			size = int64(len(log))
		}
	}
	return true
}

// knowAgain reports whether all nodes say the same of the topic that is made again; then it is one of those to look at, if it is
// there. Clients have stopped. mu is held.
func (s *Sim) knowAgain() bool {
	var lives []registration
	for _, m := range s.machines {
		img := m.Image()
		if img == nil {
			return false
		}
		var r registration
		if t, ok := img.Topic(workload.Again.Topic); ok {
			r = registration{t.Partitions[0], t.ID}
		}
		if lives = append(lives, r); r.id != lives[0].id {
			return false
		}
	}
	s.work.Parts = slices.DeleteFunc(s.work.Parts, func(p workload.Partition) bool { return p == workload.Again })
	if now := lives[0]; now.Partition != nil {
		s.work.Parts = append(s.work.Parts, workload.Again)
		if s.known[workload.Again].id != now.id {
			s.known[workload.Again] = now
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

// mayLosePower is mayLose for what is lost with the power: nothing that counts, where all is synced before it counts. But then no
// other disk may have lost something in another way.
func (s *Sim) mayLosePower(machines ...*Machine) bool {
	if !s.plan.Commit {
		return s.mayLose(machines[0])
	}
	s.learn()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range machines {
		s.lostAt[m.id] = s.newestEpoch
	}
	return s.rotten == nil
}

// loses notes that a machine loses something while this is the newest broker epoch.
func (s *Sim) loses(m *Machine, epoch int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lostAt[m.id] = epoch
}

// epoch is a broker's newest.
func (s *Sim) epoch(m *Machine) int64 {
	s.learn()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.brokers[m.id]
}

func (s *Sim) newest() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newestEpoch
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
			log, err := workload.ReadLog(s.machines[id-1].disk, p)
			s.history.Note(s.machines[id-1].String(), fmt.Sprintf("has of %v %s %v", p, workload.Ranges(log), err))
		}
	}
}

func (s *Sim) describe() string {
	var out []string
	for _, p := range s.work.Parts {
		if k := s.known[p]; k.Partition != nil {
			var sizes []string
			for _, id := range k.Replicas {
				log, err := workload.ReadLog(s.machines[id-1].disk, p)
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
