package admin

import (
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/calls"
	"kraft/raftmeta/configs"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/acl"
	"kraft/wire/locks"
)

// mayUseTokens refuses clients that have not logged in, and those that have logged in by a token (KafkaApis.allowTokenRequests). Of a request that
// was forwarded, only the broker that forwarded it knows whether its client has logged in, and has looked.
func mayUseTokens(ctx *wire.Request) error {
	s := ctx.Session
	if s.Principal.Token || !s.Forwarded && (s.Protocol == "PLAINTEXT" || s.Protocol == "SSL" && s.Principal == wire.Anonymous) {
		return kerr.DelegationTokenRequestNotAllowed
	}
	return nil
}

// tokensEnabled returns why there are no tokens, or nil.
func (a *Admin) tokensEnabled() error {
	if a.meta.Settings().TokenSecret == "" {
		return kerr.DelegationTokenAuthDisabled
	}
	return nil
}

func (a *Admin) tokenLimits() controller.TokenLimits {
	s := a.meta.Settings()
	return controller.TokenLimits{Renewal: s.TokenRenewal, Lifetime: s.TokenLifetime}
}

// splitPrincipal is a principal's type and name.
func splitPrincipal(p string) (kind, name string) {
	kind, name, _ = strings.Cut(p, ":")
	return kind, name
}

// createDelegationToken answers CreateDelegationToken (KIP-48, KIP-373).
func (a *Admin) createDelegationToken(ctx *wire.Request, req *kmsg.CreateDelegationTokenRequest) (*kmsg.CreateDelegationTokenResponse, error) {
	t := tokenOf(ctx, req)
	err := mayUseTokens(ctx)
	if err == nil && t.Owner != t.Requester {
		err = ctx.Must(acl.CreateTokens, acl.User, t.Owner)
	}
	if kind, _ := splitPrincipal(t.Owner); err == nil && kind != wire.Anonymous.Type { // who logs in by the token is a User
		err = kerr.InvalidPrincipalType
	}
	for _, r := range req.Renewers {
		if err == nil && r.PrincipalType != wire.Anonymous.Type {
			err = kerr.InvalidPrincipalType
		}
	}
	if err != nil {
		return createdToken(&t, nil, err), nil
	}
	return calls.Forwarded(a.calls, a.makeToken)(ctx, req)
}

// tokenOf is the token that a request asks for, without its times.
func tokenOf(ctx *wire.Request, req *kmsg.CreateDelegationTokenRequest) image.Token {
	t := image.Token{Requester: ctx.Session.Principal.String()}
	t.Owner = t.Requester
	if name := req.OwnerPrincipalName; name != nil && *name != "" {
		kind := ""
		if req.OwnerPrincipalType != nil {
			kind = *req.OwnerPrincipalType
		}
		t.Owner = kind + ":" + *name
	}
	for _, r := range req.Renewers {
		t.Renewers = append(t.Renewers, r.PrincipalType+":"+r.PrincipalName)
	}
	return t
}

// makeToken serves createDelegationToken on the active controller.
func (a *Admin) makeToken(ctx *wire.Request, req *kmsg.CreateDelegationTokenRequest) (*kmsg.CreateDelegationTokenResponse, error) {
	t := tokenOf(ctx, req)
	made, secret := &t, a.meta.Settings().TokenSecret
	err := a.tokensEnabled()
	if err == nil {
		t.ID = kafkaID()
		err = a.change(ctx, defaultTimeout, false, func(work *image.Image) (records []*image.Record, err error) {
			made, records, err = controller.CreateToken(work, a.tokenLimits(), t, configs.Millis(req.MaxLifetimeMillis), time.Now())
			return records, err
		})
	}
	if err != nil {
		return createdToken(&t, nil, err), nil
	}
	return createdToken(made, made.HMAC(secret), nil), nil
}

// kafkaID is a new token's id.
func kafkaID() string { return image.EncodeUUID(image.UUID(uuid.New())) }

func createdToken(t *image.Token, hmac []byte, err error) *kmsg.CreateDelegationTokenResponse {
	resp := kmsg.NewPtrCreateDelegationTokenResponse()
	resp.ErrorCode = wire.ErrorCode(err)
	resp.PrincipalType, resp.PrincipalName = splitPrincipal(t.Owner)
	resp.TokenRequesterPrincipalType, resp.TokenRequesterPrincipalName = splitPrincipal(t.Requester)
	if resp.IssueTimestamp, resp.ExpiryTimestamp, resp.MaxTimestamp = -1, -1, -1; err == nil {
		resp.IssueTimestamp, resp.ExpiryTimestamp, resp.MaxTimestamp = t.Issued, t.Expires, t.Limit
		resp.TokenID, resp.HMAC = t.ID, hmac
	}
	return resp
}

// hmacs finds tokens by what proves them.
type hmacs struct {
	mu     locks.Mutex // guards the rest
	secret string
	ids    map[string]string   // by HMAC
	known  map[string]struct{} // ids whose HMACs are in ids
}

// find returns the id of the token in img that an HMAC proves; "" if there is none.
func (h *hmacs) find(img *image.Image, secret string, hmac []byte) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if id := h.ids[string(hmac)]; id != "" && h.secret == secret {
		return id
	}
	if h.secret != secret || len(h.known) > 2*img.TokenCount()+100 { // most of them have ended
		h.secret, h.ids, h.known = secret, map[string]string{}, map[string]struct{}{}
	}
	img.Tokens(func(t *image.Token) bool {
		if _, ok := h.known[t.ID]; !ok {
			h.known[t.ID] = struct{}{}
			h.ids[string(t.HMAC(secret))] = t.ID
		}
		return true
	})
	return h.ids[string(hmac)]
}

