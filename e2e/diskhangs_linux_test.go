package e2e

import (
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
)

// TestDiskHangs has a disk of one of three brokers answer nothing for some seconds, under load: others lead within two seconds, nothing
// that was acknowledged is lost, or there twice where producers are idempotent, and the broker is in sync again when its disk answers.
func TestDiskHangs(t *testing.T) {
	t.Run("of a follower of the metadata", func(t *testing.T) { diskHangs(t, "{id}", "{id}", false) })
	t.Run("of the active controller", func(t *testing.T) { diskHangs(t, "{id}", "{id}", true) })
	t.Run("one of two", func(t *testing.T) { diskHangs(t, "{id},{id}b", "{id}b", false) })
}

func diskHangs(t *testing.T, dirs, own string, controller bool) {
	s := startOnDisks(t, dirs, own)
	s.plain.repeats = true // an answer that waits behind one that the disk holds up is never sent
	id := controllerOf(t, s.all)
	if !controller {
		id = id%3 + 1
	}
	s.disks[id-1].do(s.disks[id-1].Freeze)
	begun := time.Now()
	s.more(5000)
	s.checkGaps()
	s.checkLeft(id)
	if out := s.Nodes[id%3].CLI(t, "", "broker", "list"); !strings.Contains(out, "fenced") {
		t.Errorf("kraft broker list says nothing of it:\n%s", out)
	}
	time.Sleep(time.Until(begun.Add(6 * time.Second))) // what waits for the disk goes on waiting
	s.disks[id-1].do(s.disks[id-1].Thaw)
	leaders(t, s.all, "load", 3)
	leaders(t, s.all, "plain", 3)
	s.more(500)
	s.load.check(s.all)
	s.plain.check(s.all)
	if out := s.Nodes[id-1].Output(); !strings.Contains(out, "the disk has not answered for 1") || !strings.Contains(out, "the disk answers again") {
		t.Error("the broker says nothing of its disk")
	}
}

// TestDiskFails has a disk of one of three brokers fail under load: it gives EIO for everything, or the system has made it read-only.
// Others lead within two seconds, nothing that was acknowledged is lost, or there twice where producers are idempotent, and the broker
// says what to do.
func TestDiskFails(t *testing.T) {
	for name, fail := range map[string]func(*disk) error{"gives EIO": (*disk).ShutDown, "is read-only": (*disk).MakeReadOnly} {
		t.Run("the only one "+name, func(t *testing.T) { diskFails(t, "{id}", "{id}", fail) })
		t.Run("one of two "+name, func(t *testing.T) { diskFails(t, "{id},{id}b", "{id}b", fail) })
	}
}

func diskFails(t *testing.T, dirs, own string, fail func(*disk) error) {
	s := startOnDisks(t, dirs, own)
	s.plain.repeats = true // what others had when the leader's disk failed
	id := controllerOf(t, s.all)
	if err := fail(s.disks[id-1]); err != nil {
		t.Fatal(err)
	}
	s.more(5000)
	s.checkGaps()
	k := s.Nodes[id-1]
	wants := []string{"log directory is offline until the next start"}
	if dirs == own {
		s.checkLeft(id)
		var ended *exec.ExitError
		if err := k.Wait(10 * time.Second); !errors.As(err, &ended) {
			t.Errorf("a broker without a disk ends with %v", err)
		}
		wants = append(wants, "--accept-lost-directories")
	}
	for _, want := range wants {
		if !strings.Contains(k.Output(), want) {
			t.Errorf("the broker does not say %q", want)
		}
	}
	s.load.check(s.others(id))
	s.plain.check(s.others(id))
}

// onDisks are three brokers, one directory of each on a disk of its own, under load.
type onDisks struct {
	*harness.Cluster
	t           *testing.T
	disks       []*disk
	all         []string
	load, plain *load // with and without idempotence
}

// startOnDisks starts brokers with the given log directories, of which own is on the disk.
func startOnDisks(t *testing.T, dirs, own string) *onDisks {
	t.Helper()
	s, root := &onDisks{t: t}, t.TempDir()
	for _, id := range []string{"1", "2", "3"} {
		s.disks = append(s.disks, newDisk(t, filepath.Join(root, strings.ReplaceAll(own, "{id}", id))))
	}
	var paths []string
	for _, d := range strings.Split(dirs, ",") {
		paths = append(paths, filepath.Join(root, d, "data"))
	}
	c, err := harness.StartCluster(root, 3, "--override", "min.insync.replicas=2", "--data", strings.Join(paths, ","))
	if err != nil {
		t.Fatal(err)
	}
	s.Cluster, s.all = c, c.Bootstrap()
	t.Cleanup(func() {
		for i, k := range c.Nodes {
			if err := s.disks[i].Thaw(); err != nil {
				t.Error(err)
			}
			select {
			case <-k.Done(): // its disk has failed
			default:
				if err := k.Stop(20 * time.Second); err != nil && !s.disks[i].Failed {
					t.Errorf("node %d: %v", i+1, err)
				}
			}
			if t.Failed() {
				t.Logf("node %d said:\n%s", i+1, k.Output())
			}
		}
	})
	for _, topic := range []string{"load", "plain"} {
		c.Nodes[0].CLI(t, "", "topic", "create", topic, "-p", "6", "-r", "3")
		leaders(t, s.all, topic, 3)
	}
	s.load = startLoad(t, s.all, "load", 6)
	s.plain = startLoad(t, s.all, "plain", 6, kgo.DisableIdempotentWrite())
	s.more(500)
	s.load.gap()
	s.plain.gap()
	return s
}

// more waits until n more records of both loads are acknowledged.
func (s *onDisks) more(n int) {
	s.t.Helper()
	s.load.more(n)
	s.plain.more(n)
}

// checkGaps wants records to have been acknowledged all the time, but for two seconds. A busy machine has three.
func (s *onDisks) checkGaps() {
	s.t.Helper()
	for name, gap := range map[string]time.Duration{"idempotent": s.load.gap(), "plain": s.plain.gap()} {
		s.t.Logf("%s: %v without an acknowledgement", name, gap)
		if gap > 3*time.Second {
			s.t.Errorf("%s: %v without an acknowledgement", name, gap)
		}
	}
}

// others are the addresses of all brokers but one.
func (s *onDisks) others(id int32) []string {
	return slices.Delete(slices.Clone(s.all), int(id-1), int(id))
}

// checkLeft wants a broker to lead nothing and to be in no ISR.
func (s *onDisks) checkLeft(id int32) {
	s.t.Helper()
	others := s.others(id)
	admin := kadm.NewClient(kgoClient(s.t, others[0], kgo.SeedBrokers(others...)))
	topics, err := admin.ListTopics(timeout(s.t, 10*time.Second), "load", "plain")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, topic := range topics {
		for _, p := range topic.Partitions {
			if p.Leader == id || slices.Contains(p.ISR, id) {
				s.t.Errorf("%s-%d is led by %d, ISR %v, though the disk of %d does not work", p.Topic, p.Partition, p.Leader, p.ISR, id)
			}
		}
	}
}

// disk is a harness.Disk whose failures end the test.
type disk struct {
	*harness.Disk
	t *testing.T
}

// newDisk mounts an empty disk at path until the test ends.
func newDisk(t *testing.T, path string) *disk {
	t.Helper()
	d, err := harness.NewDisk(path, 256)
	if err != nil {
		harness.Skip(t, "%v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return &disk{d, t}
}

func (d *disk) do(what func() error) {
	d.t.Helper()
	if err := what(); err != nil {
		d.t.Fatal(err)
	}
}
