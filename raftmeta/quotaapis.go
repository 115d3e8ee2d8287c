package raftmeta

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire"
)

// describeClientQuotas answers DescribeClientQuotas (KIP-546).
func (m *Meta) describeClientQuotas(_ *wire.Request, req *kmsg.DescribeClientQuotasRequest) (*kmsg.DescribeClientQuotasResponse, error) {
	resp := kmsg.NewPtrDescribeClientQuotasResponse()
	var filters []controller.QuotaFilter
	for _, c := range req.Components {
		filters = append(filters, controller.QuotaFilter{Type: c.EntityType, Match: int8(c.MatchType), Name: c.Match})
	}
	found, err := controller.MatchQuotas(m.Image(), filters, req.Strict)
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
func (m *Meta) alterClientQuotas(ctx *wire.Request, req *kmsg.AlterClientQuotasRequest) (*kmsg.AlterClientQuotasResponse, error) {
	resp := kmsg.NewPtrAlterClientQuotasResponse()
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
		err := m.change(ctx, adminTimeout, req.ValidateOnly, func(work *image.Image) ([]*image.Record, error) {
			return controller.AlterQuotas(work, entity, changes)
		})
		out.ErrorCode, out.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
		resp.Entries = append(resp.Entries, out)
	}
	return resp, nil
}

// listConfigResources answers ListConfigResources (KIP-1142), before version 1 for subscriptions to clients' metrics only.
func (m *Meta) listConfigResources(ctx *wire.Request, req *kmsg.ListConfigResourcesRequest) (*kmsg.ListConfigResourcesResponse, error) {
	resp := kmsg.NewPtrListConfigResourcesResponse()
	types := req.ResourceTypes
	if ctx.Version == 0 {
		types = []int8{image.ClientMetricsResource}
	} else if len(types) == 0 {
		types = []int8{image.TopicResource, image.BrokerResource, image.BrokerLoggerResource, image.ClientMetricsResource, image.GroupResource}
	}
	img := m.Image()
	for _, t := range types {
		names, err := resources(img, t)
		if err != nil {
			resp.ErrorCode, resp.ConfigResources = wire.ErrorCode(err), nil
			return resp, nil
		}
		for _, name := range names {
			r := kmsg.NewListConfigResourcesResponseConfigResource()
			r.Name, r.Type = name, t
			resp.ConfigResources = append(resp.ConfigResources, r)
		}
	}
	return resp, nil
}

func resources(img *image.Image, resourceType int8) (names []string, err error) {
	switch resourceType {
	case image.TopicResource:
		img.Topics("", func(t *image.Topic) bool { names = append(names, t.Name); return true })
	case image.BrokerResource, image.BrokerLoggerResource:
		img.Brokers(func(b *image.Broker) { names = append(names, strconv.Itoa(int(b.ID))) })
	case image.ClientMetricsResource, image.GroupResource:
		names = img.ConfigResources(resourceType)
	default:
		return nil, kerr.UnsupportedVersion
	}
	return names, nil
}

// Kinds of changes in UpdateFeatures.
const (
	upgrade         = 1
	safeDowngrade   = 2
	unsafeDowngrade = 3
)

// updateFeatures answers UpdateFeatures (KIP-584): all changes, or none.
func (m *Meta) updateFeatures(ctx *wire.Request, req *kmsg.UpdateFeaturesRequest) (*kmsg.UpdateFeaturesResponse, error) {
	resp := kmsg.NewPtrUpdateFeaturesResponse()
	var changes []controller.FeatureChange
	var err error
	for _, f := range req.FeatureUpdates {
		c := controller.FeatureChange{Name: f.Feature, Level: f.MaxVersionLevel, Downgrade: f.AllowDowngrade}
		if ctx.Version >= 1 {
			c.Downgrade, c.Unsafe = f.UpgradeType == safeDowngrade || f.UpgradeType == unsafeDowngrade, f.UpgradeType == unsafeDowngrade
			if f.UpgradeType < upgrade || f.UpgradeType > unsafeDowngrade {
				err = kerr.InvalidRequest
			}
		}
		changes = append(changes, c)
	}
	if err == nil {
		err = m.change(ctx, max(req.TimeoutMillis, 1), req.ValidateOnly, func(work *image.Image) ([]*image.Record, error) {
			return controller.UpdateFeatures(work, m.config.NodeID, changes)
		})
	}
	if errors.Is(err, kerr.InvalidUpdateVersion) && ctx.Version < 2 { // of features, not of the request
		for _, c := range changes {
			r := kmsg.NewUpdateFeaturesResponseResult()
			r.Feature, r.ErrorCode, r.ErrorMessage = c.Name, wire.ErrorCode(err), wire.ErrorMessage(err)
			resp.Results = append(resp.Results, r)
		}
		return resp, nil
	}
	if errors.Is(err, kerr.InvalidUpdateVersion) {
		err = fmt.Errorf("The update failed for all features since the following feature had an error: %w", err)
	}
	resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
	if err == nil && ctx.Version < 2 {
		for _, c := range changes {
			r := kmsg.NewUpdateFeaturesResponseResult()
			r.Feature = c.Name
			resp.Results = append(resp.Results, r)
		}
	}
	return resp, nil
}

// describeUserScramCredentials answers DescribeUserScramCredentials (KIP-554): there are none in a cluster without SASL.
func (m *Meta) describeUserScramCredentials(_ *wire.Request, req *kmsg.DescribeUserSCRAMCredentialsRequest) (*kmsg.DescribeUserSCRAMCredentialsResponse, error) {
	resp := kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
	for _, u := range req.Users {
		r := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		err := fmt.Errorf("Attempt to describe a user credential that does not exist: %s: %w", u.Name, kerr.ResourceNotFound)
		r.User, r.ErrorCode, r.ErrorMessage = u.Name, wire.ErrorCode(err), wire.ErrorMessage(err)
		resp.Results = append(resp.Results, r)
	}
	return resp, nil
}
