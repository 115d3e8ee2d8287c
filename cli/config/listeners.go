package config

import (
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"kraft/raftmeta/configs"
	"kraft/wire/ssl"
)

// Listener is one named address to listen on, and the address that clients of it are told.
type Listener struct {
	Name     string
	Protocol string        // of listener.security.protocol.map
	TLS      *ssl.Settings // of SSL and SASL_SSL, else nil
	Login    *Login        // of SASL_PLAINTEXT and SASL_SSL, else nil
	Host     string        // "" listens on every interface
	Port     int           // 0 takes a free one
	// AdvertisedHost is never empty; AdvertisedPort of 0 is the port that was bound.
	AdvertisedHost string
	AdvertisedPort int
}

// Address is what to listen on.
func (l Listener) Address() string { return net.JoinHostPort(l.Host, strconv.Itoa(l.Port)) }

// checkLimits checks the limits of connections that listeners have of their own.
func (c *Config) checkLimits(listeners []Listener) error {
	for _, key := range slices.Sorted(maps.Keys(c.Static)) {
		d := configs.ListenerDefinition(key)
		if d == nil || configs.IsStoreKey(key) || !slices.ContainsFunc(listeners, func(l Listener) bool { return strings.HasPrefix(key, configs.ListenerPrefix(l.Name)) }) {
			continue
		}
		c.markUsed(key)
		if err := d.Check(c.Static[key]); err != nil {
			return err
		}
	}
	return nil
}

// controllerNames are the listeners of the quorum: controller.listener.names, or CONTROLLER.
func controllerNames(values map[string]string) []string {
	if names := configs.SplitList(strings.ToUpper(values["controller.listener.names"])); len(names) > 0 {
		return names
	}
	return []string{"CONTROLLER"}
}

// parseListeners reads listeners, advertised.listeners and what goes with them, those of controllers apart. It
// takes trailing commas, empty hosts and any order.
func parseListeners(values map[string]string) (out, forControllers []Listener, err error) {
	text := values["listeners"]
	if text == "" {
		text = "PLAINTEXT://:9092"
	}
	bound, err := parseEndpoints("listeners", text)
	if err != nil {
		return nil, nil, err
	}
	advertised, err := parseEndpoints("advertised.listeners", values["advertised.listeners"])
	if err != nil {
		return nil, nil, err
	}
	protocols, err := parseProtocolMap(values["listener.security.protocol.map"])
	if err != nil {
		return nil, nil, err
	}
	controllers := controllerNames(values)
	ports := map[string]string{}
	for _, l := range bound {
		if l.Protocol, err = protocolOf(l.Name, protocols); err != nil {
			return nil, nil, err
		}
		if other, taken := ports[l.Address()]; taken && l.Port != 0 {
			return nil, nil, fmt.Errorf("listeners %s and %s have the same address %s", other, l.Name, l.Address())
		}
		ports[l.Address()] = l.Name
		if slices.Contains(controllers, l.Name) {
			forControllers = append(forControllers, l)
			continue
		}
		if slices.ContainsFunc(out, func(o Listener) bool { return o.Name == l.Name }) {
			return nil, nil, fmt.Errorf("listeners names %s twice", l.Name)
		}
		out = append(out, l)
	}
	for _, a := range advertised {
		if slices.Contains(controllers, a.Name) {
			if i := slices.IndexFunc(forControllers, func(l Listener) bool { return l.Name == a.Name }); i >= 0 {
				forControllers[i].AdvertisedHost, forControllers[i].AdvertisedPort = a.Host, a.Port
			}
			continue
		}
		i := slices.IndexFunc(out, func(l Listener) bool { return l.Name == a.Name })
		if i < 0 {
			return nil, nil, fmt.Errorf("advertised.listeners names listener %s, which is not in listeners: add it there, or remove it here", a.Name)
		}
		if ip := net.ParseIP(a.Host); a.Host == "" || ip != nil && ip.IsUnspecified() {
			return nil, nil, fmt.Errorf("advertised.listeners: clients cannot connect to %q, name this host's address", a.Host)
		}
		out[i].AdvertisedHost, out[i].AdvertisedPort = a.Host, a.Port
	}
	for i := range out {
		if out[i].AdvertisedHost == "" {
			out[i].AdvertisedHost, out[i].AdvertisedPort = defaultHost(out[i].Host), out[i].Port
		}
	}
	for i := range forControllers {
		if l := &forControllers[i]; l.AdvertisedHost == "" {
			l.AdvertisedHost, l.AdvertisedPort = defaultHost(l.Host), l.Port
		}
	}
	return out, forControllers, nil
}

// Table says of each listener where it listens and what its clients are told, and what cannot work about that.
func (c *Config) Table() (lines, warnings []string) {
	for _, l := range c.Listeners {
		bound, told := l.Address(), net.JoinHostPort(l.AdvertisedHost, strconv.Itoa(l.AdvertisedPort))
		lines = append(lines, fmt.Sprintf("listener %s listens on %s and advertises %s", l.Name, bound, told))
		if configs.IsLoopback(l.AdvertisedHost) && !configs.IsLoopback(l.Host) {
			warnings = append(warnings, fmt.Sprintf("listener %s advertises %s, which for clients on other machines is their own machine: set advertised.listeners to this host's address", l.Name, told))
		}
	}
	return lines, warnings
}

// defaultHost is what clients are told where nothing is advertised: the host to listen on, or this
// machine's name, as Kafka does, for all interfaces.
func defaultHost(host string) string {
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return host
	}
	if name, err := os.Hostname(); err == nil {
		if _, err := net.LookupHost(name); err == nil {
			return name
		}
	}
	return "localhost"
}

func parseEndpoints(key, text string) ([]Listener, error) {
	var out []Listener
	for _, e := range configs.SplitList(text) {
		name, address, ok := strings.Cut(e, "://")
		if !ok || name == "" {
			return nil, fmt.Errorf("%s: %q is not of the form NAME://host:port", key, e)
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is not of the form NAME://host:port", key, e)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%s: %q has no valid port", key, e)
		}
		out = append(out, Listener{Name: strings.ToUpper(name), Host: host, Port: int(n)})
	}
	return out, nil
}

func parseProtocolMap(text string) (map[string]string, error) {
	protocols := map[string]string{"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", "SSL": "SSL", "SASL_PLAINTEXT": "SASL_PLAINTEXT", "SASL_SSL": "SASL_SSL"}
	for _, m := range configs.SplitList(text) {
		name, protocol, ok := strings.Cut(m, ":")
		if !ok {
			return nil, fmt.Errorf("listener.security.protocol.map: %q is not of the form NAME:PROTOCOL", m)
		}
		protocols[strings.ToUpper(strings.TrimSpace(name))] = strings.ToUpper(strings.TrimSpace(protocol))
	}
	return protocols, nil
}

func protocolOf(name string, protocols map[string]string) (string, error) {
	p, ok := protocols[name]
	switch {
	case !ok:
		return "", fmt.Errorf("no security protocol defined for listener %s: add it to listener.security.protocol.map", name)
	case p != plaintext && !hasTLS(p) && !hasSASL(p):
		return "", fmt.Errorf("listener %s asks for %s: the security protocols are PLAINTEXT, SSL, SASL_PLAINTEXT and SASL_SSL", name, p)
	}
	return p, nil
}
