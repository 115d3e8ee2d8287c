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

// Node is one of a cluster's: a process that is started again. Data is its log directory, the metadata is elsewhere. Its methods are for one goroutine at a time.
type Node struct {
	*harness.Kraft
	ID   int32
	host *Host

	paused bool
}

const stopPatience = 30 * time.Second

// NewCluster makes a cluster of nodes below dir, on the first hosts of the network; its clients are on the last. Start it.
func NewCluster(network *Network, dir string) *Cluster {
	c := &Cluster{Network: network, Clients: network.Hosts[len(network.Hosts)-1], History: workload.NewHistory()}
	hosts := network.Hosts[:len(network.Hosts)-1]
	var peers []string
	for i, h := range hosts {
		peers = append(peers, fmt.Sprintf("%d@%s:9093", i+1, h.Address))
	}
	for i, h := range hosts {
		id := fmt.Sprint(i + 1)
		address, data := h.Address+":9092", filepath.Join(dir, id, "logs")
		k := harness.Node(address, data, "--node-id", id, "--peers", strings.Join(peers, ","), "--listeners", "PLAINTEXT://"+address,
			"--data", data, "--override", "metadata.log.dir="+filepath.Join(dir, id, "metadata"), "--override", "min.insync.replicas=2",
			"--override", "offsets.topic.num.partitions=1", "--override", "group.initial.rebalance.delay.ms=0",
			"--override", "transaction.abort.timed.out.transaction.cleanup.interval.ms=1000", "--log-level", "info")
		c.Nodes = append(c.Nodes, &Node{Kraft: k, ID: int32(i + 1), host: h})
	}
	return c
}

// Start starts nodes together, all if none is named, and waits until they are ready.
func (c *Cluster) Start(nodes ...*Node) error {
	if len(nodes) == 0 {
		nodes = c.Nodes
	}
	return together(nodes, (*Node).Start)
}

// together does the same to all at the same time.
func together[T any](all []T, do func(T) error) error {
	errs := make([]error, len(all))
	var doing sync.WaitGroup
	for i, one := range all {
		doing.Go(func() { errs[i] = do(one) })
	}
	doing.Wait()
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
	return together(c.Nodes, func(n *Node) error {
		n.Resume()
		if !n.Running() {
			return nil
		}
		return n.Stop(stopPatience)
	})
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
// returns them. The topic that is made again may be there, too, and be whole, or be gone for all.
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
		ids := map[string][16]byte{}
		for _, n := range c.Nodes {
			if err := c.ask(ctx, n, ids, partitions); err != nil {
				return fmt.Errorf("node %d: %w", n.ID, err)
			}
		}
		return nil
	})
	return partitions, err
}

// Leader waits until the cluster is whole, and returns who leads a partition.
func (c *Cluster) Leader(p workload.Partition) (*Node, error) {
	partitions, err := c.Whole(whole)
	if err != nil {
		return nil, err
	}
	return c.Nodes[partitions[p].Leader-1], nil
}

// ask takes what a node says of the topics, which has to be what others said: of a topic that is gone, that its id is none.
func (c *Cluster) ask(ctx context.Context, n *Node, ids map[string][16]byte, partitions map[workload.Partition]kmsg.MetadataResponseTopicPartition) error {
	topics, err := workload.Ask(ctx, c.admin, int(n.ID), c.Topics)
	if err != nil {
		return err
	}
	for _, t := range topics {
		gone := *t.Topic == workload.Again.Topic && t.ErrorCode == kerr.UnknownTopicOrPartition.Code
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !gone {
			return fmt.Errorf("topic %s: %w", *t.Topic, err)
		}
		if other, ok := ids[*t.Topic]; ok && other != t.TopicID {
			return fmt.Errorf("topic %s is %x, for others %x", *t.Topic, t.TopicID, other)
		}
		ids[*t.Topic] = t.TopicID
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
		replicas := c.History.ReadReplicas(p, d.Replicas, func(id int32) workload.Disk { return files(c.Nodes[id-1].Data) })
		if p.Topic == workload.TransactTopic { // its records are in another history
			c.History.CheckSame(p, replicas)
		} else {
			c.History.CheckLogs(p, replicas)
		}
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
	entries, err := os.ReadDir(n.Data)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(n.Data, e.Name())))
	}
	return err
}

// Fill leaves no room on the disk, and returns what makes room again. The disk is one of SmallDisk's.
func (n *Node) Fill() (empty func() error, err error) {
	ballast := filepath.Join(n.Data, "..", "ballast")
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
