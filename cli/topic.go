package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/urfave/cli/v2"

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
					&cli.IntFlag{Name: "partitions", Aliases: []string{"p"}, Value: -1, Usage: "number of partitions, the broker's num.partitions if not given"},
					&cli.IntFlag{Name: "replication-factor", Aliases: []string{"r"}, Value: -1, Usage: "number of replicas, the broker's default.replication.factor if not given"},
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
				Description:  "Records of a key go to another partition afterwards, as with any number of partitions.",
				OnUsageError: usageError, Action: withArguments(addPartitions), Flags: []cli.Flag{bootstrapFlag(), &cli.IntFlag{Name: "to", Usage: "the `N` of partitions that there are to be"}},
			},
			{
				Name: "trim", Usage: "delete records of a topic from its beginning on", UsageText: "kraft topic trim TOPIC[:PARTITION]... --before WHERE",
				Description:  "WHERE is end, an offset (1200), a time (2026-11-26T15:00:00Z) or so long ago (-24h): records before it are deleted.",
				OnUsageError: usageError, Action: withArguments(trimTopics), Flags: []cli.Flag{bootstrapFlag(), jsonFlag(), &cli.StringFlag{Name: "before", Usage: "delete what is before `WHERE`"}},
			},
			analyzeCommand(),
			{
				Name: "delete", Usage: "delete topics with all their records", UsageText: "kraft topic delete TOPIC...",
				OnUsageError: usageError, Action: withArguments(deleteTopics), Flags: []cli.Flag{bootstrapFlag()},
			},
		},
	}
}

// withArguments wants at least one argument. The flag library ends flags at the first argument; people
// put them behind it too, so flags behind arguments are parsed again.
func withArguments(action func(*cli.Context, []string) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		args, err := interspersed(c)
		if err != nil {
			return err
		}
		if len(args) == 0 {
			return badUse("%s needs an argument: %s", c.Command.HelpName, c.Command.UsageText)
		}
		return action(c, args)
	}
}

// interspersed parses flags that stand behind arguments, and returns the arguments alone.
func interspersed(c *cli.Context) ([]string, error) {
	var args []string
	rest := c.Args().Slice()
	for len(rest) > 0 {
		arg := rest[0]
		rest = rest[1:]
		if arg == "--" {
			return append(args, rest...), nil
		}
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			args = append(args, arg)
			continue
		}
		name, value, inline := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if name == "help" || name == "h" {
			return nil, cli.ShowSubcommandHelp(c)
		}
		flag := findFlag(c.Command.Flags, name)
		if flag == nil {
			return nil, usageError(c, fmt.Errorf("flag provided but not defined: -%s", name), false)
		}
		if _, isBool := flag.(*cli.BoolFlag); isBool && !inline {
			value, inline = "true", true
		}
		if !inline {
			if len(rest) == 0 {
				return nil, badUse("flag needs a value: %s", arg)
			}
			value, rest = rest[0], rest[1:]
		}
		if err := c.Set(flag.Names()[0], value); err != nil {
			return nil, badUse("invalid value %q for flag %s: %w", value, arg, err)
		}
	}
	return args, nil
}

func findFlag(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		for _, n := range f.Names() {
			if n == name {
				return f
			}
		}
	}
	return nil
}

// withAdmin runs f with an admin client.
func withAdmin(c *cli.Context, f func(*kadm.Client) error, opts ...kgo.Opt) error {
	client, err := newClient(c, opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	return withoutController(c, client, f(kadm.NewClient(client)))
}

func createTopics(c *cli.Context, names []string) error {
	configs := map[string]*string{}
	for _, kv := range c.StringSlice("config") {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return badUse("--config takes KEY=VALUE, got %q", kv)
		}
		configs[k] = &v
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		resp, err := admin.CreateTopics(c.Context, int32(c.Int("partitions")), int16(c.Int("replication-factor")), configs, names...)
		if err != nil {
			return err
		}
		return eachTopic(c, "created", resp.Sorted(), func(r kadm.CreateTopicResponse) (string, error) { return r.Topic, explain(r.Err, r.ErrMessage) })
	})
}

