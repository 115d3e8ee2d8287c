package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"kraft/cli/config"
)

// remoteFlags are those of commands that go to a list of hosts by ssh.
func remoteFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "the list of hosts, `FILE`"},
		&cli.StringFlag{Name: "ssh", Value: "ssh -o BatchMode=yes", Usage: "`COMMAND` that runs a program on a host; kraft appends the host and the command line"},
		&cli.DurationFlag{Name: "timeout", Value: time.Minute, Usage: "give a host so much `TIME`"},
	}
}

const hostsFile = `The file has a line for each node: the host as ssh names it, then the settings that differ from the defaults.

   kafka1
   me@kafka2 data=/mnt/kraft
   kafka3 id=3 address=10.0.0.3 port=9092 controller-port=9093
   kafka4 config=/etc/kafka/server.properties

By default id is the node's position in the file, data is ./kraft-data, and address, where the other nodes reach the host, is its name.
With config, the node takes its settings from that file, and data only holds the pid file and the log.`

func startCommand() *cli.Command {
	return &cli.Command{
		Name: "start", Usage: "start a cluster's nodes on a list of hosts, by ssh", UsageText: "kraft cluster start -f hosts [--copy]",
		Description:  hostsFile + "\n\nNodes that already run are left as they are. --copy first copies this program to the hosts.",
		OnUsageError: usageError, Action: func(c *cli.Context) error { return onHosts(c, startNode) },
		Flags: append(remoteFlags(),
			&cli.StringFlag{Name: "binary", Value: "kraft", Usage: "the program on the hosts, `PATH`"},
			&cli.BoolFlag{Name: "copy", Usage: "copy this program to --binary on each host, ./kraft if that is not given"},
			&cli.StringSliceFlag{Name: "override", Usage: "set one of Kafka's broker settings on all nodes, `KEY=VALUE`; may be repeated"}),
	}
}

func stopCommand() *cli.Command {
	return &cli.Command{
		Name: "stop", Usage: "stop a cluster's nodes on a list of hosts, by ssh", UsageText: "kraft cluster stop -f hosts", Description: hostsFile,
		OnUsageError: usageError, Action: func(c *cli.Context) error { return onHosts(c, stopNode) }, Flags: remoteFlags(),
	}
}

// remoteNode is a line of the list of hosts.
type remoteNode struct {
	host                  string // as ssh takes it
	id                    int
	data, config, address string
	port, controllerPort  int
	pidFile, logFile      string
}

// parseHosts reads a list of hosts. Its errors name the line.
func parseHosts(text string) ([]*remoteNode, error) {
	var nodes []*remoteNode
	seen := map[string]int{}
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		n := &remoteNode{host: fields[0], id: len(nodes) + 1, data: "kraft-data", port: 9092, controllerPort: 9093}
		n.address = n.host[strings.LastIndex(n.host, "@")+1:]
		for _, field := range fields[1:] {
			if err := n.set(field); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
		}
		alone := []string{fmt.Sprintf("%s with data in %s", n.host, n.data)}
		if n.config == "" {
			alone = append(alone, fmt.Sprint("id ", n.id), fmt.Sprintf("%s:%d", n.address, n.controllerPort))
		}
		for _, key := range alone {
			if other := seen[key]; other > 0 {
				return nil, fmt.Errorf("line %d: %s is line %d's already", i+1, key, other)
			}
			seen[key] = i + 1
		}
		n.pidFile, n.logFile = path.Join(n.data, "kraft.pid"), path.Join(n.data, "kraft.log")
		nodes = append(nodes, n)
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("it names no host")
	}
	return nodes, nil
}

func (n *remoteNode) set(field string) error {
	key, value, _ := strings.Cut(field, "=")
	number := func(to *int, highest int) error {
		v, err := strconv.Atoi(value)
		if err != nil || v < 0 || v > highest {
			return fmt.Errorf("%s is a number from 0 to %d, not %q", key, highest, value)
		}
		*to = v
		return nil
	}
	const ports = 1<<16 - 1
	switch {
	case value == "":
		return fmt.Errorf("%q is not KEY=VALUE", field)
	case key == "id":
		return number(&n.id, 1<<31-1)
	case key == "port":
		return number(&n.port, ports)
	case key == "controller-port":
		return number(&n.controllerPort, ports)
	case key == "data":
		n.data = value
	case key == "config":
		n.config = value
	case key == "address":
		n.address = value
	default:
		return fmt.Errorf("%s is not one of id, data, address, port, controller-port, config", key)
	}
	return nil
}

