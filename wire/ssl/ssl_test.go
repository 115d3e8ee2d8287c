package ssl

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	keystore "github.com/pavlo-v-chernykh/keystore-go/v4"
	"github.com/youmark/pkcs8"
	"software.sslmate.com/src/go-pkcs12"
)

// identity is a key with its certificate, by an authority, or its own authority.
type identity struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func issue(t *testing.T, name string, by *identity, life time.Duration) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: by == nil, BasicConstraintsValid: true}
	out := &identity{key: key}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if out.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return out
}

func (i *identity) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})
}

func (i *identity) pkcs8(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// jksOf is a Java key store with an entry for a key, or for a certificate alone.
func jksOf(t *testing.T, i *identity, withKey bool, password string) []byte {
	t.Helper()
	ks, c := keystore.New(), keystore.Certificate{Type: "X509", Content: i.cert.Raw}
	var err error
	if withKey {
		err = ks.SetPrivateKeyEntry("one", keystore.PrivateKeyEntry{CreationTime: time.Now(), PrivateKey: i.pkcs8(t), CertificateChain: []keystore.Certificate{c}}, []byte(password))
	} else {
		err = ks.SetTrustedCertificateEntry("one", keystore.TrustedCertificateEntry{CreationTime: time.Now(), Certificate: c})
	}
	var out bytes.Buffer
	if err := errors.Join(err, ks.Store(&out, []byte(password))); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestStores: a key and a truststore in each of Kafka's forms make a handshake; with a wrong password, another key or damage they make an
// error that names setting and file, and no password.
func TestStores(t *testing.T) {
	const password = "a-secret-of-ours"
	ca := issue(t, "ca", nil, time.Hour)
	b := issue(t, "b", ca, time.Hour)
	sealed, err := pkcs8.MarshalPrivateKey(b.key, []byte(password), nil)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(b.key)
	if err != nil {
		t.Fatal(err)
	}
	p12Keys, err := pkcs12.Modern.Encode(b.key, b.cert, nil, password)
	if err != nil {
		t.Fatal(err)
	}
	p12Trust, err := pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{ca.cert}, password)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	plain := append(block("PRIVATE KEY", b.pkcs8(t)), b.pem()...)
	trust := Settings{TrustStore: write(t, "ca.pem", ca.pem())}
	for name, tc := range map[string]struct {
		s    Settings
		says string // "" for none
	}{
		"PEM":                      {Settings{KeyStore: write(t, "b.pem", plain)}, ""},
		"PEM, said so":             {Settings{KeyStore: write(t, "b.pem", plain), KeyStoreType: "PEM"}, ""},
		"PEM, SEC1":                {Settings{KeyStore: write(t, "b.pem", append(b.pem(), block("EC PRIVATE KEY", sec1)...))}, ""},
		"PEM, sealed":              {Settings{KeyStore: write(t, "b.pem", append(block("ENCRYPTED PRIVATE KEY", sealed), b.pem()...)), KeyPassword: password}, ""},
		"PEM, sealed, open":        {Settings{KeyStore: write(t, "b.pem", append(block("ENCRYPTED PRIVATE KEY", sealed), b.pem()...))}, "set ssl.key.password"},
		"PEM, sealed, wrong":       {Settings{KeyStore: write(t, "b.pem", append(block("ENCRYPTED PRIVATE KEY", sealed), b.pem()...)), KeyPassword: "wrong-one"}, "wrong password"},
		"PEM, inline":              {Settings{Key: string(block("PRIVATE KEY", b.pkcs8(t))), Chain: string(b.pem())}, ""},
		"PEM, no key":              {Settings{KeyStore: write(t, "b.pem", b.pem())}, "it has no private key"},
		"PEM, no certificate":      {Settings{KeyStore: write(t, "b.pem", block("PRIVATE KEY", b.pkcs8(t)))}, "it has no certificate"},
		"PEM, another key":         {Settings{KeyStore: write(t, "b.pem", append(block("PRIVATE KEY", ca.pkcs8(t)), b.pem()...))}, "the private key is not that of its first certificate, CN=b"},
		"PEM, damaged":             {Settings{KeyStore: write(t, "b.pem", append(block("PRIVATE KEY", b.pkcs8(t)[:20]), b.pem()...))}, "b.pem"},
		"PKCS12":                   {Settings{KeyStore: write(t, "b.p12", p12Keys), KeyStorePassword: password, KeyStoreType: "PKCS12"}, ""},
		"PKCS12 as JKS":            {Settings{KeyStore: write(t, "b.jks", p12Keys), KeyStorePassword: password, KeyStoreType: "JKS"}, ""},
		"PKCS12, wrong":            {Settings{KeyStore: write(t, "b.p12", p12Keys), KeyStorePassword: "wrong-one"}, "wrong password, or damaged"},
		"PKCS12, cut off":          {Settings{KeyStore: write(t, "b.p12", p12Keys[:len(p12Keys)/2]), KeyStorePassword: password}, "b.p12"},
		"PKCS12 as PEM":            {Settings{KeyStore: write(t, "b.p12", p12Keys), KeyStorePassword: password, KeyStoreType: "PEM"}, "is no PEM, as its type says"},
		"JKS":                      {Settings{KeyStore: write(t, "b.jks", jksOf(t, b, true, password)), KeyStorePassword: password}, ""},
		"JKS, wrong":               {Settings{KeyStore: write(t, "b.jks", jksOf(t, b, true, password)), KeyStorePassword: "wrong-one"}, "wrong password, or damaged"},
		"JKS, cut off":             {Settings{KeyStore: write(t, "b.jks", jksOf(t, b, true, password)[:100]), KeyStorePassword: password}, "b.jks"},
		"JKS, no key":              {Settings{KeyStore: write(t, "b.jks", jksOf(t, b, false, password)), KeyStorePassword: password}, "it has no private key"},
		"trust, PKCS12":            {Settings{KeyStore: write(t, "b.pem", plain), TrustStore: write(t, "ca.p12", p12Trust), TrustStorePassword: password}, ""},
		"trust, PKCS12, wrong":     {Settings{KeyStore: write(t, "b.pem", plain), TrustStore: write(t, "ca.p12", p12Trust), TrustStorePassword: "wrong-one"}, "ssl.truststore.location"},
		"trust, JKS":               {Settings{KeyStore: write(t, "b.pem", plain), TrustStore: write(t, "ca.jks", jksOf(t, ca, false, password)), TrustStorePassword: password}, ""},
		"trust, inline":            {Settings{KeyStore: write(t, "b.pem", plain), Trusted: string(ca.pem())}, ""},
		"trust, JKS, no password":  {Settings{KeyStore: write(t, "b.pem", plain), TrustStore: write(t, "ca.jks", jksOf(t, ca, false, password))}, ""},
		"trust, another's keys":    {Settings{KeyStore: write(t, "b.pem", plain), TrustStore: write(t, "b.p12", p12Keys), TrustStorePassword: password}, ""},
		"PEM, inline, on one line": {Settings{Key: strings.ReplaceAll(string(block("PRIVATE KEY", b.pkcs8(t))), "\n", " "), Chain: strings.ReplaceAll(string(b.pem()), "\n", "")}, ""},
		"nothing":                  {Settings{}, "ssl.keystore.location is missing"},
		"no file":                  {Settings{KeyStore: "/nowhere/b.pem"}, "ssl.keystore.location: open /nowhere/b.pem"},
		"no store":                 {Settings{KeyStore: write(t, "b.txt", []byte("hello"))}, "neither PEM, nor PKCS12, nor JKS"},
		"huge":                     {Settings{KeyStore: write(t, "b.txt", make([]byte, maxStore+1))}, "which no store is"},
		"no trust":                 {Settings{KeyStore: write(t, "b.pem", plain), ClientAuth: Required}, "ssl.client.auth asks for certificates"},
		"SSLv3":                    {Settings{KeyStore: write(t, "b.pem", plain), Protocols: []string{"SSLv3"}}, "ssl.enabled.protocols has SSLv3"},
		"a gap":                    {Settings{KeyStore: write(t, "b.pem", plain), Protocols: []string{"TLSv1.1", "TLSv1.3"}}, "leaves out a version"},
		"old suite":                {Settings{KeyStore: write(t, "b.pem", plain), CipherSuites: []string{"TLS_DHE_DSS_X"}}, "ssl.cipher.suites has none"},
		"a suite":                  {Settings{KeyStore: write(t, "b.pem", plain), CipherSuites: []string{"TLS_DHE_DSS_X", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}}, ""},
	} {
		if tc.s.TrustStore == "" && tc.s.Trusted == "" && name != "no trust" {
			tc.s.TrustStore = trust.TrustStore
		}
		st, err := Open(tc.s, true)
		switch {
		case tc.says == "" && err == nil:
			err = shake(st, st)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case tc.says == "" || err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), password) || strings.Contains(err.Error(), "wrong-one"):
			t.Errorf("%s: %v, wanted %q", name, err, tc.says)
		}
	}
}

