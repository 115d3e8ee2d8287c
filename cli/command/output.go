package command

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"kraft/cli/ops"
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

// table prints lines of columns, the first the heads'. On a terminal the widest columns are cut so that lines fit.
func table(w io.Writer, rows [][]any) error {
	cells := make([][]string, len(rows))
	for i, row := range rows {
		for _, cell := range row {
			cells[i] = append(cells[i], printable(fmt.Sprint(cell)))
		}
	}
	if f, ok := w.(*os.File); ok && isTerminal(f) {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			fit(cells, width)
		}
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, row := range cells {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// printable is a text without what would control a terminal or begin another line: a client may have named a group so.
func printable(text string) string {
	if !strings.ContainsFunc(text, unicode.IsControl) {
		return text
	}
	return strings.Trim(strconv.Quote(text), `"`)
}

const (
	columnGap = 2  // between columns
	leastCut  = 12 // letters of a column that is cut
)

// fit cuts the widest columns until lines are not wider than width, or none is left to cut. The first column, by which a line is known, stays, and
// so does the last, which may be a sentence: the terminal wraps it.
func fit(rows [][]string, width int) {
	if len(rows) == 0 {
		return
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i := range min(len(row), len(widths)) {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	last := len(widths) - 1
	for {
		total, widest := -columnGap, 0
		for i, n := range widths {
			if i == last {
				n = min(n, leastCut)
			}
			if total += n + columnGap; i > 0 && i < last && (widest == 0 || n > widths[widest]) {
				widest = i
			}
		}
		if total <= width || widest == 0 || widths[widest] <= leastCut {
			break
		}
		widths[widest] = max(leastCut, widths[widest]-(total-width))
	}
	for _, row := range rows {
		for i := range min(len(row), len(widths)) {
			if letters := []rune(row[i]); len(letters) > widths[i] {
				row[i] = string(letters[:widths[i]-1]) + "…"
			}
		}
	}
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

// each prints what became of each of several things.
func each(c *cli.Context, done string, results []ops.Outcome) error {
	failed := false
	for _, r := range results {
		if r.Err != nil {
			fmt.Fprintf(c.App.ErrWriter, "kraft: %v\n", r.Err)
			failed = true
			continue
		}
		fmt.Fprintf(c.App.Writer, "%s %s\n", done, r.Name)
	}
	if failed {
		return errTold
	}
	return nil
}

// counted is a number with its noun.
func counted(n int, noun string) string { return ops.Counted(n, noun) }
