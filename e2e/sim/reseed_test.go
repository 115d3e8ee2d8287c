//go:build synctests && repeatable

package sim

import _ "unsafe" // for go:linkname

//go:linkname simulation runtime.simulation
var simulation uint64

//go:linkname simulatedOrder runtime.simulatedOrder
var simulatedOrder uint64

//go:linkname over runtime.simulatedOver
var over bool

func init() {
	reseed = func(seed uint64) { simulation, simulatedOrder = seed, ^seed }
	ended = func() { over = true }
}
