package wire

import (
	"regexp"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Feature is a cluster feature with its supported range and finalized level (KIP-584).
type Feature struct {
	Name            string
	Min, Max, Level int16
}

// Identity is what the server knows of the node it serves, for ApiVersions.
type Identity struct {
	NodeID    int32
	ClusterID func() string
	// Features returns the features and the epoch at which they were finalized. It is called for each
	// ApiVersions request, from any goroutine.
	Features func() (features []Feature, epoch int64)
}

var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

// maxAPIVersions is the highest version of ApiVersions.
const maxAPIVersions = 5

const rebootstrapRequired = 129 // KIP-1242

// RegisterAPIVersions serves ApiVersions from the registry itself, so that it cannot disagree with the
// code. KIP-511: an unknown version is answered in version 0 with the range that is known.
func RegisterAPIVersions(r *Registry, id Identity) {
	HandleAnswer(r, 0, maxAPIVersions, func(ctx *Request, req *kmsg.ApiVersionsRequest) (Answer, error) {
		resp := apiVersions(r, id, ctx.Version)
		switch {
		case ctx.Version >= 3 && !(softwareName.MatchString(req.ClientSoftwareName) && softwareName.MatchString(req.ClientSoftwareVersion)),
			ctx.Version >= 5 && (req.ClusterID == nil) != (req.NodeID == -1): // both, or neither
			resp = &kmsg.ApiVersionsResponse{Version: ctx.Version, ErrorCode: kerr.InvalidRequest.Code, FinalizedFeaturesEpoch: -1}
		case ctx.Version >= 5 && wrongNode(req, id):
			resp.ErrorCode = rebootstrapRequired
		}
		if ctx.Version >= 3 {
			ctx.conn.session = ctx.conn.session.named(req.ClientSoftwareName, req.ClientSoftwareVersion)
		}
		return Answer{Now: resp}, nil
	})
}

func wrongNode(req *kmsg.ApiVersionsRequest, id Identity) bool {
	return req.ClusterID != nil && req.NodeID >= 0 && (*req.ClusterID != id.ClusterID() || req.NodeID != id.NodeID)
}

func apiVersions(r *Registry, id Identity, version int16) *kmsg.ApiVersionsResponse {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.Version = version
	for _, a := range r.APIs() {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = a.Key, a.Min, a.Max
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	if version < 3 {
		return resp
	}
	features, epoch := id.Features()
	resp.FinalizedFeaturesEpoch = epoch
	for _, f := range features {
		if f.Min > 0 || version >= 4 { // KAFKA-17011: older clients refuse a minimum of 0
			s := kmsg.NewApiVersionsResponseSupportedFeature()
			s.Name, s.MinVersion, s.MaxVersion = f.Name, f.Min, f.Max
			resp.SupportedFeatures = append(resp.SupportedFeatures, s)
		}
		if f.Level > 0 {
			z := kmsg.NewApiVersionsResponseFinalizedFeature()
			z.Name, z.MinVersionLevel, z.MaxVersionLevel = f.Name, f.Level, f.Level
			resp.FinalizedFeatures = append(resp.FinalizedFeatures, z)
		}
	}
	return resp
}

func unsupportedAPIVersions() *kmsg.ApiVersionsResponse {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	k := kmsg.NewApiVersionsResponseApiKey()
	k.ApiKey, k.MinVersion, k.MaxVersion = apiVersionsKey, 0, maxAPIVersions
	resp.ApiKeys = append(resp.ApiKeys, k)
	return resp
}
