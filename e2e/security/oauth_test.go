package security

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/go-jose/go-jose/v4"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/oauth"

	"kraft/e2e/harness"
	"kraft/wire/oauth/oauthtest"
)

// issuer makes tokens.
type issuer struct{ key jose.JSONWebKey }

func newIssuer(t testing.TB, id string) *issuer {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{jose.JSONWebKey{KeyID: id, Key: private, Use: "sig"}}
}

func (i *issuer) set(t testing.TB, more ...jose.JSONWebKey) []byte {
	t.Helper()
	data, err := json.Marshal(jose.JSONWebKeySet{Keys: append([]jose.JSONWebKey{i.key.Public()}, more...)})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (i *issuer) token(t testing.TB, changes map[string]any) string {
	return oauthtest.Sign(t, jose.RS256, i.key, nil, oauthtest.Payload(changes))
}

// bearer says what a listener makes of a client's messages of OAUTHBEARER.
func bearer(t testing.TB, address string, messages ...string) string {
	t.Helper()
	tcp, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	_ = tcp.SetDeadline(time.Now().Add(20 * time.Second))
	ask := func(req kmsg.Request) kmsg.Response {
		resp, err := exchangeOn(tcp, req)
		if err != nil {
			return nil
		}
		return resp
	}
	if resp, ok := ask(&kmsg.SASLHandshakeRequest{Version: 1, Mechanism: "OAUTHBEARER"}).(*kmsg.SASLHandshakeResponse); !ok || resp.ErrorCode != 0 {
		t.Fatalf("the handshake is refused: %+v", resp)
	}
	said := ""
	for _, m := range messages {
		resp, ok := ask(&kmsg.SASLAuthenticateRequest{Version: 2, SASLAuthBytes: []byte(m)}).(*kmsg.SASLAuthenticateResponse)
		if !ok {
			return said + "; closed"
		}
		text := ""
		if resp.ErrorMessage != nil {
			text = *resp.ErrorMessage
		}
		session := ""
		if resp.SessionLifetimeMillis > 0 {
			session = fmt.Sprintf(" for %d min", (resp.SessionLifetimeMillis+30_000)/60_000)
		}
		said += fmt.Sprintf("; %d %q %q%s", resp.ErrorCode, text, resp.SASLAuthBytes, session)
	}
	return strings.TrimPrefix(said, "; ")
}

func exchangeOn(tcp net.Conn, req kmsg.Request) (kmsg.Response, error) {
	if _, err := tcp.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, req, 1)); err != nil {
		return nil, err
	}
	data, err := readFrame(tcp)
	if err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	body := data[4:]
	if resp.IsFlexible() {
		body = body[1:]
	}
	return resp, resp.ReadFrom(body)
}

