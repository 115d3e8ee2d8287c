package storage

import (
	"kraft/wire/ident"
	"kraft/wire/locks"
)

// claims give one goroutine at a time the right to make, move or remove a partition's directory, which may take as long as its disk
// does. Whoever has a partition may take a log's lock, and the manager's, but not another partition.
type claims struct {
	mu    locks.Mutex // guards taken
	taken map[ident.TopicPartition]chan struct{}
}

// take waits until nobody else has tp, and returns what gives it back.
func (c *claims) take(tp ident.TopicPartition) (release func()) {
	mine := make(chan struct{})
	for {
		c.mu.Lock()
		theirs, busy := c.taken[tp]
		if !busy {
			if c.taken == nil {
				c.taken = map[ident.TopicPartition]chan struct{}{}
			}
			c.taken[tp] = mine
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				delete(c.taken, tp)
				c.mu.Unlock()
				close(mine)
			}
		}
		c.mu.Unlock()
		<-theirs
	}
}
