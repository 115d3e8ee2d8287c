package quorum

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"kraft/wire/locks"
)

// Network is how a member reaches others, and who it says that it is.
type Network struct {
	// Dial connects to another member's controller listener.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Address is where a member listens, "" if not known.
	Address func(id uint64) string
	// Hello introduces this node; kind, from and to are filled in.
	Hello func() Hello
	// Listens says that others can connect to this node. A learner need not: it keeps a stream to each voter, and
	// they answer on that.
	Listens bool
	// Seeds are addresses of members, for a node that does not listen: others tell it theirs by their streams.
	Seeds []string
	// Check holds another's introduction against what this node knows; its error is told to the other.
	Check func(Hello) error
	// Name is what users call a member.
	Name func(id uint64) string
	// Stranger says what listens at an address where no node answers, if that is known and ends the start; nil where nobody asks.
	Stranger func(ctx context.Context, address string) error
}

const (
	peerQueue     = 4096             // messages; past it they are dropped, and raft sends again
	maxMessage    = 80 << 20         // bytes: a proposal at its largest, and what raft sends with it
	maxSnapshot   = 1 << 30          // bytes
	dialPatience  = time.Second      // for a connection and its introduction
	writePatience = 10 * time.Second // for a peer that does not read
	firstRetry    = 20 * time.Millisecond
	lastRetry     = 500 * time.Millisecond
	maxRefusals   = 1000 // ids of nodes whose refusal is remembered
)

// transport carries messages between members: to each peer one stream that is written by one goroutine,
// from each one that is read by one. Snapshots have streams of their own. With a member that does not listen there
// is one stream, opened by it, that both write and read, snapshots too.
type transport struct {
	node    *Node
	network Network
	log     zerolog.Logger
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu        locks.Mutex // guards the rest
	peers     map[uint64]*peer
	learnt    map[uint64]string  // addresses that members said they have
	met       map[uint64]Hello   // how members introduced themselves last
	opens     map[uint64]int     // streams of messages that members have opened
	back      map[uint64]*stream // those that members which do not listen opened
	conns     map[net.Conn]struct{}
	returning map[uint64]bool   // removed nodes that are made learners again
	trouble   map[uint64]error  // why there is no stream to a peer
	refusal   error             // the last word of a peer that refuses this node
	refusals  map[uint64]string // why nodes were refused, until they are not
	closed    bool
}

type peer struct {
	id      uint64
	queue   chan *pb.Message
	arrived chan struct{} // has room for one: the peer has opened a stream to this node, so write tries again at once
}

// stream is a connection to a peer that messages are written to.
type stream struct {
	conn  net.Conn
	ended <-chan struct{} // closed when reading from it has ended; nil if nobody reads
}

func newTransport(n *Node, network Network) *transport {
	t := &transport{node: n, network: network, log: n.config.Log, peers: map[uint64]*peer{}, learnt: map[uint64]string{}, met: map[uint64]Hello{}, opens: map[uint64]int{}, trouble: map[uint64]error{}, returning: map[uint64]bool{}, refusals: map[uint64]string{}, conns: map[net.Conn]struct{}{}, back: map[uint64]*stream{}}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// send hands messages to their peers' goroutines. It never waits: what does not fit is dropped.
func (t *transport) send(messages []*pb.Message) {
	for _, m := range messages {
		if m.GetTo() == t.node.config.ID {
			continue
		}
		if m.GetType() == pb.MsgSnap && t.opened(m.GetTo()) == nil {
			t.start(func() { t.sendSnapshot(m) })
			continue
		}
		p := t.peer(m.GetTo())
		if p == nil {
			return
		}
		select {
		case p.queue <- m:
		default:
			t.lose(m)
		}
	}
}

// lose tells raft that a message was not sent.
func (t *transport) lose(m *pb.Message) {
	to, snapshot := m.GetTo(), m.GetType() == pb.MsgSnap
	if snapshot {
		t.snapshotSent(to, raft.SnapshotFailure)
	} else {
		t.unreachable(to)
	}
}

func (t *transport) unreachable(id uint64) {
	t.node.reports.add(id, unreachable, func(r *raft.RawNode) { r.ReportUnreachable(id) })
}

func (t *transport) snapshotSent(id uint64, status raft.SnapshotStatus) {
	t.node.reports.add(id, snapshotSent, func(r *raft.RawNode) { r.ReportSnapshot(id, status) })
}

func (t *transport) peer(id uint64) *peer {
	t.mu.Lock()
	p := t.peers[id]
	if p != nil || t.closed {
		t.mu.Unlock()
		return p
	}
	p = &peer{id: id, queue: make(chan *pb.Message, peerQueue), arrived: make(chan struct{}, 1)}
	t.peers[id] = p
	t.mu.Unlock()
	t.start(func() { t.write(p) })
	return p
}

// start runs f on a goroutine that close waits for.
func (t *transport) start(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.running.Add(1)
	go func() {
		defer t.running.Done()
		f()
	}()
	return true
}

func (t *transport) close() {
	t.mu.Lock()
	t.closed = true
	t.cancel()
	for c := range t.conns {
		_ = c.Close()
	}
	t.mu.Unlock()
	t.running.Wait()
}

// hold notes an open connection, which close closes.
func (t *transport) hold(c net.Conn) (release func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_ = c.Close()
		return nil, false
	}
	t.conns[c] = struct{}{}
	return func() {
		_ = c.Close()
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.conns, c)
	}, true
}

