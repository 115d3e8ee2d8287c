package command

import (
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "find usual mistakes: addresses that clients cannot reach, partitions that lack replicas, full disks, clocks, limits",
		UsageText: `kraft doctor [--from-here HOST:PORT] [--admin HOST:PORT]...

The broker that a client connects to first returns all brokers' addresses, and the client then uses only those. Run this
on the client's machine, with the client's bootstrap address. --admin also checks nodes' admin listeners.`,
		OnUsageError: usageError, Action: doctor,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from-here", Aliases: []string{"bootstrap-server", "b"}, Value: "localhost:9092", EnvVars: []string{"KRAFT_BOOTSTRAP_SERVER"}, Usage: "the `HOST:PORT` that clients are given, several with commas, or @NAME of a profile"},
			jsonFlag(),
			&cli.StringSliceFlag{Name: "admin", Usage: "the admin listener of a node, `HOST:PORT`; may be repeated"},
		},
	}
}

type findings []ops.Finding

func (l findings) text(w io.Writer) error {
	var rows [][]any
	for _, f := range l {
		rows = append(rows, []any{f.Grade, f.What, f.Says})
	}
	return table(w, rows)
}

func doctor(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	servers, login, err := connection(c)
	if err != nil {
		return err
	}
	found := findings{}
	examined := map[string]bool{} // clusters
	given, err := addresses(servers)
	if err != nil {
		return err
	}
	for _, address := range given {
		found = append(found, ops.Examine(c.Context, strings.TrimSpace(address), login, examined)...)
	}
	for _, address := range c.StringSlice("admin") {
		found = append(found, ops.ExamineAdmin(c.Context, address)...)
	}
	found = append(found, nodesHere()...)
	if err := tell(c, found); err != nil {
		return err
	}
	if slices.ContainsFunc(found, func(f ops.Finding) bool { return f.Grade == ops.Failure }) {
		return errTold
	}
	return nil
}
