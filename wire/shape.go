package wire

import (
	"encoding/binary"
	"fmt"
)

// shape walks encoded bytes by their lengths without making anything of them.
type shape struct {
	b   []byte
	bad bool
}

func (s *shape) skip(n int) {
	if n < 0 || n > len(s.b) {
		s.bad, s.b = true, nil
		return
	}
	s.b = s.b[n:]
}

func (s *shape) uvarint() int {
	v, n := binary.Uvarint(s.b)
	if n <= 0 || v > 1<<31-1 {
		s.bad, s.b = true, nil
		return 0
	}
	s.b = s.b[n:]
	return int(v)
}

func (s *shape) fixed(n int) int {
	if n > len(s.b) {
		s.bad, s.b = true, nil
		return 0
	}
	var v int64
	if n == 2 {
		v = int64(int16(binary.BigEndian.Uint16(s.b)))
	} else {
		v = int64(int32(binary.BigEndian.Uint32(s.b)))
	}
	s.b = s.b[n:]
	return int(v)
}

// length reads a length prefix: compact, or fixed of n bytes; null is 0.
func (s *shape) length(flexible bool, n int) int {
	if flexible {
		return max(s.uvarint()-1, 0)
	}
	return max(s.fixed(n), 0)
}

func (s *shape) tags() {
	for n := s.uvarint(); n > 0 && !s.bad; n-- {
		s.uvarint()
		s.skip(s.uvarint())
	}
}

// checkProduceShape makes sure that a Produce request really holds the topics and partitions that its
// array lengths claim, before anything is allocated for them: these requests may be 100 MB long.
func checkProduceShape(body []byte, version int16) error {
	flexible := version >= 9
	s := shape{b: body}
	if version >= 3 {
		s.skip(s.length(flexible, 2)) // transactional id
	}
	s.skip(6) // acks, timeout
	for topics := s.length(flexible, 4); topics > 0 && !s.bad; topics-- {
		if version >= 13 {
			s.skip(16)
		} else {
			s.skip(s.length(flexible, 2))
		}
		for partitions := s.length(flexible, 4); partitions > 0 && !s.bad; partitions-- {
			s.skip(4)
			s.skip(s.length(flexible, 4))
			if flexible {
				s.tags()
			}
		}
		if flexible {
			s.tags()
		}
	}
	if s.bad {
		return fmt.Errorf("Produce version %d of %d bytes claims more than it holds", version, len(body))
	}
	return nil
}
