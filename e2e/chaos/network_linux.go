package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Network is hosts, each a network namespace with one interface, and a switch that carries their packets: it is in this
// process, so that it can delay, lose and withhold them on kernels without netem too, and each way on its own. Its methods
// may be called from any goroutine.
type Network struct {
	Hosts []*Host

	switching sync.WaitGroup

	mu   sync.Mutex // guards the rest
	ways map[way]Condition
}

// way is from one host to another, by their places in Hosts.
type way struct{ from, to int }

// Condition is what happens to packets on a way.
type Condition struct {
	Cut   bool
	Loss  float64 // the share that is lost
	Delay time.Duration
}

// Host is one network namespace.
type Host struct {
	Address string // IPv4

	namespace *os.File
	wire      *os.File // the other end of its interface: a packet a read or write
}

const packetSize = 1500

// NewNetwork makes hosts 10.77.0.1, 10.77.0.2 and so on. Nothing outside their namespaces sees them. The error says when
// this process may not do that. Close it.
func NewNetwork(hosts int) (*Network, error) {
	n := &Network{ways: map[way]Condition{}}
	for i := range hosts {
		h, err := newHost(net.IPv4(10, 77, 0, byte(i+1)))
		if err != nil {
			n.Close()
			return nil, fmt.Errorf("make a network namespace: %w", err)
		}
		n.Hosts = append(n.Hosts, h)
	}
	for i := range n.Hosts {
		n.switching.Go(func() { n.carry(i) })
	}
	return n, nil
}

// Set puts a way into a condition; the zero Condition is a good one.
func (n *Network) Set(from, to int, c Condition) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ways[way{from, to}] = c
}

// Heal makes all ways good.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.ways)
}

// Close ends the network. Processes on its hosts are to have ended.
func (n *Network) Close() {
	for _, h := range n.Hosts {
		_ = h.wire.Close()
	}
	n.switching.Wait()
	for _, h := range n.Hosts {
		_ = h.namespace.Close()
	}
}

// carry takes what a host sends to where it goes.
func (n *Network) carry(from int) {
	buf := make([]byte, packetSize)
	for {
		size, err := n.Hosts[from].wire.Read(buf)
		if errors.Is(err, fs.ErrClosed) {
			return
		}
		const header, destination = 20, 16 // of IPv4
		if err != nil || size < header || buf[0]>>4 != 4 {
			continue
		}
		to := int(buf[destination+3]) - 1
		if to < 0 || to >= len(n.Hosts) {
			continue
		}
		n.mu.Lock()
		c := n.ways[way{from, to}]
		n.mu.Unlock()
		switch {
		case c.Cut, c.Loss > 0 && rand.Float64() < c.Loss:
		case c.Delay > 0:
			packet := append([]byte(nil), buf[:size]...)
			time.AfterFunc(c.Delay, func() { _, _ = n.Hosts[to].wire.Write(packet) })
		default:
			_, _ = n.Hosts[to].wire.Write(buf[:size]) // no room there, or closed: a lost packet
		}
	}
}

func newHost(address net.IP) (*Host, error) {
	h := &Host{Address: address.String()}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine, and with it its namespace
		failed <- h.make(address.To4())
	}()
	err := <-failed
	if err != nil && h.namespace != nil {
		_ = h.namespace.Close()
	}
	return h, err
}

// make gives the calling thread a namespace of its own, with an interface.
func (h *Host) make(address net.IP) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	var err error
	if h.namespace, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	const path = "/dev/net/tun"
	tun, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	request, err := unix.NewIfreq("wire")
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(tun, unix.TUNSETIFF, request)
	}
	if err == nil {
		err = configure(address)
	}
	if err != nil {
		_ = unix.Close(tun)
		return fmt.Errorf("make an interface: %w", err)
	}
	h.wire = os.NewFile(uintptr(tun), path)
	return nil
}

// configure gives the thread's namespace its address, and brings its interfaces up.
func configure(address net.IP) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	for _, set := range []struct {
		device  string
		request uint
		fill    func(*unix.Ifreq) error
	}{
		{"lo", unix.SIOCSIFFLAGS, up},
		{"wire", unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(address) }},
		{"wire", unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) }},
		{"wire", unix.SIOCSIFFLAGS, up},
	} {
		r, err := unix.NewIfreq(set.device)
		if err == nil {
			err = set.fill(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(socket, set.request, r)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", set.device, err)
		}
	}
	return nil
}

func up(r *unix.Ifreq) error {
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return nil
}

// Do calls f on a thread that is on this host: sockets that it opens and processes that it starts are there too, wherever
// they are used.
func (h *Host) Do(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good, as above
		err := unix.Setns(int(h.namespace.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// Dial connects from this host.
func (h *Host) Dial(ctx context.Context, address string) (c net.Conn, err error) {
	err = h.Do(func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, "tcp", address)
		return err
	})
	return c, err
}
