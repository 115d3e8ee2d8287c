package command

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

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
				return nil, needsValue(c.Command.Flags, name, c.Command.HelpName)
			}
			value, rest = rest[0], rest[1:]
		}
		if err := c.Set(flag.Names()[0], value); err != nil {
			return nil, invalidValue(c.Command.Flags, name, value, c.Command.HelpName)
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

// checkTopicName refuses what can be no topic's name.
func checkTopicName(name string) error {
	if name == "" {
		return badUse("the topic has no name: is a variable empty?")
	}
	if strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	}) {
		return badUse("%q is no topic's name, which has letters, digits, dots, dashes and underscores; give one topic", name)
	}
	if name == "." || name == ".." || len(name) > 249 {
		return badUse("%.40q is no topic's name, which has up to 249 letters, and is not . or ..", name)
	}
	return nil
}

func noArguments(c *cli.Context) error {
	if c.NArg() > 0 {
		return badUse("%s takes no arguments, got %q (see %s --help)", c.Command.HelpName, c.Args().First(), c.Command.HelpName)
	}
	return nil
}

// nodeArgument is the node's id that a command takes.
func nodeArgument(c *cli.Context, args []string) (int32, error) {
	if len(args) != 1 {
		return 0, badUse("%s takes one node's id: %s", c.Command.HelpName, c.Command.UsageText)
	}
	id, err := strconv.ParseInt(args[0], 10, 32)
	if err != nil || id < 0 {
		return 0, badUse("%q is no node's id: %s", args[0], c.Command.UsageText)
	}
	return int32(id), nil
}

// parseIDs reads numbers of brokers with commas.
func parseIDs(flag, text string) ([]int32, error) {
	var out []int32
	for _, word := range strings.Split(text, ",") {
		id, err := strconv.ParseInt(strings.TrimSpace(word), 10, 32)
		if err != nil || id < 0 || slices.Contains(out, int32(id)) {
			return nil, badUse("--%s is ids of brokers with commas, each once, like 1,2,3, not %q", flag, text)
		}
		out = append(out, int32(id))
	}
	return out, nil
}
