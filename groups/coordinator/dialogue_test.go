package coordinator

import (
	"bytes"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
	"kraft/internal/dialogue"
	"kraft/wire/ident"
)

// TestDialogues plays the files in testdata: lines at the margin are what clients and the clock do,
// indented ones what the coordinator answers and writes.
func TestDialogues(t *testing.T) {
	dialogue.Play(t, "testdata/*.txt", func(t *testing.T, say dialogue.Say) func(string) {
		s := newStage(say)
		return func(line string) { s.command(t, line) }
	})
}

// stage is a coordinator with a log, a clock and callers, without goroutines.
type stage struct {
	c       *Coordinator
	now     time.Time
	log     []runtime.Record
	failure error // of the next check
	ids     int
	callers map[runtime.Token]string
	next    runtime.Token
	say     dialogue.Say
}

func newStage(say dialogue.Say) *stage {
	s := &stage{say: say, now: time.UnixMilli(1_700_000_000_000), callers: map[runtime.Token]string{}}
	s.restart()
	return s
}

func (s *stage) restart() {
	s.c = New(Config{
		MinSession: 6 * time.Second, MaxSession: 30 * time.Minute, MaxSize: 4, OffsetsRetention: 24 * time.Hour,
		RetentionInterval: 10 * time.Minute, MaxMetadata: 16,
		NewID: func() string { s.ids++; return strconv.Itoa(s.ids) },
	})
	for i, r := range s.log {
		s.replay(i, r)
	}
	s.c.Loaded(s.now)
}

// replay has the coordinator replay a record, whose bytes others use afterwards.
func (s *stage) replay(offset int, r runtime.Record) {
	r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
	defer func() {
		clear(r.Key)
		clear(r.Value)
	}()
	if err := s.c.Replay(runtime.Entry{Record: r, Offset: int64(offset), ProducerID: -1}); err != nil {
		panic(err)
	}
}

func (s *stage) call(to runtime.Token) runtime.Call {
	return runtime.Call{Now: s.now, To: to, Check: func(records []runtime.Record) error {
		if len(records) == 0 || s.failure == nil {
			return nil
		}
		err := s.failure
		s.failure = nil
		s.say("append is refused")
		return err
	}}
}

// compact leaves the newest record of each key, in the order of the log, and no tombstones.
func (s *stage) compact() {
	newest := map[string]int{}
	for i, r := range s.log {
		newest[string(r.Key)] = i
	}
	var kept []runtime.Record
	for i, r := range s.log {
		if newest[string(r.Key)] == i && r.Value != nil {
			kept = append(kept, r)
		}
	}
	s.log = kept
}

// words are a command's arguments: plain ones, and those of the form name=value.
type words struct {
	plain []string
	named map[string]string
}

func parse(fields []string) words {
	w := words{named: map[string]string{}}
	for _, f := range fields {
		if k, v, ok := strings.Cut(f, "="); ok {
			w.named[k] = v
		} else {
			w.plain = append(w.plain, f)
		}
	}
	return w
}

func (w words) number(name string, other int) int {
	if v, ok := w.named[name]; ok {
		n, err := strconv.Atoi(v)
		if err != nil {
			panic(err)
		}
		return n
	}
	return other
}

func (w words) millis(name string, other time.Duration) int32 {
	if v, ok := w.named[name]; ok {
		d, err := time.ParseDuration(v)
		if err != nil {
			panic(err)
		}
		other = d
	}
	return int32(other.Milliseconds())
}

func (w words) text(name string) *string {
	if v, ok := w.named[name]; ok {
		return &v
	}
	return nil
}

