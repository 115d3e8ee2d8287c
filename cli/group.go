package cli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"
)

func groupCommand() *cli.Command {
	return &cli.Command{
		Name:  "group",
		Usage: "list, describe and reset consumer groups, and tell their lag",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list consumer groups", UsageText: "kraft group list",
				OnUsageError: usageError, Flags: []cli.Flag{bootstrapFlag(), jsonFlag()}, Action: listGroups,
			},
			{
				Name: "describe", Usage: "show members, committed offsets and lag of groups", UsageText: "kraft group describe GROUP...",
				OnUsageError: usageError, Flags: []cli.Flag{bootstrapFlag(), jsonFlag()}, Action: withArguments(describeGroups),
			},
			{
				Name: "lag", Usage: "show how many records groups have yet to read, of each topic", UsageText: "kraft group lag [GROUP...] [--watch]",
				OnUsageError: usageError,
				Flags: []cli.Flag{bootstrapFlag(), jsonFlag(), &cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "look again and again, until Ctrl-C"},
					&cli.DurationFlag{Name: "interval", Value: 2 * time.Second, Usage: "`TIME` between looks"}},
				Action: groupLag,
			},
			resetCommand(),
		},
	}
}

func listGroups(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		groups, err := admin.ListGroups(c.Context)
		some, err := partial(c, err)
		if err != nil {
			return err
		}
		out := groupList{}
		for _, g := range groups.Sorted() {
			out = append(out, groupSummary{g.Group, g.State, g.ProtocolType, g.Coordinator})
		}
		if err := tell(c, out); err != nil || !some {
			return err
		}
		return errTold
	})
}

// groupSummary is a line of group list.
type groupSummary struct {
	Group       string `json:"group"`
	State       string `json:"state"`
	Protocol    string `json:"protocol_type"`
	Coordinator int32  `json:"coordinator"`
}

type groupList []groupSummary

func (l groupList) text(w io.Writer) error {
	rows := [][]any{{"GROUP", "STATE", "PROTOCOL", "COORDINATOR"}}
	for _, g := range l {
		rows = append(rows, []any{g.Group, g.State, orDash(g.Protocol), g.Coordinator})
	}
	return table(w, rows)
}

// groupDescription is what group describe tells of a group.
type groupDescription struct {
	Group       string           `json:"group"`
	State       string           `json:"state"`
	Protocol    string           `json:"protocol"`
	Coordinator int32            `json:"coordinator"`
	Members     int              `json:"members"`
	Lag         int64            `json:"lag"`
	Partitions  []groupPartition `json:"partitions"`
}

type groupPartition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed *int64 `json:"committed"`  // null for none
	End       *int64 `json:"end_offset"` // null where the leader does not say
	Lag       *int64 `json:"lag"`        // likewise
	Member    string `json:"member,omitempty"`
	Client    string `json:"client,omitempty"`
	Host      string `json:"host,omitempty"`
}

type groupDescriptions []*groupDescription

