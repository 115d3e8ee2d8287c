package command

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"kraft/cli/config"
	"kraft/cli/ops"
	"kraft/raftmeta/image"
	"kraft/wire/sasl"
)

// devSecurity is what a kraft dev --secure has in its directory, below secureDir: an authority, a certificate that all brokers share, and passwords.
type devSecurity struct {
	dir       string
	cert      *ops.Issued
	passwords devPasswords
	begins    bool // it was made now, for a cluster that begins
}

// devPasswords are the passwords of the users with which the cluster begins. Both are super users.
type devPasswords struct {
	Admin  string `json:"admin"`  // for people
	Broker string `json:"broker"` // by which brokers log in to each other
}

const (
	secureDir        = "secure"
	passwordsFile    = "passwords.json"
	adminSettings    = "admin.properties"      // of Java clients, and of kraft's own commands
	librdkafkaConfig = "librdkafka.properties" // the same for librdkafka
	devCertificate   = "broker"
	devCertLife      = 397 * 24 * time.Hour
)

// secureFiles are all files below secureDir.
var secureFiles = []string{"ca.pem", "ca.key", devCertificate + ".pem", devCertificate + ".properties", passwordsFile, adminSettings, librdkafkaConfig}

// secure finds the security of the cluster in a directory, or makes it for --secure; nil if the cluster has none.
func secure(c *cli.Context, dir string) (*devSecurity, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &devSecurity{dir: filepath.Join(dir, secureDir)}
	data, err := os.ReadFile(filepath.Join(s.dir, passwordsFile))
	brokers, single := devHolds(dir)
	holds := brokers > 0 || single
	switch {
	case err == nil:
		if err := json.Unmarshal(data, &s.passwords); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(s.dir, passwordsFile), err)
		}
		s.begins = !holds
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case !c.Bool("secure"):
		return nil, nil
	case holds:
		return nil, badUse("%s holds a cluster without security: add --fresh to remove it and begin anew, or give another directory by --data", dir)
	default:
		s.passwords, s.begins = devPasswords{rand.Text(), rand.Text()}, true
	}
	authority, err := ops.OpenAuthority(s.dir)
	if err != nil {
		return nil, err
	}
	if s.cert, err = authority.Issue(devCertificate, []string{"localhost", "127.0.0.1", "::1"}, devCertLife); err != nil { // again with each start: it never expires
		return nil, err
	}
	return s, s.write()
}

// write writes the files for clients. The passwords come last: with them the directory is complete.
func (s *devSecurity) write() error {
	var java, librdkafka strings.Builder
	fmt.Fprintf(&java, "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nssl.truststore.type=PEM\nssl.truststore.location=%s\nsasl.jaas.config=%s\n", s.cert.TrustStore, s.jaas("admin", s.passwords.Admin))
	fmt.Fprintf(&librdkafka, "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nssl.ca.location=%s\nsasl.username=admin\nsasl.password=%s\n", s.cert.TrustStore, s.passwords.Admin)
	passwords, err := json.Marshal(s.passwords)
	for _, f := range []struct {
		name string
		text []byte
	}{{adminSettings, []byte(java.String())}, {librdkafkaConfig, []byte(librdkafka.String())}, {passwordsFile, passwords}} {
		if err == nil {
			err = os.WriteFile(filepath.Join(s.dir, f.name), f.text, 0o600)
		}
	}
	return err
}

func (s *devSecurity) jaas(user, password string) string {
	return fmt.Sprintf(`org.apache.kafka.common.security.scram.ScramLoginModule required username="%s" password="%s";`, user, password)
}

// admin is the file with the settings of the user admin.
func (s *devSecurity) admin() string { return filepath.Join(s.dir, adminSettings) }

// apply changes a node's settings: clients and brokers log in by SCRAM over TLS, and members of the quorum, whose door is this node's listener for
// them if there are others, know each other by their certificate.
func (s *devSecurity) apply(values map[string]string, door string) {
	const clients, members = "CLIENTS", "CONTROLLER"
	_, port, _ := strings.Cut(values["listeners"], "://")
	values["listeners"] = clients + "://" + port
	maps.Copy(values, map[string]string{
		"listener.security.protocol.map": clients + ":SASL_SSL," + members + ":SSL", "inter.broker.listener.name": clients,
		"sasl.enabled.mechanisms": sasl.SHA256.Name + "," + sasl.SHA512.Name, "sasl.mechanism.inter.broker.protocol": sasl.SHA512.Name,
		"listener.name.clients.scram-sha-512.sasl.jaas.config": s.jaas("broker", s.passwords.Broker),
		"ssl.keystore.type": "PEM", "ssl.keystore.location": s.cert.KeyStore, "ssl.truststore.type": "PEM", "ssl.truststore.location": s.cert.TrustStore,
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users":           "User:admin;User:broker;User:" + s.cert.Principal,
	})
	if door != "" {
		values["listeners"] += "," + members + "://" + door
		values["controller.listener.names"] = members
		values["listener.name.controller.ssl.client.auth"] = "required"
	}
}

// firstUsers has a node that begins a cluster begin it with the users.
func (s *devSecurity) firstUsers(dir string) error {
	if !s.begins {
		return nil
	}
	var users []image.ScramCredential
	for user, password := range map[string]string{"admin": s.passwords.Admin, "broker": s.passwords.Broker} {
		for _, h := range []sasl.Hash{sasl.SHA256, sasl.SHA512} {
			c, err := config.FirstUser(user, password, h, []byte(rand.Text()))
			if err != nil {
				return err
			}
			users = append(users, c)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return config.WriteFirstUsers(dir, users)
}

// tell prints how to connect.
func (s *devSecurity) tell(w io.Writer, address string) {
	fmt.Fprintln(w, "login               SASL_SSL, SCRAM-SHA-512, user admin; kraft's commands find it by themselves")
	fmt.Fprintln(w, "Java, Kafka's tools --command-config "+s.admin())
	fmt.Fprintln(w, "kcat                kcat -F "+filepath.Join(s.dir, librdkafkaConfig)+" -b "+address+" -L")
	fmt.Fprintf(w, "a user              %[1]s user set alice --generate, %[1]s acl grant alice consume --topic orders --group billing\n", called())
}

// removeSecurity removes what a kraft dev --secure left in a directory.
func removeSecurity(dir string) {
	for _, name := range secureFiles {
		_ = os.Remove(filepath.Join(dir, secureDir, name))
	}
	_ = os.Remove(filepath.Join(dir, secureDir))
}
