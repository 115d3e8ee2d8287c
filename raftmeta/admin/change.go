package admin

import (
	"context"
	"errors"
	"slices"
	"time"

	"kraft/raftmeta/calls"
	"kraft/raftmeta/image"
	"kraft/wire"
)

// errValidateOnly stops a decision after its checks.
var errValidateOnly = errors.New("validate only")

// change runs one decision of an admin request; validateOnly keeps its records from taking effect. Where nothing is committed, because the decision is
// to refuse something, a majority must confirm this node as the controller: one that does not know of its successor yet decides by old metadata.
func (a *Admin) change(ctx *wire.Request, timeoutMillis int32, validateOnly bool, d func(*image.Image) ([]*image.Record, error)) error {
	c, cancel := context.WithTimeout(ctx.Context(), max(time.Duration(timeoutMillis)*time.Millisecond, time.Second))
	defer cancel()
	var err error
	ctx.Wait(func() {
		changed, ran := false, false
		err = a.meta.Decide(c, func(work *image.Image) ([]*image.Record, error) {
			records, err := d(work)
			if err == nil && validateOnly {
				err = errValidateOnly
			}
			changed, ran = err == nil && len(records) > 0, true
			return records, err
		})
		if ran && !changed && !wire.IsDenial(err) {
			if failed := a.active.Confirm(c); failed != nil {
				err = failed
			}
		}
	})
	if errors.Is(err, errValidateOnly) {
		return nil
	}
	return err
}

// look calls f with the controller's metadata, which has all that was acknowledged.
func (a *Admin) look(ctx *wire.Request, timeoutMillis int32, f func(*image.Image)) (err error) {
	c, cancel := context.WithTimeout(ctx.Context(), max(time.Duration(timeoutMillis)*time.Millisecond, time.Second))
	defer cancel()
	ctx.Wait(func() {
		err = a.meta.Decide(c, func(work *image.Image) ([]*image.Record, error) { f(work); return nil, nil })
	})
	return err
}

// changeEach decides on each of count parts of a request, knowing what comes of those before, and commits many of them as one
// change: each costs a sync of a majority's disks. The errors are the parts' own.
func (a *Admin) changeEach(ctx *wire.Request, timeoutMillis int32, validateOnly bool, count int, d func(work *image.Image, i int) ([]*image.Record, error)) []error {
	errs := make([]error, count)
	for next := 0; next < count; {
		first := next
		err := a.change(ctx, timeoutMillis, validateOnly, func(work *image.Image) ([]*image.Record, error) {
			after := work.Copy()
			var all []*image.Record
			for next = first; next < count && len(all) < recordsOfAChange; next++ {
				records, err := d(after, next)
				if errs[next] = err; err != nil {
					continue
				}
				for _, r := range records {
					after.Apply(r)
				}
				all = append(all, records...)
			}
			if len(all) == 0 && first == 0 && next == count && !slices.ContainsFunc(errs, func(err error) bool { return !wire.IsDenial(err) }) {
				return nil, errs[0] // rights, not the metadata, refuse everything
			}
			return all, nil
		})
		if err == nil || wire.IsDenial(err) {
			continue
		}
		for ; first < count; first++ {
			errs[first] = err // also of parts that were refused: what refused them may not have been committed
		}
		return errs
	}
	return errs
}

// recordsOfAChange bounds what changeEach commits at once; one part may have more.
const recordsOfAChange = 5000

// defaultTimeout is the time limit, in milliseconds, of requests that carry none.
const defaultTimeout = int32(calls.RequestTimeout / time.Millisecond)
