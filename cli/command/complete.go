package command

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/urfave/cli/v2"

	"kraft/cli/scripts"
	"kraft/raftmeta/configs"
)

// completeWord is the command by which shells ask what fits. Its arguments are the words behind kraft, the last one not finished.
const completeWord = "__complete"

// completePatience is how long somebody who pressed Tab waits for a cluster's names.
const completePatience = time.Second

// completing is a command line that is not finished.
type completing struct {
	app     *cli.App
	command *cli.Command // nil for none yet
	path    string       // the command's words
	options map[string]string
	args    []string
	word    string // what is being typed
	option  string // whose value is being typed, "" for none
}

// runComplete prints what may stand for the last word, one in a line.
func runComplete(ctx context.Context, app *cli.App, words []string) {
	if len(words) == 0 {
		return
	}
	for _, fit := range parseIncomplete(app, words).fits(ctx) {
		fmt.Fprintln(app.Writer, fit)
	}
}

func parseIncomplete(app *cli.App, words []string) *completing {
	l := &completing{app: app, options: map[string]string{}, word: strings.Trim(words[len(words)-1], `"`)}
	level := app.Commands
	for i := 0; i < len(words)-1; i++ {
		word := words[i]
		if strings.HasPrefix(word, "-") {
			name, value, inline := strings.Cut(strings.TrimLeft(word, "-"), "=")
			f := findFlag(l.flags(), name)
			if name == "b" || name == "bootstrap-server" { // it may stand anywhere
				f = bootstrapFlag()
			}
			if f == nil {
				continue
			}
			name = f.Names()[0]
			if _, isBool := f.(*cli.BoolFlag); isBool || inline {
				l.options[name] = value
			} else if i+1 == len(words)-1 {
				l.option = name
			} else {
				i++
				l.options[name] = words[i]
			}
			continue
		}
		if j := slices.IndexFunc(level, func(c *cli.Command) bool { return c.HasName(word) }); j >= 0 && len(l.args) == 0 {
			l.command, level = level[j], level[j].Subcommands
			l.path = strings.TrimSpace(l.path + " " + l.command.Name)
			continue
		}
		if word != "help" || l.command != nil {
			l.args = append(l.args, word)
		}
	}
	if name, _, inline := strings.Cut(l.word, "="); inline && strings.HasPrefix(name, "--") {
		if f := findFlag(l.flags(), strings.TrimLeft(name, "-")); f != nil {
			l.option = f.Names()[0]
		}
	}
	return l
}

func (l *completing) flags() []cli.Flag {
	if l.command == nil {
		return l.app.Flags
	}
	return l.command.Flags
}

// fits are the words that begin with what is being typed.
func (l *completing) fits(ctx context.Context) []string {
	all, before := []string(nil), ""
	switch name, _, inline := strings.Cut(l.word, "="); {
	case l.option != "" && inline && strings.HasPrefix(l.word, "--"):
		before = name + "="
		all = l.values(ctx, l.option)
	case l.option != "":
		all = l.values(ctx, l.option)
	case strings.HasPrefix(l.word, "-"):
		for _, f := range l.flags() {
			for _, n := range f.Names() {
				all = append(all, dashed(n))
			}
		}
		all = append(all, "--help")
	default:
		all = l.arguments(ctx)
	}
	slices.Sort(all)
	var out []string
	for _, one := range slices.Compact(all) {
		if strings.ContainsFunc(one, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
			continue // no shell completes that to one word
		}
		if one = before + one; strings.HasPrefix(one, l.word) {
			out = append(out, one)
		}
	}
	return out
}

