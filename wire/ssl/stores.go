package ssl

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	keystore "github.com/pavlo-v-chernykh/keystore-go/v4"
	"github.com/youmark/pkcs8"
	"software.sslmate.com/src/go-pkcs12"
)

// maxStore bounds the size of a store's file in bytes.
const maxStore = 1 << 20

// readStore reads a store's file.
func readStore(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxStore+1))
	if err == nil && len(data) > maxStore {
		err = fmt.Errorf("%s is larger than %d bytes, which no store is", path, maxStore)
	}
	return data, err
}

// format is that of a store. Java reads JKS and PKCS12 files under either name, so the first bytes say what it is.
type format int

const (
	unknown format = iota
	jks
	p12
	pemText
)

func formatOf(data []byte) format {
	switch {
	case bytes.HasPrefix(data, []byte{0xfe, 0xed, 0xfe, 0xed}):
		return jks
	case len(data) > 2 && data[0] == 0x30 && data[1] >= 0x80:
		return p12
	case bytes.Contains(data, []byte("-----BEGIN ")):
		return pemText
	}
	return unknown
}

var errUnknownFormat = errors.New("it is neither PEM, nor PKCS12, nor JKS")

// errPassword says that a store or a key does not open with its password.
var errPassword = errors.New("wrong password, or damaged")

// parseKeys reads keys with their certificate chains. Of PEM, password is the key's own.
func parseKeys(data []byte, password, keyPassword string) ([]tls.Certificate, error) {
	switch formatOf(data) {
	case pemText:
		c, err := parsePEM(data, keyPassword)
		return []tls.Certificate{c}, err
	case p12:
		key, leaf, chain, err := pkcs12.DecodeChain(data, password)
		if err != nil {
			return nil, storeError(err)
		}
		c, err := certificate(key, append([]*x509.Certificate{leaf}, chain...))
		return []tls.Certificate{c}, err
	case jks:
		return parseJKSKeys(data, password, keyPassword)
	}
	return nil, errUnknownFormat
}

// parseTrust reads certificates that are trusted.
func parseTrust(data []byte, password string) ([]*x509.Certificate, error) {
	switch formatOf(data) {
	case pemText:
		return pemCertificates(data)
	case p12:
		certs, err := pkcs12.DecodeTrustStore(data, password)
		if err != nil && !errors.Is(err, pkcs12.ErrIncorrectPassword) { // it may be a store of keys
			_, leaf, _, chainErr := pkcs12.DecodeChain(data, password)
			if chainErr == nil { // as Java: of a key's entry its first certificate
				return []*x509.Certificate{leaf}, nil
			}
		}
		return certs, storeError(err)
	case jks:
		if password == "" {
			data = withoutSeal(data)
		}
		return parseJKSTrust(data, password)
	}
	return nil, errUnknownFormat
}

func storeError(err error) error {
	if errors.Is(err, pkcs12.ErrIncorrectPassword) || errors.Is(err, pkcs12.ErrDecryption) {
		return errPassword
	}
	return err
}

// withoutSeal replaces the checksum at the end of a JKS store, which includes the store's password, by the checksum for an empty password. Java
// opens trust stores without a password, and then does not check them.
func withoutSeal(data []byte) []byte {
	if len(data) < sha1.Size {
		return data
	}
	body := data[:len(data)-sha1.Size]
	h := sha1.New()
	h.Write([]byte("Mighty Aphrodite"))
	h.Write(body)
	return h.Sum(bytes.Clone(body))
}

func openJKS(data []byte, password string) (ks keystore.KeyStore, err error) {
	defer func() { // a damaged file must not end the process
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged: %v", p)
		}
	}()
	ks = keystore.New(keystore.WithOrderedAliases())
	if err := ks.Load(bytes.NewReader(data), []byte(password)); err != nil {
		return ks, fmt.Errorf("%w (%v)", errPassword, err)
	}
	return ks, nil
}

