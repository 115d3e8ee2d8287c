package quorum

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"kraft/wire"
	"kraft/wire/locks"
)

// Meeting describes a new quorum by its voters' addresses alone: their ids are known once all of them have met. It is immutable.
type Meeting struct {
	Own       string            // the one of Addresses at which this node listens
	Addresses []string          // host:port
	Voters    map[string]uint64 // by address, if an earlier start of this node has found them all; or nil
	// Agreed saves the voters before the quorum begins with them.
	Agreed func(voters map[string]uint64) error
}

// attendee is the node at one address.
type attendee struct {
	ID     uint64 `json:"id"`
	Member string `json:"member"` // of its metadata file
}

// meeting is the state of a Meeting at this node.
type meeting struct {
	Meeting
	self attendee
	news chan struct{} // has room for one: another node knows more than this one

	mu      locks.Mutex                    // guards the rest
	open    bool                           // the first round is over: this node answers others
	met     map[string]attendee            // by address, each by its newest answer
	answers map[string]map[string]attendee // of this round: whom the nodes know
	voters  map[string]uint64              // nil until they are agreed on
	trouble map[string]error               // by address, of the last round: why this node does not know the node there
}

func newMeeting(m Meeting, self attendee) *meeting {
	slices.Sort(m.Addresses)
	return &meeting{Meeting: m, self: self, news: make(chan struct{}, 1), open: m.Voters != nil, met: map[string]attendee{m.Own: self}, voters: m.Voters, trouble: map[string]error{}}
}

// introduce fills in the fields of a Hello that belong to the meeting.
func (m *meeting) introduce(h *Hello) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h.Address, h.Addresses, h.Met, h.Agreed = m.Own, m.Addresses, maps.Clone(m.met), m.voters
}

// starts reports whether this node's first round is not over yet. Until then the node answers nobody: if its id is in use it ends, and no
// other node has recorded it.
func (m *meeting) starts() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.open
}

// maxAddresses bounds the addresses of another node's list.
const maxAddresses = 64

// refusal returns why this node refuses to meet another one, "" if it does not, and whether that may change later. name is what users call
// a node.
func (m *meeting) refusal(h Hello, name func(uint64) string) (reason string, later bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch at, known := m.voters[h.Address]; {
	case len(h.Addresses) > maxAddresses:
		return fmt.Sprintf("a list of %d addresses, at most %d", len(h.Addresses), maxAddresses), false
	case h.Member == m.self.Member:
		return fmt.Sprintf("%s and %s are the same node: list it once", h.Address, m.Own), false
	case h.From == m.self.ID:
		return fmt.Sprintf("%s is at %s, too: give each node an id of its own", name(h.From), m.Own), false
	case !slices.Equal(h.Addresses, m.Addresses):
		return fmt.Sprintf("the nodes at %s and %s have different lists, %s and %s: give all nodes the same",
			m.Own, h.Address, strings.Join(m.Addresses, ","), strings.Join(h.Addresses, ",")), m.voters == nil
	case m.voters != nil && !known || known && at != h.From:
		return fmt.Sprintf("%s was at %s when the quorum began, not %s: give the node there its old id and data directory; if they are lost, remove it from the quorum (kraft quorum remove) and let this node join: --join %s", name(at), h.Address, name(h.From), m.Own), false
	}
	return "", false
}

// asked notes what a node that asks knows: this one need not wait for its next round to ask what it does not know itself.
func (m *meeting) asked(h Hello) {
	m.mu.Lock()
	defer m.mu.Unlock()
	more := h.Agreed != nil || m.met[h.Address] != attendee{h.From, h.Member}
	for address, a := range h.Met {
		more = more || m.met[address] != a
	}
	if !more || m.voters != nil {
		return
	}
	select {
	case m.news <- struct{}{}:
	default:
	}
}

// heard takes the answer of the node at an address.
func (m *meeting) heard(address string, h Hello) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case h.Agreed != nil && h.Agreed[m.Own] == m.self.ID:
		m.voters = h.Agreed
	case h.Address != address:
		m.trouble[address] = fmt.Errorf("the node at %s answers there: list it once", h.Address)
	default:
		m.met[address] = attendee{h.From, h.Member}
		m.answers[address] = h.Met
	}
}

// begins forgets the answers of the round before.
func (m *meeting) begins() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answers = map[string]map[string]attendee{}
}

// doubt notes why the node at an address is not known.
func (m *meeting) doubt(address string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trouble[address] = err
}

