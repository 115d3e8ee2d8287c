// Package tools runs Apache Kafka's own tools against kraft and against Apache Kafka, and holds what they print against each
// other.
package tools

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"kraft/cli/scripts"
	"kraft/e2e/harness"
)

// classes of the tools, by the names of their scripts.
var classes = map[string]string{
	"topics":               "org.apache.kafka.tools.TopicCommand",
	"console-producer":     "org.apache.kafka.tools.ConsoleProducer",
	"console-consumer":     "org.apache.kafka.tools.consumer.ConsoleConsumer",
	"consumer-groups":      "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
	"groups":               "org.apache.kafka.tools.GroupsCommand",
	"acls":                 "org.apache.kafka.tools.AclCommand",
	"configs":              "org.apache.kafka.tools.ConfigCommand",
	"reassign-partitions":  "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
	"leader-election":      "org.apache.kafka.tools.LeaderElectionCommand",
	"log-dirs":             "org.apache.kafka.tools.LogDirsCommand",
	"dump-log":             "org.apache.kafka.tools.DumpLogSegments",
	"metadata-quorum":      "org.apache.kafka.tools.MetadataQuorumCommand",
	"features":             "org.apache.kafka.tools.FeatureCommand",
	"delete-records":       "org.apache.kafka.tools.DeleteRecordsCommand",
	"get-offsets":          "org.apache.kafka.tools.GetOffsetShell",
	"broker-api-versions":  "org.apache.kafka.tools.BrokerApiVersionsCommand",
	"client-metrics":       "org.apache.kafka.tools.ClientMetricsCommand",
	"cluster":              "org.apache.kafka.tools.ClusterTool",
	"producer-perf-test":   "org.apache.kafka.tools.ProducerPerformance",
	"consumer-perf-test":   "org.apache.kafka.tools.ConsumerPerformance",
	"transactions":         "org.apache.kafka.tools.TransactionsCommand",
	"verifiable-producer":  "org.apache.kafka.tools.VerifiableProducer",
	"verifiable-consumer":  "org.apache.kafka.tools.VerifiableConsumer",
	"replica-verification": "org.apache.kafka.tools.ReplicaVerificationTool",

	"streams-application-reset": "org.apache.kafka.tools.StreamsResetter",
}

// ownProcess are tools that end their work as their process ends.
var ownProcess = map[string]bool{"verifiable-producer": true}

// jvm is a process that runs tools.
type jvm struct {
	jars string
	in   io.WriteCloser
	out  *bufio.Reader
}

func newJVM(t *testing.T, jars string) *jvm {
	t.Helper()
	cmd := exec.Command("java", "-Xmx512M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", jars+"/*", "-Dlog4j2.configurationFile="+jars+"/log4j2.properties", "-Dkafka.loglevel=off", "Tools.java")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &jvm{jars, in, bufio.NewReaderSize(out, 1<<20)}
}

// result is what a tool has said.
type result struct{ status, out, err string }

func (r result) String() string {
	return fmt.Sprintf("status %s\n%s%s", r.status, r.out, strings.ReplaceAll(r.err, "\n", "\n! "))
}

// sorted is the result without the order of its lines, which is that of Java's hash maps.
func (r result) sorted() result {
	lines := strings.Split(r.out, "\n")
	slices.Sort(lines)
	r.out = strings.Join(lines, "\n")
	return r
}

// said is what a tool prints for people and programs: not to stderr, and not where in its sources it failed.
func (r result) said() result {
	var lines []string
	for line := range strings.SplitSeq(r.out, "\n") {
		if !strings.HasPrefix(line, "java.") && !strings.HasPrefix(line, "Caused by: ") && !strings.HasPrefix(line, "The consumer rebalance protocol (KIP-848)") {
			lines = append(lines, line)
		}
	}
	r.out, r.err = strings.TrimSpace(strings.Join(lines, "\n")), ""
	return r
}

