package watched

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// TestNothingIsMissed: whoever waits for a value sees it, however many change it and wait for it at once.
func TestNothingIsMissed(t *testing.T) {
	var v Value[int]
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	const last = 2000
	var waiting sync.WaitGroup
	for i := range 8 {
		waiting.Go(func() {
			for want := i; want <= last; want += 7 {
				if err := v.Until(ctx, nil, func(n int) bool { return n >= want }); err != nil {
					t.Errorf("%d: %v", want, err)
					return
				}
			}
		})
	}
	for n := 1; n <= last; n++ {
		v.Store(n)
	}
	waiting.Wait()
	if n := v.Load(); n != last {
		t.Errorf("it is %d", n)
	}
}

// TestWaitingEnds: with its context, or when nobody changes the value any more; not by changes that are others'.
func TestWaitingEnds(t *testing.T) {
	var v Value[int]
	never := func(int) bool { return false }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	results := make(chan error, 2)
	go func() { results <- v.Until(ctx, nil, never) }()
	go func() { results <- v.Until(t.Context(), ended, never) }()
	v.Store(1)
	select {
	case err := <-results:
		t.Fatalf("ended with %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(ended)
	if err := <-results; !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
}
