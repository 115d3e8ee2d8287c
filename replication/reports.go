package replication

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"kraft/raftmeta/broker"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/raftmeta/tags"
	"kraft/wire/ident"
	"kraft/wire/locks"
)

// reports tells the controller which log directories work and which replicas are in them, again until it
// has taken it.
type reports struct {
	broker *broker.Broker
	log    zerolog.Logger
	settle func(context.Context) // waits until what was appended here is committed
	wake   chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	mu      locks.Mutex // guards the rest, which is yet to be told
	dirs    []image.UUID
	without *tags.Room
	replica map[ident.TopicIDPartition]image.UUID // last word counts
}

func newReports(b *broker.Broker, settle func(context.Context), log zerolog.Logger) *reports {
	r := &reports{broker: b, log: log, settle: settle, wake: make(chan struct{}, 1), done: make(chan struct{}), replica: map[ident.TopicIDPartition]image.UUID{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// online reports that only these directories work. Any goroutine may call it.
func (r *reports) online(dirs []image.UUID) {
	r.mu.Lock()
	r.dirs = dirs
	r.mu.Unlock()
	r.poke()
}

// room reports which directories have no room. Any goroutine may call it.
func (r *reports) room(room tags.Room) {
	r.mu.Lock()
	r.without = &room
	r.mu.Unlock()
	r.poke()
}

// assigned reports where a replica is. Any goroutine may call it.
func (r *reports) assigned(a controller.Assignment) {
	r.mu.Lock()
	r.replica[ident.TopicIDPartition{ID: a.Topic, Partition: a.Partition}] = a.Directory
	r.mu.Unlock()
	r.poke()
}

func (r *reports) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// retryAfter is how long a report waits for a controller that takes it.
const retryAfter = 100 * time.Millisecond

// settlePatience bounds the wait for commits before others lead because of a full disk.
const settlePatience = 300 * time.Millisecond

func (r *reports) run() {
	defer close(r.done)
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-r.wake:
		}
		if err := r.tell(); err != nil && r.ctx.Err() == nil {
			r.log.Debug().Err(err).Msg("directories not reported yet")
			time.AfterFunc(retryAfter, r.poke)
		}
	}
}

func (r *reports) tell() error {
	r.mu.Lock()
	dirs, room := r.dirs, r.without
	list := make([]controller.Assignment, 0, len(r.replica))
	for k, d := range r.replica {
		list = append(list, controller.Assignment{Topic: k.ID, Partition: k.Partition, Directory: d})
	}
	r.mu.Unlock()
	if dirs != nil {
		if err := r.broker.SetLogDirs(r.ctx, dirs); err != nil {
			return err
		}
	}
	if room != nil {
		if len(room.Scarce) > 0 { // others will lead: clients whose records are not committed by then send them twice
			ctx, cancel := context.WithTimeout(r.ctx, settlePatience)
			r.settle(ctx)
			cancel()
		}
		if err := r.broker.SetRoom(r.ctx, *room); err != nil {
			return err
		}
	}
	if len(list) > 0 {
		if err := r.broker.AssignDirectories(r.ctx, list); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.dirs) == len(dirs) {
		r.dirs = nil // directories only ever fail: as many are the same
	}
	if r.without == room {
		r.without = nil
	}
	for _, a := range list {
		if k := (ident.TopicIDPartition{ID: a.Topic, Partition: a.Partition}); r.replica[k] == a.Directory {
			delete(r.replica, k)
		}
	}
	return nil
}

func (r *reports) close() {
	r.cancel()
	<-r.done
}
