package acl

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// plain decides as the documentation of Kafka's authorizer says it, binding by binding.
func plain(all []Binding, q Question) (allowed, ruled bool) {
	denied := false
	for _, b := range all {
		matches := b.Pattern == Literal && (b.Name == q.Name || b.Name == Any) || b.Pattern == Prefixed && strings.HasPrefix(q.Name, b.Name)
		if b.Resource != q.Resource || !matches {
			continue
		}
		ruled = true
		here := b.Host == Any || b.Host == q.Host.String()
		if p, err := netip.ParsePrefix(strings.ReplaceAll(b.Host, "::ffff:10.0.0.0/104", "10.0.0.0/8")); err == nil {
			here = p.Contains(q.Host)
		}
		implied := map[Operation][]Operation{Describe: {Read, Write, Delete, Alter}, DescribeConfigs: {AlterConfigs}}[q.Operation]
		fits := b.Operation == All || b.Operation == q.Operation || b.Permission == Allow && slices.Contains(implied, b.Operation)
		if (b.Principal == q.Principal || b.Principal == Everyone) && here && fits {
			denied = denied || b.Permission == Deny
			allowed = allowed || b.Permission == Allow
		}
	}
	return allowed && !denied, ruled
}

var (
	someNames = []string{"a", "ab", "abc", "abd", "b", "ba", "", "a.b", "aa", "zz"}
	someHosts = []string{Any, "10.0.0.1", "10.0.0.0/8", "::1", "10.0.0.2/32", "::ffff:10.0.0.0/104", "host.example"}
	anyRule   = rapid.Custom(func(t *rapid.T) Binding {
		b := Binding{Resource: rapid.SampledFrom([]Resource{Topic, Group}).Draw(t, "resource"), Pattern: rapid.SampledFrom([]Pattern{Literal, Prefixed}).Draw(t, "pattern"),
			Name: rapid.SampledFrom(someNames[:6]).Draw(t, "name"), Principal: rapid.SampledFrom([]string{"User:a", "User:b", Everyone}).Draw(t, "principal"),
			Host: rapid.SampledFrom(someHosts).Draw(t, "host"), Operation: Operation(rapid.IntRange(int(All), int(TwoPhaseCommit)).Draw(t, "operation")),
			Permission: rapid.SampledFrom([]Permission{Allow, Allow, Deny}).Draw(t, "permission")}
		if b.Pattern == Literal && rapid.IntRange(0, 3).Draw(t, "any") == 0 {
			b.Name = Any
		}
		return b
	})
)

// TestDecide: the index decides as a look at every binding does, whatever was added and removed in whatever copies.
func TestDecide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := NewRules()
		var all, before []Binding
		var kept *Rules
		for range rapid.IntRange(0, 60).Draw(t, "changes") {
			switch b := anyRule.Draw(t, "rule"); rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0:
				kept, before = r, slices.Clone(all)
				r = r.Copy()
			case 1:
				if len(all) > 0 {
					b = rapid.SampledFrom(all).Draw(t, "removed")
				}
				r.Remove(b)
				all = slices.DeleteFunc(all, func(x Binding) bool { return x == b })
			default:
				r.Add(b)
				if !slices.Contains(all, b) {
					all = append(all, b)
				}
			}
		}
		for _, at := range []struct {
			rules    *Rules
			bindings []Binding
		}{{r, all}, {kept, before}} {
			rules, bindings := at.rules, at.bindings
			if rules == nil {
				continue
			}
			if rules.Len() != len(bindings) {
				t.Fatalf("%d rules of %d", rules.Len(), len(bindings))
			}
			rules.Each(func(b Binding) bool {
				if !slices.Contains(bindings, b) {
					t.Fatalf("%v is no rule", b)
				}
				return true
			})
			for range 20 {
				q := Question{Principal: rapid.SampledFrom([]string{"User:a", "User:b", "User:c"}).Draw(t, "who"), Operation: Operation(rapid.IntRange(int(Read), int(TwoPhaseCommit)).Draw(t, "asked")),
					Host:     netip.MustParseAddr(rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2", "11.0.0.1", "::1"}).Draw(t, "from")),
					Resource: rapid.SampledFrom([]Resource{Topic, Group}).Draw(t, "type"), Name: rapid.SampledFrom(someNames).Draw(t, "what")}
				allowed, ruled := plain(bindings, q)
				v := rules.Decide(q)
				if v.Allowed != allowed || v.Ruled != ruled {
					t.Fatalf("%+v: %+v, want %v %v; rules %v", q, v, allowed, ruled, bindings)
				}
				if v.Rule != (Binding{}) && !slices.Contains(bindings, v.Rule) {
					t.Fatalf("%+v was decided by %v, which is no rule", q, v.Rule)
				}
			}
		}
	})
}

// TestDecideAny: the guess whether some resource is allowed, in Kafka's terms.
func TestDecideAny(t *testing.T) {
	rule := func(permission Permission, pattern Pattern, name string, o Operation) Binding {
		return Binding{Topic, pattern, name, "User:a", Any, o, permission}
	}
	for name, tc := range map[string]struct {
		rules []Binding
		want  bool
	}{
		"nothing":               {nil, false},
		"a topic":               {[]Binding{rule(Allow, Literal, "t", Write)}, true},
		"all of a topic":        {[]Binding{rule(Allow, Literal, "t", All)}, true},
		"another operation":     {[]Binding{rule(Allow, Literal, "t", Read)}, false},
		"every topic":           {[]Binding{rule(Allow, Literal, Any, Write)}, true},
		"denied by name":        {[]Binding{rule(Allow, Literal, "t", Write), rule(Deny, Literal, "t", Write)}, false},
		"denied by prefix":      {[]Binding{rule(Allow, Literal, "top", Write), rule(Deny, Prefixed, "to", All)}, false},
		"prefix denied by it":   {[]Binding{rule(Allow, Prefixed, "top", Write), rule(Deny, Prefixed, "top", Write)}, false},
		"prefix denied in part": {[]Binding{rule(Allow, Prefixed, "to", Write), rule(Deny, Prefixed, "top", Write)}, true},
		"prefix, name denied":   {[]Binding{rule(Allow, Prefixed, "to", Write), rule(Deny, Literal, "to", Write)}, true},
		"everything denied":     {[]Binding{rule(Allow, Literal, "t", Write), rule(Deny, Literal, Any, Write)}, false},
		"every topic, one not":  {[]Binding{rule(Allow, Literal, Any, Write), rule(Deny, Prefixed, "t", Write)}, true},
	} {
		r := NewRules()
		for _, b := range tc.rules {
			r.Add(b)
		}
		if got := r.DecideAny(Question{Principal: "User:a", Operation: Write, Resource: Topic}); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// BenchmarkDecide has 10,000 rules, of 100 principals, half of them prefixes.
func BenchmarkDecide(b *testing.B) {
	r := NewRules()
	for i := range 10_000 {
		r.Add(Binding{Topic, []Pattern{Literal, Prefixed}[i%2], fmt.Sprintf("team-%d.topic-%d", i%100, i), fmt.Sprintf("User:app-%d", i%100), Any, Write, Allow})
	}
	q := Question{Principal: "User:app-41", Operation: Write, Resource: Topic, Name: "team-41.topic-9941.more"}
	if !r.Decide(q).Allowed {
		b.Fatal("denied")
	}
	b.ReportAllocs()
	for b.Loop() {
		r.Decide(q)
	}
}
