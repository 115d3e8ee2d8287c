package oauth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/rs/zerolog"
	"golang.org/x/sync/singleflight"
)

const (
	maxKeySet    = 1 << 20          // bytes of a key set
	maxKeys      = 100              // in a set
	maxTried     = 10               // for one token
	fetchTime    = 10 * time.Second // for one try
	unknownPause = time.Second      // from one fetch to another for a token with an unknown key id, which anybody can make up
	loginWaits   = 3 * time.Second  // for such a fetch
	fileInterval = 5 * time.Second  // between two looks at a file
)

// Keys are those by which tokens are checked. They are fetched again from time to time, and when a token names one that is not known. Any
// goroutine may use them.
type Keys struct {
	settings Settings
	client   *http.Client
	log      zerolog.Logger
	fetching singleflight.Group

	url    *url.URL
	life   context.Context // ends with Close
	cancel context.CancelFunc

	mu      sync.Mutex // guards the rest
	set     *jose.JSONWebKeySet
	sum     [32]byte  // of the set as it was read
	fetches int       // that run
	fetched time.Time // when the last one ended
}

// Open returns the keys at s.URL. trust is for https, nil for the system's. A file that cannot be read is an error; a server that does not answer is
// asked again and again by Watch, and nobody can log in before it does.
func Open(s Settings, trust *tls.Config, log zerolog.Logger) (*Keys, error) {
	u, err := url.Parse(s.URL)
	if err != nil || u.Scheme != "file" && u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "file" {
		return nil, errors.New("sasl.oauthbearer.jwks.endpoint.url is no http, https or file URL")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = trust
	transport.MaxResponseHeaderBytes = 64 << 10
	k := &Keys{settings: s, url: u, log: log, client: &http.Client{
		Transport: transport, Timeout: fetchTime,
		CheckRedirect: func(next *http.Request, via []*http.Request) error { // keys come from where the settings say
			if len(via) > 3 || next.URL.Host != via[0].URL.Host || next.URL.Scheme != via[0].URL.Scheme {
				return fmt.Errorf("redirected to %s, which is another server", next.URL.Redacted())
			}
			return nil
		},
	}}
	k.life, k.cancel = context.WithCancel(context.Background())
	if k.isFile() {
		return k, k.fetch(k.life)
	}
	return k, nil
}

// Close ends Watch, and fetches that run.
func (k *Keys) Close() { k.cancel() }

func (k *Keys) isFile() bool { return k.url.Scheme == "file" }

// Watch keeps the keys up to date until Close.
func (k *Keys) Watch() {
	retry := k.settings.RetryFirst
	failed := ""
	for {
		wait := k.settings.Refresh
		if k.isFile() {
			wait = fileInterval
		}
		if err := k.refresh(k.life); err != nil && k.life.Err() == nil {
			if failed != err.Error() { // a line for each cause
				failed = err.Error()
				k.log.Error().Err(err).Msg("the keys for OAUTHBEARER cannot be fetched: tokens are checked by the keys from before")
			}
			wait = retry
			retry = min(2*retry, k.settings.RetryMost)
		} else if err == nil {
			if failed != "" {
				k.log.Info().Str("url", k.url.Redacted()).Msg("the keys for OAUTHBEARER are fetched again")
			}
			retry, failed = k.settings.RetryFirst, ""
		}
		timer := time.NewTimer(wait)
		select {
		case <-k.life.Done():
			timer.Stop()
			k.client.CloseIdleConnections()
			return
		case <-timer.C:
		}
	}
}

// refresh fetches the keys, once for all who ask meanwhile.
func (k *Keys) refresh(ctx context.Context) error {
	k.count(1)
	defer k.count(-1)
	done := k.fetching.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(k.life, fetchTime)
		defer cancel()
		return nil, k.fetch(ctx)
	})
	select {
	case r := <-done:
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// count notes that somebody waits for a fetch, or does not any more.
func (k *Keys) count(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fetches += n; n < 0 {
		k.fetched = time.Now()
	}
}

func (k *Keys) fetch(ctx context.Context) error {
	data, err := k.read(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", k.url.Redacted(), withoutURL(err))
	}
	sum := sha256.Sum256(data)
	k.mu.Lock()
	same := k.set != nil && sum == k.sum
	k.mu.Unlock()
	if same {
		return nil
	}
	set, err := parseKeySet(data)
	if err != nil {
		return fmt.Errorf("%s: %w", k.url.Redacted(), err)
	}
	k.mu.Lock()
	k.set, k.sum = set, sum
	k.mu.Unlock()
	k.log.Info().Str("url", k.url.Redacted()).Int("keys", len(set.Keys)).Msg("OAUTHBEARER has new keys")
	return nil
}

func (k *Keys) read(ctx context.Context) ([]byte, error) {
	if k.isFile() {
		f, err := os.Open(k.url.Path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return readAll(f)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.settings.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %s", resp.Status)
	}
	return readAll(resp.Body)
}

// withoutURL is an error of a fetch without the URL, which may have a password.
func withoutURL(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxKeySet+1))
	if err == nil && len(data) > maxKeySet {
		err = fmt.Errorf("more than %d bytes are no set of keys", maxKeySet)
	}
	return data, err
}

// parseKeySet reads a JSON Web Key Set. Keys that cannot check a signature here are left out: those of other kinds, for other uses, and secrets.
func parseKeySet(data []byte) (*jose.JSONWebKeySet, error) {
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, errors.New("no JSON Web Key Set")
	}
	if len(raw.Keys) > maxKeys {
		return nil, fmt.Errorf("%d keys, at most %d", len(raw.Keys), maxKeys)
	}
	set := new(jose.JSONWebKeySet)
	for _, r := range raw.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(r) != nil || !key.Valid() || key.Use != "" && key.Use != "sig" {
			continue
		}
		if _, secret := key.Key.([]byte); secret {
			continue
		}
		if key = key.Public(); key.Key != nil {
			set.Keys = append(set.Keys, key)
		}
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("no key in it can check signatures")
	}
	return set, nil
}

// keysFor returns the keys that may have signed a token with such a header. If none is known it fetches the keys again, or waits for a fetch that runs.
func (k *Keys) keysFor(head jose.Header) []jose.JSONWebKey {
	found := k.candidates(head)
	if len(found) == 0 && k.mayAskAgain() {
		ctx, cancel := context.WithTimeout(k.life, loginWaits)
		defer cancel()
		_ = k.refresh(ctx) // Watch tells why it fails
		found = k.candidates(head)
	}
	return found
}

// candidates are the known keys of a header's id and algorithm. A header without an id may be of any key.
func (k *Keys) candidates(head jose.Header) (out []jose.JSONWebKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.set == nil {
		return nil
	}
	for _, key := range k.set.Keys {
		if (head.KeyID == "" || head.KeyID == key.KeyID) && (key.Algorithm == "" || key.Algorithm == head.Algorithm) && signs(key.Key, head.Algorithm) && len(out) < maxTried {
			out = append(out, key)
		}
	}
	return out
}

// signs reports whether a key is of the kind that an algorithm needs.
func signs(key any, algorithm string) bool {
	switch key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(algorithm, "RS") || strings.HasPrefix(algorithm, "PS")
	case *ecdsa.PublicKey:
		return strings.HasPrefix(algorithm, "ES")
	case ed25519.PublicKey:
		return algorithm == string(jose.EdDSA)
	}
	return false
}

// mayAskAgain reports whether keys may be fetched for a token: while they are fetched anyway, or long enough after the last time.
func (k *Keys) mayAskAgain() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fetches > 0 || time.Since(k.fetched) >= unknownPause
}
