// Package coordinator is the group coordinator of one __consumer_offsets partition as a pure state machine: classic groups with their
// rebalances, and committed offsets (Kafka's GroupMetadataManager and OffsetMetadataManager). It knows no I/O, no clock and no goroutine;
// package runtime runs it.
//
// What records hold (offsets, and groups as of their last generation) changes in Replay (records.go). Operations, in the other files, read
// it and return records. A rebalance is soft state: its members and generation are in no record until their leader has assigned partitions.
package coordinator

import (
	"container/heap"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
)

// Config holds the broker's settings for groups. A duration of 0 means zero, not a default.
type Config struct {
	MinSession            time.Duration // group.min.session.timeout.ms
	MaxSession            time.Duration // group.max.session.timeout.ms
	MaxSize               int           // group.max.size
	InitialRebalanceDelay time.Duration // group.initial.rebalance.delay.ms
	OffsetsRetention      time.Duration // offsets.retention.minutes
	RetentionInterval     time.Duration // offsets.retention.check.interval.ms
	MaxMetadata           int           // offset.metadata.max.bytes
	// NewID returns a fresh unique suffix for member ids.
	NewID func() string
}

// Coordinator holds the groups of one partition. Only its loop may touch it.
type Coordinator struct {
	config  Config
	groups  map[string]*group
	due     deadlines
	sweepAt time.Time // when offsets are next looked at for expiry
	orphans []orphan  // offsets of deleted topics that could not be forgotten yet
	open    openOffsets
	handed  int // member ids given to joining clients, each counted until the session that its client asked for ends
}

// maxHanded bounds the member ids whose session time still runs: a client could ask for millions. Clients beyond that get
// COORDINATOR_LOAD_IN_PROGRESS, on which they try again.
const maxHanded = 20_000

// New returns an empty coordinator.
func New(config Config) *Coordinator {
	return &Coordinator{config: config, groups: map[string]*group{}, open: newOpenOffsets()}
}

// Loaded implements runtime.Machine: members that were there before get a full session to show up.
func (c *Coordinator) Loaded(now time.Time) runtime.Effects {
	c.sweepAt = now.Add(c.config.RetentionInterval)
	for _, g := range c.groups {
		for _, m := range g.order {
			c.touch(g, m, now)
		}
	}
	return runtime.Effects{}
}

// Next implements runtime.Machine.
func (c *Coordinator) Next() time.Time {
	if len(c.due) > 0 && c.due[0].at.Before(c.sweepAt) {
		return c.due[0].at
	}
	return c.sweepAt
}

// Tick implements runtime.Machine: it does one thing that is due; the loop calls again.
func (c *Coordinator) Tick(call runtime.Call) runtime.Effects {
	if len(c.due) > 0 && !call.Now.Before(c.due[0].at) {
		d := heap.Pop(&c.due).(deadline)
		return d.then(call)
	}
	if !call.Now.Before(c.sweepAt) {
		c.sweepAt = call.Now.Add(c.config.RetentionInterval)
		return c.sweep(call)
	}
	return runtime.Effects{}
}

// group finds or makes a group.
func (c *Coordinator) group(id string) *group {
	g := c.groups[id]
	if g == nil {
		g = newGroup(id)
		c.groups[id] = g
	}
	return g
}

// forgetIfVoid drops a group of which neither members nor offsets nor metadata remain.
func (c *Coordinator) forgetIfVoid(g *group) {
	if g.void() && c.groups[g.id] == g {
		g.state = Dead
		delete(c.groups, g.id)
	}
}

// deadline is something to do at a time, if it still applies then: entries are never removed, what they
// were for is checked when they fall due.
type deadline struct {
	at   time.Time
	then func(runtime.Call) runtime.Effects
}

type deadlines []deadline

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d deadlines) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *deadlines) Push(x any)        { *d = append(*d, x.(deadline)) }
func (d *deadlines) Pop() any {
	old := *d
	x := old[len(old)-1]
	old[len(old)-1] = deadline{}
	*d = old[:len(old)-1]
	return x
}

func (c *Coordinator) at(t time.Time, then func(runtime.Call) runtime.Effects) {
	heap.Push(&c.due, deadline{t, then})
}

// Client is who sends a request.
type Client struct {
	ID, Host string
}

func reply(to runtime.Token, response any) runtime.Effects {
	if to == 0 {
		return runtime.Effects{}
	}
	return runtime.Effects{Replies: []runtime.Reply{{To: to, Response: response}}}
}

func failedJoin(to runtime.Token, memberID string, code int16) runtime.Effects {
	r := kmsg.NewPtrJoinGroupResponse()
	r.ErrorCode, r.MemberID, r.Generation = code, memberID, -1
	return reply(to, r)
}

func failedSync(to runtime.Token, code int16) runtime.Effects {
	r := kmsg.NewPtrSyncGroupResponse()
	r.ErrorCode = code
	return reply(to, r)
}
