package security

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

// TestSecuredCluster: three nodes whose quorum knows its members by certificates and whose brokers log in to each other over TLS serve clients
// that do the same, and go on when one is killed. A stranger gets into neither the quorum nor a broker.
func TestSecuredCluster(t *testing.T) {
	for _, mechanism := range []string{"SCRAM-SHA-256", "PLAIN"} {
		t.Run(mechanism, func(t *testing.T) { securedCluster(t, mechanism) })
	}
}

func securedCluster(t *testing.T, mechanism string) {
	kraft, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(kraft, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	dir := t.TempDir()
	certs := filepath.Join(dir, "certs")
	b := &broker{certs: certs, addresses: map[string]string{}}
	run("certs", "client", "alice", "--dir", certs)
	ports := make([]int, 6)
	for i := range ports {
		if ports[i], err = freeport.Get(); err != nil {
			t.Fatal(err)
		}
	}
	var voters []string
	for id := 1; id <= 3; id++ {
		voters = append(voters, fmt.Sprintf("%d@localhost:%d", id, ports[id-1]))
		run("certs", "broker", fmt.Sprint("b", id), "--host", "localhost", "--dir", certs)
	}
	login, users := "org.apache.kafka.common.security.scram.ScramLoginModule", ""
	if mechanism == "PLAIN" {
		login, users = "org.apache.kafka.common.security.plain.PlainLoginModule", ` user_broker="of-brokers" user_alice="`+password+`"`
	}
	var nodes []*harness.Kraft
	var addresses []string
	for id := 1; id <= 3; id++ {
		address := fmt.Sprintf("localhost:%d", ports[id+2])
		addresses = append(addresses, address)
		file, data := filepath.Join(dir, fmt.Sprint(id, ".properties")), filepath.Join(dir, fmt.Sprint(id))
		if err := os.WriteFile(file, []byte(strings.Join([]string{
			fmt.Sprint("node.id=", id), "process.roles=broker,controller", "controller.quorum.voters=" + strings.Join(voters, ","), "controller.listener.names=CONTROLLER",
			fmt.Sprintf("listeners=BROKERS://%s,CONTROLLER://localhost:%d", address, ports[id-1]),
			"listener.security.protocol.map=BROKERS:SASL_SSL,CONTROLLER:SSL", "inter.broker.listener.name=BROKERS",
			"ssl.keystore.location=" + filepath.Join(certs, fmt.Sprint("b", id, ".pem")), "ssl.truststore.location=" + filepath.Join(certs, "ca.pem"), "listener.name.controller.ssl.client.auth=required",
			"sasl.enabled.mechanisms=" + mechanism, "sasl.mechanism.inter.broker.protocol=" + mechanism,
			"listener.name.brokers." + strings.ToLower(mechanism) + ".sasl.jaas.config=" + login + ` required username="broker" password="of-brokers"` + users + ";",
			"log.dirs=" + data, "min.insync.replicas=2", "connections.max.reauth.ms=2000", "offsets.topic.num.partitions=1",
			standardAuthorizer, "super.users=User:broker;User:CN=b1;User:CN=b2;User:CN=b3",
		}, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		if mechanism != "PLAIN" {
			run("kafka-storage", "format", "--config", file, "--cluster-id", "AAAAAAAAAAAAAAAAAAAAAg", "--add-scram", mechanism+"=[name=broker,password=of-brokers]", "--add-scram", mechanism+"=[name=alice,password="+password+"]")
		}
		n := harness.Node(address, data, "server", file)
		nodes = append(nodes, n)
		t.Cleanup(func() {
			n.Kill()
			if t.Failed() {
				t.Logf("node %s said:\n%s", file, n.Output())
			}
		})
		if err := n.Begin(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		if err := n.Ready(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	grantAlice(ctx, t, addresses, b, mechanism)
	cl, err := kgo.NewClient(kgo.SeedBrokers(addresses...), kgo.DialTLSConfig(b.trust(t, false)), kgo.SASL(mechanismOf(mechanism, "alice", password)), kgo.DefaultProduceTopic("orders"), kgo.ConsumeTopics("orders"), kgo.ConsumerGroup("g"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.CloseAllowingRebalance()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 3, 3, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	send := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if err := cl.ProduceSync(ctx, kgo.StringRecord(fmt.Sprint(i))).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(0, 100)
	nodes[0].Kill()
	send(100, 200)
	if err := nodes[0].Start(); err != nil {
		t.Fatal(err)
	}
	if err := harness.Eventually(30*time.Second, func() error {
		topics, err := kadm.NewClient(cl).ListTopics(ctx, "orders")
		if err != nil {
			return err
		}
		for _, p := range topics["orders"].Partitions {
			if len(p.ISR) != 3 {
				return fmt.Errorf("partition %d has the ISR %v", p.Partition, p.ISR)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	sent := 200
	for until := time.Now().Add(3 * time.Second); time.Now().Before(until); sent += 10 { // sessions between brokers end meanwhile
		send(sent, sent+10)
	}
	for seen := map[string]bool{}; len(seen) < sent; {
		f := cl.PollFetches(ctx)
		if err := f.Err0(); err != nil {
			t.Fatal(err)
		}
		f.EachRecord(func(r *kgo.Record) { seen[string(r.Value)] = true })
	}
	for _, withKey := range []bool{false, true} {
		stranger, err := kgo.NewClient(kgo.SeedBrokers(fmt.Sprintf("localhost:%d", ports[0])), kgo.DialTLSConfig(b.trust(t, withKey)), kgo.RequestRetries(0))
		if err != nil {
			t.Fatal(err)
		}
		if err := stranger.Ping(ctx); err == nil {
			t.Errorf("a client is served by the quorum's listener, with a client's certificate: %v", withKey)
		}
		stranger.Close()
	}
	for _, n := range nodes { // brokers open another connection before a session ends
		if strings.Contains(n.Output(), "expired") {
			t.Error("a session expired")
		}
	}
}

// grantAlice lets alice create and use the topic orders, and use the group g; before that she may not. It logs in as the brokers do.
func grantAlice(ctx context.Context, t *testing.T, addresses []string, b *broker, mechanism string) {
	t.Helper()
	as := func(user, password string) *kgo.Client {
		cl, err := kgo.NewClient(kgo.SeedBrokers(addresses...), kgo.DialTLSConfig(b.trust(t, false)), kgo.SASL(mechanismOf(mechanism, user, password)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return cl
	}
	alice := kadm.NewClient(as("alice", password))
	if r, err := alice.CreateTopic(ctx, 3, 3, nil, "orders"); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("alice makes a topic: %v %v", r, err)
	}
	rules := kadm.NewACLs().Allow("User:alice").AllowHosts("*").Topics("orders").Groups("g").ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpAll)
	results, err := kadm.NewClient(as("broker", "of-brokers")).CreateACLs(ctx, rules)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	if err := harness.Eventually(10*time.Second, func() error { // until the broker that she asks knows the rules
		_, err := alice.ListTopics(ctx, "orders")
		if err == nil {
			_, err = alice.CreateTopic(ctx, 3, 3, nil, "orders")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.DeleteTopic(ctx, "orders"); err != nil {
		t.Fatal(err)
	}
}
