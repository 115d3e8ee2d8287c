package scripts

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/cli/config"
	"kraft/wire/ident"
)

var logDirsScript = script{
	about:   "describe the brokers' log directories",
	options: slices.Concat(connection, flags("describe"), valued("broker-list", "topic-list")),
	run:     logDirs,
}

// describedDirs is what kafka-log-dirs prints, in its order.
type describedDirs struct {
	Brokers []describedBroker `json:"brokers"`
	Version int               `json:"version"`
}

type describedBroker struct {
	Broker  int32          `json:"broker"`
	LogDirs []describedDir `json:"logDirs"`
}

type describedDir struct {
	Partitions []describedReplica `json:"partitions"`
	Error      *string            `json:"error"`
	LogDir     string             `json:"logDir"`
}

type describedReplica struct {
	Partition string `json:"partition"`
	Size      int64  `json:"size"`
	OffsetLag int64  `json:"offsetLag"`
	IsFuture  bool   `json:"isFuture"`
}

func logDirs(c *call) error {
	if !c.has("describe") {
		return errors.New("command must include exactly one action: --describe")
	}
	var brokers []int32
	for _, text := range strings.FieldsFunc(c.get("broker-list", ""), func(r rune) bool { return r == ',' }) {
		id, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32)
		if err != nil {
			return fmt.Errorf("%q is no broker id", text)
		}
		brokers = append(brokers, int32(id))
	}
	topics := strings.FieldsFunc(c.get("topic-list", ""), func(r rune) bool { return r == ',' })
	return c.admin(func(admin *kadm.Client) error {
		known, err := admin.ListBrokers(c.ctx)
		if err != nil {
			return err
		}
		if brokers == nil {
			brokers = known.NodeIDs()
		}
		for _, id := range brokers {
			if !slices.Contains(known.NodeIDs(), id) {
				return fmt.Errorf("ERROR: The given brokers do not exist from --broker-list: %d. Current existent brokers: %s", id, join(known.NodeIDs()))
			}
		}
		slices.Sort(brokers)
		fmt.Fprintln(c.out, "Querying brokers for log directories information")
		all, err := admin.DescribeAllLogDirs(c.ctx, nil)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.out, "Received log directory information from brokers %s\n", join(brokers))
		out := describedDirs{Version: 1, Brokers: []describedBroker{}}
		for _, id := range brokers {
			b := describedBroker{Broker: id, LogDirs: []describedDir{}}
			for _, d := range all[id].Sorted() {
				dir := describedDir{LogDir: d.Dir, Partitions: []describedReplica{}}
				if d.Err != nil {
					text := javaError(d.Err)
					dir.Error = &text
				}
				for _, p := range d.Topics.Sorted() {
					if topics == nil || slices.Contains(topics, p.Topic) {
						dir.Partitions = append(dir.Partitions, describedReplica{fmt.Sprintf("%s-%d", p.Topic, p.Partition), p.Size, p.OffsetLag, p.IsFuture})
					}
				}
				b.LogDirs = append(b.LogDirs, dir)
			}
			out.Brokers = append(out.Brokers, b)
		}
		return json.NewEncoder(c.out).Encode(out)
	})
}

var leaderElectionScript = script{
	about:   "elect the preferred leaders of partitions, or leaders that may lack records",
	options: slices.Concat(connection, zooKeeper, valued("election-type", "topic", "partition", "path-to-json-file"), flags("all-topic-partitions")),
	run:     leaderElection,
}

func leaderElection(c *call) error {
	how := kadm.ElectPreferredReplica
	switch strings.ToLower(c.get("election-type", "")) {
	case "preferred":
	case "unclean":
		how = kadm.ElectLiveReplica
	default:
		return fmt.Errorf("Missing required option(s), or an unknown one: --election-type is preferred or unclean, not %q", c.get("election-type", ""))
	}
	if _, err := c.one("topic", "path-to-json-file", "all-topic-partitions"); err != nil {
		return err
	}
	set, err := c.electable()
	if err != nil {
		return err
	}
	return c.admin(func(admin *kadm.Client) error {
		results, err := admin.ElectLeaders(c.ctx, how, set)
		if err != nil {
			return err
		}
		return c.elected(strings.ToUpper(c.get("election-type", "")), results)
	})
}

var preferredElectionScript = script{
	about:   "elect the preferred leaders of partitions: kafka-leader-election --election-type preferred under its old name",
	options: slices.Concat(connection, zooKeeper, []option{{name: "path-to-json-file"}}, []option{{name: "admin.config", aliases: []string{"admin-config"}}}),
	run: func(c *call) error {
		c.values["election-type"] = []string{"preferred"}
		if !c.has("path-to-json-file") {
			c.values["all-topic-partitions"] = []string{""}
		}
		return leaderElection(c)
	},
}

// electable are the partitions to elect leaders of, nil for all.
func (c *call) electable() (kadm.TopicsSet, error) {
	set := kadm.TopicsSet{}
	switch {
	case c.has("all-topic-partitions"):
		return nil, nil
	case c.has("topic"):
		n, err := strconv.ParseInt(c.get("partition", ""), 10, 32)
		if err != nil {
			return nil, errors.New("Missing required option(s): --partition is the partition's number")
		}
		set.Add(c.get("topic", ""), int32(n))
		return set, nil
	}
	data, err := config.ReadText(c.get("path-to-json-file", ""))
	if err != nil {
		return nil, err
	}
	var file struct {
		Partitions []struct {
			Topic     string
			Partition int32
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("%s is no JSON of partitions: %w", c.get("path-to-json-file", ""), err)
	}
	for _, p := range file.Partitions {
		set.Add(p.Topic, p.Partition)
	}
	return set, nil
}

func (c *call) elected(how string, results kadm.ElectLeadersResults) error {
	all := map[ident.TopicPartition]kadm.ElectLeadersResult{}
	for topic, partitions := range results {
		for n, r := range partitions {
			all[ident.TopicPartition{Topic: topic, Partition: n}] = r
		}
	}
	var done, needless, failed []string
	for _, p := range sorted(all) {
		name := p.String()
		switch r := all[p]; {
		case r.Err == nil:
			done = append(done, name)
		case errors.Is(r.Err, kerr.ElectionNotNeeded):
			needless = append(needless, name)
		default:
			err := r.Err
			if r.ErrMessage != "" {
				err = fmt.Errorf("%s: %w", r.ErrMessage, r.Err)
			}
			failed = append(failed, fmt.Sprintf("Error completing leader election (%s) for partition: %s: %s", how, name, javaError(err)))
		}
	}
	if done != nil {
		fmt.Fprintf(c.out, "Successfully completed leader election (%s) for partitions %s\n", how, strings.Join(done, ", "))
	}
	if needless != nil && !c.has("all-topic-partitions") {
		fmt.Fprintf(c.out, "Valid replica already elected for partitions %s\n", strings.Join(needless, ", "))
	}
	if failed == nil {
		return nil
	}
	fmt.Fprintln(c.out, strings.Join(failed, "\n"))
	fmt.Fprintf(c.errOut, "%d replica(s) could not be elected\n", len(failed))
	return statusError(1)
}
