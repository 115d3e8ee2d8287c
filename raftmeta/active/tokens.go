package active

import (
	"context"
	"time"

	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
)

// tokensAtOnce is how many tokens one change removes.
const tokensAtOnce = 1000

// removeTokens removes delegation tokens that have expired, as long as this node is the active controller (delegation.token.expiry.check.interval.ms).
// Nobody can use them meanwhile.
func (l *liveness) removeTokens() {
	for {
		timer := time.NewTimer(l.meta.Settings().TokenCheck)
		select {
		case <-timer.C:
		case <-l.ctx.Done():
			timer.Stop()
			return
		}
		for l.meta.Leads() && l.removeSomeTokens() {
		}
	}
}

// removeSomeTokens reports whether there may be more.
func (l *liveness) removeSomeTokens() bool {
	if l.meta.Newest().TokenCount() == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(l.ctx, changePatience)
	defer cancel()
	removed := 0
	err := l.meta.Decide(ctx, func(work *image.Image) ([]*image.Record, error) {
		records := controller.RemoveExpiredTokens(work, tokensAtOnce, time.Now())
		removed = len(records)
		return records, nil
	})
	return err == nil && removed == tokensAtOnce // what failed is for the next time
}
