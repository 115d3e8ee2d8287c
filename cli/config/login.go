package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"kraft/cli/jaas"
	"kraft/raftmeta/configs"
	"kraft/wire/sasl"
	"kraft/wire/ssl"
)

// Login is how clients of a listener log in.
type Login struct {
	Mechanisms map[string]Mechanism // by their names, e.g. SCRAM-SHA-256
}

// Mechanism is what a listener's settings say of one SASL mechanism.
type Mechanism struct {
	Passwords      map[string]string // of users, by their names, for PLAIN
	User, Password string            // by which this broker logs in to others; "" if not given
	MaxSession     time.Duration     // connections.max.reauth.ms; 0 for none
	OAuth          *OAuth            // for OAUTHBEARER
}

const (
	plaintext     = "PLAINTEXT"
	saslPlaintext = "SASL_PLAINTEXT"
	plain         = "PLAIN"
)

// loginModules are the mechanisms that kraft has, and the ends of their login modules' names.
var loginModules = map[string]string{plain: "PlainLoginModule", sasl.SHA256.Name: "ScramLoginModule", sasl.SHA512.Name: "ScramLoginModule", oauthBearer: "OAuthBearerLoginModule"}

// readLogins gives the listeners that have SASL their users.
func (c *Config) readLogins() error {
	for i := range c.Listeners {
		l := &c.Listeners[i]
		if !hasSASL(l.Protocol) {
			continue
		}
		var err error
		if l.Login, err = c.readLogin(l.Name); err != nil {
			return fmt.Errorf("listener %s asks for %s: %w", l.Name, l.Protocol, err)
		}
	}
	return nil
}

func (c *Config) readLogin(listener string) (*Login, error) {
	names := configs.SplitList(*configs.Broker["sasl.enabled.mechanisms"].Default)
	from := "sasl.enabled.mechanisms"
	own := configs.ListenerPrefix(listener)
	for _, key := range []string{from, own + from} {
		if value, ok := c.Static[key]; ok {
			c.markUsed(key)
			names, from = configs.SplitList(value), key
		}
	}
	login := &Login{Mechanisms: map[string]Mechanism{}}
	for _, name := range names {
		if loginModules[name] == "" {
			return nil, fmt.Errorf("%s has %s, but kraft's mechanisms are %s: set, for example, %s=%s", from, name, strings.Join(slices.Sorted(maps.Keys(loginModules)), ", "), from, sasl.SHA256.Name)
		}
		var err error
		if login.Mechanisms[name], err = c.readMechanism(own+strings.ToLower(name), name); err != nil {
			return nil, err
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s is empty: nobody could log in", from)
	}
	return login, nil
}

// readMechanism reads a mechanism's settings, whose names begin with prefix.
func (c *Config) readMechanism(prefix, name string) (m Mechanism, err error) {
	key := prefix + ".sasl.jaas.config"
	const callback = "sasl.server.callback.handler.class"
	for _, other := range []string{callback, prefix + "." + callback} {
		if class := c.Static[other]; class != "" && name != oauthBearer && !checksTokens(callback, class) { // of OAUTHBEARER, readOAuth judges
			where := "list the users in " + key
			if name != plain {
				where = "add the users with kafka-configs"
			}
			return m, fmt.Errorf("%s=%s: kraft loads no Java classes, so it cannot check passwords by it: remove the setting, and %s", other, class, where)
		}
	}
	m.MaxSession = c.MaxSession
	const reauth = ".connections.max.reauth.ms"
	for _, key := range []string{strings.TrimSuffix(prefix, "."+strings.ToLower(name)) + reauth, prefix + reauth} { // the mechanism's own counts most
		if c.Static[key] == "" {
			continue
		}
		c.markUsed(key)
		if err := configs.Broker["connections.max.reauth.ms"].Check(c.Static[key]); err != nil {
			return m, fmt.Errorf("%s: %w", key, err)
		}
		ms, _ := strconv.ParseInt(strings.TrimSpace(c.Static[key]), 10, 64)
		m.MaxSession = time.Duration(ms) * time.Millisecond
	}
	options, err := c.readJAAS(key, name)
	if err != nil {
		return m, err
	}
	switch name {
	case plain:
		if options == nil {
			return m, fmt.Errorf(`%s is missing, which lists the users: org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="her-password";`, key)
		}
	case oauthBearer:
		m.OAuth, err = c.readOAuth(prefix, strings.TrimSuffix(prefix, strings.ToLower(name)), options)
		return m, err
	}
	m.User, m.Password, m.Passwords = options["username"], options["password"], map[string]string{} // the users of SCRAM are in the metadata
	for option, value := range options {
		if user, ok := strings.CutPrefix(option, "user_"); ok {
			m.Passwords[user] = value
		}
	}
	return m, nil
}

// readJAAS reads the JAAS line of a mechanism, which has the options of its login module; nil if there is none.
func (c *Config) readJAAS(key, mechanism string) (map[string]string, error) {
	text, ok := c.Static[key]
	if !ok {
		return nil, nil
	}
	c.markUsed(key)
	entry, err := jaas.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if module := loginModules[mechanism]; !strings.HasSuffix(entry.Module, "."+module) && entry.Module != module {
		return nil, fmt.Errorf("%s: the login module of %s is %s, not %s", key, mechanism, module, entry.Module)
	}
	return entry.Options, nil
}

// markUsed notes that a listener's own setting has an effect.
func (c *Config) markUsed(key string) {
	if c.used == nil {
		c.used = map[string]bool{}
	}
	c.used[key] = true
}

// Peer is how this node connects to a listener of other nodes, and proves who it is.
type Peer struct {
	TLS                       *ssl.Settings // nil for a listener without TLS
	Mechanism, User, Password string        // of a listener with SASL, else ""
}

// readPeers reads how nodes connect to each other: brokers to the inter-broker listener, and all to the quorum's.
func (c *Config) readPeers() (err error) {
	protocols, err := parseProtocolMap(c.Static["listener.security.protocol.map"])
	if err != nil {
		return err
	}
	members := &Listener{Name: controllerNames(c.Static)[0]}
	if c.Controller != nil {
		members = c.Controller
	}
	if members.Protocol, err = protocolOf(members.Name, protocols); err != nil {
		members.Protocol = plaintext // the name of a listener that other nodes have
	}
	if len(c.ZooKeeper) > 0 && members.Protocol != plaintext {
		return fmt.Errorf("with zookeeper.connect the quorum's listener speaks PLAINTEXT, and listener.security.protocol.map maps %s to %s: name the voters in controller.quorum.voters", members.Name, members.Protocol)
	}
	if hasSASL(members.Protocol) {
		return fmt.Errorf("listener %s is the quorum's and asks for %s, but members of the quorum know each other by certificates: map it to SSL in listener.security.protocol.map, with listener.name.%s.ssl.client.auth=required", members.Name, members.Protocol, strings.ToLower(members.Name))
	}
	if err := c.readTLSOf(members); err != nil {
		return err
	}
	if c.Members.TLS = members.TLS; c.Members.TLS != nil {
		c.Members.TLS.OfNodes = true
		if c.Controller != nil && c.Members.TLS.ClientAuth != ssl.Required {
			c.Notes = append(c.Notes, fmt.Sprintf("whoever reaches listener %s is taken for a member of the quorum: set listener.name.%s.ssl.client.auth=required", members.Name, strings.ToLower(members.Name)))
		}
	}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		if l.Name != c.InterBroker {
			continue
		}
		c.Brokers.TLS = l.TLS
		if l.Login == nil || len(c.Voters)+len(c.Join)+len(c.ZooKeeper) == 0 && c.Controller == nil { // it is alone
			continue
		}
		if err := c.readOwnLogin(l); err != nil {
			return fmt.Errorf("brokers connect to each other on listener %s, which asks for %s: %w", l.Name, l.Protocol, err)
		}
	}
	return nil
}

