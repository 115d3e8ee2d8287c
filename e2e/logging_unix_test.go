//go:build unix

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kraft/e2e/harness"
)

// TestLog4jVariables: the levels that Kafka's images take from the environment count.
func TestLog4jVariables(t *testing.T) {
	t.Setenv("KAFKA_LOG4J_ROOT_LOGLEVEL", "WARN")
	t.Setenv("KAFKA_LOG4J_LOGGERS", "kafka.request.logger=DEBUG,kafka.controller=TRACE,state.change.logger=INFO")
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", "orders")
	levels := k.CLI(t, "", "broker", "log-level", "1")
	for _, want := range []string{"root                                                        WARN", "kafka.request.logger                                        DEBUG", "state.change.logger                                         INFO"} {
		if !strings.Contains(levels, want) {
			t.Errorf("no %q: %s", want, levels)
		}
	}
	if out := k.Output(); !strings.Contains(out, "request=CreateTopics") || !strings.Contains(out, "leads component=state-change") {
		t.Errorf("the log: %s", out)
	}
}

// TestLogFiles: a node's log is in Kafka's files, whose levels Kafka's tool changes while it runs, and which are opened again at
// SIGHUP.
func TestLogFiles(t *testing.T) {
	dir := t.TempDir()
	c := harness.NewCluster(t, 3, "--log-dir", dir) // all in the same files, which are appended to
	k := c.Nodes[0]
	wait := func(file, word string) {
		t.Helper()
		if err := harness.Eventually(10*time.Second, func() error {
			data, err := os.ReadFile(filepath.Join(dir, file))
			if err == nil && !strings.Contains(string(data), word) {
				err = fmt.Errorf("%s has no %q: %s", file, word, data)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	set := func(logger, level string) {
		t.Helper()
		k.CLI(t, "", "kafka-configs", "--bootstrap-server", k.Addr, "--entity-type", "broker-loggers", "--entity-name", "1", "--alter", "--add-config", logger+"="+level)
	}
	k.CLI(t, "", "topic", "create", "orders", "--partitions", "1", "--replication-factor", "3")
	wait("state-change.log", "leads component=state-change")
	wait("state-change.log", "follows component=state-change")
	k.CLI(t, "", "config", "set", "--topic", "orders", "retention.ms=3600000") // which changes nobody's role
	k.CLI(t, "", "topic", "create", "later", "--partitions", "1", "--replication-factor", "3")
	if err := harness.Eventually(10*time.Second, func() error {
		data, err := os.ReadFile(filepath.Join(dir, "state-change.log"))
		if n := strings.Count(string(data), "partition=later-0"); err == nil && n != 3 {
			err = fmt.Errorf("%d of three brokers tell of the later topic", n)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "state-change.log")); err != nil || strings.Count(string(data), "partition=orders-0") != 3 {
		t.Errorf("three brokers tell of orders once each, wanted: %s (%v)", data, err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "server.log")); err != nil || strings.Contains(string(data), "state-change") {
		t.Errorf("server.log has changes of state, too: %s (%v)", data, err)
	}

	if data, err := os.ReadFile(filepath.Join(dir, "kafka-request.log")); err != nil || len(data) > 0 {
		t.Errorf("requests are told before their level is set: %s (%v)", data, err)
	}
	set("kafka.request.logger", "DEBUG")
	k.CLI(t, "", "topic", "list")
	wait("kafka-request.log", "request=Metadata")
	set("kafka.request.logger", "INFO")

	old := filepath.Join(dir, "kafka-request.log")
	if err := os.Rename(old, old+".1"); err != nil {
		t.Fatal(err)
	}
	k.Signal(t, syscall.SIGHUP)
	if err := harness.Eventually(5*time.Second, func() error { _, err := os.Stat(old); return err }); err != nil {
		t.Fatal(err)
	}
	set("kafka.request.logger", "DEBUG")
	k.CLI(t, "", "topic", "list")
	wait("kafka-request.log", "request=Metadata")

	if err := c.Nodes[1].Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	wait("controller.log", "broker has stopped")
	wait("server.log", "broker has stopped")
}
