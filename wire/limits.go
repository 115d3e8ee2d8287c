package wire

import (
	"fmt"
	"math"
	"net/netip"

	"kraft/wire/quota"
)

// Limits are how many connections a server takes (Kafka's ConnectionQuotas). A Limits never changes.
type Limits struct {
	ListenerLimits                           // of the broker: max.connections and max.connection.creation.rate, all listeners together
	Listeners      map[string]ListenerLimits // by name; one that is missing has no limits of its own
	Protected      string                    // the listener of other brokers, if clients have another: it is served though the broker's limits are reached

	PerAddress int                // max.connections.per.ip
	Overrides  map[netip.Addr]int // in place of PerAddress

	// How many an address may open in a second (connection_creation_rate); 0 for as many as it likes.
	AddressRate  int
	AddressRates map[netip.Addr]int // in place of AddressRate

	Windows quota.Windows // over which rates are measured
}

// ListenerLimits are how many connections there may be at the same time, and how many may come in a second.
type ListenerLimits struct {
	Connections int `kafka:"max.connections"`
	Rate        int `kafka:"max.connection.creation.rate"`
}

// Unlimited are the limits of a listener that has none.
var Unlimited = ListenerLimits{math.MaxInt32, math.MaxInt32}

// listener has the limits of one listener.
func (l *Limits) listener(name string) ListenerLimits {
	if own, ok := l.Listeners[name]; ok {
		return own
	}
	return Unlimited
}

// rateOf is how many connections an address may open in a second, 0 for as many as it likes.
func (l *Limits) rateOf(a netip.Addr) int {
	if own, ok := l.AddressRates[a]; ok {
		return own
	}
	return l.AddressRate
}

// opened are connections that are open: all, those of the listener, and those of the address that another one comes from.
type opened struct{ all, listener, address int }

// refuse says why another connection to a listener is not served; "" if it is. If crowded, it is served, and one of another listener must be closed.
func (l *Limits) refuse(listener string, from netip.Addr, now opened) (why string, crowded bool) {
	limit, ok := l.Overrides[from]
	if !ok {
		limit = l.PerAddress
	}
	switch {
	case now.address >= limit:
		return fmt.Sprintf("the address has %d open (max.connections.per.ip)", now.address), false
	case now.listener >= l.listener(listener).Connections:
		return fmt.Sprintf("the listener has %d open (max.connections of %s)", now.listener, listener), false
	case now.all < l.Connections:
		return "", false
	case listener == l.Protected && now.listener < now.all:
		return "", true
	}
	return fmt.Sprintf("%d are open (max.connections)", now.all), false
}
