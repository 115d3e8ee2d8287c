package controller

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/image"
)

// scene is one partition of replicas 1, 2 and 3 with min.insync.replicas 2, which a row of a table changes.
type scene struct {
	t       *testing.T
	m       *image.Image
	unclean bool
	minISR  int
}

func newScene(t *testing.T) *scene {
	s := &scene{t: t, m: withDirs(t, 4, 1), minISR: 2}
	records, _, err := CreateTopic(s.m, NewTopic{Name: "t", Partitions: -1, Factor: -1, Assignment: map[int32][]int32{0: {1, 2, 3}}}, Defaults{}, NewID(), 1)
	s.apply(records, err)
	return s
}

func (s *scene) policy() Policy {
	return Policy{MinISR: func(*image.Image, string) int { return s.minISR }, Unclean: func(*image.Image, string) bool { return s.unclean }}
}

func (s *scene) apply(records []*image.Record, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	apply(s.m, records)
}

func (s *scene) topic() *image.Topic { t, _ := s.m.Topic("t"); return t }

func (s *scene) fence(id int32) { s.t.Helper(); s.apply(Fence(s.m, s.policy(), id, epochOf(s.m, id))) }

// restart brings a broker back as a new process; clean says that it stopped cleanly.
func (s *scene) restart(id int32, clean bool) {
	s.t.Helper()
	before := int64(-1)
	if clean {
		before = epochOf(s.m, id)
	}
	s.apply(Unfence(s.m, s.policy(), id, s.register(id, before)))
}

// register brings a broker back as a new process that has lost nothing since an epoch, and does not let it in yet.
func (s *scene) register(id int32, since int64) (epoch int64) {
	s.t.Helper()
	old, _ := s.m.Broker(id)
	records, epoch, err := RegisterBroker(s.m, s.policy(), "c", image.Broker{ID: id, Incarnation: NewID(), LogDirs: old.LogDirs}, since)
	s.apply(records, err)
	return epoch
}

func (s *scene) reassign(target ...int32) {
	s.t.Helper()
	s.apply(Reassign(s.m, s.policy(), "t", 0, target, false))
}

// alter has the leader propose an ISR.
func (s *scene) alter(isr ...int32) {
	s.t.Helper()
	s.apply(AlterPartition(s.m, s.policy(), s.topic().Partitions[0].Leader, s.proposal(isr...)))
}

// fill has the disks of these brokers run full, or of none.
func (s *scene) fill(ids ...int32) {
	s.t.Helper()
	for id := int32(1); id <= 3; id++ {
		var dirs []image.UUID
		if slices.Contains(ids, id) {
			dirs = []image.UUID{dirID(int(id), 0)}
		}
		s.apply(SetRoom(s.m, s.policy(), id, epochOf(s.m, id), dirs, nil))
	}
}

// setMinISR alters the topic's min.insync.replicas.
func (s *scene) setMinISR(n int) {
	s.t.Helper()
	s.minISR = n
	s.apply(RecountEligible(s.m, s.policy(), []*image.Record{image.SetConfig(image.TopicResource, "t", "min.insync.replicas", str(strconv.Itoa(n)))}), nil)
}

func (s *scene) proposal(isr ...int32) PartitionState {
	p := s.topic().Partitions[0]
	out := PartitionState{Topic: s.topic().ID, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch}
	for _, r := range isr {
		out.ISR = append(out.ISR, Member{r, epochOf(s.m, r)})
	}
	return out
}

func (s *scene) String() string {
	p := s.topic().Partitions[0]
	out := fmt.Sprintf("leader %d epoch %d isr %v elr %v known %v recovering %v", p.Leader, p.LeaderEpoch, p.ISR, p.ELR, p.LastKnownELR, p.Recovering)
	if !slices.Equal(p.Replicas, []int32{1, 2, 3}) {
		out += fmt.Sprintf("; replicas %v adding %v removing %v", p.Replicas, p.Adding, p.Removing)
		for _, r := range p.Replicas {
			if d := p.Directory(r); d != dirID(int(r), 0) {
				out += fmt.Sprintf(" %d in %x", r, d)
			}
		}
	}
	return out
}

