// Package workload is clients of a cluster that work while things fail, the history of what they were told, and the checks
// that hold it against what is there in the end. Simulations and chaos share it.
package workload

import (
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/twmb/franz-go/pkg/kgo"
)

// History is what happened: a story for people, its hash, and what the checks look at. Its methods may be called from
// any goroutine.
type History struct {
	begun time.Time

	// Unclean is the topic whose acknowledged records may be lost. It is set before anything happens.
	Unclean string

	mu          sync.Mutex // guards the rest
	lines       []string
	sum         hash.Hash64 // of what clients and the test did
	violations  []string
	attempts    map[string]*Attempt           // by value, which is never used twice
	seen        map[place]string              // values that consumers read
	ends        map[Partition]map[int32]int64 // the highest high watermark that a client was told, by leader epoch
	leaders     map[leaderEpoch]int32
	asks        []porcupine.Operation
	committedTo map[Partition]int64 // the newest offset that a group was told is committed
	wanted      map[place]int       // how many requests to commit an offset have no answer
	acks        map[Partition]int
	newest      map[Partition]time.Time     // acknowledgement
	gaps        map[Partition]time.Duration // the longest without one
}

// Partition is one of a topic's.
type Partition struct {
	Topic string
	N     int32
}

func (p Partition) String() string { return fmt.Sprintf("%s-%d", p.Topic, p.N) }

type place struct {
	Partition
	offset int64
}

type leaderEpoch struct {
	Partition
	epoch int32
}

// Attempt is one record that a producer sends.
type Attempt struct {
	To         Partition
	Producer   int
	N          int  // of the producer's records
	Idempotent bool // it is there once
	Unordered  bool // it may overtake others

	acked  bool
	offset int64 // where, once acked
}

// NewHistory begins a history now.
func NewHistory() *History {
	return &History{begun: time.Now(), sum: fnv.New64a(), attempts: map[string]*Attempt{}, seen: map[place]string{},
		ends: map[Partition]map[int32]int64{}, leaders: map[leaderEpoch]int32{}, committedTo: map[Partition]int64{}, wanted: map[place]int{},
		acks: map[Partition]int{}, newest: map[Partition]time.Time{}, gaps: map[Partition]time.Duration{}}
}

// Say tells what a client or the test did. It is part of the hash.
func (h *History) Say(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tell(fmt.Sprintf(format, args...))
}

// tell is Say. mu is held.
func (h *History) tell(text string) {
	line := fmt.Sprintf("%12.6f %s", time.Since(h.begun).Seconds(), text)
	h.lines = append(h.lines, line)
	_, _ = fmt.Fprintln(h.sum, line)
}

// Note adds a line of a node's log: to the story, not to the hash.
func (h *History) Note(node, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, fmt.Sprintf("%12.6f    %s: %s", time.Since(h.begun).Seconds(), node, text))
}

// Log makes lines of a node's log a part of the story.
func (h *History) Log(node string) io.Writer { return nodeLog{h, node} }

type nodeLog struct {
	history *History
	node    string
}

func (l nodeLog) Write(p []byte) (int, error) {
	l.history.Note(l.node, strings.TrimSpace(string(p)))
	return len(p), nil
}

// Wrong says that a check has failed.
func (h *History) Wrong(check, format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.violation(check, format, args...)
}

// violation is Wrong. mu is held.
func (h *History) violation(check, format string, args ...any) {
	text := check + ": " + fmt.Sprintf(format, args...)
	if len(h.violations) < 20 {
		h.violations = append(h.violations, text)
	}
	h.tell("WRONG " + text)
}

// Sends notes that a record is on its way. No other has its value.
func (h *History) Sends(value string, a Attempt) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attempts[value] = &a
}

// Acked notes that a producer was told where its record is.
func (h *History) Acked(value string, offset int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.attempts[value]
	a.acked, a.offset = true, offset
	now := time.Now()
	if last, ok := h.newest[a.To]; ok {
		h.gaps[a.To] = max(h.gaps[a.To], now.Sub(last))
	}
	h.newest[a.To] = now
	h.acks[a.To]++
	h.tell(fmt.Sprintf("%s is %s at %d", value, a.To, offset))
}

