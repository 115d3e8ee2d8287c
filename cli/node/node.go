// Package node puts a broker together: the one place that knows every package.
package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"kraft/cli/config"
	"kraft/groups"
	"kraft/raftmeta"
	"kraft/raftmeta/image"
	"kraft/replication"
	"kraft/storage"
	"kraft/wire"
)

// metadataFile is the quorum's file in the metadata directory.
const metadataFile = "kraft-metadata.db"

// quorumTick is the quorum's unit of time: heartbeats every tick, elections after ten.
const quorumTick = 50 * time.Millisecond

// Node is a running broker with its voter.
type Node struct {
	config    *config.Config
	log       zerolog.Logger
	listeners []net.Listener
	dirs      []*storage.Dir
	meta      *raftmeta.Meta
	logs      *storage.Manager
	parts     *replication.Manager
	groups    *groups.Manager
	server    *wire.Server
	stopping  sync.Once
	stopErr   error
}

// Start starts a node and returns when it serves clients. Its errors are sentences for the person who
// started the program; whatever it had opened is closed again.
func Start(ctx context.Context, c *config.Config, log zerolog.Logger) (*Node, error) {
	n := &Node{config: c, log: log}
	if err := n.start(ctx); err != nil {
		_ = n.Stop()
		return nil, err
	}
	return n, nil
}

func (n *Node) start(ctx context.Context) error {
	for _, note := range n.config.Notes {
		n.log.Warn().Msg(note)
	}
	if err := n.listen(); err != nil {
		return err
	}
	if err := n.openDirs(); err != nil {
		return err
	}
	if err := n.openMeta(ctx); err != nil {
		return err
	}
	if err := n.claimDirs(); err != nil {
		return err
	}
	if err := n.checkLost(); err != nil {
		return err
	}
	if err := n.meta.Register(ctx, n.directoryIDs()); err != nil {
		return fmt.Errorf("register broker: %w", err)
	}
	logs, err := storage.NewManager(storage.OS{}, n.dirs, storage.ManagerConfig{
		RetentionInterval:  n.config.Millis("log.retention.check.interval.ms"),
		CheckpointInterval: n.config.Millis("replica.high.watermark.checkpoint.interval.ms"),
		RecoveryThreads:    int(n.config.Int("num.recovery.threads.per.data.dir")),
		ReserveBytes:       n.config.Int("log.dir.reserve.bytes"),
		Cleaner: storage.CleanerConfig{
			Threads: int(n.config.Int("log.cleaner.threads")), Memory: n.config.Int("log.cleaner.dedupe.buffer.size"),
			Backoff: n.config.Millis("log.cleaner.backoff.ms"), ReadWrite: n.config.Float("log.cleaner.io.max.bytes.per.second"),
		},
	}, n.log)
	if err != nil {
		return err
	}
	n.logs = logs
	n.parts = replication.NewManager(n.meta, logs, n.log)
	n.groups = groups.NewManager(n.meta, n.parts, n.log)
	n.parts.Start()
	n.groups.Start()
	if err := n.meta.Unfence(ctx); err != nil {
		return fmt.Errorf("start serving: %w", err)
	}
	n.serve()
	return nil
}

// listen binds all addresses before any data is touched: a port in use is the commonest fault.
func (n *Node) listen() error {
	for _, l := range n.config.Listeners {
		bound, err := net.Listen("tcp", l.Address())
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("address %s (listener %s) is in use by another process: stop it or choose another port", l.Address(), l.Name)
		}
		if err != nil {
			return fmt.Errorf("cannot listen on %s (listener %s): %w", l.Address(), l.Name, err)
		}
		n.listeners = append(n.listeners, bound)
	}
	return nil
}

func (n *Node) openDirs() error {
	for _, path := range n.config.LogDirs {
		d, err := storage.OpenDir(storage.OS{}, path)
		if err != nil {
			return err
		}
		n.dirs = append(n.dirs, d)
		m := d.Meta()
		if m == nil {
			continue
		}
		if m.NodeID != n.config.NodeID {
			return fmt.Errorf("data directory %s belongs to node %d, this is node %d: start with --node-id %d or give another directory", path, m.NodeID, n.config.NodeID, m.NodeID)
		}
		if n.config.ClusterID != "" && m.ClusterID != n.config.ClusterID {
			return fmt.Errorf("data directory %s belongs to cluster %s, this node's is %s: give another directory, or leave the cluster id out", path, m.ClusterID, n.config.ClusterID)
		}
	}
	return nil
}

