//go:build race

package wire

// slowdown is by how much longer the race detector may have things take: it looks at every byte that is copied.
const slowdown = 3
