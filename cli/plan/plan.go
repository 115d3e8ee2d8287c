// Package plan works out where partitions should be: pure functions from where they are to a list of moves.
package plan

import (
	"cmp"
	"slices"
)

// Broker is one that may hold replicas.
type Broker struct {
	ID   int32
	Rack string // "" if it has none
}

// Partition is one partition with its replicas, the preferred leader first.
type Partition struct {
	Topic    string
	Number   int32
	Replicas []int32
}

// Move is a partition's new replicas.
type Move struct {
	Partition
	Before []int32
}

// state is an assignment while it is worked on.
type state struct {
	brokers []Broker
	racks   map[int32]string
	parts   []Partition
	held    map[int32]int // replicas by broker
	led     map[int32]int // preferred leaders by broker
}

func newState(brokers []Broker, parts []Partition) *state {
	s := &state{brokers: slices.Clone(brokers), racks: map[int32]string{}, held: map[int32]int{}, led: map[int32]int{}}
	slices.SortFunc(s.brokers, func(a, b Broker) int { return cmp.Compare(a.ID, b.ID) })
	for _, b := range s.brokers {
		s.racks[b.ID] = b.Rack
	}
	for _, p := range parts {
		p.Replicas = slices.Clone(p.Replicas)
		s.parts = append(s.parts, p)
		for i, r := range p.Replicas {
			s.held[r]++
			if i == 0 {
				s.led[r]++
			}
		}
	}
	slices.SortFunc(s.parts, func(a, b Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Number, b.Number))
	})
	return s
}

// Drain moves everything off one broker, each replica to the broker that has the fewest, in a rack that the
// partition is not in yet if there is one. left are partitions for which no other broker is there.
func Drain(brokers []Broker, parts []Partition, broker int32) (moves []Move, left []Partition) {
	others := slices.DeleteFunc(slices.Clone(brokers), func(b Broker) bool { return b.ID == broker })
	s := newState(others, parts)
	for i := range s.parts {
		p := &s.parts[i]
		at := slices.Index(p.Replicas, broker)
		if at < 0 {
			continue
		}
		to, ok := s.best(p, at)
		if !ok {
			left = append(left, *p)
			continue
		}
		s.replace(p, at, to)
	}
	return s.moves(parts), left
}

// Rebalance evens out how many replicas brokers hold and how many partitions they lead, with few moves, and puts
// no partition's replicas into fewer racks than they are in. A partition of a topic in factors that has fewer replicas than that gets more,
// as far as there are brokers.
func Rebalance(brokers []Broker, parts []Partition, factors map[string]int) []Move {
	s := newState(brokers, parts)
	for i := range s.parts {
		p := &s.parts[i]
		for len(p.Replicas) < factors[p.Topic] {
			to, ok := s.best(p, len(p.Replicas))
			if !ok {
				break
			}
			p.Replicas = append(p.Replicas, to)
			s.held[to]++
		}
	}
	for s.evenReplicas() {
	}
	for s.evenLeaders() {
	}
	return s.moves(parts)
}

// best finds the broker that should take the replica at a position of p.
func (s *state) best(p *Partition, at int) (int32, bool) {
	best, found := int32(0), false
	for _, b := range s.brokers {
		if slices.Contains(p.Replicas, b.ID) {
			continue
		}
		if found {
			here, there := s.shares(p, at, b.ID), s.shares(p, at, best)
			if here && !there || here == there && s.held[b.ID] >= s.held[best] {
				continue
			}
		}
		best, found = b.ID, true
	}
	return best, found
}

// shares says that a broker is in the rack of another replica of p than the one at the position.
func (s *state) shares(p *Partition, at int, broker int32) bool {
	rack := s.racks[broker]
	if rack == "" {
		return false
	}
	for i, r := range p.Replicas {
		if i != at && s.racks[r] == rack {
			return true
		}
	}
	return false
}

func (s *state) replace(p *Partition, at int, to int32) {
	from := p.Replicas[at]
	p.Replicas[at] = to
	s.held[from]--
	s.held[to]++
	if at == 0 {
		s.led[from]--
		s.led[to]++
	}
}

// evenReplicas moves one replica from the broker with the most to the one with the fewest. It reports whether
// there was one to move.
func (s *state) evenReplicas() bool {
	most, fewest := s.extremes(s.held)
	if s.held[most]-s.held[fewest] <= 1 {
		return false
	}
	for i := range s.parts {
		p := &s.parts[i]
		at := slices.Index(p.Replicas, most)
		if at < 0 || slices.Contains(p.Replicas, fewest) || s.shares(p, at, fewest) && !s.shares(p, at, most) {
			continue
		}
		s.replace(p, at, fewest)
		return true
	}
	return false
}

// evenLeaders makes another replica of one partition the preferred leader.
func (s *state) evenLeaders() bool {
	most, _ := s.extremes(s.led)
	best, at := -1, 0
	for i := range s.parts {
		p := &s.parts[i]
		if len(p.Replicas) == 0 || p.Replicas[0] != most {
			continue
		}
		for j, r := range p.Replicas[1:] {
			if s.led[r] < s.led[most]-1 && (best < 0 || s.led[r] < s.led[s.parts[best].Replicas[at]]) {
				best, at = i, j+1
			}
		}
	}
	if best < 0 {
		return false
	}
	r := s.parts[best].Replicas
	s.led[most]--
	s.led[r[at]]++
	r[0], r[at] = r[at], r[0]
	return true
}

func (s *state) extremes(count map[int32]int) (most, fewest int32) {
	most, fewest = s.brokers[0].ID, s.brokers[0].ID
	for _, b := range s.brokers {
		if count[b.ID] > count[most] {
			most = b.ID
		}
		if count[b.ID] < count[fewest] {
			fewest = b.ID
		}
	}
	return most, fewest
}

// moves lists what is not as before.
func (s *state) moves(before []Partition) []Move {
	was := map[string]map[int32][]int32{}
	for _, p := range before {
		if was[p.Topic] == nil {
			was[p.Topic] = map[int32][]int32{}
		}
		was[p.Topic][p.Number] = p.Replicas
	}
	var out []Move
	for _, p := range s.parts {
		if b := was[p.Topic][p.Number]; !slices.Equal(b, p.Replicas) {
			out = append(out, Move{p, b})
		}
	}
	return out
}