// agrees compares results, without what goes to stderr for scripts of kraft.
func (r result) agrees(other result, script bool) bool {
	if script {
		r, other = r.said(), other.said()
	}
	return r == other
}

func (j *jvm) run(class, input string, args []string) (r result, err error) {
	line := []string{class, input}
	for i, a := range append(line, args...) {
		if i < 2 {
			line[i] = encode(a)
		} else {
			line = append(line, encode(a))
		}
	}
	if _, err := fmt.Fprintln(j.in, strings.Join(line, " ")); err != nil {
		return r, err
	}
	answer, err := j.out.ReadString('\n')
	if err != nil {
		return r, err
	}
	f := strings.Fields(answer)
	r.status = f[0]
	if r.out, err = decode(f[1]); err == nil {
		r.err, err = decode(f[2])
	}
	return r, err
}

func encode(s string) string { return "=" + base64.StdEncoding.EncodeToString([]byte(s)) }

func decode(s string) (string, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, "="))
	return string(b), err
}

// command is one line of commands.txt: "tool arguments", with input behind "<<", and behind "!!" why kraft says something else.
type command struct {
	text, tool, input, differs string
	args                       []string
}

func readCommands(t *testing.T, file string) (list []command) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		c := command{text: line}
		line, c.differs, _ = strings.Cut(line, " !! ")
		line, c.input, _ = strings.Cut(line, " << ")
		c.input = strings.ReplaceAll(c.input, `\n`, "\n")
		f := words(line)
		c.tool, c.args = f[0], f[1:]
		if classes[c.tool] == "" {
			t.Fatalf("no tool %s", c.tool)
		}
		list = append(list, c)
	}
	return list
}

// words splits at blanks outside of single quotes.
func words(line string) (out []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out[len(out)-1] += part
			continue
		}
		f := strings.Split(part, " ")
		if i > 0 {
			out[len(out)-1] += f[0]
			f = f[1:]
		}
		out = append(out, f...)
	}
	kept := out[:0]
	for _, w := range out {
		if w != "" {
			kept = append(kept, w)
		}
	}
	return kept
}

// target is a cluster that tools are run against.
type target struct {
	jvm                  *jvm
	address, data, files string
	scripts              map[string]bool // tools that kraft has itself, and that are run in place of Kafka's
}

// run runs a command, with $B for the address, $D for the data directory, and $T for a directory with files.
func (g *target) run(c command) (r result, err error) {
	fill := strings.NewReplacer("$B", g.address, "$D", g.data, "$T", g.files)
	var args []string
	for _, a := range c.args {
		args = append(args, fill.Replace(a))
	}
	switch {
	case g.scripts[c.tool]:
		r, err = runScript(c, args)
	case ownProcess[c.tool]:
		r, err = runCommand(harness.Tool(g.jvm.jars, classes[c.tool], args...), c.input)
	default:
		r, err = g.jvm.run(classes[c.tool], c.input, args)
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", c.text, err)
	}
	r.out, r.err = g.mask(r.out), g.mask(r.err)
	return r, nil
}

// runScript runs kraft's own script of a tool's name.
func runScript(c command, args []string) (r result, err error) {
	bin, err := harness.Binary()
	if err != nil {
		return r, err
	}
	return runCommand(exec.Command(bin, append([]string{"kafka-" + c.tool}, args...)...), c.input)
}

func runCommand(cmd *exec.Cmd, input string) (r result, err error) {
	var out, errOut strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errOut
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		return r, err
	}
	r.status, r.out, r.err = fmt.Sprint(cmd.ProcessState.ExitCode()), out.String(), errOut.String()
	return r, nil
}

// reads says that a command changes nothing: what a change before it has done may be seen a moment later.
func (c command) reads() bool {
	return !slices.ContainsFunc(c.args, func(a string) bool {
		return slices.Contains([]string{"--alter", "--create", "--delete", "--execute", "--reset-offsets", "--delete-offsets", "--cancel", "--group", "--add", "--remove", "unregister", "upgrade", "downgrade"}, a)
	}) && c.input == "" && c.tool != "console-consumer" || slices.Contains(c.args, "--describe")
}

