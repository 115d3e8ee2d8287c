package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"kraft/cli/config"
	"kraft/cli/node"
	"kraft/e2e/workload"
	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/storage/faultfs"
	"kraft/wire/logging"
	"kraft/wire/sasl"
)

// Machine is a host with a disk that forgets what was not synced, and a node that is started again when it ends. The
// quorum's file is a real one, in memory: bbolt syncs all that it answers for, so that a loss of power between its
// transactions takes nothing from it.
type Machine struct {
	id       int32
	name     string // an IP address
	network  *Network
	history  *workload.History
	disk     *faultfs.FS
	settings map[string]string
	labels   context.Context // of the node's goroutines, which tell the time by the machine's clock

	mu      sync.Mutex // guards the rest
	old     bool       // the next process is one of the version before
	process *process   // nil while none is to run
	last    *process   // the newest; it may still be on its way out
	lost    bool       // what was not synced is to be lost before the next start
	resume  func()     // nil unless it stands still
	copied  *disks     // as they were once
}

// disks are all that a machine has written.
type disks struct {
	logs     *faultfs.Disk
	metadata []byte
	epoch    int64 // the broker's newest
}

// process is one life of a node, restarts by its service manager included.
type process struct {
	machine *Machine
	stop    context.CancelFunc
	dead    atomic.Bool // killed: what its goroutines still do reaches nobody
	node    atomic.Pointer[node.Node]
	ended   atomic.Int32 // how often the node has ended by itself
	done    chan struct{}

	features map[string][2]int16 // of its version
}

const (
	clientPort     = 9092
	controllerPort = 9093
	restartPause   = 500 * time.Millisecond
	startPatience  = 30 * time.Second
)

// logDirs are those of machines that have several.
var logDirs = []string{"/data", "/more"}

// upgradedFeature is the feature that a version and the one before support up to different levels.
const upgradedFeature = "metadata.version"

var oldFeatures = map[string][2]int16{upgradedFeature: {controller.Features[upgradedFeature][0], controller.Features[upgradedFeature][1] - 1}}

// SetVersion says which version the machine's next process is of.
func (m *Machine) SetVersion(old bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.old = old
}

func hostName(id int32) string { return "10.0.0." + strconv.Itoa(int(id)) }

func newMachine(id int32, voters string, n *Network, h *workload.History, seed uint64, dir string, settings map[string]string, secured bool) (*Machine, error) {
	m := &Machine{id: id, name: hostName(id), network: n, history: h, disk: faultfs.New(seed), settings: maps.Clone(settings)}
	m.labels = pprof.WithLabels(context.Background(), pprof.Labels("machine", m.name))
	meta := filepath.Join(dir, strconv.Itoa(int(id)))
	if err := os.MkdirAll(meta, 0o755); err != nil {
		return nil, err
	}
	m.settings["node.id"] = strconv.Itoa(int(id))
	if m.settings["log.dirs"] == "" {
		m.settings["log.dirs"] = logDirs[0]
	}
	m.settings["metadata.log.dir"] = meta
	m.settings["listeners"] = fmt.Sprintf("PLAINTEXT://%s:%d,CONTROLLER://%s:%d", m.name, clientPort, m.name, controllerPort)
	m.settings["controller.quorum.voters"] = voters
	if secured {
		return m, m.secure(meta)
	}
	return m, nil
}

// secure has the machine's node ask clients for a login, and know the users.
func (m *Machine) secure(metadataDir string) error {
	maps.Copy(m.settings, map[string]string{
		"listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:SASL_PLAINTEXT", "inter.broker.listener.name": "PLAINTEXT",
		"sasl.enabled.mechanisms": sasl.SHA256.Name, "sasl.mechanism.inter.broker.protocol": sasl.SHA256.Name,
		"listener.name.plaintext.scram-sha-256.sasl.jaas.config": fmt.Sprintf(`ScramLoginModule required username="%[1]s" password="%[1]s";`, workload.BrokerUser),
		"authorizer.class.name":                                  "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users":                                            "User:ANONYMOUS;User:" + workload.AdminUser + ";User:" + workload.BrokerUser,
	})
	users, err := firstUsers()
	if err != nil {
		return err
	}
	return config.WriteFirstUsers(metadataDir, users)
}

