package image

import "kraft/wire/acl"

// ACLs are the rules of who may do what. They must not be changed.
func (m *Image) ACLs() *acl.Rules { return m.acls }

func (m *Image) setACL(r *AclRecord) {
	b := acl.Binding{Resource: acl.Resource(r.ResourceType), Pattern: acl.Pattern(r.PatternType), Name: r.ResourceName, Principal: r.Principal,
		Host: r.Host, Operation: acl.Operation(r.Operation), Permission: acl.Permission(r.PermissionType)}
	if b.Resource < acl.Topic || b.Resource > acl.User || b.Pattern != acl.Literal && b.Pattern != acl.Prefixed {
		return // of a newer version
	}
	if r.Remove {
		m.acls.Remove(b)
	} else {
		m.acls.Add(b)
	}
}

// AddACL is the record of a rule.
func AddACL(b acl.Binding) *Record { return aclRecord(b, false) }

// RemoveACL is the record of a rule's end.
func RemoveACL(b acl.Binding) *Record { return aclRecord(b, true) }

func aclRecord(b acl.Binding, remove bool) *Record {
	return &Record{Kind: &Record_Acl{&AclRecord{ResourceType: int32(b.Resource), PatternType: int32(b.Pattern), ResourceName: b.Name, Principal: b.Principal,
		Host: b.Host, Operation: int32(b.Operation), PermissionType: int32(b.Permission), Remove: remove}}}
}
