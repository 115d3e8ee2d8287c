package node

import (
	"errors"
	"maps"
	"strconv"

	"kraft/raftmeta/configs"
	"kraft/raftmeta/image"
	"kraft/wire/logging"
	"kraft/wire/ssl"
)

// followStores has listeners use the keys that this broker's settings name (kafka-configs, listener.name.NAME.ssl.keystore.location and so on). It is
// called for each metadata that the node opens, before anybody is served.
func (n *Node) followStores() {
	last := map[string]string{}
	follow := func(img *image.Image) {
		next := storeSettings(img.Config(image.BrokerResource, strconv.Itoa(int(n.config.NodeID))))
		if maps.Equal(next, last) {
			return
		}
		last = next
		log := n.logs.For(logging.Wire)
		for name, err := range n.replaceStores(next, (*ssl.Store).Replace) {
			if err != nil {
				log.Error().Err(err).Str("listener", name).Msg("the listener's keys cannot be used: the old ones stay")
			} else {
				log.Info().Str("listener", name).Msg("the listener uses its new keys")
			}
		}
	}
	n.metadata.admin.CheckOwn(n.checkStores)
	follow(n.meta.Image())
	n.meta.Subscribe(func(img *image.Image, changed *image.Delta) {
		if changed.Configs {
			follow(img)
		}
	})
}

// storeSettings are those of a broker's settings that name listeners' keys.
func storeSettings(own map[string]string) map[string]string {
	out := map[string]string{}
	for key, value := range own {
		if configs.IsStoreKey(key) {
			out[key] = value
		}
	}
	return out
}

// replaceStores gives each listener's store to replace, with the settings that it would have. It returns the listeners whose keys are others, or why they
// cannot be used.
func (n *Node) replaceStores(own map[string]string, replace func(*ssl.Store, ssl.Settings) (bool, error)) map[string]error {
	out := map[string]error{}
	listeners := n.config.Listeners
	if n.config.Controller != nil {
		listeners = append(listeners[:len(listeners):len(listeners)], *n.config.Controller)
	}
	for i := range listeners {
		store := n.stores[listeners[i].Name]
		if store == nil {
			continue
		}
		settings, err := n.config.StoresOf(&listeners[i], own)
		changed := false
		if err == nil {
			changed, err = replace(store, *settings)
		}
		if changed || err != nil {
			out[listeners[i].Name] = err
		}
	}
	return out
}

// checkStores returns why this broker could not use keys that its settings would name, without using them.
func (n *Node) checkStores(own map[string]string) error {
	var failures []error
	for _, err := range n.replaceStores(storeSettings(own), (*ssl.Store).Check) {
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}
