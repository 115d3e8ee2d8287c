// Package metrics tells what a node does, by HTTP: Prometheus metrics under kraft's own names and in the dialects that dashboards for
// Apache Kafka know, health, and profiles.
package metrics

import (
	"context"
	"sync"
	"time"

	"kraft/groups"
	"kraft/groups/coordinator"
	"kraft/raftmeta"
	"kraft/raftmeta/authorizer"
	"kraft/raftmeta/image"
	"kraft/raftmeta/quorum"
	"kraft/raftmeta/telemetry"
	"kraft/replication"
	"kraft/storage"
	"kraft/wire"
	"kraft/wire/ident"
	"kraft/wire/quota"
)

// Sources are what a running node consists of. Replication, Groups, Telemetry and Logs are nil on a controller only.
type Sources struct {
	Meta        *raftmeta.Meta
	Replication *replication.Manager
	Groups      *groups.Manager
	Telemetry   *telemetry.Manager
	Logs        *storage.Manager
	Authorizer  *authorizer.Authorizer // nil where everybody may do everything
	// Certificates are when the certificates of listeners expire, by the listeners' names.
	Certificates func() map[string]time.Time
	Quotas       *quota.Manager
	Servers      []*wire.Server // the first's requests are told of, the connections of all
	Dial         wire.Dialer
	InterBroker  string // the listener of brokers that this one connects to
	Version      string
	Started      time.Time
}

// observer looks at a node for scrapes, which may overlap.
type observer struct {
	Sources
	remote *remoteLags

	mu        sync.Mutex // guards the rest
	unclean   int64      // unclean elections seen
	before    *image.Image
	scraped   time.Time
	worked    time.Duration // on requests, until then
	idleShare float64
}

func newObserver(s Sources) *observer {
	o := &observer{Sources: s, scraped: time.Now(), idleShare: 1}
	o.remote = newRemoteLags(s)
	s.Meta.Subscribe(o.follow)
	return o
}

// follow counts unclean elections: partitions that have begun to recover from one.
func (o *observer) follow(img *image.Image, changed *image.Delta) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id := range changed.Topics {
		t, ok := img.TopicByID(id)
		if !ok || o.before == nil {
			continue
		}
		old, _ := o.before.TopicByID(id)
		for n, p := range t.Partitions {
			if p.Recovering && old != nil && n < len(old.Partitions) && (!old.Partitions[n].Recovering || old.Partitions[n].LeaderEpoch != p.LeaderEpoch) {
				o.unclean++
			}
		}
	}
	o.before = img
}

// view is a node at the time of a scrape.
type view struct {
	*observer
	now         time.Time
	partitions  bool // tell of each
	replication replication.Stats
	groups      []groupView
	connections map[string]int
	accepted    int64
	parked      int64
	stats       map[string]*wire.RequestStats
	dirs        []storage.DirUsage
	quorum      quorum.Status
	leads       bool
	leader      int32
	unclean     int64
	idle        float64

	sizes, replicas map[string]int64 // by topic: bytes of logs, and replicas of partitions that this broker leads
	topicPartitions map[string]int   // of the cluster
	count           struct{ replicas, led, underReplicated, underMin, atMin, offline int }
	cluster         struct{ brokers, fenced, topics, partitions, offline, notPreferred int }
}

// scrapePatience bounds what a scrape waits for the quorum and for coordinators.
const scrapePatience = time.Second

func (o *observer) look(partitions bool) *view {
	ctx, cancel := context.WithTimeout(context.Background(), scrapePatience)
	defer cancel()
	v := &view{observer: o, now: time.Now(), partitions: partitions, connections: map[string]int{}, leads: o.Meta.Leads(), leader: o.Meta.Controller(),
		sizes: map[string]int64{}, replicas: map[string]int64{}, topicPartitions: map[string]int{}}
	v.quorum, _ = o.Meta.Quorum(ctx) // zero once it has stopped
	for i, s := range o.Servers {
		st := s.Stats()
		if i == 0 {
			v.stats = st.Requests
		}
		v.accepted += st.Accepted
		v.parked += st.Parked
		for listener, n := range st.Connections {
			v.connections[listener] += n
		}
	}
	v.replication = replication.Stats{All: new(replication.TopicStats)}
	if o.Replication != nil {
		v.replication = o.Replication.Stats()
		v.groups = o.lags(o.Groups.Stats(ctx))
		v.dirs = o.Logs.Room()
	}
	v.countReplicas()
	v.countCluster()
	v.measureIdle()
	return v
}

