package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"kraft/cli/config"
	"kraft/cli/node"
	"kraft/storage"
	"kraft/wire/logging"
)

func devCommand() *cli.Command {
	data := &cli.StringFlag{Name: "data", Usage: "`DIR` for the data (default: kraft/dev below your cache directory)"}
	play := func(name, usage string) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, UsageText: "kraft dev " + name + " N [--data DIR]", OnUsageError: usageError, Flags: []cli.Flag{data},
			Action: withArguments(func(c *cli.Context, args []string) error {
				if len(args) != 1 {
					return badUse("kraft dev %s takes one broker: kraft dev %s 2", name, name)
				}
				return askDev(c, name+" "+args[0])
			}),
		}
	}
	return &cli.Command{
		Name:      "dev",
		Usage:     "run a cluster for development on this machine",
		UsageText: "kraft dev [--brokers 3] [--port 9092] [--data DIR]\nkraft dev stop-broker N | start-broker N",
		Description: "Three brokers in one process, on ports 9092 to 9094 of localhost; needs no configuration. Data is kept\n" +
			"between runs in a directory below your cache directory, or in --data. Consumer groups start without Kafka's\n" +
			"3 s delay. stop-broker and start-broker simulate failures in a running cluster.",
		OnUsageError: usageError,
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "brokers", Value: 3, Usage: "run `N` brokers"},
			&cli.IntFlag{Name: "port", Value: 9092, Usage: "listen on localhost:`PORT` and those behind it; 0 takes free ones"},
			data,
		}, commonFlags()...),
		Subcommands:     []*cli.Command{play("stop-broker", "stop broker N of a running kraft dev"), play("start-broker", "start broker N again")},
		HideHelpCommand: true,
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			dir, err := devData(c)
			if err != nil {
				return err
			}
			n := c.Int("brokers")
			if _, err := os.Stat(filepath.Join(dir, "meta.properties")); err == nil && !c.IsSet("brokers") {
				n = 1 // of a time when there was one
			}
			switch {
			case n == 1:
				values := devValues(1, dir, c.Int("port"))
				if err := override(c, values); err != nil {
					return err
				}
				return serve(c, values, nil)
			case n < 1 || n > maxDevBrokers:
				return badUse("--brokers must be from 1 to %d, not %d", maxDevBrokers, n)
			case strings.Contains(dir, ","):
				return badUse("--data takes one directory for several brokers")
			}
			return runDev(c, n, dir)
		},
	}
}

const maxDevBrokers = 15

func devData(c *cli.Context) (string, error) {
	if dir := c.String("data"); dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache directory for the data, give one by --data: %w", err)
	}
	return filepath.Join(cache, "kraft", "dev"), nil
}

func devValues(id int, dir string, port int) map[string]string {
	return map[string]string{
		"node.id": strconv.Itoa(id), "log.dirs": dir,
		"listeners":                        fmt.Sprintf("PLAINTEXT://localhost:%d", port),
		"group.initial.rebalance.delay.ms": "0",
	}
}

// devCluster is several nodes in one process.
type devCluster struct {
	log     *logging.Log
	configs []*config.Config
	failed  chan error

	mu    sync.Mutex // guards the rest; held while a node starts or stops
	nodes []*node.Node
}

// runDev runs a cluster until a signal comes or a node fails.
func runDev(c *cli.Context, n int, dir string) error {
	begun := time.Now()
	logs, stopLogging, err := startLogging(c)
	if err != nil {
		return err
	}
	defer stopLogging()
	log := logs.For(logging.Node)
	d := &devCluster{log: logs, failed: make(chan error, n), nodes: make([]*node.Node, n)}
	doors, err := d.configure(c, n, dir)
	if err != nil {
		return err
	}
	if err := d.startAll(c.Context, doors); err != nil && c.Context.Err() != nil {
		log.Info().Msg("stopped while starting")
		return d.stop()
	} else if err != nil {
		return errors.Join(err, d.stop())
	}
	control, err := d.control(dir)
	if err != nil {
		return errors.Join(err, d.stop())
	}
	defer control.Close()
	var addresses []string
	for _, n := range d.nodes {
		addresses = append(addresses, n.Addresses()...)
	}
	fmt.Fprintf(c.App.Writer, "kraft %s is ready at %s (%d brokers, cluster %s, data in %s) after %d ms\n",
		Version, strings.Join(addresses, ", "), n, d.nodes[0].ClusterID(), dir, time.Since(begun).Milliseconds())
	failed := make(chan struct{})
	go func() {
		if err, ok := <-d.failed; ok {
			log.Error().Err(err).Msg("a broker failed")
			close(failed)
		}
	}()
	return untilStopped(c, log, failed, d.stop)
}

