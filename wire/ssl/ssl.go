// Package ssl makes TLS of Kafka's ssl.* settings: stores of keys and certificates in PEM, PKCS12 and JKS, and the names of principals (Kafka's
// SslFactory, DefaultSslEngineFactory and SslPrincipalMapper).
package ssl

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// ClientAuth says whether a client shows a certificate (ssl.client.auth).
type ClientAuth int

// What ssl.client.auth can be.
const (
	None ClientAuth = iota
	Requested
	Required
)

// Settings are the ssl.* settings of one listener, by Kafka's names. They never change.
type Settings struct {
	KeyStore, KeyStorePassword, KeyPassword string // path and passwords (ssl.keystore.location, ...)
	KeyStoreType                            string
	Key, Chain                              string // PEM (ssl.keystore.key, ssl.keystore.certificate.chain)
	TrustStore, TrustStorePassword          string
	TrustStoreType                          string
	Trusted                                 string // PEM (ssl.truststore.certificates)
	ClientAuth                              ClientAuth
	Protocols                               []string // ssl.enabled.protocols; empty for TLS 1.2 and 1.3
	Protocol                                string   // ssl.protocol, which bounds them for connections to others
	CipherSuites                            []string // by Java's or IANA's names; empty for all that Go holds safe
	AnyHost                                 bool     // ssl.endpoint.identification.algorithm is empty
	Rules                                   Rules    // ssl.principal.mapping.rules
	OfNodes                                 bool     // clients are other nodes: a certificate that is for clients only does not count
}

// material is what the stores hold at one time.
type material struct {
	keys    []tls.Certificate
	trusted *x509.CertPool // nil for the system's
	server  *tls.Config
	sum     [32]byte // of the files
}

// Store holds the keys of a listener, and reads them again when their files change. Any goroutine may use it.
type Store struct {
	settings Settings
	minimum  uint16
	maximum  uint16
	suites   []uint16
	now      atomic.Pointer[material]

	mu sync.Mutex // held while files are read
}

// versions are the protocols that Go has and Kafka names.
var versions = map[string]uint16{"TLSv1": tls.VersionTLS10, "TLSv1.1": tls.VersionTLS11, "TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}

// Open reads the stores. Its errors name the setting and the file, and no secret. server says that the store is for a listener, which needs a key.
func Open(s Settings, server bool) (*Store, error) {
	st := &Store{settings: s}
	if err := st.readProtocols(); err != nil {
		return nil, err
	}
	if err := st.readSuites(); err != nil {
		return nil, err
	}
	m, err := st.read(nil)
	if err != nil {
		return nil, err
	}
	if err := m.suffices(server, s.ClientAuth); err != nil {
		return nil, err
	}
	st.now.Store(m)
	return st, nil
}

// suffices returns what is missing: a key for a listener, or authorities to judge clients' certificates by.
func (m *material) suffices(server bool, auth ClientAuth) error {
	switch {
	case server && len(m.keys) == 0:
		return errors.New("ssl.keystore.location is missing, the file with the listener's key and certificate (or ssl.keystore.key and ssl.keystore.certificate.chain with ssl.keystore.type=PEM)")
	case auth != None && m.trusted == nil:
		return errors.New("ssl.client.auth asks for certificates, and there is no ssl.truststore.location or ssl.truststore.certificates to judge them by")
	}
	return nil
}

func (st *Store) readProtocols() error {
	names := st.settings.Protocols
	if len(names) == 0 {
		names = []string{"TLSv1.2", "TLSv1.3"}
	}
	var list []uint16
	for _, name := range names {
		v, ok := versions[name]
		if !ok {
			return fmt.Errorf("ssl.enabled.protocols has %s: kraft has TLSv1.2 and TLSv1.3, and the old TLSv1 and TLSv1.1", name)
		}
		list = append(list, v)
	}
	slices.Sort(list)
	list = slices.Compact(list)
	if int(list[len(list)-1]-list[0]) != len(list)-1 {
		return fmt.Errorf("ssl.enabled.protocols=%s leaves out a version between two others, which kraft cannot", strings.Join(names, ","))
	}
	st.minimum, st.maximum = list[0], list[len(list)-1]
	return nil
}

func (st *Store) readSuites() error {
	known := map[string]uint16{}
	for _, c := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		known[c.Name] = c.ID
	}
	named := false
	for _, name := range st.settings.CipherSuites {
		if id, ok := known[name]; ok {
			st.suites, named = append(st.suites, id), true
		}
	}
	if len(st.settings.CipherSuites) > 0 && !named {
		return fmt.Errorf("ssl.cipher.suites has none that kraft knows: %s", strings.Join(st.settings.CipherSuites, ", "))
	}
	return nil
}

