package admin

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/acl"
)

// Kinds of changes in UpdateFeatures.
const (
	upgrade         = 1
	safeDowngrade   = 2
	unsafeDowngrade = 3
)

// updateFeatures answers UpdateFeatures (KIP-584): all changes, or none.
func (a *Admin) updateFeatures(ctx *wire.Request, req *kmsg.UpdateFeaturesRequest) (*kmsg.UpdateFeaturesResponse, error) {
	resp := kmsg.NewPtrUpdateFeaturesResponse()
	if err := ctx.MayCluster(acl.Alter); err != nil {
		resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
		return resp, nil
	}
	var changes []controller.FeatureChange
	var err error
	for _, f := range req.FeatureUpdates {
		c := controller.FeatureChange{Name: f.Feature, Level: f.MaxVersionLevel, Downgrade: f.AllowDowngrade}
		if ctx.Version >= 1 {
			c.Downgrade = f.UpgradeType == safeDowngrade || f.UpgradeType == unsafeDowngrade
			if f.UpgradeType < upgrade || f.UpgradeType > unsafeDowngrade {
				err = kerr.InvalidRequest
			}
		}
		changes = append(changes, c)
	}
	if err == nil {
		err = a.change(ctx, max(req.TimeoutMillis, 1), req.ValidateOnly, func(work *image.Image) ([]*image.Record, error) {
			return controller.UpdateFeatures(work, a.meta.Config.NodeID, a.meta.Config.Features, changes)
		})
	}
	ofFeatures := errors.Is(err, kerr.InvalidUpdateVersion)
	if ctx.Version < 2 && (err == nil || ofFeatures) {
		for _, c := range changes {
			r := kmsg.NewUpdateFeaturesResponseResult()
			r.Feature, r.ErrorCode, r.ErrorMessage = c.Name, wire.ErrorCode(err), wire.ErrorMessage(err)
			resp.Results = append(resp.Results, r)
		}
		return resp, nil
	}
	if ofFeatures {
		err = fmt.Errorf("The update failed for all features since the following feature had an error: %w", err)
	}
	resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
	return resp, nil
}
