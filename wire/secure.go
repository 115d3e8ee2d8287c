package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"kraft/wire/ssl"
)

// tlsPatience is how long a TLS handshake may take.
const tlsPatience = 10 * time.Second

// secure makes the handshake of a connection to a listener with TLS, and reports whether the connection goes on. A client that shows a
// certificate is the principal that it names, unless it logs in, too.
func (c *conn) secure(store *ssl.Store) bool {
	if store == nil {
		return true
	}
	secured := tls.Server(c.tcp, store.Server())
	ctx, cancel := context.WithTimeout(c.ctx, tlsPatience)
	defer cancel()
	err := secured.HandshakeContext(ctx)
	name := ""
	if err == nil && c.login == nil {
		name, err = store.Principal(secured.ConnectionState())
	}
	if err != nil {
		c.cancel()
		_ = c.tcp.Close() // in good order: the client is to read the alert
		if !isDisconnect(err) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) && c.server.refusals.Allow() {
			c.log.Warn().Err(explainHandshake(err)).Str("peer", c.session.Peer).Str("listener", c.session.Listener).Msg("TLS handshake failed")
		}
		return false
	}
	c.server.mu.Lock() // Close looks at it
	c.tcp = secured
	c.server.mu.Unlock()
	if name != "" {
		session := *c.session
		session.Principal = Principal{Type: "User", Name: name}
		c.session = &session
	}
	return true
}

// explainHandshake says what to do about a failed handshake where its cause is known.
func explainHandshake(err error) error {
	var header tls.RecordHeaderError
	if errors.As(err, &header) {
		return fmt.Errorf("the client does not speak TLS: set its security.protocol to SSL, or to SASL_SSL if the listener asks for SASL: %w", err)
	}
	var remote *net.OpError
	if errors.As(err, &remote) && remote.Op == "remote error" {
		return fmt.Errorf("the client refused the connection (does it trust the broker's certificate, and is the certificate for the name by which it connects?): %w", err)
	}
	return err
}