// patience is how long two clusters may show the same after a change.
const patience = 10 * time.Second

// both runs a command against both clusters, one that reads again until they agree.
func both(t *testing.T, c command, kafka, kraft *target) (want, got result) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		var failed error
		done := make(chan struct{})
		go func() {
			defer close(done)
			want, failed = kafka.run(c)
		}()
		var err error
		got, err = kraft.run(c)
		<-done
		if err := errors.Join(err, failed); err != nil {
			t.Fatal(err)
		}
		if want.sorted().agrees(got.sorted(), kraft.scripts[c.tool]) || c.differs != "" || !c.reads() || time.Now().After(end) {
			return want, got
		}
	}
}

var masks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[,.:]\d+`), "TIME"},
	{regexp.MustCompile(`\b1[6-9]\d{11}\b`), "TIME"},
	{regexp.MustCompile(`[A-Za-z0-9_-]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`(?m)^\d+([ \t]+\d+[ \t]+-1[ \t])`), "N$1"}, // a producer's id
	{regexp.MustCompile(`[\d.]+( records/sec| MB/sec| ms )`), "N$1"},
	{regexp.MustCompile(`(?m)^(TIME, TIME(, [\d.-]+){2}, )(\d+)(, [\d.∞-]+){5}$`), "TIME, TIME, $3 records"},
	{regexp.MustCompile(`\b(crc|producerId): \d+`), "$1: N"},
	{regexp.MustCompile(`"(avg_throughput|target_throughput)":[-\d.E]+`), `"$1":N`},
	{regexp.MustCompile(`(?m)^(\tat |\t*\.\.\. \d+ more).*\n`), ""},
	{regexp.MustCompile(`(?m)[ \t]+$`), ""},
	{regexp.MustCompile(`(?m)^ \t`), "\t"}, // the first of Kafka's "Adding ACLs"
	{regexp.MustCompile(` {2,}`), " "},
}

var (
	uuid    = regexp.MustCompile(`\b[A-Za-z0-9_-]{22}\b`)
	capital = regexp.MustCompile(`[A-Z]`)
)

func (g *target) mask(s string) string {
	_, port, _ := strings.Cut(g.address, ":")
	s = strings.NewReplacer(g.data, "DATA", port, "PORT", "localhost", "HOST", "127.0.0.1", "HOST").Replace(s)
	s = regexp.MustCompile(`console-consumer-\d+`).ReplaceAllString(s, "console-consumer-N")
	s = uuid.ReplaceAllStringFunc(s, func(word string) string {
		if strings.ContainsAny(word, "0123456789-_") || len(capital.FindAllString(word, -1)) > 5 {
			return "ID"
		}
		return word // a class, say
	})
	for _, m := range masks {
		s = m.pattern.ReplaceAllString(s, m.with)
	}
	return s
}

// TestTools runs each tool with the options that people use, against Apache Kafka and against kraft with the same settings.
func TestTools(t *testing.T) { compare(t, nil) }

// TestScripts is TestTools with kraft's own scripts where there are some: in the end they print what Apache Kafka's do.
func TestScripts(t *testing.T) {
	own := map[string]bool{}
	for _, name := range scripts.Names() {
		own[strings.TrimPrefix(name, "kafka-")] = true
	}
	compare(t, own)
}

