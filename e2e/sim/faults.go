package sim

import (
	"context"
	"fmt"
	"math"
	"path"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/controller"
	"kraft/wire/record"
)

// faults are what may happen, each as a function that does it and says what it did; "" when it could not be now.
var faults = map[faultKind]func(*Sim, [3]uint64) string{
	"kill":        killOne,
	"kill all":    killAll,
	"power":       powerOne,
	"power all":   powerAll,
	"start":       startAll,
	"stop":        stopOne,
	"cut":         cutOne,
	"cut off":     cutOff,
	"slow":        slowDown,
	"lossy":       loseSome,
	"heal":        healAll,
	"reset":       resetOne,
	"elect":       elect,
	"reassign":    reassign,
	"torn":        tornWrite,
	"full":        fullDisk,
	"bad sync":    badSync,
	"slow disk":   slowDisk,
	"clock":       moveClock,
	"voters":      changeVoters,
	"rot":         flipBit,
	"upgrade":     upgrade,
	"downgrade":   downgrade,
	"finalize":    finalize,
	"pause":       pauseOne,
	"short pause": shortPause,
	"copy":        copyDisks,
	"older":       olderDisks,
}

// upgradeKinds are drawn from for a rolling upgrade.
var upgradeKinds = []faultKind{"upgrade", "upgrade", "upgrade", "downgrade", "finalize"}

// kinds are drawn from; what is there twice happens twice as often.
var kinds = []faultKind{"kill", "kill", "kill all", "power", "power", "power all", "start", "start", "start", "stop", "cut", "cut off", "cut off", "slow", "lossy",
	"heal", "heal", "reset", "reset", "elect", "reassign", "torn", "full", "bad sync",
	"slow disk", "slow disk", "clock", "voters", "voters", "rot", "rot"}

// one picks a machine.
func (s *Sim) one(dice uint64) *Machine { return s.machines[dice%uint64(len(s.machines))] }

// up picks a machine that is on, nil if none is.
func (s *Sim) up(dice uint64) *Machine {
	var on []*Machine
	for _, m := range s.machines {
		if m.Running() {
			on = append(on, m)
		}
	}
	if len(on) == 0 {
		return nil
	}
	return on[dice%uint64(len(on))]
}

func killOne(s *Sim, dice [3]uint64) string {
	m := s.up(dice[0])
	if m == nil {
		return ""
	}
	m.Kill()
	return perhapsStart(m, dice[1], "is killed")
}

// perhapsStart starts a machine again at once, or leaves it as it is.
func perhapsStart(m *Machine, dice uint64, what string) string {
	if dice%2 == 0 {
		m.Start()
		what += ", and started again"
	}
	return fmt.Sprintf("%v %s", m, what)
}

func killAll(s *Sim, _ [3]uint64) string {
	s.restartAll((*Machine).Kill)
	return "all nodes are killed, and started again"
}

// restartAll ends all machines, and starts them.
func (s *Sim) restartAll(end func(*Machine)) {
	for _, m := range s.machines {
		end(m)
	}
	for _, m := range s.machines {
		m.Start()
	}
}

// powerOne takes the power of a machine, if no other one may still lack what it had not synced.
func powerOne(s *Sim, dice [3]uint64) string {
	m := s.one(dice[0])
	if !s.mayLosePower(m) {
		return ""
	}
	m.PowerOff()
	return perhapsStart(m, dice[1], "loses power")
}

func powerAll(s *Sim, _ [3]uint64) string {
	if !s.plan.Commit || !s.mayLosePower(s.machines...) {
		return ""
	}
	s.restartAll((*Machine).PowerOff)
	return "all machines lose power, and are started again"
}

func startAll(s *Sim, _ [3]uint64) string {
	var names []string
	for _, m := range s.machines {
		if !m.Running() {
			m.Start()
			names = append(names, m.String())
		}
	}
	if names == nil {
		return ""
	}
	return strings.Join(names, ", ") + " started"
}

func stopOne(s *Sim, dice [3]uint64) string {
	m := s.up(dice[0])
	if m == nil {
		return ""
	}
	s.background.Go(func() {
		m.Stop()
		s.history.Say("%v has stopped", m)
		m.Start()
	})
	return fmt.Sprintf("%v is asked to stop", m)
}

// pair picks two machines.
func (s *Sim) pair(dice [3]uint64) (from, to *Machine) {
	from = s.one(dice[0])
	for i := dice[1]; ; i++ {
		if to = s.one(i); to != from || len(s.machines) == 1 {
			return from, to
		}
	}
}

// cut lets nothing get from one host to another.
func (s *Sim) cut(from, to string) { s.network.Set(from, to, func(w *condition) { w.cut = true }) }

