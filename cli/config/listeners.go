package config

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"kraft/raftmeta/configs"
)

// Listener is one named address to listen on, and the address that clients of it are told.
type Listener struct {
	Name string
	Host string // "" listens on every interface
	Port int    // 0 takes a free one
	// AdvertisedHost is never empty; AdvertisedPort of 0 is the port that was bound.
	AdvertisedHost string
	AdvertisedPort int
}

// Address is what to listen on.
func (l Listener) Address() string { return net.JoinHostPort(l.Host, strconv.Itoa(l.Port)) }

// parseListeners reads listeners, advertised.listeners and what goes with them. It takes trailing
// commas, empty hosts and any order. Controller listeners are left out: a lone node has no use for one.
func parseListeners(values map[string]string) ([]Listener, error) {
	text := values["listeners"]
	if text == "" {
		text = "PLAINTEXT://:9092"
	}
	bound, err := parseEndpoints("listeners", text)
	if err != nil {
		return nil, err
	}
	advertised, err := parseEndpoints("advertised.listeners", values["advertised.listeners"])
	if err != nil {
		return nil, err
	}
	protocols, err := parseProtocolMap(values["listener.security.protocol.map"])
	if err != nil {
		return nil, err
	}
	controllers := configs.SplitList(values["controller.listener.names"])
	var out []Listener
	ports := map[string]string{}
	for _, l := range bound {
		if slices.Contains(controllers, l.Name) {
			continue
		}
		if err := checkProtocol(l.Name, protocols); err != nil {
			return nil, err
		}
		if other, taken := ports[l.Address()]; taken && l.Port != 0 {
			return nil, fmt.Errorf("listeners %s and %s have the same address %s", other, l.Name, l.Address())
		}
		ports[l.Address()] = l.Name
		if slices.ContainsFunc(out, func(o Listener) bool { return o.Name == l.Name }) {
			return nil, fmt.Errorf("listeners names %s twice", l.Name)
		}
		out = append(out, l)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("listeners has none for clients: %s", text)
	}
	for _, a := range advertised {
		if slices.Contains(controllers, a.Name) {
			continue
		}
		i := slices.IndexFunc(out, func(l Listener) bool { return l.Name == a.Name })
		if i < 0 {
			return nil, fmt.Errorf("advertised.listeners names %s, which listeners does not", a.Name)
		}
		if ip := net.ParseIP(a.Host); a.Host == "" || ip != nil && ip.IsUnspecified() {
			return nil, fmt.Errorf("advertised.listeners: clients cannot connect to %q, name this host's address", a.Host)
		}
		out[i].AdvertisedHost, out[i].AdvertisedPort = a.Host, a.Port
	}
	for i := range out {
		if out[i].AdvertisedHost == "" {
			out[i].AdvertisedHost, out[i].AdvertisedPort = defaultHost(out[i].Host), out[i].Port
		}
	}
	return out, nil
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
	protocols := map[string]string{"PLAINTEXT": "PLAINTEXT", "SSL": "SSL", "SASL_PLAINTEXT": "SASL_PLAINTEXT", "SASL_SSL": "SASL_SSL"}
	for _, m := range configs.SplitList(text) {
		name, protocol, ok := strings.Cut(m, ":")
		if !ok {
			return nil, fmt.Errorf("listener.security.protocol.map: %q is not of the form NAME:PROTOCOL", m)
		}
		protocols[strings.ToUpper(strings.TrimSpace(name))] = strings.ToUpper(strings.TrimSpace(protocol))
	}
	return protocols, nil
}

func checkProtocol(name string, protocols map[string]string) error {
	switch p, ok := protocols[name]; {
	case !ok:
		return fmt.Errorf("no security protocol defined for listener %s: add it to listener.security.protocol.map", name)
	case p != "PLAINTEXT":
		return fmt.Errorf("listener %s asks for %s, but this version of kraft speaks PLAINTEXT only", name, p)
	}
	return nil
}