func parseJKSKeys(data []byte, password, keyPassword string) (out []tls.Certificate, err error) {
	ks, err := openJKS(data, password)
	if err != nil {
		return nil, err
	}
	if keyPassword == "" {
		keyPassword = password
	}
	for _, alias := range ks.Aliases() {
		if !ks.IsPrivateKeyEntry(alias) {
			continue
		}
		e, err := ks.GetPrivateKeyEntry(alias, []byte(keyPassword))
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", alias, errPassword)
		}
		key, err := x509.ParsePKCS8PrivateKey(e.PrivateKey)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", alias, err)
		}
		var chain []*x509.Certificate
		for _, c := range e.CertificateChain {
			parsed, err := x509.ParseCertificate(c.Content)
			if err != nil {
				return nil, fmt.Errorf("certificate of key %q: %w", alias, err)
			}
			chain = append(chain, parsed)
		}
		c, err := certificate(key, chain)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", alias, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("it has no private key")
	}
	return out, nil
}

func parseJKSTrust(data []byte, password string) (out []*x509.Certificate, err error) {
	ks, err := openJKS(data, password)
	if err != nil {
		return nil, err
	}
	for _, alias := range ks.Aliases() {
		if !ks.IsTrustedCertificateEntry(alias) {
			continue
		}
		e, err := ks.GetTrustedCertificateEntry(alias)
		if err != nil {
			return nil, fmt.Errorf("certificate %q: %w", alias, err)
		}
		c, err := x509.ParseCertificate(e.Certificate.Content)
		if err != nil {
			return nil, fmt.Errorf("certificate %q: %w", alias, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// parsePEM reads one key and its chain. Kafka takes PKCS8 keys only; kraft takes PKCS1 and SEC1, too.
func parsePEM(data []byte, password string) (tls.Certificate, error) {
	var key any
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if !strings.Contains(block.Type, "PRIVATE KEY") {
			continue
		}
		if key != nil {
			return tls.Certificate{}, errors.New("it has more than one private key")
		}
		var err error
		if key, err = parseKey(block, password); err != nil {
			return tls.Certificate{}, err
		}
	}
	if key == nil {
		return tls.Certificate{}, errors.New("it has no private key")
	}
	chain, err := pemCertificates(data)
	if err != nil {
		return tls.Certificate{}, err
	}
	return certificate(key, chain)
}

func parseKey(block *pem.Block, password string) (any, error) {
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY":
		if password == "" {
			return nil, errors.New("its private key is encrypted: set ssl.key.password")
		}
		key, _, err := pkcs8.ParsePrivateKey(block.Bytes, []byte(password))
		if err != nil {
			return nil, fmt.Errorf("private key: %w", errPassword)
		}
		return key, nil
	case block.Headers["DEK-Info"] != "":
		return nil, errors.New("its private key is encrypted in OpenSSL's old form: convert it by openssl pkcs8 -topk8 -in KEY")
	case block.Type == "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case block.Type == "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	}
	return x509.ParsePKCS8PrivateKey(block.Bytes)
}

func pemCertificates(data []byte) (out []*x509.Certificate, err error) {
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if !strings.HasSuffix(block.Type, "CERTIFICATE") {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(out)+1, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("it has no certificate")
	}
	return out, nil
}

// certificate joins a key with its chain, whose first certificate has to be the key's.
func certificate(key any, chain []*x509.Certificate) (tls.Certificate, error) {
	signer, ok := key.(crypto.Signer)
	if !ok || len(chain) == 0 {
		return tls.Certificate{}, errors.New("it has no private key with a certificate")
	}
	same := false
	switch public := signer.Public().(type) {
	case *rsa.PublicKey:
		same = public.Equal(chain[0].PublicKey)
	case *ecdsa.PublicKey:
		same = public.Equal(chain[0].PublicKey)
	case ed25519.PublicKey:
		same = public.Equal(chain[0].PublicKey)
	default:
		return tls.Certificate{}, fmt.Errorf("keys of type %T do not work for TLS", key)
	}
	if !same {
		return tls.Certificate{}, fmt.Errorf("the private key is not that of its first certificate, %s", chain[0].Subject)
	}
	out := tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}
