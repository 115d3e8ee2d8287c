package quorum

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

// Preface begins every stream between members of a quorum. It shares a listener with Kafka's protocol, whose
// frames begin with a length that is never that large.
const Preface = "KRAFTQ1\n"

// Kinds of streams.
const (
	messagesStream = "messages" // raft's messages, one after the other
	snapshotStream = "snapshot" // one message with a snapshot, in pieces
	joinStream     = "join"     // asks to be made a learner
	whoStream      = "who"      // asks who is there, and who leads
	helloStream    = "hello"    // asks for nothing: whether one is welcome
	meetStream     = "meet"     // asks which nodes the other one has met: see Meeting
)

// Hello is the first thing on a stream, and what answers it. Fields are only ever added.
type Hello struct {
	Kind    string `json:"kind,omitempty"`
	Cluster string `json:"cluster,omitempty"` // "" while there is none yet
	From    uint64 `json:"from"`
	To      uint64 `json:"to,omitempty"` // 0 for whoever answers, when asking to join
	Member  string `json:"member"`       // of From's metadata file: a node with an empty disk is another member
	Address string `json:"address,omitempty"`
	Voters  string `json:"voters,omitempty"` // of a node that has no cluster yet: what it was started with
	// Features are the ranges of levels that the node supports, by name.
	Features map[string][2]int16 `json:"features,omitempty"`
	// What From's disk has: see standing.
	Starts uint64 `json:"starts,omitempty"`
	Life   string `json:"life,omitempty"`
	Term   uint64 `json:"term,omitempty"`
	Index  uint64 `json:"index,omitempty"` // of its last entry
	// The last entry that From's disk had when this life began, if SaysBegun. Nodes of earlier versions do not set SaysBegun.
	SaysBegun  bool   `json:"saysBegun,omitempty"`
	BegunTerm  uint64 `json:"begunTerm,omitempty"`
	BegunIndex uint64 `json:"begunIndex,omitempty"`
	// Insists says that somebody has decided that the disk is to count although it may be an older one.
	Insists bool `json:"insists,omitempty"`

	// Of a quorum that is named by addresses alone: see Meeting.
	Addresses []string            `json:"addresses,omitempty"` // of From's list, sorted
	Met       map[string]attendee `json:"met,omitempty"`       // the nodes that From knows, by address
	Agreed    map[string]uint64   `json:"agreed,omitempty"`    // the voters, by address, once From knows that all agree

	First   []uint64 `json:"first,omitempty"`   // to who joins: the voters before the first entry
	Refused string   `json:"refused,omitempty"` // why the stream ends here
	Older   bool     `json:"older,omitempty"`   // because the other's disk is older than one that it had
	Later   bool     `json:"later,omitempty"`   // because of the quorum's state at the moment: it is worth asking again
	Leader  string   `json:"leader,omitempty"`  // address to ask instead, when joining, or next
}

const maxHello = 64 << 10

func writeHello(w io.Writer, h Hello) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
	return err
}

func readHello(r io.Reader) (h Hello, err error) {
	data, err := readFrame(r, nil, maxHello)
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(data, &h)
}

// readFrame reads what a 4-byte length stands before, into buf if it is large enough. Memory grows no faster than
// bytes arrive: a claimed length alone costs none.
func readFrame(r io.Reader, buf []byte, limit int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if n > limit {
		return nil, fmt.Errorf("frame of %d bytes, at most %d", n, limit)
	}
	return readInto(r, buf[:0], n)
}

// readInto appends n bytes of r to buf.
func readInto(r io.Reader, buf []byte, n int) ([]byte, error) {
	for len(buf) < n {
		at := len(buf)
		buf = slices.Grow(buf, min(n-at, 1<<20))[:min(n, at+1<<20)]
		if _, err := io.ReadFull(r, buf[at:]); err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// RefusedError is a peer's word that this node does not belong to its quorum.
type RefusedError struct {
	Address string
	Reason  string
	Older   bool // this node's disk is older than the one that it had: it must not go on
	Later   bool // it is worth asking again
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s refuses this node: %s", e.Address, e.Reason)
}
