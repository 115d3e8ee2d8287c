package coordinator

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/groups/runtime"
)

// rebalance starts the join phase if it is not under way, and ends it if all have joined.
func (c *Coordinator) rebalance(call runtime.Call, g *group) runtime.Effects {
	var e runtime.Effects
	if g.is(Empty, CompletingRebalance, Stable) {
		e = c.prepare(call, g)
	}
	e.Add(c.completeIfJoined(call, g))
	return e
}

// prepare begins the join phase. The first members of a group wait a little for others to come
// (group.initial.rebalance.delay.ms), afterwards the longest rebalance timeout is the limit.
func (c *Coordinator) prepare(call runtime.Call, g *group) runtime.Effects {
	e := c.failSyncs(g, kerr.RebalanceInProgress.Code)
	g.initial = g.state == Empty && c.config.InitialRebalanceDelay > 0
	g.enter(PreparingRebalance, call.Now)
	g.rebalance++
	wait := g.rebalanceTimeout()
	if g.initial {
		g.initialEnd = call.Now.Add(wait)
		wait = min(wait, c.config.InitialRebalanceDelay)
	}
	g.newcomers = false
	c.joinUntil(g, call.Now.Add(wait))
	return e
}

func (c *Coordinator) joinUntil(g *group, t time.Time) {
	g.joinBy = t
	round := g.rebalance
	c.at(t, func(call runtime.Call) runtime.Effects {
		switch {
		case g.state != PreparingRebalance || g.rebalance != round || call.Now.Before(g.joinBy):
			return runtime.Effects{}
		case call.Held:
			c.joinUntil(g, call.Now.Add(heldPause))
			return runtime.Effects{}
		}
		return c.joinDue(call, g)
	})
}

// heldPause is for how long nobody is put out of a group whose replies are held up.
const heldPause = time.Second

// joinDue is called when the join phase has lasted long enough.
func (c *Coordinator) joinDue(call runtime.Call, g *group) runtime.Effects {
	if g.initial && g.newcomers && call.Now.Before(g.initialEnd) {
		g.newcomers = false
		next := call.Now.Add(c.config.InitialRebalanceDelay)
		if next.After(g.initialEnd) {
			next = g.initialEnd
		}
		c.joinUntil(g, next)
		return runtime.Effects{}
	}
	return c.complete(call, g)
}

func (c *Coordinator) completeIfJoined(call runtime.Call, g *group) runtime.Effects {
	if g.state != PreparingRebalance || g.initial || !g.joined() {
		return runtime.Effects{}
	}
	return c.complete(call, g)
}

// complete ends the join phase: who has not come is out, except static members; the rest form the next
// generation.
func (c *Coordinator) complete(call runtime.Call, g *group) runtime.Effects {
	g.initial = false
	for _, m := range append([]*member(nil), g.order...) {
		if m.joining == 0 && m.instance == nil {
			g.drop(m)
		}
	}
	if len(g.members) > 0 && !g.electJoined() {
		// Only static members are left and none has come: wait for them another round.
		c.joinUntil(g, call.Now.Add(max(g.rebalanceTimeout(), time.Second)))
		return runtime.Effects{}
	}
	g.generation++
	if len(g.members) == 0 {
		g.protocol, g.leader, g.unsynced = nil, "", nil
		g.enter(Empty, call.Now)
		// If this can't be recorded, the next coordinator loads the former members. When their sessions end, the group is empty again.
		e := runtime.Effects{Records: []runtime.Record{groupRecord(g, g.since, nil)}}
		if err := call.Check(e.Records); err != nil {
			e.Records = nil
		}
		return e
	}
	g.protocol = g.vote()
	g.enter(CompletingRebalance, call.Now)
	g.unsynced = map[string]struct{}{}
	var e runtime.Effects
	for _, m := range g.order {
		if m.joining != 0 {
			e.Add(c.joinResponse(g, m, m.joining))
			m.joining = 0
		}
		m.isNew = false
		c.touch(g, m, call.Now)
		g.unsynced[m.id] = struct{}{}
	}
	c.syncUntil(g, call.Now.Add(g.rebalanceTimeout()))
	return e
}

