package configs

import (
	"maps"
	"slices"
	"strings"
)

// ofListeners are broker settings that each listener may set for itself (listener.name.NAME.KEY), also while the broker runs.
var ofListeners = append([]string{"max.connections", "max.connection.creation.rate"}, StoreKeys...)

// StoreKeys are the settings of a listener's keys (Kafka's SslConfigs.RECONFIGURABLE_CONFIGS).
var StoreKeys = []string{
	"ssl.keystore.type", "ssl.keystore.location", "ssl.keystore.password", "ssl.key.password", "ssl.keystore.certificate.chain", "ssl.keystore.key",
	"ssl.truststore.type", "ssl.truststore.location", "ssl.truststore.password", "ssl.truststore.certificates",
}

// IsStoreKey reports whether a setting is one of a listener's keys.
func IsStoreKey(name string) bool {
	rest, ok := strings.CutPrefix(name, "listener.name.")
	_, key, found := strings.Cut(rest, ".")
	return ok && found && slices.Contains(StoreKeys, key)
}

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

// OfListeners are the settings that listeners have of their own, by name.
func (l Layers) OfListeners() (out []*Definition) {
	names := map[string]bool{}
	for _, layer := range []map[string]string{l.Broker, l.ClusterDefault, l.Static} {
		for name := range layer {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if d := ListenerDefinition(name); d != nil {
			out = append(out, d)
		}
	}
	return out
}

// ReadListener reads the settings of a listener into the struct that into points to, by its fields' tags, as ReadBroker does. A listener that
// has no value of its own has the setting's default, whatever the broker's.
func (l Layers) ReadListener(listener string, into any) {
	read(into, Broker, func(d *Definition) []Value {
		own := slices.DeleteFunc(l.set(ListenerPrefix(listener)+d.Name), func(v Value) bool { return d.Check(*v.Value) != nil })
		return append(own, Value{d.Name, d.Default, DefaultSource})
	})
}
