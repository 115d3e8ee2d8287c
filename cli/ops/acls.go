package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire"
	"kraft/wire/acl"
)

// Rule is a rule of the access control lists, in the words of kraft acl.
type Rule acl.Binding

// MarshalJSON writes a rule by Kafka's names.
func (r Rule) MarshalJSON() ([]byte, error) {
	pattern, permission := "literal", "allow"
	if r.Pattern == acl.Prefixed {
		pattern = "prefixed"
	}
	if r.Permission == acl.Deny {
		permission = "deny"
	}
	return json.Marshal(map[string]string{"principal": r.Principal, "permission": permission, "operation": acl.OperationName(r.Operation), "resource": acl.Noun(r.Resource),
		"name": r.Name, "pattern": pattern, "host": r.Host})
}

// NoAuthorizer reports whether an error says that a cluster has no access control lists.
func NoAuthorizer(err error) bool { return errors.Is(err, kerr.SecurityDisabled) }

// Rules lists the rules of the cluster that a filter matches, in the order of resources.
func Rules(ctx context.Context, cl *kgo.Client, f acl.Filter) ([]Rule, error) {
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourcePatternType, req.ResourceName, req.Principal, req.Host, req.Operation, req.PermissionType = f.Resource, f.Pattern, f.Name, f.Principal, f.Host, f.Operation, f.Permission
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = wire.AnswerError(resp.ErrorCode, resp.ErrorMessage)
	}
	if err != nil {
		return nil, err
	}
	out := []Rule{}
	for _, r := range resp.Resources {
		for _, a := range r.ACLs {
			out = append(out, Rule{Resource: r.ResourceType, Pattern: r.ResourcePatternType, Name: r.ResourceName, Principal: a.Principal, Host: a.Host, Operation: a.Operation, Permission: a.PermissionType})
		}
	}
	slices.SortStableFunc(out, func(a, b Rule) int {
		return strings.Compare(fmt.Sprint(a.Resource, a.Name, a.Pattern, a.Principal), fmt.Sprint(b.Resource, b.Name, b.Pattern, b.Principal))
	})
	return out, nil
}

// Grant adds rules. Those that are there already stay. It returns the first one that the cluster refuses, with its error; another error is of all.
func Grant(ctx context.Context, cl *kgo.Client, rules []Rule) (refused *Rule, err error) {
	req := kmsg.NewPtrCreateACLsRequest()
	for _, r := range rules {
		req.Creations = append(req.Creations, kmsg.CreateACLsRequestCreation{ResourceType: r.Resource, ResourcePatternType: r.Pattern, ResourceName: r.Name,
			Principal: r.Principal, Host: r.Host, Operation: r.Operation, PermissionType: r.Permission})
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	for i, r := range resp.Results {
		if err := wire.AnswerError(r.ErrorCode, r.ErrorMessage); err != nil {
			return &rules[i], err
		}
	}
	return nil, nil
}

// Revoke removes what filters match, and returns it.
func Revoke(ctx context.Context, cl *kgo.Client, filters []acl.Filter) (gone []Rule, err error) {
	req := kmsg.NewPtrDeleteACLsRequest()
	for _, f := range filters {
		req.Filters = append(req.Filters, kmsg.DeleteACLsRequestFilter{ResourceType: f.Resource, ResourcePatternType: f.Pattern, ResourceName: f.Name,
			Principal: f.Principal, Host: f.Host, Operation: f.Operation, PermissionType: f.Permission})
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	for _, r := range resp.Results {
		if err := wire.AnswerError(r.ErrorCode, r.ErrorMessage); err != nil {
			return gone, err
		}
		for _, m := range r.MatchingACLs {
			if err := wire.AnswerError(m.ErrorCode, m.ErrorMessage); err != nil {
				return gone, err
			}
			one := Rule{Resource: m.ResourceType, Pattern: m.ResourcePatternType, Name: m.ResourceName, Principal: m.Principal, Host: m.Host, Operation: m.Operation, Permission: m.PermissionType}
			if !slices.Contains(gone, one) {
				gone = append(gone, one)
			}
		}
	}
	return gone, nil
}

// Filter matches the rule alone.
func (r Rule) Filter() acl.Filter {
	return acl.Filter{Resource: r.Resource, Pattern: r.Pattern, Name: &r.Name, Principal: &r.Principal, Host: &r.Host, Operation: r.Operation, Permission: r.Permission}
}

// Ruling is why somebody may do something, or may not.
type Ruling struct {
	Allowed bool   `json:"allowed"`
	Rule    *Rule  `json:"rule,omitempty"` // that decides; nil where none does
	Reason  string `json:"reason"`
	Audited bool   `json:"audited,omitempty"` // authorizer.mode is audit: it is let through all the same
}

// Why decides a question as the brokers do: by the rules, and the settings of a broker.
func Why(ctx context.Context, cl *kgo.Client, q acl.Question) (Ruling, error) {
	every := acl.Filter{Resource: kmsg.ACLResourceTypeAny, Pattern: kmsg.ACLResourcePatternTypeAny, Operation: kmsg.ACLOperationAny, Permission: kmsg.ACLPermissionTypeAny}
	all, err := Rules(ctx, cl, every)
	if NoAuthorizer(err) {
		return Ruling{Allowed: true, Reason: "authorizer.class.name is not set: everybody may do everything"}, nil
	}
	if err != nil {
		return Ruling{}, err
	}
	settings, broker, err := authorizerSettings(ctx, cl)
	if err != nil {
		return Ruling{}, err
	}
	for user := range strings.SplitSeq(settings["super.users"], ";") {
		if strings.TrimSpace(user) == q.Principal {
			return Ruling{Allowed: true, Reason: fmt.Sprintf("%s is one of super.users of broker %d", q.Principal, broker)}, nil
		}
	}
	rules := acl.NewRules()
	for _, r := range all {
		rules.Add(acl.Binding(r))
	}
	v := rules.Decide(q)
	out := Ruling{Allowed: v.Allowed, Reason: "no rule allows it", Audited: settings["authorizer.mode"] == "audit"}
	switch {
	case v.Rule != acl.Binding{}:
		r := Rule(v.Rule)
		out.Rule, out.Reason = &r, "the rule says: "+v.Rule.String()
	case !v.Ruled && settings["allow.everyone.if.no.acl.found"] == "true":
		out.Allowed, out.Reason = true, fmt.Sprintf("no rule is about this %s, and allow.everyone.if.no.acl.found is true", acl.Noun(q.Resource))
	}
	out.Audited = out.Audited && !out.Allowed
	return out, nil
}

// authorizerSettings are the settings of a broker that decide where no rule does. Apache Kafka does not tell them.
func authorizerSettings(ctx context.Context, cl *kgo.Client) (map[string]string, int32, error) {
	admin := kadm.NewClient(cl)
	brokers, err := admin.ListBrokers(ctx)
	if err != nil || len(brokers) == 0 {
		return nil, 0, err
	}
	id := brokers[0].NodeID
	found, err := admin.DescribeBrokerConfigs(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	out := map[string]string{}
	for _, r := range found {
		for _, c := range r.Configs {
			out[c.Key] = c.MaybeValue()
		}
	}
	return out, id, nil
}

// ParseHost is an address, for Question; "" is one that only rules for every host fit.
func ParseHost(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, fmt.Errorf("%s is no IP address: brokers know clients by their addresses, not by names", text)
	}
	return a.Unmap(), nil
}
