package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"
)

func topCommand() *cli.Command {
	return &cli.Command{
		Name: "top", Usage: "watch a cluster: its brokers, its busiest topics, the groups that lag most", UsageText: "kraft top [--interval 2s] [--rows 10] [--once]",
		Description:  "Off a terminal, and with --once, it looks twice, an interval apart, prints, and ends. It asks by Kafka's protocol, of Apache Kafka's\nclusters, too.",
		OnUsageError: usageError, Action: top,
		Flags: []cli.Flag{
			bootstrapFlag(), jsonFlag(),
			&cli.DurationFlag{Name: "interval", Aliases: []string{"i"}, Value: 2 * time.Second, Usage: "`TIME` between looks"},
			&cli.IntFlag{Name: "rows", Value: 10, Usage: "show the first `N` topics and groups"},
			&cli.BoolFlag{Name: "once", Usage: "print once"},
		},
	}
}

// clusterLook is a cluster at one time, and how it has changed since the look before.
type clusterLook struct {
	Cluster         string      `json:"cluster"`
	Controller      int32       `json:"controller"`
	Partitions      int         `json:"partitions"`
	UnderReplicated int         `json:"under_replicated"`
	Offline         int         `json:"offline"`
	Brokers         brokerLines `json:"brokers"`
	Topics          []topicLook `json:"topics"`
	Groups          []groupLook `json:"groups"`

	at   time.Time
	rows int
}

type topicLook struct {
	Topic      string  `json:"topic"`
	Partitions int     `json:"partitions"`
	Produced   float64 `json:"records_per_second"`
	Records    int64   `json:"records"` // between the first and the last offset
	end        int64   // of all partitions together
}

type groupLook struct {
	Group     string  `json:"group"`
	State     string  `json:"state"`
	Members   int     `json:"members"`
	Lag       int64   `json:"lag"`
	Consumed  float64 `json:"records_per_second"` // committed
	committed int64   // of all partitions together
}

func (l *clusterLook) text(w io.Writer) error {
	fmt.Fprintf(w, "cluster %s  controller %d  partitions %d  under-replicated %d  offline %d  at %s\n\n", l.Cluster, l.Controller, l.Partitions, l.UnderReplicated, l.Offline, l.at.Format(time.TimeOnly))
	if err := l.Brokers.text(w); err != nil {
		return err
	}
	rows := [][]any{{"TOPIC", "PARTITIONS", "RECORDS", "RECORDS/S"}}
	for _, t := range l.Topics[:min(l.rows, len(l.Topics))] {
		rows = append(rows, []any{t.Topic, t.Partitions, t.Records, fmt.Sprintf("%.1f", t.Produced)})
	}
	fmt.Fprintln(w)
	if err := table(w, rows); err != nil {
		return err
	}
	rows = [][]any{{"GROUP", "STATE", "MEMBERS", "LAG", "READ/S"}}
	for _, g := range l.Groups[:min(l.rows, len(l.Groups))] {
		rows = append(rows, []any{g.Group, g.State, g.Members, g.Lag, fmt.Sprintf("%.1f", g.Consumed)})
	}
	fmt.Fprintln(w)
	return table(w, rows)
}

func top(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if c.Duration("interval") <= 0 || c.Int("rows") <= 0 {
		return badUse("--interval is a time, like 2s, and --rows a number above 0")
	}
	once := c.Bool("once") || c.Bool("json") || !isTerminal(c.App.Writer)
	return withClient(c, func(client *kgo.Client) error {
		before, err := look(c, client, nil)
		if err != nil {
			return err
		}
		for {
			select {
			case <-c.Context.Done():
				return nil
			case <-time.After(c.Duration("interval")):
			}
			now, err := look(c, client, before)
			if err != nil {
				return err
			}
			if !once {
				fmt.Fprint(c.App.Writer, clearScreen)
			}
			if err := tell(c, now); err != nil || once {
				return err
			}
			before = now
		}
	})
}

// look looks at a cluster; rates are since the look before, if there is one.
func look(c *cli.Context, client *kgo.Client, before *clusterLook) (*clusterLook, error) {
	admin := kadm.NewClient(client)
	meta, err := admin.Metadata(c.Context)
	if err != nil {
		return nil, explain(err, "")
	}
	l := &clusterLook{Cluster: meta.Cluster, Controller: meta.Controller, rows: c.Int("rows"), Topics: []topicLook{}, Groups: []groupLook{}}
	if l.Brokers, err = lookAtBrokers(c, client); err != nil {
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
	starts, err := admin.ListStartOffsets(c.Context)
	if err != nil {
		return nil, explain(err, "")
	}
	ends, err := admin.ListEndOffsets(c.Context)
	if err != nil {
		return nil, explain(err, "")
	}
	l.at = time.Now()
	for topic, partitions := range ends {
		t := topicLook{Topic: topic, Partitions: len(partitions)}
		for n, end := range partitions {
			start, _ := starts.Lookup(topic, n)
			t.end += max(end.Offset, 0)
			t.Records += max(end.Offset-start.Offset, 0)
		}
		l.Topics = append(l.Topics, t)
	}
	if err := l.lookAtGroups(c, admin); err != nil {
		return nil, err
	}
	l.since(before)
	return l, nil
}

func (l *clusterLook) lookAtGroups(c *cli.Context, admin *kadm.Client) error {
	lags, err := admin.Lag(c.Context)
	if err != nil {
		return explain(err, "")
	}
	for _, g := range lags.Sorted() {
		if g.Error() != nil { // it has gone meanwhile, or its coordinator has
			continue
		}
		line := groupLook{Group: g.Group, State: g.State, Members: len(g.Members), Lag: g.Lag.Total()}
		for _, p := range g.Lag.Sorted() {
			line.committed += max(p.Commit.At, 0)
		}
		l.Groups = append(l.Groups, line)
	}
	return nil
}

// since works out rates, and puts the busiest first.
func (l *clusterLook) since(before *clusterLook) {
	if before != nil {
		seconds := l.at.Sub(before.at).Seconds()
		for i := range l.Topics {
			t := &l.Topics[i]
			if j := slices.IndexFunc(before.Topics, func(o topicLook) bool { return o.Topic == t.Topic }); j >= 0 {
				t.Produced = float64(max(t.end-before.Topics[j].end, 0)) / seconds
			}
		}
		for i := range l.Groups {
			g := &l.Groups[i]
			if j := slices.IndexFunc(before.Groups, func(o groupLook) bool { return o.Group == g.Group }); j >= 0 {
				g.Consumed = float64(max(g.committed-before.Groups[j].committed, 0)) / seconds
			}
		}
	}
	slices.SortFunc(l.Topics, func(a, b topicLook) int {
		return cmp.Or(cmp.Compare(b.Produced, a.Produced), cmp.Compare(b.Records, a.Records), cmp.Compare(a.Topic, b.Topic))
	})
	slices.SortFunc(l.Groups, func(a, b groupLook) int { return cmp.Or(cmp.Compare(b.Lag, a.Lag), cmp.Compare(a.Group, b.Group)) })
}
