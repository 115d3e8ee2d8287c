package active

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"

	"kraft/raftmeta"
	"kraft/raftmeta/image"
)

// barrier is what a controller commits to show that it still is the controller. One serves all that ask before it is begun: anybody may
// ask, and as often as he likes.
type barrier struct {
	busy  *semaphore.Weighted // held while one is committed; guards the rest
	begun time.Time           // of the last that was committed
}

// barrierPatience is how long a controller tries to commit a barrier for nodes that catch up.
const barrierPatience = 2 * time.Second

// pass returns when something was committed that was decided after the call, or when ctx ends.
func (b *barrier) pass(ctx context.Context, meta *raftmeta.Meta) error {
	asked := time.Now()
	if err := b.busy.Acquire(ctx, 1); err != nil {
		return err
	}
	defer b.busy.Release(1)
	if b.begun.After(asked) {
		return nil
	}
	begun := time.Now()
	err := meta.Decide(ctx, func(work *image.Image) ([]*image.Record, error) {
		return []*image.Record{{Kind: &image.Record_Cluster{Cluster: &image.ClusterRecord{ClusterId: work.ClusterID}}}}, nil // which it is already
	})
	if err == nil {
		b.begun = begun
	}
	return err
}

// Confirm returns nil if this node was the active controller at some time after the call, as a majority of the quorum sees it. Any goroutine may
// call it.
func (c *Controller) Confirm(ctx context.Context) error {
	if c.meta.Alone() {
		return nil
	}
	return c.barrier.pass(ctx, c.meta)
}
