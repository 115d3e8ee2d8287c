// Package quorum runs etcd-raft over bbolt: an ordered, durable log of bytes that a quorum of nodes
// agrees on. It knows no record.
package quorum

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"kraft/raftmeta/watched"
)

// Machine is what the log drives. All methods are called on the quorum's goroutine, in log order.
type Machine interface {
	// Restore replaces the state by a snapshot's, before any Apply.
	Restore(snapshot []byte) error
	// Apply takes a committed entry.
	Apply(index, term uint64, data []byte)
	// Applied is called after a run of Apply calls, when nothing more is at hand.
	Applied(index uint64)
	// Snapshot encodes the state as of the last Apply.
	Snapshot() ([]byte, error)
	// Lead begins leadership: an entry of this node's own term has been applied.
	Lead(term uint64)
	// Follow ends it. leader is 0 while unknown.
	Follow(leader, term uint64)
}

// Config describes one node of a quorum.
type Config struct {
	ID            uint64
	Path          string        // of the bbolt file
	Voters        []uint64      // of a new quorum; none for a node that joins one
	Meeting       *Meeting      // finds the Voters of a new quorum, if they are not known; or nil
	Network       *Network      // nil for a node that is alone
	Tick          time.Duration // heartbeats go out every tick, elections start after ten
	SnapshotBytes int64         // entries since the last snapshot, in bytes, that make a new one
	AcceptOlder   bool          // others are to take this node with the disk that it has, although they have seen a newer one
	// Busy reports whether a member has its disk to read before it serves, so that another had better lead. It is called from any
	// goroutine; nil is nobody.
	Busy func(id uint64) bool
	Log  zerolog.Logger
}

// ErrNotLeader answers proposals on a node that does not lead.
var ErrNotLeader = errors.New("this node does not lead the quorum")

// maxProposal bounds one entry in bytes.
const maxProposal = 32 << 20

const (
	electionTicks    = 22 // of silence: a leader that stands still for a second stays the leader
	callBacklog      = 1024
	callsAtOnce      = 256
	keptAfterCompact = 4096 // entries kept for followers that are a little behind
)

// Node is one member. Its raft state belongs to the goroutine that Start begins.
type Node struct {
	config  Config
	machine Machine
	store   *store
	raw     *raft.RawNode

	calls    chan func()
	reports  reports
	born     time.Time
	heard    sync.Map // *heardFrom by member: the newest of its lives that had a stream to this node
	incoming chan delivery
	fatal    chan error
	net      *transport // nil for a node that is alone
	meeting  *meeting   // nil for a node without Config.Meeting
	send     func([]*pb.Message)
	members  watched.Value[*pb.ConfState]
	reached  watched.Value[uint64] // the index that machine has applied
	stop     chan struct{}
	done     chan struct{}
	failure  atomic.Pointer[error]
	closing  sync.Once
	started  atomic.Bool

	// Of the goroutine.
	leader, term uint64
	commit       uint64
	leads        bool // raft made this node leader
	led          bool // and Lead was called: an entry of the term has been applied
	applied      uint64
	confState    *pb.ConfState
	logged       int64       // bytes of entries since the last snapshot
	quiet        int         // ticks since the leader was heard from
	campaign     *time.Timer // for an election, while there is no leader and no reason to wait for one
	campaigns    int         // since there was one
}

// Open opens the bbolt file, restores machine from the last snapshot and makes ready to start. A new
// file begins a quorum of config.Voters.
func Open(config Config, machine Machine) (*Node, error) {
	meets := config.Meeting != nil && config.Meeting.Voters == nil
	st, err := openStore(config.Path, config.Voters, meets)
	if err != nil {
		return nil, err
	}
	n := &Node{config: config, machine: machine, store: st, born: time.Now(), calls: make(chan func(), callBacklog), reports: reports{wake: make(chan struct{}, 1), waiting: map[report]func(*raft.RawNode){}}, incoming: make(chan delivery, callBacklog),
		fatal: make(chan error, 1), stop: make(chan struct{}), done: make(chan struct{})}
	st.standings.insists = config.AcceptOlder
	n.campaign = time.NewTimer(time.Hour)
	n.campaign.Stop()
	n.send = func([]*pb.Message) {}
	if config.Network != nil {
		if config.Meeting != nil {
			n.meeting = newMeeting(*config.Meeting, attendee{config.ID, st.member})
		}
		n.net = newTransport(n, *config.Network)
		n.send = n.net.send
	}
	if err := n.restore(); err != nil {
		_ = st.close()
		return nil, err
	}
	return n, nil
}

