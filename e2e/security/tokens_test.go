package security

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"kraft/e2e/harness"
)

// tokenSettings are of a broker with delegation tokens, and users of PLAIN whose passwords are their names.
var tokenSettings = []string{
	"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:SASL_PLAINTEXT", "inter.broker.listener.name=PLAINTEXT", "sasl.mechanism.inter.broker.protocol=PLAIN",
	"sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
	`listener.name.plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="admin" user_admin="admin" user_alice="alice" user_bob="bob" user_carol="carol";`,
	"listener.name.plaintext.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
	"listener.name.plaintext.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
	standardAuthorizer, "super.users=User:admin;User:ANONYMOUS", "delegation.token.secret.key=a-secret-of-nodes",
	"delegation.token.max.lifetime.ms=7200000", "delegation.token.expiry.time.ms=3600000",
}

func overrides(settings []string) (args []string) {
	for _, s := range settings {
		args = append(args, "--override", s)
	}
	return args
}

// plainConn is a connection of a user who has logged in by PLAIN.
func plainConn(t testing.TB, address, user string) net.Conn {
	t.Helper()
	tcp, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	_ = tcp.SetDeadline(time.Now().Add(time.Minute))
	for _, req := range []kmsg.Request{&kmsg.SASLHandshakeRequest{Version: 1, Mechanism: "PLAIN"}, &kmsg.SASLAuthenticateRequest{Version: 2, SASLAuthBytes: []byte("\x00" + user + "\x00" + user)}} {
		resp, err := exchangeOn(tcp, req)
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := resp.(*kmsg.SASLAuthenticateResponse); ok && r.ErrorCode != 0 {
			t.Fatal(kerr.ErrorForCode(r.ErrorCode))
		}
	}
	return tcp
}

