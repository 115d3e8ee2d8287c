package replication

import (
	"math"
	"testing"
	"time"

	"kraft/raftmeta/configs"
)

func TestThrottle(t *testing.T) {
	now := time.Unix(1000, 0)
	var th throttle
	th.set(math.MaxInt64)
	th.took(1 << 40)
	if !th.open(now) {
		t.Error("no bound, and closed")
	}
	th.set(1000)
	sent := 0
	for range 10_000 { // ten seconds
		now = now.Add(time.Millisecond)
		if th.open(now) {
			th.took(300)
			sent += 300
		}
	}
	if sent < 9500 || sent > 11_500 {
		t.Errorf("%d bytes in ten seconds at 1000 a second", sent)
	}
	th.took(5000) // one large batch is a debt of five seconds
	if th.open(now.Add(4*time.Second)) || !th.open(now.Add(7*time.Second)) {
		t.Error("a debt is not paid off in its time")
	}
	for list, want := range map[string]bool{"": false, "*": true, "1:2": true, "0:2,1:3": false, "0:2, 1:2": true} {
		if isThrottled(configs.SplitList(list), 1, 2) != want {
			t.Errorf("%q: %v", list, !want)
		}
	}
}
