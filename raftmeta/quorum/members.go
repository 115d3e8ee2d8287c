package quorum

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"kraft/raftmeta/watched"
	"kraft/wire"
	"kraft/wire/locks"
)

// Accept serves a stream from another member, on a connection from which Preface was read already. It
// returns when the stream ends and closes the connection.
func (n *Node) Accept(c net.Conn, r *bufio.Reader) {
	if n.net == nil {
		_ = c.Close()
		return
	}
	n.net.accept(c, r)
}

// heardFrom is when anything last came from one life of a member.
type heardFrom struct {
	life  string
	at    atomic.Int64 // nanoseconds since the node was born
	ended atomic.Int64 // when its process was found to have ended, likewise; 0 if it was not
}

// newestLife is the newest life of a member that this node has heard from, nil if there is none.
func (n *Node) newestLife(id uint64) *heardFrom {
	if h, ok := n.heard.Load(id); ok {
		return h.(*heardFrom)
	}
	return nil
}

// hears returns what to note when something comes from a life of a member, which becomes its newest.
func (n *Node) hears(id uint64, life string) *heardFrom {
	if old := n.newestLife(id); old != nil && old.life == life {
		return old
	}
	h := &heardFrom{life: life}
	n.heard.Store(id, h)
	return h
}

// Heard returns when anything last came from a member by its streams to this node, and in which life of it; the zero time if nothing
// did. It says that the member's process runs, whatever its disk does. Any goroutine may call it.
func (n *Node) Heard(id uint64) (at time.Time, life string) {
	from := n.newestLife(id)
	if from == nil {
		return at, ""
	}
	return n.born.Add(time.Duration(from.at.Load())), from.life
}

// heardWithin reports whether anything came from a member not longer ago, whose process is not known to have ended since.
func (n *Node) heardWithin(id uint64, d time.Duration) bool {
	from := n.newestLife(id)
	if from == nil {
		return false
	}
	at := from.at.Load()
	return time.Since(n.born)-time.Duration(at) < d && at > from.ended.Load()
}

// Member is a member of the quorum as this node sees it.
type Member struct {
	ID      uint64
	Learner bool
	// On the leader only.
	Match  uint64 // the newest index that is known to be on its disk
	Heard  bool   // its process was heard from within the last second, whatever its disk does
	Active bool   // it takes part: it was heard from, and answers the leader
}

// Status is the state of the quorum.
type Status struct {
	Leader, Term, Commit, Applied uint64
	Members                       []Member
}

// Status asks the quorum's goroutine. It fails once the node has stopped.
func (n *Node) Status(ctx context.Context) (Status, error) {
	result := make(chan Status, 1)
	if err := n.call(ctx, func() {
		st := n.raw.Status()
		s := Status{Leader: st.Lead, Term: st.HardState.GetTerm(), Commit: st.HardState.GetCommit(), Applied: n.applied}
		add := func(ids []uint64, learner bool) {
			for _, id := range ids {
				m := Member{ID: id, Learner: learner}
				if p, ok := st.Progress[id]; ok {
					m.Match, m.Heard = p.Match, id == n.config.ID || n.heardWithin(id, 5*aliveInterval)
					m.Active = m.Heard && (id == n.config.ID || p.RecentActive)
				}
				s.Members = append(s.Members, m)
			}
		}
		add(n.confState.GetVoters(), false)
		add(n.confState.GetLearners(), true)
		result <- s
	}); err != nil {
		return Status{}, err
	}
	select {
	case s := <-result:
		return s, nil
	case <-n.done:
		return Status{}, ErrNotLeader
	case <-ctx.Done():
		return Status{}, ctx.Err()
	}
}

// call runs f soon on the quorum's goroutine.
func (n *Node) call(ctx context.Context, f func()) error {
	return n.Do(ctx, func(func([]byte) error) { f() })
}

// First are the members that were to vote first, and whether the quorum has an entry already: the file is not new.
func (n *Node) First() (voters []uint64, begun bool) {
	last, err := n.store.LastIndex()
	return n.store.first.GetVoters(), err == nil && last > 0
}

// Voters are the members that elect, as far as this node knows.
func (n *Node) Voters() []uint64 { return n.members.Load().GetVoters() }