// shake makes a handshake between a server's and a client's store, and says what both make of it.
func shake(server, client *Store) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	limit := time.Now().Add(10 * time.Second)
	done := make(chan error, 1)
	go func() {
		tcp, err := l.Accept()
		if err == nil {
			defer tcp.Close()
			_ = tcp.SetDeadline(limit)
			c := tls.Server(tcp, server.Server())
			if err = c.Handshake(); err == nil {
				_, err = c.Write([]byte("x"))
			}
		}
		done <- err
	}()
	tcp, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	_ = tcp.SetDeadline(limit)
	c := tls.Client(tcp, client.Client("localhost"))
	if err = c.Handshake(); err == nil {
		_, err = c.Read(make([]byte, 1)) // with TLS 1.3 a client learns then what the server makes of its certificate
	}
	_ = tcp.Close()
	return errors.Join(err, <-done)
}

// TestReload: new keys count from the next handshake on; what cannot be used does not replace them.
func TestReload(t *testing.T) {
	ca, other := issue(t, "ca", nil, time.Hour), issue(t, "other", nil, time.Hour)
	pemOf := func(i *identity) []byte {
		return append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: i.pkcs8(t)}), i.pem()...)
	}
	keys := write(t, "b.pem", pemOf(issue(t, "one", ca, time.Hour)))
	st, err := Open(Settings{KeyStore: keys, Trusted: string(ca.pem()), Rules: Rules{{}}}, true)
	if err != nil {
		t.Fatal(err)
	}
	client, err := Open(Settings{Trusted: string(ca.pem())}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name    string
		file    []byte
		changed bool
		says    string
		shakes  bool
	}{
		{"the same", nil, false, "", true},
		{"a new one", pemOf(issue(t, "two", ca, time.Hour)), true, "", true},
		{"half of one", pemOf(issue(t, "three", ca, time.Hour))[:100], false, "no private key", true},
		{"an old one", pemOf(issue(t, "four", ca, -time.Minute)), false, "has expired", true},
		{"of another authority", pemOf(issue(t, "five", other, time.Hour)), true, "", false},
		{"the first authority's again", pemOf(issue(t, "six", ca, 2*time.Hour)), true, "", true},
	} {
		if step.file != nil {
			if err := os.WriteFile(keys, step.file, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		changed, err := st.Reload()
		if changed != step.changed || (err == nil) != (step.says == "") || err != nil && !strings.Contains(err.Error(), step.says) {
			t.Errorf("%s: %v %v", step.name, changed, err)
		}
		if err := shake(st, client); (err == nil) != step.shakes {
			t.Errorf("%s: %v", step.name, err)
		}
	}
	if left := time.Until(st.Expires()); left < time.Hour || left > 2*time.Hour {
		t.Errorf("it expires in %v", left)
	}
}

// TestClientAuth: which clients each value of ssl.client.auth lets in: with a good, a foreign or an expired certificate, and without one.
func TestClientAuth(t *testing.T) {
	ca, other := issue(t, "ca", nil, time.Hour), issue(t, "other", nil, time.Hour)
	of := func(i *identity) Settings {
		s := Settings{Trusted: string(ca.pem())}
		if i != nil {
			s.Key, s.Chain = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: i.pkcs8(t)})), string(i.pem())
		}
		return s
	}
	open := func(s Settings, server bool) *Store {
		st, err := Open(s, server)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	clients := map[string]*Store{"good": open(of(issue(t, "c", ca, time.Hour)), false), "foreign": open(of(issue(t, "c", other, time.Hour)), false), "old": open(of(issue(t, "c", ca, -time.Minute)), false), "none": open(of(nil), false)}
	for auth, want := range map[ClientAuth]map[string]bool{
		None: {"good": true, "foreign": true, "old": true, "none": true}, Requested: {"good": true, "none": true}, Required: {"good": true},
	} {
		s := of(issue(t, "b", ca, time.Hour))
		s.ClientAuth = auth
		server := open(s, true)
		for name, c := range clients {
			// A client shows no certificate that the server's authorities did not sign.
			if err := shake(server, c); (err == nil) != want[name] && !(name == "foreign" && auth == Requested && err == nil) {
				t.Errorf("%d, %s: %v", auth, name, err)
			}
		}
	}
}

