package sim

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"kraft/e2e/mutate/sources"
)

// runtimeChanges make Go's runtime choose by the seed what it otherwise chooses at random (the order of maps, of select, of
// timers, math/rand), leave a goroutine the only processor while it is in a system call, and keep real time out of mutexes:
// with one processor and no garbage collector a simulation then does the same every time. Threads come and go as they like,
// so what they draw and allocate must not move what goroutines draw, nor what they allocate: where an object lies is the order of
// maps whose keys are pointers. Besides, the machines have clocks of their own, which jump while
// their timers do not, as on a real one, and can be made to stand still. Old is in the file once.
var runtimeChanges = []struct{ file, old, new string }{
	{"runtime/rand.go", "	globalRand.state.Init(*seed)\n", "	*seed = [len(*seed)]byte{}\n	globalRand.state.Init(*seed)\n"},
	{"runtime/rand.go", "	mp.cheaprand = rand()\n", "	mp.cheaprand = 1\n"},
	{"runtime/rand.go", "func rand() uint64 {\n", "func rand() uint64 {\n	if true {\n		return simulated(&simulation)\n	}\n"},
	{"runtime/rand.go", "// randn is like rand() % n but faster.\n", `//go:linkname simulation
var simulation uint64

//go:linkname simulatedOrder
var simulatedOrder uint64 // of selects and timers

//go:nosplit
func simulated(state *uint64) uint64 { // splitmix64
	*state += 0x9e3779b97f4a7c15
	z := *state
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// randn is like rand() % n but faster.
`},
	{"runtime/select.go", "cheaprandn(uint32(norder + 1))", "uint32(simulated(&simulatedOrder) % uint64(norder+1))"},
	{"runtime/time.go", "t.rand = cheaprand()", "t.rand = uint32(simulated(&simulatedOrder))"},
	{"runtime/proc.go", "func retake(now int64) uint32 {\n", "//go:linkname simulatedOver\nvar simulatedOver bool\n\nfunc retake(now int64) uint32 {\n	if !simulatedOver {\n		return 0\n	}\n"},
	{"runtime/time.go", "		return sec, nsec, 0\n", "		return sec, nsec, bubble.now\n"},
	{"runtime/time.go", "		sec = bubble.now / (1000 * 1000 * 1000)\n		nsec = int32(bubble.now % (1000 * 1000 * 1000))\n",
		"		now := bubble.now + simulatedAhead(getg())\n		sec, nsec = now/1e9, int32(now%1e9)\n"},
	{"runtime/time.go", "//go:linkname time_runtimeNow time.runtimeNow\n", `//go:linkname simulatedJump
var simulatedJump int64 // by which the next goroutine that asks for the time puts the clock of its machine forward

var simulatedClocks [16]struct {
	labels unsafe.Pointer // of all goroutines of a machine
	ahead  int64
}

func simulatedAhead(gp *g) int64 {
	if gp.labels == nil {
		return 0
	}
	for i := range simulatedClocks {
		if c := &simulatedClocks[i]; c.labels == nil || c.labels == gp.labels {
			if simulatedJump != 0 {
				c.labels = gp.labels
				c.ahead += simulatedJump
				simulatedJump = 0
			}
			return c.ahead
		}
	}
	return 0
}

//go:linkname time_runtimeNow time.runtimeNow
`},
	{"time/sleep.go", "newTimer(when(d), 0, goFunc, f, nil)", "newTimer(when(d), 0, goFunc, simulatedInherit(f), nil)"},
	{"time/sleep.go", "func goFunc(", `// simulatedInherit makes what a timer starts a goroutine of the machine that set it.
func simulatedInherit(f func()) func() {
	labels := simulatedLabels()
	if labels == nil {
		return f
	}
	return func() {
		simulatedBelong(labels)
		f()
	}
}

//go:linkname simulatedLabels
func simulatedLabels() unsafe.Pointer

//go:linkname simulatedBelong
func simulatedBelong(labels unsafe.Pointer)

func goFunc(`},
	{"runtime/proc.go", "	// If about to schedule a not-normal goroutine (a GCworker or tracereader),\n",
		"	if gp.labels != nil && simulatedPaused(gp.labels) {\n		simulatedStop(gp)\n		goto top\n	}\n\n	// If about to schedule a not-normal goroutine (a GCworker or tracereader),\n"},
	{"runtime/proc.go", "func schedule() {\n", `//go:linkname simulatedOutside
var simulatedOutside bool // what timers start is of no machine

//go:linkname simulatedLabels time.simulatedLabels
func simulatedLabels() unsafe.Pointer {
	if simulatedOutside {
		return nil
	}
	return getg().labels
}

//go:linkname simulatedBelong time.simulatedBelong
func simulatedBelong(labels unsafe.Pointer) {
	getg().labels = labels
	if simulatedPaused(labels) {
		Gosched()
	}
}

// simulatedPauses are the machines that stand still: none of their goroutines runs.
var simulatedPauses [16]struct {
	labels unsafe.Pointer // nil for none
	ready  gQueue         // who would run, in the order in which they would
}

func simulatedPaused(labels unsafe.Pointer) bool {
	for i := range simulatedPauses {
		if simulatedPauses[i].labels == labels {
			return true
		}
	}
	return false
}

// simulatedStop sets a goroutine aside that would run. It counts as one that waits.
func simulatedStop(gp *g) {
	for i := range simulatedPauses {
		if p := &simulatedPauses[i]; p.labels == gp.labels {
			gp.waitreason = waitReasonSleep
			casgstatus(gp, _Grunnable, _Gwaiting)
			p.ready.pushBack(gp)
			return
		}
	}
}

// simulatedPause stops the machine of the goroutine that calls it, which goes on to its own end.
//
//go:linkname simulatedPause
var simulatedPause = func() int {
	for i := range simulatedPauses {
		if p := &simulatedPauses[i]; p.labels == nil {
			p.labels = getg().labels
			return i
		}
	}
	panic("more machines than can be paused")
}

// simulatedResume has a machine go on.
//
//go:linkname simulatedResume
var simulatedResume = func(i int) {
	simulatedPauses[i].labels = nil
	for !simulatedPauses[i].ready.empty() {
		gp := simulatedPauses[i].ready.pop()
		systemstack(func() { ready(gp, 0, false) })
	}
}

func schedule() {
`},
	{"runtime/runtime2.go", "	return isIdleInSynctest[w]\n", "	return isIdleInSynctest[w] || simulatedIdle && (w == waitReasonSyncMutexLock || w == waitReasonSyncRWMutexRLock || w == waitReasonSyncRWMutexLock)\n"},
	{"runtime/runtime2.go", "func (w waitReason) isIdleInSynctest() bool {\n", "//go:linkname simulatedIdle\nvar simulatedIdle bool // who waits for a lock lets time go on\n\nfunc (w waitReason) isIdleInSynctest() bool {\n"},
	{"runtime/proc.go", "	mp := &new(mPadded).m\n", "	mp := (*m)(add(persistentalloc(unsafe.Sizeof(mPadded{})+mutexMMask+1, mutexMMask+1, &memstats.other_sys), mutexMOffset))\n"},
	{"runtime/proc.go", "	newg := new(g)\n	if stacksize >= 0 {\n", `	if own := stacksize == -1 || stacksize >= 16<<10; own { // a thread's
		newg := (*g)(persistentalloc(unsafe.Sizeof(g{}), 0, &memstats.other_sys))
		if stacksize >= 0 {
			lo := uintptr(persistentalloc(uintptr(round2(stackSystem+stacksize)), physPageSize, &memstats.stacks_sys))
			newg.stack = stack{lo, lo + uintptr(round2(stackSystem+stacksize))}
			newg.stackguard0, newg.stackguard1 = lo+stackGuard, ^uintptr(0)
		}
		return newg
	}
	newg := new(g)
	if stacksize >= 0 {
`},
	{"runtime/runtime2.go", "m: new(atomic.Pointer[m])", "m: (*atomic.Pointer[m])(persistentalloc(unsafe.Sizeof(atomic.Pointer[m]{}), 0, &memstats.other_sys))"},
	// Of the calls that could fill a cache of type assertions one in a thousand does, by the thread's own draw, and the cache is on the heap.
	{"runtime/iface.go", "	if !abi.UseInterfaceSwitchCache(goarch.ArchFamily) {\n		return tab\n", "	if true || !abi.UseInterfaceSwitchCache(goarch.ArchFamily) {\n		return tab\n"},
	{"runtime/iface.go", "	if !abi.UseInterfaceSwitchCache(goarch.ArchFamily) {\n		return case_, tab\n", "	if true || !abi.UseInterfaceSwitchCache(goarch.ArchFamily) {\n		return case_, tab\n"},
	{"internal/sync/mutex.go", "starvationThresholdNs = 1e6", "starvationThresholdNs = 1e18"},
}

