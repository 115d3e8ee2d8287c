package coordinator

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"kraft/internal/dialogue"
)

// TestReplayIsTheState: whatever clients do, who replays the log knows the same offsets and, of groups that don't rebalance, the same
// members in the same generation.
func TestReplayIsTheState(t *testing.T) {
	settled, written := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		var story strings.Builder
		s := newStage(func(format string, args ...any) { fmt.Fprintf(&story, "  "+format+"\n", args...) })
		do := func(line string) {
			fmt.Fprintln(&story, line)
			s.command(t, line)
		}
		for range rapid.IntRange(1, 100).Draw(rt, "steps") {
			if rapid.IntRange(0, 3).Draw(rt, "as members do") == 0 {
				settle(s, do)
			} else {
				do(randomCommand(rt, s))
			}
			again := newStage(dialogue.Say(func(string, ...any) {}))
			again.log, again.now = s.log, s.now
			again.restart()
			n, err := compareStates(s.c, again.c, strings.Contains(story.String(), "append is refused"))
			if err != nil {
				rt.Fatalf("%v\n%s", err, &story)
			}
			settled, written = settled+n, written+len(s.log)
		}
	})
	if settled == 0 || written == 0 {
		t.Errorf("%d groups were compared, %d records", settled, written)
	}
	t.Logf("%d groups were compared", settled)
}

// settle has the members of group g end a rebalance.
func settle(s *stage, do func(string)) {
	for i := range 2 * len(s.c.groups) {
		g := s.c.groups["g"]
		if g == nil {
			return
		}
		for _, id := range slices.Sorted(maps.Keys(g.pending)) {
			do(fmt.Sprintf("p%d: join g member=%s protocols=range", i, id))
		}
		if g.state == PreparingRebalance {
			for _, m := range slices.Clone(g.order) {
				if m.joining == 0 {
					do(fmt.Sprintf("%s: join g member=%s%s protocols=range", m.clientID, m.id, instanceOf(m)))
				}
			}
			do("advance 5s") // the initial delay
		}
		if g.state == CompletingRebalance {
			var to []string
			for _, m := range g.order {
				to = append(to, m.id+"/all")
			}
			for _, m := range slices.Clone(g.order) {
				do(fmt.Sprintf("%s: sync g member=%s%s gen=%d assign=%s", m.clientID, m.id, instanceOf(m), g.generation, strings.Join(to, ",")))
			}
		}
	}
}

func instanceOf(m *member) string {
	if m.instance == nil {
		return ""
	}
	return " instance=" + *m.instance
}

