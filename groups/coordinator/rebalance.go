package coordinator

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/groups/runtime"
)

// rebalance starts the join phase if it is not under way, and ends it if all have joined.
func (c *Coordinator) rebalance(now time.Time, g *group) runtime.Effects {
	var e runtime.Effects
	if g.is(Empty, CompletingRebalance, Stable) {
		e = c.prepare(now, g)
	}
	e.Add(c.completeIfJoined(now, g))
	return e
}

// prepare begins the join phase. The first members of a group wait a little for others to come
// (group.initial.rebalance.delay.ms), afterwards the longest rebalance timeout is the limit.
func (c *Coordinator) prepare(now time.Time, g *group) runtime.Effects {
	e := c.failSyncs(g, kerr.RebalanceInProgress.Code)
	g.initial = g.state == Empty && c.config.InitialRebalanceDelay > 0
	g.enter(PreparingRebalance, now)
	g.rebalance++
	wait := g.rebalanceTimeout()
	if g.initial {
		g.initialEnd = now.Add(wait)
		wait = min(wait, c.config.InitialRebalanceDelay)
	}
	g.newcomers = false
	c.joinUntil(g, now.Add(wait))
	return e
}

func (c *Coordinator) joinUntil(g *group, t time.Time) {
	g.joinBy = t
	round := g.rebalance
	c.at(t, func(now time.Time) runtime.Effects {
		if g.state != PreparingRebalance || g.rebalance != round || now.Before(g.joinBy) {
			return runtime.Effects{}
		}
		return c.joinDue(now, g)
	})
}

// joinDue is called when the join phase has lasted long enough.
func (c *Coordinator) joinDue(now time.Time, g *group) runtime.Effects {
	if g.initial && g.newcomers && now.Before(g.initialEnd) {
		g.newcomers = false
		next := now.Add(c.config.InitialRebalanceDelay)
		if next.After(g.initialEnd) {
			next = g.initialEnd
		}
		c.joinUntil(g, next)
		return runtime.Effects{}
	}
	return c.complete(now, g)
}

func (c *Coordinator) completeIfJoined(now time.Time, g *group) runtime.Effects {
	if g.state != PreparingRebalance || g.initial || !g.joined() {
		return runtime.Effects{}
	}
	return c.complete(now, g)
}

// complete ends the join phase: who has not come is out, except static members; the rest form the next
// generation.
func (c *Coordinator) complete(now time.Time, g *group) runtime.Effects {
	g.initial = false
	for _, m := range append([]*member(nil), g.order...) {
		if m.joining == 0 && m.instance == nil {
			g.drop(m)
		}
	}
	if len(g.members) > 0 && !g.electJoined() {
		// Only static members are left and none has come: wait for them another round.
		c.joinUntil(g, now.Add(g.rebalanceTimeout()))
		return runtime.Effects{}
	}
	g.generation++
	if len(g.members) == 0 {
		g.protocol, g.leader, g.unsynced = nil, "", nil
		g.enter(Empty, now)
		return c.recordEmpty(g)
	}
	g.protocol = g.vote()
	g.enter(CompletingRebalance, now)
	g.unsynced = map[string]struct{}{}
	var e runtime.Effects
	for _, m := range g.order {
		if m.joining != 0 {
			e.Add(c.joinResponse(g, m, m.joining))
			m.joining = 0
		}
		m.isNew = false
		c.touch(g, m, now)
		g.unsynced[m.id] = struct{}{}
	}
	generation := g.generation
	c.at(now.Add(g.rebalanceTimeout()), func(now time.Time) runtime.Effects {
		if g.generation != generation || !g.is(CompletingRebalance, Stable) || len(g.unsynced) == 0 {
			return runtime.Effects{}
		}
		return c.dropUnsynced(now, g)
	})
	return e
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
func (c *Coordinator) dropUnsynced(now time.Time, g *group) runtime.Effects {
	for _, m := range append([]*member(nil), g.order...) {
		if _, late := g.unsynced[m.id]; late {
			g.drop(m)
		}
	}
	g.unsynced = nil
	return c.rebalance(now, g)
}

// recordEmpty writes that the group has no members any more.
func (c *Coordinator) recordEmpty(g *group) runtime.Effects {
	return runtime.Effects{
		Records: []runtime.Record{groupRecord(g, nil)},
		Apply:   func() { g.known = true },
		// Where it can not be written, the next coordinator finds the members of before: their sessions
		// end, and the group is empty again.
		Done: func(time.Time, error) runtime.Effects { return runtime.Effects{} },
	}
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
	if !m.timed {
		m.timed = true
		c.watch(g, m, m.expires)
	}
}

// watch looks at a member's session at time t, and goes on for as long as it is a member: heartbeats
// only move a time stamp.
func (c *Coordinator) watch(g *group, m *member, t time.Time) {
	c.at(t, func(now time.Time) runtime.Effects {
		if g.members[m.id] != m {
			m.timed = false
			return runtime.Effects{}
		}
		if m.isNew && m.joining != 0 && !now.Before(m.joinedAt.Add(newMemberTimeout)) {
			return c.expire(now, g, m)
		}
		if m.joining != 0 || m.syncing != 0 {
			m.expires = now.Add(m.sessionTimeout) // it waits for us
		}
		if now.Before(m.expires) {
			c.watch(g, m, m.expires)
			return runtime.Effects{}
		}
		return c.expire(now, g, m)
	})
}

// expire removes a member whose session is over.
func (c *Coordinator) expire(now time.Time, g *group, m *member) runtime.Effects {
	return c.remove(now, g, m, kerr.UnknownMemberID.Code)
}

// remove takes a member out and lets the others rebalance. What it waits for is answered with code.
func (c *Coordinator) remove(now time.Time, g *group, m *member, code int16) runtime.Effects {
	e := failedJoin(m.joining, m.id, code)
	e.Add(failedSync(m.syncing, code))
	m.joining, m.syncing = 0, 0
	g.drop(m)
	switch g.state {
	case Stable, CompletingRebalance:
		e.Add(c.rebalance(now, g))
	case PreparingRebalance:
		e.Add(c.completeIfJoined(now, g))
	case Empty, Dead:
	}
	return e
}
