package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"kraft/raftmeta/configs"
)

func configCommand() *cli.Command {
	return &cli.Command{
		Name:  "config",
		Usage: "explain settings",
		Subcommands: []*cli.Command{{
			Name: "explain", Usage: "say what a setting takes, what it is by default, and when a change counts", UsageText: "kraft config explain KEY...",
			Description: "KEY is a setting of brokers, topics, groups or client metrics, by Kafka's name. It needs no broker.", OnUsageError: usageError, Action: withArguments(explainConfigs),
		}},
	}
}

func explainConfigs(c *cli.Context, keys []string) error {
	unknown := false
	for i, key := range keys {
		if i > 0 {
			fmt.Fprintln(c.App.Writer)
		}
		if !explainConfig(c.App.Writer, key) {
			unknown = true
			fmt.Fprintln(c.App.ErrWriter, "kraft: "+key+" is not a setting that kraft or Kafka knows"+configs.Hint(key))
		}
	}
	if unknown {
		return badUseOf(errTold)
	}
	return nil
}

// explainConfig reports whether there is something to say.
func explainConfig(w io.Writer, key string) bool {
	found := false
	for _, kind := range []struct {
		of          string
		definitions map[string]*configs.Definition
	}{{"brokers", configs.Broker}, {"topics", configs.Topic}, {"groups", configs.Group}, {"client metrics", configs.ClientMetrics}} {
		d := kind.definitions[key]
		if d == nil {
			continue
		}
		found = true
		fmt.Fprintf(w, "%s, a setting of %s\n", key, kind.of)
		fmt.Fprintf(w, "  takes      %s\n", d.Takes())
		byDefault := "nothing"
		if d.Default != nil {
			byDefault = fmt.Sprintf("%q", *d.Default)
		}
		if len(d.Synonyms) > 0 {
			byDefault = "the broker's " + strings.Join(d.Synonyms, ", or ") + ", or " + byDefault
		}
		fmt.Fprintf(w, "  by default %s\n", byDefault)
		changes := "at once"
		if kind.of == "brokers" {
			changes = map[configs.Mode]string{configs.ReadOnly: "at the next start: server.properties, --override, KAFKA_*", configs.PerBroker: "at once, broker by broker", configs.ClusterWide: "at once, for one broker or all"}[d.Mode]
		}
		fmt.Fprintf(w, "  changes    %s\n", changes)
	}
	if why := configs.NoEffect(key); why != "" {
		if !found {
			fmt.Fprintf(w, "%s, a setting of brokers\n", key)
		}
		fmt.Fprintf(w, "  no effect  %s\n", why)
		found = true
	}
	return found
}
