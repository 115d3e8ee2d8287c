package security

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

// rollingStages are what docs/security.md says to change, a restart of each node after the other between them.
var rollingStages = [][]string{
	{"listeners=CLIENTS://$PLAIN,CONTROLLER://$CONTROLLER", "inter.broker.listener.name=CLIENTS"},
	{"listeners=CLIENTS://$PLAIN,SECURE://$SECURE,CONTROLLER://$CONTROLLER", "inter.broker.listener.name=CLIENTS"},
	{"listeners=CLIENTS://$PLAIN,SECURE://$SECURE,CONTROLLER://$CONTROLLER", "inter.broker.listener.name=SECURE"},
	{"listeners=SECURE://$SECURE,CONTROLLER://$CONTROLLER", "inter.broker.listener.name=SECURE"},
}

// TestRollingToSecure: a cluster goes from PLAINTEXT to SASL_SSL, node by node. Clients of the listener that is there before and after each stage see no
// error, and no record is lost or there twice.
func TestRollingToSecure(t *testing.T) {
	kraft, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b := &broker{certs: filepath.Join(dir, "certs"), addresses: map[string]string{}}
	var voters []string
	var plain, secure, controllers [3]string
	for i := range 3 {
		plain[i], secure[i], controllers[i] = fmt.Sprintf("localhost:%d", freeport.For(t)), fmt.Sprintf("localhost:%d", freeport.For(t)), fmt.Sprintf("localhost:%d", freeport.For(t))
		voters = append(voters, fmt.Sprintf("%d@%s", i+1, controllers[i]))
		if out, err := exec.Command(kraft, "certs", "broker", fmt.Sprint("b", i+1), "--host", "localhost", "--dir", b.certs).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	write := func(i, stage int) (file string) {
		t.Helper()
		file = filepath.Join(dir, fmt.Sprint(i, ".properties"))
		lines := append([]string{
			fmt.Sprint("node.id=", i+1), "process.roles=broker,controller", "controller.quorum.voters=" + strings.Join(voters, ","), "controller.listener.names=CONTROLLER",
			"listener.security.protocol.map=CLIENTS:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT", "sasl.enabled.mechanisms=SCRAM-SHA-512", "sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512",
			"ssl.keystore.location=" + filepath.Join(b.certs, fmt.Sprint("b", i+1, ".pem")), "ssl.truststore.location=" + filepath.Join(b.certs, "ca.pem"),
			`listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="broker" password="of-brokers";`,
			"log.dirs=" + filepath.Join(dir, fmt.Sprint("data", i)), "min.insync.replicas=2", "offsets.topic.num.partitions=1",
		}, rollingStages[stage]...)
		text := strings.NewReplacer("$PLAIN", plain[i], "$SECURE", secure[i], "$CONTROLLER", controllers[i]).Replace(strings.Join(lines, "\n"))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	var nodes []*harness.Kraft
	for i := range 3 {
		n := harness.Node(plain[i], "", "server", write(i, 0))
		nodes = append(nodes, n)
		t.Cleanup(func() {
			n.Kill()
			if t.Failed() {
				t.Logf("node %d said:\n%s", i+1, n.Output())
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
	for user, secret := range map[string]string{"broker": "of-brokers", "alice": password} {
		cmd := exec.Command(kraft, "user", "set", user, "-b", plain[0])
		cmd.Stdin = strings.NewReader(secret + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	opts := map[string][]kgo.Opt{
		"plain":  {kgo.SeedBrokers(plain[:]...)},
		"secure": {kgo.SeedBrokers(secure[:]...), kgo.DialTLSConfig(b.trust(t, false)), kgo.SASL(mechanismOf("SCRAM-SHA-512", "alice", password))},
	}
	client := func(name string, more ...kgo.Opt) *kgo.Client {
		t.Helper()
		cl, err := kgo.NewClient(append(append([]kgo.Opt{kgo.DefaultProduceTopic("orders")}, opts[name]...), more...)...)
		if err != nil {
			t.Fatal(err)
		}
		return cl
	}
	admin := client("plain")
	if _, err := kadm.NewClient(admin).CreateTopic(t.Context(), 3, 3, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	admin.Close()
	var records atomic.Int64 // that were acknowledged
	// more waits until all replicas are in sync, and the load has gone on.
	more := func(cl *kgo.Client) {
		t.Helper()
		wanted := records.Load() + 100
		if err := harness.Eventually(60*time.Second, func() error {
			if n := records.Load(); n < wanted {
				return fmt.Errorf("%d records, not %d", n, wanted)
			}
			return inSync(t.Context(), cl)
		}); err != nil {
			t.Fatal(err)
		}
	}
	for stage := 1; stage < len(rollingStages); stage++ {
		with := "plain"
		if stage == len(rollingStages)-1 {
			with = "secure"
		}
		cl := client(with)
		ctx, stop := context.WithCancel(t.Context())
		var load sync.WaitGroup
		load.Go(func() {
			for ctx.Err() == nil {
				if err := cl.ProduceSync(context.Background(), kgo.StringRecord(fmt.Sprint(records.Load()))).FirstErr(); err != nil {
					t.Errorf("stage %d, a client of the %s listener: record %d: %v", stage, with, records.Load(), err)
					return
				}
				records.Add(1)
			}
		})
		for i, n := range nodes {
			more(cl)
			write(i, stage)
			if err := n.Stop(20 * time.Second); err != nil {
				t.Fatalf("stage %d: node %d: %v", stage, i+1, err)
			}
			if err := n.Start(); err != nil {
				t.Fatalf("stage %d: node %d: %v", stage, i+1, err)
			}
		}
		more(cl)
		stop()
		load.Wait()
		cl.Close()
	}
	reader := client("secure", kgo.ConsumeTopics("orders"))
	defer reader.Close()
	sent := int(records.Load())
	seen := map[string]int{}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for n := 0; n < sent && ctx.Err() == nil; {
		reader.PollFetches(ctx).EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++; n++ })
	}
	for i := range sent {
		if seen[fmt.Sprint(i)] != 1 {
			t.Errorf("record %d is there %d times", i, seen[fmt.Sprint(i)])
		}
	}
	t.Logf("%d records", sent)
}

// inSync returns why not all replicas of the topic orders are in sync, or nil.
func inSync(ctx context.Context, cl *kgo.Client) error {
	topics, err := kadm.NewClient(cl).ListTopics(ctx, "orders")
	if err != nil {
		return err
	}
	if len(topics["orders"].Partitions) != 3 {
		return errors.New("the topic is not there")
	}
	for _, p := range topics["orders"].Partitions {
		if len(p.ISR) != 3 {
			return fmt.Errorf("partition %d has the ISR %v", p.Partition, p.ISR)
		}
	}
	return nil
}
