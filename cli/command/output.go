package command

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

// jsonFlag is of commands that tell something: for programs, which can rely on the names in it.
func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON, for programs"}
}

// told is what a command tells: JSON by its fields, a table by its text.
type told interface {
	text(w io.Writer) error
}

// tell prints as the user wants it.
func tell(c *cli.Context, t told) error {
	if !c.Bool("json") {
		return t.text(c.App.Writer)
	}
	e := json.NewEncoder(c.App.Writer)
	e.SetIndent("", "  ")
	return e.Encode(t)
}

// clearScreen has a terminal forget what it shows.
const clearScreen = "\x1b[H\x1b[2J"

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// table prints lines of columns, the first the heads'.
func table(w io.Writer, rows [][]any) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, cell)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

func ids(list []int32) string {
	var s []string
	for _, i := range list {
		s = append(s, fmt.Sprint(i))
	}
	return strings.Join(s, ",")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// offsetOrDash is an offset as it stands in a table.
func offsetOrDash(o *int64) string {
	if o == nil {
		return "-"
	}
	return fmt.Sprint(*o)
}