func cutOne(s *Sim, dice [3]uint64) string {
	from, to := s.pair(dice)
	s.cut(from.name, to.name)
	if dice[2]%2 == 0 {
		return fmt.Sprintf("nothing gets from %v to %v", from, to)
	}
	s.cut(to.name, from.name)
	return fmt.Sprintf("%v and %v are cut off from each other", from, to)
}

// cutOff separates a machine from the others, and from some of the clients.
func cutOff(s *Sim, dice [3]uint64) string {
	m := s.one(dice[0])
	for _, o := range s.machines {
		if o != m {
			s.cut(m.name, o.name)
			s.cut(o.name, m.name)
		}
	}
	if dice[1]%2 == 0 {
		return fmt.Sprintf("%v is cut off from the other nodes", m)
	}
	for i := range s.clients {
		s.cut(m.name, clientName(i))
		s.cut(clientName(i), m.name)
	}
	return fmt.Sprintf("%v is cut off", m)
}

func slowDown(s *Sim, dice [3]uint64) string {
	from, to := s.pair(dice)
	by := time.Duration(1+dice[2]%200) * time.Millisecond
	s.network.Set(from.name, to.name, func(w *condition) { w.delay = by })
	return fmt.Sprintf("%v to %v is slower by %v", from, to, by)
}

func loseSome(s *Sim, dice [3]uint64) string {
	m := s.one(dice[0])
	for _, o := range s.machines {
		s.network.Set(m.name, o.name, func(w *condition) { w.loss = 0.2 })
	}
	return fmt.Sprintf("a fifth of the packets from %v is lost", m)
}

func healAll(s *Sim, _ [3]uint64) string {
	s.network.Heal()
	return "the network is sound"
}

func resetOne(s *Sim, dice [3]uint64) string {
	told := dice[1]%2 == 0
	which := s.network.Reset(func(n int) int { return int(dice[0] % uint64(n)) }, told)
	if which == "" || told {
		return "reset: " + which
	}
	return "reset, at one end only: " + which
}

// admin runs an operation of an administrator beside what else goes on.
func (s *Sim) admin(what string, f func(context.Context, *kadm.Client) error) string {
	s.background.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := f(ctx, s.administrator); err != nil {
			s.history.Say("%s: %v", what, err)
		} else {
			s.history.Say("%s: done", what)
		}
	})
	return what
}

func elect(s *Sim, dice [3]uint64) string {
	p := s.work.Parts[dice[0]%uint64(len(s.work.Parts))]
	return s.admin("elect the preferred leader of "+p.String(), func(ctx context.Context, cl *kadm.Client) error {
		_, err := cl.ElectLeaders(ctx, kadm.ElectPreferredReplica, kadm.TopicsSet{p.Topic: {p.N: {}}})
		return err
	})
}

func reassign(s *Sim, dice [3]uint64) string {
	p := s.work.Parts[dice[0]%uint64(len(s.work.Parts))]
	count := min(3, len(s.machines))
	var to []int32
	for i := range count {
		to = append(to, int32((dice[1]+uint64(i))%uint64(len(s.machines)))+1)
	}
	return s.admin(fmt.Sprintf("move %v to %v", p, to), func(ctx context.Context, cl *kadm.Client) error {
		req := kadm.AlterPartitionAssignmentsReq{}
		req.Assign(p.Topic, p.N, to)
		resp, err := cl.AlterPartitionAssignments(ctx, req)
		if err == nil {
			err = resp.Error()
		}
		return err
	})
}

// tornWrite takes a machine's power before one of its next writes, in the middle of it.
func tornWrite(s *Sim, dice [3]uint64) string {
	m := s.up(dice[0])
	if m == nil || !s.mayLosePower(m) {
		return ""
	}
	n := int(dice[1] % 200)
	m.disk.CrashAfter(n)
	s.loses(m, math.MaxInt64) // at some time from now on
	s.background.Go(func() {
		for range 2000 {
			if m.disk.Crashed() {
				break
			}
			time.Sleep(time.Millisecond)
		}
		m.PowerOff()
		s.learn()
		s.loses(m, s.newest())
		m.Start()
		s.history.Say("%v has lost power while it wrote, and is started again", m)
	})
	return fmt.Sprintf("%v will lose power at its write %d from now", m, n)
}

// fullDisk leaves a machine little room, for some seconds.
func fullDisk(s *Sim, dice [3]uint64) string {
	m := s.one(dice[0])
	room := int64(dice[1] % 4096)
	m.disk.SetCapacity(true, room)
	s.background.Go(func() {
		time.Sleep(time.Duration(1+dice[2]%4000) * time.Millisecond)
		m.disk.SetCapacity(false, 0)
		s.history.Say("%v has room again", m)
	})
	return fmt.Sprintf("%v has %d bytes left on its disk", m, room)
}