// TestTokens: kraft and Apache Kafka 4.4.0 let the same tokens in, and say the same.
func TestTokens(t *testing.T) {
	good, stranger := newIssuer(t, "one"), newIssuer(t, "one")
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "keys.json")
	if err := os.WriteFile(file, good.set(t, jose.JSONWebKey{KeyID: "curve", Key: &curve.PublicKey}), 0o600); err != nil {
		t.Fatal(err)
	}
	url := "file://" + file
	t.Setenv("JAVA_TOOL_OPTIONS", "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls="+url)
	settings := []string{
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:SASL_PLAINTEXT", "inter.broker.listener.name=PLAINTEXT", "sasl.mechanism.inter.broker.protocol=PLAIN",
		"sasl.enabled.mechanisms=PLAIN,OAUTHBEARER", `listener.name.plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="admin" user_admin="admin";`,
		"listener.name.plaintext.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;",
		"listener.name.plaintext.oauthbearer.sasl.server.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler",
		"listener.name.plaintext.oauthbearer.sasl.oauthbearer.jwks.endpoint.url=" + url, "listener.name.plaintext.oauthbearer.sasl.oauthbearer.expected.audience=kafka,other",
		"listener.name.plaintext.oauthbearer.sasl.oauthbearer.expected.issuer=https://issuer", "listener.name.plaintext.oauthbearer.connections.max.reauth.ms=7200000",
	}
	var args []string
	for _, s := range settings {
		args = append(args, "--override", s)
	}
	kraft, kafka := harness.NewKraft(t, args...), harness.NewKafka(t, settings...)
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	nameless := *good
	nameless.key.KeyID = ""
	unknown := *good
	unknown.key.KeyID = "nobody"
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"alice"}`)) + "."
	tokens := map[string]string{
		"good": good.token(t, nil), "curve": oauthtest.Sign(t, jose.ES256, jose.JSONWebKey{KeyID: "curve", Key: curve}, nil, oauthtest.Payload(nil)), "PS512": oauthtest.Sign(t, jose.PS512, good.key, nil, oauthtest.Payload(nil)),
		"no key id": nameless.token(t, nil), "unknown key id": unknown.token(t, nil), "stranger": stranger.token(t, nil), "unsigned": unsigned,
		"secret": oauthtest.Sign(t, jose.HS256, []byte("0123456789abcdef0123456789abcdef"), map[string]any{"kid": "one"}, oauthtest.Payload(nil)),
		"cut":    strings.TrimRight(good.token(t, nil), "abcdefghijklmnopqrstuvwxyz0123456789")[:100], "empty parts": "..", "text": "token",
		"another issuer": good.token(t, map[string]any{"iss": "https://other"}), "no issuer": good.token(t, map[string]any{"iss": nil}),
		"another audience": good.token(t, map[string]any{"aud": "x"}), "no audience": good.token(t, map[string]any{"aud": nil}), "audiences": good.token(t, map[string]any{"aud": []string{"x", "other"}}),
		"expired": good.token(t, map[string]any{"exp": at(-40 * time.Second)}), "just expired": good.token(t, map[string]any{"exp": at(-15 * time.Second)}), "no expiry": good.token(t, map[string]any{"exp": nil}),
		"not yet": good.token(t, map[string]any{"nbf": at(45 * time.Second)}), "soon": good.token(t, map[string]any{"nbf": at(15 * time.Second)}),
		"no issue time": good.token(t, map[string]any{"iat": nil}), "issued later": good.token(t, map[string]any{"iat": at(time.Hour), "exp": at(2 * time.Hour)}),
		"no user": good.token(t, map[string]any{"sub": nil}), "blank user": good.token(t, map[string]any{"sub": " "}), "number": good.token(t, map[string]any{"sub": 5}),
		"no scope": good.token(t, map[string]any{"scope": nil}), "scopes": good.token(t, map[string]any{"scope": "a b"}), "scope list": good.token(t, map[string]any{"scope": []string{"a", "b"}}),
		"scope twice": good.token(t, map[string]any{"scope": []string{"a", "a"}}), "scope twice in a text": good.token(t, map[string]any{"scope": "a a"}), "empty scope": good.token(t, map[string]any{"scope": []string{"a", ""}}),
		"no scopes": good.token(t, map[string]any{"scope": []string{}}), "blank scope": good.token(t, map[string]any{"scope": ""}), "scope number": good.token(t, map[string]any{"scope": 1}),
		"two days": good.token(t, map[string]any{"exp": at(48 * time.Hour)}), "odd expiry": good.token(t, map[string]any{"exp": "soon"}), "fraction": good.token(t, map[string]any{"exp": float64(at(time.Hour)) + 0.5}),
	}
	outcomes := map[string]map[string]string{"kraft": {}, "kafka": {}}
	for server, address := range map[string]string{"kraft": kraft.Addr, "kafka": kafka.Addr} {
		for name, token := range tokens {
			outcomes[server][name] = bearer(t, address, "n,,\x01auth=Bearer "+token+"\x01\x01")
			if strings.Contains(outcomes[server][name], "invalid_token") {
				outcomes[server][name] = bearer(t, address, "n,,\x01auth=Bearer "+token+"\x01\x01", "\x01")
			}
		}
		ok := good.token(t, nil)
		for name, message := range map[string]string{
			"alice as alice": "n,a=alice,\x01auth=Bearer " + ok + "\x01\x01", "alice as bob": "n,a=bob,\x01auth=Bearer " + ok + "\x01\x01", "extension": "n,,\x01auth=Bearer " + ok + "\x01traceId=1\x01\x01",
			"channel binding": "y,,\x01auth=Bearer " + ok + "\x01\x01", "no end": "n,,\x01auth=Bearer " + ok, "no token": "n,,\x01\x01", "empty": "", "noise": "noise",
		} {
			outcomes[server][name] = bearer(t, address, message)
		}
	}
	harness.Compare(t, "testdata/tokens.txt", outcomes, true)
}

// provider is an identity provider that serves keys, and tokens to clients.
type provider struct {
	*httptest.Server
	issuer atomic.Pointer[issuer]
	asked  atomic.Int64 // for tokens
}

func newProvider(t *testing.T) *provider {
	p := new(provider)
	p.issuer.Store(newIssuer(t, "first"))
	mux := http.NewServeMux()
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(p.issuer.Load().set(t)) })
	mux.HandleFunc("/token", func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": p.issuer.Load().token(t, nil), "token_type": "Bearer", "expires_in": 3600})
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// TestOAuthClients: clients of several languages log in with tokens, and are the user of whom the token is.
func TestOAuthClients(t *testing.T) {
	p := newProvider(t)
	t.Setenv("JAVA_TOOL_OPTIONS", "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls="+p.URL+"/token")
	b := start(t, "listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,OAUTHBEARER", "listener.name.sasl_plaintext.sasl.enabled.mechanisms=PLAIN,OAUTHBEARER",
		"sasl.oauthbearer.jwks.endpoint.url="+p.URL+"/keys", "sasl.oauthbearer.expected.audience=kafka", "sasl.oauthbearer.expected.issuer=https://issuer",
		standardAuthorizer, "super.users=User:ANONYMOUS")
	b.CLI(t, "", "acl", "grant", "alice", "admin")
	for _, protocol := range []string{"SASL_SSL", "SASL_PLAINTEXT"} {
		for name, c := range map[string]func(t *testing.T, b *broker, p *provider, protocol, topic string) error{"franz": franzOAuth, "sarama": saramaOAuth, "java": javaOAuth} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				topic := name + "-" + strings.ToLower(protocol)
				b.CLI(t, "", "topic", "create", topic)
				if err := c(t, b, p, protocol, topic); err != nil {
					t.Error(err)
				}
			})
		}
	}
	p.issuer.Store(newIssuer(t, "second")) // a key that the broker has not seen
	b.CLI(t, "", "topic", "create", "rotated")
	if err := harness.Eventually(15*time.Second, func() error { return franzOAuth(t, b, p, "SASL_PLAINTEXT", "rotated") }); err != nil {
		t.Errorf("with a new key: %v", err)
	}
	if strings.Contains(b.Output(), ".eyJ") || strings.Contains(b.Output(), "eyJhbGci") {
		t.Error("the log has a token")
	}
}

// TestShortTokens: a session ends with its token, and clients log in again on the same connection meanwhile.
func TestShortTokens(t *testing.T) {
	p := newProvider(t)
	b := start(t, "listener.name.sasl_plaintext.sasl.enabled.mechanisms=OAUTHBEARER",
		"sasl.oauthbearer.jwks.endpoint.url="+p.URL+"/keys", "sasl.oauthbearer.expected.audience=kafka", "sasl.oauthbearer.expected.issuer=https://issuer", "sasl.oauthbearer.clock.skew.seconds=0")
	b.CLI(t, "", "topic", "create", "short")
	var logins atomic.Int64
	auth := oauth.Oauth(func(context.Context) (oauth.Auth, error) {
		logins.Add(1)
		return oauth.Auth{Token: p.issuer.Load().token(t, map[string]any{"exp": time.Now().Add(4 * time.Second).Unix()})}, nil
	})
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.addresses["SASL_PLAINTEXT"]), kgo.SASL(auth), kgo.DefaultProduceTopic("short"), kgo.RecordRetries(3))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for begun := time.Now(); time.Since(begun) < 10*time.Second; time.Sleep(100 * time.Millisecond) {
		if err := cl.ProduceSync(t.Context(), kgo.StringRecord("x")).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if n := logins.Load(); n < 4 {
		t.Errorf("logged in %d times", n)
	}
}

func franzOAuth(t *testing.T, b *broker, p *provider, protocol, topic string) error {
	opts := []kgo.Opt{kgo.SeedBrokers(b.addresses[protocol]), kgo.SASL(oauth.Auth{Token: p.issuer.Load().token(t, nil), Extensions: map[string]string{"trace": "1"}}.AsMechanism())}
	if protocol == "SASL_SSL" {
		opts = append(opts, kgo.DialTLSConfig(b.trust(t, false)))
	}
	return hello(t, topic, opts)
}

type saramaToken string

func (s saramaToken) Token() (*sarama.AccessToken, error) {
	return &sarama.AccessToken{Token: string(s)}, nil
}

func saramaOAuth(t *testing.T, b *broker, p *provider, protocol, topic string) error {
	c := sarama.NewConfig()
	c.Producer.Return.Successes, c.Net.DialTimeout, c.Metadata.Retry.Max = true, 5*time.Second, 0
	c.Net.SASL.Enable, c.Net.SASL.Mechanism, c.Net.SASL.TokenProvider = true, sarama.SASLTypeOAuth, saramaToken(p.issuer.Load().token(t, nil))
	if protocol == "SASL_SSL" {
		c.Net.TLS.Enable, c.Net.TLS.Config = true, b.trust(t, false)
	}
	producer, err := sarama.NewSyncProducer([]string{b.addresses[protocol]}, c)
	if err != nil {
		return err
	}
	defer producer.Close()
	_, _, err = producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("hello")})
	return err
}

// javaOAuth has Kafka's tools fetch their token.
func javaOAuth(t *testing.T, b *broker, p *provider, protocol, topic string) error {
	jars := harness.NeedKafka(t)
	file := filepath.Join(t.TempDir(), "client.properties")
	lines := []string{"security.protocol=" + protocol, "ssl.truststore.type=PEM", "ssl.truststore.location=" + filepath.Join(b.certs, "ca.pem"), "sasl.mechanism=OAUTHBEARER",
		"sasl.oauthbearer.token.endpoint.url=" + p.URL + "/token", "sasl.login.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler",
		`sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required clientId="c" clientSecret="s";`, "request.timeout.ms=5000", "delivery.timeout.ms=6000", "max.block.ms=8000", "linger.ms=0"}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	produce := harness.Tool(jars, "org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", b.addresses[protocol], "--topic", topic, "--command-config", file)
	produce.Stdin = strings.NewReader("hello\n")
	if out, err := harness.Run(ctx, produce); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	out, err := harness.Run(ctx, harness.Tool(jars, "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", b.addresses[protocol], "--topic", topic, "--command-config", file, "--from-beginning", "--max-messages", "1", "--timeout-ms", "10000"))
	if err != nil || !strings.Contains(out, "hello") {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// readFrame reads an answer.
func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	data := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(r, data)
	return data, err
}
