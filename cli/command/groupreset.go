package command

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
)

func resetCommand() *cli.Command {
	return &cli.Command{
		Name: "reset", Usage: "reset a group's offsets; the group must have no members", UsageText: "kraft group reset GROUP --to WHERE [--topic TOPIC]... [--dry-run]",
		Description: `WHERE is start, end, an offset (1200), a time (2026-11-26T15:00:00Z) or so long ago (-1h).

   kraft group reset billing --to start
   kraft group reset billing --to -1h --topic orders --dry-run`,
		OnUsageError: usageError,
		Flags: []cli.Flag{
			bootstrapFlag(), jsonFlag(),
			&cli.StringFlag{Name: "to", Usage: "`WHERE` to begin"},
			&cli.BoolFlag{Name: "create", Usage: "create the group if it does not exist"},
			&cli.StringSliceFlag{Name: "topic", Aliases: []string{"t"}, Usage: "of `TOPIC` only; may be repeated (default: all that the group has offsets of)"},
			&cli.BoolFlag{Name: "dry-run", Usage: "show what would change, and change nothing"},
		},
		Action: withArguments(resetGroup),
	}
}

type offsetMoves []ops.OffsetMove

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
	if !c.IsSet("to") {
		return badUse("kraft group reset needs --to: %s", c.Command.UsageText)
	}
	to, err := parseWhere(c.String("to"), time.Now())
	if err != nil {
		return err
	}
	return withAdmin(c, func(admin *kadm.Client) error {
		if offset, err := strconv.ParseInt(c.String("to"), 10, 64); err == nil {
			to = func(ctx context.Context, admin *kadm.Client, topics []string) (kadm.ListedOffsets, error) {
				found, err := ops.At(offset)(ctx, admin, topics)
				found.Each(func(o kadm.ListedOffset) {
					if o.Err == nil && o.Offset < offset {
						fmt.Fprintf(c.App.ErrWriter, "kraft: %s:%d ends at %d, before offset %d: the group goes to the end\n", o.Topic, o.Partition, o.Offset, offset)
					}
				})
				return found, err
			}
		}
		out, err := ops.ResetGroup(c.Context, admin, args[0], c.StringSlice("topic"), to, c.Bool("create"), c.Bool("dry-run"))
		return show(c, offsetMoves(out), err)
	})
}

// parseWhere reads --to. now is when it was said.
func parseWhere(text string, now time.Time) (ops.Where, error) {
	switch text {
	case "start":
		return ops.Start, nil
	case "end":
		return ops.End, nil
	}
	if t, ok := parseMoment(text, now); ok {
		return ops.After(t), nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return ops.At(n), nil
	}
	return nil, badUse("--to must be start, end, an offset (1200), a time (2026-11-26T15:00:00Z) or an age (-1h), not %q", text)
}
