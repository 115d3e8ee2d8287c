package node

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"time"

	"kraft/raftmeta"
	"kraft/raftmeta/configs"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/quota"
)

// followLimits has the limits of connections follow the settings, and the quotas of addresses. It is called for each metadata that the node
// opens, before anybody is served.
func (n *Node) followLimits() {
	last := n.readLimits(n.meta.Image())
	n.useLimits(last)
	n.meta.Subscribe(func(img *image.Image, changed *image.Delta) {
		if !changed.Configs && !changed.Other {
			return
		}
		if next := n.readLimits(img); !reflect.DeepEqual(next, last) {
			last = next
			n.useLimits(next)
		}
	})
}

// namedLimits are limits as people wrote them: hosts are addresses or names.
type namedLimits struct {
	wire.Limits
	open, rates map[string]int // max.connections.per.ip.overrides, connection_creation_rate
}

func (n *Node) readLimits(img *image.Image) namedLimits {
	s, layers := n.meta.Settings(), n.meta.Layers(img, "")
	l := namedLimits{open: map[string]int{}, rates: map[string]int{}}
	l.ListenerLimits = wire.ListenerLimits{Connections: s.MaxConnections, Rate: s.MaxConnectionRate}
	l.PerAddress, l.Windows, l.Listeners = s.MaxConnectionsPerIP, requestWindows(s), map[string]wire.ListenerLimits{}
	for _, listener := range n.config.Listeners {
		var own wire.ListenerLimits
		if layers.ReadListener(listener.Name, &own); own != wire.Unlimited {
			l.Listeners[listener.Name] = own
		}
	}
	if len(n.config.Listeners) > 1 {
		l.Protected = n.config.InterBroker
	}
	overrides, _ := configs.HostLimits(s.MaxConnectionsOverride) // checked before it became a setting
	for _, o := range overrides {
		l.open[o.Host] = o.Limit
	}
	img.Quotas(func(q *image.Quota) {
		rate, ok := q.Values[image.ConnectionRate]
		switch {
		case !ok || len(q.Entity) != 1 || q.Entity[0].Type != image.AddressEntity:
		case q.Entity[0].Name == nil:
			l.AddressRate = int(rate)
		default:
			l.rates[*q.Entity[0].Name] = int(rate)
		}
	})
	return l
}

// useLimits has servers go by limits: at once as far as they are of addresses, and of names when these are looked up.
func (n *Node) useLimits(named namedLimits) {
	l := named.Limits
	var names []string
	addresses := func(of map[string]int) map[netip.Addr]int {
		out := map[netip.Addr]int{}
		for host, limit := range of {
			if a, err := netip.ParseAddr(host); err == nil {
				out[a.Unmap()] = limit
			} else {
				names = append(names, host)
			}
		}
		return out
	}
	l.Overrides, l.AddressRates = addresses(named.open), addresses(named.rates)
	n.limit.Store(&l)
	if len(names) > 0 {
		n.disks.Go(func() { n.resolveLimits(&l, named, names) })
	}
}

// resolveLimits adds the limits of hosts that are named, unless the limits have changed meanwhile.
func (n *Node) resolveLimits(l *wire.Limits, named namedLimits, names []string) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupPatience)
	defer cancel()
	resolved := *l
	resolved.Overrides, resolved.AddressRates = maps.Clone(l.Overrides), maps.Clone(l.AddressRates)
	for _, host := range names {
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			n.log.Warn().Err(err).Str("host", host).Msg("a limit of connections names a host that is not found: the host has the limits of all others")
			continue
		}
		for _, a := range found {
			if limit, ok := named.open[host]; ok {
				resolved.Overrides[a.Unmap()] = limit
			}
			if limit, ok := named.rates[host]; ok {
				resolved.AddressRates[a.Unmap()] = limit
			}
		}
	}
	n.limit.CompareAndSwap(l, &resolved)
}

// lookupPatience is how long the names of hosts that have limits are looked up.
const lookupPatience = 10 * time.Second

// followQuotas has the quotas of users and clients follow the metadata. It is called with followLimits.
func (n *Node) followQuotas() {
	s := n.meta.Settings()
	if n.quotas == nil {
		n.quotas = quota.NewManager(quota.Config{
			Requests: requestWindows(s), Controller: quota.Windows{Count: s.MutationWindows, Each: s.MutationWindow}, Log: n.log,
		})
	}
	n.quotas.SetLimits(quotasOf(n.meta.Image()))
	n.meta.Subscribe(func(img *image.Image, changed *image.Delta) {
		if changed.Other {
			n.quotas.SetLimits(quotasOf(img))
		}
	})
}

func requestWindows(s *raftmeta.Settings) quota.Windows {
	return quota.Windows{Count: s.QuotaWindows, Each: s.QuotaWindow}
}

// quotasOf are the quotas of users and clients in an image.
func quotasOf(img *image.Image) *quota.Limits {
	l := new(quota.Limits)
	img.Quotas(func(q *image.Quota) {
		var e quota.Entity
		for _, part := range q.Entity {
			p := quota.Part{Default: part.Name == nil}
			if part.Name != nil {
				p.Name = *part.Name
			}
			switch part.Type {
			case image.UserEntity:
				e.User = p
			case image.ClientEntity:
				e.Client = p
			}
		}
		for key, value := range q.Values {
			l.Set(e, key, value)
		}
	})
	return l
}
