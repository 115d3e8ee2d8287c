package cli

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/urfave/cli/v2"

	"kraft/cli/scripts"
	"kraft/raftmeta/image"
)

func quorumCommand() *cli.Command {
	return &cli.Command{
		Name:  "quorum",
		Usage: "show the nodes that keep the cluster's metadata, and change which of them vote",
		Subcommands: []*cli.Command{
			{
				Name: "status", Usage: "show leader, voters and learners, and how far behind they are", UsageText: "kraft quorum status",
				OnUsageError: usageError, Action: quorumStatus, Flags: []cli.Flag{bootstrapFlag(), jsonFlag()},
			},
			{
				Name: "add", Usage: "make a learner, which joined by --join, a voter", UsageText: "kraft quorum add NODE",
				OnUsageError: usageError, Action: withArguments(addVoter), Flags: []cli.Flag{bootstrapFlag()},
			},
			{
				Name: "remove", Usage: "make a voter a learner again, or forget it if it does not run", UsageText: "kraft quorum remove NODE",
				OnUsageError: usageError, Action: withArguments(removeVoter), Flags: []cli.Flag{bootstrapFlag()},
			},
		},
	}
}

// quorumDescription is what quorum status tells.
type quorumDescription struct {
	Cluster       string         `json:"cluster"`
	Leader        int32          `json:"leader"` // -1 for none
	Term          int32          `json:"term"`
	HighWatermark int64          `json:"high_watermark"`
	Members       []quorumMember `json:"members"`
}

type quorumMember struct {
	Node      int32  `json:"node"`
	Role      string `json:"role"` // leader, voter or learner
	Directory string `json:"directory"`
	directory [16]byte
	Address   string `json:"address,omitempty"`
	End       int64  `json:"end_offset"`
	Lag       int64  `json:"lag"`
	CaughtUp  int64  `json:"last_caught_up"` // milliseconds since 1970, -1 if not known
}

func (d *quorumDescription) text(w io.Writer) error {
	fmt.Fprintf(w, "cluster %s  leader %d  term %d  high watermark %d\n", d.Cluster, d.Leader, d.Term, d.HighWatermark)
	rows := [][]any{{"NODE", "ROLE", "ADDRESS", "END", "LAG", "CAUGHT UP"}}
	for _, m := range d.Members {
		seen := "-"
		if m.CaughtUp >= 0 {
			seen = fmt.Sprintf("%v ago", max(time.Since(time.UnixMilli(m.CaughtUp)), 0).Round(time.Millisecond))
		}
		rows = append(rows, []any{m.Node, m.Role, orDash(m.Address), m.End, m.Lag, seen})
	}
	return table(w, rows)
}

func withClient(c *cli.Context, f func(*kgo.Client) error) error {
	client, err := newClient(c)
	if err != nil {
		return err
	}
	defer client.Close()
	return withoutController(c, client, f(client))
}

// describeQuorum asks for the quorum's state.
func describeQuorum(c *cli.Context, client *kgo.Client) (*quorumDescription, error) {
	resp, q, err := scripts.Quorum(c.Context, client)
	if err != nil {
		return nil, explain(err, "")
	}
	cluster, err := kmsg.NewPtrDescribeClusterRequest().RequestWith(c.Context, client)
	if err != nil {
		return nil, err
	}
	d := &quorumDescription{Cluster: cluster.ClusterID, Leader: q.LeaderID, Term: q.LeaderEpoch, HighWatermark: q.HighWatermark, Members: []quorumMember{}}
	end := q.HighWatermark
	for _, r := range q.CurrentVoters {
		if r.ReplicaID == q.LeaderID {
			end = r.LogEndOffset
		}
	}
	add := func(members []kmsg.DescribeQuorumResponseTopicPartitionReplicaState, role string) {
		for _, r := range members {
			m := quorumMember{Node: r.ReplicaID, Role: role, Directory: image.EncodeUUID(r.ReplicaDirectoryID), directory: r.ReplicaDirectoryID, End: r.LogEndOffset, Lag: max(end-r.LogEndOffset, 0), CaughtUp: r.LastCaughtUpTimestamp}
			if r.ReplicaID == q.LeaderID {
				m.Role = "leader"
			}
			for _, n := range resp.Nodes {
				if n.NodeID == r.ReplicaID && len(n.Listeners) > 0 {
					m.Address = fmt.Sprintf("%s:%d", n.Listeners[0].Host, n.Listeners[0].Port)
				}
			}
			d.Members = append(d.Members, m)
		}
	}
	add(q.CurrentVoters, "voter")
	add(q.Observers, "learner")
	return d, nil
}