// story has users make, renew, look at and end tokens, and says what came of it. Times are in minutes from now, roughly.
func story(t testing.TB, address string) (said []string) {
	t.Helper()
	conns := map[string]net.Conn{}
	ask := func(user string, req kmsg.Request) kmsg.Response {
		t.Helper()
		if conns[user] == nil {
			conns[user] = plainConn(t, address, user)
		}
		resp, err := exchangeOn(conns[user], req)
		if err != nil {
			t.Fatalf("%s %T: %v", user, req, err)
		}
		return resp
	}
	minutes := func(at int64) string {
		if at <= 0 {
			return fmt.Sprint(at)
		}
		return fmt.Sprintf("%.0f min", 10*math.Round(time.Until(time.UnixMilli(at)).Minutes()/10)) // the story takes a while
	}
	tell := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	hmacs := map[string][]byte{"nobody's": []byte("no token")}
	expiries := map[string]int64{} // of the tokens that there are, by HMAC
	note := func(hmac []byte, code int16, expires int64) {
		if code == 0 {
			expiries[string(hmac)] = expires
		}
	}
	create := func(name, user string, version int16, owner string, lifetime int64, renewers ...string) {
		req := &kmsg.CreateDelegationTokenRequest{Version: version, MaxLifetimeMillis: lifetime}
		if kind, of, ok := strings.Cut(owner, ":"); ok {
			req.OwnerPrincipalType, req.OwnerPrincipalName = &kind, &of
		}
		for _, r := range renewers {
			kind, of, _ := strings.Cut(r, ":")
			req.Renewers = append(req.Renewers, kmsg.CreateDelegationTokenRequestRenewer{PrincipalType: kind, PrincipalName: of})
		}
		r := ask(user, req).(*kmsg.CreateDelegationTokenResponse)
		hmacs[name] = r.HMAC
		note(r.HMAC, r.ErrorCode, r.ExpiryTimestamp)
		tell("create %s: %d %s:%s by %s:%s issued %s expires %s most %s id %v hmac of %d", name, r.ErrorCode, r.PrincipalType, r.PrincipalName, r.TokenRequesterPrincipalType, r.TokenRequesterPrincipalName,
			minutes(r.IssueTimestamp), minutes(r.ExpiryTimestamp), minutes(r.MaxTimestamp), r.TokenID != "", len(r.HMAC))
	}
	describe := func(user string, version int16, owners ...string) {
		req := &kmsg.DescribeDelegationTokenRequest{Version: version}
		if len(owners) > 0 {
			req.Owners = []kmsg.DescribeDelegationTokenRequestOwner{}
		}
		for _, o := range owners {
			if kind, of, ok := strings.Cut(o, ":"); ok {
				req.Owners = append(req.Owners, kmsg.DescribeDelegationTokenRequestOwner{PrincipalType: kind, PrincipalName: of})
			}
		}
		r := ask(user, req).(*kmsg.DescribeDelegationTokenResponse)
		var seen []string
		for _, d := range r.TokenDetails {
			name := "?"
			for n, h := range hmacs {
				if string(h) == string(d.HMAC) {
					name = n
				}
			}
			seen = append(seen, fmt.Sprintf("%s of %s:%s by %s:%s until %s, %v", name, d.PrincipalType, d.PrincipalName, d.TokenRequesterPrincipalType, d.TokenRequesterPrincipalName, minutes(d.ExpiryTimestamp), d.Renewers))
		}
		slices.Sort(seen)
		tell("%s sees with %v: %d %v", user, owners, r.ErrorCode, seen)
	}
	renew := func(name, user string, millis int64) {
		r := ask(user, &kmsg.RenewDelegationTokenRequest{Version: 2, HMAC: hmacs[name], RenewTimeMillis: millis}).(*kmsg.RenewDelegationTokenResponse)
		note(hmacs[name], r.ErrorCode, r.ExpiryTimestamp)
		tell("%s renews %s: %d %s", user, name, r.ErrorCode, minutes(r.ExpiryTimestamp))
	}
	expire := func(name, user string, millis int64) {
		r := ask(user, &kmsg.ExpireDelegationTokenRequest{Version: 2, HMAC: hmacs[name], ExpiryPeriodMillis: millis}).(*kmsg.ExpireDelegationTokenResponse)
		if note(hmacs[name], r.ErrorCode, r.ExpiryTimestamp); millis < 0 && r.ErrorCode == 0 {
			delete(expiries, string(hmacs[name]))
		}
		tell("%s ends %s: %d %s", user, name, r.ErrorCode, minutes(r.ExpiryTimestamp))
	}
	settle := func() { // Kafka's broker hears of it later than its controller
		t.Helper()
		if err := harness.Eventually(30*time.Second, func() error {
			seen := map[string]int64{}
			for _, d := range ask("admin", &kmsg.DescribeDelegationTokenRequest{Version: 3}).(*kmsg.DescribeDelegationTokenResponse).TokenDetails {
				seen[string(d.HMAC)] = d.ExpiryTimestamp
			}
			if !maps.Equal(seen, expiries) {
				return fmt.Errorf("%d tokens are shown, of %d", len(seen), len(expiries))
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	create("plain", "alice", 3, "", -1)
	create("short", "alice", 3, "", 600_000, "User:bob")
	create("long", "alice", 2, "", 1<<50)
	create("zero", "alice", 1, "", 0)
	create("renewed by a group", "alice", 3, "", -1, "Group:bob")
	create("for bob", "alice", 3, "User:bob", -1)
	create("for bob by admin", "admin", 3, "User:bob", -1, "User:carol")
	create("for herself", "alice", 3, "User:alice", -1)
	create("for nobody", "alice", 3, "User:", -1)
	settle()
	for _, user := range []string{"alice", "bob", "carol", "admin"} {
		describe(user, 3)
		describe(user, 3, "none")
		describe(user, 3, "User:alice")
		describe(user, 2, "User:bob", "User:nobody")
	}
	allow := func(kind kmsg.ACLResourceType, name, user string, operation kmsg.ACLOperation) {
		req := &kmsg.CreateACLsRequest{Version: 3, Creations: []kmsg.CreateACLsRequestCreation{{ResourceType: kind, ResourceName: name, ResourcePatternType: kmsg.ACLResourcePatternTypeLiteral, Principal: "User:" + user, Host: "*", Operation: operation, PermissionType: kmsg.ACLPermissionTypeAllow}}}
		if r := ask("admin", req).(*kmsg.CreateACLsResponse); r.Results[0].ErrorCode != 0 {
			t.Fatal(kerr.ErrorForCode(r.Results[0].ErrorCode))
		}
		if err := harness.Eventually(20*time.Second, func() error { // until the broker has it
			list := &kmsg.DescribeACLsRequest{Version: 3, ResourceType: kind, ResourceName: &name, ResourcePatternType: kmsg.ACLResourcePatternTypeLiteral, Operation: operation, PermissionType: kmsg.ACLPermissionTypeAllow}
			if r := ask("admin", list).(*kmsg.DescribeACLsResponse); len(r.Resources) == 0 {
				return fmt.Errorf("no rule for %s", name)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	allow(kmsg.ACLResourceTypeUser, "User:bob", "alice", kmsg.ACLOperationCreateTokens)
	create("for bob, by right", "alice", 3, "User:bob", -1)
	settle()
	describe("alice", 3, "User:bob")
	allow(kmsg.ACLResourceTypeUser, "User:alice", "carol", kmsg.ACLOperationDescribeTokens)
	describe("carol", 3)
	renew("plain", "alice", 1_800_000)
	renew("plain", "alice", -1)
	renew("plain", "alice", 1<<50)
	renew("plain", "bob", 1_800_000)
	renew("short", "bob", 60_000_000)
	renew("nobody's", "alice", 1)
	renew("for bob by admin", "carol", 1_200_000)
	renew("for bob, by right", "alice", 1_200_000)
	settle()
	expire("plain", "bob", -1)
	expire("plain", "alice", 600_000)
	expire("plain", "alice", 1<<50)
	expire("short", "bob", -1)
	settle()
	expire("short", "bob", -1)
	expire("zero", "alice", 0)
	settle()
	time.Sleep(10 * time.Millisecond)
	renew("zero", "alice", 1000)
	renew("zero", "bob", 1000)
	expire("zero", "alice", 1000)
	expire("zero", "alice", -1)
	settle()
	describe("alice", 3)
	return said
}

// TestDelegationTokens: tokens are made, seen, renewed and ended as Apache Kafka does it, by the same users.
func TestDelegationTokens(t *testing.T) {
	kraft, kafka := harness.NewKraft(t, overrides(tokenSettings)...), harness.NewKafka(t, tokenSettings...)
	ours, theirs := story(t, kraft.Addr), story(t, kafka.Addr)
	for i := range ours {
		if ours[i] != theirs[i] {
			t.Errorf("kraft: %s\nkafka: %s", ours[i], theirs[i])
		}
	}
	if strings.Contains(kraft.Output(), "a-secret-of-nodes") {
		t.Error("the log has the secret")
	}
}

// TestTokenLogins: who has a token is its owner, until it expires or is ended; not for making other tokens. Nobody gets in by a token's id alone.
func TestTokenLogins(t *testing.T) {
	k := harness.NewKraft(t, append(overrides(tokenSettings), "--log-level", "info")...)
	admin := plainConn(t, k.Addr, "admin")
	ask := func(req kmsg.Request) kmsg.Response {
		t.Helper()
		resp, err := exchangeOn(admin, req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	topics := &kmsg.CreateTopicsRequest{Version: 7, TimeoutMillis: 10_000}
	for _, name := range []string{"franz", "java"} {
		topics.Topics = append(topics.Topics, kmsg.CreateTopicsRequestTopic{Topic: name, NumPartitions: 1, ReplicationFactor: 1})
	}
	ask(topics)
	rights := &kmsg.CreateACLsRequest{Version: 3}
	for _, operation := range []kmsg.ACLOperation{kmsg.ACLOperationRead, kmsg.ACLOperationWrite} {
		rights.Creations = append(rights.Creations, kmsg.CreateACLsRequestCreation{ResourceType: kmsg.ACLResourceTypeTopic, ResourceName: "*", ResourcePatternType: kmsg.ACLResourcePatternTypeLiteral, Principal: "User:bob", Host: "*", Operation: operation, PermissionType: kmsg.ACLPermissionTypeAllow})
	}
	rights.Creations = append(rights.Creations, kmsg.CreateACLsRequestCreation{ResourceType: kmsg.ACLResourceTypeGroup, ResourceName: "*", ResourcePatternType: kmsg.ACLResourcePatternTypeLiteral, Principal: "User:bob", Host: "*", Operation: kmsg.ACLOperationRead, PermissionType: kmsg.ACLPermissionTypeAllow})
	ask(rights)
	user, bob := "User", "bob"
	token := ask(&kmsg.CreateDelegationTokenRequest{Version: 3, OwnerPrincipalType: &user, OwnerPrincipalName: &bob, MaxLifetimeMillis: -1}).(*kmsg.CreateDelegationTokenResponse)
	if token.ErrorCode != 0 {
		t.Fatal(kerr.ErrorForCode(token.ErrorCode))
	}
	password := base64.StdEncoding.EncodeToString(token.HMAC)
	try := func(auth scram.Auth, sha512 bool, do func(context.Context, *kgo.Client) error) error {
		mechanism := auth.AsSha256Mechanism()
		if sha512 {
			mechanism = auth.AsSha512Mechanism()
		}
		cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr), kgo.SASL(mechanism), kgo.DefaultProduceTopic("franz"), kgo.RecordRetries(1), kgo.RecordDeliveryTimeout(2*time.Second), kgo.DisableIdempotentWrite())
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return do(ctx, cl)
	}
	produce := func(ctx context.Context, cl *kgo.Client) error {
		return cl.ProduceSync(ctx, kgo.StringRecord("x")).FirstErr()
	}
	for _, sha512 := range []bool{false, true} {
		if err := try(scram.Auth{User: token.TokenID, Pass: password, IsToken: true}, sha512, produce); err != nil {
			t.Errorf("by the token: %v", err)
		}
		for name, auth := range map[string]scram.Auth{
			"not said to be a token": {User: token.TokenID, Pass: password}, "by the id alone": {User: token.TokenID, Pass: token.TokenID, IsToken: true},
			"of a token that there is not": {User: "nobody", Pass: password, IsToken: true}, "a user as a token": {User: "bob", Pass: "bob", IsToken: true},
		} {
			if err := try(auth, sha512, produce); err == nil {
				t.Errorf("%s: logged in", name)
			}
		}
	}
	err := try(scram.Auth{User: token.TokenID, Pass: password, IsToken: true}, false, func(ctx context.Context, cl *kgo.Client) error {
		resp, err := (&kmsg.CreateDelegationTokenRequest{MaxLifetimeMillis: -1}).RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	})
	if !errors.Is(err, kerr.DelegationTokenRequestNotAllowed) {
		t.Errorf("a token by a token: %v", err)
	}
	jars := harness.NeedKafka(t)
	file := filepath.Join(t.TempDir(), "client.properties")
	lines := []string{"security.protocol=SASL_PLAINTEXT", "sasl.mechanism=SCRAM-SHA-256",
		`sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="` + token.TokenID + `" password="` + password + `" tokenauth="true";`}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := harness.RunTool(t, jars, "hello\n", "org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", k.Addr, "--topic", "java", "--command-config", file, "--command-property", "enable.idempotence=false"); strings.Contains(out, "ERROR") {
		t.Error(out)
	}
	if out := harness.RunTool(t, jars, "", "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", k.Addr, "--topic", "java", "--command-config", file, "--from-beginning", "--max-messages", "1", "--timeout-ms", "10000"); !strings.Contains(out, "hello") {
		t.Errorf("what was read by a token: %s", out)
	}
	k.Restart(t) // the image keeps tokens
	if err := try(scram.Auth{User: token.TokenID, Pass: password, IsToken: true}, false, produce); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	admin = plainConn(t, k.Addr, "bob") // the owner; who asked for a token may not end it
	if r := ask(&kmsg.ExpireDelegationTokenRequest{Version: 2, HMAC: token.HMAC, ExpiryPeriodMillis: -1}).(*kmsg.ExpireDelegationTokenResponse); r.ErrorCode != 0 {
		t.Fatal(kerr.ErrorForCode(r.ErrorCode))
	}
	if err := harness.Eventually(5*time.Second, func() error {
		if err := try(scram.Auth{User: token.TokenID, Pass: password, IsToken: true}, false, produce); err == nil {
			return errors.New("a token that was ended lets somebody in")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if out := k.Output(); strings.Contains(out, password) || strings.Contains(out, "a-secret-of-nodes") {
		t.Error("the log has a secret")
	}
}

// TestTokenScript: kafka-delegation-tokens and Kafka's own do the same to the same tokens, and say the same.
func TestTokenScript(t *testing.T) {
	jars := harness.NeedKafka(t)
	kraft, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	k := harness.NewKraft(t, overrides(tokenSettings)...)
	file := filepath.Join(t.TempDir(), "alice.properties")
	lines := []string{"security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN", `sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="alice" password="alice";`}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	ids := regexp.MustCompile(`[A-Za-z0-9_-]{22} +[A-Za-z0-9+/]{86}==|tokenId : \S+|hmac :\S+`)
	run := func(own bool, args ...string) string {
		t.Helper()
		args = append([]string{"--bootstrap-server", k.Addr, "--command-config", file}, args...)
		cmd := harness.Tool(jars, "org.apache.kafka.tools.DelegationTokenCommand", args...)
		if own {
			cmd = exec.Command(kraft, append([]string{"kafka-delegation-tokens"}, args...)...)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := harness.Run(ctx, cmd)
		if err != nil {
			return fmt.Sprintf("false\n%s\n%v", out, err)
		}
		return "true\n" + out
	}
	masked := func(said string) string { return strings.TrimSpace(ids.ReplaceAllString(said, "...")) }
	for _, own := range []bool{true, false} { // who makes the token; the other one goes on with it
		made := run(own, "--create", "--max-life-time-period", "-1", "--renewer-principal", "User:bob", "--renewer-principal", "User:carol")
		if other := run(!own, "--create", "--max-life-time-period", "-1", "--renewer-principal", "User:bob", "--renewer-principal", "User:carol"); masked(made) != masked(other) {
			t.Errorf("made: %s\n%s", made, other)
		}
		hmac := regexp.MustCompile(`[A-Za-z0-9+/]{86}==`).FindString(made)
		for _, args := range [][]string{{"--describe", "--owner-principal", "User:alice"}, {"--describe", "--owner-principal", "User:bob", "--owner-principal", "User:x"}, {"--renew", "--renew-time-period", "-1", "--hmac", hmac}, {"--expire", "--expiry-time-period", "600000", "--hmac", hmac}} {
			if ours, theirs := run(own, args...), run(!own, args...); masked(ours) != masked(theirs) || !strings.HasPrefix(ours, "true") {
				t.Errorf("%v: %s\n%s", args, ours, theirs)
			}
		}
		if out := run(!own, "--expire", "--expiry-time-period", "-1", "--hmac", hmac); !strings.HasPrefix(out, "true") {
			t.Error(out)
		}
		if out := run(own, "--renew", "--renew-time-period", "-1", "--hmac", hmac); !strings.HasPrefix(out, "false") || !strings.Contains(out, "Delegation Token is not found") {
			t.Error(out)
		}
	}
	for _, args := range [][]string{{"--create"}, {"--create", "--describe"}, {"--renew", "--renew-time-period", "1", "--hmac", "?"}, {"--create", "--max-life-time-period", "x"}, {"--create", "--max-life-time-period", "1", "--renewer-principal", "bob"}} {
		if out := run(true, args...); !strings.HasPrefix(out, "false") || len(out) < 20 {
			t.Errorf("%v: %s", args, out)
		}
	}
}
