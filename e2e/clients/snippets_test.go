package clients

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

// TestSnippets: what kraft dev snippet prints writes a record and reads it, as it is, beside a kraft dev and beside a kraft dev --secure.
func TestSnippets(t *testing.T) {
	harness.Need(t, "kcat")
	kraft, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	node := nodeModules(t)
	python, jars := Python(t), harness.NeedKafka(t)
	languages := map[string]func(dir, file string) *exec.Cmd{
		"java": func(_, file string) *exec.Cmd {
			return exec.Command("java", "-Xmx256M", "-XX:TieredStopAtLevel=1", "-cp", jars+"/*", file)
		},
		"python": func(_, file string) *exec.Cmd { return exec.Command(filepath.Join(python, "python"), "-u", file) },
		"node": func(_, file string) *exec.Cmd {
			cmd := exec.Command("node", file)
			cmd.Env = append(os.Environ(), "NODE_PATH="+node)
			return cmd
		},
		"go": func(dir, file string) *exec.Cmd {
			cmd := exec.Command("bash", "-c", `go build -o "$1" "$2" && exec "$1"`, "build", filepath.Join(dir, "orders"), file)
			cmd.Dir = harness.Root()
			return cmd
		},
		"kcat": func(_, file string) *exec.Cmd { return exec.Command("bash", file) },
	}
	files := map[string]string{"java": "Orders.java", "python": "orders.py", "node": "orders.js", "go": "orders.go", "kcat": "orders.sh"}
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("secure %v", secure), func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("KRAFT_CACHE", filepath.Join(dir, "cache"))
			port := freeport.For(t)
			args := []string{"dev", "--brokers", "1", "--port", fmt.Sprint(port), "--topic", "orders:1"}
			if secure {
				args = append(args, "--secure")
			}
			dev, err := harness.Start(exec.Command(kraft, args...))
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := dev.Stop(20 * time.Second); err != nil {
					t.Errorf("%v: %s", err, dev.Output())
				}
			}()
			if err := harness.Says(dev, "dev snippet python", 20*time.Second); err != nil {
				t.Fatal(err)
			}
			for language, command := range languages {
				text, err := exec.Command(kraft, "dev", "snippet", language).Output()
				if err != nil {
					t.Fatal(err)
				}
				file := filepath.Join(dir, files[language])
				if err := os.WriteFile(file, text, 0o600); err != nil {
					t.Fatal(err)
				}
				p, err := harness.Start(command(dir, file))
				if err != nil {
					t.Fatal(err)
				}
				if err := harness.Eventually(60*time.Second, func() error {
					if out := p.Output(); !strings.Contains(out, "hello") {
						return errors.New(out)
					}
					return nil
				}); err != nil {
					t.Errorf("%s: %v", language, err)
				}
				p.Kill()
			}
		})
	}
}