// TestScriptsOnCluster: what needs kraft's own answers, or a cluster, is printed of kraft as Kafka's tools print it.
func TestScriptsOnCluster(t *testing.T) {
	jars := harness.NeedKafka(t)
	c := harness.NewCluster(t, 3)
	k := c.Nodes[0]
	jvm := newJVM(t, jars)
	for _, text := range []string{
		"broker-api-versions",
		"metadata-quorum describe --status",
		"metadata-quorum describe --replication --human-readable",
		"metadata-quorum describe --re",
		"metadata-quorum remove-controller --controller-id 2 --controller-directory-id AAAAAAAAAAAAAAAAAAAAAA --dry-run",
		"metadata-quorum remove-controller --controller-id 9 --controller-directory-id AAAAAAAAAAAAAAAAAAAAAA",
		"metadata-quorum describe",
		"metadata-quorum remove-controller --controller-id 3 --controller-directory-id AAAAAAAAAAAAAAAAAAAAAA --dry-run",
	} {
		words := strings.Fields(text)
		own := map[string]bool{words[0]: true}
		cmd := command{tool: words[0], text: text, args: append([]string{"--bootstrap-server", k.Addr}, words[1:]...)}
		want, got := both(t, cmd, &target{jvm, k.Addr, k.Data, "", nil}, &target{jvm, k.Addr, k.Data, "", own})
		if want, got = want.said(), got.said(); want.sorted() != got.sorted() || want.status == "0" && got.out == "" {
			t.Errorf("%s\n--- Kafka's: %v\n--- kraft's: %v", text, want, got)
		}
	}
}

// TestACLs: kafka-acls does what Kafka's own does, and prints the same, with an Apache Kafka that has an authorizer and with kraft; so does
// Kafka's own with kraft.
func TestACLs(t *testing.T) {
	jars := harness.NeedKafka(t)
	settings := []string{"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users=User:ANONYMOUS"}
	jvm := newJVM(t, jars)
	kraft := harness.NewKraft(t, "--override", settings[0], "--override", settings[1])
	other := harness.NewKafka(t, settings...)
	for name, subject := range map[string]*target{
		"kraft's with Kafka": {nil, other.Addr, other.Data, "", map[string]bool{"acls": true}},
		"Kafka's with kraft": {newJVM(t, jars), kraft.Addr, kraft.Data, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			kafka := harness.NewKafka(t, settings...)
			reference := &target{jvm, kafka.Addr, kafka.Data, "", nil}
			for _, c := range readCommands(t, "testdata/acls.txt") {
				want, got := both(t, c, reference, subject)
				want, got = want.said(), got.said()
				if want.status != got.status || want.status == "0" && want.sorted() != got.sorted() {
					t.Errorf("%s\n--- Kafka: %v\n--- %s: %v", c.text, want, name, got)
				}
				t.Logf("%s\n%v", c.text, want)
			}
		})
	}
}

func compare(t *testing.T, own map[string]bool) {
	jars := harness.NeedKafka(t)
	commands := readCommands(t, "testdata/commands.txt")
	files, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	settings := []string{"num.partitions=2", "log.retention.check.interval.ms=1000000"}
	kraft := harness.NewKraft(t, "--override", settings[0], "--override", settings[1])
	kafka := harness.NewKafka(t, settings...)
	reference := &target{newJVM(t, jars), kafka.Addr, kafka.Data, files, nil}
	subject := &target{newJVM(t, jars), kraft.Addr, kraft.Data, files, own}
	for _, c := range commands {
		want, got := both(t, c, reference, subject)
		if own[c.tool] { // what goes to stderr is for people
			if want.status != "0" && got.err+got.out == "" {
				t.Errorf("%s fails without a word", c.text)
			}
			want, got = want.said(), got.said()
		}
		switch same := want.sorted() == got.sorted(); {
		case want.status == "127":
			t.Errorf("%s does not run: %v", c.text, want)
		case same && c.differs != "":
			t.Errorf("%s is said to differ (%s), and does not", c.text, c.differs)
		case same:
			t.Logf("%s\n%v", c.text, want)
		case c.differs != "":
			t.Logf("%s\ndiffers: %s", c.text, c.differs)
		default:
			t.Errorf("%s\n--- Apache Kafka: %v\n--- kraft: %v", c.text, want, got)
		}
	}
	t.Logf("%d commands", len(commands))
}