// read makes the material of the files as they are. It returns old if they are the same.
func (st *Store) read(old *material) (*material, error) {
	s, m := st.settings, &material{}
	keys, err := storeOf("ssl.keystore.location", s.KeyStore, s.KeyStoreType, s.Key+"\n"+s.Chain)
	if err != nil {
		return nil, err
	}
	trusted, err := storeOf("ssl.truststore.location", s.TrustStore, s.TrustStoreType, s.Trusted)
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	hash.Write(keys)
	hash.Write([]byte{0})
	hash.Write(trusted)
	if hash.Sum(m.sum[:0]); old != nil && old.sum == m.sum {
		return old, nil
	}
	if keys != nil {
		if m.keys, err = parseKeys(keys, s.KeyStorePassword, s.KeyPassword); err != nil {
			return nil, fmt.Errorf("%s: %w", whence("ssl.keystore.location", s.KeyStore, "ssl.keystore.key"), err)
		}
	}
	if trusted != nil {
		certs, err := parseTrust(trusted, s.TrustStorePassword)
		if err == nil && len(certs) == 0 {
			err = errors.New("it has no certificate")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", whence("ssl.truststore.location", s.TrustStore, "ssl.truststore.certificates"), err)
		}
		m.trusted = x509.NewCertPool()
		for _, c := range certs {
			m.trusted.AddCert(c)
		}
	}
	m.server = &tls.Config{Certificates: m.keys, MinVersion: st.minimum, MaxVersion: st.maximum, CipherSuites: st.suites, ClientCAs: m.trusted}
	switch s.ClientAuth {
	case Required:
		m.server.ClientAuth = tls.RequireAndVerifyClientCert
	case Requested:
		m.server.ClientAuth = tls.VerifyClientCertIfGiven
	}
	if s.OfNodes {
		m.server.VerifyConnection = isNode
	}
	return m, nil
}

// isNode refuses a certificate that is for clients only, such as kraft certs client makes.
func isNode(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return nil
	}
	leaf := cs.PeerCertificates[0]
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0 || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return nil
	}
	return fmt.Errorf("the certificate of %s is for clients, and not for nodes (serverAuth)", leaf.Subject)
}

// storeOf is what a store's settings hold: a file, or PEM in the setting itself; nil if nothing is set.
func storeOf(key, path, kind, inline string) ([]byte, error) {
	switch {
	case strings.TrimSpace(inline) != "":
		return []byte(inlinePEM.ReplaceAllStringFunc(inline, func(block string) string {
			parts := inlinePEM.FindStringSubmatch(block)
			return "\n" + parts[1] + "\n" + strings.Join(strings.Fields(parts[2]), "\n") + "\n" + parts[3] + "\n"
		})), nil
	case path == "":
		return nil, nil
	}
	data, err := readStore(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if strings.EqualFold(kind, "PEM") && formatOf(data) != pemText {
		return nil, fmt.Errorf("%s: %s is no PEM, as its type says", key, path)
	}
	return data, nil
}

// inlinePEM is a block in a setting, where line ends may have become blanks.
var inlinePEM = regexp.MustCompile(`(-----BEGIN [A-Z0-9 ]+-----)([A-Za-z0-9+/=\s]*)(-----END [A-Z0-9 ]+-----)`)

func whence(key, path, inline string) string {
	if path == "" {
		return inline
	}
	return key + ": " + path
}

// Reload reads the files again, and reports whether they have changed. After an error what was read before stays in use.
func (st *Store) Reload() (changed bool, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	old := st.now.Load()
	m, err := st.read(old)
	if err != nil || m == old {
		return false, err
	}
	if err := m.unexpired(st.settings.KeyStore); err != nil {
		return false, err
	}
	st.now.Store(m)
	return true, nil
}

// Replace has the store use the keys and authorities of other settings, of which nothing else counts. After an error what was there before stays in use.
// It reports whether anything changed.
func (st *Store) Replace(s Settings) (changed bool, err error) {
	return st.replace(s, true)
}

// Check is Replace that changes nothing: it returns why the settings could not be used.
func (st *Store) Check(s Settings) (changed bool, err error) { return st.replace(s, false) }

func (st *Store) replace(s Settings, use bool) (changed bool, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	next := &Store{settings: st.settings, minimum: st.minimum, maximum: st.maximum, suites: st.suites}
	next.settings.takeStores(s)
	old := st.now.Load()
	m, err := next.read(nil)
	if err == nil {
		err = m.suffices(len(old.keys) > 0, st.settings.ClientAuth)
	}
	if err == nil {
		err = m.unexpired(s.KeyStore)
	}
	if err != nil {
		return false, err
	}
	if use {
		st.settings.takeStores(s)
	}
	if m.sum == old.sum || !use {
		return false, nil
	}
	st.now.Store(m)
	return true, nil
}

// takeStores takes over where the keys and authorities are.
func (s *Settings) takeStores(o Settings) {
	s.KeyStore, s.KeyStorePassword, s.KeyPassword, s.KeyStoreType, s.Key, s.Chain = o.KeyStore, o.KeyStorePassword, o.KeyPassword, o.KeyStoreType, o.Key, o.Chain
	s.TrustStore, s.TrustStorePassword, s.TrustStoreType, s.Trusted = o.TrustStore, o.TrustStorePassword, o.TrustStoreType, o.Trusted
}

// unexpired refuses material with a certificate that has expired.
func (m *material) unexpired(path string) error {
	for i := range m.keys {
		if leaf := m.keys[i].Leaf; time.Now().After(leaf.NotAfter) {
			return fmt.Errorf("%s: the new certificate of %s has expired on %s", whence("ssl.keystore.location", path, "ssl.keystore.key"), leaf.Subject, leaf.NotAfter.Format(time.DateOnly))
		}
	}
	return nil
}

// Expires is when the first of the store's certificates expires; the zero time if there is none.
func (st *Store) Expires() (first time.Time) {
	for _, k := range st.now.Load().keys {
		if first.IsZero() || k.Leaf.NotAfter.Before(first) {
			first = k.Leaf.NotAfter
		}
	}
	return first
}

// subject is that of the store's first certificate, "" if it has none.
func (st *Store) subject() string {
	if keys := st.now.Load().keys; len(keys) > 0 {
		return keys[0].Leaf.Subject.String()
	}
	return ""
}

// Server is the configuration of a listener's connections: each handshake has the newest keys.
func (st *Store) Server() *tls.Config {
	return &tls.Config{MinVersion: st.minimum, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return st.now.Load().server, nil }}
}

