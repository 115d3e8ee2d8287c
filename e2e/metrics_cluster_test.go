//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

// TestMetricsOfACluster: a group's coordinator tells its lag in partitions that other brokers have, one node is the controller, and
// who has lost a replica says so.
func TestMetricsOfACluster(t *testing.T) {
	c := harness.NewCluster(t, 3)
	var admins []string
	for _, k := range c.Nodes {
		port, err := freeport.Get()
		if err != nil {
			t.Fatal(err)
		}
		admins = append(admins, fmt.Sprintf("127.0.0.1:%d", port))
		if err := k.Stop(20 * time.Second); err != nil {
			t.Fatal(err)
		}
		if err := k.StartWith("--admin", admins[len(admins)-1]); err != nil {
			t.Fatal(err)
		}
	}
	k := c.Nodes[0]
	k.CLI(t, "", "topic", "create", "single", "-p", "6", "-r", "1")
	k.CLI(t, "", "topic", "create", "triple", "-p", "1", "-r", "3")
	k.CLI(t, "a\nb\nc\nd\ne\nf\ng\nh\n", "produce", "single")
	k.CLI(t, "", "consume", "single", "--from-beginning", "-g", "readers", "-n", "2")
	// total adds up what all nodes say; who says nothing counts nothing.
	total := func(series string) (sum float64) {
		for _, a := range admins {
			_, text := harness.Scrape(t, a, "/metrics")
			var n float64
			if _, err := fmt.Sscan(sample(text, series), &n); err == nil {
				sum += n
			}
		}
		return sum
	}
	wait := func(series string, want float64) {
		t.Helper()
		if err := harness.Eventually(20*time.Second, func() error {
			if got := total(series); got != want {
				return fmt.Errorf("%s is %v in all, wanted %v", series, got, want)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	wait(`kraft_group_lag_records{group="readers",topic="single"}`, 6)
	if age := total(`kraft_group_lag_seconds{group="readers",topic="single"}`); age <= 0 || age > 60 {
		t.Errorf("the oldest record that was not read is %v seconds old", age)
	}
	wait("kafka_controller_kafkacontroller_activecontrollercount", 1)
	wait("kraft_partitions_under_replicated", 0)
	gone := c.Nodes[2]
	if err := gone.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	admins = admins[:2]
	if err := harness.Eventually(20*time.Second, func() error {
		if n := total("kraft_partitions_under_replicated"); n < 1 { // triple-0, and partitions of __consumer_offsets
			return fmt.Errorf("%v partitions are under-replicated", n)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	wait("kraft_cluster_brokers_fenced", 2) // both say that there is one
	for _, a := range admins {
		if status, text := harness.Scrape(t, a, "/readyz"); status != http.StatusOK {
			t.Errorf("%s is not ready: %s", a, text)
		}
	}
	if err := gone.Start(); err != nil {
		t.Fatal(err)
	}
	wait("kraft_partitions_under_replicated", 0)
}

// TestProducerWithoutController: a broker that reaches no controller says so soon, so that a producer asks another one.
func TestProducerWithoutController(t *testing.T) {
	c := harness.NewCluster(t, 3)
	for _, k := range c.Nodes[1:] {
		k.Kill()
	}
	conn := dial(t, c.Nodes[0].Addr)
	begun := time.Now()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version = 4
	resp := conn.ask(req).(*kmsg.InitProducerIDResponse)
	if took := time.Since(begun); resp.ErrorCode != kerr.CoordinatorLoadInProgress.Code || took > 3*time.Second {
		t.Errorf("error %d after %v", resp.ErrorCode, took)
	}
}
