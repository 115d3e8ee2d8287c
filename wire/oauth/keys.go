package oauth

import (
	"context"
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
	unknownPause = 10 * time.Second // between two fetches for the sake of keys that are not known: anybody can make up a key id
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

	mu    sync.Mutex // guards the rest
	set   *jose.JSONWebKeySet
	sum   [32]byte  // of the set as it was read
	tried time.Time // when keys were last fetched, or to be fetched
}

// Open returns the keys at s.URL. trust is for https, nil for the system's. A file that cannot be read is an error; a server that does not answer is
// asked again and again by Watch, and nobody can log in before it does.
func Open(s Settings, trust *tls.Config, log zerolog.Logger) (*Keys, error) {
	u, err := url.Parse(s.URL)
	if err != nil || u.Scheme != "file" && u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "file" {
		return nil, fmt.Errorf("sasl.oauthbearer.jwks.endpoint.url=%s is no http, https or file URL", s.URL)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = trust
	transport.MaxResponseHeaderBytes = 64 << 10
	k := &Keys{settings: s, log: log, client: &http.Client{
		Transport: transport, Timeout: fetchTime,
		CheckRedirect: func(next *http.Request, via []*http.Request) error { // keys come from where the settings say
			if len(via) > 3 || next.URL.Host != via[0].URL.Host || next.URL.Scheme != via[0].URL.Scheme {
				return fmt.Errorf("redirected to %s, which is another server", next.URL.Redacted())
			}
			return nil
		},
	}}
	if k.isFile() {
		return k, k.fetch(context.Background())
	}
	return k, nil
}

func (k *Keys) isFile() bool { return strings.HasPrefix(k.settings.URL, "file:") }

// Watch keeps the keys up to date until ctx ends.
func (k *Keys) Watch(ctx context.Context) {
	retry := k.settings.RetryFirst
	failed := ""
	for {
		wait := k.settings.Refresh
		if k.isFile() {
			wait = fileInterval
		}
		if err := k.refresh(ctx); err != nil && ctx.Err() == nil {
			if failed != err.Error() { // a line for each cause
				failed = err.Error()
				k.log.Error().Err(err).Msg("the keys of OAUTHBEARER cannot be fetched: those that are known stay, and new ones are not known")
			}
			wait = retry
			retry = min(2*retry, k.settings.RetryMost)
		} else if err == nil {
			retry, failed = k.settings.RetryFirst, ""
		}
		timer := time.NewTimer(max(wait, time.Millisecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			k.client.CloseIdleConnections()
			return
		case <-timer.C:
		}
	}
}

// refresh fetches the keys, once for all who ask meanwhile.
func (k *Keys) refresh(ctx context.Context) error {
	_, err, _ := k.fetching.Do("", func() (any, error) { return nil, k.fetch(ctx) })
	return err
}

func (k *Keys) fetch(ctx context.Context) error {
	data, err := k.read(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", k.settings.URL, err)
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
		return fmt.Errorf("%s: %w", k.settings.URL, err)
	}
	k.mu.Lock()
	k.set, k.sum = set, sum
	k.mu.Unlock()
	k.log.Info().Str("url", k.settings.URL).Int("keys", len(set.Keys)).Msg("OAUTHBEARER has new keys")
	return nil
}

func (k *Keys) read(ctx context.Context) ([]byte, error) {
	if k.isFile() {
		u, err := url.Parse(k.settings.URL)
		if err != nil {
			return nil, err
		}
		f, err := os.Open(u.Path)
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

// each calls try with the keys that may have signed a token with such a header, until it returns nil. Those of the header's key id, or all if it names none.
func (k *Keys) each(head jose.Header, try func(*jose.JSONWebKey) error) error {
	candidates := k.candidates(head)
	if len(candidates) == 0 && k.mayAskAgain() {
		ctx, cancel := context.WithTimeout(context.Background(), loginWaits)
		_ = k.refresh(ctx) // Watch tells why it fails
		cancel()
		candidates = k.candidates(head)
	}
	err := fmt.Errorf("no key is known that the token could be signed by (key id %.100q)", head.KeyID)
	for i := range candidates {
		if err = try(&candidates[i]); err == nil {
			return nil
		}
		err = errors.New("the token's signature is not right")
	}
	return err
}

func (k *Keys) candidates(head jose.Header) (out []jose.JSONWebKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.set == nil {
		return nil
	}
	for _, key := range k.set.Keys {
		if (head.KeyID == "" || head.KeyID == key.KeyID) && (key.Algorithm == "" || key.Algorithm == head.Algorithm) && len(out) < maxTried {
			out = append(out, key)
		}
	}
	return out
}

// mayAskAgain reports whether the last fetch for an unknown key is long enough ago, and notes this one.
func (k *Keys) mayAskAgain() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.tried) < unknownPause {
		return false
	}
	k.tried = time.Now()
	return true
}
