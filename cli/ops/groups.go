package ops

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// GroupSummary is a group in a list.
type GroupSummary struct {
	Group       string `json:"group"`
	State       string `json:"state"`
	Protocol    string `json:"protocol_type"`
	Coordinator int32  `json:"coordinator"`
}

// GroupDescription is a group with its members' partitions, its offsets and its lag.
type GroupDescription struct {
	Group       string           `json:"group"`
	State       string           `json:"state"`
	Protocol    string           `json:"protocol"`
	Coordinator int32            `json:"coordinator"`
	Members     int              `json:"members"`
	Lag         int64            `json:"lag"`
	Partitions  []GroupPartition `json:"partitions"`
}

// GroupPartition is a partition of which a group has an offset, or a member.
type GroupPartition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed *int64 `json:"committed"`  // null for none
	End       *int64 `json:"end_offset"` // null where the leader does not say
	Lag       *int64 `json:"lag"`        // likewise
	Member    string `json:"member,omitempty"`
	Client    string `json:"client,omitempty"`
	Host      string `json:"host,omitempty"`
}

// ListGroups lists groups. It lacks those of brokers that do not answer.
func ListGroups(ctx context.Context, admin *kadm.Client) ([]GroupSummary, error) {
	groups, err := admin.ListGroups(ctx)
	var lacking Lacking
	if err := lacking.Of(err); err != nil {
		return nil, err
	}
	out := []GroupSummary{}
	for _, g := range groups.Sorted() {
		out = append(out, GroupSummary{g.Group, g.State, g.ProtocolType, g.Coordinator})
	}
	return out, lacking.Err()
}

// DescribeGroups describes groups. It lacks groups that do not exist or cannot be described, and lags whose leaders do not answer.
func DescribeGroups(ctx context.Context, admin *kadm.Client, names []string) ([]*GroupDescription, error) {
	lags, err := admin.Lag(ctx, names...)
	for range 4 { // a broker that is gone may have been asked for the coordinator
		var network net.Error
		if !errors.As(err, &network) {
			break
		}
		lags, err = admin.Lag(ctx, names...)
	}
	var lacking Lacking
	if err := lacking.Of(err); err != nil {
		return nil, err
	}
	out := []*GroupDescription{}
	for _, g := range lags.Sorted() {
		err := g.Error()
		if errors.Is(err, kerr.GroupIDNotFound) || err == nil && g.State == "Dead" {
			lacking.Add("%v", noGroup(ctx, admin, g.Group))
			continue
		}
		if err != nil {
			lacking.Add("group %s: %v", g.Group, Explain(err, ""))
			continue
		}
		d := &GroupDescription{Group: g.Group, State: g.State, Protocol: g.Protocol, Coordinator: g.Coordinator.NodeID, Members: len(g.Members), Lag: g.Lag.Total(), Partitions: []GroupPartition{}}
		for _, l := range g.Lag.Sorted() {
			p := GroupPartition{Topic: l.Topic, Partition: l.Partition}
			if l.Err == nil && l.End.Err == nil && l.Lag >= 0 {
				p.End, p.Lag = &l.End.Offset, &l.Lag
			} else {
				lacking.Add("%s:%d has no leader that answers: its lag is not known", l.Topic, l.Partition)
			}
			if l.Commit.At >= 0 {
				p.Committed = &l.Commit.At
			}
			if l.Member != nil {
				p.Member, p.Client, p.Host = l.Member.MemberID, l.Member.ClientID, l.Member.ClientHost
			}
			d.Partitions = append(d.Partitions, p)
		}
		out = append(out, d)
	}
	return out, lacking.Err()
}

// TopicLag is how many records of a topic a group has not read.
type TopicLag struct {
	Group   string `json:"group"`
	State   string `json:"state"`
	Topic   string `json:"topic"`
	Members int    `json:"members"`
	Lag     *int64 `json:"lag"` // null where not all of it is known
}

// Lags sums the lag of groups, of all groups if none is named, by topic. It lacks what DescribeGroups lacks.
func Lags(ctx context.Context, admin *kadm.Client, names []string) ([]TopicLag, error) {
	out, lacking := []TopicLag{}, Lacking{}
	if len(names) == 0 {
		groups, err := admin.ListGroups(ctx)
		if err := lacking.Of(err); err != nil {
			return nil, err
		}
		if names = groups.Groups(); len(names) == 0 {
			return out, lacking.Err()
		}
	}
	groups, err := DescribeGroups(ctx, admin, names)
	if err := lacking.Of(err); err != nil {
		return nil, err
	}
	for _, g := range groups {
		var topics []string
		sums := map[string]*int64{}
		for _, p := range g.Partitions {
			if !slices.Contains(topics, p.Topic) {
				topics = append(topics, p.Topic)
				sums[p.Topic] = new(int64)
			}
			switch sum := sums[p.Topic]; {
			case p.Lag == nil:
				sums[p.Topic] = nil
			case sum != nil:
				*sum += *p.Lag
			}
		}
		for _, topic := range topics {
			out = append(out, TopicLag{g.Group, g.State, topic, g.Members, sums[topic]})
		}
	}
	return out, lacking.Err()
}

// DeleteGroups deletes groups with their committed offsets. Groups that have members stay.
func DeleteGroups(ctx context.Context, admin *kadm.Client, names []string) (out []Outcome, err error) {
	resp, err := admin.DeleteGroups(ctx, names...)
	var lacking Lacking
	if err := lacking.Of(err); err != nil {
		return nil, err
	}
	for _, r := range resp.Sorted() {
		o := Outcome{Name: r.Group}
		switch {
		case errors.Is(r.Err, kerr.NonEmptyGroup):
			o.Err = fmt.Errorf("group %s has members: stop its consumers first", r.Group)
		case errors.Is(r.Err, kerr.GroupIDNotFound):
			o.Err = noGroup(ctx, admin, r.Group)
		case r.Err != nil:
			o.Err = fmt.Errorf("group %s: %w", r.Group, Explain(r.Err, ""))
		}
		out = append(out, o)
	}
	return out, lacking.Err()
}

// noGroup says that there is no such group, and which name is near.
func noGroup(ctx context.Context, admin *kadm.Client, name string) error {
	listed, _ := admin.ListGroups(ctx)
	if hint := Closest(name, maps.Keys(listed)); hint != "" {
		return fmt.Errorf("there is no group %q, did you mean %q?", name, hint)
	}
	return fmt.Errorf("there is no group %q: kraft group list shows the groups", name)
}
