package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
		Usage: "`HOST:PORT` of a broker, several with commas, or @NAME of a profile; if not given, the profile in use, then a running kraft dev, then localhost:9092",
	}
}

// newClient connects to the brokers of --bootstrap-server.
func newClient(c *cli.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	servers, login, err := connection(c)
	if err != nil {
		return nil, err
	}
	seeds, err := addresses(servers)
	if err != nil {
		return nil, err
	}
	opts = append([]kgo.Opt{
		kgo.SeedBrokers(seeds...), kgo.ClientID("kraft"), kgo.DisableClientMetrics(), // a command is no application to watch
		kgo.RetryTimeout(5 * time.Second), kgo.DialTimeout(3 * time.Second),
	}, append(login, opts...)...)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	if err := ping(c, client, seeds); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

// ping returns when a broker answers, or with why none does. Where none answers within a second, it looks what listens.
func ping(c *cli.Context, client *kgo.Client, seeds []string) error {
	ctx, cancel := context.WithTimeout(c.Context, pingPatience)
	defer cancel()
	answered := make(chan error, 1)
	go func() { answered <- client.Ping(ctx) }()
	select {
	case err := <-answered:
		switch {
		case c.Context.Err() != nil:
			return c.Context.Err()
		case err == nil:
			return nil
		}
		return unreachable(c, seeds, lookAt(c, seeds), err)
	case <-time.After(lookAfter):
	}
	if bySecureProfile(c) { // which the look would not speak
		if err := <-answered; err != nil {
			return unreachable(c, seeds, nil, err)
		}
		return nil
	}
	looks := lookAt(c, seeds)
	strangers := 0
	for _, l := range looks {
		if l.what == ops.Stranger {
			strangers++
		}
	}
	if strangers < len(seeds) {
		switch err := <-answered; {
		case c.Context.Err() != nil:
			return c.Context.Err()
		case err == nil:
			return nil
		}
	}
	return unreachable(c, seeds, looks, context.DeadlineExceeded)
}

// lookAfter is how long ping waits before it looks what listens.
const lookAfter = time.Second

// looked is what listens at an address.
type looked struct {
	says string
	what ops.Listening
}

func lookAt(c *cli.Context, seeds []string) []looked {
	if bySecureProfile(c) {
		return nil
	}
	out := make([]looked, len(seeds))
	var looking sync.WaitGroup
	for i, seed := range seeds {
		looking.Go(func() { out[i].says, out[i].what = ops.WhatListens(c.Context, seed) })
	}
	looking.Wait()
	return out
}

// pingPatience is how long a broker may take to answer a command's first request.
const pingPatience = 5 * time.Second

// addresses reads HOST:PORT, several with commas.
func addresses(text string) (out []string, err error) {
	for _, one := range strings.Split(text, ",") {
		address, err := ops.Address(one)
		if err != nil {
			return nil, badUse("--bootstrap-server: %w", err)
		}
		out = append(out, address)
	}
	return out, nil
}

// pipeClosed says that whoever read the output of this process has gone, and that this ends it.
var pipeClosed atomic.Bool

// endWithReader ends a command that only prints when whoever reads its output has gone (head, less).
func endWithReader(c *cli.Context) {
	ctx, cancel := context.WithCancel(c.Context)
	c.Context = ctx
	onPipeClosed(c.App.Writer, func() {
		pipeClosed.Store(true)
		cancel()
	})
}

// unreachable says why no broker answers, and what to do.
func unreachable(c *cli.Context, seeds []string, looks []looked, err error) error {
	servers := strings.Join(seeds, ",")
	if looks == nil {
		return fmt.Errorf("cannot talk to %s (%s): %w", servers, whence(c), ops.Plain(err))
	}
	refused, says := 0, []string{}
	for _, l := range looks {
		if l.what == ops.Refused {
			refused++
		}
		if l.what == ops.Serving { // it answers a simple question: what it has said counts
			if plain := ops.Plain(err); errors.Is(plain, ops.ErrEnded) {
				return fmt.Errorf("%s: %w", servers, plain)
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("cannot talk to %s: %w", servers, err)
			}
			return fmt.Errorf("%s does not answer within %v: look into the broker's log", servers, pingPatience)
		}
		if !slices.Contains(says, l.says) {
			says = append(says, l.says)
		}
	}
	if refused == len(seeds) {
		return fmt.Errorf("no broker answers at %s: start one (kraft dev), or correct %s", servers, whence(c))
	}
	return fmt.Errorf("%s (%s)", strings.Join(says, "; "), whence(c))
}

// whence says where the address came from.
func whence(c *cli.Context) string {
	if at := c.String("bootstrap-server"); c.IsSet("bootstrap-server") && !strings.HasPrefix(at, "@") {
		if os.Getenv("KRAFT_BOOTSTRAP_SERVER") == at {
			return "KRAFT_BOOTSTRAP_SERVER"
		}
		return "--bootstrap-server"
	}
	if name := profileInUse(c); name != "" {
		return "the address in profile " + name
	}
	if f := findDev(); f != nil {
		return fmt.Sprintf("the address of the kraft dev that runs as process %d", f.Process)
	}
	return "--bootstrap-server"
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
