package acl

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Filter matches bindings (Kafka's AclBindingFilter). A nil text matches any; so do types, patterns, operations and permissions of Any.
type Filter struct {
	Resource              Resource
	Pattern               Pattern // also any, and match: the patterns that match the resource called Name
	Name, Principal, Host *string // literally
	Operation             Operation
	Permission            Permission
}

// Matches reports whether the filter matches a binding.
func (f *Filter) Matches(b *Binding) bool {
	is := func(want *string, text string) bool { return want == nil || *want == text }
	return (f.Resource == kmsg.ACLResourceTypeAny || f.Resource == b.Resource) &&
		(f.Operation == kmsg.ACLOperationAny || f.Operation == b.Operation) &&
		(f.Permission == kmsg.ACLPermissionTypeAny || f.Permission == b.Permission) &&
		is(f.Principal, b.Principal) && is(f.Host, b.Host) && f.matchesPattern(b)
}

func (f *Filter) matchesPattern(b *Binding) bool {
	switch {
	case f.Pattern != kmsg.ACLResourcePatternTypeAny && f.Pattern != kmsg.ACLResourcePatternTypeMatch && f.Pattern != b.Pattern:
		return false
	case f.Name == nil:
		return true
	case f.Pattern != kmsg.ACLResourcePatternTypeMatch:
		return b.Name == *f.Name
	case b.Pattern == Prefixed:
		return strings.HasPrefix(*f.Name, b.Name)
	}
	return b.Name == *f.Name || b.Name == Any
}
