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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"kraft/cli/config"
	"kraft/cli/metrics"
	"kraft/groups"
	"kraft/raftmeta"
	"kraft/raftmeta/authorizer"
	"kraft/raftmeta/image"
	"kraft/raftmeta/quorum"
	"kraft/raftmeta/telemetry"
	"kraft/replication"
	"kraft/storage"
	"kraft/wire"
	"kraft/wire/logging"
	"kraft/wire/oauth"
	"kraft/wire/quota"
	"kraft/wire/ssl"
)

// metadataFile is the quorum's file in the metadata directory.
const metadataFile = "kraft-metadata.db"

// kafkaMetadata is the directory in which Apache Kafka has its own (KRaft) metadata.
const kafkaMetadata = image.QuorumTopic + "-0"

// quorumTick is the quorum's unit of time: heartbeats every tick, elections after ten. That is for peers that
// fall silent; of a process that ended the others learn at once.
const quorumTick = 50 * time.Millisecond

// A stop waits at most so long for one step after the other.
const (
	holdPatience  = time.Second     // until everything that was appended is committed
	leavePatience = 5 * time.Second // until others lead what this broker led
	drainPatience = 5 * time.Second // until all requests that were read are answered
)

// Node is a running broker with its voter.
type Node struct {
	fs          storage.FS
	bind        func(address string) (net.Listener, error)
	dial        wire.Dialer
	features    map[string][2]int16
	config      *config.Config
	logs        *logging.Log
	log         zerolog.Logger // logs.For(logging.Node)
	listeners   []net.Listener
	stores      map[string]*ssl.Store         // of the listeners with TLS, by their names
	tokenKeys   map[*config.OAuth]*oauth.Keys // of the listeners with OAUTHBEARER
	dialMembers wire.Dialer                   // to members of the quorum, as their listeners ask for it
	dialBrokers wire.Dialer                   // to brokers, likewise
	dirs        []*storage.Dir
	*metadata   // nil until the node looks for its place in the quorum
	stored      *storage.Manager
	parts       *replication.Manager
	groups      *groups.Manager
	telemetry   *telemetry.Manager
	server      *wire.Server
	place       place
	owns        func(ctx context.Context, host string) (bool, error)
	waiting     func(what string)
	holds       func(dir string)
	held        bool
	toldTaken   map[string]bool // addresses that the log has reported as taken by another process
	limit       atomic.Pointer[wire.Limits]
	quotas      *quota.Manager
	authorizer  *authorizer.Authorizer // nil: everybody may do everything
	controllers net.Listener           // for members of the quorum, nil for a node that is alone
	quorum      *wire.Server
	admin       *metrics.Admin // nil without admin.listener
	failed      chan struct{}
	dead        atomic.Bool // no log directory is left
	disks       sync.WaitGroup
	stopped     chan struct{} // closed when Stop begins
	stopping    sync.Once
	stopErr     error
}

// World is what a node is put into. Time comes through package time only, so that testing/synctest can drive it.
type World struct {
	FS         storage.FS                                 // of the log directories; nil is the system's
	Listen     func(address string) (net.Listener, error) // on host:port, whose Addr is a *net.TCPAddr; nil is TCP
	Controller net.Listener                               // already bound, for members of the quorum; nil has the node bind config's
	Dial       wire.Dialer                                // to other nodes; nil is TCP
	Features   map[string][2]int16                        // levels that the node supports; nil are this version's
	// Owns reports whether a host's name or address is that of the host on which the node runs; nil asks the resolver and the interfaces.
	Owns func(ctx context.Context, host string) (bool, error)
	// Waiting is called while a start waits for other nodes, again and again, with what it waits for; or nil.
	Waiting func(what string)
	// Holds is called with a log directory once the node has locked those that work, and with "" before it unlocks them; or nil.
	Holds func(dir string)
}

// StartOn starts a node in a given world, and returns when it serves clients. Its errors are sentences for the person who started the
// program; whatever it had opened is closed again.
func StartOn(ctx context.Context, w World, c *config.Config, log *logging.Log) (*Node, error) {
	if w.FS == nil {
		w.FS = storage.OS{}
	}
	if w.Dial == nil {
		w.Dial = dial
	}
	if w.Listen == nil {
		w.Listen = listenTCP
	}
	if w.Owns == nil {
		w.Owns = ownHost
	}
	if w.Holds == nil {
		w.Holds = func(string) {}
	}
	n := &Node{fs: w.FS, bind: w.Listen, dial: w.Dial, owns: w.Owns, waiting: w.Waiting, holds: w.Holds, features: w.Features, controllers: w.Controller, config: c, logs: log, log: log.For(logging.Node), toldTaken: map[string]bool{}, failed: make(chan struct{}), stopped: make(chan struct{})}
	if err := n.start(ctx); err != nil {
		_ = n.Stop()
		return nil, err
	}
	return n, nil
}

