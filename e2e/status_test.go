package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kraft/e2e/harness"
)

// exits runs a command of kraft to its end and returns what it wrote. It must end with a status, having said something.
func exits(t *testing.T, cmd *exec.Cmd, status int, says string) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != status || !strings.Contains(string(out), says) {
		t.Errorf("kraft %s: status %d, want %d and %q: %s", strings.Join(cmd.Args[1:], " "), got, status, says, out)
	}
	return string(out)
}

// TestExitStatus: the status is 0 for help, 2 for a wrong option, 2 for what no command takes, and 1 where no broker answers, of every command.
func TestExitStatus(t *testing.T) {
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "KRAFT_PROFILES="+filepath.Join(t.TempDir(), "profiles"))
	run := func(status int, says string, args ...string) {
		t.Helper()
		cmd := exec.Command(bin, args...)
		cmd.Env = env
		out := exits(t, cmd, status, says)
		for _, foreign := range []string{"strconv", "context canceled", "context deadline", "dial tcp", "flag provided", "No help topic", "Incorrect Usage", "goroutine", "shard"} {
			if status > 0 && strings.Contains(out, foreign) {
				t.Errorf("kraft %s says %q: %s", strings.Join(args, " "), foreign, out)
			}
		}
	}
	subcommands := func(words ...string) (out []string) {
		t.Helper()
		cmd := exec.Command(bin, append(append([]string{"__complete"}, words...), "")...)
		cmd.Env = append(env, "KRAFT_BOOTSTRAP_SERVER=127.0.0.1:1")
		data, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(data))
	}
	// A line for each command that asks a broker.
	asking := map[string]string{
		"topic create": "x", "topic list": "", "topic describe": "x", "topic why-kept": "x", "topic add-partitions": "x --to 3", "topic trim": "x --before end", "topic analyze": "x", "topic delete": "x --yes",
		"produce": "x", "consume": "x", "group list": "", "group describe": "x", "group lag": "x", "group reset": "x --to start", "group delete": "x",
		"cluster describe": "", "cluster rebalance": "", "broker list": "", "broker drain": "1", "broker remove": "1", "broker log-level": "1", "partition list": "", "partition move": "x:1 --to 1",
		"partition status": "", "partition cancel": "x", "partition unthrottle": "", "partition elect": "", "quorum status": "", "quorum add": "1", "quorum remove": "1",
		"transaction list": "", "transaction describe": "x", "transaction hanging": "", "transaction abort": "x", "user list": "", "acl list": "", "acl grant": "x read --topic y", "acl revoke": "x read --topic y", "acl why": "--principal x --operation read --topic y", "quota list": "", "quota set": "produce=1 --user x", "quota remove": "--user x", "user set": "x --generate", "user delete": "x", "perf produce": "x", "perf consume": "x", "config list": "--topic x", "config set": "retention.ms=1 --topic x", "config unset": "retention.ms --topic x", "top": "--once", "health": "", "doctor": "",
	}
	// Those that ask none.
	alone := "dev stop-broker,dev start-broker,dev snippet,dev status,dev stop,dev reset,server,check,status,stop,cluster start,cluster stop,log verify,log dump,storage info,storage format," +
		"storage random-uuid,config explain,certs broker,certs client,profile create,profile list,profile use,profile show,profile delete,scripts,completion,version"
	seen := map[string]bool{}
	for _, group := range subcommands() {
		leaves := []string{group}
		if group != "dev" && group != "completion" && group != "consume" && group != "produce" {
			for _, name := range subcommands(group) {
				leaves = append(leaves, group+" "+name)
			}
		} else if group == "dev" {
			for _, name := range subcommands("dev") {
				leaves = append(leaves, "dev "+name)
			}
		}
		for _, leaf := range leaves {
			words := strings.Fields(leaf)
			run(0, "USAGE:", append(words, "--help")...)
			run(2, "has no option --no-such-option", append(words, "--no-such-option")...)
			if args, asks := asking[leaf]; asks {
				seen[leaf] = true
				run(1, "127.0.0.1:1", append(append(words, strings.Fields(args)...), "-b", "127.0.0.1:1")...)
				run(2, "no address", append(append(words, strings.Fields(args)...), "-b", "127.0.0.1:x")...)
			} else if len(leaves) > 1 && len(words) == 1 && leaf != "dev" {
				run(2, "has no command", group, "no-such-command")
			} else if leaf != "dev" && !strings.Contains(","+alone+",", ","+leaf+",") {
				t.Errorf("kraft %s: does it ask a broker? Say so in this test", leaf)
			}
		}
	}
	for leaf := range asking {
		if !seen[leaf] {
			t.Errorf("kraft %s is not completed", leaf)
		}
	}
	run(2, "unknown command", "no-such-command")
}
