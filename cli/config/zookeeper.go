package config

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"kraft/raftmeta/configs"
)

// zooKeeperPort is the port of an address of zookeeper.connect that has none.
const zooKeeperPort = "2181"

// ParseZooKeeper reads zookeeper.connect, or --zookeeper: addresses host:port with commas, and perhaps a chroot, which is dropped. It
// returns the addresses in the order given, hosts in lower case. Errors name no key: the caller does.
func ParseZooKeeper(text string) ([]string, error) {
	var out []string
	for _, given := range configs.SplitList(text) {
		address, _, _ := strings.Cut(given, "/")
		if address == "" {
			return nil, fmt.Errorf("%q has no address before the chroot", given)
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			address = net.JoinHostPort(strings.Trim(address, "[]"), zooKeeperPort)
		}
		host, port, err := net.SplitHostPort(address)
		if number, bad := strconv.Atoi(port); err == nil && bad == nil && (number < 1 || number > 65535) {
			return nil, fmt.Errorf("%q has port %s: ports are from 1 to 65535", given, port)
		}
		if strings.ContainsAny(address, "; \t") {
			return nil, fmt.Errorf("%q: addresses are host:port, with commas between them", given)
		}
		if err != nil || host == "" || !isPort(port) || strings.Contains(host, "@") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return nil, fmt.Errorf("%q is not of the form host:port", given)
		}
		address = net.JoinHostPort(strings.ToLower(host), port)
		if slices.Contains(out, address) {
			return nil, fmt.Errorf("%s is listed twice", address)
		}
		out = append(out, address)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%q has no address", text)
	}
	return out, nil
}

// findByZooKeeper has zookeeper.connect name the quorum, unless other settings do. It reports whether it does.
func (c *Config) findByZooKeeper() (bool, error) {
	text, given := c.Static["zookeeper.connect"]
	if !given {
		return false, nil
	}
	for _, other := range []struct{ key, option string }{{"controller.quorum.voters", "--peers"}, {"controller.quorum.bootstrap.servers", "--join"}} {
		if c.Static[other.key] != "" {
			c.Notes = append(c.Notes, fmt.Sprintf("zookeeper.connect has no effect: %s (%s) is given", other.key, other.option))
			return false, nil
		}
	}
	if strings.TrimSpace(text) == "" { // each node would begin a cluster of its own
		return false, errors.New("zookeeper.connect is empty: list the addresses for the metadata quorum to listen on, like host1:2181,host2:2181, or remove the setting")
	}
	addresses, err := ParseZooKeeper(text)
	if err != nil {
		return false, fmt.Errorf("zookeeper.connect=%s: %w", text, err)
	}
	if c.Static["node.id"] == "" && c.Static["broker.id"] == "" {
		return false, errors.New("broker.id is missing: kraft does not generate ids: give each node its own, like broker.id=1")
	}
	for _, address := range addresses {
		if name := c.clientsAt(address); name != "" {
			return false, fmt.Errorf("zookeeper.connect=%s: listener %s of this node is at %s: the quorum needs an address of its own", text, name, address)
		}
	}
	if c.Controller != nil {
		c.Notes = append(c.Notes, fmt.Sprintf("listener %s is not opened: the quorum listens at the addresses of zookeeper.connect", c.Controller.Name))
		c.Controller = nil
	}
	c.ZooKeeper = addresses
	return true, nil
}

// clientsAt is the name of this node's listener for clients at an address, "" for none.
func (c *Config) clientsAt(address string) string {
	host, port, _ := net.SplitHostPort(address) // checked by ParseZooKeeper
	for _, l := range c.Listeners {
		if fmt.Sprint(l.Port) == port && l.Port != 0 && (l.Host == host || l.AdvertisedHost == host || configs.IsLoopback(host) && (l.Host == "" || configs.IsLoopback(l.Host))) {
			return l.Name
		}
	}
	return ""
}

// QuorumListener is where this node listens for the quorum if it takes an address of zookeeper.connect.
func (c *Config) QuorumListener(address string) *Listener {
	host, text, _ := net.SplitHostPort(address) // checked by ParseZooKeeper
	l := &Listener{Name: controllerNames(c.Static)[0], Protocol: plaintext, AdvertisedHost: host}
	l.Port, _ = strconv.Atoi(text)
	l.AdvertisedPort = l.Port
	switch ip := net.ParseIP(host); {
	case ip != nil && !configs.IsLoopback(host):
		l.Host = host
	case configs.IsLoopback(host) && len(c.Listeners) > 0 && !slices.ContainsFunc(c.Listeners, func(o Listener) bool { return !configs.IsLoopback(o.Host) }):
		l.Host = host // no more open to the network than the node is otherwise
	}
	return l
}
