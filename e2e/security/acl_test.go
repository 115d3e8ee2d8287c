package security

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
	"kraft/wire"
)

const standardAuthorizer = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer"

// TestACLCommands: what kraft acl grants, alice may do at once, and what it revokes she may not; kraft acl why, the log and a metric say why.
func TestACLCommands(t *testing.T) {
	admin := freeport.For(t)
	b := start(t, standardAuthorizer, "super.users=User:ANONYMOUS;User:root", "allow.everyone.if.no.acl.found=false", fmt.Sprintf("admin.listener=localhost:%d", admin))
	b.CLI(t, "", "topic", "create", "orders")
	alice := func(do func(context.Context, *kgo.Client) error) error {
		cl, err := kgo.NewClient(kgo.DisableIdempotentWrite(), kgo.SeedBrokers(b.addresses["SASL_PLAINTEXT"]), kgo.SASL(mechanismOf("SCRAM-SHA-256", "alice", password)), kgo.DefaultProduceTopic("orders"),
			kgo.ConsumeTopics("orders"), kgo.ConsumerGroup("billing"), kgo.MetadataMinAge(10*time.Millisecond), kgo.RecordRetries(2), kgo.UnknownTopicRetries(0))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.CloseAllowingRebalance()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return do(ctx, cl)
	}
	produce := func(ctx context.Context, cl *kgo.Client) error {
		return cl.ProduceSync(ctx, kgo.StringRecord("hello")).FirstErr()
	}
	consume := func(ctx context.Context, cl *kgo.Client) error {
		for {
			f := cl.PollFetches(ctx)
			if f.NumRecords() > 0 {
				return nil
			}
			if err := f.Err(); err != nil {
				return err
			}
		}
	}
	may := func(what string, do func(context.Context, *kgo.Client) error, want error) {
		t.Helper()
		if err := alice(do); fmt.Sprint(kerrOf(err)) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	says := func(want string, args ...string) {
		t.Helper()
		if got := b.CLI(t, "", append([]string{"acl"}, args...)...); got != want {
			t.Errorf("kraft acl %s says\n%swant\n%s", strings.Join(args, " "), got, want)
		}
	}
	may("no rule", produce, kerr.TopicAuthorizationFailed)
	says("User:alice may not Write topic orders: no rule allows it.\nTo allow it: kraft acl grant alice Write --topic orders\n", "why", "--principal", "alice", "--operation", "write", "--topic", "orders")
	says("User:alice may Write topics that begin with ord\n", "grant", "alice", "produce", "--topic", "ord*")
	may("a prefix", produce, nil)
	says("User:alice may Write topic orders: the rule says: User:alice may Write topics that begin with ord.\n", "why", "--principal", "User:alice", "--operation", "Write", "--topic", "orders")
	may("no group", consume, kerr.GroupAuthorizationFailed)
	says("User:alice may Read topic orders\nUser:alice may Read group billing\n", "grant", "alice", "consume", "--topic", "orders", "--group", "billing")
	may("a group", consume, nil)
	says("User:* may not Write topic orders from 10.0.0.0/8\n", "grant", "*", "write", "--topic", "orders", "--deny", "--host", "10.0.0.0/8")
	may("from elsewhere", produce, nil)
	says("User:alice may not Write topic orders: the rule says: User:* may not Write topic orders from 10.0.0.0/8.\n", "why", "--principal", "alice", "--operation", "Write", "--topic", "orders", "--host", "10.1.2.3")
	says("User:root may Alter the cluster: User:root is one of super.users of broker 1.\n", "why", "--principal", "root", "--operation", "Alter", "--cluster")
	says(strings.Join([]string{
		"PRINCIPAL   MAY  OPERATION  RESOURCE  NAME    HOST",
		"User:alice  yes  Write      topic     ord*    *",
		"User:*      no   Write      topic     orders  10.0.0.0/8",
		"User:alice  yes  Read       topic     orders  *", "",
	}, "\n"), "list", "--topic", "orders")
	says("no longer: User:* may not Write topic orders from 10.0.0.0/8\n", "revoke", "*", "write", "--topic", "orders", "--deny", "--host", "10.0.0.0/8")
	says("no longer: User:alice may Write topics that begin with ord\n", "revoke", "alice", "produce", "--topic", "ord*")
	may("revoked", produce, kerr.TopicAuthorizationFailed)
	for _, want := range []string{`name=orders operation=Write`, `principal=User:alice`, `rule="no rule allows it"`, "request=", "resource=topic"} {
		if !strings.Contains(b.Output(), want) {
			t.Errorf("the log has no %s", want)
		}
	}
	_, metrics := harness.Scrape(t, fmt.Sprintf("localhost:%d", admin), "/metrics")
	if !strings.Contains(metrics, `kraft_authorization_denied_total{operation="Write",resource="topic"}`) {
		t.Error("no metric of denials")
	}
	for _, args := range [][]string{
		{"grant", "alice"}, {"grant", "alice", "eat", "--topic", "x"}, {"grant", "alice", "consume"}, {"grant", "alice", "write", "--group", "g"}, {"revoke", "alice", "--all", "--topic", "x"},
		{"why", "--principal", "a", "--operation", "read"}, {"why", "--principal", "a", "--operation", "read", "--topic", "x", "--host", "here"},
		{"why", "--principal", "a", "--operation", "read", "--topic", "x", "--topic", "y"}, {"why", "--principal", "a", "--operation", "read", "--topic", "x*"},
	} {
		if out, err := b.TryCLI(t, "", append([]string{"acl"}, args...)...); err == nil || strings.Count(out+err.Error(), "\n") > 2 {
			t.Errorf("kraft acl %s: %v %s", strings.Join(args, " "), err, out)
		}
	}
}

// TestAudit: a node whose file says authorizer.mode=audit lets everything through and logs what it would deny, one right of several, too. The setting
// ends that while it runs; it does not begin it.
func TestAudit(t *testing.T) {
	b := start(t, standardAuthorizer, "super.users=User:ANONYMOUS", "authorizer.mode=audit")
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.addresses["SASL_PLAINTEXT"]), kgo.SASL(mechanismOf("SCRAM-SHA-256", "alice", password)))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	create := func(topic string) error {
		_, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, nil, topic)
		return err
	}
	if err := create("audited"); err != nil {
		t.Error(err)
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "audited"}).FirstErr(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"would be denied: authorizer.mode is audit", "name=audited operation=Create", "name=kafka-cluster operation=IdempotentWrite", "name=audited operation=Write"} {
		if !strings.Contains(b.Output(), want) {
			t.Errorf("the log has no %s", want)
		}
	}
	if out := b.CLI(t, "", "acl", "why", "--principal", "alice", "--operation", "write", "--topic", "audited"); !strings.Contains(out, "may not Write topic audited: no rule allows it.\nTo allow it") || !strings.Contains(out, "authorizer.mode is audit: it is let through, and logged.") {
		t.Error(out)
	}
	b.CLI(t, "", "config", "set", "authorizer.mode=enforce", "--all-brokers")
	if err := create("refused"); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Error(err)
	}
	if _, err := b.TryCLI(t, "", "config", "set", "authorizer.mode=audit", "--all-brokers"); err == nil || !strings.Contains(err.Error(), "in a node's server.properties only") {
		t.Errorf("audit by a setting: %v", err)
	}
}

