package command

import (
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
)

func certsCommand() *cli.Command {
	common := func() []cli.Flag {
		return []cli.Flag{
			&cli.StringFlag{Name: "dir", Value: "certs", Usage: "the authority's `DIR`ectory; an authority is made where there is none"},
			&cli.IntFlag{Name: "days", Value: 397, Usage: "how many `DAYS` the certificate is valid"},
		}
	}
	return &cli.Command{
		Name:  "certs",
		Usage: "make certificates for brokers and clients, by an authority of your own",
		Description: `For a company's clusters use the company's authority. This one is for development, for tests and for small clusters: its key is a file,
and it revokes nothing. Brokers read changed files by themselves; run the command again to renew a certificate.`,
		Subcommands: []*cli.Command{
			{
				Name: "broker", Usage: "make a broker's key and certificate", UsageText: "kraft certs broker NAME --host HOST [--host HOST]...",
				Description:  `HOST is a name or address by which clients and other brokers connect. NAME.properties has the lines for the broker's settings.`,
				OnUsageError: usageError, Action: withArguments(func(c *cli.Context, names []string) error {
					hosts := c.StringSlice("host")
					if len(hosts) == 0 {
						return errors.New("--host is missing: the names and addresses by which others connect to the broker")
					}
					return issue(c, names, hosts)
				}),
				Flags: append(common(), &cli.StringSliceFlag{Name: "host", Usage: "a `HOST` name or address of the broker"}),
			},
			{
				Name: "client", Usage: "make a client's key and certificate", UsageText: "kraft certs client NAME",
				Description:  `NAME.properties is a file for Java clients and for --command-config.`,
				OnUsageError: usageError, Action: withArguments(func(c *cli.Context, names []string) error { return issue(c, names, nil) }), Flags: common(),
			},
		},
	}
}

func issue(c *cli.Context, names, hosts []string) error {
	if len(names) != 1 {
		return errors.New("name one certificate")
	}
	if c.Int("days") < 1 {
		return fmt.Errorf("--days=%d: a certificate is valid for a day at least", c.Int("days"))
	}
	a, err := ops.OpenAuthority(c.String("dir"))
	if err != nil {
		return err
	}
	if a.Made {
		fmt.Fprintf(c.App.Writer, "authority    %s (new; keep %s/ca.key secret)\n", a.Dir, a.Dir)
	}
	made, err := a.Issue(names[0], hosts, time.Duration(c.Int("days"))*24*time.Hour)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "principal    User:%s\nkeystore     %s\ntruststore   %s\nproperties   %s\n", made.Principal, made.KeyStore, made.TrustStore, made.Properties)
	return nil
}
