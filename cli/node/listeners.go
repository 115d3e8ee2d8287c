package node

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"kraft/cli/config"
	"kraft/cli/metrics"
	"kraft/wire"
	"kraft/wire/logging"
	"kraft/wire/ssl"
)

// securityProtocols are Kafka's numbers of security protocols.
var securityProtocols = map[string]int32{"PLAINTEXT": 0, "SSL": 1, "SASL_PLAINTEXT": 2, "SASL_SSL": 3}

// listen binds all addresses before any data is touched: a port in use is the commonest fault.
func (n *Node) listen() error {
	for i := range n.config.Listeners {
		bound, err := n.listenOn(&n.config.Listeners[i])
		if err != nil {
			return err
		}
		n.listeners = append(n.listeners, bound)
	}
	if n.config.Controller != nil && n.controllers == nil {
		bound, err := n.listenOn(n.config.Controller)
		if err != nil {
			return err
		}
		n.controllers = bound
	}
	return nil
}

func listenTCP(address string) (net.Listener, error) { return net.Listen("tcp", address) }

func (n *Node) listenOn(l *config.Listener) (net.Listener, error) {
	bound, err := n.bind(l.Address())
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("address %s (listener %s) is in use by another process: stop it or choose another port", l.Address(), l.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s (listener %s): %w", l.Address(), l.Name, err)
	}
	return bound, nil
}

// told is what others are told of a listener: host and port.
func told(l *config.Listener, bound net.Listener) (string, int) {
	if l.AdvertisedPort != 0 {
		return l.AdvertisedHost, l.AdvertisedPort
	}
	return l.AdvertisedHost, bound.Addr().(*net.TCPAddr).Port
}

// listenAdmin serves metrics and health, if they are asked for; it is not ready yet.
func (n *Node) listenAdmin() error {
	if n.config.Admin == "" {
		return nil
	}
	bound, err := n.bind(n.config.Admin)
	if err != nil {
		return fmt.Errorf("cannot listen on %s (admin.listener): %w", n.config.Admin, err)
	}
	n.admin = metrics.Serve(bound, n.log)
	return nil
}

// openStores reads the keys of listeners with TLS, and those by which this node connects to others.
func (n *Node) openStores() error {
	n.stores = map[string]*ssl.Store{}
	listeners := n.config.Listeners
	if n.config.Controller != nil {
		listeners = append(slices.Clone(listeners), *n.config.Controller)
	}
	for _, l := range listeners {
		if l.TLS == nil {
			continue
		}
		s, err := ssl.Open(*l.TLS, true)
		if err != nil {
			return fmt.Errorf("listener %s: %w", l.Name, err)
		}
		n.stores[l.Name] = s
	}
	members := (*ssl.Store)(nil)
	if n.config.Controller != nil {
		members = n.stores[n.config.Controller.Name]
	} else if n.config.Members.TLS != nil {
		var err error
		if members, err = ssl.Open(*n.config.Members.TLS, false); err != nil {
			return fmt.Errorf("connections to the quorum: %w", err)
		}
		n.stores["the quorum"] = members
	}
	n.dialMembers = wire.Secure(n.dial, members, nil)
	n.dialBrokers = wire.Secure(n.dial, n.stores[n.config.InterBroker], n.ownLogin())
	if len(n.stores) > 0 {
		n.disks.Go(func() { ssl.Watch(n.stores, n.logs.For(logging.Wire), storesInterval, n.stopped) })
	}
	return nil
}

// certificates are when the certificates of listeners expire.
func (n *Node) certificates() map[string]time.Time {
	out := map[string]time.Time{}
	for name, s := range n.stores {
		if at := s.Expires(); !at.IsZero() {
			out[name] = at
		}
	}
	return out
}

// storesInterval is the time between two looks at the files of keys.
const storesInterval = 5 * time.Second

func (n *Node) serve() {
	r := &wire.Registry{Unstable: n.meta.Settings().UnstableAPIs}
	n.registerHandlers(r)
	n.parts.RegisterHandlers(r)
	n.groups.RegisterHandlers(r)
	n.telemetry.RegisterHandlers(r)
	n.server = wire.NewServer(n.limits(), r, n.meta.Identity(), n.logs.For(logging.Wire))
	for i, l := range n.config.Listeners {
		n.server.Serve(wire.Listener{Name: l.Name, Protocol: l.Protocol, TLS: n.stores[l.Name], Login: n.login(l.Login), Net: n.listeners[i]})
	}
}

// limits are those of a server.
func (n *Node) limits() wire.Config {
	queued := n.config.QueuedMaxBytes
	if queued <= 0 {
		queued = 256 << 20
	}
	limits := wire.Config{
		MaxRequestBytes: n.config.RequestMaxBytes, MaxQueuedBytes: queued,
		IdleTimeout: n.config.MaxIdle, Limits: n.limit.Load,
		Quotas:      n.quotas,
		SlowRequest: n.config.SlowRequest, RequestLog: n.logs.For(logging.Requests),
	}
	if n.authorizer != nil {
		limits.Authorizer = n.authorizer
	}
	return limits
}

// Addresses are the addresses that clients are told, a listener each, as host:port; none on a controller only.
func (n *Node) Addresses() []string {
	var out []string
	b, ok := n.meta.Image().Broker(n.config.NodeID)
	if !ok || !n.config.IsBroker {
		return nil
	}
	for _, e := range b.Endpoints {
		out = append(out, e.Address())
	}
	return out
}

// QuorumAddress is where the node listens for members of the metadata quorum, as host:port; "" if it does not.
func (n *Node) QuorumAddress() string {
	if n.place.listener == nil {
		return ""
	}
	return n.place.listener.Address()
}