// Met are the introductions of the members that this node has had streams with.
func (n *Node) Met() []Hello {
	if n.net == nil {
		return nil
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	out := make([]Hello, 0, len(n.net.met))
	for _, h := range n.net.met {
		out = append(out, h)
	}
	return out
}

// Unreached says for each member that this node has tried to reach in vain why.
func (n *Node) Unreached() map[uint64]error {
	if n.net == nil {
		return nil
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	return maps.Clone(n.net.trouble)
}

// Refused is the last word of a peer that refuses this node, nil if none does.
func (n *Node) Refused() error {
	if n.net == nil {
		return nil
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	return n.net.refusal
}

// ChangeMember proposes that a member becomes a voter or a learner, or goes, and returns when that is
// applied here. It gives ErrNotLeader on a node that does not lead.
func (n *Node) ChangeMember(ctx context.Context, id uint64, kind pb.ConfChangeType) error {
	proposed := make(chan error, 1)
	if err := n.call(ctx, func() {
		if !n.led {
			proposed <- ErrNotLeader
			return
		}
		proposed <- n.raw.ProposeConfChange(&pb.ConfChange{Type: kind.Enum(), NodeId: &id})
	}); err != nil {
		return err
	}
	select {
	case err := <-proposed:
		if err != nil {
			return err
		}
	case <-n.done:
		return ErrNotLeader
	case <-ctx.Done():
		return ctx.Err()
	}
	err := n.members.Until(ctx, n.done, func(m *pb.ConfState) bool { return has(m, id, kind) })
	if errors.Is(err, watched.ErrEnded) {
		return ErrNotLeader
	}
	if err != nil {
		return fmt.Errorf("membership of %d: %w", id, err)
	}
	return nil
}

// CatchUp returns nil once this node has applied the entry at index, ctx's error when that ends before, and ErrNotLeader when the node has
// stopped. Any goroutine may call it but the quorum's.
func (n *Node) CatchUp(ctx context.Context, index uint64) error {
	err := n.reached.Until(ctx, n.done, func(applied uint64) bool { return applied >= index })
	if errors.Is(err, watched.ErrEnded) {
		return ErrNotLeader
	}
	return err
}

func (n *Node) isMember(id uint64) bool { return !has(n.members.Load(), id, pb.ConfChangeRemoveNode) }

// has reports whether a membership has a member as a change would leave it.
func has(m *pb.ConfState, id uint64, kind pb.ConfChangeType) bool {
	in := func(ids []uint64) bool { return slices.Contains(ids, id) }
	switch kind {
	case pb.ConfChangeAddNode:
		return in(m.GetVoters())
	case pb.ConfChangeAddLearnerNode:
		return in(m.GetLearners())
	}
	return !in(m.GetVoters()) && !in(m.GetLearners())
}

// admit makes a node a learner unless it is a member, or tells where the leader is.
func (n *Node) admit(ctx context.Context, id uint64) (leader string, err error) {
	if n.isMember(id) {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, writePatience/2)
	defer cancel()
	err = n.ChangeMember(ctx, id, pb.ConfChangeAddLearnerNode)
	if !errors.Is(err, ErrNotLeader) {
		return "", err
	}
	s, err := n.Status(ctx)
	if err != nil {
		return "", err
	}
	if s.Leader == raft.None {
		return "", errors.New("the quorum has no leader at the moment")
	}
	return n.net.address(s.Leader), nil
}

// Join asks the members at the given addresses, one after the other, to make this node a learner, unless it
// knows its quorum already. It calls waiting with why none does, again and again. Call it before Start. Members may connect meanwhile.
func (n *Node) Join(ctx context.Context, addresses []string, waiting func(what func() string)) error {
	var last error
	for n.raw == nil {
		var why []string
		for _, address := range addresses {
			first, err := n.ask(address)
			if len(first) > 0 {
				if err := n.store.begin(first); err != nil {
					return err
				}
				return n.restore()
			}
			last = err
			says := wire.Unreached(err)
			if errors.Is(err, io.EOF) {
				says += "; is it a port for clients? Members of the quorum use the controller listener"
			}
			why = append(why, fmt.Sprintf("%s (%s)", address, says))
			if err := n.net.stranger(ctx, address, err); err != nil {
				return err
			}
		}
		var refused *RefusedError
		if errors.As(last, &refused) && !refused.Later {
			return last
		}
		waiting(func() string { return strings.Join(why, "; ") })
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), last)
		case <-time.After(lastRetry):
		}
	}
	return nil
}

// ask asks one member, and the leader that it names, to take this node in.
func (n *Node) ask(address string) (first []uint64, err error) {
	for hops := 0; address != "" && hops < 3; hops++ {
		c, answer, err := n.net.connect(n.net.ctx, address, joinStream, 0)
		if err != nil {
			return nil, err
		}
		_ = c.Close()
		if answer.Leader == "" {
			return answer.First, nil
		}
		address = answer.Leader
	}
	return nil, errors.New("no member says who leads")
}

// reports are what transport goroutines have for raft. They never wait for the quorum's goroutine, which is one of them, and
// none is lost while that is busy: a follower whose snapshot is not reported would be sent nothing any more.
type reports struct {
	wake chan struct{} // has room for one

	mu      locks.Mutex // guards waiting
	waiting map[report]func(*raft.RawNode)
}

// report names what is reported of a member; only the newest of one name counts.
type report struct {
	id   uint64
	kind reportKind
}

type reportKind int

const (
	unreachable reportKind = iota
	snapshotSent
	processEnded
)

