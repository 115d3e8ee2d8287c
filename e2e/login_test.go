package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"kraft/e2e/harness"
)

const plainUsers = `org.apache.kafka.common.security.plain.PlainLoginModule required user_me="secret" user_you="s3";`

// loginSettings are those of a broker whose clients log in at clients, for Apache Kafka and for kraft.
func loginSettings(clients, brokers string, more ...string) []string {
	return append([]string{
		"listeners=B://" + brokers + ",CLIENTS://" + clients, "advertised.listeners=B://" + brokers + ",CLIENTS://" + clients,
		"listener.security.protocol.map=CLIENTS:SASL_PLAINTEXT,B:PLAINTEXT,CONTROLLER:PLAINTEXT", "inter.broker.listener.name=B",
		"sasl.enabled.mechanisms=PLAIN", "listener.name.clients.plain.sasl.jaas.config=" + plainUsers,
	}, more...)
}

// kraftWithLogins starts kraft with a listener that asks for SASL/PLAIN, and returns it with the listener's address.
func kraftWithLogins(t *testing.T, more ...string) (*harness.Kraft, string) {
	t.Helper()
	clients, brokers := freeAddress(t), freeAddress(t)
	var args []string
	for _, s := range loginSettings(clients, brokers, more...) {
		args = append(args, "--override", s)
	}
	k := harness.Node(brokers, "", append([]string{"--node-id", "1", "--data", t.TempDir()}, args...)...)
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Kill)
	return k, clients
}

// loginStep is what a client sends in TestLoginsAsKafka: a request, or a token alone.
type loginStep struct {
	name string
	req  kmsg.Request
	raw  string
}

func loginSteps() []loginStep {
	versions := func(v int16) kmsg.Request {
		r := kmsg.NewPtrApiVersionsRequest()
		r.Version, r.ClientSoftwareName, r.ClientSoftwareVersion = v, "a-test", "1"
		return r
	}
	handshake := func(v int16, mechanism string) kmsg.Request {
		return &kmsg.SASLHandshakeRequest{Version: v, Mechanism: mechanism}
	}
	token := func(v int16, token string) kmsg.Request {
		return &kmsg.SASLAuthenticateRequest{Version: v, SASLAuthBytes: []byte(token)}
	}
	metadata := kmsg.NewPtrMetadataRequest()
	metadata.Version = 9
	return []loginStep{
		{name: "versions", req: versions(3)}, {name: "versions in version 99", req: versions(99)},
		{name: "handshake 0", req: handshake(0, "PLAIN")}, {name: "handshake 1", req: handshake(1, "PLAIN")}, {name: "handshake by nothing", req: handshake(1, "NOTHING")},
		{name: "handshake by plain", req: handshake(0, "plain")},
		{name: "login 0", req: token(0, "\x00me\x00secret")}, {name: "login 2", req: token(2, "\x00me\x00secret")}, {name: "login as another", req: token(1, "\x00you\x00s3")},
		{name: "wrong password", req: token(2, "\x00me\x00no")}, {name: "wrong user", req: token(1, "\x00he\x00secret")}, {name: "no user", req: token(1, "\x00\x00secret")},
		{name: "no password", req: token(1, "\x00me\x00")}, {name: "for another", req: token(1, "you\x00me\x00secret")}, {name: "for itself", req: token(1, "me\x00me\x00secret")},
		{name: "two tokens", req: token(1, "me\x00secret")}, {name: "four tokens", req: token(1, "\x00me\x00secret\x00")}, {name: "empty token", req: token(1, "")},
		{name: "raw login", raw: "\x00me\x00secret"}, {name: "raw wrong", raw: "\x00me\x00no"},
		{name: "metadata", req: metadata},
	}
}

