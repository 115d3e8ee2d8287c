package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"time"
)

// knowsAddresses gives the machine's node the voters' addresses in place of their ids.
func (m *Machine) knowsAddresses(voters int32) {
	delete(m.settings, "controller.quorum.voters")
	m.settings["listeners"] = fmt.Sprintf("PLAINTEXT://%s:%d", m.name, clientPort)
	m.settings["zookeeper.connect"] = voterList(voters, false)
}

// owns reports whether a host's name is the machine's own.
func (m *Machine) owns(_ context.Context, host string) (bool, error) {
	if net.ParseIP(host) == nil {
		return false, fmt.Errorf("no such host: %s", host)
	}
	return host == m.name, nil
}

// meetPatience is how long nodes may take to meet and to begin a quorum once nothing is in their way.
const meetPatience = 30 * time.Second

// meet starts the nodes, which know their voters' addresses alone, in any order, while ways between them are cut, machines lose power and
// come back. Whatever happens there must never be two clusters, and one once nothing is in the way.
func (s *Sim) meet() error {
	rng := rand.New(rand.NewPCG(s.plan.Seed, 15))
	machine := func() *Machine { return s.machines[rng.IntN(len(s.machines))] }
	for range 4 * len(s.machines) {
		m, other := machine(), machine()
		switch rng.IntN(6) {
		case 0, 1, 2:
			m.Start()
		case 3:
			s.network.Set(m.name, other.name, func(c *condition) { c.cut = m != other })
		case 4:
			m.PowerOff()
		default:
			m.Kill()
		}
		s.oneCluster()
		time.Sleep(time.Duration(rng.IntN(700)) * time.Millisecond)
	}
	s.network.Heal()
	for _, m := range s.machines {
		m.Start()
	}
	s.history.Say("all nodes may meet")
	for end := time.Now().Add(meetPatience); ; time.Sleep(10 * time.Millisecond) {
		all := true
		for _, m := range s.machines {
			all = all && m.Image() != nil
		}
		s.oneCluster()
		if all {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("no quorum %v after nothing was in the way of the nodes any more", meetPatience)
		}
	}
}

// oneCluster notes where two nodes are of different clusters.
func (s *Sim) oneCluster() {
	for _, m := range s.machines {
		img := m.Image()
		if img == nil || img.ClusterID == "" {
			continue
		}
		if s.cluster == "" {
			s.cluster = img.ClusterID
			s.history.Say("%v is of cluster %s", m, s.cluster)
		}
		if img.ClusterID != s.cluster {
			s.history.Wrong("two clusters", "%v is of cluster %s, there is %s already", m, img.ClusterID, s.cluster)
		}
	}
}
