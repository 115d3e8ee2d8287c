package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"kraft/e2e/harness"
)

// run runs a program to its end and returns its stdout.
func run(t *testing.T, stdin string, cmd *exec.Cmd) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd.Stdin = strings.NewReader(stdin)
	out, err := harness.Run(ctx, cmd)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// input is n lines "key-i:value-i".
func input(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "key-%d:value-%d\n", i, i)
	}
	return b.String()
}

func sortedLines(s string) []string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	sort.Strings(lines)
	return lines
}

func checkLines(t *testing.T, got, want string) {
	t.Helper()
	g, w := sortedLines(got), sortedLines(want)
	if len(g) != len(w) {
		t.Fatalf("%d lines, want %d; the first: %q", len(g), len(w), g[0])
	}
	for i := range g {
		if g[i] != w[i] {
			t.Fatalf("line %q, want %q", g[i], w[i])
		}
	}
}

func TestKcat(t *testing.T) {
	harness.Need(t, "kcat")
	k := harness.NewKraft(t)
	kcat := func(stdin string, args ...string) string {
		return run(t, stdin, exec.Command("kcat", append([]string{"-b", k.Addr}, args...)...))
	}
	k.CLI(t, "", "topic", "create", topicName, "-p", strconv.Itoa(partitions))
	var meta struct {
		Brokers []struct{ Name string }
		Topics  []struct {
			Topic      string
			Partitions []struct{ Leader int }
		}
	}
	if err := json.Unmarshal([]byte(kcat("", "-L", "-J")), &meta); err != nil {
		t.Fatal(err)
	}
	if len(meta.Brokers) != 1 || meta.Brokers[0].Name != k.Addr || len(meta.Topics) != 1 || len(meta.Topics[0].Partitions) != partitions {
		t.Fatalf("metadata: %+v", meta)
	}
	const n = 2000
	want := ""
	for _, codec := range allCodecs {
		kcat(input(n), "-P", "-t", topicName, "-K", ":", "-z", codec, "-H", "codec="+codec)
		want += strings.ReplaceAll(input(n), "\n", ":codec="+codec+"\n")
	}
	checkLines(t, kcat("", "-C", "-t", topicName, "-o", "beginning", "-e", "-q", "-f", "%k:%s:%h\n"), want)
	total := 0
	for p := range partitions {
		out := kcat("", "-Q", "-t", fmt.Sprintf("%s:%d:-1", topicName, p))
		f := strings.Fields(out)
		end, err := strconv.Atoi(f[len(f)-1])
		if err != nil {
			t.Fatalf("-Q says %q", out)
		}
		total += end
	}
	if total != n*len(allCodecs) {
		t.Errorf("-Q counts %d records, %d were sent", total, n*len(allCodecs))
	}
	checkLines(t, kcat("", "-G", "kcat-group", "-c", strconv.Itoa(n*len(allCodecs)), "-q", "-X", "auto.offset.reset=earliest", "-f", "%k:%s:%h\n", topicName), want)
}

// TestKafkaTools runs Apache Kafka's topics tool, console producer and console consumer as people do.
func TestKafkaTools(t *testing.T) {
	jars := harness.NeedKafka(t)
	k := harness.NewKraft(t)
	tool := func(stdin, class string, args ...string) string {
		return harness.RunTool(t, jars, stdin, class, append([]string{"--bootstrap-server", k.Addr}, args...)...)
	}
	const topics = "org.apache.kafka.tools.TopicCommand"
	if out := tool("", topics, "--create", "--topic", topicName, "--partitions", "3", "--config", "retention.ms=3600000"); !strings.Contains(out, "Created topic "+topicName) {
		t.Fatalf("create: %s", out)
	}
	out := tool("", topics, "--describe", "--topic", topicName)
	if !strings.Contains(out, "PartitionCount: 3\tReplicationFactor: 1\tConfigs: min.insync.replicas=1,retention.ms=3600000") || strings.Count(out, "Leader: 1\tReplicas: 1\tIsr: 1") != 3 {
		t.Fatalf("describe: %s", out)
	}
	tool(input(500), "org.apache.kafka.tools.ConsoleProducer", "--topic", topicName,
		"--reader-property", "parse.key=true", "--reader-property", "key.separator=:", "--compression-codec", "zstd")
	got := tool("", "org.apache.kafka.tools.consumer.ConsoleConsumer", "--topic", topicName, "--from-beginning", "--max-messages", "500",
		"--group", "console", "--formatter-property", "print.key=true", "--formatter-property", "key.separator=:")
	checkLines(t, got, input(500))
	lag := harness.RunTool(t, jars, "", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--bootstrap-server", k.Addr, "--describe", "--group", "console")
	for _, line := range strings.Split(lag, "\n") {
		if f := strings.Fields(line); len(f) > 5 && f[0] == "console" && f[5] != "0" {
			t.Errorf("the group lags after reading everything: %s", line)
		}
	}
	if out := tool("", topics, "--alter", "--topic", topicName, "--partitions", "5"); out != "" {
		t.Errorf("alter: %s", out)
	}
	if out := tool("", topics, "--list", "--exclude-internal"); strings.TrimSpace(out) != topicName {
		t.Errorf("list: %q", out)
	}
	tool("", topics, "--delete", "--topic", topicName)
	if out := tool("", topics, "--list", "--exclude-internal"); strings.TrimSpace(out) != "" {
		t.Errorf("list after delete: %q", out)
	}
}

// TestJava08 is the oldest client: message format 0, no groups.
func TestJava08(t *testing.T) {
	harness.Need(t, "java", "mvn")
	jars := OldJars(t)
	k := harness.NewKraft(t)
	k.CLI(t, "", "topic", "create", topicName, "-p", strconv.Itoa(partitions))
	d := javaDriver(jars, "java-0.8", []string{"none", "gzip", "snappy"}, true)
	each := 3000
	for i, codec := range d.codecs {
		d.produce(t, k, codec, i*each, (i+1)*each)
	}
	check := func() {
		t.Helper()
		seen := map[string]int{}
		c := &consumer{d: d}
		committed := 0
		for _, line := range strings.Split(run(t, "", d.Command("read", k.Addr, topicName, strconv.Itoa(partitions), "old-group")), "\n") {
			c.take(t, line, seen)
			if f := strings.Fields(line); len(f) == 5 && f[0] == "committed" && f[3]+f[4] == "byold" {
				committed++
			}
		}
		if len(seen) != each*len(d.codecs) || committed != partitions {
			t.Fatalf("%d records and %d commits, want %d and %d", len(seen), committed, each*len(d.codecs), partitions)
		}
	}
	check()
	k.Restart(t)
	check()
	// What it wrote is there for a client of today, too.
	if got := k.CLI(t, "", "consume", topicName, "--from-beginning", "-n", strconv.Itoa(each*len(d.codecs))); len(sortedLines(got)) != each*len(d.codecs) {
		t.Fatalf("kraft consume reads %d records", len(sortedLines(got)))
	}
}