// syncUntil removes, at t, the members that have not sent SyncGroup in this generation.
func (c *Coordinator) syncUntil(g *group, t time.Time) {
	generation := g.generation
	c.at(t, func(call runtime.Call) runtime.Effects {
		switch {
		case g.generation != generation || !g.is(CompletingRebalance, Stable) || len(g.unsynced) == 0:
			return runtime.Effects{}
		case call.Held:
			c.syncUntil(g, call.Now.Add(heldPause))
			return runtime.Effects{}
		}
		return c.dropUnsynced(call, g)
	})
}

// electJoined makes sure that the leader is a member that has joined; false if none has.
func (g *group) electJoined() bool {
	if l := g.members[g.leader]; l != nil && l.joining != 0 {
		return true
	}
	for _, m := range g.order {
		if m.joining != 0 {
			g.leader = m.id
			return true
		}
	}
	return false
}

// dropUnsynced removes members that joined and then never sent SyncGroup.
func (c *Coordinator) dropUnsynced(call runtime.Call, g *group) runtime.Effects {
	for _, m := range append([]*member(nil), g.order...) {
		if _, late := g.unsynced[m.id]; late {
			g.drop(m)
		}
	}
	g.unsynced = nil
	return c.rebalance(call, g)
}

// failSyncs answers all who wait in SyncGroup.
func (c *Coordinator) failSyncs(g *group, code int16) (e runtime.Effects) {
	for _, m := range g.order {
		e.Add(failedSync(m.syncing, code))
		m.syncing = 0
	}
	return e
}

// touch gives a member a full session from now on.
func (c *Coordinator) touch(g *group, m *member, now time.Time) {
	m.expires = now.Add(m.sessionTimeout)
	if at := m.looked(); m.due.IsZero() || at.Before(m.due) {
		c.watch(g, m, at)
	}
}

// looked is when to look at the member's session next.
func (m *member) looked() time.Time {
	if late := m.joinedAt.Add(newMemberTimeout); m.isNew && m.joining != 0 && late.Before(m.expires) {
		return late
	}
	return m.expires
}

// watch looks at a member's session at time t, and goes on for as long as it is a member: heartbeats
// only move a time stamp.
func (c *Coordinator) watch(g *group, m *member, t time.Time) {
	m.due = t
	c.at(t, func(call runtime.Call) runtime.Effects {
		if !m.due.Equal(t) {
			return runtime.Effects{} // it was looked at earlier
		}
		if g.members[m.id] != m {
			m.due = time.Time{}
			return runtime.Effects{}
		}
		if m.isNew && m.joining != 0 && !call.Now.Before(m.joinedAt.Add(newMemberTimeout)) {
			return c.remove(call, g, m)
		}
		if m.joining != 0 || m.syncing != 0 || call.Held {
			m.expires = call.Now.Add(m.sessionTimeout) // it waits for us
		}
		if call.Now.Before(m.expires) {
			c.watch(g, m, m.looked())
			return runtime.Effects{}
		}
		return c.remove(call, g, m)
	})
}

// remove takes a member out and lets the others rebalance.
func (c *Coordinator) remove(call runtime.Call, g *group, m *member) runtime.Effects {
	e := failedJoin(m.joining, m.id, kerr.UnknownMemberID.Code)
	e.Add(failedSync(m.syncing, kerr.UnknownMemberID.Code))
	m.joining, m.syncing = 0, 0
	g.drop(m)
	switch g.state {
	case Stable, CompletingRebalance:
		e.Add(c.rebalance(call, g))
	case PreparingRebalance:
		e.Add(c.completeIfJoined(call, g))
	case Empty, Dead:
	}
	return e
}
