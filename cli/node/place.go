package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"kraft/cli/config"
	"kraft/raftmeta"
	"kraft/raftmeta/configs"
	"kraft/raftmeta/quorum"
	"kraft/storage"
)

// placeFile, in the metadata directory, keeps the place that a node took in the quorum that zookeeper.connect names, and whom a node that joins
// by other settings is to ask until a member has admitted it. Its disk decides from then on.
const placeFile = "kraft-quorum.json"

// place is a node's place in the metadata quorum.
type place struct {
	voters    map[int32]string // by node id, of a quorum whose voters are known; see config.Config
	join      []string         // members to ask
	meeting   *raftmeta.Meeting
	listener  *config.Listener // for the quorum, nil for none
	elsewhere []string         // addresses of this host besides join's, where a process listens at a port of zookeeper.connect
	taken     []string         // addresses of this host that zookeeper.connect means, where another process listens
	// doubtful: while no member takes the node in, it looks again whether an address is its own and free.
	doubtful bool
}

// savedPlace is what placeFile says.
type savedPlace struct {
	List   []string         `json:"zookeeper.connect,omitempty"` // as it was when Own was taken, or the node joined
	Own    string           `json:"own,omitempty"`               // the address of List at which the node listens, "" for a broker that joins
	Others []string         `json:"others,omitempty"`            // more addresses that a broker that joins asks
	Voters map[string]int32 `json:"voters,omitempty"`            // node ids by address, once all have met
	// Join are the members that a node without zookeeper.connect is to ask to take it in; of no use once it has been.
	Join []string `json:"join,omitempty"`
}

// findPlace finds the node's place by its settings; by its disk, where the node has been in a quorum or has agreed on one.
func (n *Node) findPlace(ctx context.Context) error {
	c := n.config
	n.place = place{voters: c.Voters, join: c.Join, listener: c.Controller}
	saved, err := n.readPlace()
	if err != nil {
		return err
	}
	if len(c.ZooKeeper) == 0 {
		return n.rememberJoin(saved)
	}
	if saved != nil && saved.List == nil {
		saved = nil
	}
	first, begun, err := raftmeta.Known(filepath.Join(c.MetadataDir, metadataFile))
	if err != nil {
		return err
	}
	switch {
	case saved != nil && (saved.Voters != nil || saved.Own == "" && len(first) > 0):
		return n.keepPlace(saved)
	case saved != nil && saved.Own != "" && slices.Contains(c.ZooKeeper, saved.Own) && !begun: // nobody has agreed with it on anything
		saved.List = c.ZooKeeper
		return n.keepPlace(saved)
	case begun && (len(first) == 0 || len(first) == 1 && first[0] == c.NodeID):
		return n.stayAlone(ctx)
	case begun && !slices.Contains(first, c.NodeID): // it joined by another setting
		n.place.join = c.ZooKeeper
		return nil
	case begun:
		return fmt.Errorf("zookeeper.connect=%s: this node's metadata in %s belongs to a quorum configured by other settings: set controller.quorum.voters (--peers) or controller.quorum.bootstrap.servers (--join) as before",
			strings.Join(c.ZooKeeper, ","), c.MetadataDir)
	}
	return n.choosePlace(ctx)
}

// rememberJoin saves whom a node with an empty directory is to join. Until somebody has taken it in, it begins no cluster of its own.
func (n *Node) rememberJoin(saved *savedPlace) error {
	c := n.config
	joins := len(c.Join) > 0
	if saved == nil && !joins {
		return nil
	}
	if _, begun, err := raftmeta.Known(filepath.Join(c.MetadataDir, metadataFile)); err != nil || begun {
		return err
	}
	switch {
	case joins && (saved == nil || !sameList(saved.Join, c.Join)):
		return n.savePlace(savedPlace{Join: c.Join})
	case !joins && len(c.Voters) == 0 && saved != nil && len(saved.Join) > 0:
		return fmt.Errorf("%s belongs to a node that was to join the cluster at %s, and that no member has taken in yet: start it with --join %s again, or remove %s to begin a cluster of its own",
			c.MetadataDir, strings.Join(saved.Join, ","), strings.Join(saved.Join, ","), n.placePath())
	}
	return nil
}

