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

// TestTutorial types docs/tutorial.md into a shell, in a network namespace of its own: the ports are those of the page.
func TestTutorial(t *testing.T) {
	harness.Need(t, "kcat")
	python := clients.Python(t)
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("unshare", "--net", "--pid", "--mount-proc", "--fork", "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		harness.Skip(t, "namespaces or ip(8) are not to be had: %v %s", err, out)
	}
	page, err := os.ReadFile(filepath.Join(harness.Root(), "docs", "tutorial.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(bin, filepath.Join(dir, "kraft")); err != nil {
		t.Fatal(err)
	}
	all := steps(string(page))
	if len(all) == 0 {
		t.Fatal("the page has no commands")
	}
	const mark = "=== step"
	script := "ip link set lo up\n"
	for i, s := range all {
		script += fmt.Sprintf("echo '%s %d'\n%s\n", mark, i, s.command)
	}
	cmd := exec.Command("unshare", "--net", "--pid", "--mount-proc", "--fork", "--kill-child", "bash", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+python+string(os.PathListSeparator)+os.Getenv("PATH"), "LOG_DIR=logs")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	const patience = 3 * time.Minute
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	err = cmd.Wait()
	if !timer.Stop() {
		t.Errorf("not done within %v", patience)
	}
	if err != nil {
		t.Logf("the shell: %v", err) // its last command's status
	}
	said := regexp.MustCompile(`(?m)^`+mark+` \d+\n`).Split(out.String(), -1)[1:]
	for i, s := range all {
		switch {
		case i >= len(said):
			t.Fatalf("docs/tutorial.md:%d: not reached", s.line)
		case !pattern(s.expected).MatchString(said[i]):
			t.Errorf("docs/tutorial.md:%d: $ %s\n%swanted\n%s", s.line, s.command, said[i], s.expected)
		}
	}
}
