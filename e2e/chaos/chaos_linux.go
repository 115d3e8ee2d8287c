package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"kraft/e2e/harness"
	"kraft/e2e/workload"
)

const (
	calm  = 2 * time.Second // before the first fault, and after the last
	whole = time.Minute     // in which a cluster is to be whole again after the last fault
)

// Partitions is how many each topic has.
const Partitions = 3

// Create makes topics, with three replicas of each partition.
func (c *Cluster) Create(topics ...string) error {
	c.Topics = topics
	ctx, cancel := context.WithTimeout(context.Background(), whole)
	defer cancel()
	w := c.work()
	if err := w.Create(ctx, Partitions, 3); err != nil {
		return err
	}
	return w.CreateTransact(ctx, 3)
}

// work is what is common to all clients of a workload.
func (c *Cluster) work() *workload.Workload {
	w := &workload.Workload{History: c.History, Seeds: c.Bootstrap(), Pause: 10 * time.Millisecond, LogDirs: []string{"/none/has/this"},
		Dial: func(ctx context.Context, _ int, address string) (net.Conn, error) {
			return c.Clients.Dial(ctx, address)
		}}
	for _, topic := range c.Topics {
		for n := range int32(Partitions) {
			w.Parts = append(w.Parts, workload.Partition{Topic: topic, N: n})
		}
	}
	return w
}

// Run has clients work on topics that were made, beside programs that may have been started, while fail makes things
// fail. Then it waits until all is well again, and ends programs and nodes. The cluster's history says what it found.
func (c *Cluster) Run(seed uint64, fail func() error) error {
	w := c.work()
	working, stop := context.WithCancel(context.Background())
	defer stop()
	w.Context = working
	producing, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	var producers, others sync.WaitGroup
	client := 0
	start := func(group *sync.WaitGroup, f func(i int, rng *rand.Rand) error) {
		i := client
		client++
		group.Go(func() {
			if err := f(i, rand.New(rand.NewPCG(seed, uint64(i)))); err != nil {
				c.History.Say("client %d: %v", i, err)
			}
		})
	}
	for range 4 {
		start(&producers, func(i int, rng *rand.Rand) error { return w.Produce(producing, i, i%2 == 0, rng) })
	}
	transactions, transactors := workload.NewTransactions(), []int(nil)
	for range 2 {
		transactors = append(transactors, client)
		start(&producers, func(i int, rng *rand.Rand) error { return w.Transact(producing, i, transactions, rng) })
	}
	start(&others, func(i int, _ *rand.Rand) error { return w.ReadTransact(i, transactions) })
	start(&others, func(i int, _ *rand.Rand) error { return w.Consume(i) })
	again := func(i int, rng *rand.Rand) error { return w.Recreate(i, 3, rng) }
	for _, f := range []func(int, *rand.Rand) error{w.Group, w.Group, w.Administrate, w.Administrate, w.Visit, w.Watch, again} {
		start(&others, f)
	}
	problem := c.busy(w.Parts)
	if problem == nil {
		problem = fail()
	}
	c.History.Say("no more faults")
	time.Sleep(calm)
	stop()
	answered := make(chan struct{})
	go func() { producers.Wait(); close(answered) }()
	select {
	case <-answered:
	case <-time.After(whole):
		problem = errors.Join(problem, fmt.Errorf("producers wait for answers %v after the last fault", whole))
		giveUp()
		<-answered
	}
	rested := time.Now()
	others.Wait()
	c.Topics = append(c.Topics, workload.Again.Topic, workload.TransactTopic)
	partitions, err := c.Whole(whole)
	c.History.Say("whole again after %v", time.Since(rested))
	checking, enough := context.WithTimeout(context.Background(), 2*whole)
	defer enough()
	problem = errors.Join(problem, err, w.CheckTransact(checking, transactors, transactions, whole), c.stopPrograms())
	c.look(w)
	problem = errors.Join(problem, c.Close())
	c.CheckLogs(partitions)
	c.History.CheckReads()
	c.History.CheckOrder()
	return problem
}

// busy waits until every partition's records are acknowledged.
func (c *Cluster) busy(parts []workload.Partition) error {
	return harness.Eventually(whole, func() error {
		for _, p := range parts {
			if c.History.Acks(p) == 0 {
				return fmt.Errorf("no record of %v is acknowledged yet", p)
			}
		}
		return nil
	})
}

// Fail makes things fail at random, one after the other, for about the given time.
func (c *Cluster) Fail(seed uint64, length time.Duration) error {
	rng := rand.New(rand.NewPCG(seed, 1000))
	processes, networks := deck{all: processFaults, rng: rng}, deck{all: networkFaults, rng: rng}
	for end := time.Now().Add(length); time.Now().Before(end); {
		time.Sleep(calm)
		var undo []func() error
		kind := rng.IntN(4)
		if kind != 0 {
			undo = append(undo, c.begin(processes.next(), rng))
		}
		if kind <= 1 {
			undo = append(undo, c.begin(networks.next(), rng))
		}
		time.Sleep(time.Duration(500+rng.IntN(5000)) * time.Millisecond)
		var err error
		for i := len(undo) - 1; i >= 0; i-- { // the network first: a node that cannot reach the others does not start
			err = errors.Join(err, undo[i]())
		}
		if err != nil {
			return err
		}
		c.History.Say("mended")
	}
	return nil
}

// begin makes something fail, and says what.
func (c *Cluster) begin(f fault, rng *rand.Rand) (undo func() error) {
	what, undo := f(c, rng)
	if what != "" {
		c.History.Say("FAULT %s", what)
	}
	return undo
}

// deck gives out faults at random, each as often as the others.
type deck struct {
	all, left []fault
	rng       *rand.Rand
}

func (d *deck) next() fault {
	if len(d.left) == 0 {
		for _, i := range d.rng.Perm(len(d.all)) {
			d.left = append(d.left, d.all[i])
		}
	}
	f := d.left[0]
	d.left = d.left[1:]
	return f
}

// stopPrograms ends what was started by Stream and Consume.
func (c *Cluster) stopPrograms() error {
	programs := c.programs
	c.programs = nil
	return together(programs, func(p *Program) error { return p.Stop(whole) })
}

// look asks once more for what clients were told.
func (c *Cluster) look(w *workload.Workload) {
	cl, err := w.Client(0)
	if err != nil {
		c.History.Wrong("unavailable", "%v", err)
		return
	}
	defer cl.Close()
	w.Look(context.Background(), cl)
}
