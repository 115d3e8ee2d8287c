package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire/sasl"
)

// LoginConfig is how clients of a listener log in before they are served. It never changes.
type LoginConfig struct {
	Mechanisms   map[string]LoginMechanism // by the names of sasl.enabled.mechanisms
	MaxToken     int                       // bytes of a frame until the client has logged in (sasl.server.max.receive.size)
	FailureDelay time.Duration             // before a client learns that its login failed (connection.failed.authentication.delay.ms)
}

// LoginMechanism is a mechanism as a listener has it.
type LoginMechanism struct {
	Begin      sasl.Mechanism
	MaxSession time.Duration // after which a client must log in again (connections.max.reauth.ms); 0 for never
}

// loginPhase is how far a connection's login has come.
type loginPhase int

const (
	handshaking    loginPhase = iota // the client is to name a mechanism
	authenticating                   // tokens are exchanged
	authenticated                    // requests are served, until the session expires
)

// loginPatience is how long a login may take.
const loginPatience = 30 * time.Second

// maxVersionsAsked is how often a client may ask for ApiVersions before it logs in. The first version that is served is its last.
const maxVersionsAsked = 5

// minRelogin is the least time between two logins of a connection (SaslServerAuthenticator).
const minRelogin = time.Second

var saslHandshakeKey, saslAuthenticateKey = kmsg.SASLHandshake.Int16(), kmsg.SASLAuthenticate.Int16()

// login is the state of a connection's present or latest login (Kafka's SaslServerAuthenticator; KIP-368 for those after the first). It is nil
// for a connection that serves everybody. The connection's goroutine owns it.
type login struct {
	of        *LoginConfig
	phase     loginPhase
	until     time.Time // when a login that is not complete ends the connection
	versions  int       // how many ApiVersions were served before the handshake
	raw       bool      // tokens are frames of their own, without a request's header (SaslHandshake 0)
	mechanism string
	exchange  sasl.Exchange
	last      time.Time  // when the client logged in last
	expires   time.Time  // zero for never
	principal *Principal // nil before the first login
	cause     error      // of the newest failure, for the log
}

func (l *LoginConfig) begin(now time.Time) *login {
	if l == nil {
		return nil
	}
	return &login{of: l, until: now.Add(loginPatience)}
}

// pending reports that the client has not logged in, or is about to do so again.
func (l *login) pending() bool { return l != nil && l.phase != authenticated }

// sooner is a deadline, or the login's if that comes first. The zero time is none.
func (l *login) sooner(deadline time.Time) time.Time {
	if l.pending() && (deadline.IsZero() || l.until.Before(deadline)) {
		return l.until
	}
	return deadline
}

// takesRaw reports that the next frame is a token.
func (l *login) takesRaw() bool { return l != nil && l.phase == authenticating && l.raw }

// admit reports why a request is not served in the present phase; nil if it is.
func (l *login) admit(key, version int16, size int, now time.Time) error {
	if l == nil {
		return nil
	}
	if l.phase != authenticated && size > l.of.MaxToken {
		return fmt.Errorf("%s request of %d bytes before the client logged in, at most %d (sasl.server.max.receive.size)", APIName(key), size, l.of.MaxToken)
	}
	switch l.phase {
	case handshaking:
		switch {
		case key == saslHandshakeKey:
			return nil
		case key == apiVersionsKey && l.versions < maxVersionsAsked:
			if l.versions++; version <= maxAPIVersions {
				l.versions = maxVersionsAsked
			}
			return nil
		}
		return fmt.Errorf("%s request before the client logged in: the listener requires SASL, set the client's security.protocol to the listener's, SASL_PLAINTEXT or SASL_SSL", APIName(key))
	case authenticating:
		if key == saslAuthenticateKey || key == saslHandshakeKey {
			return nil
		}
		return fmt.Errorf("%s request in the middle of a login", APIName(key))
	}
	if key != saslHandshakeKey && key != saslAuthenticateKey && l.expired(now) {
		return fmt.Errorf("%s request after the session of %v expired (connections.max.reauth.ms): the client did not log in again", APIName(key), l.principal)
	}
	return nil
}

func (l *login) expired(now time.Time) bool { return !l.expires.IsZero() && now.After(l.expires) }

// handshake begins an exchange by the mechanism that the client names. errTooEarly is answered and has no effect. Other errors end the
// connection: one that wraps an error of the protocol is answered before.
func (l *login) handshake(mechanism string, version int16, now time.Time) error {
	if l.phase == authenticated && (l.expires.IsZero() || now.Sub(l.last) < minRelogin || version == 0) {
		return errTooEarly
	}
	if l.phase == authenticating {
		return fmt.Errorf("SaslHandshake request in the middle of a login: %w", kerr.IllegalSaslState)
	}
	with, ok := l.of.Mechanisms[mechanism]
	if !ok {
		return fmt.Errorf("login by %.32q, which sasl.enabled.mechanisms does not have: %w", mechanism, kerr.UnsupportedSaslMechanism)
	}
	if l.principal != nil && mechanism != l.mechanism {
		return fmt.Errorf("%v logs in again by %s, before by %s", l.principal, mechanism, l.mechanism)
	}
	l.phase, l.mechanism, l.raw, l.exchange, l.until = authenticating, mechanism, version == 0, with.Begin(), now.Add(loginPatience)
	return nil
}

