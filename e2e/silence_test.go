//go:build unix

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
)

// TestSilentBroker stops the process of one of three brokers where it is, as a machine that hangs, or is unplugged, does: the active
// controller, and a leader that is not. Others lead, and acknowledge what is written to all partitions, within two seconds, with the
// brokers' default settings. So do producers that were there before and give a request up after a second, as a rule: franz-go asks any
// broker that it knows for metadata, the silent one too. Nothing acknowledged is lost.
func TestSilentBroker(t *testing.T) {
	const partitions = 3
	c := harness.NewCluster(t, 3, "--override", "min.insync.replicas=2")
	all := c.Bootstrap()
	c.Nodes[0].CLI(t, "", "topic", "create", "load", "-p", strconv.Itoa(partitions), "-r", "3")
	leaders(t, all, "load", 3)
	c.Nodes[0].CLI(t, "", "topic", "create", "probe", "-p", strconv.Itoa(partitions), "-r", "3")
	leaders(t, all, "probe", 3)
	l := startLoad(t, all, "load", partitions, kgo.ProduceRequestTimeout(500*time.Millisecond), kgo.RequestTimeoutOverhead(500*time.Millisecond), kgo.UnknownTopicRetries(-1), kgo.MetadataMaxAge(500*time.Millisecond)) // franz-go repeats a request that got no answer without asking who leads now
	l.more(1000)
	for _, victim := range []string{"active controller", "leader"} {
		id := controllerOf(t, all)
		if victim == "leader" {
			for _, other := range leaders(t, all, "load", 3) {
				if other != id {
					id = other
				}
			}
		}
		k := c.Nodes[id-1]
		l.more(500)
		l.gap()
		begun := time.Now()
		pause(t, k)
		var alive []string
		for i, addr := range all {
			if i+1 != int(id) {
				alive = append(alive, addr)
			}
		}
		if err := harness.Eventually(5*time.Second, func() error { // both others know
			for _, addr := range alive {
				topics, err := kadm.NewClient(kgoClient(t, addr)).ListTopics(context.Background(), "load")
				if err != nil {
					return err
				}
				for _, p := range topics["load"].Partitions {
					if p.Leader == id || slices.Contains(p.ISR, id) {
						return fmt.Errorf("%s %v", addr, p)
					}
				}
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		moved := time.Since(begun)
		fresh := kgoClient(t, alive[0], kgo.SeedBrokers(alive...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		for p := range int32(partitions) {
			if err := fresh.ProduceSync(timeout(t, 10*time.Second), &kgo.Record{Topic: "probe", Partition: p, Value: []byte("x")}).FirstErr(); err != nil {
				t.Errorf("partition %d of those that one who comes now writes to: %v", p, err)
			}
		}
		written := time.Since(begun)
		if written > 3*time.Second { // two, and one for a machine that does other things beside
			t.Errorf("%s, node %d: who comes now writes to all partitions after %v", victim, id, written)
		}
		time.Sleep(3 * time.Second)
		l.more(1000)
		gap := l.gap()
		t.Logf("%s, node %d: others lead after %v, one who comes then writes after %v; %v without an acknowledgement", victim, id, moved, written, gap)
		if gap > 10*time.Second { // two seconds, unless the client asks the silent broker for metadata, and again
			t.Errorf("%s, node %d: %v without an acknowledgement", victim, id, gap)
		}
		time.Sleep(time.Until(begun.Add(6 * time.Second)))
		resume(t, k)
		leaders(t, all, "load", 3)
	}
	l.check(all)
}