func (s *stage) command(t *testing.T, line string) {
	t.Helper()
	caller, rest, ok := strings.Cut(line, ": ")
	if !ok {
		rest = caller
	}
	f := strings.Fields(rest)
	w := parse(f[1:])
	s.next++
	to := s.next
	s.callers[to] = caller
	group := ""
	if len(w.plain) > 0 {
		group = w.plain[0]
	}
	member := w.named["member"]
	switch f[0] {
	case "join":
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID = int16(w.number("version", 9)), group, member, w.text("instance")
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = w.millis("session", 10*time.Second), w.millis("rebalance", 60*time.Second)
		req.ProtocolType = "consumer"
		if v := w.text("type"); v != nil {
			req.ProtocolType = *v
		}
		protocols := "range"
		if v := w.text("protocols"); v != nil {
			protocols = *v
		}
		for _, p := range strings.Split(protocols, ",") {
			name, topic, ok := strings.Cut(p, "/")
			if !ok {
				topic = "t"
			}
			meta := (&kmsg.ConsumerMemberMetadata{Topics: []string{topic}}).AppendTo(nil)
			if ok && topic == "" {
				meta = []byte{}
			}
			req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: name, Metadata: meta})
		}
		s.carryOut(s.c.Join(s.call(to), Client{ID: caller, Host: "/host"}, req))
	case "sync":
		req := kmsg.NewPtrSyncGroupRequest()
		req.Group, req.MemberID, req.Generation, req.InstanceID = group, member, int32(w.number("gen", -1)), w.text("instance")
		req.Protocol, req.ProtocolType = w.text("protocol"), w.text("type")
		if v := w.text("assign"); v != nil {
			for _, a := range strings.Split(*v, ",") {
				id, what, _ := strings.Cut(a, "/")
				req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: id, MemberAssignment: []byte(what)})
			}
		}
		s.carryOut(s.c.Sync(s.call(to), req))
	case "heartbeat":
		req := kmsg.NewPtrHeartbeatRequest()
		req.Group, req.MemberID, req.Generation, req.InstanceID = group, member, int32(w.number("gen", -1)), w.text("instance")
		s.carryOut(s.c.Heartbeat(s.call(to), req))
	case "leave":
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Version, req.Group, req.MemberID = int16(w.number("version", 5)), group, member
		for _, id := range strings.Split(member, ",") {
			m := kmsg.NewLeaveGroupRequestMember()
			m.MemberID, m.InstanceID = id, w.text("instance")
			req.Members = append(req.Members, m)
		}
		s.carryOut(s.c.Leave(s.call(to), req))
	case "commit":
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Version, req.Group, req.MemberID, req.Generation = int16(w.number("version", 9)), group, member, int32(w.number("gen", -1))
		req.InstanceID = w.text("instance")
		var commits []Commit
		for _, tp := range w.plain[1:] {
			where, offset, _ := strings.Cut(tp, "@")
			n, _ := strconv.ParseInt(offset, 10, 64)
			o := Offset{Offset: n, LeaderEpoch: -1, Metadata: w.named["metadata"], Committed: s.now.UnixMilli(), Expires: -1}
			if v, ok := w.named["keep"]; ok {
				d, _ := time.ParseDuration(v)
				o.Expires = s.now.Add(d).UnixMilli()
			}
			commits = append(commits, Commit{TopicPartition: partition(where), Offset: o})
		}
		s.carryOut(s.c.CommitOffsets(s.call(to), req, commits))
	case "offsets":
		s.carryOut(s.c.FetchOffsets(to, group, nil, false))
	case "delete-offsets":
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group = group
		for _, where := range w.plain[1:] {
			tp := partition(where)
			rt := kmsg.NewOffsetDeleteRequestTopic()
			rt.Topic = tp.Topic
			rp := kmsg.NewOffsetDeleteRequestTopicPartition()
			rp.Partition = tp.Partition
			rt.Partitions = append(rt.Partitions, rp)
			req.Topics = append(req.Topics, rt)
		}
		s.carryOut(s.c.DeleteOffsets(s.call(to), req))
	case "forget-topic":
		s.carryOut(s.c.ForgetTopics(s.call(0), []string{group}))
	case "delete-group":
		s.carryOut(s.c.DeleteGroup(s.call(to), group))
	case "describe":
		s.carryOut(s.c.Describe(to, group, int16(w.number("version", 6))))
	case "list":
		req := kmsg.NewPtrListGroupsRequest()
		if v := w.text("states"); v != nil {
			req.StatesFilter = strings.Split(*v, ",")
		}
		s.carryOut(s.c.List(to, req))
	case "fail":
		s.failure = kerr.CoordinatorNotAvailable
	case "restart":
		s.restart()
	case "compact":
		s.compact()
	case "advance":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			t.Fatal(err)
		}
		s.advance(d)
	case "delay":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			t.Fatal(err)
		}
		s.c.config.InitialRebalanceDelay = d
	default:
		t.Fatalf("no command %q", f[0])
	}
}

func partition(s string) ident.TopicPartition {
	i := strings.LastIndexByte(s, '-')
	n, err := strconv.Atoi(s[i+1:])
	if err != nil {
		panic(err)
	}
	return ident.TopicPartition{Topic: s[:i], Partition: int32(n)}
}

// advance lets time pass, with all that falls due on the way.
func (s *stage) advance(d time.Duration) {
	end := s.now.Add(d)
	for {
		next := s.c.Next()
		if next.IsZero() || next.After(end) {
			break
		}
		if next.After(s.now) {
			s.now = next
		}
		s.carryOut(s.c.Tick(s.call(0)))
	}
	s.now = end
}

