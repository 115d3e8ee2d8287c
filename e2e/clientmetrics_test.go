package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
)

// TestClientMetrics: clients push what the cluster has subscribed to (KIP-714), and it can be scraped with who pushed it: of
// franz-go, and of Apache Kafka's own producer where there is a Java.
func TestClientMetrics(t *testing.T) {
	k, admin := startWithAdmin(t)
	k.CLI(t, "", "kafka-configs", "--bootstrap-server", k.Addr, "--entity-type", "client-metrics", "--entity-name", "all", "--alter",
		"--add-config", "interval.ms=100,metrics=org.apache.kafka.producer.,match=[client_id=pushing-.*]")
	pushes := func(t *testing.T, client string) {
		t.Helper()
		series := regexp.MustCompile(`(?m)^org_apache_kafka_producer_[a-z_]+\{[^}]*client_id="` + client + `"[^}]*\} [-+0-9.eNa]+$`)
		if err := harness.Eventually(30*time.Second, func() error {
			status, text := harness.Scrape(t, admin, "/metrics?dialect=clients")
			if found := series.FindString(text); status != 200 || !strings.Contains(found, `client_source_address="127.0.0.1"`) || !strings.Contains(found, `client_software_version="`) {
				return fmt.Errorf("status %d, nothing of %s: %s", status, client, text)
			}
			if strings.Contains(text, `client_id="silent"`) {
				return fmt.Errorf("a client that nothing is wanted of has pushed")
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		_, text := harness.Scrape(t, admin, "/metrics")
		if n := sample(text, "kraft_client_metrics_pushes_total"); n == "0" || n == "none" {
			t.Errorf("%s pushes are counted", n)
		}
	}
	t.Run("franz-go", func(t *testing.T) {
		for _, id := range []string{"pushing-go", "silent"} {
			cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr), kgo.ClientID(id), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("pushed"))
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			if err := cl.ProduceSync(context.Background(), kgo.StringRecord("x")).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		pushes(t, "pushing-go")
	})
	t.Run("java", func(t *testing.T) {
		jars := harness.NeedKafka(t)
		p := startTool(t, harness.Tool(jars, "org.apache.kafka.tools.ProducerPerformance", "--topic", "pushed", "--num-records", "1000000", "--record-size", "10", "--throughput", "100",
			"--command-property", "bootstrap.servers="+k.Addr, "client.id=pushing-java"))
		pushes(t, "pushing-java")
		p.Kill()
	})
}

func startTool(t *testing.T, cmd *exec.Cmd) *harness.Process {
	t.Helper()
	p, err := harness.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}
