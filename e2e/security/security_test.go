// Package security runs clients against listeners with TLS and SASL, and compares kraft with Apache Kafka there.
package security

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

func TestMain(m *testing.M) { harness.Main(m) }

// broker is kraft with listeners of all four protocols, and user alice.
type broker struct {
	*harness.Kraft
	certs     string // directory of the authority
	addresses map[string]string
}

const password = "a-secret-of-alice"

func start(t *testing.T, more ...string) *broker {
	t.Helper()
	b := &broker{certs: filepath.Join(t.TempDir(), "certs"), addresses: map[string]string{}}
	kraft, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"broker", "b1", "--host", "localhost", "--host", "127.0.0.1"}, {"client", "alice"}} {
		if out, err := exec.Command(kraft, append(append([]string{"certs"}, args...), "--dir", b.certs)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	var listeners []string
	for _, name := range []string{"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"} {
		port, err := freeport.Get()
		if err != nil {
			t.Fatal(err)
		}
		b.addresses[name] = fmt.Sprintf("localhost:%d", port)
		listeners = append(listeners, name+"://"+b.addresses[name])
	}
	args := []string{"--node-id", "1", "--data", t.TempDir()}
	for _, s := range append([]string{
		"listeners=" + strings.Join(listeners, ","), "ssl.keystore.location=" + filepath.Join(b.certs, "b1.pem"), "ssl.truststore.location=" + filepath.Join(b.certs, "ca.pem"),
		"ssl.client.auth=required", "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"listener.name.sasl_ssl.plain.sasl.jaas.config=PlainLoginModule required user_alice=\"" + password + "\";",
		"listener.name.sasl_plaintext.plain.sasl.jaas.config=PlainLoginModule required user_alice=\"" + password + "\";",
		"group.initial.rebalance.delay.ms=0",
	}, more...) {
		args = append(args, "--override", s)
	}
	b.Kraft = harness.Node(b.addresses["PLAINTEXT"], "", args...)
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Kill()
		if strings.Contains(b.Output(), password) {
			t.Errorf("the log has alice's password:\n%s", b.Output())
		}
	})
	b.CLI(t, password+"\n", "user", "set", "alice")
	return b
}

