// Package acl is Kafka's access control lists as data: bindings (rules), their index, and the decision whether a principal may do an operation
// on a resource (Kafka's StandardAuthorizerData). It is pure: no I/O, no clock, no goroutine.
package acl

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The types of the protocol, by shorter names.
type (
	Resource   = kmsg.ACLResourceType
	Pattern    = kmsg.ACLResourcePatternType
	Operation  = kmsg.ACLOperation
	Permission = kmsg.ACLPermissionType
)

// Resources that bindings can be about.
const (
	Topic           = kmsg.ACLResourceTypeTopic
	Group           = kmsg.ACLResourceTypeGroup
	Cluster         = kmsg.ACLResourceTypeCluster // there is one, ClusterName
	TransactionalID = kmsg.ACLResourceTypeTransactionalId
	DelegationToken = kmsg.ACLResourceTypeDelegationToken
	User            = kmsg.ACLResourceTypeUser // named Type:name, as principals are
)

// ClusterName is the name of the only resource of type Cluster.
const ClusterName = "kafka-cluster"

// Any is the name of a literal pattern that matches every resource of its type.
const Any = "*"

// Everyone is the principal of bindings that hold for all principals, of whatever type.
const Everyone = "User:*"

// Patterns of bindings.
const (
	Literal  = kmsg.ACLResourcePatternTypeLiteral
	Prefixed = kmsg.ACLResourcePatternTypePrefixed
)

// Operations.
const (
	All             = kmsg.ACLOperationAll
	Read            = kmsg.ACLOperationRead
	Write           = kmsg.ACLOperationWrite
	Create          = kmsg.ACLOperationCreate
	Delete          = kmsg.ACLOperationDelete
	Alter           = kmsg.ACLOperationAlter
	Describe        = kmsg.ACLOperationDescribe
	ClusterAction   = kmsg.ACLOperationClusterAction
	DescribeConfigs = kmsg.ACLOperationDescribeConfigs
	AlterConfigs    = kmsg.ACLOperationAlterConfigs
	IdempotentWrite = kmsg.ACLOperationIdempotentWrite
	CreateTokens    = kmsg.ACLOperationCreateTokens
	DescribeTokens  = kmsg.ACLOperationDescribeTokens
	TwoPhaseCommit  = Operation(15) // KIP-939
)

// Permissions.
const (
	Deny  = kmsg.ACLPermissionTypeDeny
	Allow = kmsg.ACLPermissionTypeAllow
)

// Binding is one rule (Kafka's AclBinding): it allows or denies an operation to a principal from a host, on the resources that a pattern
// matches. A Binding is comparable: two that are equal are one rule.
type Binding struct {
	Resource   Resource
	Pattern    Pattern
	Name       string // of the resource, or its prefix
	Principal  string // Type:name, or Everyone
	Host       string // "*", an IP address, or a range of them as address/bits (KIP-1276)
	Operation  Operation
	Permission Permission
}

// String is the binding in words, as in `kraft acl why`.
func (b Binding) String() string {
	on := fmt.Sprintf("%s %s", Noun(b.Resource), b.Name)
	if b.Pattern == Prefixed {
		on = fmt.Sprintf("%ss that begin with %s", Noun(b.Resource), b.Name)
	} else if b.Name == Any {
		on = "every " + Noun(b.Resource)
	}
	verb := "may"
	if b.Permission == Deny {
		verb = "may not"
	}
	from := ""
	if b.Host != Any {
		from = " from " + b.Host
	}
	return fmt.Sprintf("%s %s %s %s%s", b.Principal, verb, OperationName(b.Operation), on, from)
}

// Noun is what a resource is called in sentences.
func Noun(r Resource) string {
	switch r {
	case TransactionalID:
		return "transactional id"
	case DelegationToken:
		return "delegation token"
	}
	return strings.ToLower(r.String())
}

// OperationName is Kafka's name of an operation, e.g. DescribeConfigs.
func OperationName(o Operation) string {
	if name, ok := operationNames[o]; ok {
		return name
	}
	return fmt.Sprintf("operation %d", int8(o))
}

var operationNames = map[Operation]string{All: "All", Read: "Read", Write: "Write", Create: "Create", Delete: "Delete", Alter: "Alter", Describe: "Describe",
	ClusterAction: "ClusterAction", DescribeConfigs: "DescribeConfigs", AlterConfigs: "AlterConfigs", IdempotentWrite: "IdempotentWrite",
	CreateTokens: "CreateTokens", DescribeTokens: "DescribeTokens", TwoPhaseCommit: "TwoPhaseCommit"}

// Operations are those that are counted among the authorized operations of a resource (Kafka's AclEntry.supportedOperations).
func Operations(r Resource) []Operation {
	switch r {
	case Topic:
		return []Operation{Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs}
	case Group:
		return []Operation{Read, Delete, Describe, DescribeConfigs, AlterConfigs}
	case Cluster:
		return []Operation{Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite}
	case TransactionalID:
		return []Operation{Write, Describe, TwoPhaseCommit}
	case DelegationToken:
		return []Operation{Describe}
	case User:
		return []Operation{CreateTokens, DescribeTokens}
	}
	return nil
}

// covers reports whether a binding's operation decides on the asked one: whether an ALLOW of it grants what is asked, or a DENY of it refuses it.
func covers(b *rule, asked Operation) bool {
	if b.operation == All || b.operation == asked {
		return true
	}
	if b.permission == Deny {
		return false
	}
	switch asked {
	case Describe:
		return b.operation == Read || b.operation == Write || b.operation == Delete || b.operation == Alter
	case DescribeConfigs:
		return b.operation == AlterConfigs
	}
	return false
}
