package command

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"kraft/cli/ops"
	"kraft/wire/sasl"
)

func userCommand() *cli.Command {
	mechanism := func(usage string) cli.Flag {
		return &cli.StringSliceFlag{Name: "mechanism", Usage: usage + " a `MECHANISM`: " + strings.Join(ops.ScramMechanisms, " or ")}
	}
	return &cli.Command{
		Name:  "user",
		Usage: "list, add and delete users who log in by SCRAM, and change their passwords",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list users with their mechanisms", UsageText: "kraft user list [NAME]...",
				OnUsageError: usageError, Action: listUsers, Flags: []cli.Flag{bootstrapFlag(), jsonFlag()},
			},
			{
				Name: "set", Usage: "give a user a password, and add the user if there is none", UsageText: "kraft user set NAME [--generate] [--mechanism MECHANISM]...",
				Description: `The password is read from the terminal, or from the first line of the standard input. With --generate the command makes one up and
prints it. Connections that are open stay open.`,
				OnUsageError: usageError, Action: withArguments(setUser),
				Flags: []cli.Flag{
					bootstrapFlag(), mechanism("only for"),
					&cli.BoolFlag{Name: "generate", Usage: "make a password up, and print it"},
					&cli.IntFlag{Name: "iterations", Value: sasl.DefaultIterations, Usage: "how often the password is hashed, 4096 to 16384 `TIMES`"},
				},
			},
			{
				Name: "delete", Usage: "delete users: they cannot log in any more", UsageText: "kraft user delete NAME... [--mechanism MECHANISM]...",
				Description:  `Connections that are open stay open.`,
				OnUsageError: usageError, Action: withArguments(deleteUsers), Flags: append([]cli.Flag{bootstrapFlag(), mechanism("only the credential for")}, confirmFlags()...),
			},
		},
	}
}

type userLines []ops.User

func (l userLines) text(w io.Writer) error {
	rows := [][]any{{"USER", "MECHANISM", "ITERATIONS"}}
	for _, u := range l {
		for _, m := range u.Mechanisms {
			rows = append(rows, []any{u.Name, m.Name, m.Iterations})
		}
	}
	return table(w, rows)
}

func listUsers(c *cli.Context) error {
	return withClient(c, func(cl *kgo.Client) error {
		list, err := ops.Users(c.Context, cl, c.Args().Slice()...)
		return show(c, userLines(list), err)
	})
}

func setUser(c *cli.Context, names []string) error {
	if len(names) != 1 {
		return errors.New("name one user: kraft user set NAME")
	}
	mechanisms := c.StringSlice("mechanism")
	if len(mechanisms) == 0 {
		mechanisms = ops.ScramMechanisms
	}
	password := ""
	if c.Bool("generate") {
		password = rand.Text()
	} else {
		line, err := readPassword(c, "Password of "+names[0]+": ")
		if password = strings.TrimRight(line, "\r\n"); password == "" {
			return errors.Join(errors.New("no password: type one, or use --generate"), ignoreEOF(err))
		}
	}
	return withClient(c, func(cl *kgo.Client) error {
		if err := ops.SetPassword(c.Context, cl, names[0], password, mechanisms, int32(c.Int("iterations"))); err != nil {
			return err
		}
		if c.Bool("generate") {
			fmt.Fprintln(c.App.Writer, password)
		}
		fmt.Fprintf(c.App.ErrWriter, "user %s has a new password (%s)\n", names[0], strings.Join(mechanisms, ", "))
		return nil
	})
}

// readPassword reads a line, without showing it where it is typed.
func readPassword(c *cli.Context, prompt string) (string, error) {
	f, ok := c.App.Reader.(*os.File)
	if !ok || !isTerminal(f) {
		return bufio.NewReader(c.App.Reader).ReadString('\n')
	}
	fmt.Fprint(c.App.ErrWriter, prompt)
	line, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(c.App.ErrWriter)
	return string(line), err
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func deleteUsers(c *cli.Context, names []string) error {
	return withClient(c, func(cl *kgo.Client) error {
		ok, err := confirm(c, func() (lines []string, err error) {
			for _, name := range names {
				lines = append(lines, "delete user "+name)
			}
			return lines, nil
		})
		if err != nil || !ok {
			return err
		}
		for _, name := range names {
			if err := ops.DeleteUser(c.Context, cl, name, c.StringSlice("mechanism")); err != nil {
				return fmt.Errorf("user %s: %w", name, err)
			}
			fmt.Fprintf(c.App.Writer, "user %s is deleted\n", name)
		}
		return nil
	})
}
