package command

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"kraft/cli/scripts"
)

func scriptsCommand() *cli.Command {
	return &cli.Command{
		Name:  "scripts",
		Usage: "make links with the names of Kafka's scripts, which behave as those do",
		UsageText: `kraft scripts DIR

Run under one of these names, or as kraft kafka-topics ..., kraft accepts that script's options and prints the same output:
` + strings.Join(scriptNames(), ", "),
		OnUsageError: usageError,
		Flags:        []cli.Flag{&cli.BoolFlag{Name: "list", Usage: "print the names only"}},
		Action: func(c *cli.Context) error {
			args, err := interspersed(c)
			if err != nil {
				return err
			}
			if c.Bool("list") && len(args) == 0 {
				fmt.Fprintln(c.App.Writer, strings.Join(scriptNames(), "\n"))
				return nil
			}
			if len(args) != 1 {
				return badUse("kraft scripts takes one directory: kraft scripts /usr/local/bin")
			}
			program, err := os.Executable()
			if err == nil {
				err = scripts.Link(program, args[0], scriptNames())
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "%d links in %s\n", len(scriptNames()), args[0])
			return nil
		},
	}
}

// runScript runs a script of Kafka's, if the command line is one's: by the program's name, or its first word.
func runScript(ctx context.Context, args []string) (status int, ok bool) {
	streams := scripts.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	for i := range min(2, len(args)) {
		if name := findServerScript(args[i]); name != "" {
			return runServerScript(ctx, name, args[i+1:], streams), true
		}
	}
	name, rest := scripts.Find(args[0]), args[1:]
	if name == "" && len(rest) > 0 {
		name, rest = scripts.Find(rest[0]), rest[1:]
	}
	if name == "" {
		return 0, false
	}
	return scripts.Run(ctx, name, rest, streams, Version), true
}
