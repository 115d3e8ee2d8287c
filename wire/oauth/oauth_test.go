package oauth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"kraft/wire/oauth/oauthtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// signer is a key that makes tokens.
type signer struct {
	id        string
	algorithm jose.SignatureAlgorithm
	private   crypto.Signer
}

func newSigner(t testing.TB, id string, algorithm jose.SignatureAlgorithm) *signer {
	t.Helper()
	s := &signer{id: id, algorithm: algorithm}
	var err error
	switch algorithm[:2] {
	case "ES":
		s.private, err = ecdsa.GenerateKey(map[jose.SignatureAlgorithm]elliptic.Curve{jose.ES256: elliptic.P256(), jose.ES384: elliptic.P384(), jose.ES512: elliptic.P521()}[algorithm], rand.Reader)
	case "Ed":
		_, s.private, err = ed25519.GenerateKey(rand.Reader)
	default:
		s.private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *signer) key() jose.JSONWebKey { return jose.JSONWebKey{KeyID: s.id, Key: s.private.Public()} }

// sign makes a token of a payload; more are fields of its header.
func (s *signer) sign(t testing.TB, payload []byte, more map[string]any) string {
	t.Helper()
	return oauthtest.Sign(t, s.algorithm, jose.JSONWebKey{KeyID: s.id, Key: s.private}, more, payload)
}

func keySet(t testing.TB, keys ...any) []byte {
	t.Helper()
	data, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func settings(url string) Settings {
	return Settings{URL: url, Refresh: time.Hour, RetryFirst: 10 * time.Millisecond, RetryMost: 50 * time.Millisecond, Issuer: "https://issuer", Audiences: []string{"other", "kafka"}, Skew: 30 * time.Second, ScopeClaim: "scope", SubClaim: "sub"}
}

func ofFile(t testing.TB, set []byte) *Keys {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, set, 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := Open(settings("file://"+path), nil, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestTokens: who gets in, and with what nobody does.
func TestTokens(t *testing.T) {
	good, stranger, twin := newSigner(t, "one", jose.RS256), newSigner(t, "one", jose.RS256), newSigner(t, "two", jose.RS256)
	other := newSigner(t, "two", jose.RS256)
	tied := newSigner(t, "tied", jose.RS256)
	tiedKey := tied.key()
	tiedKey.Algorithm = "RS512"
	private := newSigner(t, "private", jose.RS256)
	encrypts := newSigner(t, "encrypts", jose.RS256)
	encryptsKey := encrypts.key()
	encryptsKey.Use = "enc"
	all := []any{good.key(), twin.key(), other.key(), tiedKey, encryptsKey, jose.JSONWebKey{KeyID: "private", Key: private.private}, jose.JSONWebKey{KeyID: "secret", Key: []byte("0123456789abcdef0123456789abcdef")}, map[string]string{"kty": "new"}}
	every := map[jose.SignatureAlgorithm]*signer{}
	for _, a := range algorithms {
		every[a] = newSigner(t, string(a), a)
		all = append(all, every[a].key())
	}
	k := ofFile(t, keySet(t, all...))
	now := time.Now()
	public, err := x509.MarshalPKIXPublicKey(good.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	symmetric := func(secret []byte, id string) string {
		by, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: secret}, new(jose.SignerOptions).WithHeader("kid", id))
		if err != nil {
			t.Fatal(err)
		}
		signed, err := by.Sign(oauthtest.Payload(nil))
		if err != nil {
			t.Fatal(err)
		}
		token, _ := signed.CompactSerialize()
		return token
	}
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(oauthtest.Payload(nil)) + "."
	half := func(token string) string { return token[:len(token)-10] }
	claims := func(name string, value any) string {
		return good.sign(t, oauthtest.Payload(map[string]any{name: value}), nil)
	}
	nameless := *good
	nameless.id = ""
	unknown := *good
	unknown.id = "nobody's"
	nested := good.sign(t, []byte(good.sign(t, oauthtest.Payload(nil), nil)), map[string]any{"cty": "JWT"})
	encrypter, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.RSA_OAEP, Key: good.private.Public()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := encrypter.Encrypt(oauthtest.Payload(nil))
	if err != nil {
		t.Fatal(err)
	}
	encrypted, _ := secret.CompactSerialize()
	type trial struct{ name, token, want string } // want is "" for alice's, or a part of the error
	trials := []trial{
		{"good", good.sign(t, oauthtest.Payload(nil), nil), ""},
		{"no key id", nameless.sign(t, oauthtest.Payload(nil), nil), ""},
		{"of two keys of one id", other.sign(t, oauthtest.Payload(nil), nil), ""},
		{"a private key in the set", private.sign(t, oauthtest.Payload(nil), nil), ""},
		{"several audiences", claims("aud", []string{"x", "kafka"}), ""},
		{"scopes in a list", claims("scope", []string{"a", "b"}), ""},
		{"no scope", claims("scope", nil), ""},
		{"scopes in a text", claims("scope", "a b"), ""},
		{"not yet, within the skew", claims("nbf", now.Add(25*time.Second).Unix()), ""},
		{"another key", stranger.sign(t, oauthtest.Payload(nil), nil), "signature"},
		{"an unknown key", unknown.sign(t, oauthtest.Payload(nil), nil), "no key is known"},
		{"unsigned", unsigned, "no token"},
		{"by the public key as a secret", symmetric(public, "one"), "no token"},
		{"by a secret in the set", symmetric([]byte("0123456789abcdef0123456789abcdef"), "secret"), "no token"},
		{"another algorithm than the key's", tied.sign(t, oauthtest.Payload(nil), nil), "no key is known"},
		{"by a key for encryption", encrypts.sign(t, oauthtest.Payload(nil), nil), "no key is known"},
		{"critical header", good.sign(t, oauthtest.Payload(nil), map[string]any{"crit": []string{"exp"}, "exp": 1}), "signature"}, // nobody here knows what that header would mean
		{"a huge algorithm", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"`+strings.Repeat("x", 300_000)+`"}`)) + ".e30.AAAA", "no token"},
		{"many audiences", claims("aud", strings.Split(strings.Repeat("x ", 1000), " ")), "audience"},
		{"cut", half(good.sign(t, oauthtest.Payload(nil), nil)), "signature"},
		{"nested", nested, "no JSON object"},
		{"encrypted", encrypted, "no token"},
		{"empty", "", "no token"},
		{"no JSON", good.sign(t, []byte("text"), nil), "no JSON object"},
		{"a list", good.sign(t, []byte("[]"), nil), "no JSON object"},
		{"another issuer", claims("iss", "https://issuer/"), "issuer"},
		{"no issuer", claims("iss", nil), "issuer"},
		{"another audience", claims("aud", "kafka2"), "audience"},
		{"no audience", claims("aud", nil), "audience"},
		{"expired", claims("exp", now.Add(-time.Second).Unix()), "expired"},
		{"no expiry", claims("exp", nil), "exp"},
		{"an odd expiry", claims("exp", "tomorrow"), "exp"},
		{"a huge expiry", claims("exp", 1e300), "exp"},
		{"no time of issue", claims("iat", nil), "iat"},
		{"not yet", claims("nbf", now.Add(35*time.Second).Unix()), "valid from"},
		{"no user", claims("sub", nil), "sub"},
		{"a blank user", claims("sub", " "), "sub"},
		{"a number as user", claims("sub", 5), "sub"},
		{"a scope twice", claims("scope", []string{"a", "a"}), "scope"},
		{"a blank scope", claims("scope", " "), "scope"},
		{"an empty scope", claims("scope", []string{"a", ""}), "scope"},
	}
	for a, s := range every {
		trials = append(trials, trial{string(a), s.sign(t, oauthtest.Payload(nil), nil), ""})
	}
	for _, tc := range trials {
		who, err := k.Validate(tc.token)
		switch {
		case tc.want == "" && (err != nil || who.User != "alice"):
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		case err != nil && (tc.token != "" && strings.Contains(err.Error(), tc.token) || len(err.Error()) > 400):
			t.Errorf("%s: the error tells too much: %.500s", tc.name, err)
		}
	}
}

// TestKeySets: what is no set of keys is an error, at the start and later; keys that were known stay.
func TestKeySets(t *testing.T) {
	good := newSigner(t, "one", jose.ES256)
	one, err := json.Marshal(good.key())
	if err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string]string{
		"nothing": "", "no JSON": "keys", "no keys": `{"keys":[]}`, "no usable key": `{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"RSA"},5]}`,
		"too many": `{"keys":[` + strings.Repeat(string(one)+",", maxKeys) + string(one) + `]}`, "too large": string(keySet(t, good.key())) + strings.Repeat(" ", maxKeySet),
	} {
		path := filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(path, []byte(set), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(settings("file://"+path), nil, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, url := range []string{"", "ftp://x/y", "keys.json", "http:///x", "file:///no/such/file"} {
		if _, err := Open(settings(url), nil, zerolog.Nop()); err == nil {
			t.Errorf("%q is taken", url)
		}
	}
	k := ofFile(t, keySet(t, good.key()))
	token := good.sign(t, oauthtest.Payload(nil), nil)
	for _, set := range []string{`{"keys":[`, `{"keys":[]}`} {
		if err := os.WriteFile(strings.TrimPrefix(k.settings.URL, "file://"), []byte(set), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := k.fetch(t.Context()); err == nil {
			t.Errorf("%s is taken", set)
		}
		if _, err := k.Validate(token); err != nil {
			t.Errorf("the keys from before are gone: %v", err)
		}
	}
}

// provider serves keys.
type provider struct {
	*httptest.Server
	set   atomic.Pointer[[]byte]
	asked atomic.Int64
	serve atomic.Pointer[http.HandlerFunc] // in place of the keys
}

func newProvider(t *testing.T, set []byte) *provider {
	p := new(provider)
	p.set.Store(&set)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		if f := p.serve.Load(); f != nil {
			(*f)(w, r)
			return
		}
		_, _ = w.Write(*p.set.Load())
	}))
	t.Cleanup(p.Close)
	return p
}

func watch(t *testing.T, s Settings) *Keys {
	t.Helper()
	k, err := Open(s, nil, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { k.Watch(); close(done) }()
	t.Cleanup(func() { k.Close(); <-done })
	return k
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for begun := time.Now(); time.Since(begun) < 10*time.Second; time.Sleep(5 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// TestProvider: keys that are new count with the first token that they sign; somebody who makes up key ids does not have the provider asked for each; while the
// provider is away, the known keys count.
func TestProvider(t *testing.T) {
	first, second, third := newSigner(t, "first", jose.ES256), newSigner(t, "second", jose.ES256), newSigner(t, "third", jose.ES256)
	p := newProvider(t, keySet(t, first.key()))
	down := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	p.serve.Store(&down)
	k := watch(t, settings(p.URL))
	eventually(t, "asked again", func() error {
		if p.asked.Load() < 3 {
			return fmt.Errorf("%d times", p.asked.Load())
		}
		return nil
	})
	if _, err := k.Validate(first.sign(t, oauthtest.Payload(nil), nil)); err == nil {
		t.Error("somebody gets in without keys")
	}
	p.serve.Store(nil)
	eventually(t, "the provider is back", func() error { _, err := k.Validate(first.sign(t, oauthtest.Payload(nil), nil)); return err })
	set := keySet(t, first.key(), second.key())
	p.set.Store(&set)
	slow := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(200 * time.Millisecond)
		_, _ = w.Write(set)
	})
	p.serve.Store(&slow)
	k.mu.Lock()
	k.fetched = time.Time{} // long ago
	k.mu.Unlock()
	var logins sync.WaitGroup
	for range 20 { // at the same moment
		logins.Go(func() {
			if _, err := k.Validate(second.sign(t, oauthtest.Payload(nil), nil)); err != nil {
				t.Errorf("a new key: %v", err)
			}
		})
	}
	logins.Wait()
	p.serve.Store(nil)
	asked := p.asked.Load()
	begun := time.Now()
	for range 100 {
		if _, err := k.Validate(third.sign(t, oauthtest.Payload(nil), nil)); err == nil {
			t.Fatal("an unknown key")
		}
	}
	if more := p.asked.Load() - asked; more > 1+int64(time.Since(begun)/unknownPause) {
		t.Errorf("asked %d times for an unknown key within %v", more, time.Since(begun))
	}
	p.serve.Store(&down)
	if err := k.refresh(t.Context()); err == nil {
		t.Error("the provider is away, and it does not matter")
	}
	if _, err := k.Validate(second.sign(t, oauthtest.Payload(nil), nil)); err != nil {
		t.Errorf("while the provider is away: %v", err)
	}
}

// TestOddProviders: answers that are too long, that send somewhere else, or that never end.
func TestOddProviders(t *testing.T) {
	good := newSigner(t, "one", jose.ES256)
	elsewhere := newProvider(t, keySet(t, good.key()))
	p := newProvider(t, nil)
	withPassword := strings.Replace(p.URL, "http://", "http://me:secret-of-mine@", 1)
	k, err := Open(settings(withPassword), nil, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer k.client.CloseIdleConnections()
	defer k.Close()
	if k.client.Timeout != fetchTime {
		t.Errorf("a fetch may take %v", k.client.Timeout)
	}
	for name, serve := range map[string]http.HandlerFunc{
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"file": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		},
		"loop": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) },
		"long": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(keySet(t, good.key()))
			for range 6 << 10 {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<10)); err != nil {
					return
				}
			}
		},
		"slow": func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
	} {
		p.serve.Store(&serve)
		asked := p.asked.Load()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		err := k.fetch(ctx)
		cancel()
		if err == nil || strings.Contains(err.Error(), "secret-of-mine") {
			t.Errorf("%s: %v", name, err)
		}
		if n := p.asked.Load() - asked; n > 4 {
			t.Errorf("%s: asked %d times", name, n)
		}
	}
	if elsewhere.asked.Load() != 0 {
		t.Error("a redirect leads to another server")
	}
	within := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/keys" {
			http.Redirect(w, r, "/keys", http.StatusFound)
			return
		}
		_, _ = w.Write(keySet(t, good.key()))
	})
	p.serve.Store(&within)
	if err := k.fetch(t.Context()); err != nil {
		t.Errorf("redirected on the same server: %v", err)
	}
}

// TestManyKeys: a token without a key id is tried by a bounded number of keys, of the kind that its algorithm needs.
func TestManyKeys(t *testing.T) {
	right := newSigner(t, "", jose.RS256)
	var keys []any
	for i := range 30 {
		keys = append(keys, newSigner(t, fmt.Sprint(i), jose.ES256).key())
	}
	k := ofFile(t, keySet(t, append(keys, right.key())...))
	if _, err := k.Validate(right.sign(t, oauthtest.Payload(nil), nil)); err != nil {
		t.Errorf("behind keys of another kind: %v", err)
	}
	if n := len(k.candidates(jose.Header{Algorithm: "ES256"})); n != maxTried {
		t.Errorf("%d keys are tried", n)
	}
}

func FuzzTokens(f *testing.F) {
	good := newSigner(f, "one", jose.ES256)
	k := ofFile(f, keySet(f, good.key()))
	token := good.sign(f, oauthtest.Payload(nil), nil)
	f.Add(token)
	f.Add(good.sign(f, oauthtest.Payload(map[string]any{"aud": []string{"a"}}), nil))
	f.Fuzz(func(t *testing.T, text string) {
		if who, err := k.Validate(text); err == nil && text != token && !strings.HasPrefix(text, token[:strings.LastIndexByte(token, '.')]) {
			t.Errorf("%s gets in by %s", who.User, text)
		}
	})
}
