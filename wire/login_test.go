package wire

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/wire/sasl"
)

func plainLogin() *LoginConfig {
	return &LoginConfig{Mechanisms: map[string]LoginMechanism{"PLAIN": {Begin: sasl.Plain(map[string]string{"me": "secret", "you": "s3"})}, "ENDS": {Begin: endingLogin}}, MaxToken: 1000}
}

// limit has sessions end after a while.
func (l *LoginConfig) limit(session time.Duration) {
	for name, m := range l.Mechanisms {
		l.Mechanisms[name] = LoginMechanism{Begin: m.Begin, MaxSession: session}
	}
}

// endingLogin is a mechanism of two steps, whose login lasts for five seconds after 1970 began.
func endingLogin() sasl.Exchange {
	begun := false
	return func(token []byte) ([]byte, *sasl.Identity, error) {
		switch {
		case !begun:
			begun = true
			return []byte("go on"), nil, nil
		case string(token) != "me":
			return nil, nil, errors.New("a reason that the client is not told")
		}
		return nil, &sasl.Identity{User: "me", Expires: time.Unix(5, 0)}, nil
	}
}

// TestLoginPhases takes logins through their phases, as a connection does, by the second.
func TestLoginPhases(t *testing.T) {
	at := func(seconds float64) time.Time {
		return time.Unix(0, 0).Add(time.Duration(seconds * float64(time.Second)))
	}
	const metadataKey = 3
	admits := func(l *login, key int16, at time.Time) bool { return l.admit(key, 0, 100, at) == nil }
	take := func(l *login, token string, at time.Time, says string) {
		t.Helper()
		if _, err := l.authenticate([]byte(token), at); says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("token %q: %v, want %q", token, err, says)
		}
	}

	l := plainLogin().begin(time.Unix(0, 0))
	if admits(l, metadataKey, at(0)) || admits(l, saslAuthenticateKey, at(0)) || !l.pending() {
		t.Error("a request before the login")
	}
	if !admits(l, apiVersionsKey, at(0)) || admits(l, apiVersionsKey, at(0)) {
		t.Error("ApiVersions once")
	}
	if err := l.handshake("PLAIN", 1, at(0)); err != nil || admits(l, metadataKey, at(0)) || l.takesRaw() {
		t.Error("in the middle", err)
	}
	take(l, "\x00me\x00secret", at(0), "")
	if !admits(l, metadataKey, at(1e6)) || l.pending() || l.lifetime(at(1)) != 0 {
		t.Error("a session without an end")
	}
	if err := l.handshake("PLAIN", 1, at(1e6)); !errors.Is(err, errTooEarly) {
		t.Error("a second login of such a session:", err)
	}

	l = plainLogin().begin(time.Unix(0, 0))
	l.of.limit(10 * time.Second)
	if err := l.handshake("ENDS", 1, at(0)); err != nil {
		t.Fatal(err)
	}
	if challenge, err := l.authenticate(nil, at(0)); string(challenge) != "go on" || err != nil || !l.pending() {
		t.Error(string(challenge), err)
	}
	take(l, "me", at(0), "")
	if l.lifetime(at(1)) != 4000 || !admits(l, metadataKey, at(5)) || admits(l, metadataKey, at(5.1)) || !admits(l, saslHandshakeKey, at(5.1)) {
		t.Error("the shorter of two times counts", l.expires)
	}
	if err := l.handshake("ENDS", 1, at(0.9)); !errors.Is(err, errTooEarly) {
		t.Error("too soon:", err)
	}
	if err := l.handshake("ENDS", 0, at(6)); !errors.Is(err, errTooEarly) {
		t.Error("without headers:", err)
	}
	if err := l.handshake("PLAIN", 1, at(6)); err == nil || ErrorCode(err) != kerr.UnknownServerError.Code {
		t.Error("by another mechanism:", err)
	}
	if err := l.handshake("ENDS", 1, at(6)); err != nil || admits(l, metadataKey, at(6)) {
		t.Error("again:", err)
	}
	take(l, "", at(6), "")
	take(l, "you", at(6), "invalid credentials with SASL mechanism ENDS: SASL_AUTHENTICATION_FAILED")

	l = plainLogin().begin(time.Unix(0, 0))
	l.of.limit(2 * time.Second)
	for _, login := range []struct{ token, says string }{{"\x00me\x00secret", ""}, {"\x00me\x00secret", ""}, {"\x00you\x00s3", "Cannot change principals during re-authentication from User:me: User:you"}} {
		if err := l.handshake("PLAIN", 1, l.last.Add(3*time.Second)); err != nil {
			t.Fatal(err)
		}
		take(l, login.token, l.last.Add(3*time.Second), login.says)
	}

	l = plainLogin().begin(time.Unix(0, 0))
	if err := l.handshake("plain", 1, at(0)); ErrorCode(err) != kerr.UnsupportedSaslMechanism.Code {
		t.Error(err)
	}
	if err := l.admit(saslHandshakeKey, 1, 1001, at(0)); err == nil || !strings.Contains(err.Error(), "sasl.server.max.receive.size") {
		t.Error("a large request before the login:", err)
	}
	if err := (*login)(nil).admit(metadataKey, 0, 1<<20, at(0)); err != nil || (*login)(nil).pending() || (*login)(nil).takesRaw() {
		t.Error("a listener that serves everybody:", err)
	}
}

// TestLargeTokens: a token alone that is larger than sasl.server.max.receive.size ends the connection before it is read.
func TestLargeTokens(t *testing.T) {
	log := &lockedBuffer{}
	s := NewServer(Config{MaxRequestBytes: 1 << 20, Limits: limits(10)}, new(Registry), Identity{}, zerolog.New(log))
	defer s.Close()
	bound, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(Listener{Name: "CLIENTS", Protocol: "SASL_PLAINTEXT", Login: plainLogin(), Net: bound})
	c, err := net.Dial("tcp", bound.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	handshake := "\x00\x11\x00\x00\x00\x00\x00\x01\x00\x00\x00\x05PLAIN" // SaslHandshake 0
	for _, sent := range []string{"\x00\x00\x00\x11" + handshake, "\x00\x00\x03\xe9"} {
		if _, err := c.Write([]byte(sent)); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	for buf := make([]byte, 100); ; {
		if _, err := c.Read(buf); errors.Is(err, net.ErrClosed) || err != nil && !strings.Contains(err.Error(), "timeout") {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	if !strings.Contains(log.String(), "token of 1001 bytes, at most 1000") {
		t.Error(log.String())
	}
}
