package wire

import (
	"math/bits"
	"sync"
)

// Frames and encoded answers live in pooled buffers of 4 KiB to 2 MiB in powers of two; larger ones
// are left to the garbage collector.
const (
	minBufferBits = 12
	maxBufferBits = 21
)

var bufferPools [maxBufferBits - minBufferBits + 1]sync.Pool

// getBuffer returns a buffer of length 0 whose capacity is at least n, unless n passes 2 MiB: then
// the capacity is 2 MiB and the caller grows it as bytes truly arrive.
func getBuffer(n int) *[]byte {
	class := 0
	if n > 1<<minBufferBits {
		class = min(bits.Len(uint(n-1)), maxBufferBits) - minBufferBits
	}
	if b, ok := bufferPools[class].Get().(*[]byte); ok {
		*b = (*b)[:0]
		return b
	}
	b := make([]byte, 0, 1<<(class+minBufferBits))
	return &b
}

func putBuffer(b *[]byte) {
	c := cap(*b)
	if c < 1<<minBufferBits || c > 1<<maxBufferBits || c&(c-1) != 0 {
		return
	}
	bufferPools[bits.Len(uint(c))-1-minBufferBits].Put(b)
}