// forget ends all that is known of a partition: its topic is deleted.
func (h *History) forget(p Partition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.attempts, func(_ string, a *Attempt) bool { return a.To == p })
	maps.DeleteFunc(h.seen, func(at place, _ string) bool { return at.Partition == p })
	maps.DeleteFunc(h.leaders, func(e leaderEpoch, _ int32) bool { return e.Partition == p })
	delete(h.ends, p)
}

// Acks is how many of a partition's records are acknowledged.
func (h *History) Acks(p Partition) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.acks[p]
}

// Gap is the longest time between two acknowledgements of a partition's records.
func (h *History) Gap(p Partition) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.gaps[p]
}

// Read notes what a consumer found: never two values in one place.
func (h *History) Read(who string, p Partition, offset int64, value string) {
	at := place{p, offset}
	h.mu.Lock()
	defer h.mu.Unlock()
	old, again := h.seen[at]
	if again && old != value && at.Topic != h.Unclean {
		h.violation("offset reused", "%s reads %s at %s/%d, where %s was before", who, value, at.Partition, at.offset, old)
	}
	if !again {
		h.seen[at] = value
		h.tell(fmt.Sprintf("%s reads %s at %s/%d", who, value, at.Partition, at.offset))
	}
}

// end notes the high watermark that a client was told by the leader of an epoch: it is never less than what leaders of that
// epoch or of earlier ones have told. (One that is cut off goes on to tell what it knows, as in Kafka.)
func (h *History) end(p Partition, epoch int32, offset int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for known, told := range h.ends[p] {
		if known <= epoch && offset < told && p.Topic != h.Unclean {
			h.violation("high watermark fell", "%s ends at %d in epoch %d, and ended at %d in epoch %d before", p, offset, epoch, told, known)
		}
	}
	if h.ends[p] == nil {
		h.ends[p] = map[int32]int64{}
	}
	if offset > h.ends[p][epoch] {
		h.ends[p][epoch] = offset
		h.tell(fmt.Sprintf("%s ends at %d in epoch %d", p, offset, epoch))
	}
}

// leads notes who a broker says leads a partition in an epoch: there is one.
func (h *History) leads(by int32, p Partition, epoch, leader int32) {
	if leader < 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	old, known := h.leaders[leaderEpoch{p, epoch}]
	if known && old != leader {
		h.violation("two leaders", "broker %d says that %d leads %s in epoch %d, and it was %d", by, leader, p, epoch, old)
	}
	if !known {
		h.leaders[leaderEpoch{p, epoch}] = leader
		h.tell(fmt.Sprintf("%d leads %s in epoch %d", leader, p, epoch))
	}
}

// commits notes that a member asks to commit offsets: that may happen at any time from now on, also after others have
// committed more. (A member that was taken for dead and joins again may still commit what it has read.)
func (h *History) commits(offsets map[string]map[int32]kgo.EpochOffset) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for topic, partitions := range offsets {
		for n, o := range partitions {
			h.wanted[place{Partition{topic, n}, o.Offset}]++
		}
	}
}

// committed notes an offset that a group was told is committed.
func (h *History) committed(who string, p Partition, offset int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.committedTo[p] = max(h.committedTo[p], offset)
	if at := (place{p, offset}); h.wanted[at] > 0 {
		h.wanted[at]--
	}
	h.tell(fmt.Sprintf("%s commits %s/%d", who, p, offset))
}

// starts notes where a group begins or goes on: never before what it committed.
func (h *History) starts(who string, p Partition, offset, committed int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tell(fmt.Sprintf("%s is told that %s is committed to %d", who, p, offset))
	if offset < committed && h.wanted[place{p, offset}] > 0 {
		h.committedTo[p] = offset
		return
	}
	if offset < committed && p.Topic != h.Unclean {
		h.violation("committed offset went back", "%s is told that %s is committed to %d, and it was to %d before it asked", who, p, offset, committed)
	}
}

func (h *History) committedSoFar(p Partition) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.committedTo[p]
}

// Violations are the checks that failed, each with its finding.
func (h *History) Violations() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.violations)
}

// Hash is of all that clients and the test did and were told, each with its time.
func (h *History) Hash() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sum.Sum64()
}

// Story is what happened, a line each, with the nodes' logs.
func (h *History) Story() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.lines, "\n")
}
