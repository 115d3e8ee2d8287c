package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
	"kraft/e2e/workload"
)

// Cluster is nodes, each on a host of its own, voters and brokers all, and clients on one more host.
type Cluster struct {
	Network *Network
	Clients *Host
	Nodes   []*Node
	History *workload.History
	Topics  []string // that are to be whole

	admin    *kgo.Client
	programs []*Program
}

// Node is one of a cluster's: a process that is started again. Its methods are for one goroutine at a time.
type Node struct {
	*harness.Kraft
	ID   int32
	host *Host
	disk string // its log directory; the metadata is elsewhere

	paused bool
}

const stopPatience = 30 * time.Second

// NewCluster makes a cluster of nodes below dir, on the first hosts of the network; its clients are on the last. Start it.
// {id} in more arguments is the node's id.
func NewCluster(network *Network, dir string, args ...string) *Cluster {
	c := &Cluster{Network: network, Clients: network.Hosts[len(network.Hosts)-1], History: workload.NewHistory()}
	hosts := network.Hosts[:len(network.Hosts)-1]
	var peers []string
	for i, h := range hosts {
		peers = append(peers, fmt.Sprintf("%d@%s:9093", i+1, h.Address))
	}
	for i, h := range hosts {
		id := fmt.Sprint(i + 1)
		n := &Node{ID: int32(i + 1), host: h, disk: filepath.Join(dir, id, "logs")}
		all := []string{"--node-id", id, "--peers", strings.Join(peers, ","), "--listeners", "PLAINTEXT://" + h.Address + ":9092",
			"--data", n.disk, "--override", "metadata.log.dir=" + filepath.Join(dir, id, "metadata"), "--override", "min.insync.replicas=2",
			"--override", "offsets.topic.num.partitions=1", "--override", "group.initial.rebalance.delay.ms=0", "--log-level", "info"}
		for _, a := range args {
			all = append(all, strings.ReplaceAll(a, "{id}", id))
		}
		n.Kraft = harness.Node(h.Address+":9092", n.disk, all...)
		c.Nodes = append(c.Nodes, n)
	}
	return c
}

// Start starts nodes together, all if none is named, and waits until they are ready.
func (c *Cluster) Start(nodes ...*Node) error {
	if len(nodes) == 0 {
		nodes = c.Nodes
	}
	errs := make([]error, len(nodes))
	var starting sync.WaitGroup
	for i, n := range nodes {
		starting.Go(func() { errs[i] = n.Start() })
	}
	starting.Wait()
	return errors.Join(errs...)
}

// Close stops what runs.
func (c *Cluster) Close() error {
	if c.admin != nil {
		c.admin.Close()
	}
	for _, p := range c.programs {
		p.kill()
	}
	errs := make([]error, len(c.Nodes))
	var stopping sync.WaitGroup
	for i, n := range c.Nodes {
		stopping.Go(func() {
			n.Resume()
			if n.Running() {
				errs[i] = n.Stop(stopPatience)
			}
		})
	}
	stopping.Wait()
	return errors.Join(errs...)
}

// Bootstrap is all nodes' addresses, by their ids.
func (c *Cluster) Bootstrap() (out []string) {
	for _, n := range c.Nodes {
		out = append(out, n.Addr)
	}
	return out
}

// Client makes a client on the clients' host.
func (c *Cluster) Client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(c.Bootstrap()...), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.Dialer(func(ctx context.Context, _, address string) (net.Conn, error) { return c.Clients.Dial(ctx, address) }),
	}, opts...)...)
}

// Whole waits until all nodes say the same: that all partitions of Topics are led and have all replicas in their ISRs. It
// returns them.
func (c *Cluster) Whole(patience time.Duration) (partitions map[workload.Partition]kmsg.MetadataResponseTopicPartition, err error) {
	if c.admin == nil {
		if c.admin, err = c.Client(kgo.RequestRetries(0)); err != nil {
			return nil, err
		}
	}
	err = harness.Eventually(patience, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		partitions = map[workload.Partition]kmsg.MetadataResponseTopicPartition{}
		for _, n := range c.Nodes {
			if err := c.ask(ctx, n, partitions); err != nil {
				return fmt.Errorf("node %d: %w", n.ID, err)
			}
		}
		return nil
	})
	return partitions, err
}