func (n *Node) openMeta(ctx context.Context) error {
	if err := os.MkdirAll(n.config.MetadataDir, 0o755); err != nil {
		return fmt.Errorf("cannot use metadata directory %s: %w", n.config.MetadataDir, err)
	}
	id := n.config.ClusterID
	for _, d := range n.dirs {
		if m := d.Meta(); m != nil && id == "" {
			id = m.ClusterID
		}
	}
	var endpoints []*image.Endpoint
	for i, l := range n.config.Listeners {
		port := l.AdvertisedPort
		if port == 0 {
			port = n.listeners[i].Addr().(*net.TCPAddr).Port
		}
		endpoints = append(endpoints, &image.Endpoint{Listener: l.Name, Host: l.AdvertisedHost, Port: int32(port)})
	}
	meta, err := raftmeta.Open(ctx, raftmeta.Config{
		NodeID: n.config.NodeID, ClusterID: id, Path: filepath.Join(n.config.MetadataDir, metadataFile),
		Endpoints: endpoints, Rack: n.config.Rack, Static: n.config.Static,
		QuorumTick: quorumTick, SnapshotBytes: n.config.Int("metadata.log.max.record.bytes.between.snapshots"), Log: n.log,
	})
	if err != nil {
		return err
	}
	n.meta = meta
	return nil
}

// claimDirs ties new directories to the cluster and refuses those of another.
func (n *Node) claimDirs() error {
	id := n.meta.Image().ClusterID
	for _, d := range n.dirs {
		if m := d.Meta(); m != nil && m.ClusterID != id {
			return fmt.Errorf("data directory %s belongs to cluster %s, but the metadata in %s is of cluster %s: they do not go together", d.Path(), m.ClusterID, n.config.MetadataDir, id)
		}
		if err := d.Claim(id, n.config.NodeID); err != nil {
			return err
		}
	}
	return nil
}

// checkLost refuses to start when a directory that this node had is not among those given: its partitions
// would begin again, empty, in another.
func (n *Node) checkLost() error {
	last, ok := n.meta.Image().Broker(n.config.NodeID)
	if !ok || n.config.AcceptLost {
		return nil
	}
	now := n.directoryIDs()
	for _, id := range last.LogDirs {
		if !slices.Contains(now, id) {
			return fmt.Errorf("the log directory with directory.id=%s is not among %s: mount or name it, or give its data up by --accept-lost-directories",
				raftmeta.EncodeUUID(id), strings.Join(n.config.LogDirs, ", "))
		}
	}
	return nil
}

func (n *Node) directoryIDs() []image.UUID {
	ids := make([]image.UUID, len(n.dirs))
	for i, d := range n.dirs {
		ids[i] = d.Meta().DirectoryID
	}
	return ids
}

func (n *Node) serve() {
	r := new(wire.Registry)
	n.meta.RegisterHandlers(r)
	n.parts.RegisterHandlers(r)
	n.groups.RegisterHandlers(r)
	queued := n.config.Int("queued.max.request.bytes")
	if queued <= 0 {
		queued = 512 << 20
	}
	n.server = wire.NewServer(wire.Config{
		MaxRequestBytes: int(n.config.Int("socket.request.max.bytes")), MaxQueuedBytes: queued,
		IdleTimeout: n.config.Millis("connections.max.idle.ms"), MaxConnections: int(n.config.Int("max.connections")),
	}, r, n.meta.Identity(), n.log)
	for i, l := range n.config.Listeners {
		n.server.Serve(l.Name, n.listeners[i])
	}
}

// Addresses are the addresses that clients are told, a listener each, as host:port.
func (n *Node) Addresses() []string {
	var out []string
	b, _ := n.meta.Image().Broker(n.config.NodeID)
	for _, e := range b.Endpoints {
		out = append(out, net.JoinHostPort(e.Host, fmt.Sprint(e.Port)))
	}
	return out
}

// ClusterID is the cluster's id.
func (n *Node) ClusterID() string { return n.meta.Image().ClusterID }

// Failed is closed when the node can not go on by itself; Stop then says why.
func (n *Node) Failed() <-chan struct{} { return n.meta.Done() }

// Stop stops the node: requests at hand are answered, logs closed cleanly. It is safe to call twice.
func (n *Node) Stop() error {
	n.stopping.Do(func() { n.stopErr = n.stop() })
	return n.stopErr
}

func (n *Node) stop() error {
	var failures []error
	note := func(err error) {
		if err != nil {
			failures = append(failures, err)
		}
	}
	for _, l := range n.listeners {
		_ = l.Close()
	}
	if n.server != nil {
		n.server.Close()
	}
	if n.groups != nil {
		n.groups.Close()
	}
	if n.meta != nil {
		note(n.meta.Err())
		note(n.meta.Close())
	}
	if n.logs != nil {
		note(n.logs.Close(n.meta.BrokerEpoch()))
	}
	for _, d := range n.dirs {
		note(d.Close())
	}
	return errors.Join(failures...)
}
