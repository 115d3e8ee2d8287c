// Package command is kraft's command line: commands that run brokers, and commands that talk to them by package ops. Begin with app.go; each
// other file has the commands of its name.
package command

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
)

// Version is what --version prints; release builds set it by -ldflags "-X kraft/cli/command.Version=...".
var Version = "0.1.0-dev"

// Main runs one command line and returns the exit status: 0, or after one sentence on stderr 1, or 2 if the
// command line or a setting is wrong.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if status, ok := runScript(ctx, args); ok {
		return status
	}
	app := newApp(os.Stdin, os.Stdout, os.Stderr)
	if len(args) > 1 && args[1] == completeWord {
		runComplete(ctx, app, args[2:])
		return 0
	}
	return report(app.RunContext(ctx, rearrange(args, app.Commands)), os.Stderr)
}

// errTold ends a command with status 1 whose failures have been told already.
var errTold = errors.New("failed")

func init() { cli.VersionPrinter = func(c *cli.Context) { _ = thisBuild().text(c.App.Writer) } } // --version says what kraft version does

func newApp(in io.Reader, out, errOut io.Writer) *cli.App {
	return &cli.App{
		Name:    "kraft",
		Usage:   "Apache Kafka's protocol, disk format and guarantees in one binary",
		Version: Version,
		Description: `A Kafka on this machine:      kraft dev
A real node:                  kraft --node-id 1 --data /var/lib/kraft
The file you already have:    kraft server config/server.properties`,
		UsageText: "kraft dev | kraft --node-id ID --data DIR [options] | kraft server FILE | kraft COMMAND [options]",
		Flags:     nodeFlags(),
		Action:    runNode,
		Commands: finish("", []*cli.Command{
			devCommand(), serverCommand(), checkCommand(), statusCommand(), stopNodesCommand(), topicCommand(), produceCommand(), consumeCommand(), groupCommand(), clusterCommand(), brokerCommand(), partitionCommand(), transactionCommand(), userCommand(), aclCommand(), quotaCommand(), certsCommand(), quorumCommand(), logCommand(), storageCommand(), perfCommand(), configCommand(), profileCommand(), topCommand(), doctorCommand(), healthCommand(), scriptsCommand(), completionCommand(), versionCommand(),
		}),
		Reader:          in,
		Writer:          out,
		ErrWriter:       errOut,
		Suggest:         true,
		HideHelpCommand: true,
		// A value may have commas: --override log.dirs=/a,/b is one.
		DisableSliceFlagSeparator: true,
		OnUsageError:              usageError,
		// The library would exit the process; Main decides on that.
		ExitErrHandler: func(*cli.Context, error) {},
	}
}
