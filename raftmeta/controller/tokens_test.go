package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/image"
)

// TestTokens: tokens are valid as long as their limits say, are removed when they have expired, and are not made without end.
func TestTokens(t *testing.T) {
	m, now := image.Empty(), time.UnixMilli(1_000_000)
	limits := TokenLimits{Renewal: time.Hour, Lifetime: 2 * time.Hour}
	apply := func(records []*image.Record) {
		for _, r := range records {
			m.Apply(r)
		}
	}
	create := func(id string, lifetime time.Duration) *image.Token {
		t.Helper()
		made, records, err := CreateToken(m, limits, image.Token{ID: id, Owner: "User:o", Requester: "User:q", Renewers: []string{"User:r"}}, lifetime, now)
		if err != nil {
			t.Fatal(err)
		}
		apply(records)
		return made
	}
	after := func(d time.Duration) int64 { return now.Add(d).UnixMilli() }
	if got := create("a", 0); got.Expires != after(time.Hour) || got.Limit != after(2*time.Hour) {
		t.Errorf("%+v", got)
	}
	if got := create("b", time.Minute); got.Expires != after(time.Minute) || got.Limit != after(time.Minute) {
		t.Errorf("%+v", got)
	}
	renewed, records, err := RenewToken(m, limits, "a", "User:r", 0, now.Add(45*time.Minute))
	if apply(records); err != nil || renewed != after(45*time.Minute+time.Hour) {
		t.Errorf("renewed until %d, %v", renewed, err)
	}
	if renewed, _, err = RenewToken(m, limits, "a", "User:o", 90*time.Minute, now.Add(90*time.Minute)); err != nil || renewed != after(2*time.Hour) {
		t.Errorf("renewed until %d, %v", renewed, err)
	}
	for who, want := range map[string]error{"User:q": kerr.DelegationTokenOwnerMismatch, "User:x": kerr.DelegationTokenOwnerMismatch} {
		if _, _, err := RenewToken(m, limits, "a", who, 0, now); !errors.Is(err, want) {
			t.Errorf("%s: %v", who, err)
		}
		if _, _, err := ExpireToken(m, "a", who, -1, now); !errors.Is(err, want) {
			t.Errorf("%s: %v", who, err)
		}
	}
	late := now.Add(2 * time.Minute)
	if _, _, err := RenewToken(m, limits, "b", "User:o", 0, late); !errors.Is(err, kerr.DelegationTokenExpired) {
		t.Error(err)
	}
	if _, _, err := ExpireToken(m, "none", "User:o", -1, late); !errors.Is(err, kerr.DelegationTokenNotFound) {
		t.Error(err)
	}
	apply(RemoveExpiredTokens(m, 10, late))
	if _, ok := m.Token("b"); ok || m.TokenCount() != 1 {
		t.Errorf("%d tokens after one has expired", m.TokenCount())
	}
	for i := range maxTokens - 1 {
		m.Apply((&image.Token{ID: fmt.Sprint(i)}).Record())
	}
	if _, _, err := CreateToken(m, limits, image.Token{ID: "one more"}, 0, now); !errors.Is(err, kerr.PolicyViolation) {
		t.Errorf("one more: %v", err)
	}
	few := image.Empty()
	for i := range maxTokensBy {
		few.Apply((&image.Token{ID: fmt.Sprint(i), Requester: "User:busy"}).Record())
	}
	large := image.Token{ID: "large", Owner: "User:" + strings.Repeat("x", maxName)}
	for who, want := range map[*image.Token]error{
		{ID: "n", Requester: "User:busy"}: kerr.PolicyViolation, {ID: "n", Requester: "User:other"}: nil, &large: kerr.InvalidRequest,
		{ID: "n", Renewers: make([]string, maxRenewers+1)}: kerr.InvalidRequest, {ID: "n", Renewers: make([]string, maxRenewers)}: nil,
	} {
		if _, _, err := CreateToken(few, limits, *who, 0, now); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%.50s by %s: %v", who.Owner, who.Requester, err)
		}
	}
	if got := len(RemoveExpiredTokens(m, 500, now)); got != 500 {
		t.Errorf("%d removed at once", got)
	}
}