// keepPlace has the node go by its disk.
func (n *Node) keepPlace(saved *savedPlace) error {
	c := n.config
	if !sameList(saved.List, c.ZooKeeper) {
		n.log.Warn().Msg(fmt.Sprintf("zookeeper.connect was %s when this node joined its quorum, and is %s now: the change has no effect: this node uses the addresses saved on its disk (%s)",
			strings.Join(saved.List, ","), strings.Join(c.ZooKeeper, ","), n.placePath()))
	}
	if saved.Own == "" {
		n.place.join = slices.Concat(c.ZooKeeper, saved.Others)
		return nil
	}
	l := c.QuorumListener(saved.Own)
	if n.controllers == nil { // else it is from an earlier try
		bound, err := n.listenOn(l)
		if err != nil {
			return fmt.Errorf("zookeeper.connect: %w", err)
		}
		n.controllers = bound
	}
	n.takePlace(l, *saved)
	return nil
}

// stayAlone keeps a node the cluster of its own that it began when zookeeper.connect meant nothing. It can be joined where it has the only
// address.
func (n *Node) stayAlone(ctx context.Context) error {
	c := n.config
	if len(c.ZooKeeper) == 1 {
		if took, err := n.takeFree(ctx); took {
			return err
		}
	}
	n.log.Warn().Msg(fmt.Sprintf("zookeeper.connect=%s has no effect: this node's metadata in %s belongs to a cluster that it created alone: to build one cluster of several nodes, give each node an empty data directory",
		strings.Join(c.ZooKeeper, ","), c.MetadataDir))
	return nil
}

// checkPlace returns an error if this node is a voter, as far as it knows, to which zookeeper.connect gives no address to listen on.
func (n *Node) checkPlace() error {
	if len(n.config.ZooKeeper) == 0 || len(n.place.join) == 0 || !n.meta.Votes() {
		return nil
	}
	return n.withPlace(errors.New("this node is a voter of the metadata quorum, but zookeeper.connect gives it no address to listen on: start it with controller.quorum.bootstrap.servers (--join), as before"))
}

// withPlace puts before an error the settings that place the node where the quorum is that zookeeper.connect names.
func (n *Node) withPlace(err error) error {
	if len(n.config.ZooKeeper) == 0 || err == nil {
		return err
	}
	return fmt.Errorf("broker.id=%d, zookeeper.connect=%s: %w", n.config.NodeID, strings.Join(n.config.ZooKeeper, ","), err)
}