func (n *Node) start(ctx context.Context) error {
	begun := time.Now()
	for _, note := range n.config.Notes {
		n.log.Warn().Msg(note)
	}
	if err := errors.Join(n.openStores(), n.openTokenKeys()); err != nil {
		return err
	}
	if err := n.listen(); err != nil {
		return err
	}
	if err := n.listenAdmin(); err != nil {
		return err
	}
	if err := n.openDirs(); err != nil {
		return err
	}
	if i := slices.IndexFunc(n.dirs, func(d *storage.Dir) bool { return d.Err() == nil }); i >= 0 {
		n.held = true
		n.holds(n.dirs[i].Path())
	}
	if err := n.joinQuorum(ctx); err != nil {
		return err
	}
	if err := n.claimDirs(); err != nil {
		return err
	}
	if err := config.RemoveFirstUsers(n.config.MetadataDir); err != nil { // the cluster has them, or began without
		n.log.Warn().Err(err).Msg("cannot remove the file of the first users")
	}
	if n.config.IsBroker {
		stop := n.meta.TellWaits()
		err := n.startBroker(ctx)
		stop()
		if err != nil {
			return err
		}
	} else if n.authorizer != nil {
		if err := n.broker.CatchUp(ctx); err != nil {
			return err
		}
		n.authorizer.Ready()
	}
	if n.admin != nil {
		n.admin.Ready(n.sources(begun))
	}
	go n.watch()
	if n.server != nil && !n.meta.Alone() {
		n.disks.Go(n.watchDisks)
	}
	return nil
}

// doubtPatience is how long a node asks to be taken in before it looks again whether an address of the quorum is its own and free.
const doubtPatience = 10 * time.Second

// joinQuorum finds the node's place in the metadata quorum, and returns when the quorum has a leader that this node knows.
func (n *Node) joinQuorum(ctx context.Context) error {
	for {
		if err := n.findPlace(ctx); err != nil {
			return err
		}
		if err := n.openMeta(); err != nil {
			return err
		}
		if err := n.checkPlace(); err != nil {
			return err
		}
		trying, cancel := ctx, context.CancelFunc(func() {})
		if n.place.doubtful {
			trying, cancel = context.WithTimeout(ctx, doubtPatience)
		}
		err := n.metadata.join(trying)
		cancel()
		if err == nil {
			return n.checkPlace()
		}
		if !n.place.doubtful || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return n.withPlace(err)
		}
		if err := n.metadata.close(); err != nil {
			return err
		}
		n.metadata = nil
	}
}

// sources are what metrics are told of.
func (n *Node) sources(started time.Time) metrics.Sources {
	s := metrics.Sources{Meta: n.meta, Replication: n.parts, Groups: n.groups, Telemetry: n.telemetry, Logs: n.stored, Authorizer: n.authorizer, Quotas: n.quotas, Certificates: n.certificates, Dial: n.dialBrokers, InterBroker: n.config.InterBroker, Version: n.config.Version, Started: started}
	for _, server := range []*wire.Server{n.server, n.quorum} {
		if server != nil {
			s.Servers = append(s.Servers, server)
		}
	}
	return s
}

