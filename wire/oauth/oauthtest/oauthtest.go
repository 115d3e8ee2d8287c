// Package oauthtest makes tokens for tests of OAUTHBEARER.
package oauthtest

import (
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Payload are good claims of alice, valid for an hour, with some changed; nil takes one away.
func Payload(changes map[string]any) []byte {
	c := map[string]any{"sub": "alice", "iss": "https://issuer", "aud": "kafka", "scope": "all", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	data, err := json.Marshal(c)
	if err != nil {
		panic(err) // a test's mistake
	}
	return data
}

// Sign makes a token of a payload. key is a private key, a secret, or a jose.JSONWebKey; header are more fields of the token's header.
func Sign(t testing.TB, algorithm jose.SignatureAlgorithm, key any, header map[string]any, payload []byte) string {
	t.Helper()
	o := new(jose.SignerOptions)
	for name, value := range header {
		o.WithHeader(jose.HeaderKey(name), value)
	}
	by, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := by.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}
