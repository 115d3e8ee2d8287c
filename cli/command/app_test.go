package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// leaves are all commands that do something, with the words that call them.
func leaves(list []*cli.Command, path []string, each func(path []string, c *cli.Command)) {
	for _, c := range list {
		here := append(slices.Clone(path), c.Name)
		if len(c.Subcommands) > 0 {
			leaves(c.Subcommands, here, each)
		} else {
			each(here, c)
		}
	}
}

// TestFlagsAnywhere: every flag of every command counts before its arguments, between them and behind them, and with = too; an unknown
// one is refused wherever it stands.
func TestFlagsAnywhere(t *testing.T) {
	count := 0
	var names [][]string
	leaves(newApp(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}).Commands, nil, func(path []string, _ *cli.Command) { names = append(names, path) })
	for _, path := range names {
		run := func(args ...string) (got []string, flags map[string]string, err error) {
			app := newApp(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
			leaves(app.Commands, nil, func(p []string, c *cli.Command) {
				if !slices.Equal(p, path) {
					return
				}
				c.Action = func(c *cli.Context) error {
					flags = map[string]string{}
					if got, err = interspersed(c); err != nil {
						return err
					}
					for _, f := range c.Command.Flags {
						flags[f.Names()[0]] = fmt.Sprint(c.Value(f.Names()[0]))
					}
					return nil
				}
			})
			err = app.RunContext(context.Background(), slices.Concat([]string{"kraft"}, path, args))
			return got, flags, err
		}
		_, _, err := run("x", "--no-such-flag")
		_, _, before := run("--no-such-flag", "x")
		if err == nil || before == nil || !strings.Contains(err.Error(), "no-such-flag") {
			t.Errorf("%v takes an unknown flag: %v, %v", path, err, before)
		}
		var flags []cli.Flag
		leaves(newApp(nil, nil, nil).Commands, nil, func(p []string, c *cli.Command) {
			if slices.Equal(p, path) {
				flags = c.Flags
			}
		})
		for _, f := range flags {
			if f.Names()[0] == "help" {
				continue
			}
			for _, name := range f.Names() {
				dashes := "--"
				if len(name) == 1 {
					dashes = "-"
				}
				with := []string{dashes + name, sampleValue(f)}
				joined := []string{dashes + name + "=" + sampleValue(f)}
				if _, isBool := f.(*cli.BoolFlag); isBool {
					with = with[:1]
				}
				for _, args := range [][]string{slices.Concat(with, []string{"x", "y"}), slices.Concat([]string{"x"}, with, []string{"y"}), slices.Concat([]string{"x", "y"}, with), slices.Concat([]string{"x"}, joined, []string{"y"})} {
					count++
					got, values, err := run(args...)
					if err != nil || !slices.Equal(got, []string{"x", "y"}) || !strings.Contains(values[f.Names()[0]], strings.Trim(sampleValue(f), "s")) {
						t.Errorf("kraft %v %q: arguments %q, --%s is %q (%v)", path, args, got, name, values[f.Names()[0]], err)
					}
				}
			}
		}
	}
	if len(names) < 40 || count < 900 {
		t.Errorf("%d commands, %d command lines", len(names), count)
	}
}

func sampleValue(f cli.Flag) string {
	switch f.(type) {
	case *cli.BoolFlag:
		return "true"
	case *cli.IntFlag, *cli.Int64Flag, *cli.IntSliceFlag, *cli.Float64Flag:
		return "7"
	case *cli.DurationFlag:
		return "7s"
	}
	return "seven"
}

// TestHelp: every command says what it is for, how it is called, and what each of its flags does.
func TestHelp(t *testing.T) {
	leaves(newApp(nil, nil, nil).Commands, nil, func(path []string, c *cli.Command) {
		if c.Usage == "" || !strings.HasPrefix(c.UsageText, "kraft "+strings.Join(path, " ")) {
			t.Errorf("%v: %q, called as %q", path, c.Usage, c.UsageText)
		}
		for _, f := range c.Flags {
			if d, ok := f.(cli.DocGenerationFlag); ok && d.GetUsage() == "" {
				t.Errorf("%v --%s does not say what it does", path, f.Names()[0])
			}
		}
		if c.OnUsageError == nil {
			t.Errorf("%v leaves mistyped flags to the library", path)
		}
	})
}

