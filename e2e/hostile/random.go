// Package hostile is clients that mean harm, or do it: requests that make no sense, connections that never end.
package hostile

import (
	"math"
	"reflect"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Words are what strings in random requests are taken from.
var Words = []string{"", "t", "v", "g", "__consumer_offsets", "a/b", "..", "1", "0", "User:ANONYMOUS", "consumer", "range", "segment.bytes", "cleanup.policy", "compact", "\x00\xff", "0123456789012345678901234567890123456789"}

var numbers = []int64{0, 1, 2, 3, -1, -2, 127, 1000, 30_000, math.MaxInt16, math.MaxInt32, math.MaxInt64, math.MinInt32, math.MinInt64}

// Dice makes choices from bytes, the first of each when they have run out.
type Dice []byte

func (d *Dice) roll(sides int) int {
	if len(*d) == 0 {
		return 0
	}
	n := int((*d)[0]) % sides
	*d = (*d)[1:]
	return n
}

// Fill gives all fields of a request values that the dice choose. Blobs are what []byte fields are taken from.
func (d *Dice) Fill(r kmsg.Request, blobs [][]byte) {
	v := reflect.ValueOf(r).Elem()
	version := r.GetVersion()
	d.fill(v, blobs, 0)
	r.SetVersion(version)
}

func (d *Dice) fill(v reflect.Value, blobs [][]byte, depth int) {
	if !v.CanSet() {
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(d.roll(2) == 1)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(numbers[d.roll(len(numbers))]) // cut to its size
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(numbers[d.roll(len(numbers))]))
	case reflect.Float64:
		v.SetFloat([]float64{0, 1, -1, math.NaN(), math.Inf(1)}[d.roll(5)])
	case reflect.String:
		v.SetString(Words[d.roll(len(Words))])
	case reflect.Pointer:
		if d.roll(3) == 0 {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		d.fill(v.Elem(), blobs, depth+1)
	case reflect.Array:
		for i := range v.Len() {
			d.fill(v.Index(i), blobs, depth+1)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(blobs[d.roll(len(blobs))])
			return
		}
		const most = 4
		v.Set(reflect.MakeSlice(v.Type(), d.roll(most), most))
		for i := range v.Len() {
			d.fill(v.Index(i), blobs, depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			d.fill(v.Field(i), blobs, depth+1)
		}
	}
}
