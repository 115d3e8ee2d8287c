package cli

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"

	"kraft/cli/plan"
)

func partitionCommand() *cli.Command {
	return &cli.Command{
		Name:  "partition",
		Usage: "list partitions and their troubles, move them, elect their leaders",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list partitions, all or those in trouble", UsageText: "kraft partition list [TOPIC...] [--under-replicated | --offline | --not-preferred]",
				OnUsageError: usageError, Action: listPartitions,
				Flags: []cli.Flag{
					bootstrapFlag(), jsonFlag(),
					&cli.BoolFlag{Name: "under-replicated", Usage: "only those that lack a replica in their ISR"},
					&cli.BoolFlag{Name: "offline", Usage: "only those without a leader"},
					&cli.BoolFlag{Name: "not-preferred", Usage: "only those that another than their first replica leads"},
				},
			},
			{
				Name: "move", Usage: "move partitions to other brokers, and wait until they are there", UsageText: "kraft partition move TOPIC[:PARTITION]... --to BROKER,BROKER... [--dry-run]",
				Description: `Each partition's replicas become the brokers of --to, the first of which is to lead it. kraft cluster rebalance and
kraft broker drain work out by themselves what goes where.

   kraft partition move orders:3 --to 2,4,5
   kraft partition move orders --to 1,2,3 --throttle 50000000`,
				OnUsageError: usageError, Action: withArguments(movePartitions), Flags: append(moveFlags(), &cli.StringFlag{Name: "to", Usage: "the `BROKERS`' ids with commas"}),
			},
			{
				Name: "status", Usage: "show moves that are under way", UsageText: "kraft partition status", OnUsageError: usageError, Action: movesUnderWay, Flags: []cli.Flag{bootstrapFlag(), jsonFlag()},
			},
			{
				Name: "cancel", Usage: "give up moves that are under way; what was there before stays", UsageText: "kraft partition cancel TOPIC[:PARTITION]...",
				OnUsageError: usageError, Action: withArguments(cancelMoves), Flags: []cli.Flag{bootstrapFlag()},
			},
			{
				Name: "unthrottle", Usage: "remove all replication throttles", UsageText: "kraft partition unthrottle",
				Description:  "A move that is interrupted goes on with its throttle; this takes it away, now or when the move has ended.",
				OnUsageError: usageError, Action: unthrottle, Flags: []cli.Flag{bootstrapFlag()},
			},
			{
				Name: "elect", Usage: "have partitions led by their first replicas again, or by any that lives", UsageText: "kraft partition elect [TOPIC[:PARTITION]...] [--unclean]",
				Description:  "--unclean lets a replica lead that may lack acknowledged records, where no other is left. It is for the partitions named only.",
				OnUsageError: usageError, Action: electPartitions,
				Flags: []cli.Flag{bootstrapFlag(), &cli.BoolFlag{Name: "unclean", Usage: "let any living replica lead: acknowledged records may be lost"}},
			},
		},
	}
}

// partitionLine is a line of partition list.
type partitionLine struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Leader    int32   `json:"leader"` // -1 for none
	Replicas  []int32 `json:"replicas"`
	ISR       []int32 `json:"isr"`
	Offline   []int32 `json:"offline"`
}

type partitionLines []partitionLine

func (l partitionLines) text(w io.Writer) error {
	rows := [][]any{{"TOPIC", "PARTITION", "LEADER", "REPLICAS", "ISR", "OFFLINE"}}
	for _, p := range l {
		leader := "none"
		if p.Leader >= 0 {
			leader = fmt.Sprint(p.Leader)
		}
		rows = append(rows, []any{p.Topic, p.Partition, leader, ids(p.Replicas), orDash(ids(p.ISR)), orDash(ids(p.Offline))})
	}
	return table(w, rows)
}

func listPartitions(c *cli.Context) error {
	topics, err := interspersed(c)
	if err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		found, err := admin.ListTopicsWithInternal(c.Context, topics...)
		if err != nil {
			return err
		}
		out := partitionLines{}
		for _, t := range found.Sorted() {
			if t.Err != nil {
				return fmt.Errorf("topic %s: %w", t.Topic, explain(t.Err, ""))
			}
			for _, p := range t.Partitions.Sorted() {
				if c.Bool("under-replicated") && len(p.ISR) >= len(p.Replicas) || c.Bool("offline") && p.Leader >= 0 ||
					c.Bool("not-preferred") && (len(p.Replicas) == 0 || p.Leader == p.Replicas[0]) {
					continue
				}
				out = append(out, partitionLine{t.Topic, p.Partition, p.Leader, p.Replicas, p.ISR, p.OfflineReplicas})
			}
		}
		return tell(c, out)
	})
}

