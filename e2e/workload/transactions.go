package workload

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// outcome is how a transaction ended, as far as its client knows.
type outcome int

const (
	unknown outcome = iota // it has no answer: the transaction may be committed or not, but whole
	committed
	aborted
)

func (o outcome) String() string { return [...]string{"unknown", "committed", "aborted"}[o] }

// Txn is one transaction of a client.
type Txn struct {
	Name    string
	Outcome outcome
	Writes  map[string]Partition // by value, which is never used twice
	Acked   map[string]int64     // offsets in the acknowledgements, by value
	Reads   map[string]bool      // values that the client read between begin and end
	Offset  int64                // what it commits for its client's group, -1 for nothing
	Client  string               // of a transactional id and a group
}

// visible is one record that a consumer of committed records read.
type visible struct {
	place
	value string
}

// Transactions is the history of transactional clients. Its methods may be called from any goroutine.
type Transactions struct {
	mu     sync.Mutex // guards the rest
	txns   []*Txn
	seen   map[visible]bool // by consumers of committed records, at any time
	faults []string         // what consumers found wrong themselves
}

// NewTransactions begins a history.
func NewTransactions() *Transactions { return &Transactions{seen: map[visible]bool{}} }

// Begin notes a transaction.
func (t *Transactions) Begin(client, name string) *Txn {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := &Txn{Name: name, Client: client, Writes: map[string]Partition{}, Acked: map[string]int64{}, Reads: map[string]bool{}, Offset: -1}
	t.txns = append(t.txns, x)
	return x
}

// writes notes that a record of x is on its way.
func (t *Transactions) writes(x *Txn, value string, p Partition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x.Writes[value] = p
}

// acked notes where a record of x is.
func (t *Transactions) acked(x *Txn, value string, offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x.Acked[value] = offset
}

// reads notes that x read a value, at a place.
func (t *Transactions) reads(x *Txn, p Partition, offset int64, value string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x.Reads[value] = true
	t.seen[visible{place{p, offset}, value}] = true
}

// commits notes that x commits an offset.
func (t *Transactions) commits(x *Txn, offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x.Offset = offset
}

// ends notes the outcome that the client got for x.
func (t *Transactions) ends(x *Txn, o outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x.Outcome = o
}

// sees notes what a consumer of committed records read.
func (t *Transactions) sees(p Partition, offset int64, value string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen[visible{place{p, offset}, value}] = true
}

func (t *Transactions) fault(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults = append(t.faults, fmt.Sprintf(format, args...))
}

// Last holds the records and offsets that can be read after all transactions have ended.
type Last struct {
	Records map[Partition]map[int64]string // that a consumer of committed records reads
	Offsets map[string]int64               // by client: what its group has committed, -1 for nothing
}

// Check returns what is wrong with the history, each a kind and a sentence, after Jepsen's tests of Kafka. What Kafka does not promise is not
// wrong: writes of transactions that interleave (G0), and a commit of which a consumer sees one partition before the other.
func (t *Transactions) Check(last Last) (wrong []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	wrong = slices.Clone(t.faults)
	say := func(kind, format string, args ...any) { wrong = append(wrong, kind+": "+fmt.Sprintf(format, args...)) }
	places := map[string][]place{} // of values, in the end
	for _, p := range slices.SortedFunc(maps.Keys(last.Records), func(a, b Partition) int { return strings.Compare(a.String(), b.String()) }) {
		for _, offset := range slices.Sorted(maps.Keys(last.Records[p])) {
			value := last.Records[p][offset]
			places[value] = append(places[value], place{p, offset})
		}
	}
	of := map[string]*Txn{}
	for _, x := range t.txns {
		for value := range x.Writes {
			of[value] = x
		}
	}
	for _, value := range slices.Sorted(maps.Keys(places)) {
		if len(places[value]) > 1 {
			say("duplicate", "%s is at %v", value, places[value])
		}
		if of[value] == nil {
			say("invented", "%s was written by nobody", value)
		}
	}
	for _, x := range t.txns {
		t.checkOne(x, places, say)
	}
	for v := range t.seen {
		if at, ok := last.Records[v.Partition][v.offset]; ok && at != v.value {
			say("offset reused", "%s was read at %v/%d, where %s is in the end", v.value, v.Partition, v.offset, at)
		}
		if x := of[v.value]; x != nil && len(places[v.value]) == 0 {
			say("aborted read", "%s of %s (%v) was read at %v/%d, and is not there in the end", v.value, x.Name, x.Outcome, v.Partition, v.offset)
		}
	}
	t.checkOffsets(places, last.Offsets, say)
	if cycle := t.cycle(of); cycle != nil {
		say("circular reads", "each of these transactions read a record of the next: %v (G1c)", cycle)
	}
	slices.Sort(wrong)
	return slices.Compact(wrong)
}