// badSync has a machine's disk refuse a sync, and forget what it was for. It is mended some seconds later.
func badSync(s *Sim, dice [3]uint64) string {
	m := s.up(dice[0])
	if m == nil || !s.mayLose(m) {
		return ""
	}
	n := int(dice[1] % 20)
	m.disk.FailSyncs(n)
	s.loses(m, math.MaxInt64) // again and again
	s.background.Go(func() {
		time.Sleep(time.Duration(1+dice[2]%4000) * time.Millisecond)
		m.disk.Repair()
		s.learn()
		s.loses(m, s.newest())
		m.Kill() // with several log directories it goes on without the one, until somebody looks
		m.Start()
		s.history.Say("%v syncs again, and is started again", m)
	})
	return fmt.Sprintf("the disk of %v fails after %d syncs", m, n)
}

// slowDisk lets all that changes a machine's disk take time, for some seconds.
func slowDisk(s *Sim, dice [3]uint64) string {
	if !s.plan.SlowDisks {
		return ""
	}
	m := s.one(dice[0])
	by := time.Duration(1+dice[1]%300) * time.Millisecond
	m.disk.SetDelay(by)
	s.background.Go(func() {
		time.Sleep(time.Duration(1+dice[2]%6000) * time.Millisecond)
		m.disk.SetDelay(0)
		s.history.Say("the disk of %v is fast again", m)
	})
	return fmt.Sprintf("the disk of %v takes up to %v", m, by)
}

// jump puts the clock of the caller's machine forward or back, where the runtime can.
var jump = func(time.Duration) {}

// pause has the caller's machine stand still until it calls what is returned, where the runtime can. The caller has to end without
// waiting for anything.
var pause = func() (resume func()) { return func() {} }

// pauseOne has a machine stand still for some seconds, as SIGSTOP or a hypervisor does: its timers are late, and what it believed
// when it stopped it believes when it goes on.
func pauseOne(s *Sim, dice [3]uint64) string {
	m := s.up(dice[0])
	if m == nil {
		return ""
	}
	length := time.Duration(50+dice[1]%5000) * time.Millisecond
	if dice[2]%4 == 0 {
		length += 8 * time.Second // longer than a session
	}
	if !m.Pause() {
		return ""
	}
	s.background.Go(func() {
		time.Sleep(length)
		if m.Resume() {
			s.history.Say("%v goes on", m)
		}
	})
	return fmt.Sprintf("%v stands still", m)
}

// shortPause has a machine stand still for a second at most: nobody is to lose the lead for it.
func shortPause(s *Sim, dice [3]uint64) string {
	m := s.up(dice[0])
	if m == nil || !m.Pause() {
		return ""
	}
	length := time.Second - time.Duration(dice[1]%8)*100*time.Millisecond
	s.background.Go(func() {
		time.Sleep(length)
		m.Resume()
	})
	return fmt.Sprintf("%v stands still for %v", m, length)
}

// copyDisks keeps a copy of a machine's disks.
func copyDisks(s *Sim, dice [3]uint64) string {
	m := s.one(dice[0])
	if err := m.Copy(s.epoch(m)); err != nil {
		return ""
	}
	return fmt.Sprintf("the disks of %v are copied", m)
}

// olderDisks starts a machine with a copy of its disks from before, as who restores a backup or mounts the wrong volume does, while the
// others are there to notice, and gives it its own again if they did.
func olderDisks(s *Sim, dice [3]uint64) string {
	var m *Machine
	for i := range s.machines {
		if o := s.one(dice[0] + uint64(i)); o.copied != nil {
			m = o
		}
	}
	if m == nil {
		return ""
	}
	s.network.Heal()
	for _, o := range s.machines {
		o.Resume()
		o.Start()
	}
	const heartbeats = 3 * time.Second
	time.Sleep(heartbeats)
	if !s.mayLose(m) {
		return ""
	}
	older := m.copied
	newest, err := m.Swap(older)
	if err != nil {
		return ""
	}
	changed := s.epoch(m) > older.epoch // it has started, at least, or registered again
	s.history.Say("FAULT %v loses power, and is started with an older disk", m)
	m.Start()
	if m.Up(heartbeats) {
		if changed {
			s.history.Wrong("older disk let in", "%v was started with disks of broker epoch %d, and had been in epoch %d", m, older.epoch, s.epoch(m))
		}
		return fmt.Sprintf("%v goes on with a copy of its disks that lacks nothing of the metadata", m)
	}
	if _, err := m.Swap(newest); err != nil {
		return ""
	}
	m.Start()
	return fmt.Sprintf("%v has its own disk again", m)
}