// configure makes the nodes' configurations. Members of the quorum find each other on ports that are free now.
func (d *devCluster) configure(c *cli.Context, n int, dir string) ([]net.Listener, error) {
	var doors []net.Listener
	var voters []string
	for i := range n {
		door, err := net.Listen("tcp", "localhost:0")
		if err != nil {
			return nil, fmt.Errorf("cannot listen on localhost: %w", err)
		}
		doors = append(doors, door)
		voters = append(voters, fmt.Sprintf("%d@%s", i+1, door.Addr()))
	}
	for i := range n {
		port := c.Int("port")
		if port != 0 {
			port += i
		}
		values := devValues(i+1, filepath.Join(dir, strconv.Itoa(i+1)), port)
		values["controller.quorum.voters"] = strings.Join(voters, ",")
		if err := override(c, values); err != nil {
			return nil, err
		}
		conf, err := config.New(values)
		if err != nil {
			return nil, badUseOf(err)
		}
		conf.AcceptLost = c.Bool("accept-lost-directories")
		d.configs = append(d.configs, conf)
	}
	return doors, nil
}

func (d *devCluster) startAll(ctx context.Context, doors []net.Listener) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failures := make([]error, len(doors))
	var starting sync.WaitGroup
	for i, door := range doors {
		starting.Go(func() {
			if failures[i] = d.start(ctx, i, door); failures[i] != nil {
				cancel() // the others wait for it
			}
		})
	}
	starting.Wait()
	for _, err := range failures {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return errors.Join(failures...)
}

// start starts node i. mu is held.
func (d *devCluster) start(ctx context.Context, i int, door net.Listener) error {
	n, err := node.StartOn(ctx, node.World{FS: storage.OS{}, Controller: door}, d.configs[i], d.log.OfNode(i+1))
	if err != nil {
		return err
	}
	d.nodes[i] = n
	go func() {
		<-n.Failed()
		d.mu.Lock()
		gone := d.nodes[i] != n // stopped on purpose
		d.mu.Unlock()
		if !gone {
			d.failed <- fmt.Errorf("broker %d", i+1)
		}
	}()
	return nil
}

// stop stops all nodes, as at the end of the process.
func (d *devCluster) stop() error {
	d.mu.Lock()
	nodes := d.nodes
	d.nodes = make([]*node.Node, len(nodes))
	d.mu.Unlock()
	var stopping sync.WaitGroup
	failures := make([]error, len(nodes))
	for i, n := range nodes {
		if n != nil {
			stopping.Go(func() { failures[i] = n.Stop() })
		}
	}
	stopping.Wait()
	return errors.Join(failures...)
}

// socketName is the file by which a running kraft dev is asked for things.
const socketName = "dev.sock"

// control listens for what the subcommands ask.
func (d *devCluster) control(dir string) (net.Listener, error) {
	path := filepath.Join(dir, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a process that was killed; the data's locks are ours
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for kraft dev's subcommands: %w", err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(stopPatience))
				line, err := bufio.NewReader(conn).ReadString('\n')
				if err == nil {
					err = d.obey(strings.Fields(line))
				}
				answer := "done"
				if err != nil {
					answer = err.Error()
				}
				fmt.Fprintln(conn, answer)
			}()
		}
	}()
	return l, nil
}

func (d *devCluster) obey(words []string) error {
	if len(words) != 2 {
		return errors.New("not understood")
	}
	id, err := strconv.Atoi(words[1])
	if err != nil || id < 1 || id > len(d.configs) {
		return fmt.Errorf("there is no broker %s, they are 1 to %d", words[1], len(d.configs))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	i := id - 1
	n := d.nodes[i]
	switch {
	case words[0] == "stop-broker" && n == nil:
		return fmt.Errorf("broker %d is not running", id)
	case words[0] == "stop-broker":
		d.nodes[i] = nil
		return n.Stop()
	case words[0] == "start-broker" && n != nil:
		return fmt.Errorf("broker %d is running", id)
	case words[0] == "start-broker":
		ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
		defer cancel()
		return d.start(ctx, i, nil)
	}
	return errors.New("not understood")
}

// askDev has a running kraft dev do something.
func askDev(c *cli.Context, line string) error {
	dir, err := devData(c)
	if err != nil {
		return err
	}
	conn, err := net.Dial("unix", filepath.Join(dir, socketName))
	if err != nil {
		return fmt.Errorf("no kraft dev with several brokers runs with its data in %s", dir)
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, line); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("kraft dev gave no answer: %w", err)
	}
	if answer = strings.TrimSpace(answer); answer != "done" {
		return errors.New(answer)
	}
	fmt.Fprintln(c.App.Writer, line+": "+answer)
	return nil
}