// firstUsers are the users of clusters with logins.
var firstUsers = sync.OnceValues(func() (users []image.ScramCredential, err error) {
	for _, user := range []string{workload.AdminUser, workload.BrokerUser, workload.ClientUser, workload.Trespasser} {
		c, err := config.FirstUser(user, user, sasl.SHA256, []byte("salt of "+user))
		if err != nil {
			return nil, err
		}
		users = append(users, c)
	}
	return users, nil
})

// voterList is a list of the first machines' controller listeners, each with its node's id before it if ids is set.
func voterList(count int32, ids bool) string {
	var out []string
	for id := int32(1); id <= count; id++ {
		address := fmt.Sprintf("%s:%d", hostName(id), controllerPort)
		if ids {
			address = fmt.Sprintf("%d@%s", id, address)
		}
		out = append(out, address)
	}
	return strings.Join(out, ",")
}

// Start turns the machine on, and its node. What the node wrote before it was killed is there; of what it wrote before
// a loss of power, what was synced.
func (m *Machine) Start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	p, before := &process{machine: m, stop: cancel, done: make(chan struct{}), features: controller.Features}, m.last
	if m.old {
		p.features = oldFeatures
	}
	m.process, m.last = p, p
	go func() {
		defer close(p.done)
		pprof.SetGoroutineLabels(m.labels)
		if before != nil {
			<-before.done // it lets go of its files
		}
		if m.boot(p) {
			p.run(ctx)
		}
	}()
}

// boot brings disk and network up, unless the process has ended before it began.
func (m *Machine) boot(p *process) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != p {
		return false
	}
	if m.lost {
		m.disk.Restart()
	} else {
		m.disk.Kill()
	}
	m.lost = false
	m.network.Up(m.name)
	return true
}

// Kill ends the process at once.
func (m *Machine) Kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != nil {
		m.kill()
		m.network.Exit(m.name)
	}
}

// PowerOff ends all at once, and loses what was not synced.
func (m *Machine) PowerOff() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = true
	if m.process != nil {
		m.kill()
	}
	m.network.PowerOff(m.name)
}

// kill ends the process. mu is held.
func (m *Machine) kill() {
	m.disk.Crash()
	m.process.dead.Store(true)
	m.process.stop()
	m.process = nil
	m.goOn()
}

// Copy keeps what is on the disks at an instant, of which epoch is the broker's newest epoch.
func (m *Machine) Copy(epoch int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := &disks{logs: m.disk.Copy(), epoch: epoch}
	var err error
	if d.metadata, err = os.ReadFile(m.metadataFile()); err == nil {
		m.copied = d
	}
	return err
}

// Swap turns the machine off, puts other disks into it, and returns the disks that it had.
func (m *Machine) Swap(other *disks) (before *disks, err error) {
	for {
		m.PowerOff()
		m.Ended()
		m.mu.Lock()
		if m.process == nil {
			break
		}
		m.mu.Unlock() // somebody who replaces its version has started it again
	}
	defer m.mu.Unlock()
	m.disk.Restart()
	m.lost = false
	before = new(disks)
	if before.metadata, err = os.ReadFile(m.metadataFile()); err == nil {
		err = os.WriteFile(m.metadataFile(), other.metadata, 0o600)
	}
	before.logs = m.disk.Swap(other.logs)
	return before, err
}

func (m *Machine) metadataFile() string {
	return filepath.Join(m.settings["metadata.log.dir"], "kraft-metadata.db")
}

// Up waits until the node serves clients, or has ended by itself, and says whether it serves.
func (m *Machine) Up(patience time.Duration) bool {
	m.mu.Lock()
	p := m.process
	m.mu.Unlock()
	for end := time.Now().Add(patience); p != nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
		if p.node.Load() != nil {
			return true
		}
		if p.ended.Load() > 0 {
			break
		}
	}
	return false
}

