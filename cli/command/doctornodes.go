package command

import (
	"fmt"

	"kraft/cli/ops"
	"kraft/cli/running"
)

// nodesHere are the nodes that run on this machine, as far as this user may look at them.
func nodesHere() (out []ops.Finding) {
	nodes, err := running.Nodes()
	if err != nil {
		return nil
	}
	for _, pid := range processes(nodes) {
		if open, limit, ok := openFiles(pid); ok {
			out = append(out, ops.OpenLimit(fmt.Sprintf("process %d here", pid), open, limit))
		}
	}
	return out
}
