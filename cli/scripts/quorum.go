package scripts

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/cli/config"
	"kraft/cli/ops"
)

var metadataQuorumScript = script{
	about: "describe the metadata quorum (describe --status or --replication), add and remove its voters (add-controller, remove-controller)",
	options: slices.Concat([]option{{name: "bootstrap-server"}, {name: "bootstrap-controller"}, {name: "command-config"}}, flags("status", "dry-run"),
		[]option{{name: "replication", flag: true, aliases: []string{"re"}}, {name: "human-readable", flag: true, aliases: []string{"hr"}}},
		[]option{{name: "controller-id", aliases: []string{"i"}}, {name: "controller-directory-id", aliases: []string{"d"}}}),
	run: metadataQuorum,
}

func metadataQuorum(c *call) error {
	commands := map[string]func(*call, *kgo.Client) error{"describe": describeQuorum, "add-controller": addController, "remove-controller": removeController}
	if len(c.rest) != 1 || commands[c.rest[0]] == nil {
		return errors.New("kafka-metadata-quorum takes one of describe, add-controller, remove-controller")
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	return commands[c.rest[0]](c, cl)
}

func describeQuorum(c *call, cl *kgo.Client) error {
	if c.has("status") == c.has("replication") {
		return errors.New("One of --status or --replication must be specified with describe sub-command")
	}
	resp, q, err := ops.Quorum(c.ctx, cl)
	if err != nil {
		return err
	}
	if c.has("status") {
		return quorumStatus(c, cl, resp, q)
	}
	return quorumReplication(c, q)
}

// replica is a member of the quorum.
type replica = kmsg.DescribeQuorumResponseTopicPartitionReplicaState

func quorumStatus(c *call, cl *kgo.Client, resp *kmsg.DescribeQuorumResponse, q *kmsg.DescribeQuorumResponseTopicPartition) error {
	cluster, err := kmsg.NewPtrDescribeClusterRequest().RequestWith(c.ctx, cl)
	if err != nil {
		return err
	}
	leader := slices.IndexFunc(q.CurrentVoters, func(r replica) bool { return r.ReplicaID == q.LeaderID })
	lag, lagTime := int64(0), int64(0)
	for _, r := range q.CurrentVoters {
		if leader < 0 {
			break
		}
		lag = max(lag, q.CurrentVoters[leader].LogEndOffset-r.LogEndOffset)
		if r.ReplicaID == q.LeaderID {
			continue
		}
		if r.LastCaughtUpTimestamp < 0 {
			lagTime = -1
		} else if lagTime >= 0 && lag > 0 {
			lagTime = max(lagTime, q.CurrentVoters[leader].LastCaughtUpTimestamp-r.LastCaughtUpTimestamp)
		}
	}
	for _, line := range []struct {
		name  string
		value any
	}{
		{"ClusterId", cluster.ClusterID}, {"LeaderId", q.LeaderID}, {"LeaderEpoch", q.LeaderEpoch}, {"HighWatermark", q.HighWatermark},
		{"MaxFollowerLag", lag}, {"MaxFollowerLagTimeMs", lagTime},
		{"CurrentVoters", memberList(q.CurrentVoters, resp.Nodes)}, {"CurrentObservers", memberList(q.Observers, nil)},
	} {
		fmt.Fprintf(c.out, "%-23s %v\n", line.name+":", line.value)
	}
	return nil
}

// memberList is members as kafka-metadata-quorum prints them.
func memberList(members []replica, nodes []kmsg.DescribeQuorumResponseNode) string {
	var out []string
	for _, m := range members {
		text := fmt.Sprintf(`{"id": %d`, m.ReplicaID)
		if m.ReplicaDirectoryID != [16]byte{} {
			text += fmt.Sprintf(`, "directoryId": %q`, base64.RawURLEncoding.EncodeToString(m.ReplicaDirectoryID[:]))
		}
		for _, n := range nodes {
			if n.NodeID != m.ReplicaID {
				continue
			}
			var endpoints []string
			for _, l := range n.Listeners {
				endpoints = append(endpoints, fmt.Sprintf("%q", fmt.Sprintf("%s://%s:%d", l.Name, l.Host, l.Port)))
			}
			text += fmt.Sprintf(`, "endpoints": [%s]`, strings.Join(endpoints, ", "))
		}
		out = append(out, text+"}")
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func quorumReplication(c *call, q *kmsg.DescribeQuorumResponseTopicPartition) error {
	now := time.Now().UnixMilli()
	moment := func(ms int64) string {
		switch {
		case !c.has("human-readable"):
			return strconv.FormatInt(ms, 10)
		case ms < 0:
			return "unknown"
		}
		return fmt.Sprintf("%d ms ago", now-ms)
	}
	end := int64(0)
	for _, r := range q.CurrentVoters {
		if r.ReplicaID == q.LeaderID {
			end = r.LogEndOffset
		}
	}
	rows := [][]string{{"NodeId", "DirectoryId", "LogEndOffset", "Lag", "LastFetchTimestamp", "LastCaughtUpTimestamp", "Status"}}
	add := func(members []replica, which func(replica) bool, status string) {
		for _, r := range members {
			if which(r) {
				rows = append(rows, []string{strconv.Itoa(int(r.ReplicaID)), base64.RawURLEncoding.EncodeToString(r.ReplicaDirectoryID[:]), strconv.FormatInt(r.LogEndOffset, 10),
					strconv.FormatInt(end-r.LogEndOffset, 10), moment(r.LastFetchTimestamp), moment(r.LastCaughtUpTimestamp), status})
			}
		}
	}
	add(q.CurrentVoters, func(r replica) bool { return r.ReplicaID == q.LeaderID }, "Leader")
	add(q.CurrentVoters, func(r replica) bool { return r.ReplicaID != q.LeaderID }, "Follower")
	add(q.Observers, func(replica) bool { return true }, "Observer")
	return padded(c.out, rows)
}

// padded prints columns as Kafka's ToolsUtils.prettyPrintTable does: padded to their widest, each with a tab behind it.
func padded(w io.Writer, rows [][]string) error {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	for _, row := range rows {
		for i, cell := range row {
			if _, err := fmt.Fprintf(w, "%-*s\t", widths[i], cell); err != nil {
				return err
			}
		}
		fmt.Fprintln(w)
	}
	return nil
}

// voter is what names a voter: --controller-id and --controller-directory-id.
func (c *call) voter() (id int32, directory [16]byte, err error) {
	n, err := strconv.ParseInt(c.get("controller-id", ""), 10, 32)
	if err != nil {
		return 0, directory, errors.New("kafka-metadata-quorum: error: argument --controller-id/-i is required, a number")
	}
	raw, err := base64.RawURLEncoding.DecodeString(c.get("controller-directory-id", ""))
	if err != nil || len(raw) != len(directory) {
		return 0, directory, fmt.Errorf("Failed to parse --controller-directory-id: %q is no id of 22 characters", c.get("controller-directory-id", ""))
	}
	return int32(n), [16]byte(raw), nil
}

func removeController(c *call, cl *kgo.Client) error {
	req := kmsg.NewPtrRemoveRaftVoterRequest()
	var err error
	if req.VoterID, req.VoterDirectoryID, err = c.voter(); err != nil {
		return err
	}
	what := fmt.Sprintf("KRaft controller %d with directory id %s", req.VoterID, c.get("controller-directory-id", ""))
	return c.changeVoters("removing", "Removed", what, func() (int16, *string, error) {
		resp, err := req.RequestWith(c.ctx, cl)
		if err != nil {
			return 0, nil, err
		}
		return resp.ErrorCode, resp.ErrorMessage, nil
	})
}

// addController makes the node a voter whose settings --command-config names.
func addController(c *call, cl *kgo.Client) error {
	file := c.get("command-config", "")
	if file == "" {
		return errors.New("You must supply the configuration file of the controller you are adding when using add-controller: --command-config FILE")
	}
	values, err := config.ReadFile(file)
	if err != nil {
		return err
	}
	conf, err := config.New(values)
	if err != nil {
		return err
	}
	if conf.Controller == nil {
		return fmt.Errorf("%s names no listener for the quorum: controller.listener.names", file)
	}
	req := kmsg.NewPtrAddRaftVoterRequest()
	req.VoterID, req.TimeoutMillis = conf.NodeID, int32(patience.Milliseconds())
	l := kmsg.NewAddRaftVoterRequestListener()
	l.Name, l.Host, l.Port = conf.Controller.Name, conf.Controller.AdvertisedHost, uint16(conf.Controller.AdvertisedPort)
	req.Listeners = append(req.Listeners, l)
	what := fmt.Sprintf("controller %d with directory id %s and endpoints: %s://%s:%d", conf.NodeID, base64.RawURLEncoding.EncodeToString(req.VoterDirectoryID[:]), l.Name, l.Host, l.Port)
	return c.changeVoters("adding", "Added", what, func() (int16, *string, error) {
		resp, err := req.RequestWith(c.ctx, cl)
		if err != nil {
			return 0, nil, err
		}
		return resp.ErrorCode, resp.ErrorMessage, nil
	})
}

// changeVoters asks for a change of the voters, or with --dry-run only says which.
func (c *call) changeVoters(doing, done, what string, ask func() (code int16, says *string, err error)) error {
	if c.has("dry-run") {
		fmt.Fprintln(c.out, "DRY RUN of "+doing+" "+what)
		return nil
	}
	code, says, err := ask()
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(code); err != nil {
		return errors.New(message(err, deref(says)))
	}
	fmt.Fprintln(c.out, done+" "+what)
	return nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
