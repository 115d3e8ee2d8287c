package config

import (
	"fmt"
	"maps"
	"strings"

	"kraft/raftmeta/configs"
	"kraft/wire/ssl"
)

const (
	sslOnly = "SSL"
	saslSSL = "SASL_SSL"
)

func hasTLS(protocol string) bool  { return protocol == sslOnly || protocol == saslSSL }
func hasSASL(protocol string) bool { return protocol == saslPlaintext || protocol == saslSSL }

// readTLS gives the listeners that have TLS their ssl.* settings.
func (c *Config) readTLS() error {
	for i := range c.Listeners {
		if err := c.readTLSOf(&c.Listeners[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) readTLSOf(l *Listener) error {
	if !hasTLS(l.Protocol) {
		return nil
	}
	s, err := c.sslSettings(l)
	if err != nil {
		return fmt.Errorf("listener %s asks for %s: %w", l.Name, l.Protocol, err)
	}
	l.TLS = s
	return nil
}

// sslSettings reads ssl.* settings: those with the listener's prefix count before those for all.
func (c *Config) sslSettings(l *Listener) (*ssl.Settings, error) {
	own := configs.ListenerPrefix(l.Name)
	lookUp := func(name string) (string, bool) {
		if text, ok := c.Static[own+name]; ok {
			c.markUsed(own + name)
			return text, true
		}
		text, ok := c.Static[name]
		return text, ok
	}
	value := func(name string) string { text, _ := lookUp(name); return text }
	list := func(name string) []string { return configs.SplitList(value(name)) }
	s := &ssl.Settings{
		KeyStore: value("ssl.keystore.location"), KeyStorePassword: value("ssl.keystore.password"), KeyPassword: value("ssl.key.password"), KeyStoreType: value("ssl.keystore.type"),
		Key: value("ssl.keystore.key"), Chain: value("ssl.keystore.certificate.chain"),
		TrustStore: value("ssl.truststore.location"), TrustStorePassword: value("ssl.truststore.password"), TrustStoreType: value("ssl.truststore.type"), Trusted: value("ssl.truststore.certificates"),
		Protocols: list("ssl.enabled.protocols"), Protocol: value("ssl.protocol"), CipherSuites: list("ssl.cipher.suites"),
	}
	if text, ok := lookUp("ssl.endpoint.identification.algorithm"); ok {
		s.AnyHost = text == ""
	}
	auth := c.Static[own+"ssl.client.auth"]
	c.markUsed(own + "ssl.client.auth")
	if auth == "" && l.Protocol == sslOnly { // with SASL, Kafka goes by the listener's own setting alone (KIP-684)
		auth = c.Static["ssl.client.auth"]
	}
	switch strings.ToLower(strings.TrimSpace(auth)) {
	case "", "none":
	case "requested":
		s.ClientAuth = ssl.Requested
	case "required":
		s.ClientAuth = ssl.Required
	default:
		return nil, fmt.Errorf("ssl.client.auth is none, requested or required, not %q", auth)
	}
	switch {
	case (s.Key == "") != (s.Chain == ""):
		return nil, fmt.Errorf("ssl.keystore.key and ssl.keystore.certificate.chain go together: one of them is missing")
	case s.Key != "" && s.KeyStore != "":
		return nil, fmt.Errorf("ssl.keystore.location and ssl.keystore.key are both set: which one is the key?")
	case s.Trusted != "" && s.TrustStore != "":
		return nil, fmt.Errorf("ssl.truststore.location and ssl.truststore.certificates are both set: which one is trusted?")
	}
	rules, ok := lookUp("ssl.principal.mapping.rules")
	if !ok {
		rules = "DEFAULT"
	}
	var err error
	if s.Rules, err = ssl.ParseRules(rules); err != nil {
		return nil, fmt.Errorf("ssl.principal.mapping.rules: %w", err)
	}
	return s, nil
}

// StoresOf are where the keys of a listener with TLS are when the broker's settings have changed: own are those that were set for this broker while it ran,
// which count before those of its file. Its errors are those of a start.
func (c *Config) StoresOf(l *Listener, own map[string]string) (*ssl.Settings, error) {
	changed := &Config{Static: maps.Clone(c.Static)}
	prefix := configs.ListenerPrefix(l.Name)
	for _, key := range configs.StoreKeys {
		if value, ok := own[prefix+key]; ok {
			changed.Static[prefix+key] = value
		}
	}
	s, err := changed.sslSettings(l)
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", l.Name, err)
	}
	return s, nil
}
