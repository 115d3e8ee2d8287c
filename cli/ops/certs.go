package ops

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kraft/wire/ssl"
)

// Authority is a small certificate authority in a directory: ca.pem and ca.key.
type Authority struct {
	Dir string
	// Made says that this call made the authority.
	Made bool
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// authorityLife is how long an authority's own certificate is valid.
const authorityLife = 10 * 365 * 24 * time.Hour

// OpenAuthority reads the authority of a directory, or makes one.
func OpenAuthority(dir string) (*Authority, error) {
	a := &Authority{Dir: dir}
	certPath, keyPath := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	certText, err := os.ReadFile(certPath)
	if errors.Is(err, fs.ErrNotExist) {
		return a, a.make(certPath, keyPath)
	}
	if err != nil {
		return nil, err
	}
	keyText, err := os.ReadFile(keyPath)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(certText)
	if block == nil {
		return nil, fmt.Errorf("%s is no certificate in PEM", certPath)
	}
	if a.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		return nil, fmt.Errorf("%s: %w", certPath, err)
	}
	if block, _ = pem.Decode(keyText); block == nil {
		return nil, fmt.Errorf("%s is no key in PEM", keyPath)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyPath, err)
	}
	if a.key, _ = key.(*ecdsa.PrivateKey); a.key == nil || !a.key.PublicKey.Equal(a.cert.PublicKey) {
		return nil, fmt.Errorf("%s is not the key of %s", keyPath, certPath)
	}
	return a, nil
}

func (a *Authority) make(certPath, keyPath string) (err error) {
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		return err
	}
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	template := template("kraft authority", authorityLife)
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	key, err := pemKey(a.key)
	if err != nil {
		return err
	}
	a.Made = true
	f, err := os.OpenFile(keyPath, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // the key of an authority is never replaced
	if err != nil {
		return err
	}
	if _, err = f.Write(key); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return writeNew(certPath, pemCertificate(der), 0o644)
}

func template(name string, life time.Duration) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	now := time.Now()
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(life)}
}

func pemCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func pemKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// writeNew writes a file as a whole: who reads it meanwhile has the old one or the new one.
func writeNew(path string, data []byte, mode fs.FileMode) error {
	next := path + ".new"
	if err := os.WriteFile(next, data, mode); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// Issued are the files of a certificate.
type Issued struct {
	KeyStore   string `json:"keystore"`   // key and certificate, PEM
	TrustStore string `json:"truststore"` // the authority, PEM
	Properties string `json:"properties"` // settings that name both
	Principal  string `json:"principal"`
}

// Issue makes a key and a certificate for a broker, which has hosts, or for a client, which has none.
func (a *Authority) Issue(name string, hosts []string, life time.Duration) (*Issued, error) {
	if name == "" || name == "ca" || name != filepath.Base(name) {
		return nil, fmt.Errorf("%q cannot be the name of a certificate, which is a file's, too", name)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := template(name, life)
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(hosts) > 0 { // brokers connect to each other, too
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	keyText, err := pemKey(key)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(a.Dir)
	if err != nil {
		return nil, err
	}
	out := &Issued{KeyStore: filepath.Join(dir, name+".pem"), TrustStore: filepath.Join(dir, "ca.pem"), Properties: filepath.Join(dir, name+".properties")}
	cert, err := x509.ParseCertificate(der)
	if err == nil {
		out.Principal, err = ssl.DistinguishedName(cert)
	}
	if err != nil {
		return nil, err
	}
	lines := []string{"ssl.keystore.type=PEM", "ssl.keystore.location=" + out.KeyStore, "ssl.truststore.type=PEM", "ssl.truststore.location=" + out.TrustStore, ""}
	if len(hosts) == 0 {
		lines = append([]string{"security.protocol=SSL"}, lines...)
	}
	return out, errors.Join(
		writeNew(out.KeyStore, append(keyText, pemCertificate(der)...), 0o600),
		writeNew(out.Properties, []byte(strings.Join(lines, "\n")), 0o644),
	)
}