// moveClock lets a machine's clock jump by up to 50 minutes, but not what it measures with timers. (Who a producer is that has been
// silent for an hour is not looked up at a start.)
func moveClock(s *Sim, dice [3]uint64) string {
	m := s.one(dice[0])
	by := time.Duration(int64(dice[1]%6_000_000)-3_000_000) * time.Millisecond
	if dice[2]%2 == 0 {
		by /= 100
	}
	m.do(func() { jump(by) })
	return fmt.Sprintf("the clock of %v jumps by %v", m, by)
}

// changeVoters asks for a voter to become an observer, or for one that is not a voter to become one.
func changeVoters(s *Sim, dice [3]uint64) string {
	id := int32(dice[0]%uint64(len(s.machines))) + 1
	if dice[1]%2 == 0 {
		return s.admin(fmt.Sprintf("make node %d a voter", id), func(ctx context.Context, _ *kadm.Client) error {
			req := kmsg.NewPtrAddRaftVoterRequest()
			req.VoterID, req.TimeoutMillis = id, 5000
			resp, err := req.RequestWith(ctx, s.client)
			if err != nil {
				return err
			}
			return kerr.ErrorForCode(resp.ErrorCode)
		})
	}
	return s.admin(fmt.Sprintf("make node %d no voter", id), func(ctx context.Context, _ *kadm.Client) error {
		req := kmsg.NewPtrRemoveRaftVoterRequest()
		req.VoterID = id
		resp, err := req.RequestWith(ctx, s.client)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	})
}

// flipBit flips one bit of what a batch of records has its checksum over, once.
func flipBit(s *Sim, dice [3]uint64) string {
	if !s.plan.Rot || s.rotten != nil {
		return ""
	}
	m, p := s.one(dice[0]), s.work.Parts[dice[1]%uint64(len(s.work.Parts))]
	if !s.mayLose(m) {
		return ""
	}
	var batches []place
	for _, file := range m.disk.Paths() {
		if path.Base(path.Dir(file)) != p.String() || !strings.HasSuffix(file, ".log") {
			continue
		}
		data, err := m.disk.ReadFile(file)
		for at := int64(0); err == nil && len(data) > 0; {
			var b record.Batch
			if b, data, err = record.Next(data); err == nil {
				batches = append(batches, place{file, at, int64(b.Size())})
				at += int64(b.Size())
			}
		}
	}
	if len(batches) == 0 {
		return ""
	}
	b := batches[dice[2]%uint64(len(batches))]
	at := b.at + checksumAt + int64(dice[2]>>8%uint64(b.size-checksumAt))
	m.disk.FlipAt(b.file, at, int(dice[2]>>40%8))
	s.rotten = &p
	return fmt.Sprintf("a bit of byte %d of %s on %v flips", at, b.file, m)
}

// checksumAt is the first byte of a batch that its checksum tells to be right or wrong, beginning with the checksum.
const checksumAt = 17

// place is where a batch of records is on a disk.
type place struct {
	file     string
	at, size int64
}

// upgrade gives a machine's node the newer version, and starts it again.
func upgrade(s *Sim, dice [3]uint64) string {
	return s.replaceVersion(s.one(dice[0]), dice[1], false, "newer")
}

// downgrade takes it back, which the cluster need not put up with.
func downgrade(s *Sim, dice [3]uint64) string {
	return s.replaceVersion(s.one(dice[0]), dice[1], true, "older")
}

func (s *Sim) replaceVersion(m *Machine, dice uint64, old bool, what string) string {
	m.SetVersion(old)
	s.background.Go(func() {
		if dice%2 == 0 {
			m.Stop()
		} else {
			m.Kill()
		}
		m.Start()
	})
	return fmt.Sprintf("%v is replaced by the %s version", m, what)
}

// finalize asks for the newest level of what the versions differ in, or for one that both have.
func finalize(s *Sim, dice [3]uint64) string {
	level := controller.Features[upgradedFeature][1]
	if dice[0]%4 == 0 {
		level = oldFeatures[upgradedFeature][1]
	}
	return s.admin(fmt.Sprintf("finalize %s at %d", upgradedFeature, level), func(ctx context.Context, _ *kadm.Client) error {
		req := kmsg.NewPtrUpdateFeaturesRequest()
		req.TimeoutMillis = 5000
		f := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
		f.Feature, f.MaxVersionLevel, f.UpgradeType = upgradedFeature, level, 2
		req.FeatureUpdates = append(req.FeatureUpdates, f)
		resp, err := req.RequestWith(ctx, s.client)
		if err != nil {
			return err
		}
		if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
			return err
		}
		for _, r := range resp.Results {
			if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
				return err
			}
		}
		return nil
	})
}
