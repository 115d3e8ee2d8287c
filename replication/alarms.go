package replication

import (
	"container/heap"
	"sync/atomic"
)

// alarm signals a waiting goroutine when a count reaches at. The mutex of the partition whose count it is guards it, but for signal and
// rings.
type alarm struct {
	at        int64
	heapIndex int           // in its alarms, -1 while it is not set
	signal    chan struct{} // has room for one, and may be that of several alarms

	// An alarm that rings every so much signals when rings, which other alarms may count down too, is 0. 0 is an alarm that rings once.
	every int64
	rings *atomic.Int64
}

func newAlarm(signal chan struct{}) alarm { return alarm{heapIndex: -1, signal: signal} }

func (a *alarm) ring() {
	select {
	case a.signal <- struct{}{}:
	default: // the goroutine has not yet received the signal before
	}
}

// alarms are those that are set on one count, which never falls; the next to ring comes first. However many there are, a count that
// reaches none of them costs nothing.
type alarms struct{ set alarmHeap }

// add sets an alarm, again or for the first time.
func (l *alarms) add(a *alarm, at int64) {
	a.at = at
	if a.heapIndex < 0 {
		heap.Push(&l.set, a)
	} else {
		heap.Fix(&l.set, a.heapIndex)
	}
}

func (l *alarms) remove(a *alarm) {
	if a.heapIndex >= 0 {
		heap.Remove(&l.set, a.heapIndex)
	}
}

// reach rings all up to a count. Those that ring once are not set any more then.
func (l *alarms) reach(count int64) {
	for len(l.set) > 0 && l.set[0].at <= count {
		a := l.set[0]
		if a.every == 0 {
			heap.Pop(&l.set)
			a.ring()
			continue
		}
		times := (count-a.at)/a.every + 1
		l.add(a, a.at+times*a.every)
		if a.rings.Add(-times) <= 0 {
			a.ring()
		}
	}
}

// ringAll signals all, which are not set any more then.
func (l *alarms) ringAll() {
	for _, a := range l.set {
		a.heapIndex = -1
		a.ring()
	}
	l.set = nil
}

// alarmHeap is a heap.Interface.
type alarmHeap []*alarm

func (h alarmHeap) Len() int           { return len(h) }
func (h alarmHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h alarmHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}

func (h *alarmHeap) Push(x any) {
	a := x.(*alarm)
	a.heapIndex = len(*h)
	*h = append(*h, a)
}

func (h *alarmHeap) Pop() any {
	old := *h
	a := old[len(old)-1]
	old[len(old)-1] = nil
	if a.heapIndex, *h = -1, old[:len(old)-1]; len(*h) == 0 {
		*h = nil // it may have been long
	}
	return a
}
