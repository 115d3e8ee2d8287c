package harness

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kraft/internal/freeport"
)

//go:embed kafka/pom.xml
var kafkaPOM []byte

//go:embed kafka/log4j2.properties
var kafkaLogging []byte

// KafkaJars fetches Apache Kafka 4.4.0 from Maven Central, once, and returns the directory of its jars.
func KafkaJars() (string, error) {
	return Cached("apache-kafka", append(append([]byte{}, kafkaPOM...), kafkaLogging...), func(dir string) error {
		pom := filepath.Join(dir, "pom.xml")
		if err := os.WriteFile(pom, kafkaPOM, 0o644); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "log4j2.properties"), kafkaLogging, 0o644); err != nil {
			return err
		}
		return MavenJars(pom, dir)
	})
}

// MavenJars copies the dependencies of a pom into dir.
func MavenJars(pom, dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	_, err := Run(ctx, exec.Command("mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", "-DoutputDirectory="+dir))
	return err
}

// NeedKafka skips the test where Java and Maven are missing, and returns the jars' directory.
func NeedKafka(t testing.TB) string {
	t.Helper()
	Need(t, "java", "mvn")
	jars, err := KafkaJars()
	if err != nil {
		t.Fatal(err)
	}
	return jars
}

func java(jars, heap, level string, args ...string) *exec.Cmd {
	return exec.Command("java", append([]string{
		"-Xms" + heap, "-Xmx" + heap, "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
		"-cp", jars + "/*", "-Dlog4j2.configurationFile=" + jars + "/log4j2.properties", "-Dkafka.loglevel=" + level,
	}, args...)...)
}

// Tool makes the command that runs one of Apache Kafka's tools, by its class name, e.g.
// org.apache.kafka.tools.TopicCommand.
func Tool(jars, class string, args ...string) *exec.Cmd {
	return java(jars, "256M", "warn", append([]string{class}, args...)...)
}

// RunTool runs a tool in a test and returns its stdout.
func RunTool(t testing.TB, jars, stdin, class string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := Tool(jars, class, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := Run(ctx, cmd)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Kafka is one Apache Kafka node, broker and controller at once.
type Kafka struct {
	*Process
	Addr string
	Data string
	jars string
	conf string
}

// StartKafka formats a directory and starts a node in it; extra are more lines of its configuration.
func StartKafka(jars, dir string, extra ...string) (*Kafka, error) {
	nodes, err := StartKafkaCluster(jars, dir, 1, extra...)
	if err != nil {
		return nil, err
	}
	return nodes[0], nil
}

// StartKafkaCluster starts n nodes, each broker and controller, in directories below dir.
func StartKafkaCluster(jars, dir string, n int, extra ...string) ([]*Kafka, error) {
	ports := make([]int, 2*n)
	var voters []string
	for i := range ports {
		var err error
		if ports[i], err = freeport.Get(); err != nil {
			return nil, err
		}
		if i < n {
			voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", i+1, ports[i]))
		}
	}
	nodes := make([]*Kafka, n)
	failures := make(chan error, n)
	for i := range n {
		at := dir
		if n > 1 {
			at = filepath.Join(dir, fmt.Sprint(i+1))
		}
		go func() {
			var err error
			nodes[i], err = startKafkaNode(jars, at, i+1, strings.Join(voters, ","), ports[i], ports[n+i], min(n, 3), extra)
			failures <- err
		}()
	}
	var failed error
	for range n {
		failed = errors.Join(failed, <-failures)
	}
	if failed != nil {
		for _, k := range nodes {
			if k != nil && k.Process != nil {
				k.Kill()
			}
		}
	}
	return nodes, failed
}

func startKafkaNode(jars, dir string, id int, voters string, controller, port, factor int, extra []string) (*Kafka, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	k := &Kafka{Addr: fmt.Sprintf("127.0.0.1:%d", port), Data: filepath.Join(dir, "data"), jars: jars, conf: filepath.Join(dir, "server.properties")}
	lines := append([]string{
		"process.roles=broker,controller", fmt.Sprintf("node.id=%d", id), "controller.quorum.voters=" + voters,
		fmt.Sprintf("listeners=PLAINTEXT://%s,CONTROLLER://127.0.0.1:%d", k.Addr, controller),
		"advertised.listeners=PLAINTEXT://" + k.Addr, "controller.listener.names=CONTROLLER",
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT", "log.dirs=" + k.Data,
		fmt.Sprintf("offsets.topic.replication.factor=%d", factor), fmt.Sprintf("transaction.state.log.replication.factor=%d", factor), "transaction.state.log.min.isr=1",
		fmt.Sprintf("share.coordinator.state.topic.replication.factor=%d", factor), "share.coordinator.state.topic.min.isr=1",
		"group.initial.rebalance.delay.ms=0",
	}, extra...)
	if err := os.WriteFile(k.conf, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := Run(ctx, java(jars, "256M", "error", "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", k.conf)); err != nil {
		return nil, err
	}
	return k, k.Start()
}

// Start starts the node again after Stop.
func (k *Kafka) Start() error {
	p, err := Start(java(k.jars, "1G", "info", "kafka.Kafka", k.conf))
	if err != nil {
		return err
	}
	k.Process = p
	if err := Eventually(time.Minute, func() error {
		select {
		case <-p.Done():
			return fmt.Errorf("apache kafka ended: %s", p.Output())
		default:
		}
		if !strings.Contains(p.Output(), "Kafka Server started") {
			return errNotReady
		}
		return nil
	}); err != nil {
		p.Kill()
		return err
	}
	return nil
}

// Stop asks the node to end; Java then exits with 143, which is no fault.
func (k *Kafka) Stop(timeout time.Duration) error {
	err := k.Process.Stop(timeout)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 143 {
		return nil
	}
	return err
}

// NewKafka is StartKafka for a test.
func NewKafka(t testing.TB, extra ...string) *Kafka {
	t.Helper()
	k, err := StartKafka(NeedKafka(t), t.TempDir(), extra...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-k.Done():
		default:
			k.Kill()
		}
	})
	return k
}