// do runs f on a goroutine of the machine.
func (m *Machine) do(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		pprof.SetGoroutineLabels(m.labels)
		f()
	}()
	<-done
}

// Pause has the machine stand still, unless it does; its network and disk are there.
func (m *Machine) Pause() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil || m.resume != nil {
		return false
	}
	m.do(func() { m.resume = pause() })
	return true
}

// Resume has it go on, unless it does.
func (m *Machine) Resume() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.goOn()
}

// goOn is Resume. mu is held.
func (m *Machine) goOn() bool {
	if m.resume == nil {
		return false
	}
	m.resume()
	m.resume = nil
	return true
}

// Stop ends the node as SIGTERM does, and waits for it.
func (m *Machine) Stop() {
	m.mu.Lock()
	p := m.process
	m.mu.Unlock()
	if p == nil {
		return
	}
	p.stop()
	<-p.done
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == p { // and not killed meanwhile
		m.process = nil
		m.network.Exit(m.name)
	}
}

// Ended waits until nothing of the machine's last process is left.
func (m *Machine) Ended() {
	m.mu.Lock()
	p := m.last
	m.mu.Unlock()
	if p != nil {
		<-p.done
	}
}

// Image is the metadata that the machine's node goes by, nil while there is none.
func (m *Machine) Image() *image.Image {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil {
		return nil
	}
	if n := m.process.node.Load(); n != nil {
		return n.Image()
	}
	return nil
}

// Running says that a process is to run.
func (m *Machine) Running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.process != nil
}

// run runs the node, again whenever it ends by itself, as a service manager does.
func (p *process) run(ctx context.Context) {
	m := p.machine
	for ctx.Err() == nil {
		if err := p.once(ctx); err != nil && ctx.Err() == nil {
			m.history.Note(m.String(), "ended: "+err.Error())
			p.ended.Add(1)
			m.network.Exit(m.name)
			select {
			case <-ctx.Done():
			case <-time.After(restartPause):
			}
		}
	}
}

// once runs the node until it ends.
func (p *process) once(ctx context.Context) error {
	m := p.machine
	c, err := config.New(m.settings)
	if err != nil {
		return err
	}
	log := zerolog.New(m.history.Log(m.String())).Level(nodeLevel())
	starting, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	n, err := node.StartOn(starting, node.World{FS: m.disk, Listen: p.listen, Dial: p.dial, Owns: m.owns, Features: p.features}, c, logging.New(log, nil))
	if err != nil {
		return err
	}
	p.node.Store(n)
	select {
	case <-n.Failed():
		if err = n.Stop(); err == nil {
			err = errors.New("it went no further")
		}
	case <-ctx.Done():
		err = n.Stop() // of one that was killed, nothing reaches disk or network any more
	}
	return err
}

func (p *process) listen(address string) (net.Listener, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	if p.dead.Load() {
		return nil, syscall.ENETDOWN
	}
	return p.machine.network.Listen(p.machine.name, n)
}

func (p *process) dial(ctx context.Context, address string) (net.Conn, error) {
	if p.dead.Load() {
		return nil, syscall.ENETDOWN
	}
	c, err := p.machine.network.Dial(ctx, p.machine.name, address)
	if err == nil && p.dead.Load() {
		_ = c.Close()
		return nil, syscall.ENETDOWN
	}
	return c, err
}

func (m *Machine) String() string { return fmt.Sprintf("node %d", m.id) }

// verboseVariable has all of nodes' logs in the story.
const verboseVariable = "KRAFT_SIM_DEBUG"

// nodeLevel is how much of nodes' logs is in the story.
func nodeLevel() zerolog.Level {
	if os.Getenv(verboseVariable) != "" {
		return zerolog.DebugLevel
	}
	return zerolog.InfoLevel
}
