package watched

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// TestNothingIsMissed: whoever waits for a value sees it, though it does not change again before that.
func TestNothingIsMissed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var playing sync.WaitGroup
	for range 8 { // pairs, in which each waits for the other's answer
		var ping, pong Value[int]
		play := func(own, other *Value[int]) {
			for n := 1; n <= 5000; n++ {
				own.Store(n)
				if err := other.Until(ctx, nil, func(now int) bool { return now >= n }); err != nil {
					t.Errorf("%d: %v", n, err)
					return
				}
			}
		}
		playing.Go(func() { play(&ping, &pong) })
		playing.Go(func() { play(&pong, &ping) })
	}
	playing.Wait()
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
	for n := range 10 {
		v.Store(n)
		select {
		case err := <-results:
			t.Fatalf("ended with %v", err)
		case <-time.After(time.Millisecond):
		}
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
