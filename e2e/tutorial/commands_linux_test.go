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

	"kraft/e2e/harness"
)

// commandsWithout are lines of docs/commands.md that are not run as they stand, by a part of them, and why.
var commandsWithout = map[string]string{
	"--node-id":           "TestGrow runs these",
	"kraft quorum add":    "TestGrow runs these",
	"rebalance -b":        "TestGrow runs these",
	"--to 1,2,3 -b":       "TestGrow runs these",
	"profile create prod": "there is no secured cluster; e2e TestProfiles has one",
	"kraft dev --topic":   "it runs in the background already",
	"kraft dev status;":   "they end the cluster that the other lines use; e2e TestDevCluster runs them",
	"kraft stop":          "likewise; e2e TestNodesHere runs it",
	"broker drain 3 &&":   "the broker has to be stopped in between; e2e TestDrain does that",
}

// endless are lines that go on until Ctrl-C.
var endless = regexp.MustCompile(`kraft (consume orders --offset -1h|consume orders --partition|group lag --watch|top)`)

// TestCommandsPage runs the lines of docs/commands.md in their order, beside a kraft dev of five brokers.
func TestCommandsPage(t *testing.T) {
	needNamespaces(t)
	data := readPage(t, "docs/commands.md")
	dir := harness.Install(t)
	for name, text := range map[string]string{
		"lines.txt": "anna:book\nben:pen\n", "a.png": "\x89PNG\x00", "b.png": "\x89PNG\x01", "topics.txt": "payments:2\n", "hosts": "127.0.0.1 localhost kafka1 kafka2\n",
		"config/server.properties": "node.id=1\nlog.dirs=data\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var script strings.Builder
	script.WriteString("ip link set lo up; mount --bind hosts /etc/hosts; export HOME=$PWD; unset KRAFT_CACHE XDG_CACHE_HOME\n" +
		"kraft dev --brokers 5 --topic orders:6 --topics topics.txt > dev.log 2>&1 & until grep -q 'try a failure' dev.log 2> missing; do :; done\n" +
		"for i in 1 2 3; do kraft produce orders -k : < lines.txt; done; kraft consume orders -g billing --from-beginning -e > said 2>&1\n")
	used, ran := map[string]bool{}, 0
	for n, line := range strings.Split(strings.ReplaceAll(data, "\\\n", " "), "\n") {
		command, indented := strings.CutPrefix(line, "    ")
		command, _, _ = strings.Cut(strings.TrimPrefix(command, "$ "), " #")
		command = strings.TrimSpace(command)
		if !indented || !strings.HasPrefix(command, "kraft ") && !strings.HasPrefix(command, "./kraft ") {
			continue
		}
		skipped := false
		for part := range commandsWithout {
			if strings.Contains(command, part) {
				used[part], skipped = true, true
			}
		}
		if skipped {
			continue
		}
		limit := "60"
		if endless.MatchString(command) {
			limit = "2"
		}
		command = strings.ReplaceAll(command, "/var/lib/kraft/orders-0/", "$(ls -d .cache/kraft/dev/?/orders-? | head -1)/")
		command = strings.ReplaceAll(command, "/var/lib/kraft", "$(dirname $(ls -d .cache/kraft/dev/?/orders-? | head -1))") // a broker that has something
		ran++
		fmt.Fprintf(&script, "timeout -s INT %s bash -c %s > out 2>&1 < /dev/null; status=$?; case $status,%s in 0,*|124,2) ;; *) echo \"line %d: %s: status $status\"; cat out;; esac\n", limit, quote(command), limit, n+1, strings.NewReplacer(`"`, `'`, `$`, ``, "`", "").Replace(command))
	}
	for part := range commandsWithout {
		if !used[part] {
			t.Errorf("no line has %q any more", part)
		}
	}
	script.WriteString("kraft dev stop > said 2>&1\necho done\n")
	cmd := exec.Command("unshare", "--net", "--mount", "--uts", "--pid", "--mount-proc", "--fork", "--kill-child", "bash", "-c", script.String())
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	timer := time.AfterFunc(3*time.Minute, func() { _ = cmd.Process.Kill() })
	out, err := cmd.CombinedOutput()
	if !timer.Stop() || err != nil || strings.TrimSpace(string(out)) != "done" {
		t.Errorf("%v: %s", err, out)
	}
	if ran < 44 {
		t.Errorf("%d lines ran", ran)
	}
}

// quote makes one word of a text for a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// TestOperatingPage types the commands of docs/operating.md for which it shows what they print, beside the node with two listeners that it starts.
// Another node stands for the cluster that topics are copied to.
func TestOperatingPage(t *testing.T) {
	needNamespaces(t)
	data := readPage(t, "docs/operating.md")
	dir := harness.Install(t)
	if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte("127.0.0.1 localhost old\n127.0.0.3 new\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	node := "" // the command of the node with two listeners
	for line := range strings.Lines(strings.ReplaceAll(data, "\\\n", " ")) {
		if text := strings.TrimSpace(line); strings.HasPrefix(text, "./kraft --node-id 1 --data /tmp/two") {
			node = strings.ReplaceAll(text, "/tmp/", "")
		}
		if strings.HasPrefix(line, "    $ ") || page.Len() > 0 && strings.HasPrefix(line, "    ") {
			page.WriteString(strings.ReplaceAll(line, "/tmp/kafka-scripts", dir+"/kafka-scripts"))
		} else if page.Len() > 0 { // what follows is no output
			page.WriteString("    $ true\n")
		}
	}
	// What stands behind an empty line or a sentence is another block, unless it begins with a command.
	blocks := strings.Split(page.String(), "    $ true\n")
	kept, explains := "", ""
	for _, block := range blocks {
		switch {
		case strings.HasPrefix(block, "    $ ./kraft config explain"):
			explains = block
		case strings.HasPrefix(block, "    num.io.threads"):
			explains += block
		case strings.HasPrefix(block, "    $ "):
			kept += block
		}
	}
	kept = strings.Replace(explains, "explain log.retention.minutes num.io.threads\n", "explain log.retention.minutes num.io.threads | grep .\n", 1) + kept
	if node == "" || strings.Count(kept, "    $ ") < 6 {
		t.Fatalf("the page has other commands: %q and %s", node, kept)
	}
	before := fmt.Sprintf("ip link set lo up; mount --bind hosts /etc/hosts; export HOME=$PWD\n%s > 1.log 2>&1 & until grep -q 'is ready' 1.log 2> missing; do :; done", node)
	const copied = "    $ ./kraft topic create orders --partitions 6 -b new:9092\n"
	if !strings.Contains(kept, copied) {
		t.Fatalf("the page copies topics otherwise: %s", kept)
	}
	kept = strings.Replace(kept, copied, "    $ ./kraft --node-id 1 --data new --listeners PLAINTEXT://new:9092 > 2.log 2>&1 & until grep -q 'is ready' 2.log 2> missing; do :; done\n"+copied, 1)
	kept = strings.Replace(kept, "all 0 have", "all ... have", 1)
	play(t, "docs/operating.md", kept, before, dir, dir)
}
