package command

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
	"kraft/raftmeta/configs"
)

func configCommand() *cli.Command {
	return &cli.Command{
		Name:  "config",
		Usage: "show, change and explain settings of topics, brokers and groups",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "show what is set, or with --all every setting", UsageText: "kraft config list --topic T | --broker N | --all-brokers | --group G [--all]",
				Description:  "   kraft config list --topic orders\n   kraft config list --broker 1 --all",
				OnUsageError: usageError, Action: listConfigs, Flags: append(resourceFlags(), jsonFlag(), &cli.BoolFlag{Name: "all", Usage: "include default values"}),
			},
			{
				Name: "set", Usage: "change settings; most changes take effect immediately", UsageText: "kraft config set KEY=VALUE... --topic T | --broker N | --all-brokers | --group G",
				Description:  "   kraft config set --topic orders retention.ms=3600000 cleanup.policy=compact,delete\n   kraft config set --all-brokers log.retention.hours=24",
				OnUsageError: usageError, Action: withArguments(setConfigs), Flags: resourceFlags(),
			},
			{
				Name: "unset", Usage: "reset settings to their defaults", UsageText: "kraft config unset KEY... --topic T | --broker N | --all-brokers | --group G",
				OnUsageError: usageError, Action: withArguments(unsetConfigs), Flags: resourceFlags(),
			},
			{
				Name: "explain", Usage: "explain a setting: its purpose, its values, and when a change takes effect", UsageText: "kraft config explain KEY...",
				Description: "KEY is a setting of brokers, topics, groups or client metrics, by Kafka's name. It needs no broker.", OnUsageError: usageError, Action: withArguments(explainConfigs),
			},
		},
	}
}

// resourceFlags name whose settings a command is about.
func resourceFlags() []cli.Flag {
	return []cli.Flag{
		bootstrapFlag(),
		&cli.StringFlag{Name: "topic", Aliases: []string{"t"}, Usage: "of topic `T`"},
		&cli.StringFlag{Name: "broker", Usage: "of the broker with id `N`"},
		&cli.BoolFlag{Name: "all-brokers", Usage: "of all brokers, where one has none of its own"},
		&cli.StringFlag{Name: "group", Aliases: []string{"g"}, Usage: "of group `G`"},
	}
}

func resourceOf(c *cli.Context) (ops.Resource, error) {
	var found []ops.Resource
	if c.IsSet("topic") {
		found = append(found, ops.Resource{Kind: kmsg.ConfigResourceTypeTopic, Name: c.String("topic")})
	}
	if c.IsSet("broker") {
		found = append(found, ops.Resource{Kind: kmsg.ConfigResourceTypeBroker, Name: c.String("broker")})
	}
	if c.Bool("all-brokers") {
		found = append(found, ops.Resource{Kind: kmsg.ConfigResourceTypeBroker})
	}
	if c.IsSet("group") {
		found = append(found, ops.Resource{Kind: kmsg.ConfigResourceTypeGroupConfig, Name: c.String("group")})
	}
	if len(found) != 1 {
		return ops.Resource{}, badUse("say whose settings, by one of --topic, --broker, --all-brokers and --group")
	}
	return found[0], nil
}

type configLines []ops.Config

func (l configLines) text(w io.Writer) error {
	rows := [][]any{{"KEY", "VALUE", "FROM"}}
	for _, e := range l {
		value := orNull(e.Value)
		if e.Sensitive {
			value = "(hidden)"
		}
		rows = append(rows, []any{e.Key, value, e.From})
	}
	return table(w, rows)
}

func listConfigs(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	r, err := resourceOf(c)
	if err != nil {
		return err
	}
	return withClient(c, func(client *kgo.Client) error {
		out, err := ops.ListConfigs(c.Context, client, r, c.Bool("all"))
		return show(c, configLines(out), err)
	})
}

func setConfigs(c *cli.Context, args []string) error {
	changes := map[string]*string{}
	for _, text := range args {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return badUse("kraft config set takes KEY=VALUE, got %q", text)
		}
		if _, twice := changes[key]; twice {
			return badUse("%s is given twice: give each setting one value", key)
		}
		value = inUnits(key, strings.TrimSpace(value))
		changes[key] = &value
	}
	return changeConfigs(c, changes, "set")
}

func unsetConfigs(c *cli.Context, args []string) error {
	changes := map[string]*string{}
	for _, key := range args {
		changes[key] = nil
	}
	return changeConfigs(c, changes, "unset")
}

func changeConfigs(c *cli.Context, changes map[string]*string, done string) error {
	r, err := resourceOf(c)
	if err != nil {
		return err
	}
	for _, key := range sortedKeys(changes) { // brokers keep what they do not know, for plug-ins
		if r.Kind == kmsg.ConfigResourceTypeBroker && configs.Broker[key] == nil && configs.ListenerDefinition(key) == nil && changes[key] != nil {
			return badUse("%s is not a setting that kraft or Kafka knows%s", key, configs.Hint(key))
		}
		if err := checkTopicSetting(key, changes[key]); r.Kind == kmsg.ConfigResourceTypeTopic && changes[key] != nil && err != nil {
			return err
		}
	}
	return withClient(c, func(client *kgo.Client) error {
		if err := ops.ChangeConfigs(c.Context, client, r, changes); err != nil {
			return err
		}
		fmt.Fprintf(c.App.Writer, "%s %s of %v\n", done, counted(len(changes), "setting"), r)
		return nil
	})
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

// checkTopicSetting says that a key is no setting of topics, and which one is meant; or that a value, if there is one, is none for it.
func checkTopicSetting(key string, value *string) error {
	if d := configs.Topic[key]; d != nil {
		if value != nil && d.Check(*value) != nil {
			return badUse("%s takes %s, not %q", key, d.Takes(), *value)
		}
		return nil
	}
	if configs.Broker[key] != nil {
		for name, d := range configs.Topic {
			if slices.Contains(d.Synonyms, key) {
				return badUse("%s is a setting of brokers: a topic's is called %s", key, name)
			}
		}
		return badUse("%s is a setting of brokers, not of topics", key)
	}
	hint := configs.Closest(key, len(key)/4, maps.Keys(configs.Topic))
	if hint == "" {
		return nil // another kind of broker may know it
	}
	return badUse("%s is no setting of a topic, did you mean %s?", key, hint)
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
		if text := d.Documentation(); configs.NoEffect(key) == "" {
			fmt.Fprintf(w, "  %s\n", text)
		}
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
