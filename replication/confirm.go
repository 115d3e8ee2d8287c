package replication

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// confirmPatience is how long a request that doubts this node's leadership waits for the controller.
const confirmPatience = time.Second

// doubtful reports whether an error has a producer begin again with a new epoch, after which no broker can tell what it has sent already.
// A leader that has a successor, and does not know it yet, finds each batch out of order that follows on what the successor has.
func doubtful(err error) bool {
	return errors.Is(err, kerr.OutOfOrderSequenceNumber) || errors.Is(err, kerr.InvalidProducerEpoch)
}

// confirmation asks the active controller, once for each request, whether what this node knows of its leaderships is still so. It is for
// answers that are rare and that cannot be taken back. One goroutine may use it.
type confirmation struct {
	manager *Manager
	asked   bool
	current bool // this node has applied all that was committed when it asked
}

// leads reports whether this node leads a partition in an epoch. The first call may wait for confirmPatience.
func (c *confirmation) leads(ctx context.Context, p *Partition, epoch int32) bool {
	if !c.asked {
		c.asked, c.current = true, c.manager.meta.Alone()
		if !c.current {
			ctx, cancel := context.WithTimeout(ctx, confirmPatience)
			defer cancel()
			c.current = c.manager.broker.CatchUp(ctx) == nil
		}
	}
	t, _ := c.manager.meta.Newest().TopicByID(p.id)
	reg, ok := t.Partition(p.n)
	return c.current && ok && reg.Leader == c.manager.meta.NodeID() && reg.LeaderEpoch == epoch
}

// Leads reports whether this node leads p in an epoch, by the active controller's word. Any goroutine may call it.
func (m *Manager) Leads(ctx context.Context, p *Partition, epoch int32) bool {
	c := confirmation{manager: m}
	return c.leads(ctx, p, epoch)
}
