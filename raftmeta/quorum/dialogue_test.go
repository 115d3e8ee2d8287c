package quorum

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	pb "go.etcd.io/raft/v3/raftpb"

	"kraft/internal/dialogue"
)

// TestDialogues plays the files in testdata: members without goroutines and network, whose messages wait until
// they are delivered or dropped one by one.
func TestDialogues(t *testing.T) {
	dialogue.Play(t, "testdata/*.txt", func(t *testing.T, say dialogue.Say) func(string) {
		s := &stage{t: t, say: say, dir: t.TempDir(), nodes: map[uint64]*Node{}}
		t.Cleanup(func() {
			for id := range s.nodes {
				s.end(id)
			}
		})
		return func(line string) { s.command(strings.Fields(line)) }
	})
}

type stage struct {
	t     *testing.T
	dir   string
	nodes map[uint64]*Node
	wire  []*pb.Message
	say   dialogue.Say
}

// told is a machine that adds up numbers and tells what the quorum does with it.
type told struct {
	s     *stage
	id    uint64
	total uint64
}

func (m *told) Restore(snapshot []byte) error {
	m.total = binary.BigEndian.Uint64(snapshot)
	m.s.say("%d restores %d", m.id, m.total)
	return nil
}

func (m *told) Apply(_, _ uint64, data []byte) {
	m.total += binary.BigEndian.Uint64(data)
	m.s.say("%d applies +%d: %d", m.id, binary.BigEndian.Uint64(data), m.total)
}

func (m *told) Applied(uint64) {}

func (m *told) Snapshot() ([]byte, error) {
	m.s.say("%d makes a snapshot of %d", m.id, m.total)
	return binary.BigEndian.AppendUint64(nil, m.total), nil
}

func (m *told) Lead(term uint64) { m.s.say("%d leads in term %d", m.id, term) }

func (m *told) Follow(leader, term uint64) {
	if leader == 0 {
		m.s.say("%d follows nobody in term %d", m.id, term)
	} else {
		m.s.say("%d follows %d in term %d", m.id, leader, term)
	}
}

func (s *stage) command(words []string) {
	name, args := words[0], words[1:]
	if name == "deliver" || name == "drop" {
		s.carry(name == "deliver", args)
		return
	}
	id := s.number(args[0])
	n := s.nodes[id]
	switch name {
	case "start": // id, voters, and the bytes of entries that make a snapshot
		s.start(id, args[1:])
		return
	case "crash":
		s.end(id)
		s.wire = slices.DeleteFunc(s.wire, func(m *pb.Message) bool { return m.GetTo() == id })
		return
	case "elect": // what a member does whose leader's process has ended, or that knows none
		n.runForElection()
	case "tick":
		for range s.number(args[1]) {
			n.raw.Tick()
			n.leaderIsSilent()
			s.settle(n)
		}
	case "add":
		if err := n.propose(binary.BigEndian.AppendUint64(nil, s.number(args[1]))); err != nil {
			s.say("refused: %v", err)
		}
	case "gone": // id learns that another's process has ended
		n.gone(s.number(args[1]))
	case "hand-over":
		n.raw.TransferLeader(s.number(args[1]))
	case "voter", "learner", "remove":
		kind := map[string]pb.ConfChangeType{"voter": pb.ConfChangeAddNode, "learner": pb.ConfChangeAddLearnerNode, "remove": pb.ConfChangeRemoveNode}[name]
		member := s.number(args[1])
		if err := n.raw.ProposeConfChange(&pb.ConfChange{Type: kind.Enum(), NodeId: &member}); err != nil {
			s.say("refused: %v", err)
		}
	case "state":
		st := n.raw.Status()
		s.say("%d: %d, term %d, leader %d, committed %d, voters %v, learners %v", id, n.machine.(*told).total, st.HardState.GetTerm(), st.Lead, st.HardState.GetCommit(), n.confState.GetVoters(), n.confState.GetLearners())
	default:
		s.t.Fatalf("unknown command %q", name)
	}
	s.settle(n)
}