// named are the partitions that TOPIC and TOPIC:PARTITION stand for.
func named(c *cli.Context, admin *kadm.Client, words []string) ([]plan.Partition, error) {
	_, all, err := assignment(c, admin)
	if err != nil {
		return nil, err
	}
	var out []plan.Partition
	for _, word := range words {
		topic, number, one := strings.Cut(word, ":")
		n, err := strconv.ParseInt(number, 10, 32)
		if one && err != nil {
			return nil, badUse("%q is no partition: give TOPIC or TOPIC:PARTITION, like orders:3", word)
		}
		found := false
		for _, p := range all {
			if p.Topic == topic && (!one || p.Number == int32(n)) {
				out, found = append(out, p), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no partition %s", word)
		}
	}
	return out, nil
}

// parseIDs reads numbers of brokers with commas.
func parseIDs(flag, text string) ([]int32, error) {
	var out []int32
	for _, word := range strings.Split(text, ",") {
		id, err := strconv.ParseInt(strings.TrimSpace(word), 10, 32)
		if err != nil || id < 0 || slices.Contains(out, int32(id)) {
			return nil, badUse("--%s is ids of brokers with commas, each once, like 1,2,3, not %q", flag, text)
		}
		out = append(out, int32(id))
	}
	return out, nil
}

func movePartitions(c *cli.Context, words []string) error {
	to, err := parseIDs("to", c.String("to"))
	if err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		parts, err := named(c, admin, words)
		if err != nil {
			return err
		}
		var moves []plan.Move
		for _, p := range parts {
			if !slices.Equal(p.Replicas, to) {
				moves = append(moves, plan.Move{Partition: plan.Partition{Topic: p.Topic, Number: p.Number, Replicas: to}, Before: p.Replicas})
			}
		}
		return carryOut(c, admin, moves, "they are there already")
	})
}

// moveLine is a line of partition status.
type moveLine struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Replicas  []int32 `json:"replicas"`
	Adding    []int32 `json:"adding"`
	Removing  []int32 `json:"removing"`
}

type moveLines []moveLine

func (l moveLines) text(w io.Writer) error {
	rows := [][]any{{"TOPIC", "PARTITION", "REPLICAS", "ADDING", "REMOVING"}}
	for _, m := range l {
		rows = append(rows, []any{m.Topic, m.Partition, ids(m.Replicas), orDash(ids(m.Adding)), orDash(ids(m.Removing))})
	}
	return table(w, rows)
}

func movesUnderWay(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		found, err := allMoves(c, admin)
		if err != nil {
			return err
		}
		out := moveLines{}
		for _, r := range found.Sorted() {
			out = append(out, moveLine{r.Topic, r.Partition, r.Replicas, r.AddingReplicas, r.RemovingReplicas})
		}
		return tell(c, out)
	})
}

// allMoves lists the moves that are under way. It names every partition, since kadm requests nothing for an empty set.
func allMoves(c *cli.Context, admin *kadm.Client) (kadm.ListPartitionReassignmentsResponses, error) {
	topics, err := admin.ListTopicsWithInternal(c.Context)
	if err != nil {
		return nil, err
	}
	set := kadm.TopicsSet{}
	topics.EachPartition(func(p kadm.PartitionDetail) { set.Add(p.Topic, p.Partition) })
	if len(set) == 0 {
		return nil, nil
	}
	return admin.ListPartitionReassignments(c.Context, set)
}

// unthrottle removes all replication throttles.
func unthrottle(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		topics, err := admin.ListTopicsWithInternal(c.Context)
		if err != nil {
			return err
		}
		if err := throttle(c.Context, admin, topics.Names(), 0); err != nil {
			return err
		}
		fmt.Fprintln(c.App.Writer, "replication has no throttle any more")
		return nil
	})
}

func cancelMoves(c *cli.Context, words []string) error {
	return withAdmin(c, func(admin *kadm.Client) error {
		parts, err := named(c, admin, words)
		if err != nil {
			return err
		}
		moving, err := allMoves(c, admin)
		if err != nil {
			return err
		}
		req, n := kadm.AlterPartitionAssignmentsReq{}, 0
		for _, p := range parts {
			if _, ok := moving[p.Topic][p.Number]; ok {
				req.CancelAssign(p.Topic, p.Number)
				n++
			}
		}
		if n == 0 {
			fmt.Fprintln(c.App.Writer, "none of them is being moved")
			return nil
		}
		resp, err := admin.AlterPartitionAssignments(c.Context, req)
		if err != nil {
			return err
		}
		for _, r := range resp.Sorted() {
			if r.Err != nil {
				return fmt.Errorf("%s:%d: %w", r.Topic, r.Partition, explain(r.Err, r.ErrMessage))
			}
		}
		fmt.Fprintf(c.App.Writer, "gave up %d moves\n", n)
		return nil
	})
}

func electPartitions(c *cli.Context) error {
	words, err := interspersed(c)
	if err != nil {
		return err
	}
	how := kadm.ElectPreferredReplica
	if c.Bool("unclean") {
		if how = kadm.ElectLiveReplica; len(words) == 0 {
			return badUse("--unclean loses records: name the partitions that it is for")
		}
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		var set kadm.TopicsSet
		if len(words) > 0 {
			parts, err := named(c, admin, words)
			if err != nil {
				return err
			}
			set = kadm.TopicsSet{}
			for _, p := range parts {
				set.Add(p.Topic, p.Number)
			}
		}
		results, err := admin.ElectLeaders(c.Context, how, set)
		if err != nil {
			return err
		}
		elected, failed := 0, false
		for topic, partitions := range results {
			for n, r := range partitions {
				switch {
				case r.Err == nil:
					elected++
				case !isNeedless(r.Err):
					failed = true
					fmt.Fprintf(c.App.ErrWriter, "kraft: %s:%d: %v\n", topic, n, explain(r.Err, r.ErrMessage))
				}
			}
		}
		fmt.Fprintf(c.App.Writer, "elected the leaders of %d partitions\n", elected)
		if failed {
			return errTold
		}
		return nil
	})
}
