package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/urfave/cli/v2"

	"kraft/cli/scripts"
	"kraft/raftmeta/tags"
)

func brokerCommand() *cli.Command {
	return &cli.Command{
		Name:  "broker",
		Usage: "list brokers, take them out of a cluster, change what they log",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list brokers, also those that do not run", UsageText: "kraft broker list",
				Description: `STATE is one of:

   running    serves clients
   starting   opens its logs, which takes long after a crash, and serves nobody yet
   disk full  producers are refused there, and other brokers lead
   fenced     runs, but a disk of it does not answer, or it stops: other brokers lead
   down       does not run, or the controller does not reach it
   no answer  not known, since the quorum has no leader`,
				OnUsageError: usageError, Action: listBrokers, Flags: []cli.Flag{bootstrapFlag(), jsonFlag()},
			},
			{
				Name: "drain", Usage: "move everything off a broker, so that it can be stopped for good", UsageText: "kraft broker drain N [--dry-run]",
				OnUsageError: usageError, Flags: moveFlags(), Action: withArguments(drain),
			},
			{
				Name: "remove", Usage: "forget a broker that is stopped for good and holds nothing", UsageText: "kraft broker remove N",
				OnUsageError: usageError, Flags: []cli.Flag{bootstrapFlag()}, Action: withArguments(removeBroker),
			},
			{
				Name: "log-level", Usage: "show or set how much the parts of a broker log", UsageText: "kraft broker log-level N [LOGGER=LEVEL]...",
				Description: `LEVEL is TRACE, DEBUG, INFO, WARN, ERROR or FATAL; LOGGER is what it lists, or the word behind component= in lines of the log.
It counts until the broker stops.

   kraft broker log-level 1 requests=DEBUG`,
				OnUsageError: usageError, Flags: []cli.Flag{bootstrapFlag(), jsonFlag()}, Action: withArguments(logLevels),
			},
		},
	}
}

// brokerLine is a line of broker list.
type brokerLine struct {
	Broker   int32   `json:"broker"`
	Address  string  `json:"address"`
	Rack     *string `json:"rack"`
	State    string  `json:"state"` // as kraft broker list --help says
	Replicas int     `json:"replicas"`
	Leads    int     `json:"leads"`
	Bytes    int64   `json:"bytes"` // of its logs, -1 where they cannot be asked for
}

type brokerLines []brokerLine

func (l brokerLines) text(w io.Writer) error {
	rows := [][]any{{"BROKER", "ADDRESS", "RACK", "STATE", "REPLICAS", "LEADS", "BYTES"}}
	for _, b := range l {
		rack, size := "-", "-"
		if b.Rack != nil {
			rack = orDash(*b.Rack)
		}
		if b.Bytes >= 0 {
			size = fmt.Sprint(b.Bytes)
		}
		rows = append(rows, []any{b.Broker, b.Address, rack, b.State, b.Replicas, b.Leads, size})
	}
	return table(w, rows)
}

func listBrokers(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withClient(c, func(client *kgo.Client) error {
		out, err := lookAtBrokers(c, client)
		if err != nil {
			return err
		}
		return tell(c, out)
	})
}

// lookAtBrokers lists the brokers.
func lookAtBrokers(c *cli.Context, client *kgo.Client) (brokerLines, error) {
	admin := kadm.NewClient(client)
	cluster, states, err := brokerStates(c.Context, client)
	if err != nil {
		return nil, err
	}
	topics, err := admin.ListTopicsWithInternal(c.Context)
	if err != nil {
		return nil, err
	}
	_, held, leads := spread(topics)
	dirs, _ := admin.DescribeAllLogDirs(c.Context, nil) // of those that run
	out := brokerLines{}
	for _, b := range cluster.Brokers {
		line := brokerLine{Broker: b.NodeID, Address: fmt.Sprintf("%s:%d", b.Host, b.Port), Rack: b.Rack, State: states[b.NodeID], Replicas: held[b.NodeID], Leads: leads[b.NodeID], Bytes: -1}
		d, answers := dirs[b.NodeID]
		if cluster.ControllerID < 0 && !answers { // nobody fences it
			line.State = noAnswer
		}
		if answers {
			line.Bytes = 0
			d.EachPartition(func(p kadm.DescribedLogDirPartition) { line.Bytes += p.Size })
		}
		out = append(out, line)
	}
	slices.SortFunc(out, func(a, b brokerLine) int { return int(a.Broker - b.Broker) })
	return out, nil
}

// The states of brokers; kraft broker list --help says what they mean.
const (
	running  = "running"
	starting = "starting"
	diskFull = "disk full"
	fenced   = "fenced"
	down     = "down"
	noAnswer = "no answer"
)

