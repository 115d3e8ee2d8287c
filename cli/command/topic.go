package command

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
	"kraft/raftmeta/image"
)

func topicCommand() *cli.Command {
	return &cli.Command{
		Name:  "topic",
		Usage: "create, list, describe and delete topics, and tell why records are kept",
		Subcommands: []*cli.Command{
			{
				Name: "create", Usage: "create topics", UsageText: "kraft topic create TOPIC... [--partitions N] [--config KEY=VALUE]...",
				OnUsageError: usageError, Action: withArguments(createTopics),
				Flags: []cli.Flag{
					bootstrapFlag(),
					&cli.IntFlag{Name: "partitions", Aliases: []string{"p"}, Value: -1, DefaultText: "num.partitions", Usage: "number of partitions, the broker's num.partitions if not given"},
					&cli.IntFlag{Name: "replication-factor", Aliases: []string{"r"}, Value: -1, DefaultText: "default.replication.factor", Usage: "number of replicas, the broker's default.replication.factor if not given"},
					&cli.StringSliceFlag{Name: "config", Aliases: []string{"c"}, Usage: "set one of the topic's settings, `KEY=VALUE`; may be repeated"},
				},
			},
			{
				Name: "list", Usage: "list topics", UsageText: "kraft topic list [--internal]",
				OnUsageError: usageError, Action: listTopics,
				Flags: []cli.Flag{bootstrapFlag(), jsonFlag(), &cli.BoolFlag{Name: "internal", Aliases: []string{"i"}, Usage: "list the brokers' own topics too"}},
			},
			{
				Name: "describe", Usage: "show partitions, offsets and settings of topics", UsageText: "kraft topic describe TOPIC...",
				OnUsageError: usageError, Action: withArguments(describeTopics), Flags: []cli.Flag{bootstrapFlag(), jsonFlag()},
			},
			{
				Name: "why-kept", Usage: "say for each partition why its records are still there", UsageText: "kraft topic why-kept TOPIC...",
				OnUsageError: usageError, Action: withArguments(whyKept), Flags: []cli.Flag{bootstrapFlag(), jsonFlag()},
			},
			{
				Name: "add-partitions", Usage: "give a topic more partitions", UsageText: "kraft topic add-partitions TOPIC --to N",
				Description:  "Afterwards producers may send a key's records to another partition than before, as in Apache Kafka.",
				OnUsageError: usageError, Action: withArguments(addPartitions), Flags: []cli.Flag{bootstrapFlag(), &cli.IntFlag{Name: "to", Usage: "the `N` of partitions that there are to be"}},
			},
			{
				Name: "trim", Usage: "delete records of a topic from its beginning on", UsageText: "kraft topic trim TOPIC[:PARTITION]... --before WHERE [--yes | --dry-run]",
				Description:  "WHERE is end, an offset (1200), a time (2026-11-26T15:00:00Z) or so long ago (-24h): records before it are deleted.",
				OnUsageError: usageError, Action: withArguments(trimTopics), Flags: append(confirmFlags(), bootstrapFlag(), jsonFlag(), &cli.StringFlag{Name: "before", Usage: "delete what is before `WHERE`"}),
			},
			analyzeCommand(),
			{
				Name: "delete", Usage: "delete topics with all their records", UsageText: "kraft topic delete TOPIC... [--yes | --dry-run]",
				OnUsageError: usageError, Action: withArguments(deleteTopics),
				Flags: append(confirmFlags(), bootstrapFlag(), &cli.BoolFlag{Name: "internal", Usage: "delete topics that are the brokers' own, too"}),
			},
		},
	}
}

func createTopics(c *cli.Context, names []string) error {
	for _, name := range []string{"partitions", "replication-factor"} {
		if n := c.Int(name); n < 1 && n != -1 {
			return badUse("--%s must be from 1 on, or -1 for the broker's default, not %d", name, n)
		}
	}
	configs := map[string]*string{}
	for _, kv := range c.StringSlice("config") {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return badUse("--config takes KEY=VALUE, got %q", kv)
		}
		v = inUnits(k, strings.TrimSpace(v))
		if err := checkTopicSetting(k, &v); err != nil {
			return err
		}
		configs[k] = &v
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		out, err := ops.CreateTopics(c.Context, admin, int32(c.Int("partitions")), int16(c.Int("replication-factor")), configs, names)
		return eachTopic(c, "created", out, err)
	})
}

