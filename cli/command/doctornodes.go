package command

import (
	"fmt"

	"kraft/cli/ops"
)

// nodesHere are the nodes that run on this machine, as far as this user may look at them.
func nodesHere() (out []ops.Finding) {
	nodes, err := runningNodes()
	if err != nil {
		return nil
	}
	for _, n := range nodes {
		if open, limit, ok := openFiles(n.pid); ok {
			out = append(out, ops.OpenLimit(fmt.Sprintf("process %d here", n.pid), open, limit))
		}
	}
	return out
}
