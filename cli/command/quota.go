package command

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"

	"kraft/cli/ops"
	"kraft/raftmeta/image"
	"kraft/wire/quota"
)

// quotaNames are the quotas in the words of kraft quota, with Kafka's.
var quotaNames = []struct{ word, key string }{
	{"produce", quota.Keys[quota.Produce]}, {"fetch", quota.Keys[quota.Fetch]}, {"time", quota.Keys[quota.Request]}, {"mutations", quota.Keys[quota.Mutations]}, {"connections", image.ConnectionRate},
}

func quotaCommand() *cli.Command {
	who := func() []cli.Flag {
		return []cli.Flag{
			&cli.StringFlag{Name: "user", Usage: "a `USER`; '*' for each that has no quota of its own"},
			&cli.StringFlag{Name: "client", Usage: "a client `ID`, likewise; with --user, those of the user"},
			&cli.StringFlag{Name: "address", Usage: "an IP `ADDRESS`, likewise"},
		}
	}
	const whose = " [--user USER] [--client ID] [--address ADDRESS]"
	return &cli.Command{
		Name:  "quota",
		Usage: "show and change how much users, clients and addresses may take",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list quotas", UsageText: "kraft quota list" + whose,
				OnUsageError: usageError, Action: listQuotas, Flags: append([]cli.Flag{bootstrapFlag(), jsonFlag()}, who()...),
			},
			{
				Name: "set", Usage: "set quotas of a user, a client or an address", UsageText: "kraft quota set QUOTA=VALUE..." + whose,
				Description: `QUOTA is one of these, or Kafka's name of it. It holds on each broker.
produce      bytes of requests to produce per second, like 10MiB
fetch        bytes of answers to consumers per second, likewise
time         processor time for requests, in percent: 100 is one processor
mutations    partitions that are created or deleted per second
connections  connections that are opened per second, for --address`,
				OnUsageError: usageError, Action: withArguments(setQuotas), Flags: append([]cli.Flag{bootstrapFlag()}, who()...),
			},
			{
				Name: "remove", Usage: "remove quotas of a user, a client or an address", UsageText: "kraft quota remove [QUOTA]..." + whose,
				Description:  `Without a QUOTA it removes all that the user, client or address has.`,
				OnUsageError: usageError, Action: removeQuotas, Flags: slices.Concat([]cli.Flag{bootstrapFlag()}, who(), confirmFlags()),
			},
		},
	}
}

// quotaKey is Kafka's name of a quota.
func quotaKey(word string) (string, error) {
	var words []string
	for _, q := range quotaNames {
		if strings.EqualFold(word, q.word) || word == q.key {
			return q.key, nil
		}
		words = append(words, q.word)
	}
	return "", badUse("%s is no quota: it is %s", word, strings.Join(words, ", "))
}

// quotaOf is whom a command's flags name; it must name somebody.
func quotaOf(c *cli.Context) (ops.QuotaOf, error) {
	of := ops.QuotaOf{User: c.String("user"), Client: c.String("client"), Address: c.String("address")}
	switch {
	case of == ops.QuotaOf{}:
		return of, badUse("say whose: --user USER, --client ID or --address ADDRESS")
	case of.Address != "" && (of.User != "" || of.Client != ""):
		return of, badUse("--address stands alone: an address has quotas of its own")
	}
	return of, nil
}

// describe names a QuotaOf.
func describe(of ops.QuotaOf) string {
	name := func(kind, name string) string {
		if name == ops.Everybody {
			return "each " + kind + " without a quota of its own"
		}
		return kind + " " + name
	}
	switch {
	case of.Address != "":
		return name("address", of.Address)
	case of.User == "":
		return name("client", of.Client)
	case of.Client == "":
		return name("user", of.User)
	}
	return name("client", of.Client) + " of " + name("user", of.User)
}

// quotaValue reads a quota: a number, or with a unit for bytes.
func quotaValue(key, text string) (float64, error) {
	number := text
	if strings.HasSuffix(key, "_byte_rate") {
		number = inUnits("quota.bytes", text)
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v > 0) || math.IsInf(v, 1) {
		return 0, badUse("%s=%s: it is a number above 0", key, text)
	}
	return v, nil
}

type quotaLines []ops.Quota

func (l quotaLines) text(w io.Writer) error {
	rows := [][]any{{"USER", "CLIENT", "ADDRESS", "QUOTA", "VALUE"}}
	dash := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	for _, q := range l {
		for _, name := range quotaNames {
			v, ok := q.Values[name.key]
			if !ok {
				continue
			}
			value := strconv.FormatFloat(v, 'g', 10, 64)
			switch name.word {
			case "produce", "fetch":
				if v < 1<<62 { // as an int64, too
					value = size(int64(v))
				}
				value += "/s"
			case "time":
				value += " %"
			default:
				value += "/s"
			}
			rows = append(rows, []any{dash(q.User), dash(q.Client), dash(q.Address), name.word, value})
		}
	}
	return table(w, rows)
}

func listQuotas(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	wanted := ops.QuotaOf{User: c.String("user"), Client: c.String("client"), Address: c.String("address")}
	is := func(have, want string) bool { return want == "" || have == want }
	return withClient(c, func(cl *kgo.Client) error {
		list, err := ops.Quotas(c.Context, cl)
		list = slices.DeleteFunc(list, func(q ops.Quota) bool {
			return !is(q.User, wanted.User) || !is(q.Client, wanted.Client) || !is(q.Address, wanted.Address)
		})
		return show(c, quotaLines(list), err)
	})
}

func setQuotas(c *cli.Context, args []string) error {
	of, err := quotaOf(c)
	if err != nil {
		return err
	}
	set := map[string]float64{}
	for _, arg := range args {
		word, text, ok := strings.Cut(arg, "=")
		if !ok {
			return badUse("%s: write it as QUOTA=VALUE, like produce=10MiB", arg)
		}
		key, err := quotaKey(word)
		if err != nil {
			return err
		}
		if set[key], err = quotaValue(key, text); err != nil {
			return err
		}
	}
	return withClient(c, func(cl *kgo.Client) error {
		if err := ops.SetQuotas(c.Context, cl, of, set, nil); err != nil {
			return err
		}
		return quotaLines([]ops.Quota{{QuotaOf: of, Values: set}}).text(c.App.Writer)
	})
}

func removeQuotas(c *cli.Context) error {
	args, err := interspersed(c)
	if err != nil {
		return err
	}
	of, err := quotaOf(c)
	if err != nil {
		return err
	}
	var keys []string
	for _, word := range args {
		key, err := quotaKey(word)
		if err != nil {
			return err
		}
		keys = append(keys, key)
	}
	return withClient(c, func(cl *kgo.Client) error {
		list, err := ops.Quotas(c.Context, cl)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(q ops.Quota) bool { return q.QuotaOf == of })
		if i < 0 {
			return fmt.Errorf("%s has no quotas: kraft quota list shows what there is", describe(of))
		}
		if len(keys) == 0 {
			keys = slices.Sorted(maps.Keys(list[i].Values))
		}
		for _, key := range keys {
			if _, ok := list[i].Values[key]; !ok {
				return fmt.Errorf("%s has no %s: kraft quota list shows what there is", describe(of), key)
			}
		}
		gone := "of " + describe(of) + ": " + strings.Join(keys, ", ")
		ok, err := confirm(c, func() ([]string, error) { return []string{"remove the quotas " + gone}, nil })
		if err != nil || !ok {
			return err
		}
		if err := ops.SetQuotas(c.Context, cl, of, nil, keys); err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.App.Writer, "removed the quotas "+gone)
		return err
	})
}
