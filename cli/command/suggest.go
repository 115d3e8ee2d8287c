package command

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
)

// otherOptions are options of Kafka's tools, kcat and others, with those of kraft that are meant.
var otherOptions = map[string][]string{
	"max-messages": {"n", "records"}, "limit": {"n", "records"}, "count": {"n", "records"}, "num-records": {"records", "n"}, "c": {"n"},
	"broker-list": {"bootstrap-server"}, "brokers": {"bootstrap-server"}, "bootstrap-servers": {"bootstrap-server"}, "bootstrap": {"bootstrap-server"}, "servers": {"bootstrap-server"},
	"data-dir": {"data"}, "log-dirs": {"data"}, "dir": {"data"}, "d": {"data"}, "replicas": {"replication-factor"}, "replication": {"replication-factor"},
	"port": {"listeners"}, "id": {"node-id"}, "consumer-group": {"group"}, "group-id": {"group"}, "execute": {"yes"}, "force": {"yes"}, "f": {"yes"},
	"property": {"key-separator", "format"}, "print-key": {"keys"}, "earliest": {"from-beginning"}, "beginning": {"from-beginning"}, "e": {"exit-at-end"}, "timeout-ms": {"timeout"},
}

// namesArgument are options of Kafka's tools whose values kraft's commands take as arguments.
var namesArgument = map[string]string{"topic": "TOPIC", "t": "TOPIC", "topics": "TOPIC", "group": "GROUP", "g": "GROUP", "broker": "N", "partition": "TOPIC:PARTITION"}

// usageError turns what the flag library says into a sentence that says where to look.
func usageError(c *cli.Context, err error, _ bool) error {
	name := "kraft"
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != "kraft" {
		name = c.Command.HelpName
	}
	flags := c.App.Flags
	if c.Command != nil && (len(c.Command.Flags) > 0 || c.Command.Name != "" && c.Command.Name != "kraft") {
		flags = c.Command.Flags
	}
	text := err.Error()
	if given, ok := strings.CutPrefix(text, "flag provided but not defined: "); ok {
		return unknownOption(c, flags, strings.TrimLeft(given, "-"), name)
	}
	if given, ok := strings.CutPrefix(text, "flag needs an argument: "); ok {
		return needsValue(flags, strings.TrimLeft(given, "-"), name)
	}
	var value, flag string
	if n, _ := fmt.Sscanf(text, "invalid value %q for flag %s", &value, &flag); n == 2 {
		return invalidValue(flags, strings.TrimLeft(strings.TrimSuffix(flag, ":"), "-"), value, name)
	}
	return badUse("%s (see %s --help)", text, name)
}

func unknownOption(c *cli.Context, flags []cli.Flag, given, name string) error {
	said := dashed(given)
	if argument := namesArgument[given]; argument != "" && c.Command != nil && strings.Contains(c.Command.UsageText, argument) {
		usage, _, _ := strings.Cut(c.Command.UsageText, " [")
		return badUse("%s has no option %s: give %s as an argument, as in %s (see %s --help)", name, said, argument, usage, name)
	}
	if c.Command != nil { // kafka-topics --list
		if verb := nearest(given, c.Command.Subcommands); verb != "" {
			return badUse("%s has no option %s, did you mean %s %s? (see %s --help)", name, said, name, verb, name)
		}
	}
	hint := ""
	for _, other := range otherOptions[given] {
		if findFlag(flags, other) != nil {
			hint = other
			break
		}
	}
	if hint == "" {
		hint = ops.Closest(given, func(yield func(string) bool) {
			for _, f := range flags {
				for _, n := range f.Names() {
					if len(n) > 1 && !yield(n) {
						return
					}
				}
			}
		})
	}
	if hint != "" {
		hint = ", did you mean " + dashed(hint) + "?"
	}
	return badUse("%s has no option %s%s (see %s --help)", name, said, hint, name)
}

func dashed(option string) string {
	if len(option) == 1 {
		return "-" + option
	}
	return "--" + option
}

// spoken is an option as its help has it.
func spoken(flags []cli.Flag, name string) string {
	if f := findFlag(flags, name); f != nil {
		name = f.Names()[0]
	}
	return dashed(name)
}

func needsValue(flags []cli.Flag, option, name string) error {
	return badUse("%s needs a value, which is missing (see %s --help)", spoken(flags, option), name)
}

// invalidValue says what kind of value an option takes.
func invalidValue(flags []cli.Flag, option, value, name string) error {
	kind := "another kind of value"
	switch findFlag(flags, option).(type) {
	case *cli.IntFlag, *cli.Int64Flag, *cli.IntSliceFlag, *cli.Float64Flag:
		kind = "a number"
	case *cli.DurationFlag:
		kind = "a time, like 500ms, 10s or 2h"
	case *cli.BoolFlag:
		kind = "no value, or true or false"
	}
	return badUse("%s takes %s, not %q (see %s --help)", spoken(flags, option), kind, value, name)
}

// unknownCommand is the error for a word that is no command.
func unknownCommand(c *cli.Context, words []string) error {
	word := words[0]
	if word == "help" && len(words) > 1 {
		word = words[1]
	}
	for _, group := range c.App.Commands { // kraft list topics, kraft create topic x
		if len(words) > 1 && group.HasName(words[1]) {
			if verb := nearest(word, group.Subcommands); verb != "" {
				return badUse("unknown command %q, did you mean kraft %s %s? (see kraft --help)", strings.Join(words[:2], " "), group.Name, verb)
			}
		}
	}
	hint := nearest(word, c.App.Commands)
	if hint != "" {
		return badUse("unknown command %q, did you mean %q? (see kraft --help)", word, hint)
	}
	var with []string
	for _, group := range c.App.Commands {
		for _, sub := range group.Subcommands {
			if sub.HasName(word) {
				with = append(with, "kraft "+group.Name+" "+sub.Name)
			}
		}
	}
	if len(with) > 0 {
		return badUse("unknown command %q: it belongs to another word, as in %s (see kraft --help)", word, strings.Join(with[:min(3, len(with))], ", "))
	}
	return badUse("unknown command %q (see kraft --help)", word)
}
