package command

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// confirmFlags are those of commands that take something away for good.
func confirmFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask, on a terminal"},
		&cli.BoolFlag{Name: "dry-run", Usage: "say what would go, and change nothing"},
	}
}

// errDeclined ends a command whose user said no.
var errDeclined = errors.New("nothing has been changed")

// confirm asks before a command takes something away; what says what that is. It returns false for --dry-run, after it has printed what would
// change, and an error if the user declines. Without a terminal, or with --yes, it returns true and does not call what.
func confirm(c *cli.Context, what func() ([]string, error)) (bool, error) {
	asks := isTerminal(c.App.Reader) && isTerminal(c.App.ErrWriter) && !c.Bool("yes")
	if !asks && !c.Bool("dry-run") {
		return true, nil
	}
	lines, err := what()
	if err != nil {
		return false, err
	}
	if c.Bool("dry-run") {
		for _, line := range lines {
			fmt.Fprintln(c.App.Writer, "would "+line)
		}
		return false, nil
	}
	fmt.Fprintf(c.App.ErrWriter, "This will %s. Go on? [y/N] ", strings.Join(lines, ", and "))
	answered := make(chan string, 1)
	go func() { // which ends with the process if nothing is typed
		line, _ := bufio.NewReader(c.App.Reader).ReadString('\n')
		answered <- line
	}()
	select {
	case <-c.Context.Done():
		fmt.Fprintln(c.App.ErrWriter)
		return false, c.Context.Err()
	case line := <-answered:
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return true, nil
		}
		return false, errDeclined
	}
}
