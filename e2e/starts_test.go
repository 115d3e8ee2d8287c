package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

// started starts a broker with more environment and returns it when it is ready, or the error that says why it is not.
func started(t *testing.T, env []string, args ...string) (*harness.Kraft, error) {
	t.Helper()
	for _, e := range env {
		key, value, _ := strings.Cut(e, "=")
		t.Setenv(key, value)
	}
	k := harness.Node("", "", args...)
	if err := k.Start(); err != nil {
		return k, err
	}
	t.Cleanup(func() {
		if err := k.Stop(10 * time.Second); err != nil {
			t.Error(err)
		}
	})
	return k, nil
}

func freeListener(t *testing.T) string {
	t.Helper()
	return "PLAINTEXT://" + freeAddress(t)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := freeport.Get()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("localhost:%d", port)
}

// TestStartsInKubernetes: what Kubernetes tells a pod of a Service named kafka is not taken for settings, and the data may be where the
// environment says.
func TestStartsInKubernetes(t *testing.T) {
	data := t.TempDir()
	k, err := started(t, []string{"KAFKA_PORT=tcp://10.0.0.7:9092", "KAFKA_SERVICE_HOST=10.0.0.7", "KAFKA_SERVICE_PORT=9092", "KAFKA_PORT_9092_TCP=tcp://10.0.0.7:9092", "KAFKA_PORT_9092_TCP_PROTO=tcp",
		"KAFKA_PORT_9092_TCP_PORT=9092", "KAFKA_PORT_9092_TCP_ADDR=10.0.0.7", "KAFKA_LOG_DIRS=" + data}, "--node-id", "4", "--listeners", freeListener(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(data, "meta.properties")); err != nil || strings.Contains(k.Output(), "KAFKA_") {
		t.Errorf("%v\n%s", err, k.Output())
	}
}

// TestStartsByMarkedFile: a byte order mark before the first key of a file is no part of the key.
func TestStartsByMarkedFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "server.properties")
	text := "node.id=7\nlisteners=" + freeListener(t) + "\nlog.dirs=" + filepath.Join(dir, "data") + "\n"
	if err := os.WriteFile(file, []byte("\xef\xbb\xbf"+text), 0o644); err != nil {
		t.Fatal(err)
	}
	k, err := started(t, nil, "server", file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(k.Output(), "node 7") {
		t.Errorf("not node 7:\n%s", k.Output())
	}
	var wide []byte
	for _, c := range []byte(text) {
		wide = append(wide, c, 0)
	}
	if err := os.WriteFile(file, append([]byte{0xff, 0xfe}, wide...), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := started(t, nil, "server", file); err == nil || !strings.Contains(err.Error(), "UTF-16: save it as UTF-8") {
		t.Errorf("%v", err)
	}
}

// TestStartsOnOthersData: a start does not begin an empty cluster among data that it does not know.
func TestStartsOnOthersData(t *testing.T) {
	t.Run("Apache Kafka's", func(t *testing.T) {
		kafka := harness.NewKafka(t)
		if err := kafka.Stop(30 * time.Second); err != nil {
			t.Fatal(err)
		}
		_, err := started(t, nil, "--node-id", "1", "--data", kafka.Data, "--listeners", freeListener(t))
		if err == nil || !strings.Contains(err.Error(), "holds the data of an Apache Kafka node") || !strings.Contains(err.Error(), "docs/operating.md") {
			t.Fatalf("%v", err)
		}
		if err := kafka.Start(); err != nil {
			t.Errorf("Apache Kafka does not start on its data any more: %v", err)
		}
	})
	t.Run("a cluster's whose metadata is gone", func(t *testing.T) {
		k, err := harness.StartKraft(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		k.CLI(t, "a\n", "produce", "t")
		if err := k.Stop(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(k.Data, "kraft-metadata.db")
		if err := os.Rename(file, file+".away"); err != nil {
			t.Fatal(err)
		}
		if _, err := started(t, nil, "--node-id", "1", "--data", k.Data, "--listeners", freeListener(t)); err == nil || !strings.Contains(err.Error(), "restore the file") {
			t.Fatalf("%v", err)
		}
		if err := os.Rename(file+".away", file); err != nil {
			t.Fatal(err)
		}
		if _, err := started(t, nil, "--node-id", "1", "--data", k.Data, "--listeners", freeListener(t)); err != nil {
			t.Error(err)
		}
	})
}

// TestBrokerEndsWhileAsked: a broker that ends in the middle of a request is not taken for one that wants SASL.
func TestBrokerEndsWhileAsked(t *testing.T) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 100))
			_ = c.Close()
		}
	}()
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"topic", "list", "-b", l.Addr().String()}, {"kafka-topics", "--list", "--bootstrap-server", l.Addr().String()}} {
		_, err := harness.Run(timeout(t, time.Minute), exec.Command(bin, args...))
		if err == nil || !strings.Contains(err.Error(), "it may be shutting down") || strings.Contains(err.Error(), "missing?") {
			t.Errorf("%v: %v", args, err)
		}
	}
}