func (t *transport) address(id uint64) string {
	t.mu.Lock()
	a := t.learnt[id]
	t.mu.Unlock()
	if a == "" {
		a = t.network.Address(id)
	}
	return a
}

// connect opens a stream and introduces this node.
func (t *transport) connect(ctx context.Context, address, kind string, to uint64) (c net.Conn, answer Hello, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	if address == "" {
		return nil, answer, fmt.Errorf("the address of node %d is not known", to)
	}
	if c, err = t.network.Dial(ctx, address); err != nil {
		return nil, answer, err
	}
	h := t.hello()
	h.Kind, h.To = kind, to
	if kind == meetStream {
		t.node.meeting.introduce(&h)
	}
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	if _, err = io.WriteString(c, Preface); err == nil {
		err = writeHello(c, h)
	}
	if err == nil {
		answer, err = readHello(c)
	}
	if err == nil && answer.Refused != "" {
		err = &RefusedError{address, answer.Refused, answer.Older, answer.Later}
	}
	if err == nil && to != 0 {
		if err = t.introduced(answer); err != nil {
			err = fmt.Errorf("%s at %s: %w", t.name(to), address, err)
		}
	}
	if err != nil {
		_ = c.Close()
		return nil, answer, err
	}
	return c, answer, c.SetDeadline(time.Time{})
}

// hello introduces this node.
func (t *transport) hello() Hello {
	h := t.network.Hello()
	h.From = t.node.config.ID
	t.node.store.standings.introduce(&h)
	return h
}

// introduced holds another's introduction against what this node knows, and remembers it if there is nothing against it. Who only
// asks whether it is welcome may yet be told by others that it is not.
func (t *transport) introduced(h Hello) error {
	err := t.network.Check(h)
	if err == nil {
		err = t.node.store.standings.check(h)
	}
	if err == nil && h.Kind != helloStream && t.node.isMember(h.From) {
		err = t.node.store.standings.meet(h)
	}
	if err == nil {
		t.meet(h)
	}
	return err
}

// maxStrangers bounds the nodes that are remembered and are no members: who joins is one for a moment, and anybody can say to be a node.
const maxStrangers = 1024

// meet remembers how a member introduced itself last.
func (t *transport) meet(h Hello) {
	member := t.node.isMember(h.From)
	h.Met, h.Addresses, h.Agreed = nil, nil, nil // as large as the other likes
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.met[h.From]; !known && !member && len(t.met) >= maxStrangers {
		for id := range t.met {
			if !t.node.isMember(id) {
				delete(t.met, id)
				delete(t.learnt, id)
				delete(t.opens, id)
			}
		}
	}
	t.met[h.From] = h
	delete(t.refusals, h.From)
	if h.Address != "" {
		t.learnt[h.From] = h.Address
	}
}

// name is what users call a member.
func (t *transport) name(id uint64) string {
	if t.network.Name == nil {
		return fmt.Sprintf("raft member %d", id)
	}
	return t.network.Name(id)
}

