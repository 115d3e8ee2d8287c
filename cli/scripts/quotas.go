package scripts

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
	"kraft/wire/quota"
)

// quotaKeys are the quotas of users and clients, and of addresses.
var (
	clientQuotas = quota.Keys[:]
	quotaKeys    = map[string][]string{"users": clientQuotas, "clients": clientQuotas, "ips": {image.ConnectionRate}}
)

func (k *configsCall) alterQuotas(list []entity) error {
	kind := list[0].kind
	for _, e := range list {
		if e.all {
			return useError{errors.New("an entity name must be specified with --alter of " + e.kind)}
		}
	}
	add, err := k.added()
	if err != nil {
		return err
	}
	if kind == "users" && len(list) == 1 {
		if done, err := k.alterScram(list[0], add); done || err != nil {
			return err
		}
	}
	var unknown []string
	for _, key := range slices.Concat(slices.Sorted(maps.Keys(add)), k.deleted()) {
		if !slices.Contains(quotaKeys[kind], key) {
			unknown = append(unknown, key)
		}
	}
	if unknown != nil {
		what := "quota and SCRAM credential"
		if kind != "users" || len(list) > 1 {
			what = "quota"
		}
		fmt.Fprintf(k.errOut, "Only %s configs can be added for '%s' using --bootstrap-server. Unexpected config names: %s\n", what, kind, strings.Join(unknown, ","))
		return statusError(1)
	}
	entry := kmsg.NewAlterClientQuotasRequestEntry()
	for _, e := range list {
		entry.Entity = append(entry.Entity, kmsg.AlterClientQuotasRequestEntryEntity{Type: quotaKinds[e.kind].part, Name: e.name})
	}
	for _, key := range slices.Sorted(maps.Keys(add)) {
		value, err := strconv.ParseFloat(add[key], 64)
		if err != nil {
			return useError{fmt.Errorf("Cannot parse quota configuration value for %s: %s", key, add[key])}
		}
		entry.Ops = append(entry.Ops, kmsg.AlterClientQuotasRequestEntryOp{Key: key, Value: value})
	}
	for _, key := range k.deleted() {
		entry.Ops = append(entry.Ops, kmsg.AlterClientQuotasRequestEntryOp{Key: key, Remove: true})
	}
	req := kmsg.NewPtrAlterClientQuotasRequest()
	req.Entries = append(req.Entries, entry)
	resp, err := req.RequestWith(k.ctx, k.client)
	if err != nil {
		return err
	}
	for _, r := range resp.Entries {
		if err := answer(r.ErrorCode, r.ErrorMessage); err != nil {
			return err
		}
	}
	k.completed(list[0].name, quotaKinds[kind].called, kind)
	return nil
}

func (k *configsCall) describeQuotas(list []entity) error {
	req := kmsg.NewPtrDescribeClientQuotasRequest()
	req.Strict = true
	for _, e := range list {
		c := kmsg.NewDescribeClientQuotasRequestComponent()
		c.EntityType, c.MatchType = quotaKinds[e.kind].part, kmsg.QuotasMatchTypeDefault
		switch {
		case e.name != nil:
			c.MatchType, c.Match = kmsg.QuotasMatchTypeExact, e.name
		case e.all:
			c.MatchType = kmsg.QuotasMatchTypeAny
		}
		req.Components = append(req.Components, c)
	}
	resp, err := req.RequestWith(k.ctx, k.client)
	if err != nil {
		return err
	}
	if err := answer(resp.ErrorCode, resp.ErrorMessage); err != nil {
		return err
	}
	for _, e := range resp.Entries {
		var who, values []string
		for _, kind := range []string{"users", "clients", "ips"} {
			for _, p := range e.Entity {
				switch q := quotaKinds[kind]; {
				case p.Type != q.part:
				case p.Name == nil:
					who = append(who, "the default "+q.described)
				default:
					who = append(who, fmt.Sprintf("%s '%s'", q.described, *p.Name))
				}
			}
		}
		for _, v := range e.Values {
			values = append(values, v.Key+"="+javaDouble(v.Value))
		}
		fmt.Fprintf(k.out, "Quota configs for %s are %s\n", strings.Join(who, ", "), strings.Join(values, ", "))
	}
	if len(list) == 1 && list[0].kind == "users" && (list[0].all || list[0].name != nil) {
		return k.describeScram(list[0])
	}
	return nil
}

// javaDouble is a number as Java prints it: 1000.0, 1.0E7.
func javaDouble(f float64) string {
	if f != 0 && (f >= 1e7 || f < 1e-3) {
		mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'E', -1, 64), "E")
		if !strings.Contains(mantissa, ".") {
			mantissa += ".0"
		}
		n, _ := strconv.Atoi(exponent)
		return fmt.Sprintf("%sE%d", mantissa, n)
	}
	text := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}
