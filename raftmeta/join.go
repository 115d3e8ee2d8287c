package raftmeta

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire"
)

// Join starts this node's part of the quorum, and returns when there is a leader and the cluster has an id. A
// node that knows no quorum asks to be taken in first, or meets those that it is to begin one with.
func (m *Meta) Join(ctx context.Context) error {
	if m.Config.Meeting != nil {
		if err := m.node.Meet(ctx, m.waits("waiting until the nodes at all addresses of the quorum have met: ")); err != nil {
			return fmt.Errorf("begin the metadata quorum: %w", err)
		}
	} else if err := m.node.Join(ctx, m.Config.Join, m.waits("waiting for a member of the metadata quorum to admit this node: ")); err != nil {
		return fmt.Errorf("join the cluster: %w", err)
	}
	if err := m.controller.Start(m.node); err != nil {
		return err
	}
	if err := m.bootstrap(ctx); err != nil {
		return err
	}
	return nil
}

// bootstrap returns once the cluster has an id and a leader. A new cluster's leader writes the first records.
func (m *Meta) bootstrap(ctx context.Context) error {
	waiting, missing := m.waits(noMajority), m.whoIsMissing()
	for {
		begun := m.Image().ClusterID != ""
		if begun && m.Controller() >= 0 {
			return nil
		}
		waiting(missing)
		retry := leaderRetry
		if !begun {
			if err := m.begin(ctx); err != nil {
				return err
			}
			retry = time.Millisecond // the first election is a matter of milliseconds
		}
		select {
		case <-time.After(retry):
		case <-m.node.Done():
			return fmt.Errorf("metadata quorum: %w", m.node.Err())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// begin writes a new cluster's first records, if this node leads. A node that no cluster has taken in ends where a member refuses it.
func (m *Meta) begin(ctx context.Context) error {
	if err := m.node.Refused(); err != nil {
		return err
	}
	err := m.controller.Decide(ctx, func(work *image.Image, _ time.Time) []*image.Record {
		if work.ClusterID != "" {
			return nil
		}
		id := m.Config.ClusterID
		if id == "" {
			id = image.EncodeUUID(controller.NewID())
		}
		records := controller.FirstRecords(m.Config.Features, id, m.Settings().MinInSyncReplicas)
		for i := range m.Config.FirstUsers {
			records = append(records, image.SetScram(&m.Config.FirstUsers[i]))
		}
		return records
	})
	if err != nil && err != kerr.NotController {
		return fmt.Errorf("metadata quorum: %w", err)
	}
	return nil
}

// leaderRetry is how long a start waits for a leader before it looks again.
const leaderRetry = 10 * time.Millisecond

const noMajority = "waiting for a majority of the metadata quorum: "

// TellWaits logs every few seconds which voters are not reached, as long as there is no leader, until stop is called. It is for the part of
// a start after Join: the leader may be lost again. stop returns when nothing is logged any more.
func (m *Meta) TellWaits() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		waiting, missing := m.waits(noMajority), m.whoIsMissing()
		for led := true; ; led = m.Controller() >= 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(firstWait):
			}
			if !led && m.Controller() < 0 { // longer than an election takes
				waiting(missing)
			}
		}
	}()
	return func() { cancel(); <-done }
}

// whoIsMissing returns a function that says which voters this node does not reach, and why. While all are reachable it says so only
// waitingFor from now: an election may take a second on a busy machine.
func (m *Meta) whoIsMissing() func() string {
	elected := time.Now().Add(waitingFor)
	return func() string {
		var out []string
		for id, err := range m.node.Unreached() {
			out = append(out, fmt.Sprintf("node %d at %s (%s)", NodeOf(id), m.ControllerAddress(id), wire.Unreached(err)))
		}
		if len(out) == 0 && time.Now().After(elected) {
			return "all voters are reachable and are electing a leader"
		}
		slices.Sort(out)
		return strings.Join(out, "; ")
	}
}

// A start says what it waits for after a second, and then again and again.
const (
	firstWait  = time.Second
	waitingFor = 5 * time.Second
)

// waits returns a function that may be called as often as one likes with what a start waits for, which is "" for nothing to tell yet.
func (m *Meta) waits(prefix string) func(what func() string) {
	next := time.Now().Add(firstWait)
	return func(what func() string) {
		now := time.Now()
		if now.Before(next) {
			return
		}
		text := what()
		if text == "" {
			return
		}
		next, text = now.Add(waitingFor), prefix+text
		m.log.Warn().Msg(text)
		if m.Config.Waiting != nil {
			m.Config.Waiting(text)
		}
	}
}
