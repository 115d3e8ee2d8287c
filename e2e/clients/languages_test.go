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

// dir is a client's directory in the repository.
func dir(name string) string { return filepath.Join(harness.Root(), "e2e", "clients", name) }

func readFiles(t *testing.T, paths ...string) []byte {
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

// install makes a client's packages ready, once, by commands run in a copy of its directory's files.
func install(t *testing.T, name string, files []string, commands ...[]string) string {
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

func javaDriver(jars, source string, codecs []string, noHeaders bool) driver {
	return driver{codecs: codecs, noHeaders: noHeaders, command: func(args ...string) *exec.Cmd {
		return exec.Command("java", append([]string{"-Xmx256M", "-XX:TieredStopAtLevel=1", "-cp", jars + "/*", filepath.Join(dir(source), "Client.java")}, args...)...)
	}}
}

func TestJava(t *testing.T) {
	checkClient(t, javaDriver(harness.NeedKafka(t), "java", allCodecs, false))
}

func TestJava010(t *testing.T) {
	harness.Need(t, "java", "mvn")
	jars := install(t, "java-0.10", []string{"pom.xml"}, []string{"mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=."})
	checkClient(t, javaDriver(jars, "java-0.10", []string{"none", "gzip", "snappy", "lz4"}, true))
}

func pythonDriver(t *testing.T, script string) driver {
	harness.Need(t, "python3")
	env := install(t, "python", []string{"requirements.txt"},
		[]string{"python3", "-m", "venv", "--copies", "."},
		[]string{"bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"})
	return driver{codecs: allCodecs, command: func(args ...string) *exec.Cmd {
		return exec.Command(filepath.Join(env, "bin", "python"), append([]string{filepath.Join(dir("python"), script)}, args...)...)
	}}
}

func TestConfluentPython(t *testing.T) { checkClient(t, pythonDriver(t, "confluent.py")) }

func TestKafkaPython(t *testing.T) { checkClient(t, pythonDriver(t, "pure.py")) }

func TestKafkaJS(t *testing.T) {
	harness.Need(t, "node", "npm")
	modules := install(t, "node", []string{"package.json", "package-lock.json"}, []string{"npm", "ci", "--no-audit", "--no-fund", "--silent"})
	checkClient(t, driver{codecs: allCodecs, command: func(args ...string) *exec.Cmd {
		cmd := exec.Command("node", append([]string{filepath.Join(dir("node"), "client.js")}, args...)...)
		cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(modules, "node_modules"), "KAFKAJS_NO_PARTITIONER_WARNING=1")
		return cmd
	}})
}

func TestRust(t *testing.T) {
	harness.Need(t, "cargo", "make", "gcc", "g++")
	at := install(t, "rust", []string{"Cargo.toml", "Cargo.lock", "src/main.rs"}, []string{"cargo", "build", "--release", "--locked", "--quiet"})
	checkClient(t, driver{codecs: allCodecs, command: func(args ...string) *exec.Cmd {
		return exec.Command(filepath.Join(at, "target", "release", "client"), args...)
	}})
}

func goDriver(t *testing.T, name string) driver {
	bin := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-o", bin, "./e2e/clients/"+name)
	cmd.Dir = harness.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return driver{codecs: allCodecs, command: func(args ...string) *exec.Cmd { return exec.Command(bin, args...) }}
}

func TestFranzGo(t *testing.T) { checkClient(t, goDriver(t, "franz")) }

func TestSarama(t *testing.T) { checkClient(t, goDriver(t, "sarama")) }