// TestAllowEveryone: where allow.everyone.if.no.acl.found is set, what no rule is about is free.
func TestAllowEveryone(t *testing.T) {
	b := start(t, standardAuthorizer, "super.users=User:ANONYMOUS", "allow.everyone.if.no.acl.found=true")
	b.CLI(t, "", "topic", "create", "free")
	b.CLI(t, "", "topic", "create", "ruled")
	b.CLI(t, "", "acl", "grant", "bob", "read", "--topic", "ruled")
	for topic, want := range map[string]error{"free": nil, "ruled": kerr.TopicAuthorizationFailed} {
		cl, err := kgo.NewClient(kgo.SeedBrokers(b.addresses["SASL_PLAINTEXT"]), kgo.SASL(mechanismOf("SCRAM-SHA-256", "alice", password)), kgo.RecordRetries(2), kgo.UnknownTopicRetries(0))
		if err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic}).FirstErr(); !errors.Is(err, want) {
			t.Errorf("%s: %v", topic, err)
		}
		cl.Close()
	}
	if out := b.CLI(t, "", "acl", "why", "--principal", "alice", "--operation", "write", "--topic", "free"); !strings.Contains(out, "may Write topic free: no rule is about this topic, and allow.everyone.if.no.acl.found is true") {
		t.Error(out)
	}
}

// kerrOf is the protocol's error in err, if there is one.
func kerrOf(err error) error {
	for _, k := range []*kerr.Error{kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed} {
		if err != nil && strings.Contains(err.Error(), k.Message) {
			return k
		}
	}
	return err
}

