package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	pb "go.etcd.io/raft/v3/raftpb"

	"kraft/raftmeta"
	"kraft/raftmeta/calls"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/raftmeta/quorum"
	"kraft/wire"
	"kraft/wire/acl"
)

// addRaftVoter answers AddRaftVoter (KIP-853): a node that has joined becomes a voter.
func (a *Admin) addRaftVoter(ctx *wire.Request, req *kmsg.AddRaftVoterRequest) (*kmsg.AddRaftVoterResponse, error) {
	resp := kmsg.NewPtrAddRaftVoterResponse()
	err := a.checkVoterRequest(ctx, req.ClusterID)
	if err == nil {
		err = a.promote(ctx.Context(), req)
	}
	resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
	return resp, nil
}

func (a *Admin) checkVoterRequest(ctx *wire.Request, cluster *string) error {
	if err := ctx.MayCluster(acl.Alter); err != nil {
		return err
	}
	if id := a.meta.Image().ClusterID; cluster != nil && *cluster != id {
		return fmt.Errorf("this is cluster %s, not %s: %w", id, *cluster, kerr.InconsistentClusterID)
	}
	if a.meta.Alone() {
		return fmt.Errorf("this node has no listener for a quorum: %w", kerr.InvalidRequest)
	}
	return nil
}

func (a *Admin) promote(ctx context.Context, req *kmsg.AddRaftVoterRequest) error {
	ctx, cancel := context.WithTimeout(ctx, max(time.Duration(req.TimeoutMillis)*time.Millisecond, time.Second))
	defer cancel()
	s, err := a.meta.Node().Status(ctx)
	if err != nil {
		return err
	}
	id := raftmeta.MemberID(req.VoterID)
	for _, member := range s.Members {
		switch {
		case member.ID != id:
		case !member.Learner:
			return fmt.Errorf("node %d is a voter already: %w", req.VoterID, kerr.DuplicateVoter)
		case !member.Active || member.Match < s.Commit:
			return fmt.Errorf("node %d has not caught up: its log ends at %d, %d is committed: %w", req.VoterID, member.Match, s.Commit, kerr.RequestTimedOut)
		case len(req.Listeners) == 0 && a.meta.ControllerAddress(id) == "":
			return fmt.Errorf("node %d has no controller listener, which a voter needs: add controller to its process.roles, or CONTROLLER://host:port to its listeners: %w", req.VoterID, kerr.InvalidRequest)
		default:
			for _, l := range req.Listeners {
				a.meta.Remember(&image.Controller{ID: req.VoterID, Member: a.memberOf(id), Address: net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port)))})
			}
			return a.changeMember(ctx, id, pb.ConfChangeAddNode)
		}
	}
	return fmt.Errorf("node %d is not a member: start it with --join first: %w", req.VoterID, kerr.InvalidRequest)
}

func (a *Admin) memberOf(id uint64) string {
	for _, h := range a.meta.Node().Met() {
		if h.From == id {
			return h.Member
		}
	}
	return ""
}

// removeRaftVoter answers RemoveRaftVoter (KIP-853): a voter that runs becomes an observer, one that is gone is
// forgotten.
func (a *Admin) removeRaftVoter(ctx *wire.Request, req *kmsg.RemoveRaftVoterRequest) (*kmsg.RemoveRaftVoterResponse, error) {
	resp := kmsg.NewPtrRemoveRaftVoterResponse()
	err := a.checkVoterRequest(ctx, req.ClusterID)
	if err == nil && req.VoterID == a.meta.Config.NodeID && a.meta.Leads() && a.yield(ctx.Context()) {
		return calls.Forwarded(a.calls, a.removeRaftVoter)(ctx, req)
	}
	if err == nil {
		err = a.demote(ctx.Context(), req.VoterID)
	}
	resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
	return resp, nil
}