// opened is the stream that a member opened which does not listen, nil if there is none.
func (t *transport) opened(id uint64) *stream {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.back[id]
}

// reach keeps streams to members, of a node that does not listen: without them nobody could tell it anything.
func (t *transport) reach(ids []uint64) {
	if t.network.Listens {
		return
	}
	for _, id := range ids {
		if id != t.node.config.ID {
			t.peer(id)
		}
	}
}

// write connects to a peer whenever there is something for it, and writes until that fails.
func (t *transport) write(p *peer) {
	wait := firstRetry
	reopen := 0 // tries left to open a stream that broke, though there is no message: the peer is to know that this node is alive
	for t.ctx.Err() == nil {
		var first *pb.Message
		if reopen > 0 {
			reopen--
		} else if t.network.Listens || !slices.Contains(t.node.Voters(), p.id) {
			select {
			case <-t.ctx.Done():
				return
			case first = <-p.queue:
			}
		}
		s, err := t.open(p.id)
		t.troubled(p.id, err)
		if err == nil {
			t.refused(nil)
			wait, reopen = firstRetry, reopenTries
			select {
			case <-p.arrived: // of before this stream
			default:
			}
			err = t.writeTo(s, p, first)
		} else if first != nil {
			t.lose(first)
		}
		if t.ctx.Err() != nil {
			return
		}
		t.troubled(p.id, err)
		t.refused(err)
		t.unreachable(p.id)
		t.log.Debug().Err(err).Uint64("peer", p.id).Msg("quorum stream ended")
		select {
		case <-t.ctx.Done():
			return
		case <-time.After(wait):
			wait = min(2*wait, lastRetry)
		case <-p.arrived:
			reopen = max(reopen, 1)
		}
		for len(p.queue) > 0 { // old news
			t.lose(<-p.queue)
		}
	}
}

// open opens a stream to a member, or finds the one that it opened.
func (t *transport) open(id uint64) (*stream, error) {
	if s := t.opened(id); s != nil {
		return s, nil
	}
	if t.address(id) == "" {
		t.askAround()
	}
	c, answer, err := t.connect(t.ctx, t.address(id), messagesStream, id)
	if err != nil || t.network.Listens {
		return &stream{conn: c}, err
	}
	ended := make(chan struct{})
	if !t.start(func() {
		defer close(ended)
		err := t.read(c, maxSnapshot, id, answer.Life)
		t.log.Debug().Err(err).Uint64("peer", id).Msg("quorum stream ended")
		_ = c.Close()
	}) {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	return &stream{c, ended}, nil
}

// askAround learns the addresses of the members at the seeds, and of the leader that they name.
func (t *transport) askAround() {
	asked := map[string]bool{}
	for left := slices.Clone(t.network.Seeds); len(left) > 0; left = left[1:] {
		if left[0] == "" || asked[left[0]] {
			continue
		}
		asked[left[0]] = true
		c, answer, err := t.connect(t.ctx, left[0], whoStream, 0)
		if err != nil {
			t.refused(err)
			continue
		}
		_ = c.Close()
		if t.introduced(answer) == nil {
			left = append(left, answer.Leader)
		}
	}
}

// writeTo writes messages to a peer until that fails; first may be nil.
func (t *transport) writeTo(s *stream, p *peer, first *pb.Message) error {
	release, ok := t.hold(s.conn)
	if !ok {
		return net.ErrClosed
	}
	defer release()
	c, w := s.conn, bufio.NewWriterSize(s.conn, 64<<10)
	alive := time.NewTicker(aliveInterval)
	defer alive.Stop()
	var buf []byte
	for m := first; ; {
		if m == nil {
			select {
			case <-t.ctx.Done():
				return t.ctx.Err()
			case <-s.ended:
				return io.EOF
			case <-alive.C:
				if err := writeAlive(w, c); err != nil {
					return err
				}
				continue
			case m = <-p.queue:
			}
		}
		if m.GetType() == pb.MsgSnap {
			if err := t.writeSnapshot(w, c, m); err != nil {
				return err
			}
			m = nil
			continue
		}
		var err error
		if buf, err = (proto.MarshalOptions{}).MarshalAppend(append(buf[:0], 0, 0, 0, 0), m); err != nil {
			return err
		}
		binary.BigEndian.PutUint32(buf, uint32(len(buf)-4))
		_ = c.SetWriteDeadline(time.Now().Add(writePatience))
		if _, err = w.Write(buf); err != nil {
			return err
		}
		if cap(buf) > 1<<20 {
			buf = nil
		}
		if len(p.queue) == 0 {
			if err := w.Flush(); err != nil {
				return err
			}
		}
		m = nil
	}
}

// reopenTries are some seconds, at lastRetry.
const reopenTries = 10

// aliveInterval is how often a stream says that its node is there, by an empty frame. Raft's answers wait for the disk of the
// metadata, which may be slow for a while without anything else of the node being so.
const aliveInterval = 200 * time.Millisecond

func writeAlive(w *bufio.Writer, c net.Conn) error {
	_ = c.SetWriteDeadline(time.Now().Add(writePatience))
	if _, err := w.Write(make([]byte, 4)); err != nil {
		return err
	}
	return w.Flush()
}

// writeSnapshot writes a message with a snapshot between others, for a member that does not listen.
func (t *transport) writeSnapshot(w *bufio.Writer, c net.Conn, m *pb.Message) (err error) {
	status, to := raft.SnapshotFailure, m.GetTo()
	defer func() {
		if err == nil {
			status = raft.SnapshotFinish
		}
		t.snapshotSent(to, status)
	}()
	data, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	data = append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)
	_ = c.SetWriteDeadline(time.Now().Add(writePatience))
	if err := w.Flush(); err != nil {
		return err
	}
	return writePieces(c, data)
}

