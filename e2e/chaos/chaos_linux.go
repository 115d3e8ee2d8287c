package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"kraft/e2e/workload"
)

const (
	calm  = 2 * time.Second // before the first fault, and after the last
	whole = time.Minute     // in which a cluster is to be whole again after the last fault
)

// Run has clients work on a cluster that was started, makes things fail for about the given time, one after the other, and
// then waits until all is well again and stops the nodes. The cluster's history says what it found.
func Run(c *Cluster, seed uint64, length time.Duration) error {
	w := &workload.Workload{History: c.History, Seeds: c.Bootstrap(), Pause: 10 * time.Millisecond, LogDirs: []string{"/none/has/this"}, Dial: c.dial}
	for t := range 2 {
		topic := fmt.Sprintf("t%d", t)
		c.Topics = append(c.Topics, topic)
		for n := range int32(3) {
			w.Parts = append(w.Parts, workload.Partition{Topic: topic, N: n})
		}
	}
	creating, cancel := context.WithTimeout(context.Background(), whole)
	defer cancel()
	if err := w.Create(creating, 3, int16(min(3, len(c.Nodes)))); err != nil {
		return err
	}
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
	start(&others, func(i int, _ *rand.Rand) error { return w.Consume(i) })
	for _, f := range []func(int, *rand.Rand) error{w.Group, w.Group, w.Administrate, w.Administrate, w.Visit, w.Watch} {
		start(&others, f)
	}
	problem := c.fail(rand.New(rand.NewPCG(seed, 1000)), length)
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
	partitions, err := c.Whole(whole)
	problem = errors.Join(problem, err)
	others.Wait()
	c.look(w)
	problem = errors.Join(problem, c.Close())
	c.CheckLogs(partitions)
	c.History.CheckOrder()
	return problem
}

// fail makes things fail, for about the given time.
func (c *Cluster) fail(rng *rand.Rand, length time.Duration) error {
	for end := time.Now().Add(length); time.Now().Before(end); {
		time.Sleep(calm)
		var undo []func() error
		choose := func(from []fault) {
			what, end := from[rng.IntN(len(from))](c, rng)
			if what != "" {
				c.History.Say("FAULT %s", what)
			}
			undo = append(undo, end)
		}
		kind := rng.IntN(4)
		if kind != 0 {
			choose(processFaults)
		}
		if kind <= 1 {
			choose(networkFaults)
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
