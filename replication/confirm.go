package replication

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// confirmPatience is how long a leader that doubts itself waits for the controller.
const confirmPatience = time.Second

// doubtful reports whether an error makes a producer begin again with a new epoch or a new id, after which nobody can tell what it has
// sent already. A leader that does not know yet that it is none any more would say so of each batch that follows on what its successor
// has.
func doubtful(err error) bool {
	for _, e := range []error{kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID, kerr.InvalidProducerEpoch, kerr.InvalidProducerIDMapping} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// confirmed reports whether this node leads a partition in an epoch, by what the active controller knows now. It may wait for
// confirmPatience, and is for answers that are rare and that cannot be taken back.
func (m *Manager) confirmed(ctx context.Context, p *Partition, epoch int32) bool {
	if !m.meta.Alone() {
		ctx, cancel := context.WithTimeout(ctx, confirmPatience)
		defer cancel()
		if m.meta.CatchUp(ctx) != nil {
			return false
		}
	}
	t, ok := m.meta.Image().TopicByID(p.id)
	return ok && int(p.n) < len(t.Partitions) && t.Partitions[p.n].Leader == m.meta.NodeID() && t.Partitions[p.n].LeaderEpoch == epoch
}
