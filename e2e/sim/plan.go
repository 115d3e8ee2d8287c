package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Plan is what a simulation does; it follows from its seed, and is what shrinking makes smaller.
type Plan struct {
	Seed           uint64
	Voters         int32
	Observers      int32 // nodes that join the quorum and do not vote
	Partitions     int32
	Topics         int
	Unclean        bool // the last topic may be led by who lacks records
	Idempotent     int  // producers of each kind
	Plain          int
	Members        int // of the group
	Administrators int
	Visitors       int
	Recreate       bool // a topic is deleted and made again while it is used
	Upgrade        bool // nodes begin as the version before, and are upgraded one after the other
	SlowDisks      bool // disks may be slow; then locks may be held while one waits
	Rot            bool // a bit of a record on some disk flips
	Commit         bool // log.flush.policy=commit: power may fail everywhere at once
	Steady         bool // nothing that happens is a reason for another leader
	Operator       bool // somebody moves partitions all the time, of a cluster with more brokers than replicas, under more load
	Meet           bool // nodes know the addresses of the quorum's voters alone (zookeeper.connect), and start in any order
	Late           bool // metadata reaches some nodes later than the answers that follow from it
	Transactors    int  // clients with transactions
	Secured        bool // clients and brokers log in by SCRAM, and rules say who may do what
	Rules          bool // clients try what groups and logs are to refuse, and what deletion is to keep
	operated       operated
	Settings       map[string]string
	Faults         []Fault
}

// operated is what an operator's plan has more than it would have without one.
type operated struct {
	observers, partitions int32
	idempotent            int
}

// Nodes is how many there are.
func (p *Plan) Nodes() int32 { return p.Voters + p.Observers }

// Fault is one thing that happens, at an instant of its own.
type Fault struct {
	After time.Duration // since the one before
	Kind  faultKind
	Dice  [3]uint64 // choose what it happens to
}

type faultKind string

const (
	calm = 6 * time.Second // virtual, in which a cluster forms before the first fault
	rest = 90 * time.Second
)

// pauseSeeds is the first of the seeds whose plans hold pauses only, none longer than a second.
const pauseSeeds, pausesOfAPlan = 1 << 40, 50

// newPausePlan makes the plan of a seed from pauseSeeds on.
func newPausePlan(seed uint64) *Plan {
	rng := rand.New(rand.NewPCG(seed, 11))
	p := &Plan{Seed: seed, Voters: 3, Partitions: 3, Topics: 1, Idempotent: 1, Steady: true, Settings: map[string]string{
		"offsets.topic.num.partitions": "1", "min.insync.replicas": "2", "leader.imbalance.check.interval.seconds": "100000",
	}}
	for range pausesOfAPlan {
		p.Faults = append(p.Faults, Fault{After: 1200*time.Millisecond + time.Duration(rng.IntN(300_000_000)), Kind: "short pause", Dice: [3]uint64{rng.Uint64(), rng.Uint64(), rng.Uint64()}})
	}
	return p
}

