package wire

import (
	"fmt"
	"net/netip"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/wire/acl"
)

// Authorizer decides what who sends requests may do (Kafka's Authorizer). Any goroutine may call it.
type Authorizer interface {
	// Authorize answers a question that r's handler asks. A denial is logged if audited is set.
	Authorize(r *Request, q acl.Question, audited bool) bool
	// AuthorizeAny answers whether any resource of a type is allowed; q.Name is "".
	AuthorizeAny(r *Request, q acl.Question) bool
}

// NoOperations stands in answers for authorized operations that nobody asked for, or that nobody is told.
const NoOperations = -1 << 31

// Authorizes reports whether there is an authorizer. Without one everybody may do everything.
func (r *Request) Authorizes() bool { return r.conn.server.config.Authorizer != nil }

// May returns nil if who sent the request may do an operation on a resource, and otherwise the error of Kafka for that type of resource. A
// denial is logged. For the request's handler, as the other methods about what is allowed.
func (r *Request) May(o acl.Operation, resource acl.Resource, name string) error {
	if r.authorize(o, resource, name, true) {
		return nil
	}
	return deniedErrors[resource]
}

// MayCluster is May for an operation on the cluster.
func (r *Request) MayCluster(o acl.Operation) error { return r.May(o, acl.Cluster, acl.ClusterName) }

// Could is May without the log line: for what is left out of an answer, and for one of several rights that are enough.
func (r *Request) Could(o acl.Operation, resource acl.Resource, name string) bool {
	return r.authorize(o, resource, name, false)
}

// CouldCluster is Could for an operation on the cluster.
func (r *Request) CouldCluster(o acl.Operation) bool { return r.Could(o, acl.Cluster, acl.ClusterName) }

// CouldAny reports whether who sent the request may do an operation on any resource of a type.
func (r *Request) CouldAny(o acl.Operation, resource acl.Resource) bool {
	a := r.conn.server.config.Authorizer
	return a == nil || a.AuthorizeAny(r, r.question(o, resource, ""))
}

// Authorized is what an answer tells of the operations on a resource that who sent the request may do, as bits.
func (r *Request) Authorized(resource acl.Resource, name string) int32 {
	bits := int32(0)
	for _, o := range acl.Operations(resource) {
		if r.Could(o, resource, name) {
			bits |= 1 << o
		}
	}
	return bits
}

func (r *Request) authorize(o acl.Operation, resource acl.Resource, name string, audited bool) bool {
	a := r.conn.server.config.Authorizer
	return a == nil || a.Authorize(r, r.question(o, resource, name), audited)
}

// question is what the request's sender wants.
func (r *Request) question(o acl.Operation, resource acl.Resource, name string) acl.Question {
	if r.asks.Principal == "" {
		r.asks.Principal = r.Session.Principal.String()
		if at, err := netip.ParseAddrPort(r.Session.Peer); err == nil {
			r.asks.Host = at.Addr().Unmap().WithZone("")
		} else if a, err := netip.ParseAddr(r.Session.Peer); err == nil { // forwarded
			r.asks.Host = a.Unmap()
		}
	}
	q := r.asks
	q.Operation, q.Resource, q.Name = o, resource, name
	return q
}

var deniedErrors = map[acl.Resource]error{
	acl.Topic:           fmt.Errorf("Topic authorization failed.: %w", kerr.TopicAuthorizationFailed),
	acl.Group:           fmt.Errorf("Group authorization failed.: %w", kerr.GroupAuthorizationFailed),
	acl.Cluster:         fmt.Errorf("Cluster authorization failed.: %w", kerr.ClusterAuthorizationFailed),
	acl.TransactionalID: fmt.Errorf("Transactional Id authorization failed.: %w", kerr.TransactionalIDAuthorizationFailed),
	acl.DelegationToken: fmt.Errorf("Delegation Token authorization failed.: %w", kerr.DelegationTokenAuthorizationFailed),
	acl.User:            fmt.Errorf("Delegation Token authorization failed.: %w", kerr.DelegationTokenAuthorizationFailed),
}
