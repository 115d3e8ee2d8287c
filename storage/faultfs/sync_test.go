package faultfs

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestSyncEndures: after any writes, truncations and flipped bits a sync leaves on the disk what is read from it.
func TestSyncEndures(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 2000 {
		n := &inode{}
		for range 1 + rng.IntN(40) {
			switch at := int64(rng.IntN(60)); rng.IntN(8) {
			case 0:
				n.write(write{at: at})
			case 1:
				if len(n.data) > 0 {
					n.flip(rng.IntN(8 * len(n.data)))
				}
			case 2:
				n.sync()
				if !bytes.Equal(n.synced, n.data) || n.pending != nil {
					t.Fatalf("round %d: read %q, on the disk %q, %d writes left", round, n.data, n.synced, len(n.pending))
				}
			default:
				n.write(write{at, bytes.Repeat([]byte{byte('a' + rng.IntN(26))}, 1+rng.IntN(20))})
			}
		}
	}
}
