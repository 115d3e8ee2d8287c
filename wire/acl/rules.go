package acl

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/tidwall/btree"
)

// Rules is a set of bindings with an index by principal and resource. Many goroutines may read it; only the one that made it by NewRules or
// Copy may change it, until it hands it on.
type Rules struct {
	all        *btree.Map[string, Binding]    // by Binding.key
	principals *btree.Map[string, *principal] // who has rules
	ruled      patterns[int]                  // how many rules a pattern has, whoever they name
	own        map[*principal]struct{}        // those that no other Rules share, since the last Copy
}

// principal is the rules of one principal.
type principal struct{ patterns[[]rule] }

// rule is what a binding says beside its pattern and its principal.
type rule struct {
	operation  Operation
	permission Permission
	host       string
	from       addresses
}

// addresses are those that a rule holds for.
type addresses struct {
	all bool
	in  netip.Prefix // a single address is a range of one; invalid for a name, which no address matches
}

func parseHost(host string) addresses {
	if host == Any {
		return addresses{all: true}
	}
	if p, err := netip.ParsePrefix(host); err == nil {
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		return addresses{in: p.Masked()}
	}
	if a, err := netip.ParseAddr(host); err == nil {
		a = a.Unmap()
		return addresses{in: netip.PrefixFrom(a, a.BitLen())}
	}
	return addresses{}
}

func (h addresses) has(a netip.Addr) bool { return h.all || h.in.Contains(a) }

// NewRules is the empty set.
func NewRules() *Rules {
	return &Rules{all: btree.NewMap[string, Binding](0), principals: btree.NewMap[string, *principal](0)}
}

// Copy returns rules that may be changed without changing r. Only one goroutine at a time may copy r, or change it.
func (r *Rules) Copy() *Rules {
	r.own = nil
	return &Rules{all: r.all.Copy(), principals: r.principals.Copy(), ruled: r.ruled.copy()}
}

// Len is how many bindings there are.
func (r *Rules) Len() int { return r.all.Len() }

// Each calls f with every binding, by resource type, name and pattern, until it returns false.
func (r *Rules) Each(f func(Binding) bool) {
	r.all.Scan(func(_ string, b Binding) bool { return f(b) })
}

// Has reports whether b is among the rules.
func (r *Rules) Has(b Binding) bool {
	found, ok := r.all.Get(b.key())
	return ok && found == b
}

func (b Binding) key() string {
	return strings.Join([]string{string(rune(b.Resource)) + b.Name, string(rune(b.Pattern)), b.Principal, b.Host, string(rune(b.Operation)), string(rune(b.Permission))}, "\x00")
}

// Add adds a binding. One that is there stays.
func (r *Rules) Add(b Binding) {
	key := b.key()
	if _, there := r.all.Get(key); there {
		return
	}
	r.all.Set(key, b)
	r.ruled.set(b.Resource, b.Pattern, b.Name, r.ruled.get(b.Resource, b.Pattern, b.Name)+1)
	p := r.owned(b.Principal)
	rules := p.get(b.Resource, b.Pattern, b.Name)
	p.set(b.Resource, b.Pattern, b.Name, append(slices.Clip(rules), rule{b.Operation, b.Permission, b.Host, parseHost(b.Host)}))
}

// Remove removes a binding, if it is there.
func (r *Rules) Remove(b Binding) {
	if !r.Has(b) {
		return
	}
	r.all.Delete(b.key())
	if n := r.ruled.get(b.Resource, b.Pattern, b.Name); n > 1 {
		r.ruled.set(b.Resource, b.Pattern, b.Name, n-1)
	} else {
		r.ruled.remove(b.Resource, b.Pattern, b.Name)
	}
	p := r.owned(b.Principal)
	rules := slices.DeleteFunc(slices.Clone(p.get(b.Resource, b.Pattern, b.Name)), func(x rule) bool {
		return x.operation == b.Operation && x.permission == b.Permission && x.host == b.Host
	})
	if len(rules) > 0 {
		p.set(b.Resource, b.Pattern, b.Name, rules)
	} else if p.remove(b.Resource, b.Pattern, b.Name); p.empty() {
		delete(r.own, p)
		r.principals.Delete(b.Principal)
	}
}

// owned is a principal's rules, which may be changed in place.
func (r *Rules) owned(name string) *principal {
	old, ok := r.principals.Get(name)
	if _, own := r.own[old]; own {
		return old
	}
	p := &principal{}
	if ok {
		p.patterns = old.copy()
	}
	r.principals.Set(name, p)
	if r.own == nil {
		r.own = map[*principal]struct{}{}
	}
	r.own[p] = struct{}{}
	return p
}