// add has f run on the quorum's goroutine soon. Any goroutine may call it.
func (r *reports) add(id uint64, kind reportKind, f func(*raft.RawNode)) {
	r.mu.Lock()
	r.waiting[report{id, kind}] = f
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run hands all reports to raft.
func (r *reports) run(raw *raft.RawNode) {
	r.mu.Lock()
	waiting := r.waiting
	r.waiting = map[report]func(*raft.RawNode){}
	r.mu.Unlock()
	for _, kind := range []reportKind{unreachable, snapshotSent, processEnded} {
		for key, f := range waiting {
			if key.kind == kind {
				f(raw)
			}
		}
	}
}

// step takes messages that are at hand.
func (n *Node) step(d delivery) {
	for i := 0; ; i++ {
		n.note(d)
		_ = n.raw.Step(d.message) // what does not fit the state is raft's to ignore
		if i == callsAtOnce {
			return
		}
		select {
		case d = <-n.incoming:
		default:
			return
		}
	}
}

// install replaces the machine's state by a snapshot that the leader sent.
func (n *Node) install(s *pb.Snapshot) error {
	if err := n.machine.Restore(s.GetData()); err != nil {
		return err
	}
	n.applied = s.GetMetadata().GetIndex()
	n.reached.Store(n.applied)
	n.changed(s.GetMetadata().GetConfState())
	n.logged = 0
	return nil
}

// gone says that a member's process has ended. If it led, this node forgets it, which lets others be
// elected at once, and runs for election itself in a moment.
func (n *Node) gone(id uint64) {
	if from := n.newestLife(id); from != nil {
		from.ended.Store(int64(time.Since(n.born)))
	}
	n.reports.add(id, processEnded, func(r *raft.RawNode) {
		r.ReportUnreachable(id)
		if n.leader != id {
			return
		}
		_ = r.ForgetLeader()
		n.campaignSoon()
	})
}

// leaderIsSilent is called with every tick. A voter that has not heard from the leader for longer than a pause of its machine may
// take runs for election. Raft's own timeout is drawn from a range that is as long again; here each voter has an instant of its own,
// in the order of their ids, so that the first is elected before the next runs.
func (n *Node) leaderIsSilent() {
	rank := slices.Index(n.confState.GetVoters(), n.config.ID)
	if n.leads || n.leader == raft.None || rank < 0 {
		n.quiet = 0
		return
	}
	if n.quiet++; n.quiet == electionTicks+1+rank%voterRanks {
		_ = n.raw.Campaign()
		n.campaigns = 1
		n.campaign.Reset(n.config.Tick)
	}
}

// voterRanks bounds the ticks that voters wait for each other.
const voterRanks = 3

// campaignSoon runs for election in a moment, another one on each member.
func (n *Node) campaignSoon() {
	n.campaigns = 0
	n.campaign.Reset(rand.N(n.config.Tick))
}

// maxCampaigns is how often a member runs for election on its own; from then on raft's timeouts see to it.
const maxCampaigns = 7

// runForElection does so unless there is a leader, and again until there is. The pauses double: where votes take longer
// than a pause, each election would end the one before it.
func (n *Node) runForElection() {
	if n.leader != raft.None || !slices.Contains(n.confState.GetVoters(), n.config.ID) || n.campaigns == maxCampaigns {
		return
	}
	_ = n.raw.Campaign()
	n.campaign.Reset((n.config.Tick/4 + rand.N(n.config.Tick/2)) << n.campaigns)
	n.campaigns++
}

// successor is who had better lead instead of the member self: of the other voters that are active, one that is not busy, and of those
// the one that has most of the log; the zero Member if there is none.
func successor(members []Member, self uint64, busy func(id uint64) bool) (best Member) {
	for _, m := range members {
		if m.ID == self || m.Learner || !m.Active {
			continue
		}
		better := m.Match > best.Match
		if best.ID != 0 && busy != nil && busy(m.ID) != busy(best.ID) {
			better = busy(best.ID)
		}
		if best.ID == 0 || better {
			best = m
		}
	}
	return best
}

// HandOver gives leadership to the voter that had better have it, and waits a moment until it leads. It does nothing on a node that does
// not lead, or that has nobody to hand over to. Any goroutine may call it, but the quorum's own.
func (n *Node) HandOver() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*n.config.Tick)
	defer cancel()
	for asked := false; ; {
		s, err := n.Status(ctx)
		if err != nil || s.Leader != n.config.ID {
			return
		}
		best := successor(s.Members, n.config.ID, n.config.Busy)
		if best.ID == 0 {
			return
		}
		if !asked {
			asked = true
			_ = n.call(ctx, func() { n.raw.TransferLeader(best.ID) }) // seen by what comes of it
		}
		select {
		case <-time.After(n.config.Tick / 4):
		case <-ctx.Done():
			return
		}
	}
}
