package coordinator

import (
	"bytes"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
	"kraft/wire/ident"
)

// State is a classic group's (Kafka's ClassicGroupState).
type State string

// The states of a group, named as DescribeGroups does.
const (
	Empty               State = "Empty"
	PreparingRebalance  State = "PreparingRebalance"
	CompletingRebalance State = "CompletingRebalance"
	Stable              State = "Stable"
	Dead                State = "Dead"
)

// group is one classic group with its offsets. A simple group, of a consumer that only commits, has no
// protocol type and no members.
type group struct {
	id      string
	offsets map[ident.TopicPartition]Offset
	open    int  // offsets of transactions that have not ended
	known   bool // its metadata is in a record

	// While the group is Stable or Empty these equal its record, unless an Empty group's record was refused. A rebalance changes them before
	// it records them.
	state        State
	since        int64 // milliseconds, when state was entered
	protocolType string
	protocol     *string
	generation   int32
	leader       string
	members      map[string]*member
	order        []*member         // in the order of joining
	static       map[string]string // instance id -> member id

	// Soft state.
	pending    map[string]time.Time // member ids given out and not used yet, until when
	unsynced   map[string]struct{}  // members that have yet to send SyncGroup in this generation
	rebalance  int                  // counts rebalances, so that deadlines of earlier ones are told apart
	joinBy     time.Time            // the join phase ends
	initial    bool                 // the join phase waits for more members of a new group
	initialEnd time.Time            // but not longer
	newcomers  bool                 // some came since the initial delay was last looked at
}

func newGroup(id string) *group {
	return &group{id: id, state: Empty, members: map[string]*member{}, static: map[string]string{},
		pending: map[string]time.Time{}, offsets: map[ident.TopicPartition]Offset{}}
}

// member is one member of a group.
type member struct {
	id               string
	instance         *string
	clientID, host   string
	sessionTimeout   time.Duration
	rebalanceTimeout time.Duration
	protocols        []kmsg.JoinGroupRequestProtocol
	assignment       []byte

	// Soft state.
	joining  runtime.Token // a JoinGroup that waits, 0 if none
	syncing  runtime.Token // a SyncGroup that waits
	isNew    bool          // joined for the first time in this rebalance
	joinedAt time.Time
	expires  time.Time // of the session
	due      time.Time // its entry among the deadlines, zero if there is none
}

// metadata is the member's subscription for a protocol.
func (m *member) metadata(protocol *string) []byte {
	if protocol != nil {
		for i := range m.protocols {
			if m.protocols[i].Name == *protocol {
				return m.protocols[i].Metadata
			}
		}
	}
	return nil
}

func (m *member) matches(protocols []kmsg.JoinGroupRequestProtocol) bool {
	return slices.EqualFunc(m.protocols, protocols, func(a, b kmsg.JoinGroupRequestProtocol) bool {
		return a.Name == b.Name && bytes.Equal(a.Metadata, b.Metadata)
	})
}

func (g *group) enter(s State, now time.Time) {
	g.state, g.since = s, now.UnixMilli()
}

func (g *group) is(states ...State) bool { return slices.Contains(states, g.state) }

// void says that nothing is left to keep the group for.
func (g *group) void() bool {
	return !g.known && len(g.members) == 0 && len(g.pending) == 0 && len(g.offsets) == 0 && g.open == 0
}

func (g *group) add(m *member) {
	if len(g.members) == 0 && g.leader == "" {
		g.leader = m.id
	}
	g.members[m.id] = m
	g.order = append(g.order, m)
	if m.instance != nil {
		g.static[*m.instance] = m.id
	}
	delete(g.pending, m.id)
}

// drop takes a member out of the group; the next leader is the next in order.
func (g *group) drop(m *member) {
	delete(g.members, m.id)
	delete(g.unsynced, m.id)
	if i := slices.Index(g.order, m); i >= 0 {
		g.order = slices.Delete(g.order, i, i+1)
	}
	if m.instance != nil && g.static[*m.instance] == m.id {
		delete(g.static, *m.instance)
	}
	if g.leader == m.id {
		g.leader = ""
		if len(g.order) > 0 {
			g.leader = g.order[0].id
		}
	}
}

// rename gives a static member that came back its new id, keeping its place.
func (g *group) rename(m *member, id string) {
	delete(g.members, m.id)
	if g.leader == m.id {
		g.leader = id
	}
	if _, ok := g.unsynced[m.id]; ok {
		delete(g.unsynced, m.id)
		g.unsynced[id] = struct{}{}
	}
	m.id = id
	g.members[id] = m
	g.static[*m.instance] = id
}

// rebalanceTimeout is the longest that any member asked for.
func (g *group) rebalanceTimeout() time.Duration {
	var t time.Duration
	for _, m := range g.order {
		t = max(t, m.rebalanceTimeout)
	}
	return t
}

// supports says that protocols have one in common with all members.
func (g *group) supports(protocolType string, protocols []kmsg.JoinGroupRequestProtocol) bool {
	if len(g.members) == 0 {
		return protocolType != "" && len(protocols) > 0
	}
	if protocolType != g.protocolType {
		return false
	}
	return slices.ContainsFunc(protocols, func(p kmsg.JoinGroupRequestProtocol) bool { return g.allSupport(p.Name) })
}

func (g *group) allSupport(protocol string) bool {
	for _, m := range g.order {
		if !slices.ContainsFunc(m.protocols, func(p kmsg.JoinGroupRequestProtocol) bool { return p.Name == protocol }) {
			return false
		}
	}
	return true
}

// vote chooses the protocol: each member votes for the first it lists that all support.
func (g *group) vote() *string {
	votes := map[string]int{}
	var best *string
	for _, m := range g.order {
		for i := range m.protocols {
			if name := m.protocols[i].Name; g.allSupport(name) {
				votes[name]++
				break
			}
		}
	}
	for _, m := range g.order { // in order, so that a tie always ends the same way
		for i := range m.protocols {
			if name := m.protocols[i].Name; votes[name] > 0 && (best == nil || votes[name] > votes[*best]) {
				best = &name
			}
		}
	}
	return best
}

// joined says that every member waits in JoinGroup, and nobody is expected who has an id but has not
// used it yet.
func (g *group) joined() bool {
	if len(g.pending) > 0 {
		return false
	}
	for _, m := range g.order {
		if m.joining == 0 {
			return false
		}
	}
	return true
}

// subscribed are the topics that a stable group of consumers reads; ok is false if that is not known.
func (g *group) subscribed() (topics map[string]bool, ok bool) {
	if g.protocolType != "consumer" || g.protocol == nil {
		return nil, false
	}
	topics = map[string]bool{}
	for _, m := range g.order {
		var meta kmsg.ConsumerMemberMetadata
		if err := meta.ReadFrom(m.metadata(g.protocol)); err != nil {
			return nil, false
		}
		for _, t := range meta.Topics {
			topics[t] = true
		}
	}
	return topics, true
}
