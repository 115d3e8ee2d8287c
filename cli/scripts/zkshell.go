package scripts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/cli/ops"
)

// errNotThere says that the tree has no such node.
var errNotThere = errors.New("Node does not exist")

// zkShell is one run of ZooKeeper's shell, on the view that zkView makes of the metadata.
type zkShell struct {
	view    zkView
	address string
	streams Streams
	quit    bool
}

// RunZooKeeperShell runs zookeeper-shell HOST:PORT[/chroot] [COMMAND], or zkCli [-server HOST:PORT[/chroot]] [COMMAND], and returns its exit
// status.
func RunZooKeeperShell(ctx context.Context, name string, args []string, s Streams) int {
	address := ""
	if name == "zookeeper-shell" && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		address, args = args[0], args[1:]
	}
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		option := args[0]
		args = args[1:]
		switch {
		case option == "-server" && len(args) > 0:
			address, args = args[0], args[1:]
		case (option == "-timeout" || option == "-zk-tls-config-file" || option == "-client-configuration") && len(args) > 0:
			args = args[1:]
		}
	}
	if address == "" && name == "zkCli" {
		address = "localhost:2181"
	}
	if address == "" {
		fmt.Fprintln(s.Err, "USAGE: zookeeper-shell.sh HOST:PORT[/path] [-zk-tls-config-file FILE] [COMMAND ...]")
		return 1
	}
	shell := &zkShell{address: address, streams: s}
	c := &call{options: &options{values: map[string][]string{"zookeeper": {address}}}, ctx: ctx, in: s.In, out: s.Out, errOut: s.Err}
	fmt.Fprintln(s.Out, "Connecting to "+address)
	if err := c.findBrokers(name); err != nil {
		fmt.Fprintln(s.Err, ops.Plain(err))
		return 1
	}
	err := c.adminWith(func(cl *kgo.Client, admin *kadm.Client) error {
		shell.view = zkView{ctx, cl, admin}
		fmt.Fprint(s.Out, "\nWATCHER::\n\nWatchedEvent state:SyncConnected type:None path:null\n")
		if len(args) > 0 {
			return shell.command(args)
		}
		return shell.prompt()
	})
	if err != nil {
		fmt.Fprintln(s.Err, ops.Plain(err))
		return 1
	}
	return 0
}

// prompt runs the commands of the input, one a line.
func (z *zkShell) prompt() error {
	lines := bufio.NewScanner(z.streams.In)
	for n := 0; !z.quit; n++ {
		fmt.Fprintf(z.streams.Out, "[zk: %s(CONNECTED) %d] ", z.address, n)
		if !lines.Scan() {
			fmt.Fprintln(z.streams.Out)
			return lines.Err()
		}
		if words := strings.Fields(lines.Text()); len(words) > 0 {
			if err := z.command(words); err != nil {
				fmt.Fprintln(z.streams.Out, ops.Plain(err))
			}
		}
	}
	return nil
}

// instead says, for each command that writes, what does that now.
const instead = "this view of the metadata is read-only: topics are changed by kafka-topics, settings by kafka-configs, replicas by kafka-reassign-partitions, groups by kafka-consumer-groups"

