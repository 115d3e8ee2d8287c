package admin

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/acl"
)

// describeClientQuotas answers DescribeClientQuotas (KIP-546).
func (a *Admin) describeClientQuotas(ctx *wire.Request, req *kmsg.DescribeClientQuotasRequest) (*kmsg.DescribeClientQuotasResponse, error) {
	resp := kmsg.NewPtrDescribeClientQuotasResponse()
	var filters []controller.QuotaFilter
	for _, c := range req.Components {
		filters = append(filters, controller.QuotaFilter{Type: c.EntityType, Match: int8(c.MatchType), Name: c.Match})
	}
	var found []*image.Quota
	err := ctx.MayCluster(acl.DescribeConfigs)
	if err == nil {
		found, err = controller.MatchQuotas(a.meta.Image(), filters, req.Strict)
	}
	resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
	if err == nil {
		resp.Entries = []kmsg.DescribeClientQuotasResponseEntry{} // null is for errors
	}
	for _, q := range found {
		e := kmsg.NewDescribeClientQuotasResponseEntry()
		for _, part := range q.Entity {
			e.Entity = append(e.Entity, kmsg.DescribeClientQuotasResponseEntryEntity{Type: part.Type, Name: part.Name})
		}
		for _, key := range slices.Sorted(maps.Keys(q.Values)) {
			e.Values = append(e.Values, kmsg.DescribeClientQuotasResponseEntryValue{Key: key, Value: q.Values[key]})
		}
		resp.Entries = append(resp.Entries, e)
	}
	return resp, nil
}

// alterClientQuotas answers AlterClientQuotas (KIP-546).
func (a *Admin) alterClientQuotas(ctx *wire.Request, req *kmsg.AlterClientQuotasRequest) (*kmsg.AlterClientQuotasResponse, error) {
	resp := kmsg.NewPtrAlterClientQuotasResponse()
	refused := ctx.MayCluster(acl.AlterConfigs)
	for i := range req.Entries {
		r := &req.Entries[i]
		out := kmsg.NewAlterClientQuotasResponseEntry()
		var entity []*image.QuotaEntity
		for _, part := range r.Entity {
			entity = append(entity, &image.QuotaEntity{Type: part.Type, Name: part.Name})
			out.Entity = append(out.Entity, kmsg.AlterClientQuotasResponseEntryEntity{Type: part.Type, Name: part.Name})
		}
		var changes []controller.QuotaChange
		for _, op := range r.Ops {
			changes = append(changes, controller.QuotaChange{Key: op.Key, Value: op.Value, Remove: op.Remove})
		}
		err := refused
		if err == nil {
			err = a.change(ctx, defaultTimeout, req.ValidateOnly, func(work *image.Image) ([]*image.Record, error) {
				return controller.AlterQuotas(work, entity, changes)
			})
		}
		out.ErrorCode, out.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
		resp.Entries = append(resp.Entries, out)
	}
	return resp, nil
}
