package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"kraft/e2e/harness"
)

func TestJava(t *testing.T) {
	checkClient(t, Java(t))
}

func TestJava010(t *testing.T) {
	harness.Need(t, "java", "mvn")
	jars := install(t, "java-0.10", []string{"pom.xml"}, []string{"mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=."})
	checkClient(t, javaDriver(jars, "java-0.10", []string{"none", "gzip", "snappy", "lz4"}, true))
}

func TestConfluentPython(t *testing.T) { checkClient(t, Confluent(t)) }

func TestKafkaPython(t *testing.T) { checkClient(t, pythonDriver(t, "pure.py")) }

func TestKafkaJS(t *testing.T) { checkClient(t, kafkaJS(t)) }

func kafkaJS(t *testing.T) Driver {
	modules := nodeModules(t)
	return Driver{codecs: allCodecs, Command: func(args ...string) *exec.Cmd {
		cmd := exec.Command("node", append([]string{filepath.Join(dir("node"), "client.js")}, args...)...)
		cmd.Env = append(os.Environ(), "NODE_PATH="+modules, "KAFKAJS_NO_PARTITIONER_WARNING=1")
		return cmd
	}}
}

// nodeModules is the directory of the packages of the clients for Node.
func nodeModules(t testing.TB) string {
	t.Helper()
	harness.Need(t, "node", "npm")
	return filepath.Join(install(t, "node", []string{"package.json", "package-lock.json"}, []string{"npm", "ci", "--no-audit", "--no-fund", "--silent"}), "node_modules")
}

func rust(t *testing.T) Driver {
	harness.Need(t, "cargo", "make", "gcc", "g++")
	at := install(t, "rust", []string{"Cargo.toml", "Cargo.lock", "src/main.rs"}, []string{"cargo", "build", "--release", "--locked", "--quiet"})
	return Driver{codecs: allCodecs, Command: func(args ...string) *exec.Cmd {
		return exec.Command(filepath.Join(at, "target", "release", "client"), args...)
	}}
}

func TestRust(t *testing.T) { checkClient(t, rust(t)) }

func TestFranzGo(t *testing.T) { checkClient(t, Franz(t)) }

func TestSarama(t *testing.T) { checkClient(t, goDriver(t, "sarama")) }