// settled returns the voters if there is nothing left to wait for at the end of a round: another node has begun with them, or all nodes have
// answered in this round, and know the same nodes as this one.
func (m *meeting) settled(name func(uint64) string) map[string]uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open = true
	if m.voters != nil {
		return m.voters
	}
	voters, at := map[string]uint64{}, map[uint64]string{}
	for _, address := range m.Addresses {
		a, ok := m.met[address]
		if !ok || address != m.Own && !maps.Equal(m.met, m.answers[address]) {
			return nil
		}
		if other, twice := at[a.ID]; twice {
			m.trouble[address] = fmt.Errorf("%s is there and at %s: give each node an id of its own", name(a.ID), other)
			return nil
		}
		voters[address], at[a.ID] = a.ID, address
	}
	m.voters = voters
	return voters
}

// missing says whom this node waits for, and why.
func (m *meeting) missing() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, address := range m.Addresses {
		if err := m.trouble[address]; err != nil {
			out = append(out, fmt.Sprintf("%s (%s)", address, wire.Unreached(err)))
		}
	}
	if len(out) == 0 {
		return "all have met, and compare whom they know"
	}
	return strings.Join(out, "; ")
}

// Meet returns when the voters of a quorum that Config.Meeting describes are known, and saved. It asks the nodes at the other addresses
// again and again, and calls waiting with whom it waits for, until all of them run at the same time with the same list and know the same
// nodes; or until one has begun already. It does nothing on a node that knows its quorum. Errors are a RefusedError where the node must
// not go on, what Network.Stranger says, and ctx's. Call it before Start; members may connect meanwhile.
func (n *Node) Meet(ctx context.Context, waiting func(what func() string)) error {
	if n.raw != nil || n.meeting == nil {
		return nil
	}
	m := n.meeting
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		m.begins()
		if err := n.meetAll(ctx); err != nil {
			return err
		}
		if voters := m.settled(n.net.name); voters != nil {
			if err := m.Agreed(voters); err != nil {
				return err
			}
			if err := n.store.begin(slices.Sorted(maps.Values(voters))); err != nil {
				return err
			}
			return n.restore()
		}
		waiting(m.missing)
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w, waiting for %s", ctx.Err(), m.missing())
		case <-m.news:
			time.Sleep(firstRetry) // nodes that know different things must not keep each other busy
			wait = firstRetry
		case <-time.After(wait):
		}
	}
}

// meetAll asks all other nodes once.
func (n *Node) meetAll(ctx context.Context) error {
	m := n.meeting
	outcomes, asked := make(chan error, len(m.Addresses)), 0
	for _, address := range m.Addresses {
		if address == m.Own {
			continue
		}
		asked++
		if !n.net.start(func() { outcomes <- n.meet(ctx, address) }) {
			return net.ErrClosed
		}
	}
	var failed error
	for range asked {
		failed = errors.Join(failed, <-outcomes)
	}
	return failed
}

// meet asks the node at an address. Its error ends the start.
func (n *Node) meet(ctx context.Context, address string) error {
	m := n.meeting
	m.doubt(address, nil)
	c, answer, err := n.net.connect(ctx, address, meetStream, 0)
	if err == nil {
		_ = c.Close()
		if err = n.net.introduced(answer); err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
		m.heard(address, answer)
		return nil
	}
	m.doubt(address, err)
	var refused *RefusedError
	if errors.As(err, &refused) && !refused.Later {
		return err
	}
	return n.net.stranger(ctx, address, err)
}

// stranger returns what answers at an address in place of a node, if asking there failed for that reason; else nil.
func (t *transport) stranger(ctx context.Context, address string, err error) error {
	var dialled *net.OpError
	var refused *RefusedError // by a node
	if t.network.Stranger == nil || errors.As(err, &refused) || errors.As(err, &dialled) && dialled.Op == "dial" || ctx.Err() != nil {
		return nil
	}
	return t.network.Stranger(ctx, address)
}

// answerMeeting answers a node that wants to meet this one.
func (t *transport) answerMeeting(c net.Conn, h, mine Hello) {
	m := t.node.meeting
	if m == nil {
		t.refuse(c, h, mine, errors.New("this node's quorum was not named by addresses: give all nodes the same settings"))
		return
	}
	if m.starts() {
		mine.Refused, mine.Later = "the node there begins to start", true
		_ = writeHello(c, mine)
		return
	}
	m.introduce(&mine)
	reason, later := m.refusal(h, t.name)
	if reason == "" {
		if err := t.network.Check(h); err != nil { // it remembers a node that it lets pass
			reason = err.Error()
		}
	}
	if reason != "" && !later {
		t.refuse(c, h, mine, errors.New(reason))
		return
	}
	if reason == "" {
		m.asked(h)
	}
	mine.Refused, mine.Later = reason, later
	_ = writeHello(c, mine)
}