// onHosts does something with each node, all at once, and tells what became of each.
func onHosts(c *cli.Context, do func(r *remote, n *remoteNode) (string, error)) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if c.String("file") == "" {
		return badUse("give the list of hosts: %s", c.Command.UsageText)
	}
	data, err := config.ReadText(c.String("file"))
	if err != nil {
		return badUse("cannot read the list of hosts: %w", err)
	}
	nodes, err := parseHosts(string(data))
	if err != nil {
		return badUse("%s: %w", c.String("file"), err)
	}
	r := &remote{c: c, nodes: nodes, ssh: strings.Fields(c.String("ssh")), binary: c.String("binary")}
	if len(r.ssh) == 0 {
		return badUse("--ssh must be a command, like ssh -p 2222")
	}
	if c.Bool("copy") && !c.IsSet("binary") {
		r.binary = "./kraft"
	}
	var working sync.WaitGroup
	var mu sync.Mutex
	failed := false
	for _, n := range nodes {
		working.Go(func() {
			said, err := do(r, n)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = true
				fmt.Fprintf(c.App.ErrWriter, "kraft: node %d on %s: %v\n", n.id, n.host, err)
				return
			}
			fmt.Fprintf(c.App.Writer, "node %d on %s: %s\n", n.id, n.host, said)
		})
	}
	working.Wait()
	if failed {
		return errTold
	}
	return nil
}

// remote runs commands on hosts.
type remote struct {
	c      *cli.Context
	nodes  []*remoteNode
	ssh    []string
	binary string
}

// run runs a shell's script on a host, and returns the last line that it said.
func (r *remote) run(n *remoteNode, script string, in io.Reader) (string, error) {
	ctx, cancel := context.WithTimeout(r.c.Context, r.c.Duration("timeout"))
	defer cancel()
	cmd := exec.CommandContext(ctx, r.ssh[0], append(r.ssh[1:len(r.ssh):len(r.ssh)], n.host, "sh -c "+quote(script))...)
	cmd.WaitDelay = time.Second
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &errOut
	err := cmd.Run()
	said := strings.Split(strings.TrimSpace(out.String()), "\n")
	if err == nil {
		return said[len(said)-1], nil
	}
	if ctx.Err() != nil {
		return "", fmt.Errorf("did not answer within %v", r.c.Duration("timeout"))
	}
	why := strings.Split(strings.TrimSpace(errOut.String()), "\n")
	if last := strings.TrimPrefix(why[len(why)-1], "kraft: "); last != "" {
		return "", fmt.Errorf("%s", last)
	}
	return "", err
}

// quote makes one word of a text, for a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func startNode(r *remote, n *remoteNode) (string, error) {
	if r.c.Bool("copy") {
		if err := r.copyProgram(n); err != nil {
			return "", fmt.Errorf("copy the program: %w", err)
		}
	}
	args := []string{r.binary}
	if n.config != "" {
		args = append(args, "server", n.config)
	} else {
		args = append(args, "--node-id", strconv.Itoa(n.id), "--data", n.data, "--listeners", fmt.Sprintf("PLAINTEXT://:%d", n.port),
			"--advertised-listeners", "PLAINTEXT://"+net.JoinHostPort(n.address, strconv.Itoa(n.port)))
		if len(r.nodes) > 1 {
			args = append(args, "--peers", r.peers())
		}
	}
	for _, o := range r.c.StringSlice("override") {
		args = append(args, "--override", o)
	}
	args = append(args, "--daemon", "--pid-file", n.pidFile, "--log-file", n.logFile)
	for i := range args {
		args[i] = quote(args[i])
	}
	pid := quote(n.pidFile)
	return r.run(n, fmt.Sprintf(`if [ -f %s ] && kill -0 "$(cat %s)" 2>/dev/null; then echo "runs already as process $(cat %s)"; exit 0; fi
mkdir -p %s && exec %s </dev/null`, pid, pid, pid, quote(n.data), strings.Join(args, " ")), nil)
}

// peers are the voters of a new cluster: all nodes that have no file of their own to say it.
func (r *remote) peers() string {
	var list []string
	for _, n := range r.nodes {
		if n.config == "" {
			list = append(list, fmt.Sprintf("%d@%s", n.id, net.JoinHostPort(n.address, strconv.Itoa(n.controllerPort))))
		}
	}
	return strings.Join(list, ",")
}

func (r *remote) copyProgram(n *remoteNode) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	f, err := os.Open(program)
	if err != nil {
		return err
	}
	defer f.Close()
	to := quote(r.binary) // a name of its own first: it may run, and another node of the host may be copying it
	_, err = r.run(n, fmt.Sprintf("new=%s.$$; cat > \"$new\" && chmod 755 \"$new\" && mv \"$new\" %s", to, to), f)
	return err
}

// stopNode ends a node's process, and waits until it has ended.
func stopNode(r *remote, n *remoteNode) (string, error) {
	pid := quote(n.pidFile)
	return r.run(n, fmt.Sprintf(`if [ ! -f %s ] || ! kill -0 "$(cat %s)" 2>/dev/null; then echo "does not run"; exit 0; fi
p=$(cat %s); kill -TERM "$p"; while kill -0 "$p" 2>/dev/null; do sleep 0.1; done; echo stopped`, pid, pid, pid), nil)
}
