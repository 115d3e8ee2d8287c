package acl

import (
	"github.com/tidwall/btree"
)

// patterns maps patterns of resources to values.
type patterns[V any] struct {
	literal, prefixed [User + 1]*btree.Map[string, V] // by resource type; nil while empty
}

func (p *patterns[V]) of(resource Resource, pattern Pattern) **btree.Map[string, V] {
	if pattern == Prefixed {
		return &p.prefixed[resource]
	}
	return &p.literal[resource]
}

func (p *patterns[V]) get(resource Resource, pattern Pattern, name string) (v V) {
	if m := *p.of(resource, pattern); m != nil {
		v, _ = m.Get(name)
	}
	return v
}

func (p *patterns[V]) set(resource Resource, pattern Pattern, name string, v V) {
	m := p.of(resource, pattern)
	if *m == nil {
		*m = btree.NewMap[string, V](0)
	}
	(*m).Set(name, v)
}

func (p *patterns[V]) remove(resource Resource, pattern Pattern, name string) {
	m := p.of(resource, pattern)
	if (*m).Delete(name); (*m).Len() == 0 {
		*m = nil
	}
}

func (p *patterns[V]) empty() bool { return *p == patterns[V]{} }

func (p *patterns[V]) copy() patterns[V] {
	c := *p
	for _, all := range []*[User + 1]*btree.Map[string, V]{&c.literal, &c.prefixed} {
		for i, m := range all {
			if m != nil {
				all[i] = m.Copy()
			}
		}
	}
	return c
}

// matching calls f with every pattern that matches a resource, until it returns false, and reports whether it never did.
func (p *patterns[V]) matching(resource Resource, name string, f func(pattern Pattern, of string, v V) bool) bool {
	if m := p.literal[resource]; m != nil {
		if v, ok := m.Get(name); ok && !f(Literal, name, v) {
			return false
		}
		if name != Any {
			if v, ok := m.Get(Any); ok && !f(Literal, Any, v) {
				return false
			}
		}
	}
	m := p.prefixed[resource]
	if m == nil {
		return true
	}
	// What a name begins with sorts before it, with nothing in between that it does not begin with as far as the two agree. So
	// each step looks for the greatest prefix up to what the name and the last one found have in common.
	for upTo, more := name, true; more; {
		more = false
		goOn := true
		m.Descend(upTo, func(prefix string, v V) bool {
			common := commonPrefix(name, prefix)
			if common == len(prefix) {
				goOn = f(Prefixed, prefix, v)
				common--
			}
			if goOn && common >= 0 {
				upTo, more = name[:common], common > 0
			}
			return false
		})
		if !goOn {
			return false
		}
	}
	return true
}

// commonPrefix is how many bytes two strings have in common at their begin.
func commonPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