func TestElections(t *testing.T) {
	for name, tc := range map[string]struct {
		play func(*scene)
		want string
	}{
		"a follower is fenced": {func(s *scene) { s.fence(2) }, "leader 1 epoch 0 isr [1 3] elr [] known [] recovering false"},
		"the leader is fenced": {func(s *scene) { s.fence(1) }, "leader 2 epoch 1 isr [2 3] elr [] known [] recovering false"},
		"below min.insync.replicas who leaves stays eligible": {func(s *scene) { s.fence(1); s.fence(2) },
			"leader 3 epoch 2 isr [3] elr [2] known [] recovering false"},
		"all are fenced": {func(s *scene) { s.fence(1); s.fence(2); s.fence(3) },
			"leader -1 epoch 3 isr [] elr [2 3] known [3] recovering false"},
		"one of the eligible comes back": {func(s *scene) { s.fence(1); s.fence(2); s.fence(3); s.restart(2, true) },
			"leader 2 epoch 4 isr [2] elr [3] known [3] recovering false"},
		"who is not eligible may not lead": {func(s *scene) { s.fence(1); s.fence(2); s.fence(3); s.restart(1, true) },
			"leader -1 epoch 3 isr [] elr [2 3] known [3] recovering false"},
		"an unclean stop ends eligibility": {func(s *scene) { s.fence(1); s.fence(2); s.fence(3); s.restart(2, false) },
			"leader -1 epoch 3 isr [] elr [3] known [3] recovering false"},
		"a life that was never let in loses nothing": {func(s *scene) {
			s.fence(1)
			s.fence(2)
			s.fence(3)
			served := epochOf(s.m, 2)
			s.register(2, served)
			s.apply(Unfence(s.m, s.policy(), 2, s.register(2, served)))
		}, "leader 2 epoch 4 isr [2] elr [3] known [3] recovering false"},
		"one that was let in does": {func(s *scene) {
			s.fence(1)
			s.fence(2)
			s.fence(3)
			served := epochOf(s.m, 2)
			s.restart(2, true)
			s.fence(2)
			s.apply(Unfence(s.m, s.policy(), 2, s.register(2, served)))
		}, "leader -1 epoch 5 isr [] elr [3] known [2] recovering false"},
		"an ISR that a lower min.insync.replicas lets acknowledge alone leads alone": {func(s *scene) { s.fence(1); s.fence(2); s.setMinISR(1) },
			"leader 3 epoch 2 isr [3] elr [] known [] recovering false"},
		"a lower min.insync.replicas leaves the eligible who lost nothing": {func(s *scene) {
			s.fence(1)
			s.fence(2)
			s.fence(3)
			s.setMinISR(1)
		}, "leader -1 epoch 3 isr [] elr [2 3] known [3] recovering false"},
		"a leader whose disk is full gives way":   {func(s *scene) { s.fill(1) }, "leader 2 epoch 1 isr [2 3] elr [] known [] recovering false"},
		"a follower whose disk is full leaves":    {func(s *scene) { s.fill(3) }, "leader 1 epoch 0 isr [1 2] elr [] known [] recovering false"},
		"while all disks are full the last stays": {func(s *scene) { s.fill(1, 2, 3) }, "leader 3 epoch 2 isr [3] elr [2] known [] recovering false"},
		"one with room takes over from the last without": {func(s *scene) { s.fill(1, 2, 3); s.fill(1, 3); s.alter(3, 2) },
			"leader 2 epoch 3 isr [2] elr [3] known [] recovering false"},
		"a broker has room again": {func(s *scene) { s.fill(1); s.fill(); s.alter(2, 3, 1) }, "leader 2 epoch 1 isr [2 3 1] elr [] known [] recovering false"},
		"one that left the ISR for want of room leads only if it is eligible": {func(s *scene) { s.fill(3); s.fence(1); s.fence(2); s.restart(3, true) },
			"leader -1 epoch 2 isr [] elr [1 2] known [2] recovering false"},
		"a full disk stays the leader where the others are gone": {func(s *scene) { s.fence(2); s.fence(3); s.fill(1) },
			"leader 1 epoch 0 isr [1] elr [3] known [] recovering false"},
		"the last known leader leads when nobody is eligible": {func(s *scene) { s.fence(1); s.fence(2); s.fence(3); s.restart(2, false); s.restart(3, false) },
			"leader 3 epoch 4 isr [3] elr [] known [3] recovering true"},
		"unclean election where it is allowed": {func(s *scene) { s.fence(1); s.fence(2); s.fence(3); s.unclean = true; s.restart(1, true) },
			"leader 1 epoch 4 isr [1] elr [2 3] known [3] recovering true"},
		"an unclean restart leaves the ISR to others": {func(s *scene) { s.restart(1, false) },
			"leader 2 epoch 1 isr [2 3] elr [] known [] recovering false"},
		"the ISR grows again": {func(s *scene) { s.fence(1); s.fence(2); s.restart(2, true); s.alter(3, 2) },
			"leader 3 epoch 2 isr [3 2] elr [] known [] recovering false"},
		"a shutdown moves leaders": {func(s *scene) { s.apply(BeginShutdown(s.m, s.policy(), 1, epochOf(s.m, 1))) },
			"leader 2 epoch 1 isr [2 3] elr [] known [] recovering false"},
		"the preferred leader again": {func(s *scene) {
			s.fence(1)
			s.restart(1, true)
			s.alter(2, 3, 1)
			s.apply(ElectLeader(s.m, s.policy(), "t", 0, false))
		}, "leader 1 epoch 2 isr [2 3 1] elr [] known [] recovering false"},
		"unclean by an operator": {func(s *scene) {
			s.fence(1)
			s.fence(2)
			s.fence(3)
			s.restart(1, true)
			s.apply(ElectLeader(s.m, s.policy(), "t", 0, true))
			s.alter(1)
		}, "leader 1 epoch 4 isr [1] elr [2 3] known [3] recovering false"},
		"a reassignment adds first": {func(s *scene) { s.reassign(4, 2) },
			"leader 1 epoch 0 isr [1 2 3] elr [] known [] recovering false; replicas [4 2 1 3] adding [4] removing [1 3]"},
		"and drops when what it adds is in sync": {func(s *scene) { s.reassign(4, 2); s.alter(1, 2, 3, 4) },
			"leader 4 epoch 1 isr [2 4] elr [] known [] recovering false; replicas [4 2] adding [] removing []"},
		"one that only drops is done at once": {func(s *scene) { s.reassign(2, 3) },
			"leader 2 epoch 1 isr [2 3] elr [] known [] recovering false; replicas [2 3] adding [] removing []"},
		"one that would leave fewer in sync than min.insync.replicas waits": {func(s *scene) { s.fence(3); s.reassign(2, 3) },
			"leader 1 epoch 0 isr [1 2] elr [] known [] recovering false; replicas [2 3 1] adding [] removing [1]"},
		"until there are enough": {func(s *scene) { s.fence(3); s.reassign(2, 3); s.restart(3, true); s.alter(1, 2, 3) },
			"leader 2 epoch 1 isr [2 3] elr [] known [] recovering false; replicas [2 3] adding [] removing []"},
		"or who has the records lives on only where they are to go": {func(s *scene) { s.fence(3); s.reassign(2, 3); s.fence(1) },
			"leader 2 epoch 1 isr [2] elr [1] known [] recovering false; replicas [2 3 1] adding [] removing [1]"},
		"who was to go and may lead stays until enough others are in sync": {func(s *scene) { s.reassign(4, 2); s.alter(1, 2, 3); s.fence(3); s.fence(2); s.reassign(1, 3) },
			"leader 1 epoch 0 isr [1] elr [2] known [] recovering false; replicas [1 3 4 2] adding [] removing [4 2]"},
		"what was added and is taken away again before it is in sync, and is wanted then": {func(s *scene) { s.fence(2); s.reassign(4, 3); s.reassign(1, 2); s.reassign(4, 1) },
			"leader 1 epoch 0 isr [1 3] elr [] known [] recovering false; replicas [4 1 2 3] adding [] removing [2 3]"},
		"another order": {func(s *scene) { s.reassign(3, 2, 1) },
			"leader 1 epoch 0 isr [1 2 3] elr [] known [] recovering false; replicas [3 2 1] adding [] removing []"},
		"taken back": {func(s *scene) { s.reassign(4, 2); s.apply(Reassign(s.m, s.policy(), "t", 0, nil, false)) },
			"leader 1 epoch 1 isr [1 2 3] elr [] known [] recovering false; replicas [2 1 3] adding [] removing []"},
		"changed on the way": {func(s *scene) { s.reassign(4, 2); s.reassign(1, 2, 4) },
			"leader 1 epoch 0 isr [1 2 3] elr [] known [] recovering false; replicas [1 2 4 3] adding [4] removing [3]"},
		"all preferred leaders": {func(s *scene) {
			s.fence(1)
			s.restart(1, true)
			s.alter(2, 3, 1)
			s.apply(ElectPreferred(s.m, s.policy(), 100), nil)
		}, "leader 1 epoch 2 isr [2 3 1] elr [] known [] recovering false"},
		"unregistered": {func(s *scene) { s.apply(Unregister(s.m, s.policy(), 1)) },
			"leader 2 epoch 1 isr [2 3] elr [] known [] recovering false"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			tc.play(s)
			if got := s.String(); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// TestAlterPartitionRefusals: the checks, in Kafka's order.
func TestAlterPartitionRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*PartitionState)
		broker int32
		want   error
	}{
		"unknown topic":           {func(p *PartitionState) { p.Topic = NewID() }, 1, kerr.UnknownTopicID},
		"unknown partition":       {func(p *PartitionState) { p.Partition = 4 }, 1, kerr.UnknownTopicOrPartition},
		"newer leader epoch":      {func(p *PartitionState) { p.LeaderEpoch++ }, 1, kerr.NotController},
		"newer partition epoch":   {func(p *PartitionState) { p.PartitionEpoch++; p.LeaderEpoch-- }, 1, kerr.NotController},
		"older leader epoch":      {func(p *PartitionState) { p.LeaderEpoch-- }, 2, kerr.FencedLeaderEpoch},
		"not the leader":          {func(p *PartitionState) { p.PartitionEpoch-- }, 2, kerr.InvalidRequest},
		"older partition epoch":   {func(p *PartitionState) { p.PartitionEpoch--; p.ISR = nil }, 1, kerr.InvalidUpdateVersion},
		"without the leader":      {func(p *PartitionState) { p.ISR = []Member{{2, -1}} }, 1, kerr.InvalidRequest},
		"not a replica":           {func(p *PartitionState) { p.ISR = append(p.ISR, Member{7, -1}) }, 1, kerr.InvalidRequest},
		"recovering from nothing": {func(p *PartitionState) { p.ISR, p.Recovering = p.ISR[:1], true }, 1, kerr.InvalidRequest},
		"another broker epoch":    {func(p *PartitionState) { p.ISR[1].Epoch += 5 }, 1, kerr.IneligibleReplica},
	} {
		s := newScene(t)
		proposal := s.proposal(1, 2)
		tc.change(&proposal)
		if _, err := AlterPartition(s.m, s.policy(), tc.broker, proposal); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	s := newScene(t)
	s.fence(3)
	if _, err := AlterPartition(s.m, s.policy(), 1, s.proposal(1, 2, 3)); !errors.Is(err, kerr.IneligibleReplica) {
		t.Errorf("a fenced member: %v", err)
	}
	for _, uncleanly := range []bool{false, true} {
		if _, err := ElectLeader(s.m, s.policy(), "t", 0, uncleanly); !errors.Is(err, kerr.ElectionNotNeeded) {
			t.Errorf("an election that is not needed: %v", err)
		}
	}
	for name, err := range map[string]error{
		"no such partition": second(Reassign(s.m, s.policy(), "t", 7, []int32{1}, false)),
		"no such broker":    second(Reassign(s.m, s.policy(), "t", 0, []int32{1, 9}, false)),
		"another factor":    second(Reassign(s.m, s.policy(), "t", 0, []int32{1, 2}, true)),
		"nothing to cancel": second(Reassign(s.m, s.policy(), "t", 0, nil, false)),
	} {
		want := map[string]error{"no such partition": kerr.UnknownTopicOrPartition, "no such broker": kerr.InvalidReplicaAssignment,
			"another factor": kerr.InvalidReplicationFactor, "nothing to cancel": kerr.NoReassignmentInProgress}[name]
		if !errors.Is(err, want) {
			t.Errorf("reassignment with %s: %v", name, err)
		}
	}
	few := newScene(t)
	few.fence(2)
	few.fence(3)
	few.reassign(4, 2)
	few.alter(1, 4)
	if _, err := Reassign(few.m, few.policy(), "t", 0, nil, false); !errors.Is(err, kerr.InvalidReplicaAssignment) {
		t.Errorf("a reassignment taken back that leaves one in sync: %v", err)
	}
	few.fence(4)
	if _, err := Reassign(few.m, few.policy(), "t", 0, nil, false); !errors.Is(err, kerr.InvalidReplicaAssignment) {
		t.Errorf("a reassignment taken back that drops the only eligible replica beside the ISR: %v", err)
	}
	s.fence(1)
	if _, err := ElectLeader(s.m, s.policy(), "t", 0, false); !errors.Is(err, kerr.PreferredLeaderNotAvailable) {
		t.Errorf("the preferred leader is away: %v", err)
	}
	s.fence(2)
	if _, err := ElectLeader(s.m, s.policy(), "t", 0, true); !errors.Is(err, kerr.EligibleLeadersNotAvailable) {
		t.Errorf("nobody is there: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestRegistrationRefusals: a broker id is one disk's at a time.
func TestRegistrationRefusals(t *testing.T) {
	m := withDirs(t, 1, 1)
	other := image.Broker{ID: 1, Incarnation: NewID(), LogDirs: []image.UUID{dirID(9, 9)}}
	if _, _, err := RegisterBroker(m, testPolicy, "c", other, -1); !errors.Is(err, kerr.DuplicateBrokerRegistration) {
		t.Errorf("two processes with one id: %v", err)
	}
	if _, _, err := RegisterBroker(m, testPolicy, "d", other, -1); !errors.Is(err, kerr.InconsistentClusterID) {
		t.Errorf("another cluster: %v", err)
	}
	b, _ := m.Broker(1)
	again := *b
	records, epoch, err := RegisterBroker(m, testPolicy, "c", again, -1)
	if err != nil || epoch != b.Epoch || records[0].GetRegisterBroker().Fenced {
		t.Errorf("the same process again: epoch %d, %v", epoch, err)
	}
	records, err = Fence(m, testPolicy, 1, b.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	apply(m, records)
	if _, _, err := RegisterBroker(m, testPolicy, "c", other, -1); err != nil {
		t.Errorf("another disk once the old one is fenced: %v", err)
	}
	if !slices.Contains(m.ActiveBrokers(), 1) == false {
		t.Error("a fenced broker is active")
	}
}

// TestLastKnownIsForgotten: who led last before nobody did is of no interest once the ISR is as large as min.insync.replicas.
func TestLastKnownIsForgotten(t *testing.T) {
	s := newScene(t)
	s.setMinISR(2)
	s.fence(1)
	s.fence(2)
	s.fence(3)
	s.restart(3, true)
	before := s.topic().Partitions[0]
	if before.Leader != 3 || len(before.LastKnownELR) == 0 {
		t.Fatalf("%v", s)
	}
	s.restart(1, true)
	s.alter(3, 1)
	if p := s.topic().Partitions[0]; len(p.LastKnownELR) > 0 || len(p.ELR) > 0 || len(p.ISR) != 2 {
		t.Errorf("with two in sync: %v", s)
	}
}

// TestFullDisksJoinNoISR: a leader's proposal of a replica whose disk is full is refused, but not of one that is in the ISR already.
func TestFullDisksJoinNoISR(t *testing.T) {
	s := newScene(t)
	s.fill(1)
	if _, err := AlterPartition(s.m, s.policy(), 2, s.proposal(2, 3, 1)); !errors.Is(err, kerr.IneligibleReplica) {
		t.Errorf("a full disk joins: %v", err)
	}
	s.fill(1, 2, 3)
	s.fill(2, 3)
	if _, err := AlterPartition(s.m, s.policy(), 3, s.proposal(3, 1)); err != nil {
		t.Errorf("beside a leader whose disk is full: %v", err)
	}
}

// TestFullDisksOfInternalTopics: their replicas stay while the reserve has room for them.
func TestFullDisksOfInternalTopics(t *testing.T) {
	s := newScene(t)
	policy := s.policy()
	policy.Internal = func(topic string) bool { return topic == "t" }
	dir := []image.UUID{dirID(1, 0)}
	s.apply(SetRoom(s.m, policy, 1, epochOf(s.m, 1), dir, nil))
	if got := s.topic().Partitions[0].Leader; got != 1 {
		t.Errorf("led by %d", got)
	}
	s.apply(SetRoom(s.m, policy, 1, epochOf(s.m, 1), dir, dir))
	if got := s.topic().Partitions[0].Leader; got != 2 {
		t.Errorf("led by %d when nothing may be written any more", got)
	}
	data, err := s.m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	again, err := image.FromSnapshot(data)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := again.Broker(1); b.HasRoom(dir[0], true) {
		t.Error("a snapshot forgets that a disk is full")
	}
}
