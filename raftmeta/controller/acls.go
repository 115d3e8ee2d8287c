package controller

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
	"kraft/wire/acl"
)

// CreateACLs decides on the rules of one request, as Kafka's AclControlManager does. Those that are good are added though others are refused; errs is
// beside bindings. A rule that is there already is no error, and no record.
func CreateACLs(m *image.Image, bindings []acl.Binding) (records []*image.Record, errs []error) {
	errs = make([]error, len(bindings))
	if len(bindings) > maxACLs {
		return nil, slices.Repeat([]error{fmt.Errorf("Cannot add more than %d acls in a single create operation.: %w", maxACLs, kerr.InvalidRequest)}, len(bindings))
	}
	added := map[acl.Binding]bool{}
	for i, b := range bindings {
		if errs[i] = checkACL(b); errs[i] == nil && !added[b] && !m.ACLs().Has(b) {
			added[b] = true
			records = append(records, image.AddACL(b))
		}
	}
	return records, errs
}

// checkACL refuses what no rule can be, in the order of AclControlManager.validateNewAcl.
func checkACL(b acl.Binding) error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), kerr.InvalidRequest)
	}
	switch {
	case b.Resource == acl.Cluster && b.Name != acl.ClusterName:
		return invalid("The only valid name for the CLUSTER resource is %s.", acl.ClusterName)
	case b.Name == "":
		return invalid("Resource name should not be empty")
	case b.Resource < acl.Topic || b.Resource > acl.User:
		return invalid("Invalid resourceType %s", b.Resource)
	case b.Pattern != acl.Literal && b.Pattern != acl.Prefixed:
		return invalid("Invalid patternType %s", b.Pattern)
	case b.Operation < acl.All || b.Operation > acl.TwoPhaseCommit:
		return invalid("Invalid operation %s", b.Operation)
	case b.Permission != acl.Deny && b.Permission != acl.Allow:
		return invalid("Invalid permissionType %s", b.Permission)
	case !strings.Contains(b.Principal, ":"):
		return invalid("Could not parse principal from `%s` (no colon is present separating the principal type from the principal name)", b.Principal)
	case b.Host == "":
		return invalid("Host name should not be empty")
	case strings.Contains(b.Name+b.Principal+b.Host, "\x00"):
		return invalid("A rule cannot have a NUL")
	}
	if strings.Contains(b.Host, "/") {
		if _, err := netip.ParsePrefix(b.Host); err != nil {
			return invalid("Host %s is no range of addresses, such as 10.0.0.0/8", b.Host)
		}
	}
	return nil
}

// maxACLs bounds how many rules one request adds or deletes, and its filters (Kafka's MAX_RECORDS_PER_USER_OP).
const maxACLs = 10_000

// DeleteACLs finds the rules that filters match. deleted and errs are beside filters; a rule that several match is told by each of them.
func DeleteACLs(m *image.Image, filters []acl.Filter) (records []*image.Record, deleted [][]acl.Binding, errs []error) {
	deleted, errs = make([][]acl.Binding, len(filters)), make([]error, len(filters))
	gone, matches := map[acl.Binding]bool{}, 0
	for i := range filters {
		if matches > maxACLs || len(filters) > maxACLs {
			break
		}
		f := &filters[i]
		if errs[i] = checkFilter(f); errs[i] != nil {
			continue
		}
		m.ACLs().Each(func(b acl.Binding) bool {
			if f.Matches(&b) {
				if matches++; matches > maxACLs {
					return false
				}
				deleted[i] = append(deleted[i], b)
				if !gone[b] {
					gone[b] = true
					records = append(records, image.RemoveACL(b))
				}
			}
			return true
		})
	}
	if matches > maxACLs || len(filters) > maxACLs {
		err := fmt.Errorf("Cannot remove more than %d acls in a single delete operation.: %w", maxACLs, kerr.InvalidRequest)
		for i := range errs {
			deleted[i], errs[i] = nil, err
		}
		return nil, deleted, errs
	}
	return records, deleted, errs
}

// checkFilter refuses a filter of what Kafka does not define.
func checkFilter(f *acl.Filter) error {
	switch {
	case f.Resource < kmsg.ACLResourceTypeAny || f.Resource > acl.User:
		return fmt.Errorf("Unknown resourceType: %w", kerr.InvalidRequest)
	case f.Pattern < kmsg.ACLResourcePatternTypeAny || f.Pattern > acl.Prefixed:
		return fmt.Errorf("Unknown patternType: %w", kerr.InvalidRequest)
	case f.Operation < kmsg.ACLOperationAny || f.Operation > acl.TwoPhaseCommit:
		return fmt.Errorf("Unknown operation: %w", kerr.InvalidRequest)
	case f.Permission < kmsg.ACLPermissionTypeAny || f.Permission > acl.Allow:
		return fmt.Errorf("Unknown permissionType: %w", kerr.InvalidRequest)
	}
	return nil
}