// trust is what clients trust.
func (b *broker) trust(t *testing.T, withKey bool) *tls.Config {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(b.certs, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
	c.RootCAs.AppendCertsFromPEM(ca)
	if withKey {
		pair, err := tls.LoadX509KeyPair(filepath.Join(b.certs, "alice.pem"), filepath.Join(b.certs, "alice.pem"))
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

// way is one in which clients connect.
type way struct{ protocol, mechanism string }

var ways = []way{{"SSL", ""}, {"SASL_SSL", "PLAIN"}, {"SASL_SSL", "SCRAM-SHA-256"}, {"SASL_SSL", "SCRAM-SHA-512"}, {"SASL_PLAINTEXT", "PLAIN"}, {"SASL_PLAINTEXT", "SCRAM-SHA-512"}}

func (w way) String() string { return strings.TrimSuffix(w.protocol+" "+w.mechanism, " ") }

// client writes a record by a way, and reads it back.
type client func(t *testing.T, b *broker, w way, user, password, topic string) error

// TestClients: clients of several languages write and read by each way, and a wrong password or a client without a certificate gets an error.
func TestClients(t *testing.T) {
	b := start(t)
	for name, c := range map[string]client{"franz": franz, "sarama": saramaClient, "kcat": kcat, "java": java} {
		t.Run(name, func(t *testing.T) {
			for i, w := range ways {
				topic := fmt.Sprintf("%s-%d", name, i)
				b.CLI(t, "", "topic", "create", topic)
				if err := c(t, b, w, "alice", password, topic); err != nil {
					t.Errorf("%v: %v", w, err)
				}
				if w.mechanism == "" || name == "java" && i != 3 { // a JVM takes its time
					continue
				}
				if err := c(t, b, w, "alice", "wrong", topic); err == nil {
					t.Errorf("%v: a wrong password is taken", w)
				}
			}
		})
	}
}

func franz(t *testing.T, b *broker, w way, user, password, topic string) error {
	opts := []kgo.Opt{kgo.SeedBrokers(b.addresses[w.protocol]), kgo.AllowAutoTopicCreation()}
	if strings.HasSuffix(w.protocol, "SSL") {
		opts = append(opts, kgo.DialTLSConfig(b.trust(t, w.mechanism == "")))
	}
	if m := mechanismOf(w.mechanism, user, password); m != nil {
		opts = append(opts, kgo.SASL(m))
	}
	return hello(t, topic, opts)
}

// hello has a franz-go client write a record to a topic, and read it.
func hello(t *testing.T, topic string, opts []kgo.Opt) error {
	cl, err := kgo.NewClient(append(opts, kgo.DefaultProduceTopic(topic), kgo.ConsumeTopics(topic), kgo.RecordDeliveryTimeout(5*time.Second))...)
	if err != nil {
		return err
	}
	defer cl.CloseAllowingRebalance()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := cl.ProduceSync(ctx, kgo.StringRecord("hello")).FirstErr(); err != nil {
		return err
	}
	f := cl.PollFetches(ctx)
	if f.NumRecords() != 1 {
		return fmt.Errorf("%d records: %v", f.NumRecords(), f.Err())
	}
	return nil
}

func mechanismOf(name, user, password string) sasl.Mechanism {
	switch name {
	case "PLAIN":
		return plain.Auth{User: user, Pass: password}.AsMechanism()
	case "SCRAM-SHA-256":
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism()
	case "SCRAM-SHA-512":
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism()
	}
	return nil
}

func saramaClient(t *testing.T, b *broker, w way, user, password, topic string) error {
	c := sarama.NewConfig()
	c.Producer.Return.Successes, c.Net.DialTimeout, c.Metadata.Retry.Max = true, 5*time.Second, 0
	if strings.HasSuffix(w.protocol, "SSL") {
		c.Net.TLS.Enable, c.Net.TLS.Config = true, b.trust(t, w.mechanism == "")
	}
	if w.mechanism != "" {
		c.Net.SASL.Enable, c.Net.SASL.Mechanism, c.Net.SASL.User, c.Net.SASL.Password = true, sarama.SASLMechanism(w.mechanism), user, password
		c.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &saramaScram{mechanism: w.mechanism} }
	}
	p, err := sarama.NewSyncProducer([]string{b.addresses[w.protocol]}, c)
	if err != nil {
		return err
	}
	defer p.Close()
	partition, offset, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("hello")})
	if err == nil && (partition != 0 || offset != 0) {
		err = fmt.Errorf("written at %d/%d", partition, offset)
	}
	return err
}

// saramaScram does SCRAM for sarama, which leaves that to its users.
type saramaScram struct {
	mechanism string
	session   sasl.Session
	first     []byte
	done      bool
}

func (s *saramaScram) Begin(user, password, authzID string) (err error) {
	auth := scram.Auth{User: user, Pass: password, Zid: authzID}
	m := auth.AsSha256Mechanism()
	if s.mechanism == "SCRAM-SHA-512" {
		m = auth.AsSha512Mechanism()
	}
	s.session, s.first, err = m.Authenticate(context.Background(), "")
	return err
}

func (s *saramaScram) Step(challenge string) (string, error) {
	if s.first != nil {
		first := s.first
		s.first = nil
		return string(first), nil
	}
	done, next, err := s.session.Challenge([]byte(challenge))
	s.done = done
	return string(next), err
}

func (s *saramaScram) Done() bool { return s.done }

