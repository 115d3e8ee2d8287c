// Package credentials makes a client speak to a secured cluster, by the settings that Kafka's own clients have: those of a
// --command-config file, or of a profile.
package credentials

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"kraft/cli/jaas"
)

// Keys are the settings that count, by Kafka's names; the others of a client have no effect on where and as whom it connects.
// sasl.username and sasl.password are librdkafka's, and so is ssl.ca.location.
var Keys = []string{
	"bootstrap.servers", "security.protocol", "sasl.mechanism", "sasl.jaas.config", "sasl.username", "sasl.password",
	"ssl.truststore.location", "ssl.truststore.type", "ssl.truststore.certificates", "ssl.ca.location",
	"ssl.keystore.location", "ssl.keystore.type", "ssl.keystore.certificate.chain", "ssl.keystore.key",
	"ssl.endpoint.identification.algorithm", "client.id",
}

// JAAS is the setting that has who logs in, as Java writes it.
const JAAS = "sasl.jaas.config"

// IsSecret says that a setting's value is not to be shown.
func IsSecret(key string) bool {
	return slices.Contains([]string{"sasl.password", "sasl.jaas.config", "ssl.keystore.key"}, key)
}

// Options are what settings ask for. Its errors are sentences that name the setting.
func Options(settings map[string]string) (opts []kgo.Opt, err error) {
	protocol := strings.ToUpper(settings["security.protocol"])
	if protocol == "" {
		protocol = "PLAINTEXT"
	}
	if !slices.Contains([]string{"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}, protocol) {
		return nil, fmt.Errorf("security.protocol is PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, not %s", settings["security.protocol"])
	}
	if strings.HasSuffix(protocol, "SSL") {
		config, err := tlsConfig(settings)
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(config))
	}
	if strings.HasPrefix(protocol, "SASL") {
		mechanism, err := saslMechanism(settings)
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.SASL(mechanism))
	}
	if id := settings["client.id"]; id != "" {
		opts = append(opts, kgo.ClientID(id))
	}
	return opts, nil
}

// Login is as whom a client logs in, and whom it trusts.
type Login struct {
	User, Password string // "" without SASL
	JAAS           string // its JAAS line, "" if it has none
	Authorities    string // the file of the authorities that it trusts, "" for the system's
	token          bool   // the user is a delegation token
}

// LoginOf reads as whom a client with some settings logs in.
func LoginOf(settings map[string]string) (l Login, err error) {
	l = Login{User: settings["sasl.username"], Password: settings["sasl.password"], JAAS: settings["sasl.jaas.config"], Authorities: settings["ssl.truststore.location"]}
	if l.JAAS == "" {
		return l, nil
	}
	entry, err := jaas.Parse(l.JAAS)
	if err != nil {
		return l, fmt.Errorf("sasl.jaas.config: %w", err)
	}
	if name := entry.Options["username"]; name != "" {
		l.User, l.Password, l.token = name, entry.Options["password"], strings.EqualFold(entry.Options["tokenauth"], "true")
	}
	return l, nil
}

func saslMechanism(settings map[string]string) (sasl.Mechanism, error) {
	login, err := LoginOf(settings)
	if err != nil {
		return nil, err
	}
	auth := scram.Auth{User: login.User, Pass: login.Password, IsToken: login.token}
	if auth.User == "" {
		return nil, errors.New("security.protocol asks for SASL, and neither sasl.jaas.config nor sasl.username says who")
	}
	switch name := settings["sasl.mechanism"]; strings.ToUpper(name) {
	case "PLAIN":
		return plain.Auth{User: auth.User, Pass: auth.Pass}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return auth.AsSha256Mechanism(), nil
	case "SCRAM-SHA-512":
		return auth.AsSha512Mechanism(), nil
	default:
		return nil, fmt.Errorf("sasl.mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, not %q", name)
	}
}

func tlsConfig(settings map[string]string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	authorities, err := pemOf(settings, "ssl.truststore", "certificates")
	if err != nil {
		return nil, err
	}
	if path := settings["ssl.ca.location"]; authorities == nil && path != "" {
		if authorities, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("ssl.ca.location: %w", err)
		}
	}
	if authorities != nil {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, errors.New("ssl.truststore.* holds no certificate in PEM")
		}
	}
	chain, err := pemOf(settings, "ssl.keystore", "certificate.chain")
	if err != nil {
		return nil, err
	}
	if chain != nil {
		key := []byte(settings["ssl.keystore.key"])
		if len(key) == 0 {
			key = chain // a file that has both
		}
		pair, err := tls.X509KeyPair(chain, key)
		if err != nil {
			return nil, fmt.Errorf("ssl.keystore.*: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if algorithm, set := settings["ssl.endpoint.identification.algorithm"]; set && strings.TrimSpace(algorithm) == "" {
		verifyChainOnly(config)
	}
	return config, nil
}

// verifyChainOnly checks who signed a broker's certificate, but not the broker's name, as an empty
// ssl.endpoint.identification.algorithm has it.
func verifyChainOnly(config *tls.Config) {
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(s tls.ConnectionState) error {
		opts := x509.VerifyOptions{Roots: config.RootCAs, Intermediates: x509.NewCertPool()}
		for _, c := range s.PeerCertificates[1:] {
			opts.Intermediates.AddCert(c)
		}
		_, err := s.PeerCertificates[0].Verify(opts)
		return err
	}
}

// pemOf is what a store holds: given in the setting itself (KIP-651), or in a file of PEM.
func pemOf(settings map[string]string, store, inline string) ([]byte, error) {
	if text := settings[store+"."+inline]; text != "" {
		return []byte(text), nil
	}
	path := settings[store+".location"]
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s.location: %w", store, err)
	}
	if !strings.Contains(string(data), "-----BEGIN ") {
		return nil, fmt.Errorf("%s is no PEM, which is what kraft's client reads (%s.type=PEM): keytool and openssl make one of a Java key store", path, store)
	}
	return data, nil
}
