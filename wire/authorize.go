package wire

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/wire/acl"
)

// Authorizer decides what the senders of requests may do (Kafka's Authorizer). Any goroutine may call it.
type Authorizer interface {
	// Authorize answers a question that r's handler asks.
	Authorize(r *Request, q acl.Question, how Asking) bool
	// HoldsAny answers, by the rules alone, whether an operation on any resource of a type is allowed; q.Name is "".
	HoldsAny(q acl.Question) bool
}

// Asking is how an Authorizer is asked.
type Asking int

const (
	Logged   Asking = iota // a denial is logged, and let through where the authorizer only audits
	Quietly                // the same, without a log line
	Strictly               // by the rules alone
)

// NoOperations stands in answers for authorized operations that were not asked for, or that the sender may not know.
const NoOperations = -1 << 31

// Authorizes reports whether there is an authorizer. Without one everybody may do everything.
func (r *Request) Authorizes() bool { return r.conn.server.config.Authorizer != nil }

// May returns nil if the sender of the request may do an operation on a resource, and otherwise the error of Kafka for that type of resource.
// A denial is logged. Only the request's handler may call it, and the other methods about rights.
func (r *Request) May(o acl.Operation, resource acl.Resource, name string) error {
	if r.authorize(o, resource, name, Logged) {
		return nil
	}
	if err := deniedErrors[resource]; err != nil {
		return err
	}
	return kerr.UnknownServerError
}

// MayCluster is May for an operation on the cluster. Who may do ClusterAction is a broker, and has no quotas.
func (r *Request) MayCluster(o acl.Operation) error {
	err := r.May(o, acl.Cluster, acl.ClusterName)
	r.exempt = r.exempt || err == nil && o == acl.ClusterAction
	return err
}

// Could is May without the log line: for what is left out of an answer where it is denied.
func (r *Request) Could(o acl.Operation, resource acl.Resource, name string) bool {
	return r.authorize(o, resource, name, Quietly)
}

// CouldCluster is Could for an operation on the cluster.
func (r *Request) CouldCluster(o acl.Operation) bool { return r.Could(o, acl.Cluster, acl.ClusterName) }

// Holds is Could by the rules alone: where the authorizer only audits, it answers as if it did not.
func (r *Request) Holds(o acl.Operation, resource acl.Resource, name string) bool {
	return r.authorize(o, resource, name, Strictly)
}

// Must is May that denies also where the authorizer only audits: for what would outlast that, such as a token.
func (r *Request) Must(o acl.Operation, resource acl.Resource, name string) error {
	err := r.May(o, resource, name)
	if err == nil && !r.Holds(o, resource, name) {
		err = deniedErrors[resource]
	}
	return err
}

// HoldsCluster reports whether the sender has a right to the cluster that makes another one unnecessary. What follows if not is asked by
// May, which logs the denial and lets it through where the authorizer only audits.
func (r *Request) HoldsCluster(o acl.Operation) bool {
	return r.authorize(o, acl.Cluster, acl.ClusterName, Strictly)
}

// IsBroker reports whether the sender, which says that it is a broker, may do what brokers do. Then it has no quotas.
func (r *Request) IsBroker() bool {
	is := r.HoldsCluster(acl.ClusterAction)
	r.exempt = r.exempt || is
	return is
}

// HoldsAny is HoldsCluster for an operation on any resource of a type.
func (r *Request) HoldsAny(o acl.Operation, resource acl.Resource) bool {
	a := r.conn.server.config.Authorizer
	return a == nil || a.HoldsAny(r.question(o, resource, ""))
}

// Authorized is what an answer tells of the operations on a resource that the sender may do, as bits.
func (r *Request) Authorized(resource acl.Resource, name string) int32 {
	bits := int32(0)
	for _, o := range acl.Operations(resource) {
		if r.Could(o, resource, name) {
			bits |= 1 << o
		}
	}
	return bits
}

func (r *Request) authorize(o acl.Operation, resource acl.Resource, name string, how Asking) bool {
	a := r.conn.server.config.Authorizer
	return a == nil || a.Authorize(r, r.question(o, resource, name), how)
}

// question is what the request's sender wants.
func (r *Request) question(o acl.Operation, resource acl.Resource, name string) acl.Question {
	if r.asks.Principal == "" {
		r.asks.Principal = r.Session.Principal.String()
		r.asks.Host = peerAddress(r.Session.Peer)
	}
	q := r.asks
	q.Operation, q.Resource, q.Name = o, resource, name
	return q
}

// IsDenial reports whether an error says that the sender of a request has no right to something.
func IsDenial(err error) bool {
	known := (*kerr.Error)(nil)
	if !errors.As(err, &known) {
		return false
	}
	for _, denied := range deniedErrors {
		if errors.Is(denied, known) {
			return true
		}
	}
	return false
}

var deniedErrors = map[acl.Resource]error{
	acl.Topic:           fmt.Errorf("Topic authorization failed.: %w", kerr.TopicAuthorizationFailed),
	acl.Group:           fmt.Errorf("Group authorization failed.: %w", kerr.GroupAuthorizationFailed),
	acl.Cluster:         fmt.Errorf("Cluster authorization failed.: %w", kerr.ClusterAuthorizationFailed),
	acl.TransactionalID: fmt.Errorf("Transactional Id authorization failed.: %w", kerr.TransactionalIDAuthorizationFailed),
	acl.DelegationToken: fmt.Errorf("Delegation Token authorization failed.: %w", kerr.DelegationTokenAuthorizationFailed),
	acl.User:            fmt.Errorf("Delegation Token authorization failed.: %w", kerr.DelegationTokenAuthorizationFailed),
}
