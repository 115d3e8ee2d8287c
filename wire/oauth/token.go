// Package oauth checks the tokens by which clients log in with OAUTHBEARER: signed JWTs (RFC 7519), by keys that an identity provider publishes
// (RFC 7517). It does what Kafka's OAuthBearerValidatorCallbackHandler and BrokerJwtValidator do.
package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"kraft/wire/sasl"
)

// Settings are a listener's sasl.oauthbearer.* settings. They never change.
type Settings struct {
	URL                   string        // of the keys, http, https or file (jwks.endpoint.url)
	Refresh               time.Duration // a second at least
	RetryFirst, RetryMost time.Duration // a millisecond at least
	Issuer                string        // "" for any
	Audiences             []string      // of which a token must have one; empty for any
	Skew                  time.Duration
	ScopeClaim, SubClaim  string
}

// algorithms are the signatures that a token may have: none of them needs a secret that the broker would share with whoever makes tokens.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// Validate returns whose token it is. Its errors say what is wrong with the token, and nothing of its contents that could be used again.
func (k *Keys) Validate(token string) (*sasl.Identity, error) {
	signed, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		return nil, fmt.Errorf("no token with a signature that is taken: %.100s", err) // which may repeat what the client sent
	}
	head := signed.Signatures[0].Protected
	keys := k.keysFor(head)
	if len(keys) == 0 {
		return nil, fmt.Errorf("no key is known that the token could be signed by (key id %.100q)", head.KeyID)
	}
	for i := range keys {
		if payload, err := signed.Verify(&keys[i]); err == nil {
			return k.settings.check(payload, time.Now())
		}
	}
	return nil, errors.New("the token's signature is not right")
}

// claims are what a token says, as far as it matters.
type claims map[string]json.RawMessage

// check looks at a token whose signature is right.
func (s *Settings) check(payload []byte, now time.Time) (*sasl.Identity, error) {
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return nil, errors.New("the token has no claims: it is no JSON object")
	}
	expires, err := c.time("exp")
	if err != nil {
		return nil, err
	}
	if _, err := c.time("iat"); err != nil {
		return nil, err
	}
	if !now.Before(expires) { // whatever the skew, as with Kafka: the session would be over at once
		return nil, fmt.Errorf("the token expired at %s", expires.Format(time.RFC3339))
	}
	if _, ok := c["nbf"]; ok {
		begins, err := c.time("nbf")
		if err != nil {
			return nil, err
		}
		if now.Add(s.Skew).Before(begins) {
			return nil, fmt.Errorf("the token is valid from %s on only", begins.Format(time.RFC3339))
		}
	}
	if issuer, _ := c.text("iss"); s.Issuer != "" && issuer != s.Issuer {
		return nil, fmt.Errorf("the token's issuer is %.100q, not %q (sasl.oauthbearer.expected.issuer)", issuer, s.Issuer)
	}
	if of, _ := c.list("aud"); len(s.Audiences) > 0 && !slices.ContainsFunc(of, func(a string) bool { return slices.Contains(s.Audiences, a) }) {
		return nil, fmt.Errorf("the token's audience is %.100s, not %s (sasl.oauthbearer.expected.audience)", strings.Join(of, ", "), strings.Join(s.Audiences, " or "))
	}
	if err := c.scopes(s.ScopeClaim); err != nil {
		return nil, err
	}
	user, err := c.text(s.SubClaim)
	if user = strings.TrimSpace(user); err != nil || user == "" {
		return nil, fmt.Errorf("the token has no claim %s, which names the user (sasl.oauthbearer.sub.claim.name)", s.SubClaim)
	}
	return &sasl.Identity{User: user, Expires: expires}, nil
}

// time reads a claim of seconds since 1970.
func (c claims) time(name string) (time.Time, error) {
	var seconds float64
	raw, ok := c[name]
	if !ok {
		return time.Time{}, fmt.Errorf("the token has no claim %s", name)
	}
	const most = 1 << 40 // seconds, which a time.Time can hold
	if err := json.Unmarshal(raw, &seconds); err != nil || !(seconds > 0 && seconds < most) {
		return time.Time{}, fmt.Errorf("the token's claim %s is no time", name)
	}
	return time.UnixMilli(int64(seconds * 1000)), nil
}

func (c claims) text(name string) (text string, err error) {
	raw, ok := c[name]
	if !ok {
		return "", fmt.Errorf("the token has no claim %s", name)
	}
	if err := json.Unmarshal(raw, &text); err != nil {
		return "", fmt.Errorf("the token's claim %s is no text", name)
	}
	return text, nil
}

// list reads a claim that is a text, or several.
func (c claims) list(name string) ([]string, error) {
	if text, err := c.text(name); err == nil {
		return []string{text}, nil
	}
	var list []string
	raw, ok := c[name]
	if !ok {
		return nil, fmt.Errorf("the token has no claim %s", name)
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("the token's claim %s is neither a text nor a list of texts", name)
	}
	return list, nil
}

// scopes checks the claim that has scopes, a text or a list, as Kafka does: none is empty, and none is twice in a list.
func (c claims) scopes(name string) error {
	list, err := c.list(name)
	if err != nil {
		return nil // Kafka takes no notice of a claim of another kind
	}
	seen := map[string]bool{}
	for _, scope := range list {
		if scope = strings.TrimSpace(scope); scope == "" || seen[scope] {
			return fmt.Errorf("the token's claim %s has a scope twice, or an empty one", name)
		}
		seen[scope] = true
	}
	return nil
}