// troubled notes why there is no stream to a peer, nil if there is one.
func (t *transport) troubled(id uint64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.trouble[id] = err; err == nil {
		delete(t.trouble, id)
	}
}

// refused keeps a peer's refusal for who waits for the quorum, and logs one that is new.
func (t *transport) refused(err error) {
	var r *RefusedError
	if err != nil && !errors.As(err, &r) {
		return
	}
	if err != nil && r.Older {
		select {
		case t.node.fatal <- err:
		default:
		}
		return
	}
	t.mu.Lock()
	before := t.refusal
	t.refusal = err
	t.mu.Unlock()
	var old *RefusedError
	if err != nil && (!errors.As(before, &old) || old.Reason != r.Reason) { // all peers say the same
		t.log.Error().Msg(err.Error())
	}
}

// accept serves a stream that another member opened, behind its preface. It returns when the stream ends.
func (t *transport) accept(c net.Conn, r io.Reader) {
	release, ok := t.hold(c)
	if !ok {
		return
	}
	defer release()
	_ = c.SetDeadline(time.Now().Add(dialPatience))
	h, err := readHello(r)
	if err != nil {
		return
	}
	mine := t.hello()
	mine.To = h.From
	if !t.node.started.Load() {
		mine.Life = "" // a start that may yet be refused is none that others are to remember
	}
	if h.Kind == meetStream {
		t.answerMeeting(c, h, mine)
		return
	}
	if err := t.check(h); err != nil {
		t.refuse(c, h, mine, err)
		return
	}
	if h.Kind == joinStream {
		_ = c.SetDeadline(time.Now().Add(writePatience))
		if err = errNotBegun; t.node.started.Load() {
			mine.Leader, err = t.node.admit(t.ctx, h.From)
		}
		if err != nil {
			mine.Refused, mine.Later = err.Error(), true
		}
		mine.First = t.node.store.first.GetVoters()
		_ = writeHello(c, mine)
		return
	}
	if h.Kind == whoStream {
		ctx, cancel := context.WithTimeout(t.ctx, dialPatience)
		defer cancel()
		if s, err := t.node.Status(ctx); err == nil && s.Leader != t.node.config.ID && s.Leader != raft.None {
			mine.Leader = t.address(s.Leader)
		}
	}
	if writeHello(c, mine) != nil || h.Kind == whoStream || h.Kind == helloStream {
		return
	}
	_ = c.SetDeadline(time.Time{})
	if h.Kind == snapshotStream {
		if err := t.readSnapshot(c, r, h.Life); err != nil && t.ctx.Err() == nil {
			t.log.Warn().Err(err).Uint64("peer", h.From).Msg("snapshot not received")
		}
		return
	}
	t.mu.Lock()
	t.opens[h.From]++
	p := t.peers[h.From]
	t.mu.Unlock()
	if h.Address == "" {
		ended := make(chan struct{})
		defer close(ended)
		t.mu.Lock()
		old := t.back[h.From]
		t.back[h.From] = &stream{c, ended}
		t.mu.Unlock()
		if old != nil {
			_ = old.conn.Close()
		}
		defer func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			if s := t.back[h.From]; s != nil && s.conn == c {
				delete(t.back, h.From)
			}
		}()
	}
	if p != nil { // its goroutine finds the stream now
		select {
		case p.arrived <- struct{}{}:
		default:
		}
	}
	err = t.read(r, maxMessage, h.From, h.Life)
	if t.ctx.Err() == nil {
		t.log.Debug().Err(err).Uint64("peer", h.From).Msg("quorum stream from peer ended")
		if h.Address != "" {
			t.probe(h.From)
		}
	}
}

