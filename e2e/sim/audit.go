package sim

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/raftmeta/image"
)

// audit asks questions of a cluster that is whole and at rest, of which everything is known.
func (s *Sim) audit() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cl, err := s.work.Client(253, kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	rng := rand.New(rand.NewPCG(s.plan.Seed, 13))
	for _, p := range s.work.Parts {
		if s.rotten != nil && p == *s.rotten {
			continue
		}
		if err := s.work.CheckLookups(ctx, cl, p, rng); err != nil {
			return fmt.Errorf("lookups of %v: %w", p, err)
		}
	}
	if err := s.work.CheckTrimmed(ctx, cl, &s.trimmed); err != nil {
		return fmt.Errorf("topics that are trimmed: %w", err)
	}
	s.checkImages()
	if s.plan.Steady {
		return nil // a start is a reason for another leader
	}
	return s.checkRestart()
}

// checkImages holds the metadata of all nodes against each other: some have it from their logs, some from snapshots.
func (s *Sim) checkImages() {
	var first []string
	for _, m := range s.machines {
		img := m.Image()
		if img == nil {
			continue
		}
		lines := linesOf(img)
		if first == nil {
			first = lines
			continue
		}
		for i := range max(len(first), len(lines)) {
			switch {
			case i >= len(first):
				s.history.Wrong("metadata differs", "%v has %s, %v does not", m, lines[i], s.machines[0])
			case i >= len(lines):
				s.history.Wrong("metadata differs", "%v has %s, %v does not", s.machines[0], first[i], m)
			case first[i] != lines[i]:
				s.history.Wrong("metadata differs", "%v has %s, %v has %s", s.machines[0], first[i], m, lines[i])
			default:
				continue
			}
			return
		}
	}
}

// linesOf has all that is in an image, in an order of its own.
func linesOf(img *image.Image) (lines []string) {
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	say("cluster %s, features %v in epoch %d, producer ids from %d, broker epoch %d", img.ClusterID, img.Features, img.FeaturesEpoch, img.NextProducerID, img.LastEpoch)
	img.Brokers(func(b *image.Broker) {
		var at []string
		for _, e := range b.Endpoints {
			at = append(at, e.GetListener()+"://"+e.Address())
		}
		say("broker %d: %x %d %v %v fenced %v stopping %v dirs %x without room %x %x features %v served %d",
			b.ID, b.Incarnation, b.Epoch, at, b.Rack, b.Fenced, b.InControlledShutdown, b.LogDirs, b.Scarce, b.Full, b.Features, b.Served)
	})
	img.Controllers(func(c *image.Controller) { say("controller %+v", *c) })
	img.Topics("", func(t *image.Topic) bool {
		for n, p := range t.Partitions {
			say("%s-%d of %x: %+v", t.Name, n, t.ID, *p)
		}
		return true
	})
	for kind := range int8(64) {
		for _, name := range slices.Sorted(slices.Values(img.ConfigResources(kind))) {
			c := img.Config(kind, name)
			for _, key := range slices.Sorted(maps.Keys(c)) {
				say("setting of %d %s: %s=%s", kind, name, key, c[key])
			}
		}
	}
	img.Quotas(func(q *image.Quota) { say("quota of %v: %v", q.Entity, q.Values) })
	return lines
}

// checkRestart has a machine start again from its disk, where its metadata may be a snapshot with what came later, and waits until all is
// whole: nothing of the metadata is another than before but what a start of a broker changes.
func (s *Sim) checkRestart() error {
	m := s.machines[s.plan.Seed%uint64(len(s.machines))]
	img := m.Image()
	if img == nil {
		return nil
	}
	before, producers := lasting(img), img.NextProducerID
	m.Kill()
	m.Start()
	for deadline := time.Now().Add(rest); !s.whole() || m.Image() == nil; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("not whole %v after the last restart: %s", rest, s.describe())
		}
	}
	time.Sleep(5 * time.Second) // every broker hears of it
	img = m.Image()
	after := lasting(img)
	if img.NextProducerID < producers {
		s.history.Wrong("metadata lost", "%v gives producer ids from %d on after its last start, and gave them from %d on", m, img.NextProducerID, producers)
	}
	for _, line := range before {
		if !slices.Contains(after, line) && (len(s.machines) == 1 || s.anotherHas(m, line)) {
			s.history.Wrong("metadata lost", "%v had %s before its last start", m, line)
			break
		}
	}
	s.checkImages()
	return nil
}

// anotherHas reports whether a line of lasting is in the metadata of a machine other than m. A broker forwards a request for up to 30 s after
// the client has given it up, so that a setting may change while m starts (seed 18258).
func (s *Sim) anotherHas(m *Machine, line string) bool {
	return slices.ContainsFunc(s.machines, func(other *Machine) bool {
		if other == m {
			return false
		}
		img := other.Image()
		return img != nil && slices.Contains(lasting(img), line)
	})
}

// lasting is what a start of a broker does not change.
func lasting(img *image.Image) (lines []string) {
	for _, line := range linesOf(img) {
		if strings.HasPrefix(line, "setting ") || strings.HasPrefix(line, "quota ") {
			lines = append(lines, line)
		}
	}
	img.Topics("", func(t *image.Topic) bool {
		for n, p := range t.Partitions {
			if len(p.Adding)+len(p.Removing) > 0 {
				continue // a move that may end meanwhile
			}
			lines = append(lines, fmt.Sprintf("%s-%d of %x: replicas %v directories %x", t.Name, n, t.ID, p.Replicas, p.Directories))
		}
		return true
	})
	return lines
}
