//go:build unix

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
)

// TestManyTopicsInOneRequest: what a request with many topics costs grows no faster than they do.
func TestManyTopicsInOneRequest(t *testing.T) {
	c := harness.NewCluster(t, 3)
	all := c.Bootstrap()
	admin := kadm.NewClient(kgoClient(t, all[0], kgo.SeedBrokers(all...), kgo.RequestTimeoutOverhead(time.Minute)))
	took := map[int][2]time.Duration{}
	for _, n := range []int{100, 1000} {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf("t%d.%d", n, i))
		}
		ctx := timeout(t, time.Minute)
		begun := time.Now()
		created, err := admin.CreateTopics(ctx, 3, 3, nil, names...)
		if err == nil {
			err = created.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
		middle := time.Now()
		deleted, err := admin.DeleteTopics(ctx, names...)
		if err == nil {
			err = deleted.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
		took[n] = [2]time.Duration{middle.Sub(begun), time.Since(middle)}
		t.Logf("%d topics of 3 partitions: created in %v, deleted in %v", n, took[n][0], took[n][1])
	}
	for i, what := range []string{"created", "deleted"} {
		if few, many := took[100][i], took[1000][i]; many > 20*few+time.Second {
			t.Errorf("%s: 100 topics in %v, 1000 in %v", what, few, many)
		}
	}
}
