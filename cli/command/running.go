package command

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"kraft/cli/config"
	"kraft/cli/node"
	"kraft/cli/running"
)

// ownRecord is the record that a node of this process keeps of itself. The goroutine that starts and stops the node owns it.
type ownRecord struct {
	running.Node
	log zerolog.Logger
}

// newRecord makes the record of a node of this process by its configuration. dev is how many brokers the kraft dev has of which it is one, 0 for none.
func newRecord(c *config.Config, dev int, log zerolog.Logger) *ownRecord {
	return &ownRecord{log: log, Node: running.Node{
		Process: os.Getpid(), NodeID: c.NodeID, Roles: rolesOf(c), Data: c.LogDirs, Dev: dev, Version: Version, Started: time.Now(), ZooKeeper: len(c.ZooKeeper) > 0,
	}}
}

// rolesOf are a node's process.roles, as far as its settings tell.
func rolesOf(c *config.Config) (roles []string) {
	if c.IsBroker {
		roles = append(roles, "broker")
	}
	if c.Votes || c.Controller != nil || !c.IsBroker || len(c.Voters)+len(c.Join) == 0 {
		roles = append(roles, "controller")
	}
	return roles
}

// holds follows node.World.Holds.
func (r *ownRecord) holds(dir string) {
	if dir == "" {
		r.Remove()
		return
	}
	r.Directory, r.State = dir, running.Starting
	r.save()
}

// serves notes that the node is ready.
func (r *ownRecord) serves(n *node.Node) {
	r.State, r.Cluster, r.Addresses, r.Quorum = running.Serving, n.ClusterID(), n.Addresses(), n.QuorumAddress()
	r.save()
}

// stops notes that the node has begun to stop.
func (r *ownRecord) stops() {
	r.State = running.Stopping
	r.save()
}

// save writes the record, if the node has locked a directory yet.
func (r *ownRecord) save() {
	if r.Directory == "" {
		return
	}
	if err := r.Save(); err != nil { // its disk may be full: the node works without
		r.log.Warn().Err(err).Msg("kraft status and kraft stop do not see this node as it is")
	}
}

// processes are those of nodes, each once.
func processes(nodes []*running.Node) (out []int) {
	for _, n := range nodes {
		if !slices.Contains(out, n.Process) {
			out = append(out, n.Process)
		}
	}
	return out
}

// partOfDev is the error for nodes of which one cannot be stopped alone, as a process.
func partOfDev(nodes []*running.Node) error {
	for _, n := range nodes {
		if n.Dev > 1 {
			return fmt.Errorf("node %d is one of the %d brokers of a kraft dev (process %d): kraft dev stop-broker %d stops it alone, kraft stop --data %s stops all of them", n.NodeID, n.Dev, n.Process, n.NodeID, filepath.Dir(n.Directory))
		}
	}
	return nil
}

// whichFlags choose among the nodes of this machine.
func whichFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "node-id", Usage: "the node with this `ID`"},
		&cli.StringFlag{Name: "data", Usage: "the node whose data is in `DIR`, or the kraft dev with its data there"},
	}
}

// chosen are the running nodes that whichFlags choose.
func chosen(c *cli.Context) ([]*running.Node, error) {
	if _, err := strconv.ParseUint(c.String("node-id"), 10, 31); c.IsSet("node-id") && err != nil {
		return nil, badUse("--node-id takes a number from 0 on, not %q", c.String("node-id"))
	}
	nodes, err := running.Nodes()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(nodes, func(n *running.Node) bool {
		return c.IsSet("node-id") && c.String("node-id") != fmt.Sprint(n.NodeID) || c.IsSet("data") && !n.Has(c.String("data"))
	}), nil
}

// errNoNode is the error where no node was chosen.
func errNoNode(c *cli.Context) error {
	what := "no node"
	if c.IsSet("node-id") {
		what += " " + c.String("node-id")
	}
	if c.IsSet("data") {
		what += " with its data in " + c.String("data")
	}
	return fmt.Errorf("%s of this user runs on this machine", what)
}

func statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show the nodes that run on this machine", UsageText: "kraft status [--node-id ID] [--data DIR] [--json]",
		Description: "Shows what this program file runs here, for this user (for all users, if you are root): nodes and kraft dev. The exit status is 1\nif there is none.",
		Flags:       append(whichFlags(), jsonFlag()), OnUsageError: usageError,
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			nodes, err := chosen(c)
			if err != nil {
				return err
			}
			if len(nodes) == 0 && !c.Bool("json") {
				return errNoNode(c)
			}
			if err := tell(c, append(runningNodes{}, nodes...)); err != nil || len(nodes) > 0 {
				return err
			}
			return errTold
		},
	}
}

type runningNodes []*running.Node

func (nodes runningNodes) text(w io.Writer) error {
	rows := [][]any{{"NODE", "STATE", "ADDRESSES", "PROCESS", "SINCE", "DATA"}}
	for _, n := range nodes {
		process := fmt.Sprint(n.Process)
		if n.Dev > 0 {
			process += " (kraft dev)"
		}
		rows = append(rows, []any{n.Name(), n.State, cmp.Or(strings.Join(n.Addresses, ", "), n.Quorum, "-"), process, n.Started.Format("01-02 15:04"), strings.Join(n.Data, ", ")})
	}
	return table(w, rows)
}

func stopNodesCommand() *cli.Command {
	return &cli.Command{
		Name: "stop", Usage: "stop nodes that run on this machine", UsageText: "kraft stop [--node-id ID | --data DIR | --all] [--timeout DURATION]",
		Description: "Stops the node that runs here, and returns when its process has ended. Where several run, say which (kraft status shows them).\n" +
			"Nodes are known by the data directories that they have locked. A kraft dev stops as a whole. On Windows a node is ended at once: its next start checks the logs.",
		Flags: append(whichFlags(),
			&cli.BoolFlag{Name: "all", Usage: "stop every node"},
			&cli.DurationFlag{Name: "timeout", Value: time.Minute, Usage: "wait so long, a `DURATION`, for the processes to end"}),
		OnUsageError: usageError,
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if c.Duration("timeout") <= 0 {
				return badUse("--timeout must be above 0, like 30s, not %v", c.Duration("timeout"))
			}
			if c.Bool("all") && (c.IsSet("node-id") || c.IsSet("data")) {
				return badUse("--all stops every node: leave out --node-id and --data, or leave out --all")
			}
			nodes, err := chosen(c)
			if err != nil {
				return err
			}
			if len(nodes) == 0 {
				return errNoNode(c)
			}
			if c.IsSet("node-id") {
				if err := partOfDev(nodes); err != nil {
					return err
				}
			}
			pids := processes(nodes)
			if len(pids) > 1 && !c.Bool("all") {
				var each []string
				for _, n := range nodes {
					each = append(each, fmt.Sprintf("node %s (--data %s)", n.Name(), n.Directory))
				}
				return badUse("several nodes run here: say which by --node-id or --data, or stop them by --all: %s", strings.Join(each, ", "))
			}
			return stopNodes(c, nodes, c.Duration("timeout"))
		},
	}
}

// stopNodes stops the processes of nodes, and waits until they have ended.
func stopNodes(c *cli.Context, nodes []*running.Node, patience time.Duration) error {
	pids := processes(nodes)
	for _, pid := range pids {
		if err := running.Terminate(pid); err != nil {
			return fmt.Errorf("cannot stop process %d: %w", pid, err)
		}
	}
	return awaitEnds(c, nodes, pids, patience)
}

// awaitEnds waits until processes have ended, and says so of each.
func awaitEnds(c *cli.Context, nodes []*running.Node, pids []int, patience time.Duration) error {
	begun := time.Now()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for _, pid := range pids {
		for running.Alive(pid) {
			select {
			case <-c.Context.Done():
				return c.Context.Err()
			case <-look.C:
			}
			if time.Since(begun) > patience {
				return fmt.Errorf("process %d still runs after %v: look into its log", pid, patience)
			}
		}
		var of []string
		for _, n := range nodes {
			if n.Process == pid {
				of = append(of, n.Name())
			}
		}
		fmt.Fprintf(c.App.Writer, "stopped %s %s (process %d)\n", map[bool]string{true: "node", false: "nodes"}[len(of) == 1], strings.Join(of, ", "), pid)
	}
	return nil
}
