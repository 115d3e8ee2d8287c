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

// readPage returns the text of a page of this repository, by its path from the root.
func readPage(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(harness.Root(), path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestTutorial types docs/tutorial.md into a shell, in a network namespace of its own: the ports are those of the page.
func TestTutorial(t *testing.T) {
	harness.Need(t, "kcat")
	needNamespaces(t)
	python := clients.Python(t)
	page := readPage(t, "docs/tutorial.md")
	dir := harness.Install(t)
	play(t, "docs/tutorial.md", page, "ip link set lo up", dir, python)
}

// TestQuickStart types the README's quick start into a shell, where ./kraft dev runs in the background.
func TestQuickStart(t *testing.T) {
	harness.Need(t, "kcat")
	needNamespaces(t)
	data := readPage(t, "README.md")
	_, page, _ := strings.Cut(data, "## Quick start")
	page, _, _ = strings.Cut(page, "and Python")
	const dev, terminal = "    $ ./kraft dev\n", "    stop it             q, or Ctrl-C\n"
	if !strings.Contains(page, dev) || !strings.Contains(page, terminal) {
		t.Fatalf("the quick start is another one: %s", page)
	}
	page = strings.Replace(page, dev, "    $ ./kraft dev > dev.log 2>&1 & until grep -q 'try a failure' dev.log 2> dev.missing; do sleep 0.01; done; grep . dev.log\n", 1)
	page = strings.Replace(page, terminal, "", 1)
	page = strings.ReplaceAll(page, " after 33 ms", " after ... ms")
	dir := harness.Install(t)
	before := "ip link set lo up; export HOME=$PWD; unset KRAFT_CACHE XDG_CACHE_HOME"
	play(t, "README.md", page, before, dir, dir)
}

// TestGrow types the lines of docs/commands.md by which one node becomes a cluster of three voters. Nodes run in the background.
func TestGrow(t *testing.T) {
	needNamespaces(t)
	data := readPage(t, "docs/commands.md")
	_, page, _ := strings.Cut(data, "## One node becomes three")
	page, _, _ = strings.Cut(page, "## Watching and measuring")
	var script strings.Builder
	nodes := 0
	for line := range strings.Lines(page) {
		command, isCommand := strings.CutPrefix(strings.TrimRight(line, "\n"), "    ")
		switch {
		case !isCommand:
		case strings.Contains(command, "--node-id"):
			nodes++
			fmt.Fprintf(&script, "    $ %s > %d.log 2>&1 & until grep -q 'is ready' %d.log 2> missing; do :; done\n", strings.ReplaceAll(command, "/tmp/", "./"), nodes, nodes)
			if nodes == 1 {
				script.WriteString("    $ kraft topic create orders -p 2 -b localhost:9192\n    created topic orders\n")
			}
		default:
			fmt.Fprintf(&script, "    $ { %s; } > said 2>&1 || cat said\n", command)
		}
	}
	if nodes != 3 {
		t.Fatalf("%d nodes: %s", nodes, page)
	}
	script.WriteString("    $ kraft quorum status -b localhost:9292 | grep -c -E 'leader|voter'\n    4\n") // with the line of the cluster
	script.WriteString("    $ kraft topic list -b localhost:9392\n    TOPIC   PARTITIONS  REPLICAS\n    orders  2           3\n")
	dir := harness.Install(t)
	play(t, "docs/commands.md", script.String(), "ip link set lo up; export HOME=$PWD", dir, dir)
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