func deleteTopics(c *cli.Context, names []string) error {
	return withAdmin(c, func(admin *kadm.Client) error {
		resp, err := admin.DeleteTopics(c.Context, names...)
		if err != nil {
			return err
		}
		return eachTopic(c, "deleted", resp.Sorted(), func(r kadm.DeleteTopicResponse) (string, error) { return r.Topic, explain(r.Err, r.ErrMessage) })
	})
}

func addPartitions(c *cli.Context, names []string) error {
	if len(names) != 1 || c.Int("to") <= 0 {
		return badUse("kraft topic add-partitions takes one topic, and --to with the number of partitions")
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		resp, err := admin.UpdatePartitions(c.Context, c.Int("to"), names...)
		if err != nil {
			return err
		}
		return eachTopic(c, "extended", resp.Sorted(), func(r kadm.CreatePartitionsResponse) (string, error) { return r.Topic, explain(r.Err, r.ErrMessage) })
	})
}

func trimTopics(c *cli.Context, words []string) error {
	where, err := parseWhere(c.String("before"), time.Now())
	if err != nil || c.String("before") == "start" {
		return badUse("--before is end, an offset (1200), a time (2026-11-26T15:00:00Z) or so long ago (-24h), not %q", c.String("before"))
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		parts, err := named(c, admin, words)
		if err != nil {
			return err
		}
		var topics []string
		for _, p := range parts {
			if !slices.Contains(topics, p.Topic) {
				topics = append(topics, p.Topic)
			}
		}
		targets, err := where(c, admin, topics)
		if err != nil {
			return err
		}
		offsets := kadm.Offsets{}
		for _, p := range parts {
			if o, ok := targets.Lookup(p.Topic, p.Number); ok {
				offsets.Add(kadm.Offset{Topic: p.Topic, Partition: p.Number, At: o.Offset})
			}
		}
		resp, err := admin.DeleteRecords(c.Context, offsets)
		if err != nil {
			return err
		}
		out, failed := trimmedPartitions{}, false
		for _, r := range resp.Sorted() {
			if r.Err != nil {
				failed = true
				fmt.Fprintf(c.App.ErrWriter, "kraft: %s:%d: %v\n", r.Topic, r.Partition, explain(r.Err, ""))
				continue
			}
			out = append(out, trimmedPartition{r.Topic, r.Partition, r.LowWatermark})
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

// trimmedPartition is a line of topic trim.
type trimmedPartition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Start     int64  `json:"start_offset"`
}

type trimmedPartitions []trimmedPartition

func (l trimmedPartitions) text(w io.Writer) error {
	rows := [][]any{{"TOPIC", "PARTITION", "BEGINS AT"}}
	for _, p := range l {
		rows = append(rows, []any{p.Topic, p.Partition, p.Start})
	}
	return table(w, rows)
}

// eachTopic tells what became of each of several topics.
func eachTopic[R any](c *cli.Context, done string, results []R, of func(R) (string, error)) error {
	failed := false
	for _, r := range results {
		name, err := of(r)
		if err != nil {
			fmt.Fprintf(c.App.ErrWriter, "kraft: topic %s: %v\n", name, err)
			failed = true
			continue
		}
		fmt.Fprintf(c.App.Writer, "%s topic %s\n", done, name)
	}
	if failed {
		return errTold
	}
	return nil
}

func listTopics(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		list := admin.ListTopics
		if c.Bool("internal") {
			list = admin.ListTopicsWithInternal
		}
		topics, err := list(c.Context)
		if err != nil {
			return err
		}
		out := topicList{}
		for _, t := range topics.Sorted() {
			out = append(out, topicSummary{t.Topic, len(t.Partitions), t.Partitions.NumReplicas()})
		}
		return tell(c, out)
	})
}

// topicSummary is a line of topic list.
type topicSummary struct {
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
	Replicas   int    `json:"replicas"`
}

type topicList []topicSummary

