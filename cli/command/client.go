package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
)

// bootstrapFlag names the brokers that a client command talks to.
func bootstrapFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "bootstrap-server", Aliases: []string{"b"}, Value: "localhost:9092", EnvVars: []string{"KRAFT_BOOTSTRAP_SERVER"},
		Usage: "`HOST:PORT` of a broker, several with commas, or @NAME of a profile; the profile in use if not given",
	}
}

// newClient connects to the brokers of --bootstrap-server.
func newClient(c *cli.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	servers, login, err := connection(c)
	if err != nil {
		return nil, err
	}
	seeds := strings.Split(servers, ",")
	for i := range seeds {
		if seeds[i] = strings.TrimSpace(seeds[i]); !strings.Contains(seeds[i], ":") {
			seeds[i] += ":9092"
		}
	}
	opts = append([]kgo.Opt{
		kgo.SeedBrokers(seeds...), kgo.ClientID("kraft"), kgo.DisableClientMetrics(), // a command is no application to watch
		kgo.RetryTimeout(5 * time.Second), kgo.DialTimeout(3 * time.Second),
	}, append(login, opts...)...)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	if err := client.Ping(c.Context); err != nil {
		client.Close()
		return nil, unreachable(servers, err)
	}
	return client, nil
}

// unreachable says what to do when no broker answers.
func unreachable(servers string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return fmt.Errorf("host name %s does not resolve: correct --bootstrap-server", dns.Name)
	}
	if plain := ops.Plain(err); errors.Is(plain, ops.ErrEnded) {
		return fmt.Errorf("%s: %w", servers, plain)
	}
	var op *net.OpError
	if errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no broker answers at %s: start one (kraft dev), or correct --bootstrap-server", servers)
	}
	return fmt.Errorf("cannot talk to %s: %w", servers, err)
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// withAdmin runs f with an admin client.
func withAdmin(c *cli.Context, f func(*kadm.Client) error, opts ...kgo.Opt) error {
	client, err := newClient(c, opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	return withoutController(c, client, f(kadm.NewClient(client)))
}

func withClient(c *cli.Context, f func(*kgo.Client) error) error {
	client, err := newClient(c)
	if err != nil {
		return err
	}
	defer client.Close()
	return withoutController(c, client, f(client))
}
