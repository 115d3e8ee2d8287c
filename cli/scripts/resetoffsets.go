package scripts

import (
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"kraft/wire/ident"
)

func sorted[V any](m map[ident.TopicPartition]V) []ident.TopicPartition {
	return slices.SortedFunc(maps.Keys(m), ident.TopicPartition.Compare)
}

// partitions are those of --topic (a topic, or topic:0,1), or with --all-topics those that a group has offsets of.
func (g *groupsCall) partitions(group string) (map[ident.TopicPartition]bool, error) {
	out := map[ident.TopicPartition]bool{}
	if g.has("all-topics") {
		commits, err := g.cluster.FetchOffsets(g.ctx, group)
		commits.Each(func(o kadm.OffsetResponse) { out[ident.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = true })
		return out, err
	}
	if !g.has("topic") {
		return nil, errors.New("One of the reset scopes should be defined: --all-topics, --topic.")
	}
	for _, arg := range g.all("topic") {
		name, numbers, some := strings.Cut(arg, ":")
		if some {
			for _, text := range strings.Split(numbers, ",") {
				n, err := strconv.ParseInt(text, 10, 32)
				if err != nil {
					return nil, fmt.Errorf("Invalid partition '%s' in '%s'", text, arg)
				}
				out[ident.TopicPartition{Topic: name, Partition: int32(n)}] = true
			}
			continue
		}
		topics, err := g.cluster.ListTopicsWithInternal(g.ctx, name)
		if err != nil {
			return nil, err
		}
		if d := topics[name]; d.Err != nil {
			return nil, d.Err
		}
		for n := range topics[name].Partitions {
			out[ident.TopicPartition{Topic: name, Partition: n}] = true
		}
	}
	return out, nil
}

// offsets asks for the offsets of partitions at a time, or at -1 the end, -2 the start. Where there are none later, it is the end.
func (g *groupsCall) offsets(wanted map[ident.TopicPartition]bool, at int64) (map[ident.TopicPartition]int64, error) {
	topics := map[string]bool{}
	for p := range wanted {
		topics[p.Topic] = true
	}
	names := slices.Sorted(maps.Keys(topics))
	var listed kadm.ListedOffsets
	var err error
	switch at {
	case -1:
		listed, err = g.cluster.ListEndOffsets(g.ctx, names...)
	case -2:
		listed, err = g.cluster.ListStartOffsets(g.ctx, names...)
	default:
		listed, err = g.cluster.ListOffsetsAfterMilli(g.ctx, at, names...)
	}
	out := map[ident.TopicPartition]int64{}
	listed.Each(func(o kadm.ListedOffset) {
		if p := (ident.TopicPartition{Topic: o.Topic, Partition: o.Partition}); wanted[p] && o.Err == nil {
			out[p] = o.Offset
		}
	})
	return out, err
}

// reset sets offsets of groups that have no members.
func (g *groupsCall) reset() error {
	names, err := g.names()
	if err != nil {
		return err
	}
	how, err := g.one("to-earliest", "to-latest", "to-current", "to-offset", "to-datetime", "by-duration", "shift-by", "from-file")
	if err != nil {
		return err
	}
	if !g.has("execute") && !g.has("dry-run") && !g.has("export") {
		fmt.Fprintln(g.errOut, "WARN: No action will be performed as the --execute option is missing. In a future major release, the default behavior of this command will be to prompt the user before executing the reset rather than doing a dry run. You should add the --dry-run option explicitly if you are scripting this command and want to keep the current default behavior without prompting.")
	}
	type target struct {
		group string
		at    map[ident.TopicPartition]int64
	}
	var targets []target
	for _, name := range names {
		d, err := g.cluster.DescribeGroups(g.ctx, name)
		if err != nil {
			return err
		}
		if state := d[name].State; state != "Empty" && state != "Dead" {
			return fmt.Errorf("Assignments can only be reset if the group '%s' is inactive, but the current state is %s.", name, state)
		}
		at, err := g.targets(name, how)
		if err != nil {
			return err
		}
		targets = append(targets, target{name, at})
	}
	if g.has("execute") {
		for _, t := range targets {
			offsets := kadm.Offsets{}
			for p, o := range t.at {
				offsets.AddOffset(p.Topic, p.Partition, o, -1)
			}
			resp, err := g.cluster.CommitOffsets(g.ctx, t.group, offsets)
			if err == nil {
				err = resp.Error()
			}
			if err != nil {
				return err
			}
		}
	}
	if g.has("export") {
		for _, t := range targets {
			for _, p := range sorted(t.at) {
				if len(names) > 1 {
					fmt.Fprintf(g.out, "%s,", t.group)
				}
				fmt.Fprintf(g.out, "%s,%d,%d\n", p.Topic, p.Partition, t.at[p])
			}
		}
		fmt.Fprintln(g.out)
		return nil
	}
	fmt.Fprintf(g.out, "\n%-30s %-30s %-10s %-15s\n", "GROUP", "TOPIC", "PARTITION", "NEW-OFFSET")
	for _, t := range targets {
		for _, p := range sorted(t.at) {
			fmt.Fprintf(g.out, "%-30s %-30s %-10d %-15d\n", t.group, p.Topic, p.Partition, t.at[p])
		}
	}
	return nil
}

// targets are the offsets that a group is to have, none before a log's start or behind its end.
func (g *groupsCall) targets(group, how string) (map[ident.TopicPartition]int64, error) {
	if how == "from-file" {
		return g.fromFile(group)
	}
	wanted, err := g.partitions(group)
	if err != nil {
		return nil, err
	}
	starts, err := g.offsets(wanted, -2)
	if err != nil {
		return nil, err
	}
	ends, err := g.offsets(wanted, -1)
	if err != nil {
		return nil, err
	}
	commits, err := g.cluster.FetchOffsets(g.ctx, group)
	if err != nil {
		return nil, err
	}
	current := func(p ident.TopicPartition) (int64, bool) {
		o, ok := commits.Lookup(p.Topic, p.Partition)
		return o.At, ok && o.At >= 0
	}
	var pick func(ident.TopicPartition) (int64, error)
	switch how {
	case "to-earliest":
		return starts, nil
	case "to-latest":
		return ends, nil
	case "to-current":
		pick = func(p ident.TopicPartition) (int64, error) {
			if at, ok := current(p); ok {
				return at, nil
			}
			return ends[p], nil
		}
	case "to-offset", "shift-by":
		n, err := g.number(how, 0)
		if err != nil {
			return nil, err
		}
		pick = func(p ident.TopicPartition) (int64, error) {
			if how == "to-offset" {
				return n, nil
			}
			at, ok := current(p)
			if !ok {
				return 0, fmt.Errorf("Cannot shift offset for partition %v since there is no current committed offset", p)
			}
			return at + n, nil
		}
	default:
		at, err := g.moment(how)
		if err != nil {
			return nil, err
		}
		found, err := g.offsets(wanted, at.UnixMilli())
		if err != nil {
			return nil, err
		}
		pick = func(p ident.TopicPartition) (int64, error) { return found[p], nil }
	}
	out := map[ident.TopicPartition]int64{}
	for p := range wanted {
		at, err := pick(p)
		if err != nil {
			return nil, err
		}
		if bounded := max(starts[p], min(ends[p], at)); bounded != at {
			fmt.Fprintf(g.errOut, "WARN: New offset (%d) is out of range for topic partition %v. Value will be set to %d\n", at, p, bounded)
			at = bounded
		}
		out[p] = at
	}
	return out, nil
}

// moment is the time of --to-datetime, or --by-duration ago.
func (g *groupsCall) moment(how string) (time.Time, error) {
	text := g.get(how, "")
	if how == "to-datetime" {
		for _, layout := range []string{"2006-01-02T15:04:05.000Z07:00", "2006-01-02T15:04:05.000-0700", "2006-01-02T15:04:05.000"} {
			if t, err := time.Parse(layout, text); err == nil {
				return t, nil
			}
		}
		return time.Time{}, fmt.Errorf("%s is no date and time of the form YYYY-MM-DDThh:mm:ss.sss", text)
	}
	m := duration.FindStringSubmatch(text)
	if m == nil || text == "P" {
		return time.Time{}, fmt.Errorf("%s is no duration of the form PnDTnHnMnS", text)
	}
	var d time.Duration
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if m[i+1] != "" {
			n, err := strconv.ParseInt(m[i+1], 10, 32)
			if err != nil {
				return time.Time{}, fmt.Errorf("%s is too long", text)
			}
			d += time.Duration(n) * unit
		}
	}
	return time.Now().Add(-d), nil
}

var duration = regexp.MustCompile(`^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$`)

// fromFile reads what --export prints: topic,partition,offset, or with the group before them.
func (g *groupsCall) fromFile(group string) (map[ident.TopicPartition]int64, error) {
	file, err := os.Open(g.get("from-file", ""))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	r := csv.NewReader(file)
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil {
		return nil, err
	}
	out := map[ident.TopicPartition]int64{}
	for _, row := range rows {
		if len(row) == 4 {
			if row[0] != group {
				continue
			}
			row = row[1:]
		}
		if len(row) != 3 {
			return nil, fmt.Errorf("%s: %s is not of the form topic,partition,offset", g.get("from-file", ""), strings.Join(row, ","))
		}
		n, err := strconv.ParseInt(row[1], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%s is no partition", row[1])
		}
		offset, err := strconv.ParseInt(row[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s is no offset", row[2])
		}
		out[ident.TopicPartition{Topic: row[0], Partition: int32(n)}] = offset
	}
	return out, nil
}