// startBroker opens the logs and serves clients.
func (n *Node) startBroker(ctx context.Context) error {
	if n.checkLost() != nil { // as far as this node knows: others may know that the loss was accepted
		if err := n.broker.CatchUp(ctx); err != nil {
			return err
		}
		if err := n.checkLost(); err != nil {
			return err
		}
	}
	clean := storage.CleanEpoch(n.dirs)
	if err := n.broker.Register(ctx, n.directoryIDs(), clean); err != nil {
		return fmt.Errorf("register broker: %w", err)
	}
	if err := n.checkPlace(); err != nil { // of which it may have heard by now
		return err
	}
	settings := n.meta.SettingsOf(n.meta.Image())
	cleaner, moveBytes := replication.BackgroundConfig(settings)
	moves := settings.MoveThreads
	if moves <= 0 {
		moves = len(n.dirs)
	}
	logs, err := storage.NewManager(n.dirs, storage.ManagerConfig{
		RetentionInterval:  n.config.RetentionInterval,
		CheckpointInterval: n.config.CheckpointInterval,
		RecoveryThreads:    n.config.RecoveryThreads,
		ReserveBytes:       n.config.ReserveBytes,
		NoteSyncs:          n.config.FlushPolicy == "commit",
		MoveThreads:        moves,
		MoveBytes:          moveBytes,
		Cleaner:            cleaner,
	}, n.logs.For(logging.Storage))
	if err != nil {
		return err
	}
	n.stored = logs
	if err := ctx.Err(); err != nil {
		return err
	}
	n.parts = replication.NewManager(n.meta, n.broker, logs, n.dialBrokers, n.config.InterBroker, replication.Logs{Log: n.logs.For(logging.Replication), StateChange: n.logs.For(logging.StateChange)})
	n.groups = groups.NewManager(n.meta, n.broker, n.parts, n.dialBrokers, n.config.InterBroker, n.logs.For(logging.Groups))
	if n.authorizer != nil {
		n.authorizer.Ready() // this node has its registration, and what was committed before
	}
	n.telemetry = telemetry.NewManager(telemetry.Config{Image: n.meta.Image, MaxBytes: n.config.TelemetryMaxBytes, Forward: n.config.TelemetryForwardURL, Log: n.log})
	n.parts.Start()
	n.groups.Start()
	if clean >= 0 && logs.Damaged() { // it has lost something after all, and leads nothing yet
		if err := n.broker.Register(ctx, n.directoryIDs(), -1); err != nil {
			return fmt.Errorf("register broker: %w", err)
		}
	}
	// Only now somebody hears of a directory that fails.
	if err := storage.MarkAlive(n.dirs, n.broker.Epoch()); err != nil {
		return err
	}
	if !n.meta.Alone() {
		n.serve() // the others fetch from what this broker leads as soon as they hear of it
	}
	if err := n.broker.Unfence(ctx); err != nil {
		return fmt.Errorf("start serving: %w", err)
	}
	if n.meta.Alone() {
		n.serve() // clients that connected since the address was bound waited, and find leaders
	}
	return nil
}

func (n *Node) openDirs() error {
	for _, path := range n.config.LogDirs {
		d, err := n.openDir(path)
		if errors.Is(err, storage.ErrDirFailed) && len(n.config.LogDirs) > 1 && path != n.config.MetadataDir {
			n.log.Error().Err(err).Msg("log directory is offline until the next start")
			n.dirs = append(n.dirs, storage.FailedDir(path, err))
			continue
		}
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
			return fmt.Errorf("data directory %s belongs to cluster %s, but this node is configured for cluster %s: use another directory, or remove the cluster id", path, m.ClusterID, n.config.ClusterID)
		}
	}
	return nil
}

// lockPatience is how long a start waits for a directory that another process has: one that stops has it to the end, and who stops
// and starts a node in one script does not wait for that.
const lockPatience = 2 * time.Second

func (n *Node) openDir(path string) (*storage.Dir, error) {
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		d, err := storage.OpenDir(n.fs, path)
		if !errors.Is(err, storage.ErrLocked) || time.Since(begun) > lockPatience {
			return d, err
		}
	}
}

// refuseOthersData refuses to begin a new cluster where the log directories belong to a cluster whose metadata file is missing: all data in
// them would be set aside as that of deleted topics.
func (n *Node) refuseOthersData(metadata string) error {
	for _, path := range append(slices.Clone(n.config.LogDirs), n.config.MetadataDir) {
		if _, err := os.Stat(filepath.Join(path, kafkaMetadata)); err == nil {
			return fmt.Errorf("%s holds the data of an Apache Kafka node (%s is its metadata), which kraft cannot take over yet: give kraft an empty directory, start Apache Kafka again, and copy the topics while both run (docs/operating.md, \"From Apache Kafka\")", path, kafkaMetadata)
		}
	}
	_, votes := n.config.Voters[n.config.NodeID]
	if others := len(n.config.Voters); others > 1 || others == 1 && !votes || len(n.place.join) > 0 || len(n.config.ZooKeeper) > 1 {
		return nil // the other members know
	}
	for _, d := range n.dirs {
		m := d.Meta()
		if m == nil || d.Err() != nil {
			continue
		}
		filled, err := d.HasPartitions() // it may have been formatted, and no more
		if err != nil {
			return err
		}
		if filled {
			return fmt.Errorf("%s belongs to cluster %s, whose metadata file %s is missing: restore the file, or set metadata.log.dir to the directory that holds it; if the data is Apache Kafka's or no longer needed, use an empty directory", d.Path(), m.ClusterID, metadata)
		}
	}
	return nil
}

