package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// fault makes something fail, and says what; undo ends it. It may do nothing, and then says nothing.
type fault func(c *Cluster, rng *rand.Rand) (what string, undo func() error)

// processFaults are those of nodes and their disks: one at a time.
var processFaults = []fault{
	kill(1), kill(2), kill(all), pause, restart, fullDisk, emptied,
}

// networkFaults are those of ways: one at a time, and beside one of a process.
var networkFaults = []fault{
	cutOff, oneWay, bridge, ring,
	everywhere("loses a fifth", Condition{Loss: 0.2}),
	everywhere("takes 200 ms", Condition{Delay: 200 * time.Millisecond}),
}

const all = -1

// some are count nodes, or all.
func (c *Cluster) some(count int, rng *rand.Rand) []*Node {
	if count == all {
		return c.Nodes
	}
	var out []*Node
	for _, i := range rng.Perm(len(c.Nodes))[:count] {
		out = append(out, c.Nodes[i])
	}
	return out
}

// kill kills nodes as kill -9 does; what they wrote stays in the page cache.
func kill(count int) fault {
	return func(c *Cluster, rng *rand.Rand) (string, func() error) {
		nodes := c.some(count, rng)
		for _, n := range nodes {
			n.Kill()
		}
		return fmt.Sprintf("%v killed", names(nodes)), func() error { return c.Start(nodes...) }
	}
}

func pause(c *Cluster, rng *rand.Rand) (string, func() error) {
	n := c.some(1, rng)[0]
	n.Pause()
	return fmt.Sprintf("node %d paused", n.ID), func() error { n.Resume(); return nil }
}

func restart(c *Cluster, rng *rand.Rand) (string, func() error) {
	n := c.some(1, rng)[0]
	err := n.Stop(stopPatience)
	return fmt.Sprintf("node %d stopped", n.ID), func() error { return errors.Join(err, n.Start()) }
}

// fullDisk takes the room on the disk of the first node, which is a small one.
func fullDisk(c *Cluster, _ *rand.Rand) (string, func() error) {
	n := c.Nodes[0]
	empty, err := n.Fill()
	if err != nil {
		return "", func() error { return err }
	}
	return fmt.Sprintf("node %d has no room", n.ID), func() error {
		if err := empty(); err != nil {
			return err
		}
		// One that could not write its metadata ends by itself, some seconds later: it is started again, either way.
		n.Kill()
		return n.Start()
	}
}

// emptied takes the log directory of a node, while all others have everything.
func emptied(c *Cluster, rng *rand.Rand) (string, func() error) {
	if _, err := c.Whole(whole); err != nil {
		return "", func() error { return err }
	}
	n := c.some(1, rng)[0]
	n.Kill()
	err := n.Empty()
	return fmt.Sprintf("node %d killed, its log directory emptied", n.ID), func() error {
		if err := errors.Join(err, n.StartWith("--accept-lost-directories")); err != nil {
			return err
		}
		_, err := c.Whole(whole)
		return err
	}
}

// cut cuts the way from one node to another, by their places.
func (c *Cluster) cut(from, to int) { c.Network.Set(from, to, Condition{Cut: true}) }

func (c *Cluster) heal() error { c.Network.Heal(); return nil }

// cutOff cuts a node off from the others; clients reach it.
func cutOff(c *Cluster, rng *rand.Rand) (string, func() error) {
	i := rng.IntN(len(c.Nodes))
	c.cutOff(i)
	return fmt.Sprintf("node %d cut off", i+1), c.heal
}

// cutOff cuts the node in a place off from the others.
func (c *Cluster) cutOff(i int) {
	for j := range c.Nodes {
		c.cut(i, j)
		c.cut(j, i)
	}
}

// oneWay takes what a node sends to the others, who it hears.
func oneWay(c *Cluster, rng *rand.Rand) (string, func() error) {
	i := rng.IntN(len(c.Nodes))
	for j := range c.Nodes {
		c.cut(i, j)
	}
	return fmt.Sprintf("node %d not heard", i+1), c.heal
}

// bridge parts the nodes into two halves, with one that both can reach.
func bridge(c *Cluster, rng *rand.Rand) (string, func() error) {
	order := rng.Perm(len(c.Nodes))
	middle := len(order) / 2
	for _, i := range order[:middle] {
		for _, j := range order[middle+1:] {
			c.cut(i, j)
			c.cut(j, i)
		}
	}
	return fmt.Sprintf("node %d is the only bridge between the others", order[middle]+1), c.heal
}

// ring leaves each of five nodes its two neighbours: each sees a majority, no two the same.
func ring(c *Cluster, rng *rand.Rand) (string, func() error) {
	order := rng.Perm(len(c.Nodes))
	for a, i := range order {
		for b, j := range order {
			if apart := (a - b + len(order)) % len(order); apart > 1 && apart < len(order)-1 {
				c.cut(i, j)
			}
		}
	}
	return "nodes see only their neighbours in a ring", c.heal
}

func everywhere(what string, condition Condition) fault {
	return func(c *Cluster, _ *rand.Rand) (string, func() error) {
		for i := range c.Nodes {
			for j := range c.Nodes {
				c.Network.Set(i, j, condition)
			}
		}
		return "the network between nodes " + what, c.heal
	}
}

func names(nodes []*Node) string {
	var out []string
	for _, n := range nodes {
		out = append(out, fmt.Sprint(n.ID))
	}
	return "nodes " + strings.Join(out, ", ")
}
