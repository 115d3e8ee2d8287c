// Package clients runs other people's Kafka clients against kraft. Each is a small program in its own
// language with three commands:
//
//	produce ADDR TOPIC CODEC FROM TO   writes records FROM to TO (exclusive) and waits for all to be
//	                                   acknowledged; record i has the key "key-i", a value that starts
//	                                   with "value-i-" and the header i=i
//	consume ADDR TOPIC GROUP           reads as a member of GROUP, from the oldest record on, and prints
//	                                   "assigned P,P" and "record PARTITION OFFSET KEY VALUE HEADER";
//	                                   a line on stdin makes it commit, leave and print "closed"
//	stream ADDR TOPIC PARTITIONS NAME  sends NAME-0, NAME-1 and so on, one every few milliseconds, to partitions in
//	                                   turn, with the client's default settings, and prints "sent VALUE PARTITION",
//	                                   "ack VALUE OFFSET" and "error VALUE TEXT"; a line on stdin makes it wait for
//	                                   its answers and print "closed". A further argument is the acks of a producer
//	                                   without idempotence and with one request at a time, which keeps the order.
//	                                   Java, confluent-kafka, franz-go and Sarama have it
//	copy ADDR FROM TO GROUP ID         copies records of one topic to another as a member of GROUP, with transactional
//	                                   id ID and the offsets in the transactions, and prints "copied N" for each; it ends
//	                                   with the first error. Java, confluent-kafka, kafkajs and franz-go have it
package clients

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"kraft/e2e/harness"
)

// Driver is one client.
type Driver struct {
	// Command is the program, to be started with one of the commands and its arguments.
	Command   func(args ...string) *exec.Cmd
	codecs    []string
	noHeaders bool
}

// Program is a driver's running program.
type Program struct {
	*harness.Process
	stdin *os.File
}

// Start starts the program with one of the commands and its arguments.
func (d Driver) Start(args ...string) (*Program, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := d.Command(args...)
	cmd.Stdin = r
	p, err := harness.Start(cmd)
	_ = r.Close()
	if err != nil {
		_ = w.Close()
		return nil, err
	}
	return &Program{p, w}, nil
}

// End has the program end in its own time, by a line on its stdin.
func (p *Program) End() error {
	_, err := p.stdin.WriteString("stop\n")
	return err
}

// Kill ends the program at once.
func (p *Program) Kill() {
	p.Process.Kill()
	_ = p.stdin.Close()
}

var allCodecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// Java is Apache Kafka's own client.
func Java(t testing.TB) Driver { return javaDriver(harness.NeedKafka(t), "java", allCodecs, false) }

// Confluent is librdkafka, driven from Python.
func Confluent(t testing.TB) Driver { return pythonDriver(t, "confluent.py") }

// Sarama is IBM's client for Go.
func Sarama(t testing.TB) Driver { return goDriver(t, "sarama") }

// Franz is franz-go.
func Franz(t testing.TB) Driver { return goDriver(t, "franz") }

func javaDriver(jars, source string, codecs []string, noHeaders bool) Driver {
	return Driver{codecs: codecs, noHeaders: noHeaders, Command: func(args ...string) *exec.Cmd {
		return exec.Command("java", append([]string{"-Xmx256M", "-XX:TieredStopAtLevel=1", "-cp", jars + "/*", filepath.Join(dir(source), "Client.java")}, args...)...)
	}}
}

// Python is the directory of a python3 that has the packages of the Python clients.
func Python(t testing.TB) string {
	t.Helper()
	harness.Need(t, "python3")
	env := install(t, "python", []string{"requirements.txt"},
		[]string{"python3", "-m", "venv", "--copies", "."},
		[]string{"bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"})
	return filepath.Join(env, "bin")
}

func pythonDriver(t testing.TB, script string) Driver {
	bin := Python(t)
	return Driver{codecs: allCodecs, Command: func(args ...string) *exec.Cmd {
		return exec.Command(filepath.Join(bin, "python"), append([]string{filepath.Join(dir("python"), script)}, args...)...)
	}}
}

func goDriver(t testing.TB, name string) Driver {
	bin := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-o", bin, "./e2e/clients/"+name)
	cmd.Dir = harness.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return Driver{codecs: allCodecs, Command: func(args ...string) *exec.Cmd { return exec.Command(bin, args...) }}
}

// install makes a client's packages ready, once, by commands run in a copy of its directory's files.
func install(t testing.TB, name string, files []string, commands ...[]string) string {
	t.Helper()
	var paths []string
	for _, f := range files {
		paths = append(paths, filepath.Join(dir(name), f))
	}
	at, err := harness.Cached(name, readFiles(t, paths...), func(tmp string) error {
		for i, f := range files {
			to := filepath.Join(tmp, f)
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
			data, err := os.ReadFile(paths[i])
			if err != nil {
				return err
			}
			if err := os.WriteFile(to, data, 0o644); err != nil {
				return err
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
		defer cancel()
		for _, c := range commands {
			cmd := exec.Command(c[0], c[1:]...)
			cmd.Dir = tmp
			if _, err := harness.Run(ctx, cmd); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func readFiles(t testing.TB, paths ...string) []byte {
	t.Helper()
	var all [][]byte
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return bytes.Join(all, nil)
}

// dir is a client's directory in the repository.
func dir(name string) string { return filepath.Join(harness.Root(), "e2e", "clients", name) }

// OldJars is the directory of the jars of Kafka 0.8.2.2 and its clients, for Java.
func OldJars(t testing.TB) string {
	t.Helper()
	harness.Need(t, "java", "mvn")
	return install(t, "java-0.8", []string{"pom.xml"}, []string{"mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=."})
}
