package replication

import (
	"sync"
	"time"

	"kraft/raftmeta"
	"kraft/raftmeta/image"
	"kraft/wire/locks"
)

// reopenPause is how long a partition whose log could not be opened for want of room waits for the next try.
const reopenPause = time.Second

// reopening tries again to open logs for which a disk had no room.
type reopening struct {
	meta    *raftmeta.Meta
	follow  func(*image.Image, *image.Delta) // the manager's
	stop    chan struct{}
	running sync.WaitGroup

	mu     locks.Mutex // guards the rest
	topics map[image.UUID]struct{}
	closed bool
}

func newReopening(meta *raftmeta.Meta, follow func(*image.Image, *image.Delta)) *reopening {
	return &reopening{meta: meta, follow: follow, stop: make(chan struct{}), topics: map[image.UUID]struct{}{}}
}

// later has a topic's partitions opened again soon. Any goroutine may call it.
func (r *reopening) later(topic image.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.topics[topic] = struct{}{}
	if len(r.topics) == 1 && !r.closed {
		r.running.Go(r.once)
	}
}

// once waits, and then has all that waited opened.
func (r *reopening) once() {
	select {
	case <-r.stop:
		return
	case <-time.After(reopenPause):
	}
	again := image.NewDelta()
	r.mu.Lock()
	again.Topics, r.topics = r.topics, map[image.UUID]struct{}{}
	r.mu.Unlock()
	r.meta.Show(r.follow, again)
}

func (r *reopening) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	close(r.stop)
	r.running.Wait()
}
