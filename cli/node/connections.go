package node

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"time"

	"kraft/raftmeta"
	"kraft/raftmeta/configs"
	"kraft/raftmeta/image"
	"kraft/wire"
)

// followLimits has the limits of connections follow the settings. It is called for each metadata that the node opens, before anybody is served.
func (n *Node) followLimits() {
	follow := func(s *raftmeta.Settings) {
		l := &wire.Limits{Connections: s.MaxConnections, PerAddress: s.MaxConnectionsPerIP, Overrides: map[netip.Addr]int{}}
		var names []configs.HostLimit
		overrides, _ := configs.HostLimits(s.MaxConnectionsOverride) // checked before it became a setting
		for _, o := range overrides {
			if a, err := netip.ParseAddr(o.Host); err == nil {
				l.Overrides[a.Unmap()] = o.Limit
			} else {
				names = append(names, o)
			}
		}
		n.limit.Store(l)
		if len(names) > 0 {
			n.disks.Go(func() { n.resolveLimits(l, names) })
		}
	}
	follow(n.meta.Settings())
	last := n.meta.Settings()
	n.meta.Subscribe(func(_ *image.Image, changed *image.Delta) {
		if s := n.meta.Settings(); changed.Configs && (s.MaxConnections != last.MaxConnections || s.MaxConnectionsPerIP != last.MaxConnectionsPerIP || s.MaxConnectionsOverride != last.MaxConnectionsOverride) {
			last = s
			follow(s)
		}
	})
}

// resolveLimits adds the limits of hosts that are named, unless the settings have changed meanwhile.
func (n *Node) resolveLimits(l *wire.Limits, names []configs.HostLimit) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupPatience)
	defer cancel()
	resolved := *l
	resolved.Overrides = maps.Clone(l.Overrides)
	for _, h := range names {
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", h.Host)
		if err != nil {
			n.log.Warn().Err(err).Str("host", h.Host).Msg("max.connections.per.ip.overrides names a host that is not found: it has the limit of all others")
			continue
		}
		for _, a := range found {
			resolved.Overrides[a.Unmap()] = h.Limit
		}
	}
	n.limit.CompareAndSwap(l, &resolved)
}

// lookupPatience is how long the names of max.connections.per.ip.overrides are looked up.
const lookupPatience = 10 * time.Second