func (l topicList) text(w io.Writer) error {
	rows := [][]any{{"TOPIC", "PARTITIONS", "REPLICAS"}}
	for _, t := range l {
		rows = append(rows, []any{t.Topic, t.Partitions, t.Replicas})
	}
	return table(w, rows)
}

func describeTopics(c *cli.Context, names []string) error {
	return withAdmin(c, func(admin *kadm.Client) error {
		failed, out := false, topicDescriptions{}
		for _, name := range names {
			d, err := describeTopic(c, admin, name)
			if err != nil {
				fmt.Fprintf(c.App.ErrWriter, "kraft: topic %s: %v\n", name, err)
				failed = true
				continue
			}
			failed = failed || slices.ContainsFunc(d.Partitions, func(p partitionDescription) bool { return p.End == nil })
			out = append(out, d)
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

// topicDescription is what topic describe tells of a topic.
type topicDescription struct {
	Topic      string                 `json:"topic"`
	ID         string                 `json:"id"`
	Replicas   int                    `json:"replicas"`
	Configs    map[string]string      `json:"configs"` // its own
	Partitions []partitionDescription `json:"partitions"`
}

type partitionDescription struct {
	Partition   int32   `json:"partition"`
	Leader      int32   `json:"leader"` // -1 for none
	LeaderEpoch int32   `json:"leader_epoch"`
	Replicas    []int32 `json:"replicas"`
	ISR         []int32 `json:"isr"`
	Start       *int64  `json:"start_offset"` // null where the leader does not say
	End         *int64  `json:"end_offset"`   // likewise
}

type topicDescriptions []*topicDescription

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

func describeTopic(c *cli.Context, admin *kadm.Client, name string) (*topicDescription, error) {
	topics, err := admin.ListTopicsWithInternal(c.Context, name)
	if err != nil {
		return nil, err
	}
	t, ok := topics[name]
	if !ok {
		return nil, errors.New("not found")
	}
	if t.Err != nil {
		return nil, explain(t.Err, "")
	}
	configs, err := admin.DescribeTopicConfigs(c.Context, name)
	if err != nil {
		return nil, err
	}
	d := &topicDescription{Topic: t.Topic, ID: image.EncodeUUID(t.ID), Replicas: t.Partitions.NumReplicas(), Configs: map[string]string{}}
	for _, r := range configs {
		for _, kv := range r.Configs {
			if kv.Source == kmsg.ConfigSourceDynamicTopicConfig {
				d.Configs[kv.Key] = kv.MaybeValue()
			}
		}
	}
	start, end, err := extent(c, admin, name)
	if err != nil {
		return nil, err
	}
	for _, p := range t.Partitions.Sorted() {
		d.Partitions = append(d.Partitions, partitionDescription{p.Partition, p.Leader, p.LeaderEpoch, p.Replicas, p.ISR, offsetOf(start, name, p.Partition), offsetOf(end, name, p.Partition)})
	}
	return d, nil
}

// offsetOf is a partition's offset, nil where its leader did not say.
func offsetOf(offsets kadm.ListedOffsets, topic string, partition int32) *int64 {
	o, ok := offsets.Lookup(topic, partition)
	if !ok || o.Err != nil {
		return nil
	}
	return &o.Offset
}

// offsetOrDash is an offset as it stands in a table.
func offsetOrDash(o *int64) string {
	if o == nil {
		return "-"
	}
	return fmt.Sprint(*o)
}

// extent is where a topic's partitions start and end, as far as their leaders answer.
func extent(c *cli.Context, admin *kadm.Client, topic string) (start, end kadm.ListedOffsets, err error) {
	start, err = admin.ListStartOffsets(c.Context, topic)
	if _, err = partial(c, err); err != nil {
		return nil, nil, err
	}
	end, err = admin.ListEndOffsets(c.Context, topic)
	_, err = partial(c, err)
	return start, end, err
}

func ids(list []int32) string {
	var s []string
	for _, i := range list {
		s = append(s, fmt.Sprint(i))
	}
	return strings.Join(s, ",")
}