// sameList reports whether two lists name the same addresses.
func sameList(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// resolvePatience is how long a start waits for names of zookeeper.connect that do not resolve: another host's may never.
const resolvePatience = 5 * time.Second

// choosePlace takes the first address of zookeeper.connect that is this host's and free; without one the node joins as a broker.
func (n *Node) choosePlace(ctx context.Context) error {
	c := n.config
	for begun := time.Now(); ; {
		took, err := n.takeFree(ctx)
		if took || err != nil && !errors.Is(err, errUnresolved) {
			return err
		}
		switch {
		case err != nil && time.Since(begun) < resolvePatience:
		case !c.IsBroker:
			return fmt.Errorf("zookeeper.connect=%s: no address both belongs to this host and is free: list one, since a node with process.roles=controller needs it", strings.Join(c.ZooKeeper, ","))
		default:
			for _, address := range n.place.taken {
				if !n.toldTaken[address] {
					n.toldTaken[address] = true
					n.log.Info().Msg(fmt.Sprintf("zookeeper.connect: another process listens on %s: this node joins as a broker", address))
				}
			}
			n.place.join, n.place.doubtful = slices.Concat(c.ZooKeeper, n.place.elsewhere), true
			return n.savePlace(savedPlace{List: c.ZooKeeper, Others: n.place.elsewhere})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// errUnresolved says that an address of zookeeper.connect does not resolve.
var errUnresolved = errors.New("a name does not resolve")

// takeFree takes the first address of zookeeper.connect that is this host's and free, if there is one and the node may vote. It gives
// errUnresolved where there is none and some name does not resolve.
func (n *Node) takeFree(ctx context.Context) (took bool, err error) {
	var unresolved error
	n.place.taken, n.place.elsewhere = nil, nil
	for _, address := range n.config.ZooKeeper {
		host, _, _ := net.SplitHostPort(address) // checked by config
		own, err := n.owns(ctx, host)
		if errors.Is(err, errSeveralHosts) {
			return false, fmt.Errorf("zookeeper.connect=%s: %w", strings.Join(n.config.ZooKeeper, ","), err)
		}
		if err != nil {
			unresolved = errUnresolved
		}
		if !own || !n.config.Votes {
			continue
		}
		l := n.config.QuorumListener(address)
		if at := n.takenElsewhere(ctx, address); len(at) > 0 {
			n.place.taken, n.place.elsewhere = append(n.place.taken, at[0]), append(n.place.elsewhere, at...)
			continue
		}
		bound, err := n.bind(l.Address())
		if errors.Is(err, syscall.EADDRINUSE) { // by another node here, or by a stranger
			n.place.taken = append(n.place.taken, address)
			continue
		}
		if err != nil {
			return false, fmt.Errorf("cannot listen on %s (zookeeper.connect): %w", l.Address(), err)
		}
		n.controllers = bound
		return true, n.takeNewPlace(l, address)
	}
	return false, unresolved
}

// aliasPatience is how long another address of this host may take to answer.
const aliasPatience = 200 * time.Millisecond

// takenElsewhere returns the addresses of this host, other than the one given, where a process listens on the same port. A ZooKeeper listens on
// all addresses: nodes whose files name it localhost, 127.0.1.1, [::1] or by the host's name must form one cluster. Where the list has several
// addresses with that port, each is a ZooKeeper of its own, and nodes that name them otherwise notice by their lists, which differ.
func (n *Node) takenElsewhere(ctx context.Context, address string) (at []string) {
	host, port, _ := net.SplitHostPort(address) // checked by config
	for _, other := range n.config.ZooKeeper {
		if _, p, _ := net.SplitHostPort(other); other != address && p == port {
			return nil
		}
	}
	for _, alias := range aliases(host) {
		trying, cancel := context.WithTimeout(ctx, aliasPatience)
		c, err := n.dial(trying, net.JoinHostPort(alias, port))
		cancel()
		if err == nil {
			_ = c.Close()
			at = append(at, net.JoinHostPort(alias, port))
		}
	}
	return at
}

// aliases are this host's other names and addresses, where the one given is a loopback address or the host's name.
func aliases(host string) (out []string) {
	name, err := os.Hostname()
	if err != nil || !configs.IsLoopback(host) && !strings.EqualFold(host, name) {
		return nil
	}
	add := func(alias string) {
		if alias != host && !slices.Contains(out, alias) {
			out = append(out, alias)
		}
	}
	add("127.0.0.1")
	add("::1")
	add(name)
	if addresses, err := interfaceAddresses(); err == nil {
		for _, ip := range addresses {
			if !ip.IsLinkLocalUnicast() {
				add(ip.String())
			}
		}
	}
	return out
}

// interfaceAddresses are the addresses of this host's interfaces.
func interfaceAddresses() (out []net.IP, err error) {
	all, err := net.InterfaceAddrs()
	for _, a := range all {
		if network, ok := a.(*net.IPNet); ok {
			out = append(out, network.IP)
		}
	}
	return out, err
}

// takeNewPlace saves the address that the node took. A list of one address has no other voter to meet.
func (n *Node) takeNewPlace(l *config.Listener, address string) error {
	saved := savedPlace{List: n.config.ZooKeeper, Own: address}
	if len(saved.List) == 1 {
		saved.Voters = map[string]int32{address: n.config.NodeID}
	}
	if err := n.savePlace(saved); err != nil {
		return err
	}
	n.takePlace(l, saved)
	return nil
}

func (n *Node) takePlace(l *config.Listener, saved savedPlace) {
	n.place.listener = l
	n.place.meeting = &raftmeta.Meeting{Own: saved.Own, Addresses: saved.List, Voters: saved.Voters, Agreed: func(voters map[string]int32) error {
		saved.Voters = voters
		return n.savePlace(saved)
	}}
}

func (n *Node) placePath() string { return filepath.Join(n.config.MetadataDir, placeFile) }

func (n *Node) readPlace() (*savedPlace, error) {
	data, err := os.ReadFile(n.placePath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	saved := new(savedPlace)
	if err == nil {
		err = json.Unmarshal(data, saved)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s, the record of the zookeeper.connect address that this node listens on: %w", n.placePath(), err)
	}
	return saved, nil
}

func (n *Node) savePlace(s savedPlace) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = os.MkdirAll(n.config.MetadataDir, 0o755)
	}
	if err == nil {
		err = storage.OS{}.WriteFile(n.placePath(), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("cannot save the node's place in the quorum: %w", err)
	}
	return nil
}

// errSeveralHosts says that a name of zookeeper.connect is not that of one host.
var errSeveralHosts = errors.New("the name resolves to addresses of several hosts, including this one: list each host under its own name")

// ownHost reports whether a name or an address is this host's. Errors are errSeveralHosts, and that the name does not resolve.
func ownHost(ctx context.Context, host string) (bool, error) {
	if name, err := os.Hostname(); err == nil && strings.EqualFold(name, host) {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolvePatience)
	defer cancel()
	resolved, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return false, err
	}
	addresses, err := interfaceAddresses()
	if err != nil {
		return false, err
	}
	own := 0
	for _, r := range resolved {
		if r.IP.IsLoopback() || r.IP.IsUnspecified() || slices.ContainsFunc(addresses, r.IP.Equal) {
			own++
		}
	}
	if own > 0 && own < len(resolved) { // each of them would take the address for its own, and begin a quorum
		return false, fmt.Errorf("%s: %w", host, errSeveralHosts)
	}
	return own > 0, nil
}

// stranger returns an error where a real ZooKeeper listens at an address of zookeeper.connect. A node that starts or stops may be silent
// for a while: silence is no error.
func (n *Node) stranger(ctx context.Context, address string) error {
	if !quorum.IsZooKeeper(ctx, n.dial, address) {
		return nil
	}
	return fmt.Errorf("zookeeper.connect: a ZooKeeper server listens at %s: stop it: kraft's nodes use this address for their own quorum", address)
}

// fourLetterWords answer the words by which people's scripts ask ZooKeeper how it is.
func fourLetterWords(meta *raftmeta.Meta) map[string]func() string {
	inMode := func(format string) func() string {
		return func() string {
			mode := meta.Mode()
			if mode == "" {
				return "This ZooKeeper instance is not currently serving requests\n"
			}
			return fmt.Sprintf(format, mode)
		}
	}
	status := inMode("kraft's metadata quorum, in ZooKeeper's place\nMode: %s\n")
	return map[string]func() string{
		"ruok": func() string { return "imok" }, "isro": func() string { return "rw" },
		"srvr": status, "stat": status, "mntr": inMode("zk_version\tkraft\nzk_server_state\t%s\n"),
	}
}

// ErrNotServing is what zkServer.sh says where no node serves.
var ErrNotServing = errors.New("Error contacting service. It is probably not running.")

// AskMode returns what the node whose quorum listener is at an address is to the quorum, in ZooKeeper's words. It gives ErrNotServing for one
// that knows no leader.
func AskMode(ctx context.Context, address string) (string, error) {
	answer, err := quorum.FourLetterWord(ctx, dial, address, "srvr")
	if err != nil {
		return "", err
	}
	_, mode, serves := strings.Cut(answer, "Mode: ")
	if !serves {
		return "", ErrNotServing
	}
	return strings.TrimSpace(mode), nil
}
