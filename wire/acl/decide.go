package acl

import (
	"net/netip"
	"slices"
)

// Question is what somebody wants to do.
type Question struct {
	Principal string     // Type:name
	Host      netip.Addr // from where; the zero Addr where that is not known, which only rules for every host fit
	Operation Operation
	Resource  Resource
	Name      string // of the resource
}

// Verdict is the answer to a Question.
type Verdict struct {
	Allowed bool
	Rule    Binding // that decides; the zero Binding where none does
	Ruled   bool    // rules are about the resource, whoever they name
}

// Decide answers a Question by the rules alone, as Kafka's StandardAuthorizerData does: of those that match the resource, the principal, the
// host and the operation, one that denies decides; else one that allows. By no rule, the answer is no.
func (r *Rules) Decide(q Question) Verdict {
	var v Verdict
	for _, name := range [...]string{q.Principal, Everyone} {
		p, ok := r.principals.Get(name)
		if !ok {
			continue
		}
		notDenied := p.matching(q.Resource, q.Name, func(pattern Pattern, of string, rules []rule) bool {
			v.Ruled = true
			for i := range rules {
				x := &rules[i]
				if !covers(x, q.Operation) || !x.from.has(q.Host) || v.Allowed && x.permission == Allow {
					continue
				}
				v.Allowed = x.permission == Allow
				v.Rule = Binding{q.Resource, pattern, of, name, x.host, x.operation, x.permission}
				if !v.Allowed {
					return false
				}
			}
			return true
		})
		if !notDenied {
			return v
		}
	}
	if !v.Ruled {
		v.Ruled = !r.ruled.matching(q.Resource, q.Name, func(Pattern, string, int) bool { return false })
	}
	return v
}

// DecideAny reports whether the principal may do the operation on any resource of the type, as Kafka's authorizeByResourceType guesses it: by
// rules of that operation or All alone, without what an operation implies. The question's Name is not looked at.
func (r *Rules) DecideAny(q Question) bool {
	some := func(rules []rule, p Permission) bool {
		return slices.ContainsFunc(rules, func(x rule) bool {
			return x.permission == p && (x.operation == q.Operation || x.operation == All) && x.from.has(q.Host)
		})
	}
	var of []*principal
	for _, name := range [...]string{q.Principal, Everyone} {
		if p, ok := r.principals.Get(name); ok {
			of = append(of, p)
		}
	}
	for _, p := range of {
		if some(p.get(q.Resource, Literal, Any), Deny) {
			return false
		}
	}
	// denied reports whether all that an allowing pattern matches is denied: by the same name, or by a prefix of it.
	denied := func(pattern Pattern, name string) bool {
		for _, p := range of {
			if pattern == Literal && some(p.get(q.Resource, Literal, name), Deny) {
				return true
			}
			covered := !p.matching(q.Resource, name, func(of Pattern, _ string, rules []rule) bool { return of != Prefixed || !some(rules, Deny) })
			if covered {
				return true
			}
		}
		return false
	}
	for _, p := range of {
		for _, pattern := range [...]Pattern{Literal, Prefixed} {
			found := false
			if m := *p.of(q.Resource, pattern); m != nil {
				m.Scan(func(name string, rules []rule) bool {
					found = some(rules, Allow) && (pattern == Literal && name == Any || !denied(pattern, name))
					return !found
				})
			}
			if found {
				return true
			}
		}
	}
	return false
}