// errNotBegun tells a node that asks to join that it is too early.
var errNotBegun = errors.New("its quorum has not begun yet")

// refuse answers a node that is refused for good, and logs why unless it was the same the last time.
func (t *transport) refuse(c net.Conn, h, mine Hello, err error) {
	if t.refuses(h.From, err) {
		t.log.Warn().Str("peer", c.RemoteAddr().String()).Msg("refused a node: " + err.Error())
	}
	mine.Refused, mine.Older = err.Error(), errors.Is(err, errOlderDisk)
	_ = writeHello(c, mine)
}

// refuses notes why a node is refused, and reports whether that is new.
func (t *transport) refuses(id uint64, err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.refusals[id]
	if len(t.refusals) >= maxRefusals {
		clear(t.refusals)
	}
	t.refusals[id] = err.Error()
	return before != err.Error()
}

func (t *transport) check(h Hello) error {
	if h.To != 0 && h.To != t.node.config.ID {
		return fmt.Errorf("this is %s, not %s", t.name(t.node.config.ID), t.name(h.To))
	}
	if h.From == t.node.config.ID {
		return errors.New("another node with this one's node id is running here: give each its own")
	}
	return t.introduced(h)
}

// read takes messages of a life of a member until that fails.
func (t *transport) read(r io.Reader, limit int, from uint64, life string) error {
	buffered := bufio.NewReaderSize(r, 64<<10)
	heard := t.node.hears(from, life)
	var buf []byte
	for {
		data, err := readFrame(buffered, buf, limit)
		if err != nil {
			return err
		}
		heard.at.Store(int64(time.Since(t.node.born)))
		if buf = data; cap(buf) > 1<<20 {
			buf = nil
		}
		if len(data) == 0 {
			continue // it is alive
		}
		m := new(pb.Message)
		if err := proto.Unmarshal(data, m); err != nil {
			return err
		}
		if err := t.deliver(m, life); err != nil {
			return err
		}
	}
}

func (t *transport) deliver(m *pb.Message, life string) error {
	if raft.IsLocalMsg(m.GetType()) {
		return fmt.Errorf("message of kind %v from outside", m.GetType())
	}
	if from := m.GetFrom(); !t.node.isMember(from) {
		t.takeBack(from)
	}
	select {
	case t.node.incoming <- delivery{m, life}:
		return nil
	case <-t.node.done:
		return net.ErrClosed
	case <-t.ctx.Done():
		return net.ErrClosed
	}
}

// takeBack makes a learner of a node that was removed while it was away: its disk says that it is a member, and it goes by that
// until it hears otherwise.
func (t *transport) takeBack(id uint64) {
	if !t.claim(id) {
		return
	}
	t.start(func() {
		defer t.release(id)
		_, err := t.node.admit(t.ctx, id)
		t.log.Debug().Err(err).Uint64("peer", id).Msg("a removed node is back")
	})
}

// rejoin has this node made a learner, from which it was told that it is no member any more.
func (t *transport) rejoin() {
	self := t.node.config.ID
	if !t.claim(self) {
		return
	}
	t.start(func() {
		defer t.release(self)
		for !t.node.isMember(self) {
			for _, id := range t.node.Voters() {
				if _, err := t.node.ask(t.address(id)); err == nil {
					break
				}
			}
			select {
			case <-t.ctx.Done():
				return
			case <-time.After(lastRetry):
			}
		}
	})
}

