//go:build unix

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"kraft/e2e/harness"
)

// TestMovesAreShown: kraft partition status shows a move that is under way, an interrupted one keeps its throttle, cancel gives it up.
func TestMovesAreShown(t *testing.T) {
	c := harness.NewCluster(t, 3)
	k := c.Nodes[0]
	k.CLI(t, "", "topic", "create", "t", "-p", "2", "-r", "1")
	k.CLI(t, strings.Repeat(strings.Repeat("x", 1000)+"\n", 3000), "produce", "t")
	if out := k.CLI(t, "", "partition", "status"); strings.Contains(out, "t ") {
		t.Errorf("before: %s", out)
	}
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	// Away from where the records are, whichever broker that is.
	lines := strings.Split(k.CLI(t, "", "partition", "list", "t"), "\n")
	to := "1"
	if strings.Fields(lines[1])[3] == "1" {
		to = "2"
	}
	move, err := harness.Start(exec.Command(bin, "partition", "move", "t:0", "--to", to, "--throttle", "10000", "-b", k.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer move.Kill()
	shown := func() error {
		if out := k.CLI(t, "", "partition", "status"); !strings.Contains(out, "\nt ") {
			return fmt.Errorf("it says %s", out)
		}
		return nil
	}
	if err := harness.Eventually(10*time.Second, shown); err != nil {
		t.Fatal(err)
	}
	_ = move.Cmd.Process.Signal(os.Interrupt)
	_ = move.Wait(10 * time.Second)
	if out := move.Output(); !strings.Contains(out, "the throttle of 10000 bytes a second stays set") || !strings.Contains(out, "kraft partition unthrottle") {
		t.Errorf("an interrupted move says %s", out)
	}
	if err := shown(); err != nil {
		t.Errorf("after the interruption: %v", err)
	}
	if out := k.CLI(t, "", "topic", "describe", "t"); !strings.Contains(out, "throttled") {
		t.Errorf("the throttle is gone: %s", out)
	}
	if out := k.CLI(t, "", "partition", "cancel", "t"); !strings.Contains(out, "gave up 1 move") {
		t.Errorf("cancel says %s", out)
	}
	if err := shown(); err == nil {
		t.Error("a move that was given up is still shown")
	}
	k.CLI(t, "", "partition", "unthrottle")
	if out := k.CLI(t, "", "topic", "describe", "t"); strings.Contains(out, "throttled") {
		t.Errorf("the throttle is still there: %s", out)
	}
}

// TestWithoutMajority: with two of three nodes gone the commands of operators say that the quorum is.
func TestWithoutMajority(t *testing.T) {
	c := harness.NewCluster(t, 3)
	all := strings.Join(c.Bootstrap(), ",")
	k := c.Nodes[0]
	run := func(args ...string) (string, error) {
		bin, err := harness.Binary()
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(bin, args...).CombinedOutput()
		return string(out), err
	}
	for _, args := range [][]string{{"health", "-b", k.Addr}, {"doctor", "-b", all}} {
		if out, err := run(args...); err != nil || strings.Contains(out, "no leader") {
			t.Errorf("%v while all run: %v %s", args, err, out)
		}
	}
	if out, _ := run("doctor", "-b", all); strings.Count(out, "all log directories work") != 1 {
		t.Errorf("the doctor repeats itself:\n%s", out)
	}
	c.Nodes[1].Kill()
	if err := harness.Eventually(5*time.Second, func() error {
		if out, _ := run("broker", "list", "-b", k.Addr); !strings.Contains(out, "down") || strings.Contains(out, "no leader") {
			return fmt.Errorf("with one down broker list says %s", out)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	c.Nodes[2].Kill()
	if err := harness.Eventually(10*time.Second, func() error {
		if out, err := run("health", "-b", k.Addr); err == nil || !strings.Contains(out, "knows no leader of the metadata quorum") {
			return fmt.Errorf("%v %s", err, out)
		}
		return nil
	}); err != nil {
		t.Errorf("health: %v", err)
	}
	if out, err := run("broker", "list", "-b", k.Addr); err != nil || !strings.Contains(out, "knows no leader of the metadata quorum") || !strings.Contains(out, "no answer") || !strings.Contains(out, "running") {
		t.Errorf("broker list: %v %s", err, out)
	}
	out, err := run("doctor", "-b", all)
	if err == nil || !strings.Contains(out, "knows no leader of the metadata quorum") || !strings.Contains(out, "start that broker") {
		t.Errorf("doctor: %v %s", err, out)
	}
	if out, err := run("topic", "create", "t", "-b", k.Addr); err == nil || !strings.Contains(out, "quorum") {
		t.Errorf("topic create: %v %s", err, out)
	}
	if err := c.Start(c.Nodes[1:]...); err != nil {
		t.Fatal(err)
	}
	if out, err := run("health", "-b", k.Addr); err != nil {
		t.Errorf("health when all run again: %v %s", err, out)
	}
}
