package admin

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/calls"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/acl"
)

// errUnknownACL closes the connection, as Apache Kafka does, of a request in which a resource type, pattern type, operation or permission type
// is UNKNOWN. Numbers that Kafka does not define are another matter: only an authorizer looks at them.
var errUnknownACL = wire.Refuse(errors.New("ACL request: resource type, pattern type, operation or permission type is UNKNOWN"))

// knownACL reports whether nothing that an ACL, or a filter of ACLs, names is UNKNOWN.
func knownACL(kind kmsg.ACLResourceType, pattern kmsg.ACLResourcePatternType, operation kmsg.ACLOperation, permission kmsg.ACLPermissionType) bool {
	return kind != kmsg.ACLResourceTypeUnknown && pattern != kmsg.ACLResourcePatternTypeUnknown &&
		operation != kmsg.ACLOperationUnknown && permission != kmsg.ACLPermissionTypeUnknown
}

// errNoAuthorizer is what changes of ACLs are answered where authorizer.class.name is not set.
var errNoAuthorizer = fmt.Errorf("No Authorizer is configured.: %w", kerr.SecurityDisabled)

// authorizeACLs returns why the sender of a request about ACLs may not do it.
func (a *Admin) authorizeACLs(ctx *wire.Request, o acl.Operation) error {
	if err := ctx.MayCluster(o); err != nil {
		return err
	}
	if !ctx.Authorizes() {
		return errNoAuthorizer
	}
	return nil
}

// describeACLs answers DescribeAcls (AclApis).
func (a *Admin) describeACLs(ctx *wire.Request, req *kmsg.DescribeACLsRequest) (*kmsg.DescribeACLsResponse, error) {
	if !knownACL(req.ResourceType, req.ResourcePatternType, req.Operation, req.PermissionType) {
		return nil, errUnknownACL
	}
	resp := kmsg.NewPtrDescribeACLsResponse()
	err := a.authorizeACLs(ctx, acl.Describe)
	if errors.Is(err, errNoAuthorizer) {
		err = fmt.Errorf("No Authorizer is configured on the broker: %w", kerr.SecurityDisabled)
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
		return resp, nil
	}
	f := acl.Filter{Resource: req.ResourceType, Pattern: req.ResourcePatternType, Name: req.ResourceName, Principal: req.Principal, Host: req.Host, Operation: req.Operation, Permission: req.PermissionType}
	resp.ErrorMessage = new(string)
	a.meta.Image().ACLs().Each(func(b acl.Binding) bool { // in the order of resources
		if !f.Matches(&b) {
			return true
		}
		if n := len(resp.Resources); n == 0 || resp.Resources[n-1].ResourceType != b.Resource || resp.Resources[n-1].ResourceName != b.Name || resp.Resources[n-1].ResourcePatternType != b.Pattern {
			r := kmsg.NewDescribeACLsResponseResource()
			r.ResourceType, r.ResourceName, r.ResourcePatternType = b.Resource, b.Name, b.Pattern
			resp.Resources = append(resp.Resources, r)
		}
		r := &resp.Resources[len(resp.Resources)-1]
		one := kmsg.NewDescribeACLsResponseResourceACL()
		one.Principal, one.Host, one.Operation, one.PermissionType = b.Principal, b.Host, b.Operation, b.Permission
		r.ACLs = append(r.ACLs, one)
		return true
	})
	return resp, nil
}

// createACLs answers CreateAcls (AclApis).
func (a *Admin) createACLs(ctx *wire.Request, req *kmsg.CreateACLsRequest) (*kmsg.CreateACLsResponse, error) {
	for _, c := range req.Creations {
		if !knownACL(c.ResourceType, c.ResourcePatternType, c.Operation, c.PermissionType) {
			return nil, errUnknownACL
		}
	}
	return calls.Forwarded(a.calls, a.addACLs)(ctx, req)
}

func (a *Admin) addACLs(ctx *wire.Request, req *kmsg.CreateACLsRequest) (*kmsg.CreateACLsResponse, error) {
	var bindings []acl.Binding
	for _, c := range req.Creations {
		bindings = append(bindings, acl.Binding{Resource: c.ResourceType, Pattern: c.ResourcePatternType, Name: c.ResourceName, Principal: c.Principal, Host: c.Host, Operation: c.Operation, Permission: c.PermissionType})
	}
	var errs []error
	err := a.authorizeACLs(ctx, acl.Alter)
	if err == nil {
		err = a.change(ctx, defaultTimeout, false, func(work *image.Image) (records []*image.Record, _ error) {
			records, errs = controller.CreateACLs(work, bindings)
			return records, nil
		})
	}
	resp := kmsg.NewPtrCreateACLsResponse()
	for i := range bindings {
		failed := err
		if failed == nil {
			failed = errs[i]
		}
		r := kmsg.NewCreateACLsResponseResult()
		r.ErrorCode, r.ErrorMessage = wire.ErrorCode(failed), wire.ErrorMessage(failed)
		resp.Results = append(resp.Results, r)
	}
	return resp, nil
}

// deleteACLs answers DeleteAcls (AclApis).
func (a *Admin) deleteACLs(ctx *wire.Request, req *kmsg.DeleteACLsRequest) (*kmsg.DeleteACLsResponse, error) {
	for _, f := range req.Filters {
		if !knownACL(f.ResourceType, f.ResourcePatternType, f.Operation, f.PermissionType) {
			return nil, errUnknownACL
		}
	}
	return calls.Forwarded(a.calls, a.removeACLs)(ctx, req)
}

func (a *Admin) removeACLs(ctx *wire.Request, req *kmsg.DeleteACLsRequest) (*kmsg.DeleteACLsResponse, error) {
	var filters []acl.Filter
	for _, f := range req.Filters {
		filters = append(filters, acl.Filter{Resource: f.ResourceType, Pattern: f.ResourcePatternType, Name: f.ResourceName, Principal: f.Principal, Host: f.Host, Operation: f.Operation, Permission: f.PermissionType})
	}
	var deleted [][]acl.Binding
	var errs []error
	err := a.authorizeACLs(ctx, acl.Alter)
	if err == nil {
		err = a.change(ctx, defaultTimeout, false, func(work *image.Image) (records []*image.Record, _ error) {
			records, deleted, errs = controller.DeleteACLs(work, filters)
			return records, nil
		})
	}
	resp := kmsg.NewPtrDeleteACLsResponse()
	for i := range filters {
		failed := err
		if failed == nil {
			failed = errs[i]
		}
		r := kmsg.NewDeleteACLsResponseResult()
		r.ErrorCode, r.ErrorMessage = wire.ErrorCode(failed), wire.ErrorMessage(failed)
		if failed == nil {
			for _, b := range deleted[i] {
				m := kmsg.NewDeleteACLsResponseResultMatchingACL()
				m.ResourceType, m.ResourcePatternType, m.ResourceName, m.Principal, m.Host, m.Operation, m.PermissionType = b.Resource, b.Pattern, b.Name, b.Principal, b.Host, b.Operation, b.Permission
				r.MatchingACLs = append(r.MatchingACLs, m)
			}
		}
		resp.Results = append(resp.Results, r)
	}
	return resp, nil
}
