package wire

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"

	"kraft/wire/ssl"
)

// nodeConn is a connection to another node's listener with TLS or a login.
type nodeConn struct {
	net.Conn
	until time.Time // when the session ends, zero for never: its owner opens another connection before (KIP-368)
}

// Close ends the connection at once. TLS would wait to say goodbye, perhaps under its owner's lock.
func (c *nodeConn) Close() error { return below(c.Conn).Close() }

// expires reports whether a connection's session is about to end.
func expires(c net.Conn, now time.Time) bool {
	n, ok := c.(*nodeConn)
	return ok && !n.until.IsZero() && now.After(n.until)
}

// Secure is dial with what a listener asks for: a TLS handshake if store is not nil, and a login if mechanism is not nil. Connections that it
// returns are ready for requests, and for other protocols of the listener.
func Secure(dial Dialer, store *ssl.Store, mechanism sasl.Mechanism) Dialer {
	if store == nil && mechanism == nil {
		return dial
	}
	return func(ctx context.Context, address string) (net.Conn, error) {
		c, err := dial(ctx, address)
		if err != nil {
			return nil, err
		}
		host, _, err := net.SplitHostPort(address)
		if err == nil && store != nil {
			t := tls.Client(c, store.Client(host))
			err = t.HandshakeContext(ctx)
			c = t
		}
		var lifetime time.Duration
		if err == nil && mechanism != nil {
			lifetime, err = logIn(ctx, c, host, mechanism)
		}
		if err != nil {
			_ = below(c).Close()
			return nil, err
		}
		secured := &nodeConn{Conn: c}
		if lifetime > 0 {
			secured.until = time.Now().Add(lifetime * 8 / 10)
		}
		return secured, nil
	}
}

// logIn proves who this node is, by SaslHandshake 1 and SaslAuthenticate 1, and returns how long the session lasts, 0 for ever.
func logIn(ctx context.Context, c net.Conn, host string, mechanism sasl.Mechanism) (lifetime time.Duration, err error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(loginPatience)
	}
	if err := c.SetDeadline(deadline); err != nil {
		return 0, err
	}
	session, token, err := mechanism.Authenticate(ctx, host)
	if err != nil {
		return 0, err
	}
	handshake := &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: mechanism.Name()}
	resp, err := exchange(c, handshake)
	if err != nil {
		return 0, err
	}
	if r := resp.(*kmsg.SASLHandshakeResponse); r.ErrorCode != 0 {
		return 0, fmt.Errorf("login by %s, the listener has %v: %w", mechanism.Name(), r.SupportedMechanisms, kerr.ErrorForCode(r.ErrorCode))
	}
	for done := false; !done || len(token) > 0; {
		resp, err := exchange(c, &kmsg.SASLAuthenticateRequest{Version: 1, SASLAuthBytes: token})
		if err != nil {
			return 0, err
		}
		r := resp.(*kmsg.SASLAuthenticateResponse)
		if r.ErrorCode != 0 {
			said := ""
			if r.ErrorMessage != nil {
				said = *r.ErrorMessage
			}
			return 0, fmt.Errorf("login by %s: %s: %w", mechanism.Name(), said, kerr.ErrorForCode(r.ErrorCode))
		}
		lifetime = time.Duration(r.SessionLifetimeMillis) * time.Millisecond
		if done {
			break
		}
		if done, token, err = session.Challenge(r.SASLAuthBytes); err != nil {
			return 0, fmt.Errorf("login by %s: %w", mechanism.Name(), err)
		}
	}
	return lifetime, c.SetDeadline(time.Time{})
}

// exchange sends a request and reads its answer. Nothing else is on the connection.
func exchange(c net.Conn, req kmsg.Request) (kmsg.Response, error) {
	if _, err := c.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("kraft")).AppendRequest(nil, req, 0)); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	const enough = 64 << 10 // bytes of an answer to a login
	size := int(int32(binary.BigEndian.Uint32(head[:])))
	if size < 4 || size > enough {
		return nil, errors.New("login: the other side does not speak Kafka's protocol")
	}
	body := make([]byte, size-4)
	if _, err := io.ReadFull(c, body); err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	return decodeResponse(req, body)
}
