package wire

import (
	"fmt"
	"net/netip"
)

// Limits are how many connections a server takes (Kafka's ConnectionQuotas). A Limits never changes.
type Limits struct {
	Connections int                // max.connections: of all peers together
	PerAddress  int                // max.connections.per.ip
	Overrides   map[netip.Addr]int // in place of PerAddress
}

// refuse says why another connection is not taken, "" if it is: with so many open, and so many from the same address.
func (l *Limits) refuse(open, same int, from netip.Addr) string {
	if open >= l.Connections {
		return fmt.Sprintf("%d are open (max.connections)", open)
	}
	limit, ok := l.Overrides[from]
	if !ok {
		limit = l.PerAddress
	}
	if same >= limit {
		return fmt.Sprintf("the address has %d open (max.connections.per.ip)", same)
	}
	return ""
}
