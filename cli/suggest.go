package cli

import (
	"strings"

	"github.com/urfave/cli/v2"
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
	// The library's suggestion is a sentence of its own.
	hint := strings.Replace(cli.SuggestCommand(c.App.Commands, word), "Did", ", did", 1)
	return badUse("unknown command %q%s (see kraft --help)", word, hint)
}
