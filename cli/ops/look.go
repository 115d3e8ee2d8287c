package ops

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Look is a cluster at one time, and how it has changed since the look before.
type Look struct {
	Cluster         string      `json:"cluster"`
	Controller      int32       `json:"controller"`
	Partitions      int         `json:"partitions"`
	UnderReplicated int         `json:"under_replicated"`
	Offline         int         `json:"offline"`
	Brokers         []Broker    `json:"brokers"`
	Topics          []TopicLook `json:"topics"`
	Groups          []GroupLook `json:"groups"`

	At time.Time `json:"-"`
}

// TopicLook is a topic of a Look.
type TopicLook struct {
	Topic      string  `json:"topic"`
	Partitions int     `json:"partitions"`
	Produced   float64 `json:"records_per_second"`
	Records    int64   `json:"records"` // between the first and the last offset
	end        int64   // of all partitions together
}

// GroupLook is a group of a Look.
type GroupLook struct {
	Group     string  `json:"group"`
	State     string  `json:"state"`
	Members   int     `json:"members"`
	Lag       int64   `json:"lag"`
	Consumed  float64 `json:"records_per_second"` // committed
	committed int64   // of all partitions together
}

// LookAt looks at a cluster; rates are since the look before, if there is one.
func LookAt(ctx context.Context, client *kgo.Client, before *Look) (*Look, error) {
	admin := kadm.NewClient(client)
	meta, err := admin.Metadata(ctx)
	if err != nil {
		return nil, Explain(err, "")
	}
	l := &Look{Cluster: meta.Cluster, Controller: meta.Controller, Topics: []TopicLook{}, Groups: []GroupLook{}}
	if l.Brokers, err = Brokers(ctx, client); err != nil {
		return nil, err
	}
	meta.Topics.EachPartition(func(p kadm.PartitionDetail) {
		l.Partitions++
		if p.Leader < 0 {
			l.Offline++
		}
		if len(p.ISR) < len(p.Replicas) {
			l.UnderReplicated++
		}
	})
	starts, err := admin.ListStartOffsets(ctx)
	if err != nil {
		return nil, Explain(err, "")
	}
	ends, err := admin.ListEndOffsets(ctx)
	if err != nil {
		return nil, Explain(err, "")
	}
	l.At = time.Now()
	for topic, partitions := range ends {
		t := TopicLook{Topic: topic, Partitions: len(partitions)}
		for n, end := range partitions {
			start, _ := starts.Lookup(topic, n)
			t.end += max(end.Offset, 0)
			t.Records += max(end.Offset-start.Offset, 0)
		}
		l.Topics = append(l.Topics, t)
	}
	if err := l.lookAtGroups(ctx, admin); err != nil {
		return nil, err
	}
	l.since(before)
	return l, nil
}

func (l *Look) lookAtGroups(ctx context.Context, admin *kadm.Client) error {
	lags, err := admin.Lag(ctx)
	if err != nil {
		return Explain(err, "")
	}
	for _, g := range lags.Sorted() {
		if g.Error() != nil { // it has gone meanwhile, or its coordinator has
			continue
		}
		line := GroupLook{Group: g.Group, State: g.State, Members: len(g.Members), Lag: g.Lag.Total()}
		for _, p := range g.Lag.Sorted() {
			line.committed += max(p.Commit.At, 0)
		}
		l.Groups = append(l.Groups, line)
	}
	return nil
}

// since works out rates, and puts the busiest first.
func (l *Look) since(before *Look) {
	if before != nil {
		seconds := l.At.Sub(before.At).Seconds()
		for i := range l.Topics {
			t := &l.Topics[i]
			if j := slices.IndexFunc(before.Topics, func(o TopicLook) bool { return o.Topic == t.Topic }); j >= 0 {
				t.Produced = float64(max(t.end-before.Topics[j].end, 0)) / seconds
			}
		}
		for i := range l.Groups {
			g := &l.Groups[i]
			if j := slices.IndexFunc(before.Groups, func(o GroupLook) bool { return o.Group == g.Group }); j >= 0 {
				g.Consumed = float64(max(g.committed-before.Groups[j].committed, 0)) / seconds
			}
		}
	}
	slices.SortFunc(l.Topics, func(a, b TopicLook) int {
		return cmp.Or(cmp.Compare(b.Produced, a.Produced), cmp.Compare(b.Records, a.Records), cmp.Compare(a.Topic, b.Topic))
	})
	slices.SortFunc(l.Groups, func(a, b GroupLook) int { return cmp.Or(cmp.Compare(b.Lag, a.Lag), cmp.Compare(a.Group, b.Group)) })
}