// NewPlan makes the plan of a seed.
func NewPlan(seed uint64) *Plan {
	if seed >= pauseSeeds {
		return newPausePlan(seed)
	}
	rng := rand.New(rand.NewPCG(seed, 7))
	p := &Plan{Seed: seed, Voters: 3, Partitions: 1 + rng.Int32N(2), Topics: 1, Idempotent: 1 + rng.IntN(2), Plain: rng.IntN(2), Members: rng.IntN(3), Administrators: rng.IntN(3), Visitors: rng.IntN(2), Recreate: rng.IntN(2) == 0, SlowDisks: rng.IntN(6) == 0, Rot: rng.IntN(8) == 0, Commit: rng.IntN(3) == 0}
	switch rng.IntN(8) {
	case 0:
		p.Voters = 1
	case 1:
		p.Voters = 5
	case 2:
		p.Observers = 1 + rng.Int32N(2)
	}
	p.Settings = map[string]string{
		"replica.lag.time.max.ms":          fmt.Sprint([]int{500, 2000, 10000}[rng.IntN(3)]),
		"log.roll.ms":                      fmt.Sprint([]int{200, 1000, 3_600_000}[rng.IntN(3)]),
		"offsets.topic.num.partitions":     "1",
		"group.initial.rebalance.delay.ms": "0",
		"broker.session.timeout.ms":        fmt.Sprint([]int{2000, 9000}[rng.IntN(2)]),
		"min.insync.replicas":              fmt.Sprint(min(2, p.Nodes())),
	}
	if rng.IntN(4) == 0 {
		p.Topics, p.Unclean = 2, true
	}
	if rng.IntN(2) == 0 {
		p.Settings["log.cleaner.backoff.ms"], p.Settings["log.cleaner.min.cleanable.ratio"] = "200", "0.01"
	}
	if rng.IntN(3) == 0 {
		p.Settings["log.dirs"] = strings.Join(logDirs, ",")
	}
	if p.Commit {
		p.Settings["log.flush.policy"] = "commit"
	}
	more := rand.New(rand.NewPCG(seed, 8)) // what plans of before did not have
	p.Upgrade = more.IntN(6) == 0
	for range 2 + rng.IntN(14) {
		p.Faults = append(p.Faults, Fault{
			After: time.Duration(50+rng.IntN(2000))*time.Millisecond + time.Duration(rng.IntN(1_000_000)),
			Kind:  kinds[rng.IntN(len(kinds))],
			Dice:  [3]uint64{rng.Uint64(), rng.Uint64(), rng.Uint64()},
		})
	}
	for i := 0; p.Upgrade && i < 2*int(p.Nodes())+4; i++ {
		at := more.IntN(len(p.Faults) + 1)
		p.Faults = slices.Insert(p.Faults, at, Fault{
			After: time.Duration(50+more.IntN(1000))*time.Millisecond + time.Duration(more.IntN(1_000_000)),
			Kind:  upgradeKinds[more.IntN(len(upgradeKinds))],
			Dice:  [3]uint64{more.Uint64(), more.Uint64(), more.Uint64()},
		})
	}
	p.insert(rand.New(rand.NewPCG(seed, 9)))
	if rand.New(rand.NewPCG(seed, 10)).IntN(3) == 0 && p.Voters > 1 {
		p.Operator = true
		p.operated = operated{max(0, 4-p.Nodes()), 6 - p.Partitions, 2}
		p.Observers, p.Partitions, p.Idempotent = p.Observers+p.operated.observers, 6, p.Idempotent+2
		// What was moved away is to go soon: a disk with thousands of files is slow to simulate.
		p.Settings["log.segment.delete.delay.ms"], p.Settings["log.retention.check.interval.ms"] = "1000", "1000"
	}
	if latest := rand.New(rand.NewPCG(seed, 12)); latest.IntN(2) == 0 {
		p.Rules = true
		p.Settings["metadata.log.max.record.bytes.between.snapshots"] = fmt.Sprint(1 << (9 + latest.IntN(8)))
		p.Settings["log.retention.check.interval.ms"] = "1000"
	}
	if latest := rand.New(rand.NewPCG(seed, 17)); latest.IntN(3) == 0 {
		p.Transactors = 1 + latest.IntN(3)
		p.Settings["transaction.state.log.num.partitions"] = fmt.Sprint(1 + latest.IntN(2))
		p.Settings["transaction.abort.timed.out.transaction.cleanup.interval.ms"] = "1000"
	}
	p.Secured = rand.New(rand.NewPCG(seed, 18)).IntN(12) == 0
	p.Meet = p.Voters > 1 && rand.New(rand.NewPCG(seed, 14)).IntN(5) == 0
	p.Late = p.Nodes() > 1 && rand.New(rand.NewPCG(seed, 16)).IntN(4) > 0
	return p
}

// laterKinds are faults that plans did not have before. Those that were there do not move when they come in between.
var laterKinds = []faultKind{"pause", "copy", "older"}

// insert puts pauses into two thirds of the plans, and a copy of disks and its use into a quarter.
func (p *Plan) insert(rng *rand.Rand) {
	before := func(i int, kind faultKind) {
		after := 1 + time.Duration(rng.Int64N(int64(p.Faults[i].After)-1))
		p.Faults[i].After -= after
		p.Faults = slices.Insert(p.Faults, i, Fault{After: after, Kind: kind, Dice: [3]uint64{rng.Uint64(), rng.Uint64(), rng.Uint64()}})
	}
	for range rng.IntN(3) {
		before(rng.IntN(len(p.Faults)), "pause")
	}
	if rng.IntN(4) == 0 && p.Nodes() > 1 {
		i := rng.IntN(len(p.Faults))
		before(i, "copy")
		before(i+1+rng.IntN(len(p.Faults)-i-1), "older")
	}
}
