package node

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

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
			begin = sasl.Scram(hash, func(user string) (sasl.ScramCredential, bool) { return scramCredential(n.meta.Image(), hash, user) })
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
			n.disks.Go(func() {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				go func() {
					select {
					case <-n.stopped:
						cancel()
					case <-ctx.Done():
					}
				}()
				keys.Watch(ctx)
			})
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

// scramCredential is a user's credential. Of a user that there is not, it makes one up by a secret of the cluster, the same on each broker.
func scramCredential(img *image.Image, hash sasl.Hash, user string) (sasl.ScramCredential, bool) {
	if c, ok := img.Scram(user, image.ScramMechanism(hash.Number)); ok {
		return sasl.ScramCredential{Salt: c.Salt, StoredKey: c.StoredKey, ServerKey: c.ServerKey, Iterations: int(c.Iterations)}, true
	}
	made := func(what string) []byte {
		m := hmac.New(sha256.New, img.Secret)
		m.Write([]byte(what + hash.Name + " of " + user))
		return m.Sum(nil)
	}
	key := make([]byte, hash.Size())
	copy(key, made("key for "))
	return sasl.ScramCredential{Salt: made("salt for ")[:decoySalt], StoredKey: key, ServerKey: key, Iterations: sasl.DefaultIterations}, false
}