func kcat(t *testing.T, b *broker, w way, user, password, topic string) error {
	harness.Need(t, "kcat")
	args := []string{"-b", b.addresses[w.protocol], "-t", topic, "-X", "security.protocol=" + w.protocol, "-X", "ssl.ca.location=" + filepath.Join(b.certs, "ca.pem"), "-X", "message.timeout.ms=5000"}
	if w.mechanism == "" {
		args = append(args, "-X", "ssl.certificate.location="+filepath.Join(b.certs, "alice.pem"), "-X", "ssl.key.location="+filepath.Join(b.certs, "alice.pem"))
	} else {
		args = append(args, "-X", "sasl.mechanism="+w.mechanism, "-X", "sasl.username="+user, "-X", "sasl.password="+password)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	produce := exec.CommandContext(ctx, "kcat", append(args, "-P")...)
	produce.Stdin = strings.NewReader("hello\n")
	if out, err := produce.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	out, err := exec.CommandContext(ctx, "kcat", append(args, "-C", "-e", "-o", "beginning")...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "hello") {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// settings are a Java client's.
func (b *broker) settings(t *testing.T, w way, user, password string) string {
	t.Helper()
	lines := []string{"security.protocol=" + w.protocol, "ssl.truststore.type=PEM", "ssl.truststore.location=" + filepath.Join(b.certs, "ca.pem"), "request.timeout.ms=5000", "delivery.timeout.ms=6000", "max.block.ms=8000", "linger.ms=0"}
	switch {
	case w.mechanism == "PLAIN":
		lines = append(lines, `sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="`+user+`" password="`+password+`";`)
	case w.mechanism != "":
		lines = append(lines, `sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="`+user+`" password="`+password+`";`)
	default:
		lines = append(lines, "ssl.keystore.type=PEM", "ssl.keystore.location="+filepath.Join(b.certs, "alice.pem"))
	}
	if w.mechanism != "" {
		lines = append(lines, "sasl.mechanism="+w.mechanism)
	}
	file := filepath.Join(t.TempDir(), "client.properties")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func java(t *testing.T, b *broker, w way, user, password, topic string) error {
	jars, file := harness.NeedKafka(t), b.settings(t, w, user, password)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	produce := harness.Tool(jars, "org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", b.addresses[w.protocol], "--topic", topic, "--command-config", file)
	produce.Stdin = strings.NewReader("hello\n")
	if out, err := harness.Run(ctx, produce); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	out, err := harness.Run(ctx, harness.Tool(jars, "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", b.addresses[w.protocol], "--topic", topic, "--command-config", file, "--from-beginning", "--max-messages", "1", "--timeout-ms", "10000"))
	if err != nil || !strings.Contains(out, "hello") {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// stayConnected opens a connection to the listener SSL, and returns a function that asks something on it, which is an error once it is closed.
func (b *broker) stayConnected(t *testing.T) (ask func()) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.addresses["SSL"]), kgo.DialTLSConfig(b.trust(t, true)), kgo.RequestRetries(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if err := cl.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if _, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), cl.Broker(1)); err != nil {
			t.Error(err)
		}
	}
}

// TestKeysChange: a broker takes a renewed certificate without a restart. Connections that are open stay open; a damaged file changes nothing.
func TestKeysChange(t *testing.T) {
	admin := freeport.For(t)
	b := start(t, fmt.Sprintf("admin.listener=localhost:%d", admin))
	serial := func() string {
		c, err := tls.Dial("tcp", b.addresses["SSL"], b.trust(t, true))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	ask := b.stayConnected(t)
	ask()
	before := serial()
	file := filepath.Join(b.certs, "b1.pem")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, good[:len(good)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := harness.Says(b, "cannot be used", 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if serial() != before {
		t.Error("a damaged file changed the certificate")
	}
	kraft, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(kraft, "certs", "broker", "b1", "--host", "localhost", "--dir", b.certs, "--days", "20").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := harness.Eventually(30*time.Second, func() error {
		if serial() == before {
			return errors.New("the certificate is the old one")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	ask()
	if err := harness.Says(b, "is about to expire", 30*time.Second); err != nil {
		t.Error(err)
	}
	_, metrics := harness.Scrape(t, fmt.Sprintf("localhost:%d", admin), "/metrics")
	expiry := regexp.MustCompile(`kraft_certificate_expiry_timestamp_seconds\{listener="SSL"\} (\S+)`).FindStringSubmatch(metrics)
	if expiry == nil {
		t.Fatalf("no metric says when the certificate expires: %.500s", metrics)
	}
	seconds, err := strconv.ParseFloat(expiry[1], 64)
	if days := time.Until(time.Unix(int64(seconds), 0)).Hours() / 24; err != nil || days < 19 || days > 20 {
		t.Errorf("the certificate expires in %v days, %v", days, err)
	}
}

// TestKeysBySettings: kafka-configs and kraft config give a listener other keys. Connections that are open stay open; what cannot be used is refused; a
// password is not shown; the keys are the same after a restart.
func TestKeysBySettings(t *testing.T) {
	b := start(t)
	kraft, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(kraft, "certs", "broker", "next", "--host", "localhost", "--dir", b.certs).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	subject := func() string {
		c, err := tls.Dial("tcp", b.addresses["SSL"], b.trust(t, true))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	shows := func(want string) {
		t.Helper()
		if err := harness.Eventually(10*time.Second, func() error {
			if got := subject(); got != want {
				return fmt.Errorf("the listener shows the certificate of %s", got)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	ask := b.stayConnected(t)
	ask()
	shows("b1")
	const location = "listener.name.ssl.ssl.keystore.location="
	next := filepath.Join(b.certs, "next.pem")
	harness.RunTool(t, harness.NeedKafka(t), "", "org.apache.kafka.tools.ConfigCommand", "--bootstrap-server", b.addresses["PLAINTEXT"], "--entity-type", "brokers", "--entity-name", "1", "--alter", "--add-config", location+next)
	shows("next")
	ask()
	for value, says := range map[string]string{
		location + "/nowhere/x.pem": "/nowhere/x.pem", location + filepath.Join(b.certs, "ca.pem"): "it has no private key", location: "ssl.keystore.location",
		"listener.name.ssl.ssl.truststore.location=/nowhere/ca.pem": "/nowhere/ca.pem",
	} {
		if out, err := b.TryCLI(t, "", "config", "set", "--broker", "1", value); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v %s", value, err, out)
		}
	}
	if _, err := b.TryCLI(t, "", "config", "set", "--all-brokers", location+next); err == nil {
		t.Error("all brokers have one key")
	}
	shows("next")
	b.CLI(t, "", "config", "set", "--broker", "1", "listener.name.ssl.ssl.keystore.password=the-password-of-a-store")
	if out := b.CLI(t, "", "config", "list", "--broker", "1", "--all"); strings.Contains(out, "the-password-of-a-store") {
		t.Error("a password is shown")
	}
	if err := b.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	shows("next")
	b.CLI(t, "", "config", "unset", "--broker", "1", strings.TrimSuffix(location, "="))
	shows("b1")
	if strings.Contains(b.Output(), "the-password-of-a-store") {
		t.Error("the log has a password")
	}
}

// TestWrongProtocol: a client that speaks another protocol than the listener gets an end, and the log has a sentence.
func TestWrongProtocol(t *testing.T) {
	b := start(t)
	for _, tc := range []struct{ client, listener, says string }{
		{"SSL", "PLAINTEXT", "the client speaks TLS, which this listener does not"},
		{"SASL_SSL", "SASL_PLAINTEXT", "the client speaks TLS, which this listener does not"},
		{"PLAINTEXT", "SSL", "the client does not speak TLS: set its security.protocol to SSL"},
		{"PLAINTEXT", "SASL_PLAINTEXT", "before the client logged in: the listener requires SASL"},
	} {
		opts := []kgo.Opt{kgo.SeedBrokers(b.addresses[tc.listener]), kgo.RequestRetries(0)}
		if strings.HasSuffix(tc.client, "SSL") {
			opts = append(opts, kgo.DialTLSConfig(b.trust(t, true)))
		}
		cl, err := kgo.NewClient(opts...)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		err = cl.Ping(ctx)
		cancel()
		cl.Close()
		if err == nil {
			t.Errorf("%s at %s works", tc.client, tc.listener)
		}
		if err := harness.Says(b, tc.says, 5*time.Second); err != nil {
			t.Errorf("%s at %s: %v", tc.client, tc.listener, err)
		}
	}
}

// TestDevSecure: kraft dev --secure needs nothing else. kraft's own commands find their login, Kafka's tools have a file, others need a login and rights;
// the cluster stays secure without the option, and --fresh removes it.
func TestDevSecure(t *testing.T) {
	kraft, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, brokers := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d brokers", brokers), func(t *testing.T) {
			cache := filepath.Join(t.TempDir(), "cache")
			t.Setenv("KRAFT_CACHE", cache)
			port := freeport.For(t)
			for range brokers - 1 { // those behind it
				freeport.For(t)
			}
			address := fmt.Sprintf("localhost:%d", port)
			run := func(want bool, stdin string, args ...string) string {
				t.Helper()
				cmd := exec.Command(kraft, args...)
				cmd.Stdin = strings.NewReader(stdin)
				out, err := cmd.CombinedOutput()
				if (err == nil) != want {
					t.Errorf("kraft %v: %v: %s", args, err, out)
				}
				return string(out)
			}
			start := func(args ...string) *harness.Process {
				t.Helper()
				p, err := harness.Start(exec.Command(kraft, append([]string{"dev", "--port", fmt.Sprint(port)}, args...)...))
				if err != nil {
					t.Fatal(err)
				}
				if err := harness.Says(p, "dev snippet python", 20*time.Second); err != nil {
					p.Kill()
					t.Fatal(err)
				}
				return p
			}
			stop := func(p *harness.Process) {
				t.Helper()
				if err := p.Stop(20 * time.Second); err != nil {
					t.Errorf("%v: %s", err, p.Output())
				}
			}
			dev := start("--secure", "--brokers", fmt.Sprint(brokers), "--topic", "orders:1")
			run(true, "hello\n", "produce", "orders")
			if out := run(true, "", "consume", "orders", "--from-beginning", "-e"); !strings.Contains(out, "hello") {
				t.Errorf("consumed %q", out)
			}
			run(false, "", "topic", "list", "-b", address)
			run(true, "alice-secret\n", "user", "set", "alice")
			b := &broker{certs: filepath.Join(cache, "dev", "secure"), addresses: map[string]string{"SASL_SSL": address}}
			w := way{"SASL_SSL", "SCRAM-SHA-512"}
			if err := franz(t, b, w, "alice", "alice-secret", "orders"); err == nil {
				t.Error("alice needs no right")
			}
			run(true, "", "acl", "grant", "alice", "admin")
			run(true, "", "topic", "create", "hers")
			if err := harness.Eventually(10*time.Second, func() error { return franz(t, b, w, "alice", "alice-secret", "hers") }); err != nil {
				t.Errorf("with every right: %v", err)
			}
			if err := franz(t, b, w, "alice", "wrong", "hers"); err == nil {
				t.Error("alice needs no password")
			}
			jars := harness.NeedKafka(t)
			if out := harness.RunTool(t, jars, "", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", address, "--list", "--command-config", filepath.Join(b.certs, "admin.properties")); !strings.Contains(out, "hers") {
				t.Errorf("Kafka's tool says %s", out)
			}
			for _, secret := range []string{"admin.properties", "librdkafka.properties", "passwords.json", "broker.pem", "ca.key"} {
				if info, err := os.Stat(filepath.Join(b.certs, secret)); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s: %v, %v", secret, info.Mode(), err)
				}
			}
			stop(dev)
			dev = start() // as it was
			if out := run(true, "", "topic", "list"); !strings.Contains(out, "hers") {
				t.Errorf("after a restart: %s", out)
			}
			run(false, "", "topic", "list", "-b", address)
			if brokers > 1 {
				run(true, "", "dev", "stop-broker", "2")
				run(true, "", "dev", "start-broker", "2")
			}
			stop(dev)
			dev = start("--fresh", "--brokers", fmt.Sprint(brokers))
			run(true, "", "topic", "list", "-b", address)
			stop(dev)
			if _, err := os.Stat(b.certs); err == nil {
				t.Error("--fresh leaves the certificates")
			}
			if out := run(false, "", "dev", "--secure", "--port", fmt.Sprint(port)); !strings.Contains(out, "without security") {
				t.Errorf("--secure on a cluster without: %s", out)
			}
		})
	}
}
