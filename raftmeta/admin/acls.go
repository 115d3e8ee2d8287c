package admin

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire"
)

// errUnknownACL closes the connection, as Apache Kafka does, of a request in which a resource type, pattern type, operation or permission type
// is UNKNOWN. Numbers that Kafka does not define are another matter: only an authorizer looks at them.
var errUnknownACL = errors.New("ACL request: resource type, pattern type, operation or permission type is UNKNOWN")

// knownACL reports whether nothing that an ACL, or a filter of ACLs, names is UNKNOWN.
func knownACL(kind kmsg.ACLResourceType, pattern kmsg.ACLResourcePatternType, operation kmsg.ACLOperation, permission kmsg.ACLPermissionType) bool {
	return kind != kmsg.ACLResourceTypeUnknown && pattern != kmsg.ACLResourcePatternTypeUnknown &&
		operation != kmsg.ACLOperationUnknown && permission != kmsg.ACLPermissionTypeUnknown
}

// describeACLs answers DescribeAcls as an Apache Kafka without an authorizer does (AclApis).
func (a *Admin) describeACLs(_ *wire.Request, req *kmsg.DescribeACLsRequest) (*kmsg.DescribeACLsResponse, error) {
	if !knownACL(req.ResourceType, req.ResourcePatternType, req.Operation, req.PermissionType) {
		return nil, errUnknownACL
	}
	resp := kmsg.NewPtrDescribeACLsResponse()
	resp.ErrorCode, resp.ErrorMessage = kerr.SecurityDisabled.Code, kmsg.StringPtr("No Authorizer is configured on the broker")
	return resp, nil
}

// createACLs answers CreateAcls, likewise.
func (a *Admin) createACLs(_ *wire.Request, req *kmsg.CreateACLsRequest) (*kmsg.CreateACLsResponse, error) {
	resp := kmsg.NewPtrCreateACLsResponse()
	for _, c := range req.Creations {
		if !knownACL(c.ResourceType, c.ResourcePatternType, c.Operation, c.PermissionType) {
			return nil, errUnknownACL
		}
		r := kmsg.NewCreateACLsResponseResult()
		r.ErrorCode, r.ErrorMessage = kerr.SecurityDisabled.Code, kmsg.StringPtr("No Authorizer is configured.")
		resp.Results = append(resp.Results, r)
	}
	return resp, nil
}

// deleteACLs answers DeleteAcls, likewise.
func (a *Admin) deleteACLs(_ *wire.Request, req *kmsg.DeleteACLsRequest) (*kmsg.DeleteACLsResponse, error) {
	resp := kmsg.NewPtrDeleteACLsResponse()
	for _, f := range req.Filters {
		if !knownACL(f.ResourceType, f.ResourcePatternType, f.Operation, f.PermissionType) {
			return nil, errUnknownACL
		}
		r := kmsg.NewDeleteACLsResponseResult()
		r.ErrorCode, r.ErrorMessage = kerr.SecurityDisabled.Code, kmsg.StringPtr("No Authorizer is configured.")
		resp.Results = append(resp.Results, r)
	}
	return resp, nil
}