// TestRules: names of principals as Kafka 4.4.0's SslPrincipalMapper makes them.
func TestRules(t *testing.T) {
	const duke = "CN=Duke,OU=ServiceUsers,O=Org,C=US"
	for _, tc := range [][3]string{
		{"DEFAULT", duke, duke},
		{`RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/L`, duke, "duke"},
		{`RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/U`, duke, "DUKE"},
		{`RULE:^CN=(.*?)/$1/`, duke, "Duke,OU=ServiceUsers,O=Org,C=US"},
		{`RULE:.*/fixed/`, duke, "fixedfixed"},
		{`RULE:^(.*)$/fixed/`, duke, "fixed"},
		{`RULE:^.*,C=(.*)$/$10x/`, duke, "US0x"},
		{`RULE:^(.*)$/$2/`, duke, "$2"},
		{`RULE:.*?CN=(.*?),.*/$1/, RULE:.*/anon/`, "O=x,CN=z", "anonanon"},
		{`RULE:^OU=x$/y/,DEFAULT`, duke, duke},
		{`RULE:^CN=([^,]*),.*$/$1/`, `CN=Al\, Bo,O=x`, `Al\`},
	} {
		rules, err := ParseRules(tc[0])
		if err != nil {
			t.Errorf("%s: %v", tc[0], err)
			continue
		}
		if got, err := rules.Name(tc[1]); err != nil || got != tc[2] {
			t.Errorf("%s of %s: %q %v, wanted %q", tc[0], tc[1], got, err, tc[2])
		}
	}
	for _, bad := range []string{"default", "junk", "RULE:a/b/LU", "RULE:a/$1/x", "RULE:a(?=b)/x/", "RULE:[a&&b]/x/"} {
		if _, err := ParseRules(bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	if _, err := (Rules{}).Name(duke); err == nil {
		t.Error("no rule fits")
	}
}

func FuzzStores(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "x")
	f.Add([]byte{0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1}, "x")
	f.Add([]byte{0x30, 0x82, 0, 4, 2, 1, 3}, "x")
	f.Fuzz(func(t *testing.T, data []byte, password string) {
		if keys, err := parseKeys(data, password, password); err == nil && len(keys) == 0 {
			t.Error("neither keys nor an error")
		}
		_, _ = parseTrust(data, password)
	})
}

func FuzzRules(f *testing.F) {
	f.Add(`RULE:^CN=(.*?),OU=x.*$/$1/L,DEFAULT`, "CN=a,OU=x")
	f.Fuzz(func(_ *testing.T, rules, dn string) {
		if r, err := ParseRules(rules); err == nil {
			_, _ = r.Name(dn)
		}
	})
}

// TestNodesOnly: a listener of nodes takes certificates for servers, and such without a purpose, and none that is for clients only.
func TestNodesOnly(t *testing.T) {
	for want, usages := range map[bool][][]x509.ExtKeyUsage{
		true: {nil, {x509.ExtKeyUsageServerAuth}, {x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, {x509.ExtKeyUsageAny}}, false: {{x509.ExtKeyUsageClientAuth}, {x509.ExtKeyUsageCodeSigning}},
	} {
		for _, u := range usages {
			if err := isNode(tls.ConnectionState{PeerCertificates: []*x509.Certificate{{ExtKeyUsage: u}}}); (err == nil) != want {
				t.Errorf("%v: %v", u, err)
			}
		}
	}
}
