package node

import (
	"fmt"
	"time"
)

const (
	// disksInterval is how often a node looks whether its disks answer.
	disksInterval = 50 * time.Millisecond
	// standAsideAfter is how long a write may wait until another member leads the quorum: that costs nobody anything.
	standAsideAfter = 400 * time.Millisecond
)

// watchDisks withdraws this node from the cluster while a disk hangs, until Stop. What has met that disk waits for it, holds locks, and
// may wait for as long as it likes: others have to lead in the meantime, and clients have to go there.
func (n *Node) watchDisks() {
	tick := time.NewTicker(disksInterval)
	defer tick.Stop()
	limit := n.config.Millis("log.dir.stall.ms")
	var aside time.Time // when the last try to stand aside began
	hung := ""          // the directory for which this broker has withdrawn
	suspended := false
	for {
		select {
		case <-n.stopped:
			return
		case <-tick.C:
		}
		dir, waited := n.stored.Hangs()
		if own := n.meta.HangsFor() / 2; own > waited { // the metadata's disk syncs with each change, which takes longer than a write
			dir, waited = n.config.MetadataDir, own
		}
		if waited > standAsideAfter && time.Since(aside) > time.Second {
			aside = time.Now()
			go n.meta.StandAside()
		}
		switch hangs := waited > limit; {
		case hangs && hung == "":
			hung = dir
			n.log.Error().Str("dir", dir).Msg(fmt.Sprintf("the disk has not answered for %v: this broker asks to be fenced until it does", limit))
		case !hangs && hung != "":
			n.log.Warn().Str("dir", hung).Msg("the disk answers again")
			hung = ""
		}
		n.meta.Withdraw(hung != "")
		if out := n.meta.Withdrawn(); out != suspended {
			suspended = out
			if out {
				n.server.Suspend()
			} else {
				n.server.Resume()
			}
		}
	}
}