// Client is the configuration of a connection to another node, by the host's name or address.
func (st *Store) Client(host string) *tls.Config {
	m := st.now.Load()
	maximum := st.maximum
	if v, ok := versions[st.settings.Protocol]; ok {
		maximum = min(maximum, max(v, st.minimum))
	}
	c := &tls.Config{Certificates: m.keys, RootCAs: m.trusted, MinVersion: st.minimum, MaxVersion: maximum, CipherSuites: st.suites, ServerName: host}
	if st.settings.AnyHost { // the chain is verified, and not the name
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			between := x509.NewCertPool()
			for _, i := range cs.PeerCertificates[1:] {
				between.AddCert(i)
			}
			_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: m.trusted, Intermediates: between})
			return err
		}
	}
	return c
}

// Principal is the name of the principal that a client's certificate stands for, "" if the client has shown none.
func (st *Store) Principal(state tls.ConnectionState) (string, error) {
	if len(state.PeerCertificates) == 0 {
		return "", nil
	}
	dn, err := DistinguishedName(state.PeerCertificates[0])
	if err != nil {
		return "", err
	}
	return st.settings.Rules.Name(dn)
}

// warnBefore is how long before a certificate expires the log begins to say so.
const warnBefore = 30 * 24 * time.Hour

// Watch reloads the stores of listeners, by the listeners' names, when their files change, until stop is closed. It warns once a day of
// certificates that are about to expire.
func Watch(stores map[string]*Store, log zerolog.Logger, every time.Duration, stop <-chan struct{}) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	failed, warned := map[string]string{}, map[string]time.Time{}
	for {
		for name, st := range stores {
			if left := time.Until(st.Expires()); !st.Expires().IsZero() && left < warnBefore && time.Since(warned[name]) > 24*time.Hour {
				warned[name] = time.Now()
				log.Warn().Str("listener", name).Time("expires", st.Expires()).Msg("the listener's certificate is about to expire, or has expired")
			}
		}
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		for name, st := range stores {
			changed, err := st.Reload()
			switch {
			case err != nil && failed[name] != err.Error(): // a line for each cause
				failed[name] = err.Error()
				log.Error().Err(err).Str("listener", name).Msg("the listener's keys have changed and cannot be used: the old ones stay")
			case err == nil:
				delete(failed, name)
			}
			if changed {
				log.Info().Str("listener", name).Str("subject", st.subject()).Time("expires", st.Expires()).Msg("the listener uses its new keys")
			}
		}
	}
}
