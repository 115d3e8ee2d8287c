package configs

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// ReadBroker sets each field of the struct that into points to, by its tag `kafka:"NAME"`, to the value in force of that broker setting.
//
// A field is a bool, a string, a number, a []string (a list) or a time.Duration, whose unit is the last word of the name. All values were
// checked when they were set. A name that does not exist, or a field of another type, panics: that is a mistake in kraft.
func (l Layers) ReadBroker(into any) { read(into, Broker, l.BrokerValue) }

// ReadTopic is ReadBroker for topics' settings.
func (l Layers) ReadTopic(into any) { read(into, Topic, l.TopicValue) }

func read(into any, definitions map[string]*Definition, find func(*Definition) []Value) {
	v := reflect.ValueOf(into).Elem()
	for i := range v.NumField() {
		name, tagged := v.Type().Field(i).Tag.Lookup("kafka")
		if !tagged {
			continue
		}
		set(v.Field(i), name, strings.TrimSpace(text(find(known(definitions, name))[0])))
	}
}

// durationUnits are the milliseconds of the last words of settings' names.
var durationUnits = map[string]int64{"ms": 1, "seconds": 1000, "minutes": 60_000, "hours": 3600_000}

func set(field reflect.Value, name, value string) {
	switch kind := field.Interface().(type) {
	case time.Duration:
		unit, ok := durationUnits[name[strings.LastIndexByte(name, '.')+1:]]
		if !ok {
			panic(fmt.Sprintf("configs: %s has no unit", name))
		}
		n, _ := strconv.ParseInt(value, 10, 64)
		if n > 0 && n > (1<<63-1)/unit {
			n, unit = 1<<63-1, 1
		}
		field.SetInt(int64(Millis(n * unit)))
	case bool:
		field.SetBool(value == "true")
	case string:
		field.SetString(value)
	case []string:
		field.Set(reflect.ValueOf(SplitList(value)))
	case float64:
		f, _ := parseDouble(value)
		field.SetFloat(f)
	default:
		if !field.CanInt() {
			panic(fmt.Sprintf("configs: %s cannot be read into a %T", name, kind))
		}
		n, _ := strconv.ParseInt(value, 10, 64)
		field.SetInt(n)
	}
}

// TopicKey names a topic's setting that is read by itself. Make it when the program starts: a name that does not exist panics.
func TopicKey(name string) func(Layers) string {
	d := known(Topic, name)
	return func(l Layers) string { return text(l.TopicValue(d)[0]) }
}