func (n *Node) restore() error {
	snap, err := n.store.Snapshot()
	if err != nil {
		return err
	}
	if !raft.IsEmptySnap(snap) {
		if err := n.machine.Restore(snap.GetData()); err != nil {
			return err
		}
		n.applied = snap.GetMetadata().GetIndex()
		n.reached.Store(n.applied)
	}
	hard, conf, err := n.store.InitialState()
	if err != nil {
		return err
	}
	n.term, n.commit, n.confState = hard.GetTerm(), hard.GetCommit(), conf
	n.members.Store(n.confState)
	if len(n.confState.GetVoters()) == 0 {
		return nil // Join learns of them
	}
	n.raw, err = raft.NewRawNode(&raft.Config{
		ID: n.config.ID, ElectionTick: electionTicks, HeartbeatTick: 1, Storage: n.store, Applied: n.applied,
		MaxSizePerMsg: 1 << 20, MaxCommittedSizePerReady: 16 << 20, MaxUncommittedEntriesSize: 256 << 20, MaxInflightMsgs: 256,
		CheckQuorum: true, PreVote: true, DisableProposalForwarding: true, StepDownOnRemoval: true, Logger: raftLogger{n.config.Log},
	})
	return err
}

// delivery is a message of one life of a member.
type delivery struct {
	message *pb.Message
	life    string
}

// Start runs the node, which must be a member: see Join. A lone voter needs no election timeout: it leads at once. It gives a
// RefusedError where others have seen more of this node than is on its disk.
func (n *Node) Start() error {
	if n.raw == nil {
		return errors.New("this node knows no quorum: it has to join one first")
	}
	if n.net != nil {
		if err := n.net.inquire(); err != nil {
			return errors.Join(err, n.store.standings.takeBack())
		}
	}
	n.started.Store(true)
	n.changed(n.confState)
	n.campaignSoon() // a leader that there is will not be disturbed (PreVote)
	if v := n.confState.GetVoters(); len(v) == 1 && v[0] == n.config.ID {
		if err := n.raw.Campaign(); err != nil {
			return fmt.Errorf("campaign: %w", err)
		}
	}
	go n.run()
	return nil
}

// Call runs on the quorum's goroutine, between entries. propose appends data to the log if this node
// leads: success is only an Apply with the same bytes, since a change of leader may still lose it.
type Call func(propose func(data []byte) error)

