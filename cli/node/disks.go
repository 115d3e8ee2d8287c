package node

import (
	"fmt"
	"time"
)

const (
	// disksInterval is how often a node looks whether its disks answer.
	disksInterval = 50 * time.Millisecond
	// standAsideAfter is how long a write to the disk that holds the metadata, too, may wait until another member leads the quorum.
	standAsideAfter = 400 * time.Millisecond
	// standAsidePause is the least time between two tries to stand aside.
	standAsidePause = 30 * time.Second
	// A disk that hung is to answer for so long before its broker comes back; twice as long each time that it hangs again soon.
	firstCalm, longestCalm = time.Second, time.Minute
	// metadataPatience is by how much longer the metadata's disk may take than a write: each change of it is synced.
	metadataPatience = 2
)

// watchDisks withdraws this node's broker from the cluster while a disk hangs, until Stop. What has met that disk waits for it, holds
// locks, and may wait for as long as it likes: others have to lead in the meantime, and clients have to go there.
func (n *Node) watchDisks() {
	tick := time.NewTicker(disksInterval)
	defer tick.Stop()
	limit := n.config.DirStall
	var aside time.Time // when the last try to stand aside began
	hung := ""          // the directory for which this broker has withdrawn
	var hungLast, back time.Time
	calm, suspended := firstCalm, false
	for {
		select {
		case <-n.stopped:
			return
		case <-tick.C:
		}
		now := time.Now()
		dir, waited := n.stored.Hangs()
		if waited > standAsideAfter && dir == n.config.MetadataDir && now.Sub(aside) > standAsidePause {
			aside = now
			go n.meta.StandAside()
		}
		hangs := waited > limit
		if own := n.meta.HangsFor(); !hangs && own > metadataPatience*limit {
			dir, waited, hangs = n.config.MetadataDir, own, true
		}
		if hangs {
			hungLast = now
		}
		switch {
		case hangs && hung == "":
			hung = dir
			if calm *= 2; now.Sub(back) > longestCalm {
				calm = firstCalm
			}
			calm = min(calm, longestCalm)
			n.log.Error().Str("dir", dir).Msg(fmt.Sprintf("the disk has not answered for %v: this broker asks to be fenced until it does", waited.Round(100*time.Millisecond)))
		case hung != "" && now.Sub(hungLast) > calm:
			n.log.Warn().Str("dir", hung).Msg("the disk answers again")
			hung, back = "", now
		}
		n.broker.Withdraw(hung != "")
		if out := n.broker.Withdrawn(); out != suspended {
			suspended = out
			if out {
				n.server.Suspend()
			} else {
				n.server.Resume()
			}
		}
	}
}
