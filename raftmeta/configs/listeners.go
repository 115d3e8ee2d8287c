package configs

import (
	"slices"
	"strings"
)

// ofListeners are broker settings that each listener may set for itself (listener.name.NAME.KEY), also while the broker runs.
var ofListeners = []string{"max.connections", "max.connection.creation.rate"}

// ListenerPrefix begins the names of a listener's own settings.
func ListenerPrefix(listener string) string {
	return "listener.name." + strings.ToLower(listener) + "."
}

// ListenerDefinition describes a setting of a listener that the broker follows while it runs; nil if name is none.
func ListenerDefinition(name string) *Definition {
	rest, ok := strings.CutPrefix(name, "listener.name.")
	listener, key, found := strings.Cut(rest, ".")
	if !ok || !found || listener == "" || !slices.Contains(ofListeners, key) {
		return nil
	}
	d := *Broker[key]
	d.Name = name
	return &d
}

// ReadListener reads the settings of a listener into the struct that into points to, by its fields' tags, as ReadBroker does. A listener that
// has no value of its own has the setting's default, whatever the broker's.
func (l Layers) ReadListener(listener string, into any) {
	read(into, Broker, func(d *Definition) []Value {
		own := slices.DeleteFunc(l.set(ListenerPrefix(listener)+d.Name), func(v Value) bool { return d.Check(*v.Value) != nil })
		return append(own, Value{d.Name, d.Default, DefaultSource})
	})
}
