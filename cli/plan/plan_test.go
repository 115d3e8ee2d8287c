package plan

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// world draws brokers in racks, and partitions on some of them.
func world(t *rapid.T) ([]Broker, []Partition) {
	var brokers []Broker
	racks := rapid.IntRange(0, 3).Draw(t, "racks")
	for i := range rapid.IntRange(2, 7).Draw(t, "brokers") {
		b := Broker{ID: int32(i + 1)}
		if racks > 0 {
			b.Rack = fmt.Sprint("r", i%racks)
		}
		brokers = append(brokers, b)
	}
	crowded := rapid.IntRange(1, len(brokers)).Draw(t, "crowded") // only so many brokers are used
	factor := rapid.IntRange(1, crowded).Draw(t, "factor")
	var parts []Partition
	for n := range rapid.IntRange(1, 40).Draw(t, "partitions") {
		ids := rapid.Permutation(brokers[:crowded]).Draw(t, "order")
		p := Partition{Topic: "t", Number: int32(n)}
		for _, b := range ids[:factor] {
			p.Replicas = append(p.Replicas, b.ID)
		}
		parts = append(parts, p)
	}
	return brokers, parts
}

func apply(parts []Partition, moves []Move) []Partition {
	out := slices.Clone(parts)
	for _, m := range moves {
		for i := range out {
			if out[i].Number == m.Number {
				out[i].Replicas = m.Replicas
			}
		}
	}
	return out
}

func racksOf(brokers []Broker, p Partition) int {
	seen := map[string]bool{}
	for _, r := range p.Replicas {
		for _, b := range brokers {
			if b.ID == r {
				seen[b.Rack] = true
			}
		}
	}
	return len(seen)
}

// valid checks that each partition has its replicas once each, and as many as before or, if that is more, factor.
func valid(t *rapid.T, before, after []Partition, factor int) {
	for i, p := range after {
		if len(p.Replicas) != max(factor, len(before[i].Replicas)) {
			t.Fatalf("partition %d has %v after %v", p.Number, p.Replicas, before[i].Replicas)
		}
		sorted := slices.Clone(p.Replicas)
		slices.Sort(sorted)
		if len(slices.Compact(sorted)) != len(p.Replicas) {
			t.Fatalf("partition %d has a broker twice: %v", p.Number, p.Replicas)
		}
	}
}

// TestRebalance: afterwards brokers hold the same number of replicas, but for one, where racks are no obstacle;
// no partition is in fewer racks or has fewer replicas than it should; and a second plan finds nothing to do.
func TestRebalance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		brokers, parts := world(t)
		factors := map[string]int{"t": rapid.IntRange(0, len(brokers)+1).Draw(t, "wanted factor")}
		after := apply(parts, Rebalance(brokers, parts, factors))
		valid(t, parts, after, min(factors["t"], len(brokers)))
		held := map[int32]int{}
		for i, p := range after {
			for _, r := range p.Replicas {
				held[r]++
			}
			if racksOf(brokers, p) < racksOf(brokers, parts[i]) {
				t.Fatalf("partition %d went from %v to %v, into fewer racks", p.Number, parts[i].Replicas, p.Replicas)
			}
		}
		least, most := len(parts), 0
		for _, b := range brokers {
			least, most = min(least, held[b.ID]), max(most, held[b.ID])
		}
		if most-least > 1 && brokers[0].Rack == "" {
			t.Fatalf("brokers hold %v", held)
		}
		if again := Rebalance(brokers, after, factors); len(again) > 0 {
			t.Fatalf("a second plan has %d moves", len(again))
		}
	})
}

// TestDrain: nothing is left on the broker that another could take, and nothing else moves.
func TestDrain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		brokers, parts := world(t)
		gone := brokers[rapid.IntRange(0, len(brokers)-1).Draw(t, "drained")].ID
		moves, left := Drain(brokers, parts, gone)
		after := apply(parts, moves)
		valid(t, parts, after, 0)
		stuck := 0
		for i, p := range after {
			if slices.Contains(p.Replicas, gone) {
				stuck++
				if len(p.Replicas) < len(brokers) {
					t.Fatalf("partition %d stays on %v", p.Number, p.Replicas)
				}
			}
			if !slices.Contains(parts[i].Replicas, gone) && !slices.Equal(p.Replicas, parts[i].Replicas) {
				t.Fatalf("partition %d moved from %v to %v", p.Number, parts[i].Replicas, p.Replicas)
			}
		}
		if stuck != len(left) {
			t.Fatalf("%d partitions stay, %d are said to", stuck, len(left))
		}
	})
}

func TestDrainPrefersOtherRacks(t *testing.T) {
	brokers := []Broker{{1, "a"}, {2, "b"}, {3, "a"}, {4, "b"}}
	moves, _ := Drain(brokers, []Partition{{"t", 0, []int32{1, 2}}, {"t", 1, []int32{3, 4}}, {"t", 2, []int32{3, 4}}}, 2)
	if len(moves) != 1 || !slices.Equal(moves[0].Replicas, []int32{1, 4}) {
		t.Errorf("moves %v", moves)
	}
}