// send sends the step and says what comes back.
func (s loginStep) send(c net.Conn, correlation int32) string {
	frame := []byte(s.raw)
	if s.req != nil {
		frame = kmsg.NewRequestFormatter(kmsg.FormatterClientID("a-test")).AppendRequest(nil, s.req, correlation)[4:]
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)); err != nil {
		return "closed"
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return closedOr(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, body); err != nil {
		return closedOr(err)
	}
	if s.req == nil {
		return fmt.Sprintf("token %q", body)
	}
	if int32(binary.BigEndian.Uint32(body)) != correlation {
		return "another answer"
	}
	resp := s.req.ResponseKind()
	body = body[4:]
	if resp.IsFlexible() && s.req.Key() != 18 {
		body = body[1:]
	}
	if s.req.Key() == 18 && s.req.GetVersion() == 99 {
		resp.SetVersion(0)
	}
	if err := resp.ReadFrom(body); err != nil {
		return "undecodable"
	}
	said := func(code int16, message *string) string {
		if message == nil {
			return fmt.Sprint(kerr.ErrorForCode(code))
		}
		return fmt.Sprintf("%v, %q", kerr.ErrorForCode(code), *message)
	}
	switch r := resp.(type) {
	case *kmsg.ApiVersionsResponse:
		if r.ErrorCode == kerr.IllegalSaslState.Code { // in the middle of a login Kafka answers requests of other kinds so before it closes
			return "closed"
		}
		return said(r.ErrorCode, nil)
	case *kmsg.SASLHandshakeResponse:
		return said(r.ErrorCode, nil) + fmt.Sprint(r.SupportedMechanisms)
	case *kmsg.SASLAuthenticateResponse:
		return said(r.ErrorCode, r.ErrorMessage) + fmt.Sprintf(" %q %v", r.SASLAuthBytes, r.SessionLifetimeMillis)
	case *kmsg.MetadataResponse:
		if len(r.Brokers) == 0 { // likewise
			return "closed"
		}
		return "served"
	}
	return "unexpected"
}

func closedOr(err error) string {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "nothing"
	}
	return "closed"
}

// TestLoginsAsKafka plays all sequences of some steps of a login, right ones and wrong ones, to kraft and to Apache Kafka: after each step
// both say the same, or both close the connection.
func TestLoginsAsKafka(t *testing.T) {
	_, own := kraftWithLogins(t, "connection.failed.authentication.delay.ms=1")
	theirs, brokers, controller := freeAddress(t), freeAddress(t), freeAddress(t)
	settings := loginSettings(theirs, brokers, "connection.failed.authentication.delay.ms=1", "controller.quorum.voters=1@"+controller)
	settings[0] += ",CONTROLLER://" + controller
	harness.NewKafka(t, settings...)

	var sequences [][]loginStep
	steps := loginSteps()
	for _, a := range steps {
		sequences = append(sequences, []loginStep{a})
		for _, b := range steps {
			sequences = append(sequences, []loginStep{a, b})
			if strings.HasPrefix(a.name, "handshake") || strings.HasPrefix(a.name, "versions") {
				for _, c := range steps {
					sequences = append(sequences, []loginStep{a, b, c})
				}
			}
		}
	}
	play := func(address string, sequence []loginStep) (out []string) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return []string{err.Error()}
		}
		defer c.Close()
		for i, s := range sequence {
			said := s.send(c, int32(i)+100)
			if out = append(out, s.name+": "+said); said == "closed" || said == "nothing" {
				break
			}
		}
		return out
	}
	work := make(chan []loginStep)
	var workers sync.WaitGroup
	var failed sync.Map
	for range 64 {
		workers.Go(func() {
			for s := range work {
				if got, want := strings.Join(play(own, s), "; "), strings.Join(play(theirs, s), "; "); got != want {
					if _, told := failed.LoadOrStore(got+want, true); !told {
						t.Errorf("kraft:  %s\nKafka: %s", got, want)
					}
				}
			}
		})
	}
	for _, s := range sequences {
		work <- s
	}
	close(work)
	workers.Wait()
	t.Logf("%d sequences", len(sequences))
}

