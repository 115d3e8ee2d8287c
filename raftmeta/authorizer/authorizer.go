// Package authorizer decides by the cluster's ACLs what clients may do (Kafka's StandardAuthorizer), and tells of what it refuses.
package authorizer

import (
	"maps"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"kraft/raftmeta"
	"kraft/wire"
	"kraft/wire/acl"
	"kraft/wire/locks"
	"kraft/wire/logging"
)

// Config is what server.properties says of who may do what.
type Config struct {
	SuperUsers    map[string]bool // super.users, as Type:name
	AllowEveryone bool            // allow.everyone.if.no.acl.found
}

// Audit is the authorizer.mode in which nothing is refused, but told as if it were.
const Audit = "audit"

// Authorizer implements wire.Authorizer by the newest metadata of a node. Any goroutine may use it.
type Authorizer struct {
	config Config
	meta   *raftmeta.Meta
	log    zerolog.Logger
	lines  *rate.Limiter // of denials

	mu     locks.Mutex      // guards the rest
	denied map[Denied]int64 // how often, since the start
	untold int64            // denials without a log line, since the last line
}

// Denied is what denials are counted by.
type Denied struct {
	Operation acl.Operation
	Resource  acl.Resource
}

// New returns the authorizer of a node.
func New(meta *raftmeta.Meta, config Config) *Authorizer {
	return &Authorizer{config: config, meta: meta, log: meta.Config.Logs.For(logging.Authorizer), lines: rate.NewLimiter(lineRate, lineRate), denied: map[Denied]int64{}}
}

// lineRate is how many denials are logged a second: clients go on asking.
const lineRate = 20

// Authorize implements wire.Authorizer.
func (a *Authorizer) Authorize(r *wire.Request, q acl.Question, audited bool) bool {
	if a.config.SuperUsers[q.Principal] {
		return true
	}
	v := a.meta.Image().ACLs().Decide(q)
	if v.Allowed || !v.Ruled && a.config.AllowEveryone {
		return true
	}
	audits := a.meta.Settings().AuthorizerMode == Audit
	if audited {
		a.tell(r, q, v.Rule, audits)
	}
	return audits
}

// AuthorizeAny implements wire.Authorizer.
func (a *Authorizer) AuthorizeAny(r *wire.Request, q acl.Question) bool {
	named := q
	named.Name = anyName
	return a.config.SuperUsers[q.Principal] || a.Authorize(r, named, false) || a.meta.Image().ACLs().DecideAny(q)
}

// anyName is the resource by which Kafka's authorizer finds out whether super.users or allow.everyone.if.no.acl.found let somebody do anything.
const anyName = "hardcode"

func (a *Authorizer) tell(r *wire.Request, q acl.Question, rule acl.Binding, audits bool) {
	now := time.Now()
	a.mu.Lock()
	a.denied[Denied{q.Operation, q.Resource}]++
	tells, untold := a.lines.AllowN(now, 1), a.untold
	if a.untold = 0; !tells {
		a.untold = untold + 1
	}
	a.mu.Unlock()
	if !tells {
		return
	}
	reason := "no rule allows it"
	if rule != (acl.Binding{}) {
		reason = rule.String()
	}
	event, message := a.log.Warn(), "denied"
	if audits {
		message = "would be denied: authorizer.mode is audit"
	}
	event.Str("principal", q.Principal).Str("operation", acl.OperationName(q.Operation)).Str("resource", acl.Noun(q.Resource)).Str("name", q.Name).
		Str("rule", reason).Str("request", r.Name()).Str("client", r.ClientID).Str("peer", r.Session.Peer)
	if untold > 0 {
		event.Int64("more", untold) // since the last line, which went without one
	}
	event.Msg(message)
}

// Counts are the denials since the start, by operation and type of resource.
func (a *Authorizer) Counts() map[Denied]int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.denied)
}
