package admin

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/acl"
)

func (a *Admin) unregisterBroker(ctx *wire.Request, req *kmsg.UnregisterBrokerRequest) (*kmsg.UnregisterBrokerResponse, error) {
	resp := kmsg.NewPtrUnregisterBrokerResponse()
	err := ctx.MayCluster(acl.Alter)
	if err == nil {
		err = a.change(ctx, defaultTimeout, false, func(work *image.Image) ([]*image.Record, error) {
			return controller.Unregister(work, a.meta.Policy(), req.BrokerID)
		})
	}
	resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
	return resp, nil
}