// arguments are what may stand as the next argument.
func (l *completing) arguments(ctx context.Context) (out []string) {
	level := l.app.Commands
	if l.command != nil {
		level = l.command.Subcommands
	}
	if len(l.args) == 0 {
		for _, c := range level {
			if !c.Hidden {
				out = append(out, c.Name)
			}
		}
	}
	group, verb, _ := strings.Cut(l.path, " ")
	switch {
	case l.path == "consume", l.path == "produce", group == "perf" && verb != "", group == "topic" && verb != "create" && verb != "list" && verb != "", group == "partition" && verb != "":
		return append(out, l.names(ctx, topicNames)...)
	case group == "group" && verb != "" && verb != "list":
		return append(out, l.names(ctx, groupNames)...)
	case group == "broker" && verb != "" && verb != "list", group == "quorum" && verb != "" && verb != "status":
		return append(out, l.names(ctx, brokerNames)...)
	case group == "profile" && verb != "" && verb != "create" && verb != "list":
		return append(out, profileNames("")...)
	case l.path == "config explain":
		return append(append(slices.Collect(maps.Keys(configs.Broker)), slices.Collect(maps.Keys(configs.Topic))...), slices.Collect(maps.Keys(configs.Group))...)
	case l.path == "config set", l.path == "config unset":
		return l.settings(verb == "set")
	case l.path == "completion":
		return slices.Collect(maps.Keys(completions))
	case l.path == "dev snippet":
		return slices.Collect(maps.Keys(snippets))
	}
	return out
}

// settings are the keys of the resource that the options name; with value, each ends in =.
func (l *completing) settings(value bool) (out []string) {
	of := configs.Topic
	switch {
	case l.options["group"] != "":
		of = configs.Group
	case l.options["broker"] != "":
		of = configs.Broker
	}
	if _, all := l.options["all-brokers"]; all {
		of = configs.Broker
	}
	for name := range of {
		if value {
			name += "="
		}
		out = append(out, name)
	}
	return out
}

// values are what an option takes.
func (l *completing) values(ctx context.Context, option string) (out []string) {
	switch option {
	case "bootstrap-server":
		return profileNames("@")
	case "topic":
		if l.path != "dev" {
			return l.names(ctx, topicNames)
		}
	case "group":
		return l.names(ctx, groupNames)
	case "broker":
		return l.names(ctx, brokerNames)
	case "compression":
		return slices.Collect(maps.Keys(scripts.Codecs))
	case "acks":
		return []string{"0", "1", "all"}
	case "offset", "to", "before":
		return []string{"start", "end", "-1h"}
	case "log-level":
		return []string{"debug", "info", "warn", "error"}
	case "log-format":
		return []string{"text", "json"}
	case "config":
		for name := range configs.Topic {
			out = append(out, name+"=")
		}
	case "override":
		for name := range configs.Broker {
			out = append(out, name+"=")
		}
	}
	return out
}

func profileNames(before string) (out []string) {
	p, err := loadProfiles()
	if err != nil {
		return nil
	}
	for name := range p.Profiles {
		out = append(out, before+name)
	}
	return out
}

// names asks the cluster that the command would ask. Where it does not answer, there are none.
func (l *completing) names(ctx context.Context, of func(context.Context, *kadm.Client) []string) []string {
	ctx, cancel := context.WithTimeout(ctx, completePatience)
	defer cancel()
	set := flag.NewFlagSet("kraft", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	_ = bootstrapFlag().Apply(set)
	c := cli.NewContext(l.app, set, nil)
	c.Context = ctx
	if servers := l.options["bootstrap-server"]; servers != "" {
		_ = set.Set("bootstrap-server", servers)
	}
	client, err := newClient(c)
	if err != nil {
		return nil
	}
	defer client.Close()
	return of(ctx, kadm.NewClient(client))
}

func topicNames(ctx context.Context, admin *kadm.Client) []string {
	topics, _ := admin.ListTopics(ctx)
	return topics.Names()
}

func groupNames(ctx context.Context, admin *kadm.Client) []string {
	groups, _ := admin.ListGroups(ctx)
	return groups.Groups()
}

func brokerNames(ctx context.Context, admin *kadm.Client) (out []string) {
	brokers, _ := admin.ListBrokers(ctx)
	for _, b := range brokers {
		out = append(out, fmt.Sprint(b.NodeID))
	}
	return out
}