// TestClientsLogIn: clients log in with the right password, and are told what is wrong otherwise.
func TestClientsLogIn(t *testing.T) {
	harness.Need(t, "kcat")
	jars := harness.NeedKafka(t)
	k, clients := kraftWithLogins(t)
	k.CLI(t, "", "topic", "create", "orders", "-p", "1")
	dir := t.TempDir()
	properties := filepath.Join(dir, "client.properties")
	if err := os.WriteFile(properties, []byte("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"me\" password=\"secret\";\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	cl, err := kgo.NewClient(kgo.SeedBrokers(clients), kgo.SASL(plain.Auth{User: "me", Pass: "secret"}.AsMechanism()), kgo.DefaultProduceTopic("orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(ctx, kgo.StringRecord("from Go")).FirstErr(); err != nil {
		t.Error("franz-go:", err)
	}
	kcat := exec.Command("kcat", "-b", clients, "-X", "security.protocol=SASL_PLAINTEXT", "-X", "sasl.mechanism=PLAIN", "-X", "sasl.username=me", "-X", "sasl.password=secret", "-t", "orders", "-C", "-e", "-q")
	if out, err := kcat.CombinedOutput(); err != nil || !strings.Contains(string(out), "from Go") {
		t.Errorf("kcat: %v: %s", err, out)
	}
	if out := harness.RunTool(t, jars, "", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", clients, "--command-config", properties, "--list"); !strings.Contains(out, "orders") {
		t.Error("kafka-topics:", out)
	}
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	kraft := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, bin, args...)
		cmd.Env = append(os.Environ(), "KRAFT_PROFILES="+filepath.Join(dir, "profiles.json"))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, c := range []struct{ password, says string }{{"secret", "orders"}, {"guess", "Invalid username or password"}} {
		if out, err := kraft("profile", "create", c.password, "-b", clients, "-X", "security.protocol=SASL_PLAINTEXT", "-X", "sasl.mechanism=PLAIN", "-X", "sasl.username=me", "-X", "sasl.password="+c.password); err != nil {
			t.Fatal(err, out)
		}
		if out, err := kraft("topic", "list"); !strings.Contains(out, c.says) || (err == nil) != (c.password == "secret") {
			t.Errorf("kraft topic list with password %s: %v: %s", c.password, err, out)
		}
	}
	if err := harness.Says(k, "Invalid username or password", 5*time.Second); err != nil {
		t.Error(err)
	}
	if out, err := exec.CommandContext(ctx, bin, "topic", "list", "-b", clients).CombinedOutput(); err == nil || !strings.Contains(string(out), "require TLS or SASL") {
		t.Errorf("without credentials: %v: %s", err, out)
	}
}

// TestSessionsExpire: a client that does not log in again in time is disconnected; one that does goes on (KIP-368).
func TestSessionsExpire(t *testing.T) {
	_, clients := kraftWithLogins(t, "connections.max.reauth.ms=4000")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(clients), kgo.SASL(plain.Auth{User: "me", Pass: "secret"}.AsMechanism()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	c, err := net.Dial("tcp", clients)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	steps := map[string]loginStep{}
	for _, s := range loginSteps() {
		steps[s.name] = s
	}
	say := func(name, want string) {
		t.Helper()
		if got := steps[name].send(c, 1); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	say("handshake 1", "<nil>[PLAIN]")
	say("login 2", `<nil>, "" "" 4000`)
	say("handshake 1", "ILLEGAL_SASL_STATE: Request is not valid given the current SASL state.[]") // too soon
	say("metadata", "served")
	for begun := time.Now(); time.Since(begun) < 4500*time.Millisecond; { // franz-go logs in again by itself
		if err := cl.Ping(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	say("handshake 1", "<nil>[PLAIN]") // late, but before anything else
	say("login 2", `<nil>, "" "" 4000`)
	say("metadata", "served")
	time.Sleep(4100 * time.Millisecond)
	say("metadata", "closed")
}