func (v *view) countReplicas() {
	v.count.replicas = len(v.replication.Partitions)
	for _, p := range v.replication.Partitions {
		v.sizes[p.Topic] += p.Size
		if p.Offline {
			v.count.offline++
		}
		if !p.Leads {
			continue
		}
		v.count.led++
		v.replicas[p.Topic] += int64(p.Replicas)
		switch {
		case p.InSync < p.MinInSync:
			v.count.underMin++
		case p.InSync == p.MinInSync:
			v.count.atMin++
		}
		if p.InSync < p.Replicas {
			v.count.underReplicated++
		}
	}
}

func (v *view) countCluster() {
	img := v.Meta.Image()
	img.Brokers(func(b *image.Broker) {
		v.cluster.brokers++
		if b.Fenced {
			v.cluster.fenced++
		}
	})
	img.Topics("", func(t *image.Topic) bool {
		v.cluster.topics++
		v.cluster.partitions += len(t.Partitions)
		v.topicPartitions[t.Name] = len(t.Partitions)
		for _, p := range t.Partitions {
			if p.Leader == image.NoLeader {
				v.cluster.offline++
			} else if p.Leader != p.Replicas[0] {
				v.cluster.notPreferred++
			}
		}
		return true
	})
}

// measureIdle tells the share of processors' time since the scrape before that no request was worked on.
func (v *view) measureIdle() {
	var worked time.Duration
	v.requests(func(_ string, s *wire.RequestStats) {
		worked += time.Duration(s.InPhase[wire.Handled].Load() + s.InPhase[wire.Sent].Load())
	})
	o := v.observer
	o.mu.Lock()
	defer o.mu.Unlock()
	v.unclean = o.unclean
	const least = time.Second // between looks that change it
	if passed := v.now.Sub(o.scraped); passed >= least {
		o.idleShare = max(0, 1-(worked-o.worked).Seconds()/(passed.Seconds()*processors()))
		o.scraped, o.worked = v.now, worked
	}
	v.idle = o.idleShare
}

// requests tells of requests that there were.
func (v *view) requests(tell func(name string, s *wire.RequestStats)) {
	for name, s := range v.stats {
		if s.Received.Load() > 0 {
			tell(name, s)
		}
	}
}

// preferred says that a partition is led by its first replica.
func (v *view) preferred(topic string, n int32) bool {
	t, _ := v.Meta.Image().Topic(topic)
	p, ok := t.Partition(n)
	return ok && p.Leader == p.Replicas[0]
}

// groupView is a group with its lags.
type groupView struct {
	coordinator.Stats
	lags map[ident.TopicPartition]lag
}

// lag is how far a group is behind in a partition, or in all of a topic.
type lag struct {
	records, offsets int64
	oldest           time.Time // not read yet; zero for none
}

func (l lag) age(now time.Time) time.Duration {
	if l.oldest.IsZero() {
		return 0
	}
	return max(0, now.Sub(l.oldest))
}

// topics adds up lags by topic.
func (g *groupView) topics() map[string]lag {
	out := map[string]lag{}
	for tp, l := range g.lags {
		sum := out[tp.Topic]
		sum.records += l.records
		sum.offsets += g.Offsets[tp]
		if !l.oldest.IsZero() && (sum.oldest.IsZero() || l.oldest.Before(sum.oldest)) {
			sum.oldest = l.oldest
		}
		out[tp.Topic] = sum
	}
	return out
}

// lags looks up how far groups are behind: at this broker's replicas, or by what their leaders have told.
func (o *observer) lags(stats []coordinator.Stats) (out []groupView) {
	var elsewhere []reader
	for _, s := range stats {
		g := groupView{s, map[ident.TopicPartition]lag{}}
		for tp, offset := range s.Offsets {
			records, oldest, ok := o.Replication.Behind(tp.Topic, tp.Partition, offset)
			if ok {
				g.lags[tp] = lag{records: records, oldest: oldest}
				continue
			}
			r := reader{tp, offset}
			elsewhere = append(elsewhere, r)
			if l, ok := o.remote.known(r); ok {
				g.lags[tp] = l
			}
		}
		out = append(out, g)
	}
	o.remote.refresh(elsewhere)
	return out
}