func quorumStatus(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withClient(c, func(client *kgo.Client) error {
		d, err := describeQuorum(c, client)
		if err != nil {
			return err
		}
		return tell(c, d)
	})
}

// member finds a node of the quorum by the one argument of a command.
func member(c *cli.Context, client *kgo.Client, args []string) (*quorumMember, error) {
	id, err := nodeArgument(c, args)
	if err != nil {
		return nil, err
	}
	d, err := describeQuorum(c, client)
	if err != nil {
		return nil, err
	}
	var known []string
	for i := range d.Members {
		if d.Members[i].Node == id {
			return &d.Members[i], nil
		}
		known = append(known, fmt.Sprint(d.Members[i].Node))
	}
	return nil, fmt.Errorf("node %d is not in the quorum, which has %s: start it with --join first", id, strings.Join(known, ", "))
}

// nodeArgument is the node's id that a command takes.
func nodeArgument(c *cli.Context, args []string) (int32, error) {
	if len(args) != 1 {
		return 0, badUse("%s takes one node's id: %s", c.Command.HelpName, c.Command.UsageText)
	}
	id, err := strconv.ParseInt(args[0], 10, 32)
	if err != nil || id < 0 {
		return 0, badUse("%q is no node's id: %s", args[0], c.Command.UsageText)
	}
	return int32(id), nil
}

func addVoter(c *cli.Context, args []string) error {
	return withClient(c, func(client *kgo.Client) error {
		m, err := member(c, client, args)
		if err != nil {
			return err
		}
		if m.Role != "learner" {
			fmt.Fprintf(c.App.Writer, "node %d votes already\n", m.Node)
			return nil
		}
		req := kmsg.NewPtrAddRaftVoterRequest()
		req.VoterID, req.VoterDirectoryID, req.TimeoutMillis = m.Node, m.directory, 30_000
		resp, err := req.RequestWith(c.Context, client)
		if err != nil {
			return err
		}
		if err := answered(resp.ErrorCode, resp.ErrorMessage); err != nil {
			return err
		}
		fmt.Fprintf(c.App.Writer, "node %d votes now\n", m.Node)
		return nil
	})
}

func removeVoter(c *cli.Context, args []string) error {
	return withClient(c, func(client *kgo.Client) error {
		m, err := member(c, client, args)
		if err != nil {
			return err
		}
		if m.Role == "learner" {
			fmt.Fprintf(c.App.Writer, "node %d does not vote\n", m.Node)
			return nil
		}
		req := kmsg.NewPtrRemoveRaftVoterRequest()
		req.VoterID, req.VoterDirectoryID = m.Node, m.directory
		resp, err := req.RequestWith(c.Context, client)
		if err != nil {
			return err
		}
		if err := answered(resp.ErrorCode, resp.ErrorMessage); err != nil {
			return err
		}
		fmt.Fprintf(c.App.Writer, "node %d votes no more\n", m.Node)
		return nil
	})
}

// answered makes one sentence of what a broker answered, nil for success.
func answered(code int16, message *string) error {
	text := ""
	if message != nil {
		text = *message
	}
	return explain(kerr.ErrorForCode(code), text)
}

func isNeedless(err error) bool { return errors.Is(err, kerr.ElectionNotNeeded) }