// TestNoAuthorizer: without an authorizer kraft acl says so.
func TestNoAuthorizer(t *testing.T) {
	k := harness.NewKraft(t)
	for _, args := range [][]string{{"list"}, {"grant", "alice", "admin"}, {"revoke", "alice", "admin"}} {
		if _, err := k.TryCLI(t, "", append([]string{"acl"}, args...)...); err == nil || !strings.Contains(err.Error(), "no access control lists, so everybody may do everything") {
			t.Errorf("kraft acl %v: %v", args, err)
		}
	}
	if out := k.CLI(t, "", "acl", "why", "--principal", "a", "--operation", "read", "--topic", "x"); !strings.Contains(out, "User:a may Read topic x: authorizer.class.name is not set") {
		t.Error(out)
	}
}

// TestStrangersAtTheQuorum: who is not allowed ClusterAction is no broker and no member of the quorum, whatever it says of itself: what it puts into
// an Envelope in the name of a super user is not done.
func TestStrangersAtTheQuorum(t *testing.T) {
	quorum := fmt.Sprintf("127.0.0.1:%d", freeport.For(t))
	k := harness.NewKraft(t, "--override", standardAuthorizer, "--override", "super.users=User:root", "--override", "process.roles=broker,controller", "--override", "controller.listener.names=CONTROLLER",
		"--override", fmt.Sprintf("listeners=PLAINTEXT://127.0.0.1:%d,CONTROLLER://%s", freeport.For(t), quorum), "--override", "controller.quorum.voters=1@"+quorum)
	client := wire.NewClient(func(ctx context.Context, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}, quorum, "stranger")
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ask := func(req kmsg.Request) kmsg.Response {
		t.Helper()
		resp, err := client.Do(ctx, req)
		if err != nil {
			t.Fatalf("%T: %v", req, err)
		}
		return resp
	}
	create := kmsg.NewPtrCreateTopicsRequest()
	create.Version = 7
	create.Topics = []kmsg.CreateTopicsRequestTopic{{Topic: "forged", NumPartitions: 1, ReplicationFactor: 1}}
	envelope := kmsg.NewPtrEnvelopeRequest()
	envelope.RequestData = kmsg.NewRequestFormatter().AppendRequest(nil, create, 1)[4:]
	envelope.RequestPrincipal = (&kmsg.DefaultPrincipalData{Type: "User", Name: "root"}).AppendTo(nil)
	envelope.ClientHostAddress = []byte{127, 0, 0, 1}
	denied := kerr.ClusterAuthorizationFailed.Code
	if r := ask(envelope).(*kmsg.EnvelopeResponse); r.ErrorCode != denied {
		t.Errorf("a forged Envelope: %v", kerr.ErrorForCode(r.ErrorCode))
	}
	register := &kmsg.BrokerRegistrationRequest{Version: 1, BrokerID: 9, ClusterID: "x", Listeners: []kmsg.BrokerRegistrationRequestListener{{Name: "PLAINTEXT", Host: "h", Port: 1}}}
	if r := ask(register).(*kmsg.BrokerRegistrationResponse); r.ErrorCode != denied {
		t.Errorf("a broker of a stranger: %v", kerr.ErrorForCode(r.ErrorCode))
	}
	if r := ask(&kmsg.BrokerHeartbeatRequest{Version: 1, BrokerID: 1, WantShutdown: true}).(*kmsg.BrokerHeartbeatResponse); r.ErrorCode != denied {
		t.Errorf("a heartbeat of a stranger: %v", kerr.ErrorForCode(r.ErrorCode))
	}
	if r := ask(&kmsg.AlterPartitionRequest{Version: 3, BrokerID: 1}).(*kmsg.AlterPartitionResponse); r.ErrorCode != denied {
		t.Errorf("an ISR of a stranger: %v", kerr.ErrorForCode(r.ErrorCode))
	}
	if r := ask(&kmsg.AllocateProducerIDsRequest{BrokerID: 1}).(*kmsg.AllocateProducerIDsResponse); r.ErrorCode != denied {
		t.Errorf("producer ids for a stranger: %v", kerr.ErrorForCode(r.ErrorCode))
	}
	if r := ask(&kmsg.DescribeClusterRequest{Version: 1, EndpointType: 2}).(*kmsg.DescribeClusterResponse); r.ErrorCode != denied {
		t.Errorf("the quorum's members for a stranger: %v", kerr.ErrorForCode(r.ErrorCode))
	}
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	member := exec.Command(bin, "--node-id", "2", "--data", t.TempDir(), "--join", quorum, "--override", fmt.Sprintf("listeners=PLAINTEXT://127.0.0.1:%d", freeport.For(t)))
	p, err := harness.Start(member)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	if err := harness.Says(k, `request="stream of a member of the quorum"`, 20*time.Second); err != nil {
		t.Error(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if brokers, err := kadm.NewClient(cl).ListBrokers(t.Context()); err != nil || len(brokers) != 1 {
		t.Errorf("brokers: %v %v", brokers, err)
	}
}