func (n *Node) openMeta() error {
	if err := os.MkdirAll(n.config.MetadataDir, 0o755); err != nil {
		return fmt.Errorf("cannot use metadata directory %s: %w", n.config.MetadataDir, err)
	}
	path := filepath.Join(n.config.MetadataDir, metadataFile)
	claimed := slices.ContainsFunc(n.dirs, func(d *storage.Dir) bool { return d.Meta() != nil })
	info, err := os.Stat(path)
	switch {
	case claimed && err == nil && info.Size() == 0:
		return fmt.Errorf("open metadata %s: it is empty, although the log directories are of a cluster: %w", path, quorum.ErrDamaged)
	case claimed && errors.Is(err, os.ErrNotExist):
		if err := n.refuseOthersData(path); err != nil {
			return err
		}
	}
	id := n.config.ClusterID
	for _, d := range n.dirs {
		if m := d.Meta(); m != nil && id == "" {
			id = m.ClusterID
		}
	}
	var endpoints []*image.Endpoint
	for i := range n.config.Listeners {
		l := &n.config.Listeners[i]
		host, port := told(l, n.listeners[i])
		endpoints = append(endpoints, &image.Endpoint{Listener: l.Name, Host: host, Port: int32(port), SecurityProtocol: securityProtocols[l.Protocol]})
	}
	users, err := config.ReadFirstUsers(n.config.MetadataDir)
	if err != nil {
		return err
	}
	c := raftmeta.Config{
		FirstUsers: users,
		NodeID:     n.config.NodeID, ClusterID: id, Path: path,
		Endpoints: endpoints, Rack: n.config.Rack, Static: n.config.Static,
		Features: n.features, Voters: n.place.voters, Join: n.place.join, Meeting: n.place.meeting, Waiting: n.waiting, Dial: n.dialMembers, Probe: n.dial, InterBroker: n.config.InterBroker,
		AcceptOlder: n.config.AcceptOlder, QuorumTick: quorumTick, SnapshotBytes: n.config.SnapshotBytes, Logs: n.logs,
	}
	if len(n.config.ZooKeeper) > 0 {
		c.Stranger = n.stranger
	}
	if n.controllers != nil {
		host, port := told(n.place.listener, n.controllers)
		c.Address = net.JoinHostPort(host, strconv.Itoa(port))
	}
	if n.metadata, err = openMetadata(c); err != nil {
		return err
	}
	n.followLimits()
	n.followQuotas()
	n.followStores()
	if c := n.config.Authorizer; c != nil {
		n.authorizer = authorizer.New(n.meta, *c)
	}
	if n.controllers != nil {
		r := new(wire.Registry)
		n.registerControllerHandlers(r)
		n.quorum = wire.NewServer(n.limits(), r, n.meta.Identity(), n.logs.For(logging.Wire))
		l := n.place.listener
		n.quorum.Serve(wire.Listener{Name: l.Name, Protocol: l.Protocol, TLS: n.stores[l.Name], Member: true, Net: n.controllers,
			Stream: &wire.Stream{Preface: quorum.Preface, Serve: n.meta.Accept, Words: fourLetterWords(n.meta)}})
	}
	return nil
}

// claimDirs ties new directories to the cluster and refuses those of another.
func (n *Node) claimDirs() error {
	id := n.meta.Image().ClusterID
	for _, d := range n.dirs {
		if d.Err() != nil {
			continue
		}
		if m := d.Meta(); m != nil && m.ClusterID != id {
			return fmt.Errorf("data directory %s belongs to cluster %s, but the metadata in %s belongs to cluster %s: use directories of one cluster", d.Path(), m.ClusterID, n.config.MetadataDir, id)
		}
		if err := d.Claim(id, n.config.NodeID); err != nil && (d.Err() == nil || d.Path() == n.config.MetadataDir) {
			return err
		}
	}
	return nil
}