func deleteTopics(c *cli.Context, names []string) error {
	for _, name := range names {
		if image.IsInternal(name) && !c.Bool("internal") {
			return badUse("topic %s is the brokers' own: they keep groups' offsets and other state there; to delete it nonetheless, add --internal", name)
		}
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		if goOn, err := confirm(c, func() (lines []string, err error) {
			for _, name := range names {
				d, err := ops.DescribeTopic(c.Context, admin, name)
				if err := new(ops.Lacking).Of(err); err != nil {
					return nil, err
				}
				lines = append(lines, fmt.Sprintf("delete topic %s with its %s (%s)", name, counted(len(d.Partitions), "partition"), d.Extent()))
			}
			return lines, nil
		}); !goOn || err != nil {
			return err
		}
		out, err := ops.DeleteTopics(c.Context, admin, names)
		return eachTopic(c, "deleted", out, err)
	})
}

func addPartitions(c *cli.Context, names []string) error {
	if len(names) != 1 || c.Int("to") <= 0 {
		return badUse("kraft topic add-partitions takes one topic, and --to with the number of partitions")
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		out, err := ops.ExtendTopics(c.Context, admin, c.Int("to"), names)
		return eachTopic(c, "extended", out, err)
	})
}

func trimTopics(c *cli.Context, words []string) error {
	if !c.IsSet("before") {
		return badUse("kraft topic trim needs --before: %s", c.Command.UsageText)
	}
	before, err := parseWhere(c.String("before"), time.Now())
	if err != nil || c.String("before") == "start" {
		return badUse("--before must be end, an offset (1200), a time (2026-11-26T15:00:00Z) or an age (-24h), not %q", c.String("before"))
	}
	names, err := ops.ParsePartitions(words)
	if err != nil {
		return badUseOf(err)
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		trims, err := ops.PlanTrims(c.Context, admin, names, before)
		if err != nil {
			return err
		}
		if offset, err := strconv.ParseInt(c.String("before"), 10, 64); err == nil {
			for _, t := range trims {
				if t.To < offset {
					return fmt.Errorf("%s:%d ends at %d, before offset %d: nothing has been deleted; to delete everything there, use --before end", t.Topic, t.Partition, t.To, offset)
				}
			}
		}
		if goOn, err := confirm(c, func() (lines []string, err error) {
			for _, t := range trims {
				if t.To <= t.From {
					continue
				}
				lines = append(lines, fmt.Sprintf("delete what is before offset %d in %s:%d (%s)", t.To, t.Topic, t.Partition, counted(int(t.To-t.From), "offset")))
			}
			if len(lines) == 0 {
				lines = append(lines, "delete nothing: there is no record before that")
			}
			return lines, nil
		}); !goOn || err != nil {
			return err
		}
		out, err := ops.TrimTopics(c.Context, admin, trims)
		return show(c, trimmedPartitions(out), err)
	})
}

type trimmedPartitions []ops.TrimmedPartition

func (l trimmedPartitions) text(w io.Writer) error {
	rows := [][]any{{"TOPIC", "PARTITION", "BEGINS AT"}}
	for _, p := range l {
		rows = append(rows, []any{p.Topic, p.Partition, p.Start})
	}
	return table(w, rows)
}

// eachTopic prints what became of each of several topics.
func eachTopic(c *cli.Context, done string, results []ops.Outcome, err error) error {
	if err != nil {
		return err
	}
	return each(c, done+" topic", results)
}

func listTopics(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		out, err := ops.ListTopics(c.Context, admin, c.Bool("internal"))
		return show(c, topicList(out), err)
	})
}

type topicList []ops.TopicSummary

func (l topicList) text(w io.Writer) error {
	rows := [][]any{{"TOPIC", "PARTITIONS", "REPLICAS"}}
	for _, t := range l {
		rows = append(rows, []any{t.Topic, t.Partitions, t.Replicas})
	}
	return table(w, rows)
}

func describeTopics(c *cli.Context, names []string) error {
	return withAdmin(c, func(admin *kadm.Client) error {
		out, lacks := topicDescriptions{}, ops.Lacking{}
		for _, name := range names {
			d, err := ops.DescribeTopic(c.Context, admin, name)
			if err := lacks.Of(err); err != nil {
				lacks.Add("%v", err)
				continue
			}
			out = append(out, d)
		}
		return show(c, out, lacks.Err())
	})
}

type topicDescriptions []*ops.TopicDescription

func (l topicDescriptions) text(w io.Writer) error {
	for _, t := range l {
		fmt.Fprintf(w, "topic %s  id %s  partitions %d  replicas %d\n", t.Topic, t.ID, len(t.Partitions), t.Replicas)
		for _, key := range slices.Sorted(maps.Keys(t.Configs)) {
			fmt.Fprintf(w, "config %s=%s\n", key, t.Configs[key])
		}
		rows := [][]any{{"PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "START", "END"}}
		for _, p := range t.Partitions {
			rows = append(rows, []any{p.Partition, p.Leader, p.LeaderEpoch, ids(p.Replicas), ids(p.ISR), offsetOrDash(p.Start), offsetOrDash(p.End)})
		}
		if err := table(w, rows); err != nil {
			return err
		}
	}
	return nil
}
