package command

import (
	"github.com/urfave/cli/v2"

	"kraft/cli/scripts"
)

// storageCommand is kafka-storage, for who begins with kraft: nothing needs to be formatted.
func storageCommand() *cli.Command {
	configFlag := func() cli.Flag {
		return &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "the node's server.properties, `FILE`"}
	}
	sub := func(name, usage, text string, flags ...cli.Flag) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, UsageText: text, OnUsageError: usageError, Flags: flags,
			Action: func(c *cli.Context) error {
				if err := noArguments(c); err != nil {
					return err
				}
				return runStorage(c, name, flags)
			},
		}
	}
	return &cli.Command{
		Name:  "storage",
		Usage: "show or format a node's directories; formatting is optional, the first start does it",
		Subcommands: []*cli.Command{
			sub("info", "show which cluster and node directories belong to", "kraft storage info --config FILE", configFlag()),
			sub("format", "tie directories to a cluster; a first start does the same", "kraft storage format --config FILE --cluster-id ID [--ignore-formatted] [--add-scram CREDENTIAL]...", configFlag(),
				&cli.StringFlag{Name: "cluster-id", Aliases: []string{"t"}, Usage: "the cluster's `ID`"}, &cli.BoolFlag{Name: "ignore-formatted", Aliases: []string{"g"}, Usage: "leave directories alone that belong to it already"},
				&cli.StringSliceFlag{Name: "add-scram", Aliases: []string{"S"}, Usage: "a user of the new cluster, `CREDENTIAL`: SCRAM-SHA-256=[name=alice,password=PASSWORD]"}),
			sub("random-uuid", "make up an id for a cluster", "kraft storage random-uuid"),
		},
	}
}

// runStorage runs kafka-storage with the flags that were given.
func runStorage(c *cli.Context, command string, flags []cli.Flag) error {
	args := []string{command}
	for _, f := range flags {
		name := f.Names()[0]
		_, isBool := f.(*cli.BoolFlag)
		_, isList := f.(*cli.StringSliceFlag)
		switch {
		case isBool && c.Bool(name):
			args = append(args, "--"+name)
		case isList:
			for _, v := range c.StringSlice(name) {
				args = append(args, "--"+name, v)
			}
		case !isBool && c.IsSet(name):
			args = append(args, "--"+name, c.String(name))
		case name == "config" || name == "cluster-id":
			return badUse("%s needs --%s: %s", c.Command.HelpName, name, c.Command.UsageText)
		}
	}
	if scripts.Run(c.Context, "kafka-storage", args, scripts.Streams{In: c.App.Reader, Out: c.App.Writer, Err: c.App.ErrWriter}, Version) != 0 {
		return errTold
	}
	return nil
}