// brokerStates asks a cluster for all its brokers, and what state each is in.
func brokerStates(ctx context.Context, client *kgo.Client) (*kmsg.DescribeClusterResponse, map[int32]string, error) {
	req := kmsg.NewPtrDescribeClusterRequest()
	req.IncludeFencedBrokers = true
	cluster, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, nil, err
	}
	if err := answered(cluster.ErrorCode, cluster.ErrorMessage); err != nil {
		return nil, nil, err
	}
	alive := func(int32) bool { return false }
	if slices.ContainsFunc(cluster.Brokers, func(b kmsg.DescribeClusterResponseBroker) bool { return b.IsFenced }) && cluster.ControllerID >= 0 {
		if _, q, err := scripts.Quorum(ctx, client); err == nil {
			alive = heardFrom(q)
		}
	}
	states := map[int32]string{}
	for _, b := range cluster.Brokers {
		switch {
		case b.IsFenced && !alive(b.NodeID):
			states[b.NodeID] = down
		case b.IsFenced && tags.Starting(&b):
			states[b.NodeID] = starting
		case b.IsFenced:
			states[b.NodeID] = fenced
		case tags.DiskFull(&b):
			states[b.NodeID] = diskFull
		default:
			states[b.NodeID] = running
		}
	}
	return cluster, states, nil
}

// silence is how much longer than of the others nothing has been heard of a broker that counts as down.
const silence = 3 * time.Second

// heardFrom tells which nodes the controller hears from, by its description of the quorum.
func heardFrom(q *kmsg.DescribeQuorumResponseTopicPartition) func(node int32) bool {
	at, newest := map[int32]int64{}, int64(-1)
	for _, r := range slices.Concat(q.CurrentVoters, q.Observers) {
		at[r.ReplicaID] = r.LastFetchTimestamp
		newest = max(newest, r.LastFetchTimestamp)
	}
	return func(node int32) bool {
		t, known := at[node]
		return known && t >= 0 && newest-t < silence.Milliseconds()
	}
}

func removeBroker(c *cli.Context, args []string) error {
	id, err := nodeArgument(c, args)
	if err != nil {
		return err
	}
	return withClient(c, func(client *kgo.Client) error {
		brokers, err := lookAtBrokers(c, client)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(brokers, func(b brokerLine) bool { return b.Broker == id })
		switch {
		case i < 0:
			return fmt.Errorf("there is no broker %d", id)
		case brokers[i].State != down:
			return fmt.Errorf("broker %d runs, and would register again: drain it (kraft broker drain %d) and stop it first", id, id)
		case brokers[i].Replicas > 0:
			return fmt.Errorf("broker %d holds %d replicas, which would have no place: move them first (kraft broker drain %d)", id, brokers[i].Replicas, id)
		}
		req := kmsg.NewPtrUnregisterBrokerRequest()
		req.BrokerID = id
		resp, err := req.RequestWith(c.Context, client)
		if err != nil {
			return err
		}
		if err := answered(resp.ErrorCode, resp.ErrorMessage); err != nil {
			return err
		}
		fmt.Fprintf(c.App.Writer, "forgot broker %d\n", id)
		return nil
	})
}

// loggerLevels are what broker log-level tells.
type loggerLevels map[string]string

func (l loggerLevels) text(w io.Writer) error {
	rows := [][]any{{"LOGGER", "LEVEL"}}
	for _, name := range sortedKeys(l) {
		rows = append(rows, []any{name, l[name]})
	}
	return table(w, rows)
}

// brokerLogger is the kind of resource that a broker's loggers are.
const brokerLogger = kmsg.ConfigResourceTypeBrokerLogger

func logLevels(c *cli.Context, args []string) error {
	id, err := nodeArgument(c, args[:1])
	if err != nil {
		return err
	}
	changes := kmsg.NewIncrementalAlterConfigsRequestResource()
	changes.ResourceType, changes.ResourceName = brokerLogger, fmt.Sprint(id)
	for _, text := range args[1:] {
		name, level, ok := strings.Cut(text, "=")
		if !ok {
			return badUse("%s takes LOGGER=LEVEL, got %q", c.Command.HelpName, text)
		}
		level = strings.ToUpper(level)
		changes.Configs = append(changes.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: name, Value: &level})
	}
	return withClient(c, func(client *kgo.Client) error {
		if len(changes.Configs) > 0 {
			req := kmsg.NewPtrIncrementalAlterConfigsRequest()
			req.Resources = append(req.Resources, changes)
			resp, err := client.Broker(int(id)).RetriableRequest(c.Context, req)
			if err != nil {
				return fmt.Errorf("broker %d: %w", id, err)
			}
			for _, r := range resp.(*kmsg.IncrementalAlterConfigsResponse).Resources {
				if err := answered(r.ErrorCode, r.ErrorMessage); err != nil {
					return err
				}
			}
		}
		req := kmsg.NewPtrDescribeConfigsRequest()
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = brokerLogger, fmt.Sprint(id)
		req.Resources = append(req.Resources, r)
		resp, err := client.Broker(int(id)).RetriableRequest(c.Context, req)
		if err != nil {
			return fmt.Errorf("broker %d: %w", id, err)
		}
		out := loggerLevels{}
		for _, r := range resp.(*kmsg.DescribeConfigsResponse).Resources {
			if err := answered(r.ErrorCode, r.ErrorMessage); err != nil {
				return err
			}
			for _, l := range r.Configs {
				out[l.Name] = orNull(l.Value)
			}
		}
		return tell(c, out)
	})
}