// authenticate gives the exchange the client's token. When the exchange ends, principal and expires are set. Errors wrap
// SASL_AUTHENTICATION_FAILED, with a message that the client may see.
func (l *login) authenticate(token []byte, now time.Time) (challenge []byte, err error) {
	challenge, done, err := l.exchange(token)
	l.cause = err
	if refusal := sasl.Refusal(""); errors.As(err, &refusal) {
		return nil, fmt.Errorf("%s: %w", refusal, kerr.SaslAuthenticationFailed)
	}
	if err != nil {
		return nil, fmt.Errorf("Authentication failed during authentication due to invalid credentials with SASL mechanism %s: %w", l.mechanism, kerr.SaslAuthenticationFailed)
	}
	if done == nil {
		return challenge, nil
	}
	p := Principal{Type: "User", Name: done.User, Token: done.Token}
	if l.principal != nil && *l.principal != p {
		return nil, fmt.Errorf("Cannot change principals during re-authentication from %v: %v: %w", l.principal, p, kerr.SaslAuthenticationFailed)
	}
	l.phase, l.principal, l.exchange, l.last = authenticated, &p, nil, now
	l.expires = done.Expires
	if most := l.of.Mechanisms[l.mechanism].MaxSession; most > 0 && (l.expires.IsZero() || now.Add(most).Before(l.expires)) {
		l.expires = now.Add(most)
	}
	return challenge, nil
}

// lifetime is how long the session lasts from now on in milliseconds, 0 for ever.
func (l *login) lifetime(now time.Time) int64 {
	if l.phase != authenticated || l.expires.IsZero() {
		return 0
	}
	return max(1, l.expires.Sub(now).Milliseconds())
}

// errTooEarly refuses another login of a session that needs none yet, and that goes on.
var errTooEarly = fmt.Errorf("the session needs no other login yet: %w", kerr.IllegalSaslState)

// refusedLogin ends a connection once what was answered before has left.
type refusedLogin struct{ error }

func (r *refusedLogin) Unwrap() error { return r.error }

// refusal returns the error that ends the connection and goes to the log: err, which the client was told, with its cause, which the client was
// not told.
func (l *login) refusal(err error) *refusedLogin {
	if told := sasl.Refusal(""); l.cause != nil && (!errors.As(l.cause, &told) || l.cause.Error() != string(told)) {
		err = fmt.Errorf("%w (%v)", err, l.cause)
	}
	return &refusedLogin{err}
}

// RegisterSASL serves SaslHandshake and SaslAuthenticate. On a listener without SASL they are answered as Kafka's KafkaApis does: clients'
// libraries have a sentence for ILLEGAL_SASL_STATE, and none for a connection that ends.
func RegisterSASL(r *Registry) {
	HandleAnswer(r, 0, 1, func(ctx *Request, req *kmsg.SASLHandshakeRequest) (Answer, error) {
		resp := &kmsg.SASLHandshakeResponse{Version: ctx.Version}
		l := ctx.conn.login
		if l == nil {
			resp.ErrorCode = kerr.IllegalSaslState.Code
			return Answer{Now: resp}, nil
		}
		err := l.handshake(req.Mechanism, ctx.Version, ctx.Received)
		resp.ErrorCode = ErrorCode(err)
		if !errors.Is(err, kerr.IllegalSaslState) {
			resp.SupportedMechanisms = slices.Sorted(maps.Keys(l.of.Mechanisms))
		}
		switch known := (*kerr.Error)(nil); {
		case err == nil, errors.Is(err, errTooEarly):
		case errors.As(err, &known):
			ctx.conn.refused = &refusedLogin{err}
		default:
			ctx.conn.delayRefusal()
			return Answer{}, &badRequest{err}
		}
		return Answer{Now: resp}, nil
	})
	HandleAnswer(r, 0, 2, func(ctx *Request, req *kmsg.SASLAuthenticateRequest) (Answer, error) {
		resp := &kmsg.SASLAuthenticateResponse{Version: ctx.Version}
		l := ctx.conn.login
		if l == nil || l.phase != authenticating {
			said := "SaslAuthenticate request received on a listener without SASL"
			if l != nil {
				said = "SaslAuthenticate request received after successful authentication"
			}
			resp.ErrorCode, resp.ErrorMessage = kerr.IllegalSaslState.Code, &said
			return Answer{Now: resp}, nil
		}
		challenge, err := l.authenticate(req.SASLAuthBytes, ctx.Received)
		if err != nil {
			ctx.conn.delayRefusal()
			ctx.conn.refused = l.refusal(err)
			resp.ErrorCode, resp.ErrorMessage = ErrorCode(err), ErrorMessage(err)
			return Answer{Now: resp}, nil
		}
		resp.ErrorMessage, resp.SASLAuthBytes = new(string), challenge
		resp.SessionLifetimeMillis = l.lifetime(ctx.Received)
		ctx.conn.loggedIn()
		return Answer{Now: resp}, nil
	})
}

// delayRefusal makes guessing slow.
func (c *conn) delayRefusal() {
	t := time.NewTimer(c.login.of.FailureDelay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.ctx.Done():
	}
}

// loggedIn gives later requests the principal, once there is one.
func (c *conn) loggedIn() {
	if c.login.phase == authenticated && c.session.Principal != *c.login.principal {
		session := *c.session
		session.Principal = *c.login.principal
		c.session = &session
	}
}

// token serves a frame of size bytes that is a token and nothing else.
func (c *conn) token(frames *frameReader, size int) error {
	if size > c.login.of.MaxToken {
		return &badRequest{fmt.Errorf("token of %d bytes, at most %d (sasl.server.max.receive.size)", size, c.login.of.MaxToken)}
	}
	token, done, err := c.body(frames, saslAuthenticateKey, size, false)
	defer done()
	if err != nil {
		return err
	}
	challenge, err := c.login.authenticate(token, time.Now())
	if err != nil {
		c.delayRefusal()
		return &badRequest{c.login.refusal(err)}
	}
	c.loggedIn()
	c.answered.Store(true)
	_, err = c.tcp.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(challenge))), challenge...))
	return err
}
