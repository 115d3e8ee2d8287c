package command

import (
	"io"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
)

func whyKept(c *cli.Context, names []string) error {
	return withAdmin(c, func(admin *kadm.Client) error {
		out, lacks := keptPartitions{}, ops.Lacking{}
		for _, name := range names {
			found, err := ops.WhyKept(c.Context, admin, name)
			if err := lacks.Of(err); err != nil {
				lacking(c, lacks.Err())
				return ops.Explain(err, "")
			}
			out = append(out, found...)
		}
		return show(c, out, lacks.Err())
	})
}

type keptPartitions []ops.KeptPartition

func (l keptPartitions) text(w io.Writer) error {
	rows := [][]any{{"TOPIC", "PARTITION", "RECORDS", "BYTES", "WHY THEY ARE STILL THERE"}}
	for _, p := range l {
		rows = append(rows, []any{p.Topic, p.Partition, p.Records, size(p.Bytes), strings.Join(p.Why, "; ")})
	}
	return table(w, rows)
}
