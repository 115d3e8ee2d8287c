package controller

import (
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
	"kraft/wire/acl"
)

// TestCreateACLs: what cannot be a rule is refused, the others of a request are added, and what is there already makes no record.
func TestCreateACLs(t *testing.T) {
	good := acl.Binding{Resource: acl.Topic, Pattern: acl.Literal, Name: "t", Principal: "User:a", Host: acl.Any, Operation: acl.Read, Permission: acl.Allow}
	with := func(change func(*acl.Binding)) acl.Binding {
		b := good
		change(&b)
		return b
	}
	m := image.Empty()
	for name, tc := range map[string]struct {
		rule acl.Binding
		want error
	}{
		"good":                 {good, nil},
		"a range":              {with(func(b *acl.Binding) { b.Host = "10.0.0.0/8" }), nil},
		"no range":             {with(func(b *acl.Binding) { b.Host = "10.0.0.0/33" }), kerr.InvalidRequest},
		"another cluster":      {with(func(b *acl.Binding) { b.Resource, b.Name = acl.Cluster, "c" }), kerr.InvalidRequest},
		"no name":              {with(func(b *acl.Binding) { b.Name = "" }), kerr.InvalidRequest},
		"any resource":         {with(func(b *acl.Binding) { b.Resource = kmsg.ACLResourceTypeAny }), kerr.InvalidRequest},
		"pattern match":        {with(func(b *acl.Binding) { b.Pattern = kmsg.ACLResourcePatternTypeMatch }), kerr.InvalidRequest},
		"any operation":        {with(func(b *acl.Binding) { b.Operation = kmsg.ACLOperationAny }), kerr.InvalidRequest},
		"any permission":       {with(func(b *acl.Binding) { b.Permission = kmsg.ACLPermissionTypeAny }), kerr.InvalidRequest},
		"no type of principal": {with(func(b *acl.Binding) { b.Principal = "a" }), kerr.InvalidRequest},
		"no host":              {with(func(b *acl.Binding) { b.Host = "" }), kerr.InvalidRequest},
		"NUL":                  {with(func(b *acl.Binding) { b.Principal = "User:a\x00b" }), kerr.InvalidRequest},
	} {
		records, errs := CreateACLs(m, []acl.Binding{tc.rule, good})
		if !errors.Is(errs[0], tc.want) || errs[1] != nil {
			t.Errorf("%s: %v", name, errs)
		}
		want := 2
		if tc.want != nil || tc.rule == good {
			want = 1
		}
		if len(records) != want {
			t.Errorf("%s: %d records", name, len(records))
		}
	}
	m.Apply(image.AddACL(good))
	if records, errs := CreateACLs(m, []acl.Binding{good}); len(records) != 0 || errs[0] != nil {
		t.Errorf("again: %d records, %v", len(records), errs)
	}
	if _, errs := CreateACLs(m, make([]acl.Binding, maxACLs+1)); len(errs) != maxACLs+1 || !errors.Is(errs[maxACLs], kerr.InvalidRequest) {
		t.Error("too many rules are added")
	}
}

// TestDeleteACLs: each filter tells what it matches, a rule goes once, and no request makes more of it than the bound.
func TestDeleteACLs(t *testing.T) {
	m := image.Empty()
	for i := range 200 {
		m.Apply(image.AddACL(acl.Binding{Resource: acl.Topic, Pattern: acl.Literal, Name: fmt.Sprintf("t%03d", i), Principal: "User:a", Host: acl.Any, Operation: acl.Read, Permission: acl.Allow}))
	}
	every := acl.Filter{Resource: kmsg.ACLResourceTypeAny, Pattern: kmsg.ACLResourcePatternTypeAny, Operation: kmsg.ACLOperationAny, Permission: kmsg.ACLPermissionTypeAny}
	one, name := every, "t007"
	one.Name = &name
	bad := every
	bad.Operation = 99
	records, deleted, errs := DeleteACLs(m, []acl.Filter{one, every, bad})
	if len(records) != 200 || len(deleted[0]) != 1 || len(deleted[1]) != 200 || errs[0] != nil || errs[1] != nil || !errors.Is(errs[2], kerr.InvalidRequest) {
		t.Errorf("%d records, %d and %d deleted, %v", len(records), len(deleted[0]), len(deleted[1]), errs)
	}
	many := make([]acl.Filter, 51)
	for i := range many {
		many[i] = every
	}
	if records, _, errs := DeleteACLs(m, many); len(records) != 0 || !errors.Is(errs[0], kerr.InvalidRequest) || !errors.Is(errs[50], kerr.InvalidRequest) {
		t.Errorf("51 times 200 rules: %d records, %v", len(records), errs[0])
	}
}