func (s *stage) start(id uint64, args []string) {
	var voters []uint64
	snapshotBytes := uint64(1 << 20)
	for _, v := range strings.Split(args[0], ",") {
		voters = append(voters, s.number(v))
	}
	if len(args) > 1 {
		snapshotBytes = s.number(args[1])
	}
	n, err := Open(Config{ID: id, Path: filepath.Join(s.dir, fmt.Sprint(id)), Voters: voters, Tick: time.Hour, SnapshotBytes: int64(snapshotBytes), Log: zerolog.Nop()}, &told{s: s, id: id})
	if err != nil {
		s.t.Fatal(err)
	}
	n.send = func(messages []*pb.Message) {
		for _, m := range messages {
			if m.GetTo() != id {
				s.wire = append(s.wire, m)
			}
		}
	}
	s.nodes[id] = n
	s.settle(n)
}

// end closes a member's file as the death of its process would: what it did not save is gone.
func (s *stage) end(id uint64) {
	n := s.nodes[id]
	delete(s.nodes, id)
	if err := n.Close(); err != nil {
		s.t.Error(err)
	}
}

// settle does what raft asks a member for, and runs the calls that wait.
func (s *stage) settle(n *Node) {
	for {
		if err := n.ready(); err != nil {
			s.t.Fatal(err)
		}
		select {
		case call := <-n.calls:
			call()
		case <-n.reports.wake:
			n.reports.run(n.raw)
		default:
			return
		}
	}
}

// carry delivers or drops messages: all, also those that come of them, or the first ones of a path such as 1->2, or
// to or from one member: 1->* or *->1.
func (s *stage) carry(deliver bool, args []string) {
	from, to, limit := uint64(0), uint64(0), 1000
	if len(args) > 0 {
		a, b, ok := strings.Cut(args[0], "->")
		if !ok {
			s.t.Fatalf("no path: %s", args[0])
		}
		if a != "*" {
			from = s.number(a)
		}
		if b != "*" {
			to = s.number(b)
		}
	}
	if len(args) > 1 {
		limit = int(s.number(args[1]))
	}
	for i := 0; i < limit; i++ {
		at := slices.IndexFunc(s.wire, func(m *pb.Message) bool {
			return (from == 0 || m.GetFrom() == from) && (to == 0 || m.GetTo() == to)
		})
		if at < 0 {
			return
		}
		m := s.wire[at]
		s.wire = slices.Delete(s.wire, at, at+1)
		n := s.nodes[m.GetTo()]
		if !deliver || n == nil {
			s.say("%s is lost", describe(m))
			continue
		}
		s.say("%s", describe(m))
		n.note(delivery{message: m})
		_ = n.raw.Step(m)
		s.settle(n)
	}
}

func describe(m *pb.Message) string {
	out := fmt.Sprintf("%d->%d %s term %d", m.GetFrom(), m.GetTo(), strings.TrimPrefix(m.GetType().String(), "Msg"), m.GetTerm())
	switch m.GetType() {
	case pb.MsgApp, pb.MsgVote, pb.MsgPreVote:
		out += fmt.Sprintf(" after %d/%d", m.GetIndex(), m.GetLogTerm())
	case pb.MsgAppResp:
		out += fmt.Sprintf(" at %d", m.GetIndex())
	case pb.MsgSnap:
		out += fmt.Sprintf(" to %d", m.GetSnapshot().GetMetadata().GetIndex())
	}
	if len(m.GetEntries()) > 0 {
		out += fmt.Sprintf(" entries %d", len(m.GetEntries()))
	}
	if m.GetCommit() > 0 {
		out += fmt.Sprintf(" committed %d", m.GetCommit())
	}
	if m.GetReject() {
		out += " refused"
	}
	return out
}

func (s *stage) number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}
