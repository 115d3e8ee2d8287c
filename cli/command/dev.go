package command

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

func devCommand() *cli.Command {
	data := &cli.StringFlag{Name: "data", Usage: "`DIR` for the data (default: kraft/dev below your cache directory)"}
	sub := func(name, arguments, usage string, action func(*cli.Context, []string) error) *cli.Command {
		text := strings.TrimSpace("kraft dev " + name + " " + arguments)
		return &cli.Command{Name: name, Usage: usage, UsageText: text + " [--data DIR]", Flags: []cli.Flag{data}, Action: func(c *cli.Context) error {
			args, err := interspersed(c)
			if err != nil {
				return err
			}
			if err := fromDev(c); err != nil {
				return err
			}
			if (arguments == "") != (len(args) == 0) || len(args) > 1 {
				return badUse("%s takes %s: %s", c.Command.HelpName, cmp.Or(map[string]string{"N": "one broker", "": "no arguments", "LANGUAGE": "one language"}[arguments], arguments), c.Command.UsageText)
			}
			return action(c, args)
		}}
	}
	play := func(name, usage string) *cli.Command {
		return sub(name, "N", usage, func(c *cli.Context, args []string) error { return askDev(c, name+" "+args[0]) })
	}
	return &cli.Command{
		Name:      "dev",
		Usage:     "run a cluster for development on this machine",
		UsageText: "kraft dev [--brokers 3] [--port 9092] [--data DIR] [--topic NAME[:PARTITIONS[:REPLICAS]]]... [--fresh] [--secure]\nkraft dev stop-broker N | start-broker N | snippet LANGUAGE | status | stop | reset",
		Description: `Three brokers in one process, on ports 9092 to 9094 of localhost; needs no configuration. Topics have three replicas. Data is kept
between runs in a directory below your cache directory, or in --data. Consumer groups start without Kafka's 3 s delay. q or Ctrl-C stops
the cluster. kraft's commands find it whatever its port.

   kraft dev --topic orders:3 --topic payments:6:1      with topics: 3 partitions; 6 with one replica each
   kraft dev --topics topics.txt                        one in a line, # begins a comment
   kraft dev --fresh                                    without what is in the directory from before
   kraft dev --secure                                   with TLS, SCRAM and access control lists, and a user admin
   kraft dev stop-broker 2                              simulate a failure, in another terminal
   kraft dev snippet python                             a client to paste`,
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "brokers", Value: 3, Usage: "run `N` brokers"},
			&cli.IntFlag{Name: "port", Value: 9092, Usage: "listen on localhost:`PORT` and those behind it; 0 takes free ones"},
			data,
			&cli.StringSliceFlag{Name: "topic", Usage: "create a topic, `NAME[:PARTITIONS[:REPLICAS]]`, if it is not there; may be repeated"},
			&cli.StringFlag{Name: "topics", Usage: "create the topics in `FILE`, one in a line as --topic has them"},
			&cli.BoolFlag{Name: "fresh", Usage: "remove the data of earlier runs first"},
			&cli.BoolFlag{Name: "secure", Usage: "with TLS, logins and access control lists"},
		}, commonFlags()...),
		Subcommands: []*cli.Command{
			play("stop-broker", "stop broker N of a running kraft dev"), play("start-broker", "start broker N again"),
			sub("snippet", "LANGUAGE", "print a client for a running kraft dev: "+strings.Join(sortedKeys(snippets), ", "), printSnippet),
			sub("status", "", "show the brokers of a running kraft dev", func(c *cli.Context, _ []string) error { return devStatus(c) }),
			sub("stop", "", "stop a running kraft dev", func(c *cli.Context, _ []string) error { return stopDev(c) }),
			sub("reset", "", "remove the data of a kraft dev that does not run", func(c *cli.Context, _ []string) error { return resetDev(c) }),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return unknownSubcommand("kraft dev", c.Args().First(), c.Command.Subcommands)
			}
			return dev(c)
		},
	}
}

// fromDev takes --data from before a subcommand's name (kraft dev --data DIR reset), and refuses other options there.
func fromDev(c *cli.Context) error {
	for _, above := range c.Lineage()[1:] {
		if above.Command == nil || above.Command.Name != "dev" {
			continue
		}
		for _, name := range above.LocalFlagNames() {
			if name != "data" {
				return badUse("%s has no option --%s (see %s --help)", c.Command.HelpName, name, c.Command.HelpName)
			}
			if c.IsSet("data") && c.String("data") != above.String("data") {
				return badUse("--data is given twice")
			}
			if err := c.Set("data", above.String("data")); err != nil {
				return err
			}
		}
	}
	return nil
}

// dev runs a cluster until it is stopped.
func dev(c *cli.Context) error {
	dir, err := devData(c)
	if err != nil {
		return err
	}
	topics, err := devTopics(c)
	if err != nil {
		return err
	}
	if err := refuseRunning(dir, !c.Bool("fresh")); err != nil {
		return err
	}
	n, port := c.Int("brokers"), c.Int("port")
	switch {
	case n < 1 || n > maxDevBrokers:
		return badUse("--brokers must be from 1 to %d, not %d", maxDevBrokers, n)
	case port < 0 || port > 1<<16-n:
		return badUse("--port must be from 1 to %d, with one port for each of %s, or 0 for free ones, not %d", 1<<16-n, counted(n, "broker"), port)
	}
	if c.Bool("fresh") {
		if err := removeDev(c, dir); err != nil {
			return err
		}
	}
	if n, err = devBrokerCount(c, dir); err != nil {
		return err
	}
	for _, t := range topics {
		if int(t.replicas) > n {
			return badUse("topic %s cannot have %d replicas: there %s %s", t.name, t.replicas, map[bool]string{true: "is", false: "are"}[n == 1], counted(n, "broker"))
		}
	}
	if !strings.Contains(dir, ",") {
		lock, err := lockDev(dir)
		if err != nil {
			return err
		}
		defer lock.Close()
	}
	if strings.Contains(dir, ",") && (n > 1 || c.Bool("secure")) {
		return badUse("--data takes one directory for several brokers, and for --secure")
	}
	security, err := secure(c, dir)
	if err != nil {
		return err
	}
	if n > 1 {
		return runDev(c, n, dir, topics, security)
	}
	values := devValues(1, 1, dir, c.Int("port"))
	if security != nil {
		security.apply(values, "")
		if err := security.firstUsers(dir); err != nil {
			return err
		}
	}
	if err := override(c, values); err != nil {
		return err
	}
	return serveDev(c, values, topics, dir, security)
}

const maxDevBrokers = 15

func devValues(id, brokers int, dir string, port int) map[string]string {
	return map[string]string{
		"default.replication.factor": strconv.Itoa(min(brokers, 3)),
		"node.id":                    strconv.Itoa(id), "log.dirs": dir,
		"listeners":                        fmt.Sprintf("PLAINTEXT://localhost:%d", port),
		"group.initial.rebalance.delay.ms": "0",
	}
}
