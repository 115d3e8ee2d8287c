// Package watched provides Value, a variable that goroutines store to and wait on.
package watched

import (
	"context"
	"errors"
	"sync/atomic"

	"kraft/wire/locks"
)

// Value is a T that any goroutine may read, replace and wait for. Reading it takes no lock. What a stored T refers to must not be changed
// afterwards. The zero Value has the zero T.
type Value[T any] struct {
	now atomic.Pointer[T]

	mu      locks.Mutex
	changed chan struct{} // closed by the next Store; nil while nobody waits for it
}

// Load returns what was stored last.
func (v *Value[T]) Load() (now T) {
	if p := v.now.Load(); p != nil {
		now = *p
	}
	return now
}

// Store replaces the value, and wakes all goroutines that wait.
func (v *Value[T]) Store(now T) {
	v.now.Store(&now)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.changed != nil {
		close(v.changed)
		v.changed = nil
	}
}

// Changed returns a channel that the next Store closes. Call it before Load: a Store after that Load then closes the channel.
func (v *Value[T]) Changed() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.changed == nil {
		v.changed = make(chan struct{})
	}
	return v.changed
}

// ErrEnded is returned by Until when ended is closed.
var ErrEnded = errors.New("nobody changes the value any more")

// Until returns nil as soon as seen is true of the value. Otherwise it returns ErrEnded when ended is closed, or ctx's error when ctx ends.
// seen is called on the caller's goroutine, for the newest value; it may miss some in between.
func (v *Value[T]) Until(ctx context.Context, ended <-chan struct{}, seen func(T) bool) error {
	for {
		changed := v.Changed()
		if seen(v.Load()) {
			return nil
		}
		select {
		case <-changed:
		case <-ended:
			return ErrEnded
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
