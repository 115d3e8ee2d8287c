package replication

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"kraft/wire/locks"
)

// throttle bounds the bytes a second of what reassignments copy (KIP-73): leader.replication.throttled.rate on
// the side that sends, follower.replication.throttled.rate on the side that takes. What is taken beyond the
// bound is a debt, and nothing more goes until it is paid off.
type throttle struct {
	mu     locks.Mutex // guards the rest
	rate   float64     // bytes a second
	credit float64     // bytes
	at     time.Time   // when credit was last worked out
}

// throttleWindow is for how long credit is saved up.
const throttleWindow = time.Second

func (t *throttle) set(bytesPerSecond int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rate = float64(bytesPerSecond)
	if bytesPerSecond == math.MaxInt64 {
		t.rate = math.Inf(1)
	}
	t.credit = min(t.credit, t.rate)
}

// open says that bytes may go now.
func (t *throttle) open(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if math.IsInf(t.rate, 1) {
		return true
	}
	if !t.at.IsZero() {
		t.credit = min(t.credit+t.rate*now.Sub(t.at).Seconds(), t.rate*throttleWindow.Seconds())
	}
	t.at = now
	return t.credit > 0
}

// took counts bytes that went.
func (t *throttle) took(bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !math.IsInf(t.rate, 1) {
		t.credit -= float64(bytes)
	}
}

// isThrottled says that the entries of a list such as leader.replication.throttled.replicas name a broker's replica
// of a partition: "*", or partition:broker.
func isThrottled(names []string, partition, broker int32) bool {
	return slices.Contains(names, "*") || slices.Contains(names, strings.Join([]string{strconv.Itoa(int(partition)), strconv.Itoa(int(broker))}, ":"))
}
