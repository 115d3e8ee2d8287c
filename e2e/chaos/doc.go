// Package chaos runs clusters of real processes on real kernels, disks and networks, makes them fail, and holds what
// clients were told against what is there in the end (docs/proof.md). It needs Linux, and leave to make network
// namespaces.
package chaos