// checkPrefixes refuses a setting of a listener whose name is not in lower case: it would have no effect, and a client would get in that should not.
func (c *Config) checkPrefixes(listeners []Listener) error {
	for _, key := range slices.Sorted(maps.Keys(c.Static)) {
		rest, ok := strings.CutPrefix(key, "listener.name.")
		for _, l := range listeners {
			n := len(l.Name)
			if ok && len(rest) > n && rest[n] == '.' && strings.EqualFold(rest[:n], l.Name) && rest[:n] != strings.ToLower(l.Name) {
				return fmt.Errorf("%s: the name of a listener is in lower case there: listener.name.%s%s", key, strings.ToLower(l.Name), rest[n:])
			}
		}
	}
	return nil
}

// readOwnLogin reads by what this broker logs in to others.
func (c *Config) readOwnLogin(l *Listener) error {
	const key = "sasl.mechanism.inter.broker.protocol"
	name := *configs.Broker[key].Default
	if value, ok := c.Static[key]; ok {
		name = strings.TrimSpace(value)
	}
	m, ok := l.Login.Mechanisms[name]
	if !ok {
		return fmt.Errorf("%s=%s is none of the listener's mechanisms (%s)", key, name, strings.Join(slices.Sorted(maps.Keys(l.Login.Mechanisms)), ", "))
	}
	if name == oauthBearer {
		return fmt.Errorf("%s=%s: brokers fetch no tokens for each other: give the listener another mechanism too, such as %s", key, name, sasl.SHA256.Name)
	}
	if m.User == "" || m.Password == "" {
		return fmt.Errorf(`listener.name.%s.%s.sasl.jaas.config needs username="..." and password="...", by which this broker logs in to others`, strings.ToLower(l.Name), strings.ToLower(name))
	}
	c.Brokers.Mechanism, c.Brokers.User, c.Brokers.Password = name, m.User, m.Password
	return nil
}
