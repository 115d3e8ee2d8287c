package node

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"time"

	clientsasl "github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"kraft/cli/config"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/logging"
	"kraft/wire/oauth"
	"kraft/wire/sasl"
	"kraft/wire/ssl"
)

// login is how clients of a listener log in, nil if they need not.
func (n *Node) login(l *config.Login) *wire.LoginConfig {
	if l == nil {
		return nil
	}
	out := &wire.LoginConfig{Mechanisms: map[string]wire.LoginMechanism{}, MaxToken: n.config.MaxToken, FailureDelay: n.config.FailedLoginDelay}
	for name, m := range l.Mechanisms {
		begin := sasl.Plain(m.Passwords)
		if hash, ok := sasl.ScramNamed(name); ok {
			begin = sasl.Scram(hash, n.scramUsers(hash))
		}
		if m.OAuth != nil {
			begin = sasl.OAuthBearer(n.tokenKeys[m.OAuth].Validate)
		}
		out.Mechanisms[name] = wire.LoginMechanism{Begin: begin, MaxSession: m.MaxSession}
	}
	return out
}

// openTokenKeys opens the keys by which listeners check tokens.
func (n *Node) openTokenKeys() error {
	n.tokenKeys = map[*config.OAuth]*oauth.Keys{}
	for _, l := range n.config.Listeners {
		if l.Login == nil {
			continue
		}
		for _, m := range l.Login.Mechanisms {
			if m.OAuth == nil {
				continue
			}
			keys, err := n.openKeysOf(m.OAuth)
			if err != nil {
				return fmt.Errorf("listener %s: OAUTHBEARER: %w", l.Name, err)
			}
			n.tokenKeys[m.OAuth] = keys
			n.disks.Go(keys.Watch)
		}
	}
	return nil
}

func (n *Node) openKeysOf(o *config.OAuth) (*oauth.Keys, error) {
	if o.Trust == nil {
		return oauth.Open(o.Settings, nil, n.logs.For(logging.Wire))
	}
	trust, err := ssl.Open(*o.Trust, false)
	if err != nil {
		return nil, err
	}
	return oauth.Open(o.Settings, trust.Client(""), n.logs.For(logging.Wire))
}

// ownLogin is by what this broker logs in to others, nil if it need not.
func (n *Node) ownLogin() clientsasl.Mechanism {
	p := n.config.Brokers
	switch auth := (scram.Auth{User: p.User, Pass: p.Password}); p.Mechanism {
	case sasl.SHA256.Name:
		return auth.AsSha256Mechanism()
	case sasl.SHA512.Name:
		return auth.AsSha512Mechanism()
	case "":
		return nil
	}
	return plain.Auth{User: p.User, Pass: p.Password}.AsMechanism()
}

// decoySalt is the length in bytes of the salts of users that there are not, and of those that kraft user and franz-go make.
const decoySalt = 24

// scramUsers finds who logs in by SCRAM, in the newest metadata that this node has.
func (n *Node) scramUsers(hash sasl.Hash) sasl.ScramUsers {
	tokens := &tokenCredentials{hash: hash, made: map[string]sasl.ScramCredential{}}
	return func(user string, token bool) (sasl.ScramCredential, *sasl.Identity) {
		img := n.meta.Image()
		if token {
			return tokens.find(img, n.meta.Settings().TokenSecret, user)
		}
		if c, ok := img.Scram(user, image.ScramMechanism(hash.Number)); ok {
			return sasl.ScramCredential{Salt: c.Salt, StoredKey: c.StoredKey, ServerKey: c.ServerKey, Iterations: int(c.Iterations)}, &sasl.Identity{User: user}
		}
		return decoy(img, hash, user, sasl.DefaultIterations), nil
	}
}

// decoy is a credential that nobody can log in by. It follows from a secret of the cluster, and is the same on each broker.
func decoy(img *image.Image, hash sasl.Hash, user string, iterations int) sasl.ScramCredential {
	key := make([]byte, hash.Size())
	copy(key, derived(img, "key for "+hash.Name+" of "+user))
	return sasl.ScramCredential{Salt: derived(img, "salt for "+hash.Name+" of "+user)[:decoySalt], StoredKey: key, ServerKey: key, Iterations: iterations}
}

// derived are bytes that follow from the cluster's secret and what they are for.
func derived(img *image.Image, what string) []byte {
	m := hmac.New(sha256.New, img.Secret)
	m.Write([]byte(what))
	return m.Sum(nil)
}

// tokenCredentials are those of delegation tokens for a mechanism, made when somebody first logs in by one.
type tokenCredentials struct {
	hash sasl.Hash

	mu   sync.Mutex // guards the rest; held while a credential is made, some milliseconds
	made map[string]sasl.ScramCredential
}

// maxTokenCredentials is how many credentials are kept. They are made again when they are needed.
const maxTokenCredentials = 10_000

// find is sasl.ScramUsers for tokens.
func (t *tokenCredentials) find(img *image.Image, secret, id string) (sasl.ScramCredential, *sasl.Identity) {
	token, ok := img.Token(id)
	if !ok || secret == "" || token.Expired(time.Now()) {
		return decoy(img, t.hash, "token "+id, sasl.MinIterations), nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c, ok := t.made[id]
	if !ok {
		c = sasl.ScramCredential{Salt: derived(img, "salt for "+t.hash.Name+" of token "+id)[:decoySalt], Iterations: sasl.MinIterations}
		salted, err := t.hash.SaltedPassword(base64.StdEncoding.EncodeToString(token.HMAC(secret)), c.Salt, c.Iterations)
		if err != nil {
			return decoy(img, t.hash, "token "+id, sasl.MinIterations), nil
		}
		if c.StoredKey, c.ServerKey = t.hash.Keys(salted); len(t.made) >= maxTokenCredentials {
			clear(t.made)
		}
		t.made[id] = c
	}
	_, name, _ := strings.Cut(token.Owner, ":")
	return c, &sasl.Identity{User: name, Token: true, Expires: time.UnixMilli(token.Expires)}
}
