package storage

import (
	"hash/maphash"
	"math"
)

// offsetMap remembers the newest offset of each key in bounded memory: not the keys, but 128 bits of hash
// for each, as Kafka's SkimpyOffsetMap does with MD5. Two keys with the same 128 bits would lose the older
// record; the hash is seeded at random, so that nobody can choose such keys.
type offsetMap struct {
	slots  []offsetSlot // a power of two, at most limit
	limit  int          // slots
	used   int
	latest int64 // newest offset put, -1 if none
	seeds  [2]maphash.Seed
}

type offsetSlot struct {
	a, b   uint64
	offset int64 // plus one; 0 is an empty slot
}

const (
	offsetSlotBytes = 24
	firstSlots      = 1 << 12
	// maxLoad is how full the map may get, in hundredths (log.cleaner.io.buffer.load.factor).
	maxLoad = 90
)

// newOffsetMap returns a map of at most memory bytes. It starts small.
func newOffsetMap(memory int64) *offsetMap {
	limit := firstSlots
	for memory = min(memory, math.MaxInt32); int64(limit)*2*offsetSlotBytes <= memory; { // a thread's share in Kafka is no more, too
		limit *= 2
	}
	return &offsetMap{limit: limit, latest: -1, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

// put notes that offset is the newest of key. It reports whether there was room.
func (m *offsetMap) put(key []byte, offset int64) bool {
	if m.used*100 >= len(m.slots)*maxLoad && !m.grow() {
		return false
	}
	a, b := maphash.Bytes(m.seeds[0], key), maphash.Bytes(m.seeds[1], key)
	s := m.slot(a, b)
	if s.offset == 0 {
		m.used++
	}
	*s = offsetSlot{a, b, offset + 1}
	m.latest = max(m.latest, offset)
	return true
}

// get returns the newest offset of key, -1 if it is not known.
func (m *offsetMap) get(key []byte) int64 {
	if len(m.slots) == 0 {
		return -1
	}
	return m.slot(maphash.Bytes(m.seeds[0], key), maphash.Bytes(m.seeds[1], key)).offset - 1
}

// slot finds where a key is, or would go: the map is never full.
func (m *offsetMap) slot(a, b uint64) *offsetSlot {
	for i := a; ; i++ {
		s := &m.slots[i&uint64(len(m.slots)-1)]
		if s.offset == 0 || s.a == a && s.b == b {
			return s
		}
	}
}

func (m *offsetMap) grow() bool {
	n := max(firstSlots, 2*len(m.slots))
	if n > m.limit {
		return false
	}
	old := m.slots
	m.slots = make([]offsetSlot, n)
	for _, s := range old {
		if s.offset != 0 {
			*m.slot(s.a, s.b) = s
		}
	}
	return true
}

// clear forgets all keys and keeps the memory.
func (m *offsetMap) clear() {
	clear(m.slots)
	m.used, m.latest = 0, -1
}