// claim notes that a node is being made a learner again, unless it is already.
func (t *transport) claim(id uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.returning[id] {
		return false
	}
	t.returning[id] = true
	return true
}

func (t *transport) release(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.returning, id)
}

// probe asks whether a member whose stream broke is still there. Nobody listening where it was means that
// its process has ended: no need to wait for an election timeout.
func (t *transport) probe(id uint64) {
	ctx, cancel := context.WithTimeout(t.ctx, dialPatience)
	defer cancel()
	begun := t.streams(id)
	Repeat(ctx, firstProbe, func() bool {
		if t.streams(id) != begun {
			return true // it is there
		}
		ended := NobodyListens(ctx, t.network.Dial, t.address(id))
		if ended {
			t.node.gone(id)
		}
		return ended
	})
}

// firstProbe is how long to wait until a member that still listened is looked at again; longer each time.
const firstProbe = 5 * time.Millisecond

// streams counts the streams that a member has opened so far.
func (t *transport) streams(id uint64) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.opens[id]
}

// sendSnapshot streams a message with a snapshot on a connection of its own, so that heartbeats pass by.
func (t *transport) sendSnapshot(m *pb.Message) {
	status := raft.SnapshotFailure
	if err := t.streamSnapshot(m); err == nil {
		status = raft.SnapshotFinish
	} else if t.ctx.Err() == nil {
		t.log.Warn().Err(err).Uint64("peer", m.GetTo()).Msg("snapshot not sent")
	}
	t.snapshotSent(m.GetTo(), status)
}

func (t *transport) streamSnapshot(m *pb.Message) error {
	c, _, err := t.connect(t.ctx, t.address(m.GetTo()), snapshotStream, m.GetTo())
	if err != nil {
		return err
	}
	release, ok := t.hold(c)
	if !ok {
		return net.ErrClosed
	}
	defer release()
	data := m.GetSnapshot().GetData()
	head := proto.Clone(m).(*pb.Message)
	head.Snapshot.Data = nil
	encoded, err := proto.Marshal(head)
	if err != nil {
		return err
	}
	first := binary.BigEndian.AppendUint32(nil, uint32(len(encoded)))
	first = binary.BigEndian.AppendUint64(append(first, encoded...), uint64(len(data)))
	_ = c.SetWriteDeadline(time.Now().Add(writePatience))
	if _, err := c.Write(first); err != nil {
		return err
	}
	if err := writePieces(c, data); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(writePatience))
	_, err = io.ReadFull(c, make([]byte, 1)) // taken
	return err
}

// writePieces writes data of any size; each piece has writePatience.
func writePieces(c net.Conn, data []byte) error {
	for len(data) > 0 {
		n := min(len(data), 1<<20)
		_ = c.SetWriteDeadline(time.Now().Add(writePatience))
		if _, err := c.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// deadlined is a connection whose every read has its own time.
type deadlined struct {
	c net.Conn
	r io.Reader
}

func (d deadlined) Read(b []byte) (int, error) {
	_ = d.c.SetReadDeadline(time.Now().Add(writePatience))
	return d.r.Read(b)
}

func (t *transport) readSnapshot(c net.Conn, r io.Reader, life string) error {
	_ = c.SetReadDeadline(time.Now().Add(writePatience))
	head, err := readFrame(r, nil, maxMessage)
	if err != nil {
		return err
	}
	m := new(pb.Message)
	if err := proto.Unmarshal(head, m); err != nil {
		return err
	}
	var size [8]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint64(size[:])
	if n > maxSnapshot || m.GetType() != pb.MsgSnap || m.Snapshot == nil {
		return fmt.Errorf("snapshot of %d bytes in a message of kind %v", n, m.GetType())
	}
	data, err := readInto(deadlined{c, r}, nil, int(n))
	if err != nil {
		return err
	}
	m.Snapshot.Data = data
	if err := t.deliver(m, life); err != nil {
		return err
	}
	_, err = c.Write([]byte{1})
	return err
}