func (z *zkShell) command(words []string) error {
	options, paths := []string{}, []string{}
	for _, w := range words[1:] {
		if strings.HasPrefix(w, "-") {
			options = append(options, w)
		} else {
			paths = append(paths, w)
		}
	}
	has := func(o string) bool { return slices.Contains(options, o) }
	switch words[0] {
	case "quit", "close", "exit":
		z.quit = true
		return nil
	case "help", "h", "?":
		_, err := fmt.Fprintln(z.streams.Out, "ZooKeeper -server host:port cmd args\n\tget [-s] path\n\tls [-s] [-R] path\n\tls2 path\n\tstat path\n\tquit\n"+instead)
		return err
	case "version":
		_, err := fmt.Fprintln(z.streams.Out, "a view of kraft's metadata, in ZooKeeper's place")
		return err
	case "sync", "history", "addauth", "connect":
		return nil
	case "create", "set", "delete", "deleteall", "rmr", "setAcl", "setquota", "delquota", "reconfig":
		return errors.New(words[0] + ": " + instead)
	case "ls", "ls2", "get", "stat":
	default:
		return fmt.Errorf("ZooKeeper -server host:port cmd args: there is no command %s here (help lists them)", words[0])
	}
	at := "/"
	if len(paths) > 0 {
		at = paths[0]
	}
	if !strings.HasPrefix(at, "/") {
		return fmt.Errorf("Path must start with / character: %s", at)
	}
	at, err := z.withoutChroot(at)
	if err != nil {
		return err
	}
	n, err := z.find(at)
	if err != nil {
		return err
	}
	out := z.streams.Out
	switch words[0] {
	case "ls", "ls2":
		if has("-R") {
			return z.walk(out, path.Clean(at), n)
		}
		fmt.Fprintf(out, "[%s]\n", strings.Join(n.children, ", "))
	case "get":
		fmt.Fprintln(out, n.data)
	}
	if words[0] == "stat" || words[0] == "ls2" || has("-s") {
		stat(out, n)
	}
	return nil
}

// withoutChroot drops a path's elements before the first that the root has: a cluster's chroot.
func (z *zkShell) withoutChroot(at string) (string, error) {
	root, err := z.view.node("/")
	if err != nil {
		return "", err
	}
	elements := strings.Split(strings.Trim(path.Clean(at), "/"), "/")
	if i := slices.IndexFunc(elements, func(e string) bool { return slices.Contains(root.children, e) }); i > 0 {
		return "/" + strings.Join(elements[i:], "/"), nil
	}
	return at, nil
}

// find returns the node at a path, or errNotThere.
func (z *zkShell) find(at string) (*zkNode, error) {
	n, err := z.view.node(at)
	if err == nil && n == nil {
		err = fmt.Errorf("%w: %s", errNotThere, at)
	}
	return n, err
}

// walk prints the paths of a node and of all below it.
func (z *zkShell) walk(w io.Writer, at string, n *zkNode) error {
	fmt.Fprintln(w, at)
	for _, name := range n.children {
		below := path.Join(at, name)
		child, err := z.find(below)
		if errors.Is(err, errNotThere) {
			continue // it has gone meanwhile
		}
		if err != nil {
			return err
		}
		if err := z.walk(w, below, child); err != nil {
			return err
		}
	}
	return nil
}

// stat prints the fields that ZooKeeper has for a node beside its data. Those of versions and times are always 0: the view has none.
func stat(w io.Writer, n *zkNode) {
	length := len(n.data)
	if n.data == "null" {
		length = 0
	}
	fmt.Fprintf(w, "cZxid = 0x0\nctime = Thu Jan 01 00:00:00 UTC 1970\nmZxid = 0x0\nmtime = Thu Jan 01 00:00:00 UTC 1970\npZxid = 0x0\ncversion = 0\ndataVersion = 0\naclVersion = 0\nephemeralOwner = 0x0\ndataLength = %d\nnumChildren = %d\n",
		length, len(n.children))
}

// ServerMode asks the metadata quorum, by the address of a broker, what zkServer.sh status says of a node.
func ServerMode(ctx context.Context, broker string, node int32) (string, error) {
	c := &call{options: &options{values: map[string][]string{"bootstrap-server": {broker}}}, ctx: ctx}
	mode := "observer"
	err := c.adminWith(func(cl *kgo.Client, _ *kadm.Client) error {
		_, q, err := ops.Quorum(ctx, cl)
		if err != nil {
			return err
		}
		for _, v := range q.CurrentVoters {
			if v.ReplicaID == node {
				mode = "follower"
			}
		}
		if q.LeaderID == node {
			mode = map[bool]string{true: "standalone", false: "leader"}[len(q.CurrentVoters) == 1]
		}
		return nil
	})
	return mode, err
}
