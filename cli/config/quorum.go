package config

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"kraft/raftmeta/configs"
)

// defaultControllerPort is where a node that joins listens for the quorum, if nothing else is said.
const defaultControllerPort = 9093

// findQuorum works out which quorum the node is of, and whether it votes: by process.roles,
// controller.quorum.voters and controller.quorum.bootstrap.servers. A node with none of them is alone.
func (c *Config) findQuorum(listeners []Listener) error {
	roles := configs.SplitList(c.Static["process.roles"])
	c.IsBroker = len(roles) == 0 || slices.Contains(roles, "broker")
	isController := len(roles) == 0 || slices.Contains(roles, "controller")
	voters, err := parseVoters(c.Static["controller.quorum.voters"])
	if err != nil {
		return err
	}
	servers := configs.SplitList(c.Static["controller.quorum.bootstrap.servers"])
	for _, s := range servers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			return fmt.Errorf("controller.quorum.bootstrap.servers: %q is not of the form host:port", s)
		}
	}
	if len(listeners) > 0 {
		c.Controller = &listeners[0]
	}
	if c.IsBroker && len(c.Listeners) == 0 {
		return fmt.Errorf("listeners=%s has no listener for clients: add one, like PLAINTEXT://:9092", c.Static["listeners"])
	}
	if !c.IsBroker {
		c.Listeners = nil
	}
	if err := c.findInterBroker(); err != nil {
		return err
	}
	if found, err := c.findByZooKeeper(); found || err != nil {
		c.Votes = isController
		return err
	}
	own, votes := voters[c.NodeID]
	switch {
	case votes && !isController:
		return fmt.Errorf("controller.quorum.voters names node %d, but its process.roles does not include controller: add the role, or remove the node from the voters", c.NodeID)
	case votes:
		c.Voters = voters
		return c.bindAt(own)
	case len(voters) > 0:
		for _, address := range voters {
			c.Join = append(c.Join, address)
		}
		slices.Sort(c.Join)
	case len(servers) > 0 && isController && slices.ContainsFunc(servers, c.isOwn):
		if len(servers) > 1 {
			return fmt.Errorf("controller.quorum.bootstrap.servers does not name the first voters: list them in controller.quorum.voters (or --peers), as id@host:port")
		}
	case len(servers) > 0:
		c.Join = servers
	}
	if len(c.Join) > 0 && c.Controller == nil && isController { // it may be made a voter
		c.Controller = &Listener{Name: controllerNames(c.Static)[0], Protocol: plaintext, Port: defaultControllerPort, AdvertisedHost: defaultHost("")}
		if i := slices.IndexFunc(c.Listeners, func(l Listener) bool { return !configs.IsLoopback(l.Host) }); i < 0 && c.IsBroker {
			c.Controller.Host, c.Controller.AdvertisedHost = c.Listeners[0].Host, c.Listeners[0].Host
		}
	}
	if !c.IsBroker && c.Controller == nil {
		return fmt.Errorf("a node with process.roles=controller needs a listener for the quorum: CONTROLLER://host:port")
	}
	return nil
}

// isOwn says that an address is that of this node's controller listener.
func (c *Config) isOwn(address string) bool {
	host, port, _ := net.SplitHostPort(address)
	l := c.Controller
	return l != nil && port == strconv.Itoa(l.Port) && (host == l.AdvertisedHost || host == l.Host || host == "localhost" || host == "127.0.0.1")
}

// bindAt gives a voter the listener that the others look for it at, unless listeners has one.
func (c *Config) bindAt(address string) error {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return fmt.Errorf("controller.quorum.voters: %q has no valid port", address)
	}
	if c.Controller == nil {
		c.Controller = &Listener{Name: controllerNames(c.Static)[0], Protocol: plaintext, Port: int(port)}
		if configs.IsLoopback(host) {
			c.Controller.Host = host // not open to the network if nobody there is to come
		}
	}
	c.Controller.AdvertisedHost, c.Controller.AdvertisedPort = host, int(port)
	return nil
}

func (c *Config) findInterBroker() error {
	if len(c.Listeners) == 0 {
		return nil
	}
	name := strings.ToUpper(c.Static["inter.broker.listener.name"])
	if name == "" {
		name = c.Listeners[0].Name
		if p := strings.ToUpper(c.Static["security.inter.broker.protocol"]); p != "" && slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.Name == p }) {
			name = p
		}
	}
	if !slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.Name == name }) {
		return fmt.Errorf("inter.broker.listener.name=%s is not in listeners: add it there, or name another listener", name)
	}
	c.InterBroker = name
	return nil
}

// parseVoters reads id@host:port, several with commas.
func parseVoters(text string) (map[int32]string, error) {
	voters := map[int32]string{}
	addresses := map[string]bool{}
	for _, v := range configs.SplitList(text) {
		left, address, ok := strings.Cut(v, "@")
		if _, _, err := net.SplitHostPort(address); !ok || err != nil {
			return nil, fmt.Errorf("controller.quorum.voters: %q is not of the form id@host:port", v)
		}
		id, err := strconv.ParseInt(left, 10, 32)
		if err != nil || id < 0 {
			return nil, fmt.Errorf("controller.quorum.voters: %q does not begin with a node id", v)
		}
		if _, twice := voters[int32(id)]; twice {
			return nil, fmt.Errorf("controller.quorum.voters names node %d twice", id)
		}
		if addresses[address] {
			return nil, fmt.Errorf("controller.quorum.voters gives two nodes the address %s", address)
		}
		voters[int32(id)], addresses[address] = address, true
	}
	return voters, nil
}