// carryOut does what runtime.Loop does, at once.
func (s *stage) carryOut(e runtime.Effects) {
	var lines []string
	for _, r := range e.Records {
		s.log = append(s.log, r)
		lines = append(lines, "writes "+describeRecord(r))
	}
	sort.Strings(lines)
	for _, l := range lines {
		s.say("%s", l)
	}
	for i, r := range e.Records {
		s.replay(len(s.log)-len(e.Records)+i, r)
	}
	for _, r := range e.Replies {
		s.say("%s <- %s", s.callers[r.To], describeReply(r.Response))
	}
}

func describeRecord(r runtime.Record) string {
	switch r.Key[1] {
	case offsetCommitV1:
		var k kmsg.OffsetCommitKey
		_ = k.ReadFrom(r.Key)
		if r.Value == nil {
			return fmt.Sprintf("offset %s %s-%d: tombstone", k.Group, k.Topic, k.Partition)
		}
		v := kmsg.NewOffsetCommitValue()
		_ = v.ReadFrom(r.Value)
		return fmt.Sprintf("offset %s %s-%d: %d", k.Group, k.Topic, k.Partition, v.Offset)
	case groupMetadataV2:
		var k kmsg.GroupMetadataKey
		_ = k.ReadFrom(r.Key)
		if r.Value == nil {
			return fmt.Sprintf("group %s: tombstone", k.Group)
		}
		v := kmsg.NewGroupMetadataValue()
		_ = v.ReadFrom(r.Value)
		var members []string
		for _, m := range v.Members {
			members = append(members, m.MemberID+"/"+string(m.Assignment))
		}
		return fmt.Sprintf("group %s: generation %d protocol %s leader %s members [%s]", k.Group, v.Generation, orNone(v.Protocol), orNone(v.Leader), strings.Join(members, " "))
	}
	return "?"
}

func orNone(s *string) string {
	if s == nil {
		return "none"
	}
	return *s
}

func text(c int16) string {
	if c == 0 {
		return "ok"
	}
	return kerr.TypedErrorForCode(c).Message
}

func describeReply(r any) string {
	switch r := r.(type) {
	case *kmsg.JoinGroupResponse:
		if r.ErrorCode != 0 {
			return fmt.Sprintf("%s member=%s", text(r.ErrorCode), r.MemberID)
		}
		var members []string
		for _, m := range r.Members {
			members = append(members, m.MemberID)
		}
		skip := ""
		if r.SkipAssignment {
			skip = " skip-assignment"
		}
		return fmt.Sprintf("joined member=%s gen=%d protocol=%s leader=%s members=[%s]%s", r.MemberID, r.Generation, orNone(r.Protocol), r.LeaderID, strings.Join(members, " "), skip)
	case *kmsg.SyncGroupResponse:
		if r.ErrorCode != 0 {
			return "sync " + text(r.ErrorCode)
		}
		return fmt.Sprintf("synced %q", r.MemberAssignment)
	case *kmsg.LeaveGroupResponse:
		if len(r.Members) == 0 {
			return "leave " + text(r.ErrorCode)
		}
		parts := make([]string, len(r.Members))
		for i, m := range r.Members {
			parts[i] = text(m.ErrorCode)
		}
		return "leave " + strings.Join(parts, ", ")
	case int16:
		return "heartbeat " + text(r)
	case []Commit:
		var parts []string
		for _, c := range r {
			text := "ok"
			if c.Err != nil {
				text = c.Err.Message
			}
			parts = append(parts, fmt.Sprintf("%s-%d %s", c.Topic, c.Partition, text))
		}
		return "commit " + strings.Join(parts, ", ")
	case Fetched:
		var parts []string
		for tp, o := range r.Offsets {
			parts = append(parts, fmt.Sprintf("%s-%d@%d", tp.Topic, tp.Partition, o.Offset))
		}
		sort.Strings(parts)
		return "offsets [" + strings.Join(parts, " ") + "]"
	case *kmsg.OffsetDeleteResponse:
		parts := []string{text(r.ErrorCode)}
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				parts = append(parts, fmt.Sprintf("%s-%d %s", t.Topic, p.Partition, text(p.ErrorCode)))
			}
		}
		return "delete-offsets " + strings.Join(parts, ", ")
	case kmsg.DeleteGroupsResponseGroup:
		return "delete-group " + text(r.ErrorCode)
	case kmsg.DescribeGroupsResponseGroup:
		var members []string
		for _, m := range r.Members {
			members = append(members, m.MemberID+"/"+string(m.MemberAssignment))
		}
		return fmt.Sprintf("%s %s type=%q protocol=%q [%s]", text(r.ErrorCode), r.State, r.ProtocolType, r.Protocol, strings.Join(members, " "))
	case []kmsg.ListGroupsResponseGroup:
		var parts []string
		for _, g := range r {
			parts = append(parts, g.Group+" "+g.GroupState)
		}
		return "groups [" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprintf("%v", r)
}
