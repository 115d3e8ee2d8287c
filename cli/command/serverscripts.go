package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kraft/cli/node"
	"kraft/cli/ops"
	"kraft/cli/running"
	"kraft/cli/scripts"
)

// serverScripts are those of Kafka's scripts that start and stop servers here, ZooKeeper's, and the one that runs any class.
var serverScripts = []string{"kafka-run-class", "kafka-server-start", "kafka-server-stop", "zkCli", "zkServer", "zookeeper-server-start", "zookeeper-server-stop", "zookeeper-shell"}

func runServerScript(ctx context.Context, name string, args []string, s scripts.Streams) int {
	switch name {
	case "kafka-run-class":
		return runClass(ctx, args, s)
	case "kafka-server-start":
		return serverStart(ctx, args, s)
	case "kafka-server-stop":
		return serverStop(args, s)
	case "zookeeper-shell", "zkCli":
		return scripts.RunZooKeeperShell(ctx, name, args, s)
	case "zkServer":
		return zooKeeperServer(ctx, args, s)
	}
	return noZooKeeper(s)
}

// runClass is kafka-run-class.sh CLASS, for the classes that have a script here.
func runClass(ctx context.Context, args []string, s scripts.Streams) int {
	name, rest, class, ok := scripts.ClassScript(args)
	switch {
	case class == "":
		fmt.Fprintln(s.Err, "USAGE: kafka-run-class.sh [-daemon] [-name servicename] [-loggc] classname [opts]")
		return 1
	case !ok:
		fmt.Fprintf(s.Err, "cannot run class %s: kraft runs no Java, and none of its scripts replaces this class (kraft scripts --list)\n", class)
		return 1
	case findServerScript(name) != "":
		return runServerScript(ctx, name, rest, s)
	}
	return scripts.Run(ctx, name, rest, s, Version)
}

// scriptNames are those of all scripts, in order.
func scriptNames() []string {
	names := append(scripts.Names(), serverScripts...)
	slices.Sort(names)
	return names
}

// findServerScript is scripts.Find for serverScripts.
func findServerScript(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), ".sh")
	if !slices.Contains(serverScripts, name) {
		return ""
	}
	return name
}

const serverStartUsage = "USAGE: kafka-server-start.sh [-daemon] [-name NAME] [-loggc] server.properties [--override property=value]*"

// serverStart is kafka-server-start.sh [-daemon] server.properties [--override property=value]*.
func serverStart(ctx context.Context, args []string, s scripts.Streams) int {
	command := []string{"kraft", "server"}
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		option := strings.TrimLeft(args[0], "-")
		args = args[1:]
		switch option {
		case "daemon":
			command = append(command, "--daemon")
		case "name": // of the JVM's logs
			args = args[min(1, len(args)):]
		case "loggc":
		case "version":
			fmt.Fprintln(s.Out, Version)
			return 0
		default:
			fmt.Fprintln(s.Err, serverStartUsage)
			return 1
		}
	}
	if len(args) == 0 {
		fmt.Fprintln(s.Err, serverStartUsage)
		return 1
	}
	if dir := os.Getenv("LOG_DIR"); dir != "" { // Kafka's script keeps its logs there
		command = append(command, "--log-dir", dir)
	} else if slices.Contains(command, "--daemon") {
		command = append(command, "--log-dir", defaultLogDir)
	}
	app := newApp(s.In, s.Out, s.Err)
	return report(app.RunContext(ctx, append(command, args...)), s.Err)
}

const serverStopUsage = "kafka-server-stop takes --process-role=broker or controller, or --node-id=ID"

// serverStop is kafka-server-stop.sh: it sends SIGTERM to the nodes of this machine, or to some of them.
func serverStop(args []string, s scripts.Streams) int {
	wanted := map[string]string{}
	for _, arg := range args {
		key, value, ok := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !ok || !strings.HasPrefix(arg, "--") || key != "process-role" && key != "node-id" {
			fmt.Fprintln(s.Err, serverStopUsage)
			return 1
		}
		wanted[key] = value
	}
	found, err := running.Nodes()
	if err != nil {
		fmt.Fprintln(s.Err, err)
		return 1
	}
	found = slices.DeleteFunc(found, func(n *running.Node) bool {
		id, role := wanted["node-id"], wanted["process-role"]
		return id != "" && id != fmt.Sprint(n.NodeID) || role != "" && !slices.Contains(n.Roles, role)
	})
	if len(found) == 0 {
		fmt.Fprintln(s.Out, "No kafka server to stop")
		return 1
	}
	if wanted["node-id"] != "" {
		if err := partOfDev(found); err != nil {
			fmt.Fprintln(s.Err, err)
			return 1
		}
	}
	for _, pid := range processes(found) {
		if err := running.Terminate(pid); err != nil {
			fmt.Fprintf(s.Err, "process %d: %v\n", pid, err)
			return 1
		}
	}
	return 0
}

// noZooKeeper says that there is none to start or to stop, and succeeds: people's scripts go on and start the brokers.
func noZooKeeper(s scripts.Streams) int {
	fmt.Fprintln(s.Err, "nothing to do: kraft's brokers keep a metadata quorum of their own, at the addresses of zookeeper.connect, and need no ZooKeeper")
	return 0
}

// zooKeeperServer is zkServer.sh. start, stop and restart do nothing; status prints what a node on this machine is to the metadata quorum.
func zooKeeperServer(ctx context.Context, args []string, s scripts.Streams) int {
	command := ""
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			command = arg
			break
		}
	}
	switch command {
	case "start", "start-foreground", "stop", "restart":
		return noZooKeeper(s)
	case "status":
	case "version":
		fmt.Fprintln(s.Out, Version)
		return 0
	default:
		fmt.Fprintln(s.Err, "Usage: zkServer.sh {start|start-foreground|stop|version|restart|status}")
		return 1
	}
	found, err := running.Nodes()
	if err == nil && len(found) == 0 {
		err = node.ErrNotServing
	}
	for _, n := range found {
		var mode string
		if mode, err = modeOf(ctx, n); err == nil {
			fmt.Fprintf(s.Out, "Mode: %s\n", mode)
			return 0
		}
	}
	fmt.Fprintln(s.Err, ops.Plain(err))
	return 1
}

// report says why a command failed, and returns its exit status.
func report(err error, w io.Writer) int {
	switch {
	case err != nil && pipeClosed.Load():
		return 0 // nobody wants to know more
	case errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
	}
	if err != nil && !errors.Is(err, errTold) {
		fmt.Fprintln(w, "kraft: "+ops.Plain(err).Error())
	}
	return exitStatus(err)
}

// modePatience is how long a node here may take to tell of the quorum.
const modePatience = 5 * time.Second

// modeOf is what a node is to the metadata quorum, in ZooKeeper's words.
func modeOf(ctx context.Context, n *running.Node) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, modePatience)
	defer cancel()
	switch {
	case n.State != running.Serving:
		return "", node.ErrNotServing
	case n.Quorum != "":
		return node.AskMode(ctx, n.Quorum)
	case n.ZooKeeper:
		return "observer", nil
	case len(n.Addresses) == 0:
		return "", fmt.Errorf("node %d is a controller only: ask a broker (kraft quorum status)", n.NodeID)
	}
	return scripts.ServerMode(ctx, n.Addresses[0], n.NodeID)
}
