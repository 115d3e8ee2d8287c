package command

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"kraft/cli/config"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "read a configuration as kraft server would, and start nothing", UsageText: "kraft check [--override KEY=VALUE]... FILE",
		Description: `Prints what the node would be, and settings that have no effect. The exit status is 2 if the node would not start with it.

   kraft check config/server.properties
   kraft check --override log.dirs=/data server.properties`,
		Flags: slices.DeleteFunc(nodeFlags(), func(f cli.Flag) bool {
			return !slices.Contains([]string{"override", "cluster-id", "node-id", "data", "peers", "join", "listeners", "advertised-listeners", "admin"}, f.Names()[0])
		}),
		Action: withArguments(func(c *cli.Context, args []string) error {
			if len(args) != 1 {
				return badUse("kraft check takes one file: kraft check config/server.properties")
			}
			file, err := readServerFile(args[0])
			if err != nil {
				return err
			}
			values, notes, err := sourcesOf(c, config.Sources{File: file, FileName: args[0]})
			if err != nil {
				return err
			}
			conf, err := config.New(values)
			if err != nil {
				return badUse("%s: %w", args[0], err)
			}
			lines, warnings := conf.Table()
			fmt.Fprintf(c.App.Writer, "%s: node %d, %s, data in %s\n", args[0], conf.NodeID, strings.Join(rolesOf(conf), " and "), strings.Join(conf.LogDirs, ", "))
			for _, line := range lines {
				fmt.Fprintln(c.App.Writer, line)
			}
			for _, note := range append(append(notes, conf.Notes...), warnings...) {
				fmt.Fprintln(c.App.Writer, "note: "+note)
			}
			return nil
		}),
	}
}

// sourcesOf is what a node's flags, overrides and environment make of settings from other places, and notes on the environment.
func sourcesOf(c *cli.Context, from config.Sources) (values map[string]string, notes []string, err error) {
	from.Environment, notes = config.Environment(os.Environ())
	from.Overrides = map[string]string{}
	if err := override(c, from.Overrides); err != nil {
		return nil, nil, err
	}
	values = from.Merge()
	if from.Flags, err = nodeValues(c, cmp.Or(values["node.id"], values["broker.id"])); err != nil {
		return nil, nil, err
	}
	return from.Merge(), notes, nil
}