// checkLost refuses to start when a directory that holds this node's partitions is not among those given:
// they would begin again, empty, in another. Directories that are given and cannot be used may be the ones.
func (n *Node) checkLost() error {
	img := n.meta.Newest()
	last, ok := img.Broker(n.config.NodeID)
	if !ok || n.config.AcceptLost {
		return nil
	}
	now := n.directoryIDs()
	var lost []image.UUID
	miss := func(id image.UUID) {
		if !slices.Contains(now, id) && !slices.Contains(lost, id) {
			lost = append(lost, id)
		}
	}
	img.Topics("", func(t *image.Topic) bool {
		for _, p := range t.Partitions {
			if !slices.Contains(p.Replicas, n.config.NodeID) {
				continue
			}
			if d := p.Directory(n.config.NodeID); d != image.Unassigned {
				miss(d)
				continue
			}
			for _, id := range last.LogDirs { // it may be in any of them
				miss(id)
			}
		}
		return true
	})
	if len(lost) <= len(n.dirs)-len(now) {
		return nil
	}
	return fmt.Errorf("the log directory with directory.id=%s is not among %s: mount it or add it to log.dirs, or abandon its data with --accept-lost-directories",
		image.EncodeUUID(lost[0]), strings.Join(n.config.LogDirs, ", "))
}

// directoryIDs are those of the directories that work.
func (n *Node) directoryIDs() []image.UUID {
	var ids []image.UUID
	for _, d := range n.dirs {
		if d.Err() == nil {
			ids = append(ids, d.Meta().DirectoryID)
		}
	}
	return ids
}

// ClusterID is the cluster's id.
func (n *Node) ClusterID() string { return n.meta.Image().ClusterID }

// Image is the metadata that the node goes by at present, for who runs nodes in its own process.
func (n *Node) Image() *image.Image { return n.meta.Image() }

// Failed is closed when the node cannot go on by itself; Stop then says why.
func (n *Node) Failed() <-chan struct{} { return n.failed }

// watch closes failed when the quorum stops by itself, or when no log directory is left.
func (n *Node) watch() {
	select {
	case <-n.meta.Done():
	case <-n.allFailed():
		n.dead.Store(true)
	}
	if n.admin != nil {
		n.admin.Fail()
	}
	close(n.failed)
}

// allFailed is closed when no log directory is left; never on a node without a broker.
func (n *Node) allFailed() <-chan struct{} {
	if n.stored == nil {
		return nil
	}
	return n.stored.AllFailed()
}

// Stop stops the node: requests at hand are answered, logs closed cleanly. It is safe to call twice.
func (n *Node) Stop() error {
	n.stopping.Do(func() { n.stopErr = n.stop() })
	return n.stopErr
}

// leave transfers this broker's leaderships. New produce requests wait during the transfer, and earlier ones are answered first, so
// that clients do not send again what is already committed.
func (n *Node) leave() {
	if !n.meta.Alone() {
		ctx, cancel := context.WithTimeout(context.Background(), holdPatience)
		n.parts.Hold(ctx)
		cancel()
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), holdPatience)
			defer cancel()
			n.parts.Refuse(ctx)
		}()
	}
	ctx, cancel := context.WithTimeout(context.Background(), leavePatience)
	defer cancel()
	if err := n.broker.Leave(ctx); err != nil {
		n.log.Warn().Err(err).Msg("stopping before other brokers lead this broker's partitions")
	}
}

func (n *Node) stop() error {
	var failures []error
	note := func(err error) {
		if err != nil {
			failures = append(failures, err)
		}
	}
	close(n.stopped)
	for _, keys := range n.tokenKeys {
		keys.Close()
	}
	n.disks.Wait()
	if n.admin != nil {
		n.admin.Unready("it is stopping")
		defer n.admin.Close()
	}
	if n.server != nil && !n.dead.Load() && n.config.ControlledShutdown {
		n.leave()
	}
	for _, l := range n.listeners {
		_ = l.Close()
	}
	if n.groups != nil {
		n.groups.Close() // members that wait are sent to another coordinator
	}
	if n.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), drainPatience)
		n.server.Drain(ctx)
		cancel()
		n.server.Close()
	}
	if n.telemetry != nil {
		n.telemetry.Close()
	}
	if n.parts != nil {
		n.parts.Close()
	}
	if n.dead.Load() {
		note(errors.New("all log directories have failed: restart the node when the disks work; if their data is lost, remove this node from the quorum if it is a voter, and let it join with empty directories (--join, --accept-lost-directories; docs/operating.md, A lost disk)"))
	}
	if n.metadata != nil {
		note(n.meta.Err())
		note(n.metadata.close())
	}
	if n.controllers != nil {
		_ = n.controllers.Close()
	}
	if n.quorum != nil {
		n.quorum.Close()
	}
	if n.stored != nil {
		note(n.stored.Close(n.broker.Epoch()))
	}
	if n.held {
		n.holds("")
	}
	for _, d := range n.dirs {
		note(d.Close())
	}
	return errors.Join(failures...)
}