// yield has another voter lead before this one is taken away. A leader that took itself away might be left with entries behind
// that change, which only it knows to be committed: those left would need the vote of one that finds them behind.
func (a *Admin) yield(ctx context.Context) bool {
	a.meta.Node().HandOver()
	for {
		changed := a.meta.LeaderChanged()
		if !a.meta.Leads() {
			return true
		}
		if s, err := a.meta.Node().Status(ctx); err != nil || s.Leader == raftmeta.MemberID(a.meta.Config.NodeID) {
			return false
		}
		select {
		case <-changed:
		case <-a.meta.Node().Done():
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (a *Admin) demote(ctx context.Context, voter int32) error {
	ctx, cancel := context.WithTimeout(ctx, calls.RequestTimeout)
	defer cancel()
	s, err := a.meta.Node().Status(ctx)
	if err != nil {
		return err
	}
	id := raftmeta.MemberID(voter)
	voters, running := 0, 0 // running are those that would be left
	var found *quorum.Member
	for i := range s.Members {
		switch member := &s.Members[i]; {
		case member.Learner:
		case member.ID == id:
			voters++
			found = member
		default:
			voters++
			if member.Active {
				running++
			}
		}
	}
	switch {
	case found == nil:
		return fmt.Errorf("node %d is no voter: %w", voter, kerr.VoterNotFound)
	case voters == 1:
		return fmt.Errorf("node %d is the last voter: %w", voter, kerr.InvalidRequest)
	case running <= (voters-1)/2:
		return fmt.Errorf("cannot remove voter %d: of the %d remaining voters only %d would be running, which is no majority: %w", voter, voters-1, running, kerr.InvalidRequest)
	case found.Active && !quorum.NobodyListens(ctx, a.meta.Config.Dial, a.meta.ControllerAddress(id)):
		return a.changeMember(ctx, id, pb.ConfChangeAddLearnerNode)
	}
	if err := a.changeMember(ctx, id, pb.ConfChangeRemoveNode); err != nil {
		return err
	}
	return a.meta.Decide(ctx, func(work *image.Image) ([]*image.Record, error) { return controller.ForgetMember(work, voter), nil })
}

// unregisterController answers UnregisterController (KIP-1312): a controller that is gone is forgotten. One that runs would be
// noted again, and a voter's address is needed, so that those are refused; Kafka forgets them too, for a moment.
func (a *Admin) unregisterController(ctx *wire.Request, req *kmsg.UnregisterControllerRequest) (*kmsg.UnregisterControllerResponse, error) {
	resp := kmsg.NewPtrUnregisterControllerResponse()
	err := ctx.MayCluster(acl.Alter)
	if err == nil {
		err = a.forget(ctx.Context(), req.ControllerID)
	}
	resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
	return resp, nil
}

func (a *Admin) forget(ctx context.Context, controllerID int32) error {
	ctx, cancel := context.WithTimeout(ctx, calls.RequestTimeout)
	defer cancel()
	s, err := a.meta.Node().Status(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(s.Members, func(member quorum.Member) bool { return member.ID == raftmeta.MemberID(controllerID) })
	_, known := a.meta.Image().Controller(controllerID)
	switch {
	case controllerID == a.meta.Config.NodeID && a.meta.Leads():
		return fmt.Errorf("Controller cannot unregister itself while it is active.: %w", kerr.InvalidRequest)
	case at < 0 && !known:
		return fmt.Errorf("Controller ID %d is not currently registered.: %w", controllerID, kerr.ControllerIDNotRegistered)
	case at >= 0 && !s.Members[at].Learner:
		return fmt.Errorf("Controller %d is a voter of the metadata quorum: remove it from the quorum first.: %w", controllerID, kerr.InvalidRequest)
	case at >= 0 && s.Members[at].Active:
		return fmt.Errorf("Controller %d runs: stop it first.: %w", controllerID, kerr.InvalidRequest)
	case at >= 0:
		if err := a.changeMember(ctx, raftmeta.MemberID(controllerID), pb.ConfChangeRemoveNode); err != nil {
			return err
		}
	}
	return a.meta.Decide(ctx, func(work *image.Image) ([]*image.Record, error) {
		return controller.ForgetMember(work, controllerID), nil
	})
}

func (a *Admin) changeMember(ctx context.Context, id uint64, kind pb.ConfChangeType) error {
	err := a.meta.Node().ChangeMember(ctx, id, kind)
	if errors.Is(err, quorum.ErrNotLeader) {
		return kerr.NotController
	}
	return err
}