// renewDelegationToken answers RenewDelegationToken.
func (a *Admin) renewDelegationToken(ctx *wire.Request, req *kmsg.RenewDelegationTokenRequest) (*kmsg.RenewDelegationTokenResponse, error) {
	if err := mayUseTokens(ctx); err != nil {
		return &kmsg.RenewDelegationTokenResponse{ErrorCode: wire.ErrorCode(err), ExpiryTimestamp: -1}, nil
	}
	return calls.Forwarded(a.calls, a.renewToken)(ctx, req)
}

func (a *Admin) renewToken(ctx *wire.Request, req *kmsg.RenewDelegationTokenRequest) (*kmsg.RenewDelegationTokenResponse, error) {
	expires, err := a.changeToken(ctx, req.HMAC, func(work *image.Image, id, principal string) (int64, []*image.Record, error) {
		return controller.RenewToken(work, a.tokenLimits(), id, principal, configs.Millis(req.RenewTimeMillis), time.Now())
	})
	return &kmsg.RenewDelegationTokenResponse{ErrorCode: wire.ErrorCode(err), ExpiryTimestamp: expires}, nil
}

// expireDelegationToken answers ExpireDelegationToken.
func (a *Admin) expireDelegationToken(ctx *wire.Request, req *kmsg.ExpireDelegationTokenRequest) (*kmsg.ExpireDelegationTokenResponse, error) {
	if err := mayUseTokens(ctx); err != nil {
		return &kmsg.ExpireDelegationTokenResponse{ErrorCode: wire.ErrorCode(err), ExpiryTimestamp: -1}, nil
	}
	return calls.Forwarded(a.calls, a.expireToken)(ctx, req)
}

func (a *Admin) expireToken(ctx *wire.Request, req *kmsg.ExpireDelegationTokenRequest) (*kmsg.ExpireDelegationTokenResponse, error) {
	expires, err := a.changeToken(ctx, req.HMAC, func(work *image.Image, id, principal string) (int64, []*image.Record, error) {
		return controller.ExpireToken(work, id, principal, configs.Millis(req.ExpiryPeriodMillis), time.Now())
	})
	return &kmsg.ExpireDelegationTokenResponse{ErrorCode: wire.ErrorCode(err), ExpiryTimestamp: expires}, nil
}

// changeToken runs a decision on the token that an HMAC proves. expires is 0 with an error, as in Kafka.
func (a *Admin) changeToken(ctx *wire.Request, hmac []byte, d func(work *image.Image, id, principal string) (int64, []*image.Record, error)) (expires int64, err error) {
	if err := a.tokensEnabled(); err != nil {
		return 0, err
	}
	secret := a.meta.Settings().TokenSecret
	err = a.change(ctx, defaultTimeout, false, func(work *image.Image) (records []*image.Record, err error) {
		expires, records, err = d(work, a.hmacs.find(work, secret, hmac), ctx.Session.Principal.String())
		return records, err
	})
	if err != nil {
		return 0, err
	}
	return expires, nil
}

// describeDelegationToken answers DescribeDelegationToken: the sender's own tokens, and those that it has a right to see.
func (a *Admin) describeDelegationToken(ctx *wire.Request, req *kmsg.DescribeDelegationTokenRequest) (*kmsg.DescribeDelegationTokenResponse, error) {
	resp := kmsg.NewPtrDescribeDelegationTokenResponse()
	err := mayUseTokens(ctx)
	if err == nil {
		err = a.tokensEnabled()
	}
	if resp.ErrorCode = wire.ErrorCode(err); err != nil || req.Owners != nil && len(req.Owners) == 0 {
		return resp, nil
	}
	me := ctx.Session.Principal.String()
	secret := a.meta.Settings().TokenSecret
	owners := map[string]bool{}
	for _, o := range req.Owners {
		owners[o.PrincipalType+":"+o.PrincipalName] = true
	}
	wanted := func(t *image.Token) bool {
		return req.Owners == nil || owners[t.Owner] || owners[t.Requester] || slices.ContainsFunc(t.Renewers, func(r string) bool { return owners[r] })
	}
	a.meta.Image().Tokens(func(t *image.Token) bool {
		if wanted(t) && (t.Shows(me) || ctx.Holds(acl.Describe, acl.DelegationToken, t.ID) || ctx.Holds(acl.DescribeTokens, acl.User, t.Owner)) {
			d := kmsg.NewDescribeDelegationTokenResponseTokenDetail()
			d.PrincipalType, d.PrincipalName = splitPrincipal(t.Owner)
			d.TokenRequesterPrincipalType, d.TokenRequesterPrincipalName = splitPrincipal(t.Requester)
			d.IssueTimestamp, d.ExpiryTimestamp, d.MaxTimestamp, d.TokenID, d.HMAC = t.Issued, t.Expires, t.Limit, t.ID, t.HMAC(secret)
			for _, r := range t.Renewers {
				kind, name := splitPrincipal(r)
				d.Renewers = append(d.Renewers, kmsg.DescribeDelegationTokenResponseTokenDetailRenewer{PrincipalType: kind, PrincipalName: name})
			}
			resp.TokenDetails = append(resp.TokenDetails, d)
		}
		return ctx.Context().Err() == nil
	})
	return resp, nil
}
