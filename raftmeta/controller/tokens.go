package controller

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/image"
)

// TokenLimits are how long delegation tokens are valid.
type TokenLimits struct {
	Renewal  time.Duration // until a token must be renewed (delegation.token.expiry.time.ms)
	Lifetime time.Duration // renewed or not (delegation.token.max.lifetime.ms)
}

// Bounds of tokens, which everybody may make, without a right to it.
const (
	maxTokens   = 100_000 // in a cluster
	maxTokensBy = 10_000  // that one principal has asked for
	maxRenewers = 100
	maxName     = 1024 // bytes of a principal
)

// checkToken refuses a token that is too large, or one too many.
func checkToken(m *image.Image, t *image.Token) error {
	if len(t.Renewers) > maxRenewers || slices.ContainsFunc(append([]string{t.Owner}, t.Renewers...), func(p string) bool { return len(p) > maxName }) {
		return fmt.Errorf("a token has at most %d renewers, and principals of at most %d bytes: %w", maxRenewers, maxName, kerr.InvalidRequest)
	}
	n := m.TokenCount()
	if n >= maxTokensBy { // most clusters have fewer, and need not be counted
		by := 0
		m.Tokens(func(other *image.Token) bool {
			if other.Requester == t.Requester {
				by++
			}
			return true
		})
		if n >= maxTokens || by >= maxTokensBy {
			return fmt.Errorf("the cluster has %d delegation tokens, %d of them made by %s: end some, or let them expire: %w", n, by, t.Requester, kerr.PolicyViolation)
		}
	}
	return nil
}

// CreateToken decides on a new token (Kafka's DelegationTokenControlManager). t says whose it is and who may renew it; lifetime is how long it is wanted for, and
// the limits' Lifetime if that is not above 0. It returns the token with its times.
func CreateToken(m *image.Image, limits TokenLimits, t image.Token, lifetime time.Duration, now time.Time) (*image.Token, []*image.Record, error) {
	if err := checkToken(m, &t); err != nil {
		return nil, nil, err
	}
	most := limits.Lifetime
	if lifetime > 0 {
		most = min(most, lifetime)
	}
	t.Issued = now.UnixMilli()
	t.Limit = now.Add(most).UnixMilli()
	t.Expires = min(t.Limit, now.Add(limits.Renewal).UnixMilli())
	return &t, []*image.Record{t.Record()}, nil
}

// RenewToken has a token expire later, at the wish of a principal: after period, or the longest time if that is not above 0.
func RenewToken(m *image.Image, limits TokenLimits, id, principal string, period time.Duration, now time.Time) (expires int64, _ []*image.Record, _ error) {
	t, err := usable(m, id, principal, now)
	if err != nil {
		return 0, nil, err
	}
	if most := limits.Renewal; period <= 0 || period > most {
		period = most
	}
	return setExpiry(t, now.Add(period).UnixMilli())
}

// ExpireToken has a token expire after period, at the wish of a principal. With a period below 0 it is gone at once.
func ExpireToken(m *image.Image, id, principal string, period time.Duration, now time.Time) (expires int64, _ []*image.Record, _ error) {
	t, err := usable(m, id, principal, now)
	switch {
	case period < 0 && (err == nil || errors.Is(err, kerr.DelegationTokenExpired) && t.Renews(principal)):
		return now.UnixMilli(), []*image.Record{image.RemoveToken(id)}, nil
	case err != nil:
		return 0, nil, err
	}
	return setExpiry(t, now.Add(period).UnixMilli())
}

// usable finds a token that a principal may renew and end. Its errors are in Kafka's order.
func usable(m *image.Image, id, principal string, now time.Time) (*image.Token, error) {
	t, ok := m.Token(id)
	switch {
	case !ok:
		return nil, kerr.DelegationTokenNotFound
	case t.Expired(now):
		return t, kerr.DelegationTokenExpired
	case !t.Renews(principal):
		return t, kerr.DelegationTokenOwnerMismatch
	}
	return t, nil
}

func setExpiry(t *image.Token, at int64) (int64, []*image.Record, error) {
	next := *t
	next.Expires = min(next.Limit, at)
	return next.Expires, []*image.Record{next.Record()}, nil
}

// RemoveExpiredTokens removes the tokens that have expired, at most so many.
func RemoveExpiredTokens(m *image.Image, most int, now time.Time) (records []*image.Record) {
	m.Tokens(func(t *image.Token) bool {
		if t.Expired(now) {
			records = append(records, image.RemoveToken(t.ID))
		}
		return len(records) < most
	})
	return records
}