// randomCommand is a line of a dialogue.
func randomCommand(rt *rapid.T, s *stage) string {
	pick := func(of ...string) string { return rapid.SampledFrom(of).Draw(rt, "pick") }
	group, client := pick("g", "g", "g", "h"), pick("a", "b", "c")
	var members []string
	generation := int32(0)
	if g := s.c.groups[group]; g != nil {
		members = append(slices.Sorted(maps.Keys(g.members)), slices.Sorted(maps.Keys(g.pending))...)
		generation = g.generation
	}
	member := pick(append(members, "", "nobody")...)
	if len(members) > 0 && rapid.IntRange(0, 3).Draw(rt, "known") > 0 {
		member = pick(members...)
	}
	if rapid.IntRange(0, 9).Draw(rt, "stale") == 0 {
		generation--
	}
	instance := ""
	if g := s.c.groups[group]; g != nil && g.members[member] != nil {
		instance = instanceOf(g.members[member])
	} else if member == "" {
		instance = pick("", "", " instance=one", " instance=two")
	}
	switch what := pick("join", "join", "join", "sync", "sync", "sync", "commit", "commit", "leave", "heartbeat", "advance", "advance", "delete-offsets", "forget-topic", "delete-group", "fail", "delay", "restart", "compact"); what {
	case "join":
		return fmt.Sprintf("%s: join %s member=%s%s version=%s protocols=%s session=%s", client, group, member, instance, pick("3", "9"), pick("range", "range,sticky", "sticky/u,range", "range/"), pick("10s", "20s"))
	case "sync":
		var to []string
		for _, m := range members {
			to = append(to, m+"/"+pick("x", "y", "z"))
		}
		return fmt.Sprintf("%s: sync %s member=%s%s gen=%d assign=%s", client, group, member, instance, generation, strings.Join(to, ","))
	case "commit":
		if rapid.Bool().Draw(rt, "simple") {
			return fmt.Sprintf("%s: commit %s t-0@%d u-1@7", client, pick(group, "simple"), rapid.IntRange(0, 9).Draw(rt, "offset"))
		}
		return fmt.Sprintf("%s: commit %s t-1@3 member=%s gen=%d keep=%s", client, group, member, generation, pick("1h", "1000h"))
	case "leave":
		return fmt.Sprintf("%s: leave %s member=%s%s", client, group, member, instance)
	case "heartbeat":
		return fmt.Sprintf("%s: heartbeat %s member=%s%s gen=%d", client, group, member, instance, generation)
	case "delete-offsets":
		return fmt.Sprintf("x: delete-offsets %s t-0 t-1", pick(group, "simple"))
	case "forget-topic":
		return "x: forget-topic " + pick("t", "u")
	case "delete-group":
		return "x: delete-group " + pick(group, "simple")
	case "fail":
		return "fail"
	case "restart", "compact":
		return what
	case "delay":
		return "delay " + pick("0s", "3s")
	}
	return "advance " + pick("1s", "5s", "11s", "70s", "25h")
}

// compareStates holds a coordinator's state against that of one which was loaded. It returns how many groups without a rebalance it found.
// refused says that not all records could be appended.
func compareStates(c, loaded *Coordinator, refused bool) (settled int, err error) {
	for id := range loaded.groups {
		if c.groups[id] == nil {
			return 0, fmt.Errorf("group %s is loaded and not there", id)
		}
	}
	for id, g := range c.groups {
		l := loaded.groups[id]
		if l == nil {
			if g.known || len(g.offsets) > 0 {
				return 0, fmt.Errorf("group %s is not loaded: known %v, offsets %v", id, g.known, g.offsets)
			}
			continue
		}
		if g.known != l.known || !maps.EqualFunc(g.offsets, l.offsets, sameOffset) {
			return 0, fmt.Errorf("group %s: known %v, offsets %v; loaded: known %v, offsets %v", id, g.known, g.offsets, l.known, l.offsets)
		}
		if !g.known || !g.is(Stable, Empty) {
			continue
		}
		if refused && g.generation != l.generation && g.state == Empty {
			continue // that it is empty could not be recorded
		}
		settled++
		is, was := describeState(g), describeState(l)
		if !reflect.DeepEqual(is, was) || slices.ContainsFunc(is, func(s string) bool { return strings.HasPrefix(s, "lost: ") }) {
			return 0, fmt.Errorf("group %s\n     is %v\n loaded %v", id, is, was)
		}
	}
	return settled, nil
}

// sameOffset is about what clients see: a compaction gives records other places in a stage's log.
func sameOffset(a, b Offset) bool {
	a.at, b.at = 0, 0
	return a == b
}

func describeState(g *group) (out []string) {
	out = append(out, fmt.Sprint(g.state, g.since, g.protocolType, orNone(g.protocol), g.generation, g.leader))
	for _, m := range g.order {
		if g.members[m.id] != m || m.instance != nil && g.static[*m.instance] != m.id {
			out = append(out, "lost: "+m.id)
		}
		if g.protocol != nil && !m.subscribes(*g.protocol, m.metadata(g.protocol)) {
			out = append(out, "lost: the protocol of "+m.id)
		}
		out = append(out, fmt.Sprintf("%s %s %s %s %v %v %q %q", m.id, orNone(m.instance), m.clientID, m.host, m.sessionTimeout, m.rebalanceTimeout, m.metadata(g.protocol), m.assignment))
	}
	return append(out, fmt.Sprint(len(g.members), len(g.static)))
}