// ask takes what a node says of Topics, which has to be what others said.
func (c *Cluster) ask(ctx context.Context, n *Node, partitions map[workload.Partition]kmsg.MetadataResponseTopicPartition) error {
	req := kmsg.NewPtrMetadataRequest()
	for _, topic := range c.Topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(topic)
		req.Topics = append(req.Topics, t)
	}
	resp, err := c.admin.Broker(int(n.ID)).Request(ctx, req)
	if err != nil {
		return err
	}
	for _, t := range resp.(*kmsg.MetadataResponse).Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return fmt.Errorf("topic %s: %w", *t.Topic, err)
		}
		for _, now := range t.Partitions {
			if now.Leader < 0 || len(now.ISR) < len(now.Replicas) {
				return fmt.Errorf("%s-%d is led by %d, its ISR is %v of %v", *t.Topic, now.Partition, now.Leader, now.ISR, now.Replicas)
			}
			p := workload.Partition{Topic: *t.Topic, N: now.Partition}
			if other, ok := partitions[p]; ok && other.LeaderEpoch != now.LeaderEpoch {
				return fmt.Errorf("%v is in epoch %d, for others in %d", p, now.LeaderEpoch, other.LeaderEpoch)
			}
			partitions[p] = now
		}
	}
	return nil
}

// CheckLogs holds the replicas of partitions against each other and against the history. The nodes have stopped.
func (c *Cluster) CheckLogs(partitions map[workload.Partition]kmsg.MetadataResponseTopicPartition) {
	for p, d := range partitions {
		logs := map[int32][]workload.Stored{}
		for _, id := range d.Replicas {
			log, err := workload.ReadLog(files(c.Nodes[id-1].disk), p)
			if err != nil {
				c.History.Wrong("unreadable", "%v on %d: %v", p, id, err)
				continue
			}
			logs[id] = log
		}
		c.History.CheckLogs(p, logs)
	}
}

// files are those below a directory.
type files string

// Paths implements workload.Disk.
func (f files) Paths() (out []string) {
	_ = filepath.WalkDir(string(f), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, path)
		}
		return nil
	})
	slices.Sort(out)
	return out
}

// ReadFile implements workload.Disk.
func (f files) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }

// Start starts the process and waits until it is ready.
func (n *Node) Start() error { return n.StartWith() }

// StartWith is Start with more arguments, for this time only.
func (n *Node) StartWith(more ...string) error {
	return n.host.Do(func() error { return n.Kraft.StartWith(more...) })
}

// Running says that the process is there, paused or not.
func (n *Node) Running() bool {
	if n.Process == nil {
		return false
	}
	select {
	case <-n.Done():
		return false
	default:
		return true
	}
}

// Pause stops the process where it is (SIGSTOP), as a machine that hangs does.
func (n *Node) Pause() {
	n.paused = true
	_ = n.Cmd.Process.Signal(syscall.SIGSTOP)
}

// Resume has a paused process go on.
func (n *Node) Resume() {
	if n.paused {
		n.paused = false
		_ = n.Cmd.Process.Signal(syscall.SIGCONT)
	}
}

// Empty removes everything from the log directory. The process has ended.
func (n *Node) Empty() error {
	entries, err := os.ReadDir(n.disk)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(n.disk, e.Name())))
	}
	return err
}

// Fill leaves no room on the disk, and returns what makes room again. The disk is one of SmallDisk's.
func (n *Node) Fill() (empty func() error, err error) {
	ballast := filepath.Join(n.disk, "..", "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		return nil, err
	}
	for size := 1 << 20; size > 0 && err == nil; {
		if _, err = f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size, err = size/2, nil
		}
	}
	_ = f.Close()
	return func() error { return os.Remove(ballast) }, err
}

// SmallDisk mounts a disk of so many bytes, in memory, for a node's files. Call what it returns when all have ended.
func SmallDisk(at string, size int) (unmount func() error, err error) {
	if err = os.MkdirAll(at, 0o755); err != nil {
		return nil, err
	}
	if err = syscall.Mount("none", at, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		return nil, fmt.Errorf("mount a small disk: %w", err)
	}
	return func() error { return syscall.Unmount(at, syscall.MNT_DETACH) }, nil
}
