package command

import (
	"bytes"
	"context"
	"fmt"
	"slices"
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