// Do runs call soon; calls run in the order in which they came. Any goroutine may call it; it blocks
// while the backlog is full. A call that was taken does not run if the node stops before: Done tells.
func (n *Node) Do(ctx context.Context, call Call) error {
	select {
	case <-n.done:
		return ErrNotLeader
	default:
	}
	select {
	case n.calls <- func() { call(n.propose) }:
		return nil
	case <-n.done:
		return ErrNotLeader
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Member identifies the metadata file: a node that lost its disk is another member.
func (n *Node) Member() string { return n.store.member }

// ID is this node's raft id.
func (n *Node) ID() uint64 { return n.config.ID }

// Done is closed when the node has stopped; Err then says why, nil after Close.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err is the failure that stopped the node.
func (n *Node) Err() error {
	if e := n.failure.Load(); e != nil {
		return *e
	}
	return nil
}

// Close stops the node and closes its file. A leader hands over first, so that the others need no election
// timeout.
func (n *Node) Close() error {
	n.closing.Do(func() {
		if !n.started.Load() {
			close(n.done)
			return
		}
		n.HandOver()
		close(n.stop)
	})
	<-n.done
	if n.net != nil {
		n.net.close()
	}
	return n.store.close()
}

func (n *Node) run() {
	defer close(n.done)
	tick := time.NewTicker(n.config.Tick)
	defer tick.Stop()
	for {
		if err := n.ready(); err != nil {
			// The disk that holds the votes is not to be trusted any more.
			err = fmt.Errorf("metadata quorum stopped: %w", err)
			n.failure.Store(&err)
			return
		}
		select {
		case <-n.stop:
			return
		case <-tick.C:
			n.raw.Tick()
			n.leaderIsSilent()
		case <-n.reports.wake:
			n.reports.run(n.raw)
		case <-n.campaign.C:
			n.runForElection()
		case call := <-n.calls:
			n.serve(call)
		case d := <-n.incoming:
			n.step(d)
		case err := <-n.fatal:
			err = errors.Join(err, n.store.standings.takeBack())
			n.failure.Store(&err)
			return
		}
	}
}

// serve runs call and what else waits, so that one sync serves all that they propose.
func (n *Node) serve(call func()) {
	for i := 0; ; i++ {
		call()
		if i == callsAtOnce {
			return
		}
		select {
		case call = <-n.calls:
		default:
			return
		}
	}
}

func (n *Node) propose(data []byte) error {
	if len(data) > maxProposal {
		return fmt.Errorf("metadata change of %d bytes, at most %d", len(data), maxProposal)
	}
	if !n.led {
		return ErrNotLeader
	}
	return n.raw.Propose(data)
}

// ready does what raft asks for until it asks for nothing: save, then apply.
func (n *Node) ready() error {
	for n.raw.HasReady() {
		rd := n.raw.Ready()
		if rd.SoftState != nil && rd.SoftState.RaftState != raft.StateLeader {
			n.follow(rd.SoftState, rd.HardState) // whatever its disk does
		}
		messages := rd.Messages
		if n.leads && rd.SoftState == nil && (rd.HardState == nil || rd.HardState.GetTerm() == n.term) {
			messages = n.sendAhead(messages)
		}
		if err := n.store.save(rd); err != nil {
			return err
		}
		if rd.HardState != nil {
			n.term, n.commit = rd.HardState.GetTerm(), rd.HardState.GetCommit()
		}
		n.send(messages) // after what they promise is on disk
		if !raft.IsEmptySnap(rd.Snapshot) {
			if err := n.install(rd.Snapshot); err != nil {
				return err
			}
		}
		if rd.SoftState != nil && rd.SoftState.RaftState == raft.StateLeader {
			n.leader, n.leads = rd.SoftState.Lead, true
			n.campaign.Stop()
		}
		for _, e := range rd.CommittedEntries {
			if err := n.apply(e); err != nil {
				return err
			}
		}
		if len(rd.CommittedEntries) > 0 {
			n.machine.Applied(n.applied)
			n.reached.Store(n.applied)
		}
		if n.leads {
			n.raw.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
				n.store.standings.acknowledged(id, min(p.Match, n.commit))
			})
		}
		if err := n.compact(); err != nil {
			return err
		}
		n.raw.Advance(rd)
	}
	return nil
}

// sendAhead sends what a leader may send before its own disk has it, so that the members' disks work at the same time (Raft's thesis,
// 10.2.1): entries, and that it is there. A leader counts itself only when its disk has the entries. It returns the other messages.
func (n *Node) sendAhead(messages []*pb.Message) (left []*pb.Message) {
	var ahead []*pb.Message
	for _, m := range messages {
		switch m.GetType() {
		case pb.MsgApp, pb.MsgHeartbeat, pb.MsgSnap:
			ahead = append(ahead, m)
		default:
			left = append(left, m)
		}
	}
	n.send(ahead)
	return left
}

// follow notes that another member leads, or none. hard is nil where the term is the same as before.
func (n *Node) follow(soft *raft.SoftState, hard *pb.HardState) {
	n.leader, n.leads, n.led = soft.Lead, false, false
	if n.leader != raft.None {
		n.campaign.Stop()
	}
	term := n.term
	if hard != nil {
		term = hard.GetTerm()
	}
	n.machine.Follow(n.leader, term)
}

// hangsAfter is how long the disk may take for what the quorum gives it until Hangs says so.
const hangsAfter = 400 * time.Millisecond

