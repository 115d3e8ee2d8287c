//go:build synctests && repeatable

package sim

import (
	"time"
	_ "unsafe" // for go:linkname
)

//go:linkname simulation runtime.simulation
var simulation uint64

//go:linkname simulatedOrder runtime.simulatedOrder
var simulatedOrder uint64

//go:linkname over runtime.simulatedOver
var over bool

//go:linkname simulatedJump runtime.simulatedJump
var simulatedJump int64

//go:linkname simulatedIdle runtime.simulatedIdle
var simulatedIdle bool

//go:linkname simulatedOutside runtime.simulatedOutside
var simulatedOutside bool

//go:linkname simulatedPause runtime.simulatedPause
var simulatedPause func() int

//go:linkname simulatedResume runtime.simulatedResume
var simulatedResume func(int)

func init() {
	reseed = func(seed uint64) { simulation, simulatedOrder = seed, ^seed }
	jump = func(by time.Duration) {
		simulatedJump = int64(by)
		time.Now()
	}
	pause = func() func() {
		n := simulatedPause()
		return func() { simulatedResume(n) }
	}
	outside = func(f func()) {
		simulatedOutside = true
		f()
		simulatedOutside = false
	}
	waitForLocks = func(idle bool) { simulatedIdle = idle }
	ended = func() { over = true }
}
