package command

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
)

// aliases are other words for a command that people type.
var aliases = map[string][]string{
	"topic": {"topics"}, "group": {"groups"}, "broker": {"brokers"}, "partition": {"partitions"}, "config": {"configs"}, "profile": {"profiles"}, "log": {"logs"},
	"consume": {"cat"}, "list": {"ls"}, "delete": {"rm"}, "describe": {"show"},
}

// others are words for commands that have another name, with the names; a guess by letters would name commands that do something else.
var others = map[string][]string{
	"rm": {"delete", "remove"}, "remove": {"delete", "remove"}, "delete": {"delete", "remove"}, "drop": {"delete", "remove"}, "del": {"delete", "remove"},
	"get": {"list", "describe"}, "show": {"describe", "list"}, "describe": {"describe", "list", "status"}, "info": {"describe", "list"}, "status": {"status", "describe", "list"},
	"ls": {"list"}, "new": {"create"}, "add": {"create", "add"}, "make": {"create"}, "alter": {"set"}, "update": {"set"}, "edit": {"set"}, "put": {"set"},
	"produce": {"produce"}, "publish": {"produce"}, "send": {"produce"}, "write": {"produce"}, "subscribe": {"consume"}, "read": {"consume"}, "tail": {"consume"}, "listen": {"consume"},
	"start": {"start-broker", "dev", "server"}, "run": {"dev", "server"}, "up": {"dev"}, "down": {"stop"}, "kill": {"stop"}, "cluster": {"cluster"},
}

// finish completes commands with what all of them have. group is the words before theirs.
func finish(group string, commands []*cli.Command) []*cli.Command {
	for _, c := range commands {
		words := strings.TrimSpace(group + " " + c.Name)
		if lines := examples[words]; len(lines) > 0 {
			if c.Description != "" {
				c.Description = strings.TrimRight(c.Description, "\n") + "\n\n"
			}
			c.Description += "   " + strings.Join(lines, "\n   ")
		}
		for _, alias := range aliases[c.Name] {
			if !slices.ContainsFunc(commands, func(o *cli.Command) bool { return o.HasName(alias) }) {
				c.Aliases = append(c.Aliases, alias)
			}
		}
		if c.OnUsageError == nil {
			c.OnUsageError = usageError
		}
		c.HideHelpCommand = true
		for _, f := range c.Flags {
			if f, ok := f.(*cli.BoolFlag); ok {
				f.DisableDefaultText = true // false, always
			}
		}
		if len(c.Subcommands) == 0 {
			continue
		}
		if c.UsageText == "" {
			c.UsageText = "kraft " + words + " COMMAND [options]"
		}
		finish(words, c.Subcommands)
		if c.Action == nil {
			c.Action = func(ctx *cli.Context) error {
				if ctx.NArg() == 0 {
					return cli.ShowSubcommandHelp(ctx)
				}
				return unknownSubcommand(ctx.Command.HelpName, ctx.Args().First(), c.Subcommands)
			}
		}
	}
	return commands
}

// unknownSubcommand is the error for a word that is no command of a group of them.
func unknownSubcommand(group, word string, commands []*cli.Command) error {
	hint := nearest(word, commands)
	if hint != "" {
		hint = ", did you mean " + group + " " + hint + "?"
	}
	return badUse("%s has no command %q%s (see %s --help)", group, word, hint, group)
}

// nearest is the command that a word probably means, "" if none is near.
func nearest(word string, commands []*cli.Command) string {
	if names, known := others[word]; known {
		for _, name := range names {
			if slices.ContainsFunc(commands, func(c *cli.Command) bool { return c.Name == name }) {
				return name
			}
		}
		return ""
	}
	return ops.Closest(word, func(yield func(string) bool) {
		for _, c := range commands {
			if !yield(c.Name) {
				return
			}
		}
	})
}

// rearrange puts a command line into the order that the flag library wants: help by word, and --bootstrap-server before or between commands.
func rearrange(args []string, commands []*cli.Command) []string {
	if len(args) == 0 {
		return args
	}
	var words, servers []string
	level, rest, help := commands, args[1:], false
	for len(rest) > 0 {
		arg := rest[0]
		if name, _, inline := strings.Cut(strings.TrimLeft(arg, "-"), "="); strings.HasPrefix(arg, "-") && (name == "b" || name == "bootstrap-server") && len(level) > 0 {
			n := 2
			if inline {
				n = 1
			}
			n = min(n, len(rest))
			servers, rest = append(servers, rest[:n]...), rest[n:]
			continue
		}
		if arg == "help" && !help && len(level) > 0 {
			help, rest = true, rest[1:]
			continue
		}
		i := slices.IndexFunc(level, func(c *cli.Command) bool { return c.HasName(arg) })
		if i < 0 {
			break
		}
		words, level, rest = append(words, arg), level[i].Subcommands, rest[1:]
	}
	if len(words) == 0 && !help { // a node by options, or no command
		return args
	}
	out := append([]string{args[0]}, words...)
	if help && len(rest) == 0 {
		return append(out, "--help")
	}
	if help {
		out = append(out, "help") // of something that is no command
	}
	return slices.Concat(out, servers, rest)
}