// checkOne checks that a transaction is there as a whole or not at all, as its client was told.
func (t *Transactions) checkOne(x *Txn, places map[string][]place, say func(kind, format string, args ...any)) {
	var there, missing []string
	for _, value := range slices.Sorted(maps.Keys(x.Writes)) {
		if len(places[value]) > 0 {
			there = append(there, value)
		} else if _, acked := x.Acked[value]; acked {
			missing = append(missing, value)
		}
	}
	for value, offset := range x.Acked {
		for _, at := range places[value] {
			if at.Partition != x.Writes[value] || at.offset != offset {
				say("wrong offset", "%s of %s was acknowledged at %v/%d, and is at %v/%d", value, x.Name, x.Writes[value], offset, at.Partition, at.offset)
			}
		}
	}
	switch {
	case x.Outcome == committed && len(missing) > 0:
		say("lost write", "%s was committed, and lacks %v", x.Name, missing)
	case x.Outcome == aborted && len(there) > 0:
		say("aborted read", "%s was aborted, and %v can be read", x.Name, there)
	case x.Outcome == unknown && len(there) > 0 && len(missing) > 0:
		say("torn", "of %s, whose end is not known, %v can be read and %v not", x.Name, there, missing)
	}
	for value := range x.Reads {
		if _, own := x.Writes[value]; own {
			say("precommitted read", "%s read its own %s", x.Name, value)
		}
	}
}

// checkOffsets checks that each group's offset is that of the newest committed transaction of its client that committed one.
func (t *Transactions) checkOffsets(places map[string][]place, offsets map[string]int64, say func(kind, format string, args ...any)) {
	for _, client := range slices.Sorted(maps.Keys(offsets)) {
		least, offset := int64(-1), offsets[client]
		found := offset < 0
		for _, x := range t.txns {
			if x.Client != client || x.Offset < 0 {
				continue
			}
			if x.Outcome == committed {
				least = max(least, x.Offset)
			}
			if x.Offset != offset {
				continue
			}
			found = true
			for value := range x.Acked {
				if len(places[value]) == 0 {
					say("offset without data", "the group of %s is at %d, of %s (%v), whose %s cannot be read", client, offset, x.Name, x.Outcome, value)
				}
			}
			if x.Outcome == aborted {
				say("offset without data", "the group of %s is at %d, of %s, which was aborted", client, offset, x.Name)
			}
		}
		if offset < least {
			say("lost offset", "the group of %s is at %d, and a committed transaction has %d", client, offset, least)
		}
		if !found {
			say("invented offset", "the group of %s is at %d, which no transaction has", client, offset)
		}
	}
	for _, x := range t.txns {
		if x.Offset < 0 || x.Outcome != unknown {
			continue
		}
		// All of an unknown transaction, or nothing: its data is there if a later offset does not hide its own.
		if offset, asked := offsets[x.Client]; asked && offset < x.Offset {
			for value := range x.Acked {
				if len(places[value]) > 0 {
					say("data without offset", "%s of %s can be read, and the group is at %d, not at %d", value, x.Name, offset, x.Offset)
				}
			}
		}
	}
}

// cycle returns transactions of which each read a record of the next, and the last one of the first, nil if there are none.
func (t *Transactions) cycle(of map[string]*Txn) []string {
	const onPath, done = 1, 2
	state := map[*Txn]int{}
	var path []*Txn
	var visit func(x *Txn) []string
	visit = func(x *Txn) []string {
		state[x] = onPath
		path = append(path, x)
		for _, value := range slices.Sorted(maps.Keys(x.Reads)) {
			y := of[value]
			if y == nil || y == x {
				continue
			}
			if state[y] == onPath {
				var names []string
				for _, z := range path[slices.Index(path, y):] {
					names = append(names, z.Name)
				}
				return names
			}
			if state[y] == 0 {
				if c := visit(y); c != nil {
					return c
				}
			}
		}
		state[x] = done
		path = path[:len(path)-1]
		return nil
	}
	for _, x := range t.txns {
		if state[x] == 0 {
			if c := visit(x); c != nil {
				return c
			}
		}
	}
	return nil
}
