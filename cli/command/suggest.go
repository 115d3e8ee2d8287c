package command

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"kraft/raftmeta/configs"
)

// suggestFlag names the flag that was probably meant by an undefined one in the flag parser's message.
func suggestFlag(c *cli.Context, message string) string {
	_, given, ok := strings.Cut(message, "flag provided but not defined: ")
	if !ok {
		return ""
	}
	given = strings.TrimLeft(given, "-")
	flags := c.App.Flags
	if c.Command != nil && len(c.Command.Flags) > 0 {
		flags = c.Command.Flags
	}
	hint := cli.SuggestFlag(flags, given, false)
	if name := strings.TrimLeft(hint, "-"); name == "" || name == "help" && !strings.HasPrefix(given, "h") {
		return ""
	}
	return hint
}

// unknownCommand is the error for a word that is no command.
func unknownCommand(c *cli.Context, word string) error {
	hint := configs.Closest(word, max(1, len(word)/3), func(yield func(string) bool) {
		for _, command := range c.App.Commands {
			if !yield(command.Name) {
				return
			}
		}
	})
	if hint != "" {
		hint = fmt.Sprintf(", did you mean %q?", hint)
	}
	return badUse("unknown command %q%s (see kraft --help)", word, hint)
}
