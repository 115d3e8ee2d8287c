// Package authorizer decides by the cluster's ACLs what clients may do (Kafka's StandardAuthorizer), and logs and counts what it denies.
package authorizer

import (
	"maps"
	"sync/atomic"
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
	Audit         bool            // authorizer.mode=audit: the setting may end that while the node runs, and not begin it
}

// Audit is the authorizer.mode in which nothing is denied. What would be is logged and counted.
const Audit = "audit"

// Authorizer implements wire.Authorizer by the newest metadata of a node. Any goroutine may use it.
type Authorizer struct {
	config Config
	meta   *raftmeta.Meta
	log    zerolog.Logger
	ready  atomic.Bool

	mu      locks.Mutex           // guards the rest
	denied  map[Denied]int64      // how often, since the start
	logging map[string]*denialsOf // by principal
}

// Denied is what denials are counted by.
type Denied struct {
	Operation acl.Operation
	Resource  acl.Resource
}

// denialsOf limits the log lines about one principal.
type denialsOf struct {
	lines    *rate.Limiter
	unlogged int64 // denials since the last line
}

const (
	lineRate      = 20   // denials of a principal that are logged in a second: clients go on asking
	maxPrincipals = 1000 // whose log lines are limited apart
)

// New returns the authorizer of a node. Until Ready is called it allows nothing but to super users.
func New(meta *raftmeta.Meta, config Config) *Authorizer {
	return &Authorizer{config: config, meta: meta, log: meta.Config.Logs.For(logging.Authorizer), denied: map[Denied]int64{}, logging: map[string]*denialsOf{}}
}

// Ready says that the node has the cluster's metadata, and with it the ACLs.
func (a *Authorizer) Ready() { a.ready.Store(true) }

// Authorize implements wire.Authorizer.
func (a *Authorizer) Authorize(r *wire.Request, q acl.Question, how wire.Asking) bool {
	allowed, rule := a.decide(q)
	if allowed || how == wire.Strictly {
		return allowed
	}
	audit := a.audits()
	if how == wire.Logged {
		a.logDenial(r, q, rule, audit)
	}
	return audit
}

// decide answers a question by super.users, the ACLs and allow.everyone.if.no.acl.found. rule is the ACL that denies, if one does.
func (a *Authorizer) decide(q acl.Question) (allowed bool, rule acl.Binding) {
	if a.config.SuperUsers[q.Principal] {
		return true, rule
	}
	if !a.ready.Load() {
		return false, rule
	}
	v := a.meta.Image().ACLs().Decide(q)
	return v.Allowed || !v.Ruled && a.config.AllowEveryone, v.Rule
}

func (a *Authorizer) audits() bool {
	return a.config.Audit && a.meta.Settings().AuthorizerMode == Audit
}

// HoldsAny implements wire.Authorizer.
func (a *Authorizer) HoldsAny(q acl.Question) bool {
	named := q
	named.Name = anyName
	allowed, _ := a.decide(named)
	return allowed || a.ready.Load() && a.meta.Image().ACLs().DecideAny(q)
}

// anyName is the resource by which Kafka's authorizer finds out whether super.users or allow.everyone.if.no.acl.found let somebody do anything.
const anyName = "hardcode"

func (a *Authorizer) logDenial(r *wire.Request, q acl.Question, rule acl.Binding, audit bool) {
	logged, unlogged := a.count(q, time.Now())
	if !logged {
		return
	}
	reason := "no rule allows it"
	if rule != (acl.Binding{}) {
		reason = rule.String()
	} else if !a.ready.Load() {
		reason = "the node does not have the rules yet"
	}
	event, message := a.log.Warn(), "denied"
	if audit {
		message = "would be denied: authorizer.mode is audit"
	}
	event.Str("principal", q.Principal).Str("operation", acl.OperationName(q.Operation)).Str("resource", acl.Noun(q.Resource)).Str("name", cut(q.Name)).
		Str("rule", reason).Str("request", r.Name()).Str("client", cut(r.ClientID)).Str("peer", r.Session.Peer)
	if unlogged > 0 {
		event.Int64("more", unlogged) // of this principal since its last line
	}
	event.Msg(message)
}

// cut shortens what a client has made up, for a log line.
func cut(text string) string {
	if len(text) > maxLogged {
		return text[:maxLogged] + "..."
	}
	return text
}

// maxLogged is how many bytes of a name are logged: Kafka's longest name of a topic.
const maxLogged = 249

// count counts a denial, and reports whether it is to be logged, and how many of the principal were not since the last one that was.
func (a *Authorizer) count(q acl.Question, now time.Time) (logged bool, unlogged int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.denied[Denied{q.Operation, q.Resource}]++
	d := a.logging[q.Principal]
	if d == nil {
		if len(a.logging) >= maxPrincipals {
			clear(a.logging)
		}
		d = &denialsOf{lines: rate.NewLimiter(lineRate, lineRate)}
		a.logging[q.Principal] = d
	}
	if !d.lines.AllowN(now, 1) {
		d.unlogged++
		return false, 0
	}
	unlogged, d.unlogged = d.unlogged, 0
	return true, unlogged
}

// Counts are the denials since the start, by operation and type of resource.
func (a *Authorizer) Counts() map[Denied]int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.denied)
}
