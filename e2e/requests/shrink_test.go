package requests

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// simpler are trials with one thing less than another: a request, an entry of a list, or an odd value.
func (tr *trial) simpler() (out []*trial) {
	for i := range tr.steps {
		if len(tr.steps) > 1 {
			less := *tr
			less.steps = slices.Delete(slices.Clone(tr.steps), i, i+1)
			out = append(out, &less)
		}
		for n := 0; ; n++ {
			req := plain(tr.steps[i])
			left := n
			if !simplify(reflect.ValueOf(req).Elem(), kmsg.NameForKey(req.Key()), &left) {
				break
			}
			if req = plain(req); text(req) == text(tr.steps[i]) {
				continue
			}
			less := *tr
			less.steps = slices.Clone(tr.steps)
			less.steps[i] = req
			out = append(out, &less)
		}
	}
	return out
}

// simplify makes the change number *left of those that a request can be made simpler by, and reports whether there are so many.
func simplify(v reflect.Value, path string, left *int) bool {
	is := func() bool {
		*left--
		return *left < 0
	}
	switch {
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.Name != "Version" && f.Name != "UnknownTags" && simplify(v.Field(i), path+"."+f.Name, left) {
				return true
			}
		}
		return false
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		for i := range v.Len() {
			if v.Len() > 1 && is() {
				v.Set(reflect.AppendSlice(v.Slice3(0, i, i), v.Slice(i+1, v.Len())))
				return true
			}
			if simplify(v.Index(i), path, left) {
				return true
			}
		}
		return false
	case v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct:
		if !v.IsNil() && is() {
			v.SetZero()
			return true
		}
		return false
	}
	c := find(choices, path)
	if c == nil {
		c = byKind(v)
	}
	before := reflect.New(v.Type()).Elem()
	before.Set(v)
	set(v, c.usual[0])
	if reflect.DeepEqual(before.Interface(), v.Interface()) {
		return false
	}
	if is() {
		return true
	}
	v.Set(before)
	return false
}

// shrink makes a trial simpler for as long as the two servers differ in an error code, or in whatever it was.
func (b *bench) shrink(tr *trial, differ [2]string) (*trial, [2]string) {
	kind := func(d [2]string) bool { return strings.Contains(d[0]+d[1], "ErrorCode") }
	for range 30 {
		i := slices.IndexFunc(tr.simpler(), func(less *trial) bool {
			d := b.once(less, 50*time.Millisecond)
			if d == [2]string{} || kind(d) != kind(differ) {
				return false
			}
			tr, differ = less, d
			return true
		})
		if i < 0 {
			break
		}
	}
	return tr, differ
}
