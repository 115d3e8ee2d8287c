package cli

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"
)

func resetCommand() *cli.Command {
	return &cli.Command{
		Name: "reset", Usage: "have a group without members begin elsewhere", UsageText: "kraft group reset GROUP --to WHERE [--topic TOPIC]... [--dry-run]",
		Description: `WHERE is start, end, an offset (1200), a time (2026-11-26T15:00:00Z) or so long ago (-1h).

   kraft group reset billing --to start
   kraft group reset billing --to -1h --topic orders --dry-run`,
		OnUsageError: usageError,
		Flags: []cli.Flag{
			bootstrapFlag(), jsonFlag(),
			&cli.StringFlag{Name: "to", Usage: "`WHERE` to begin"},
			&cli.StringSliceFlag{Name: "topic", Aliases: []string{"t"}, Usage: "of `TOPIC` only; may be repeated (default: all that the group has offsets of)"},
			&cli.BoolFlag{Name: "dry-run", Usage: "show what would change, and change nothing"},
		},
		Action: withArguments(resetGroup),
	}
}

// offsetMove is a line of group reset.
type offsetMove struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Before    *int64 `json:"before"` // null for none
	After     int64  `json:"after"`
}

type offsetMoves []offsetMove

func (l offsetMoves) text(w io.Writer) error {
	rows := [][]any{{"TOPIC", "PARTITION", "BEFORE", "AFTER"}}
	for _, m := range l {
		before := "-"
		if m.Before != nil {
			before = fmt.Sprint(*m.Before)
		}
		rows = append(rows, []any{m.Topic, m.Partition, before, m.After})
	}
	return table(w, rows)
}

func resetGroup(c *cli.Context, args []string) error {
	if len(args) != 1 {
		return badUse("kraft group reset takes one group: %s", c.Command.UsageText)
	}
	where, err := parseWhere(c.String("to"), time.Now())
	if err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		group := args[0]
		described, err := admin.DescribeGroups(c.Context, group)
		if err != nil {
			return err
		}
		if d := described[group]; len(d.Members) > 0 {
			return fmt.Errorf("group %s has %d members: stop them first, they would go on where they are", group, len(d.Members))
		}
		committed, err := admin.FetchOffsets(c.Context, group)
		if err != nil {
			return err
		}
		topics := c.StringSlice("topic")
		if len(topics) == 0 {
			for topic := range committed {
				topics = append(topics, topic)
			}
		}
		if len(topics) == 0 {
			return fmt.Errorf("group %s has no offsets: name its topics with --topic", group)
		}
		targets, err := where(c, admin, topics)
		if err == nil {
			err = targets.Error()
		}
		if err != nil {
			return explain(err, "")
		}
		moves, offsets := offsetMoves{}, kadm.Offsets{}
		for _, t := range targets.Offsets().Sorted() {
			m := offsetMove{Topic: t.Topic, Partition: t.Partition, After: t.At}
			if before, ok := committed.Lookup(t.Topic, t.Partition); ok {
				m.Before = &before.At
			}
			moves = append(moves, m)
			offsets.Add(kadm.Offset{Topic: t.Topic, Partition: t.Partition, At: t.At, LeaderEpoch: -1})
		}
		if !c.Bool("dry-run") {
			if err := admin.CommitAllOffsets(c.Context, group, offsets); err != nil {
				return explain(err, "")
			}
		}
		return tell(c, moves)
	})
}

// where finds a place in topics.
type where func(c *cli.Context, admin *kadm.Client, topics []string) (kadm.ListedOffsets, error)

// parseWhere reads --to. now is when it was said.
func parseWhere(text string, now time.Time) (where, error) {
	switch text {
	case "start":
		return func(c *cli.Context, admin *kadm.Client, topics []string) (kadm.ListedOffsets, error) {
			return admin.ListStartOffsets(c.Context, topics...)
		}, nil
	case "end":
		return func(c *cli.Context, admin *kadm.Client, topics []string) (kadm.ListedOffsets, error) {
			return admin.ListEndOffsets(c.Context, topics...)
		}, nil
	}
	if t, ok := parseMoment(text, now); ok {
		return func(c *cli.Context, admin *kadm.Client, topics []string) (kadm.ListedOffsets, error) {
			return admin.ListOffsetsAfterMilli(c.Context, t.UnixMilli(), topics...)
		}, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return func(c *cli.Context, admin *kadm.Client, topics []string) (kadm.ListedOffsets, error) {
			return atOffset(c, admin, topics, n)
		}, nil
	}
	return nil, badUse("--to is start, end, an offset (1200), a time (2026-11-26T15:00:00Z) or so long ago (-1h), not %q", text)
}

// atOffset is an offset of all partitions, or as near to it as there are records.
func atOffset(c *cli.Context, admin *kadm.Client, topics []string, offset int64) (kadm.ListedOffsets, error) {
	first, err := admin.ListStartOffsets(c.Context, topics...)
	if err != nil {
		return nil, err
	}
	end, err := admin.ListEndOffsets(c.Context, topics...)
	if err != nil {
		return nil, err
	}
	for topic, partitions := range end {
		for n, last := range partitions {
			begin, _ := first.Lookup(topic, n)
			last.Offset = min(max(offset, begin.Offset), last.Offset)
			partitions[n] = last
		}
	}
	return end, nil
}
