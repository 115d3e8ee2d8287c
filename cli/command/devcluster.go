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
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"kraft/cli/config"
	"kraft/cli/node"
	"kraft/raftmeta/image"
	"kraft/storage"
	"kraft/wire/logging"
)

// devCluster is several nodes in one process.
type devCluster struct {
	log     *logging.Log
	configs []*config.Config
	failed  chan error
	ctx     context.Context // ends when the cluster stops
	cancel  context.CancelFunc

	mu      sync.Mutex // guards the rest; held while a node starts or stops
	nodes   []*node.Node
	records []*ownRecord // of nodes
	// starting are the nodes that start-broker has begun to start.
	starting []bool
}

// runDev runs a cluster until a signal comes or a node fails.
func runDev(c *cli.Context, n int, dir string, topics []devTopic, security *devSecurity) error {
	restore := stopByKey(c)
	defer restore()
	begun := time.Now()
	logs, stopLogging, err := startLogging(c)
	if err != nil {
		return err
	}
	defer stopLogging()
	log := logs.For(logging.Node)
	d := &devCluster{log: logs, failed: make(chan error, n), nodes: make([]*node.Node, n), records: make([]*ownRecord, n), starting: make([]bool, n)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	defer d.cancel()
	doors, err := d.configure(c, n, dir, security)
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
	var brokers [][]string
	for _, n := range d.nodes {
		addresses, brokers = append(addresses, n.Addresses()...), append(brokers, n.Addresses())
	}
	fmt.Fprintf(c.App.Writer, "kraft %s is ready at %s (%d brokers, cluster %s, data in %s) after %d ms\n",
		Version, strings.Join(addresses, ", "), n, d.nodes[0].ClusterID(), dir, time.Since(begun).Milliseconds())
	forget, err := greet(c, brokers, dir, topics, security)
	if err != nil {
		return errors.Join(err, d.stop())
	}
	defer forget()
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
func (d *devCluster) configure(c *cli.Context, n int, dir string, security *devSecurity) ([]net.Listener, error) {
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
		values := devValues(i+1, n, filepath.Join(dir, strconv.Itoa(i+1)), port)
		values["controller.quorum.voters"] = strings.Join(voters, ",")
		if security != nil {
			security.apply(values, doors[i].Addr().String())
			if err := security.firstUsers(values["log.dirs"]); err != nil {
				return nil, err
			}
		}
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
	n, record, err := d.open(ctx, i, door)
	if err == nil {
		d.keep(i, n, record)
	}
	return err
}

// open starts node i, and returns when it serves.
func (d *devCluster) open(ctx context.Context, i int, door net.Listener) (*node.Node, *ownRecord, error) {
	record := newRecord(d.configs[i], len(d.configs), d.log.For(logging.Node))
	n, err := node.StartOn(ctx, node.World{FS: storage.OS{}, Controller: door, Holds: record.holds}, d.configs[i], d.log.OfNode(i+1))
	if err != nil {
		return nil, nil, err
	}
	record.serves(n)
	return n, record, nil
}

// keep notes a node that serves. mu is held.
func (d *devCluster) keep(i int, n *node.Node, record *ownRecord) {
	d.nodes[i], d.records[i] = n, record
	go func() {
		<-n.Failed()
		d.mu.Lock()
		gone := d.nodes[i] != n // stopped on purpose
		d.mu.Unlock()
		if !gone {
			d.failed <- fmt.Errorf("broker %d", i+1)
		}
	}()
}

// stop stops all nodes, as at the end of the process.
func (d *devCluster) stop() error {
	d.cancel()
	d.mu.Lock()
	nodes, records := d.nodes, slices.Clone(d.records)
	d.nodes = make([]*node.Node, len(nodes))
	d.mu.Unlock()
	var stopping sync.WaitGroup
	failures := make([]error, len(nodes))
	for i, n := range nodes {
		if n != nil {
			records[i].stops()
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
				answer := ""
				if err == nil {
					answer, err = d.obey(strings.Fields(line))
				}
				if err != nil {
					fmt.Fprintln(conn, err)
					return
				}
				fmt.Fprintln(conn, strings.TrimSpace(doneWord+" "+answer))
			}()
		}
	}()
	return l, nil
}

// doneWord begins the answer where something was done.
const doneWord = "done"

// obey does what a subcommand asks, and returns what there is to say about it.
func (d *devCluster) obey(words []string) (says string, err error) {
	if len(words) != 2 {
		return "", errors.New("not understood")
	}
	id, err := strconv.Atoi(words[1])
	if err != nil || id < 1 || id > len(d.configs) {
		return "", fmt.Errorf("broker %s does not exist: the brokers are 1 to %d", words[1], len(d.configs))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	i := id - 1
	n := d.nodes[i]
	switch {
	case words[0] == "stop-broker" && n == nil:
		return "", fmt.Errorf("broker %d is not running", id)
	case words[0] == "stop-broker" && d.running() == 1:
		return "", fmt.Errorf("broker %d is the last one that runs: kraft dev stop stops the cluster", id)
	case words[0] == "stop-broker":
		d.nodes[i] = nil
		d.records[i].stops()
		if err := n.Stop(); err != nil {
			return "", err
		}
		return d.without(int32(id)), nil
	case words[0] == "start-broker" && n != nil:
		return "", fmt.Errorf("broker %d is running", id)
	case words[0] == "start-broker" && d.starting[i]:
		return "", fmt.Errorf("broker %d is starting: it waits until most brokers run", id)
	case words[0] == "start-broker":
		return d.startLater(i)
	}
	return "", errors.New("not understood")
}

// running is how many brokers run. mu is held.
func (d *devCluster) running() (n int) {
	for _, one := range d.nodes {
		if one != nil {
			n++
		}
	}
	return n
}

// majorityPatience is how long start-broker waits for a broker that may wait for others.
const majorityPatience = 5 * time.Second

// startLater starts a broker, and returns when it serves, or after majorityPatience while it goes on to start: it may wait for others, which
// are started in the same way. mu is held, but for the time of waiting.
func (d *devCluster) startLater(i int) (says string, err error) {
	d.starting[i] = true
	done := make(chan error, 1)
	go func() {
		n, record, err := d.open(d.ctx, i, nil)
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.starting[i] = false; err == nil && d.ctx.Err() != nil {
			err = errors.Join(d.ctx.Err(), n.Stop())
		}
		if err == nil {
			d.keep(i, n, record)
		}
		done <- err
	}()
	d.mu.Unlock()
	defer d.mu.Lock()
	select {
	case err := <-done:
		return "", err
	case <-time.After(majorityPatience):
		return "(it waits until most brokers run: start another one, too)", nil
	}
}

// without says what a stopped broker means for the topics. mu is held.
func (d *devCluster) without(id int32) string {
	i := slices.IndexFunc(d.nodes, func(n *node.Node) bool { return n != nil })
	if i < 0 {
		return "(no broker runs)"
	}
	fewer, dead := 0, []string{}
	d.nodes[i].Image().Topics("", func(t *image.Topic) bool {
		for n, p := range t.Partitions {
			switch {
			case image.IsInternal(t.Name) || !slices.Contains(p.Replicas, id):
			case p.Leader < 0:
				dead = append(dead, fmt.Sprintf("%s:%d", t.Name, n))
			default:
				fewer++
			}
		}
		return true
	})
	if len(dead) == 0 {
		return fmt.Sprintf("(other brokers lead its %s)", counted(fewer, "partition"))
	}
	shown := strings.Join(dead[:min(len(dead), 5)], ", ")
	if len(dead) > 5 {
		shown += ", ..."
	}
	return fmt.Sprintf("(other brokers lead %d of its partitions; %s without a leader, since no other replica is in sync: %s)", fewer, counted(len(dead), "partition"), shown)
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
	if answer = strings.TrimSpace(answer); answer != doneWord && !strings.HasPrefix(answer, doneWord+" ") {
		return errors.New(answer)
	}
	fmt.Fprintln(c.App.Writer, line+": "+answer)
	return nil
}