// TestExamples: the help of each command has examples, whose commands and options there are.
func TestExamples(t *testing.T) {
	app := newApp(nil, io.Discard, io.Discard)
	seen := map[string]bool{}
	var walk func(group string, commands []*cli.Command)
	walk = func(group string, commands []*cli.Command) {
		for _, c := range commands {
			words := strings.TrimSpace(group + " " + c.Name)
			seen[words] = true
			walk(words, c.Subcommands)
			found := 0
			for line := range strings.Lines(c.Description) {
				line, _, _ = strings.Cut(line, "    ")
				i := strings.Index(line, "kraft ")
				if i < 0 || strings.TrimLeft(line[:i], " ") != "" && !strings.Contains(line, "| kraft") {
					continue
				}
				found++
				line, _, _ = strings.Cut(line[i:], "|")
				if says := checkLine(app, line); says != "" {
					t.Errorf("help of kraft %s: %s", words, says)
				}
			}
			if found == 0 && c.Name != "completion" {
				t.Errorf("the help of kraft %s has no example: %q", words, c.Description)
			}
		}
	}
	walk("", app.Commands)
	for words := range examples {
		if !seen[words] {
			t.Errorf("examples of kraft %s, which is not there", words)
		}
	}
}

// checkLine says what is wrong with the words of a command line, kraft first; "" if nothing.
func checkLine(app *cli.App, line string) string {
	words := strings.Fields(line)
	if len(words) > 1 && slices.Contains(scriptNames(), words[1]) {
		return ""
	}
	l := parseIncomplete(app, append(words[1:], ""))
	if l.command == nil && (len(words) < 2 || !strings.HasPrefix(words[1], "--")) {
		return fmt.Sprintf("%q names no command", line)
	}
	for _, word := range words {
		name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
		if strings.HasPrefix(word, "-") && strings.Trim(word, "-") != "" && findFlag(append(l.flags(), bootstrapFlag()), name) == nil && !isAgo(name) && name != "help" && name != "version" {
			return fmt.Sprintf("%q: kraft %s has no option %s", strings.TrimSpace(line), l.path, word)
		}
	}
	return ""
}

// isAgo reports whether an option's value that begins with a dash is an offset or an age, without the dash.
func isAgo(s string) bool {
	_, age := parseAge(s)
	_, err := strconv.Atoi(s)
	return age || err == nil
}

// TestDocs: the command lines of all pages name commands and options that there are.
func TestDocs(t *testing.T) {
	app := newApp(nil, io.Discard, io.Discard)
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, page := range append(pages, "../../README.md") {
		if filepath.Base(page) == "troubleshooting.md" { // which has them wrong
			continue
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(strings.ReplaceAll(string(text), "\\\n", " "), "\n") {
			code, indented := strings.CutPrefix(line, "    ")
			if !indented {
				continue
			}
			code, _, _ = strings.Cut(strings.TrimPrefix(code, "$ "), " #")
			for _, part := range regexp.MustCompile(`&&|\|\||[|;&]`).Split(code, -1) {
				part = strings.TrimPrefix(strings.TrimSpace(part), "./")
				if !strings.HasPrefix(part, "kraft ") || strings.HasPrefix(part, "kraft 0.") || strings.HasPrefix(part, "kraft ...") || strings.HasPrefix(part, "kraft runs") {
					continue
				}
				checked++
				if says := checkLine(app, part); says != "" {
					t.Errorf("%s, line %d: %s", page, n+1, says)
				}
			}
		}
	}
	if checked < 80 {
		t.Errorf("%d command lines", checked)
	}
}