func (l groupDescriptions) text(w io.Writer) error {
	for _, g := range l {
		fmt.Fprintf(w, "group %s  state %s  protocol %s  coordinator %d  members %d  lag %d\n", g.Group, g.State, orDash(g.Protocol), g.Coordinator, g.Members, g.Lag)
		rows := [][]any{{"TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "CLIENT", "HOST"}}
		for _, p := range g.Partitions {
			committed := "-"
			if p.Committed != nil {
				committed = fmt.Sprint(*p.Committed)
			}
			rows = append(rows, []any{p.Topic, p.Partition, committed, offsetOrDash(p.End), offsetOrDash(p.Lag), orDash(p.Member), orDash(p.Client), orDash(p.Host)})
		}
		if err := table(w, rows); err != nil {
			return err
		}
	}
	return nil
}

func describeGroups(c *cli.Context, names []string) error {
	return withAdmin(c, func(admin *kadm.Client) error {
		out, failed, err := lookAtGroups(c, admin, names)
		if err != nil {
			return err
		}
		if err := tell(c, out); err != nil {
			return err
		}
		if failed {
			return errTold
		}
		return nil
	})
}

// lookAtGroups describes groups. Of those that cannot be it tells why.
func lookAtGroups(c *cli.Context, admin *kadm.Client, names []string) (out groupDescriptions, failed bool, err error) {
	lags, err := admin.Lag(c.Context, names...)
	for range 4 { // a broker that is gone may have been asked for the coordinator
		var network net.Error
		if !errors.As(err, &network) {
			break
		}
		lags, err = admin.Lag(c.Context, names...)
	}
	if failed, err = partial(c, err); err != nil {
		return nil, false, err
	}
	out = groupDescriptions{}
	for _, g := range lags.Sorted() {
		if err := g.Error(); err != nil {
			fmt.Fprintf(c.App.ErrWriter, "kraft: group %s: %v\n", g.Group, explain(err, ""))
			failed = true
			continue
		}
		if g.State == "Dead" {
			fmt.Fprintf(c.App.ErrWriter, "kraft: group %s does not exist\n", g.Group)
			failed = true
			continue
		}
		d := &groupDescription{Group: g.Group, State: g.State, Protocol: g.Protocol, Coordinator: g.Coordinator.NodeID, Members: len(g.Members), Lag: g.Lag.Total(), Partitions: []groupPartition{}}
		for _, l := range g.Lag.Sorted() {
			p := groupPartition{Topic: l.Topic, Partition: l.Partition}
			if l.Err == nil && l.End.Err == nil && l.Lag >= 0 {
				p.End, p.Lag = &l.End.Offset, &l.Lag
			} else {
				tellOnce(c, fmt.Sprintf("%s:%d has no leader that answers: its lag is not known", l.Topic, l.Partition))
				failed = true
			}
			if l.Commit.At >= 0 {
				p.Committed = &l.Commit.At
			}
			if l.Member != nil {
				p.Member, p.Client, p.Host = l.Member.MemberID, l.Member.ClientID, l.Member.ClientHost
			}
			d.Partitions = append(d.Partitions, p)
		}
		out = append(out, d)
	}
	return out, failed, nil
}

// topicLag is a line of group lag.
type topicLag struct {
	Group   string `json:"group"`
	State   string `json:"state"`
	Topic   string `json:"topic"`
	Members int    `json:"members"`
	Lag     *int64 `json:"lag"` // null where not all of it is known
}

type topicLags []topicLag

func (l topicLags) text(w io.Writer) error {
	rows := [][]any{{"GROUP", "STATE", "MEMBERS", "TOPIC", "LAG"}}
	for _, t := range l {
		rows = append(rows, []any{t.Group, t.State, t.Members, t.Topic, offsetOrDash(t.Lag)})
	}
	return table(w, rows)
}

func groupLag(c *cli.Context) error {
	names, err := interspersed(c)
	if err != nil {
		return err
	}
	if c.Duration("interval") <= 0 {
		return badUse("--interval is a time, like 2s, not %v", c.Duration("interval"))
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		for {
			failed, err := tellLag(c, admin, names)
			if err != nil || !c.Bool("watch") {
				if err == nil && failed {
					err = errTold
				}
				return err
			}
			select {
			case <-c.Context.Done():
				return nil
			case <-time.After(c.Duration("interval")):
			}
		}
	})
}

// tellLag looks once, at all groups if none is named. On a terminal each look takes the place of the one before.
func tellLag(c *cli.Context, admin *kadm.Client, names []string) (failed bool, err error) {
	if len(names) == 0 {
		groups, err := admin.ListGroups(c.Context)
		if failed, err = partial(c, err); err != nil {
			return false, err
		}
		if names = groups.Groups(); len(names) == 0 {
			return failed, tell(c, topicLags{})
		}
	}
	groups, without, err := lookAtGroups(c, admin, names)
	if err != nil {
		return false, err
	}
	failed = failed || without
	out := topicLags{}
	for _, g := range groups {
		var topics []string
		sums := map[string]*int64{}
		for _, p := range g.Partitions {
			if !slices.Contains(topics, p.Topic) {
				topics = append(topics, p.Topic)
				sums[p.Topic] = new(int64)
			}
			switch sum := sums[p.Topic]; {
			case p.Lag == nil:
				sums[p.Topic] = nil
			case sum != nil:
				*sum += *p.Lag
			}
		}
		for _, topic := range topics {
			out = append(out, topicLag{g.Group, g.State, topic, g.Members, sums[topic]})
		}
	}
	if c.Bool("watch") && isTerminal(c.App.Writer) {
		fmt.Fprint(c.App.Writer, clearScreen)
	}
	return failed, tell(c, out)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
