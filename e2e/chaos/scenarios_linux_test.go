package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/clients"
	"kraft/e2e/harness"
	"kraft/e2e/workload"
)

// TestRollingRestart stops and starts one node after the other while clients of three languages work with their default
// settings: none is told of an error. The next node's turn comes when all clients work with all partitions again. (Three restarts
// within librdkafka's reconnect.backoff.ms, which kraft can do, found version 2.16's main thread in a deadlock for good: it takes
// all brokers for down, and its re-bootstrap meets the OffsetForLeaderEpoch that waits for a connection to one of them.)
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	c := start(t, 3)
	all := drivers(t)
	all["franz"] = clients.Franz(t)
	var producers, consumers []*Program
	for name, d := range all {
		producers = append(producers, stream(t, c, d, name, "t0", name != "librdkafka"))
		consumers = append(consumers, consume(t, c, d, name, "t0"))
	}
	work := func() error {
		for _, p := range producers {
			if err := p.more(100); err != nil {
				return err
			}
		}
		for _, p := range consumers {
			if err := p.further(); err != nil {
				return err
			}
		}
		return nil
	}
	check(t, c, c.Run(1, func() error {
		if err := work(); err != nil {
			return err
		}
		for _, n := range c.Nodes {
			c.History.Say("FAULT node %d is restarted", n.ID)
			if err := n.Stop(stopPatience); err != nil {
				return err
			}
			if err := n.Start(); err != nil {
				return err
			}
			if _, err := c.Whole(whole); err != nil {
				return err
			}
			if err := work(); err != nil {
				return err
			}
		}
		return nil
	}))
	for _, p := range producers {
		told, acked := p.Told()
		if len(told) > 0 {
			t.Errorf("%s was told of %d errors, the first: %s", p.name, len(told), told[0])
		}
		t.Logf("%s: %d records acknowledged", p.name, acked)
	}
}

// more waits until a producer's next records are acknowledged.
func (p *Program) more(records int) error {
	_, before := p.Told()
	return harness.Eventually(whole, func() error {
		if _, now := p.Told(); now < before+records {
			return fmt.Errorf("%s: %d records are acknowledged, and were %d; it says: %s", p.name, now, before, p.Output())
		}
		return nil
	})
}

// further waits until a consumer has read more of every partition.
func (p *Program) further() error {
	before := p.Offsets()
	return harness.Eventually(whole, func() error {
		now := p.Offsets()
		for n := range Partitions {
			was, began := before[n]
			if at, reads := now[n]; !reads || began && at <= was {
				return fmt.Errorf("%s: it has read up to %v, and had up to %v", p.name, now, before)
			}
		}
		return nil
	})
}

// TestCutOffLeader cuts a leader off from the other two, not from its clients: it acknowledges nothing any more, and the
// others go on without it.
func TestCutOffLeader(t *testing.T) {
	t.Parallel()
	c := start(t, 3)
	p := workload.Partition{Topic: "t0"}
	check(t, c, c.Run(1, func() error {
		leader, err := c.Leader(p)
		if err != nil {
			return err
		}
		old, err := c.Client(kgo.SeedBrokers(leader.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableIdempotentWrite(),
			kgo.RecordRetries(0), kgo.ProduceRequestTimeout(time.Second), kgo.MetadataMaxAge(time.Hour), kgo.MetadataMinAge(time.Hour))
		if err != nil {
			return err
		}
		defer old.Close()
		// It has the leader's metadata from before, and is not told of another leader.
		if err := old.ProduceSync(context.Background(), c.record(p, "old-before", 1)).FirstErr(); err != nil {
			return err
		}
		c.cutOff(int(leader.ID) - 1)
		c.History.Say("FAULT node %d, which leads %v, is cut off from the others", leader.ID, p)
		began := time.Now()
		for n := 0; time.Since(began) < 15*time.Second; n++ {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			if err := old.ProduceSync(ctx, c.record(p, fmt.Sprintf("old-%d", n), 2+n)).FirstErr(); err == nil {
				t.Errorf("record %d is acknowledged by a leader that is cut off, after %v", n, time.Since(began))
			}
			cancel()
		}
		cl, err := c.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			return err
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := cl.ProduceSync(ctx, c.record(p, "new-0", 0)).FirstErr(); err != nil {
			t.Errorf("the others do not go on: %v", err)
		}
		c.Network.Heal()
		c.History.Say("mended")
		mended := time.Now()
		if _, err := c.Whole(whole); err != nil {
			return err
		}
		// TCP alone would send again only after as long as the network was cut.
		if took := time.Since(mended); took > 8*time.Second {
			t.Errorf("the cluster is whole %v after the network", took)
		} else {
			t.Logf("the cluster is whole %v after the network", took)
		}
		return nil
	}))
	if gap := c.History.Gap(p); gap > 15*time.Second {
		t.Errorf("nothing was acknowledged for %v", gap)
	} else {
		t.Logf("the longest time without an acknowledgement is %v", gap)
	}
}

// record is one to send, whose fate the history is to know only when it is in the log: it need not be.
func (c *Cluster) record(p workload.Partition, value string, n int) *kgo.Record {
	c.History.Sends(value, workload.Attempt{To: p, Producer: 2000, N: n, Unordered: true})
	return &kgo.Record{Topic: p.Topic, Partition: p.N, Value: []byte(value)}
}

// TestPausedLeader stops a leader where it is for 30 seconds: others lead meanwhile, and when it goes on it takes itself for
// no leader.
func TestPausedLeader(t *testing.T) {
	t.Parallel()
	c := start(t, 3)
	p := workload.Partition{Topic: "t0"}
	check(t, c, c.Run(1, func() error {
		n, err := c.Leader(p)
		if err != nil {
			return err
		}
		c.History.Say("FAULT node %d, which leads %v, is paused", n.ID, p)
		n.Pause()
		time.Sleep(30 * time.Second) // as long as the fault lasts, which nothing announces
		n.Resume()
		c.History.Say("mended")
		return nil
	}))
	t.Logf("the longest time without an acknowledgement is %v", c.History.Gap(p))
}

// TestEmptiedDirectory: a node whose log directory was emptied begins again when told to, copies everything, and needs not
// be told again.
func TestEmptiedDirectory(t *testing.T) {
	t.Parallel()
	c := start(t, 3)
	check(t, c, c.Run(1, func() error {
		if err := c.begin(emptied, rand.New(rand.NewPCG(1, 1)))(); err != nil {
			return err
		}
		c.History.Say("mended")
		return c.begin(kill(all), nil)()
	}))
}

// TestPartitionedQuorum lets five nodes see each other only in a ring, and then only over a bridge, each for longer than
// sessions and elections last: a majority sees each other in no other way.
func TestPartitionedQuorum(t *testing.T) {
	t.Parallel()
	c := start(t, 5)
	check(t, c, c.Run(1, func() error {
		for _, f := range []fault{ring, bridge} {
			undo := c.begin(f, rand.New(rand.NewPCG(1, 1)))
			time.Sleep(12 * time.Second) // longer than broker.session.timeout.ms
			if err := undo(); err != nil {
				return err
			}
			c.History.Say("mended")
			if _, err := c.Whole(whole); err != nil {
				return err
			}
		}
		return nil
	}))
}
