package wire

// ring is a first-in, first-out queue. It reuses its memory and never shrinks. The zero value is empty.
type ring[T any] struct {
	items []T // a power of two of them, or none
	first int
	count int
}

func (r *ring[T]) len() int { return r.count }

// push adds the last item.
func (r *ring[T]) push(item T) {
	if r.count == len(r.items) {
		grown := make([]T, max(4, 2*r.count))
		n := copy(grown, r.items[r.first:])
		copy(grown[n:], r.items[:r.first])
		r.items, r.first = grown, 0
	}
	r.items[(r.first+r.count)&(len(r.items)-1)] = item
	r.count++
}

// pop takes the first item; there must be one.
func (r *ring[T]) pop() T {
	var none T
	item := r.items[r.first]
	r.items[r.first] = none // what it refers to is not kept
	r.first = (r.first + 1) & (len(r.items) - 1)
	r.count--
	return item
}