// Hangs reports whether the disk of the metadata has not answered for hangsAfter. This node hears of nothing meanwhile, not even who
// leads. Any goroutine may call it; it waits for nothing.
func (n *Node) Hangs() bool { return n.HangsFor() > hangsAfter }

// HangsFor is how long the disk of the metadata has not answered, 0 where it is not asked for anything. Any goroutine may call it; it
// waits for nothing.
func (n *Node) HangsFor() time.Duration { return n.store.waited() }

func (n *Node) apply(e *pb.Entry) error {
	n.applied = e.GetIndex()
	n.logged += int64(len(e.GetData()))
	switch e.GetType() {
	case pb.EntryNormal:
		if len(e.GetData()) > 0 {
			n.machine.Apply(e.GetIndex(), e.GetTerm(), e.GetData())
		}
	case pb.EntryConfChange:
		cc := new(pb.ConfChange)
		if err := proto.Unmarshal(e.GetData(), cc); err != nil {
			return fmt.Errorf("membership change at %d: %w", e.GetIndex(), err)
		}
		n.changed(n.raw.ApplyConfChange(cc))
		n.refreshSnapshot()
	case pb.EntryConfChangeV2:
		cc := new(pb.ConfChangeV2)
		if err := proto.Unmarshal(e.GetData(), cc); err != nil {
			return fmt.Errorf("membership change at %d: %w", e.GetIndex(), err)
		}
		n.changed(n.raw.ApplyConfChange(cc))
		n.refreshSnapshot()
	}
	if n.leads && !n.led && e.GetTerm() == n.term {
		n.led = true
		n.machine.Lead(n.term)
	}
	return nil
}

// changed takes another membership.
func (n *Node) changed(c *pb.ConfState) {
	n.confState = c
	n.members.Store(c)
	if n.net != nil {
		n.net.reach(c.GetVoters())
		if n.started.Load() && !n.isMember(n.config.ID) {
			n.net.rejoin()
		}
	}
}

// refreshSnapshot has a new snapshot made soon, if there is one of another membership: a member that is given a
// snapshot has to find itself in it.
func (n *Node) refreshSnapshot() {
	if n.store.snapshotIndex() > 0 {
		n.logged = max(n.logged, n.config.SnapshotBytes)
	}
}

// compact snapshots the machine and forgets old entries once enough bytes have been logged.
func (n *Node) compact() error {
	if n.logged < n.config.SnapshotBytes {
		return nil
	}
	data, err := n.machine.Snapshot()
	if err != nil {
		return err
	}
	n.logged = 0
	return n.store.snapshot(n.applied, n.confState, data, keptAfterCompact)
}

// raftLogger gives raft's own messages to zerolog, a level lower: elections are told by this package.
type raftLogger struct{ log zerolog.Logger }

func (l raftLogger) Debug(v ...any)              { l.log.Trace().Msg(fmt.Sprint(v...)) }
func (l raftLogger) Debugf(f string, v ...any)   { l.log.Trace().Msgf(f, v...) }
func (l raftLogger) Info(v ...any)               { l.log.Debug().Msg(fmt.Sprint(v...)) }
func (l raftLogger) Infof(f string, v ...any)    { l.log.Debug().Msgf(f, v...) }
func (l raftLogger) Warning(v ...any)            { l.log.Warn().Msg(fmt.Sprint(v...)) }
func (l raftLogger) Warningf(f string, v ...any) { l.log.Warn().Msgf(f, v...) }
func (l raftLogger) Error(v ...any)              { l.log.Error().Msg(fmt.Sprint(v...)) }
func (l raftLogger) Errorf(f string, v ...any)   { l.log.Error().Msgf(f, v...) }
func (l raftLogger) Fatal(v ...any)              { l.log.Panic().Msg(fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(f string, v ...any)   { l.log.Panic().Msgf(f, v...) }
func (l raftLogger) Panic(v ...any)              { l.log.Panic().Msg(fmt.Sprint(v...)) }
func (l raftLogger) Panicf(f string, v ...any)   { l.log.Panic().Msgf(f, v...) }
