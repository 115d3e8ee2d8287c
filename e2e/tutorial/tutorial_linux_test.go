// Package tutorial runs the documentation as a new user would.
package tutorial

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"kraft/e2e/clients"
	"kraft/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// step is a command and what it is said to print.
type step struct {
	line     int
	command  string
	expected string
}

// steps are the commands of a page, in their order.
func steps(page string) (out []step) {
	for n, line := range strings.Split(page, "\n") {
		text, ok := strings.CutPrefix(line, "    ")
		switch command, typed := strings.CutPrefix(text, "$ "); {
		case !ok:
		case typed:
			out = append(out, step{line: n + 1, command: command})
		case len(out) == 0:
		default:
			last := &out[len(out)-1]
			if more, continued := strings.CutPrefix(text, "> "); continued {
				last.command += "\n" + more
			} else {
				last.expected += text + "\n"
			}
		}
	}
	return out
}

// pattern matches what is expected, with anything within a line for "...".
func pattern(expected string) *regexp.Regexp {
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(expected), `\.\.\.`, `[^\n]*`) + "$")
}

// needNamespaces skips a test where namespaces or ip(8) are not to be had.
func needNamespaces(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("unshare", "--net", "--mount", "--uts", "--pid", "--mount-proc", "--fork", "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		harness.Skip(t, "namespaces or ip(8) are not to be had: %v %s", err, out)
	}
}

// play types the commands of a page into a shell, in a directory and in namespaces of its own, behind some commands of the test's, and
// compares what they print.
func play(t *testing.T, name, page, before, dir, path string, arguments ...string) {
	t.Helper()
	all := steps(page)
	if len(all) == 0 {
		t.Fatal("the page has no commands")
	}
	const mark = "=== step"
	script := before + "\n"
	for i, s := range all {
		script += fmt.Sprintf("echo '%s %d'\n%s\n", mark, i, s.command)
	}
	cmd := exec.Command("unshare", append([]string{"--net", "--mount", "--uts", "--pid", "--mount-proc", "--fork", "--kill-child", "bash", "-c", script, "bash"}, arguments...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+path+string(os.PathListSeparator)+os.Getenv("PATH"), "LOG_DIR=logs")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	const patience = 2 * time.Minute
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !timer.Stop() {
		t.Errorf("not done within %v", patience)
	}
	if err != nil {
		t.Logf("the shell: %v", err) // its last command's status
	}
	said := regexp.MustCompile(`(?m)^`+mark+` \d+\n`).Split(out.String(), -1)
	for i, s := range all {
		switch {
		case i+1 >= len(said):
			t.Fatalf("%s:%d: not reached: %s", name, s.line, said[0])
		case !pattern(s.expected).MatchString(said[i+1]):
			t.Errorf("%s:%d: $ %s\n%swanted\n%s", name, s.line, s.command, said[i+1], s.expected)
		}
	}
}

// TestTutorial types docs/tutorial.md into a shell, in a network namespace of its own: the ports are those of the page.
func TestTutorial(t *testing.T) {
	harness.Need(t, "kcat")
	needNamespaces(t)
	python := clients.Python(t)
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(harness.Root(), "docs", "tutorial.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(bin, filepath.Join(dir, "kraft")); err != nil {
		t.Fatal(err)
	}
	play(t, "docs/tutorial.md", string(page), "ip link set lo up", dir, python)
}

// TestZooKeeperTutorials types tutorials of the ZooKeeper days, each on the hosts that its page names, as their readers do: testdata has a page for each.
func TestZooKeeperTutorials(t *testing.T) {
	needNamespaces(t)
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	harness.Need(t, "kcat")
	tools := t.TempDir()
	for name, command := range map[string]string{
		"kafkacat":     `kcat "$@"`,
		"python3":      filepath.Join(clients.Python(t), "python3") + ` "$@"`,
		"java-admin":   `java -Xmx256M -XX:TieredStopAtLevel=1 -cp "` + harness.NeedKafka(t) + `/*" "org.apache.kafka.tools.$@" 2> /dev/null`,
		"java-console": `java -Xmx256M -XX:TieredStopAtLevel=1 -cp "` + harness.NeedKafka(t) + `/*" "$@" 2> /dev/null`,
		"java-old":     `java -Xmx256M -XX:TieredStopAtLevel=1 -cp "` + clients.OldJars(t) + `/*" "$@" 2> /dev/null`,
	} {
		if err := os.WriteFile(filepath.Join(tools, name), []byte("#!/bin/sh\nexec "+command+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	hosts, err := os.ReadFile("testdata/hosts.sh")
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "image")
	if out, err := exec.Command(filepath.Join(harness.Root(), "packaging", "image", "install"), bin, image).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pages, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	for _, path := range pages {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			page, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			names := regexp.MustCompile(`(?m)^hosts: (.*)$`).FindStringSubmatch(string(page))
			if names == nil {
				t.Fatal("the page names no hosts")
			}
			dir := t.TempDir()
			for _, name := range []string{"Producer.java", "Console.java", "docker-compose"} {
				text, err := os.ReadFile(filepath.Join("testdata", name))
				if err == nil {
					err = os.WriteFile(filepath.Join(dir, name), text, 0o700)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			play(t, path, string(page), fmt.Sprintf("HOSTS='%s'\n%s", names[1], hosts), dir, tools, dir, bin, tools, image)
		})
	}
}