// repeatable is a simulation's whole environment. It is always the same because the size of the environment moves all that is allocated
// later, and with it the order of maps whose keys are pointers.
var repeatable = []string{"GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1,profstackdepth=0", "GOGC=off"}

// changedRuntime are the sources of a runtime in which simulations repeat, by path, or why there are none.
func changedRuntime() (map[string]string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	sources := map[string]string{}
	for _, c := range runtimeChanges {
		if err := change(sources, filepath.Join(strings.TrimSpace(string(root)), "src", c.file), c.old, c.new); err != nil {
			return nil, fmt.Errorf("%s: %w", runtime.Version(), err)
		}
	}
	return sources, nil
}

// change puts something new in the place of what is once in a file, of which sources has the changed text if there is one.
func change(sources map[string]string, path, old, new string) error {
	text, ok := sources[path]
	if !ok {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text = string(data)
	}
	if n := strings.Count(text, old); n != 1 {
		return fmt.Errorf("%q is %d times in %s", old, n, path)
	}
	sources[path] = strings.Replace(text, old, new, 1)
	return nil
}

// simulator is a program that runs one simulation.
type simulator struct {
	path        string
	environment []string // variables besides those of repeatable
}

// with is the simulator with a variable in its environment.
func (s simulator) with(variable, value string) simulator {
	s.environment = append(slices.Clone(s.environment), variable+"="+value)
	return s
}

// pathLength is the length of a simulator's path, which a process has in its memory, too.
const pathLength = 150

// build builds the simulator: this package's test binary, with clients that wait for locks in virtual time (franz-go has the
// tag synctests for that), on a runtime that repeats itself. More sources may be changed, by path.
func build(t *testing.T, changed map[string]string) simulator {
	t.Helper()
	dir := t.TempDir()
	name := "sim" + strings.Repeat("-", max(0, pathLength-len(dir)-len("/sim.test"))) + ".test"
	path, tags := filepath.Join(dir, name), "synctests"
	repeating, err := changedRuntime()
	if err != nil {
		t.Logf("seeds do not repeat exactly: %v", err)
	} else {
		tags += ",repeatable"
	}
	all := map[string]string{}
	maps.Copy(all, repeating)
	maps.Copy(all, changed)
	overlay, err := sources.Overlay(dir, all)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "test", "-c", "-vet=off", "-trimpath", "-tags", tags, "-overlay", overlay, "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as kraft is built; with cgo each thread takes memory from the heap
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := simulator{path: path}
	if verbose := os.Getenv(verboseVariable); verbose != "" {
		s = s.with(verboseVariable, verbose)
	}
	return s
}
