package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

// certificate writes a key and a certificate that signs itself, for 127.0.0.1, as PEM, and returns the files.
func certificate(t *testing.T, dir string) (both, cert string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kafka"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	both, cert = filepath.Join(dir, "both.pem"), filepath.Join(dir, "cert.pem")
	for path, data := range map[string][]byte{both: append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), public...), cert: public} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return both, cert
}

// TestProfiles: commands and scripts log in to a secured Apache Kafka with what a profile, or a --command-config, says.
func TestProfiles(t *testing.T) {
	dir := t.TempDir()
	both, cert := certificate(t, dir)
	ports := make([]int, 3) // plain, sasl, tls
	for i := range ports {
		var err error
		if ports[i], err = freeport.Get(); err != nil {
			t.Fatal(err)
		}
	}
	at := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	controller, err := freeport.Get()
	if err != nil {
		t.Fatal(err)
	}
	listeners := fmt.Sprintf("PLAINTEXT://%s,SASL://%s,TLS://%s", at(0), at(1), at(2))
	harness.NewKafka(t,
		"listeners="+listeners+fmt.Sprintf(",CONTROLLER://127.0.0.1:%d", controller), "advertised.listeners="+listeners, fmt.Sprintf("controller.quorum.voters=1@127.0.0.1:%d", controller),
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SASL_SSL", "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512",
		`listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_me="secret";`,
		"listener.name.sasl.sasl.enabled.mechanisms=PLAIN", "listener.name.tls.sasl.enabled.mechanisms=SCRAM-SHA-512",
		`listener.name.tls.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;`,
		"ssl.keystore.type=PEM", "ssl.keystore.location="+both, "ssl.truststore.type=PEM", "ssl.truststore.location="+cert)
	cl, err := kgo.NewClient(kgo.SeedBrokers(at(0)))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	scram := kadm.UpsertSCRAM{User: "me", Mechanism: kadm.ScramSha512, Iterations: 4096, Password: "secret"}
	if r, err := kadm.NewClient(cl).AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{scram}); err != nil || r.Error() != nil {
		t.Fatal(err, r.Error())
	}

	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(dir, "kept", "profiles.json")
	kraft := func(args ...string) (string, error) {
		cmd := exec.Command(bin, args...)
		cmd.Env = append(os.Environ(), "KRAFT_PROFILES="+store)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, step := range []struct{ args, says string }{
		{"profile list", "PROFILE"},
		{"profile create plain -b " + at(0), "is kept"},
		{"topic create orders -p 1", "created topic orders"},
		{"profile create sasl -b " + at(1) + " -X security.protocol=SASL_PLAINTEXT -X sasl.mechanism=PLAIN -X sasl.username=me -X sasl.password=secret", "is kept"},
		{"topic list", "orders"},
		{"profile create tls -b " + at(2) + " -X security.protocol=SASL_SSL -X sasl.mechanism=SCRAM-SHA-512 -X sasl.username=me -X sasl.password=secret -X ssl.truststore.location=" + cert, "is kept"},
		{"topic list", "orders"},
		{"topic list -b @sasl", "orders"},
		{"topic list -b " + at(0), "orders"},
		{"profile use plain", "is used from now on"},
		{"profile show tls", "(hidden)"},
		{"profile list", "SASL_SSL"},
		{"topic list --bootstrap-server=@plain", "orders"},
		{"profile delete plain", "forgot plain"},
	} {
		if out, err := kraft(strings.Fields(step.args)...); err != nil || !strings.Contains(out, step.says) {
			t.Errorf("kraft %s: %v: %s", step.args, err, out)
		}
	}
	if info, err := os.Stat(store); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of profiles: %v (%v)", info, err)
	}
	for args, says := range map[string]string{
		"topic list -b @nobody": `there is no profile "nobody", there are sasl, tls`,
		"profile create x":      "give the profile a broker",
		"profile create x -b h:1 -X security.protocol=LOUD":                                      "security.protocol is PLAINTEXT",
		"profile create x -b h:1 -X no.such=1":                                                   "-X takes KEY=VALUE, with KEY one of",
		"profile create x -b h:1 -X security.protocol=SASL_SSL":                                  "says who",
		"profile create x -b h:1 -X security.protocol=SSL -X ssl.truststore.location=" + store:   "is no PEM",
		"profile create x -b h:1 -X security.protocol=SSL -X ssl.truststore.location=/no/such/x": "ssl.truststore.location",
	} {
		out, err := kraft(strings.Fields(args)...)
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 2 || !strings.Contains(out, says) {
			t.Errorf("kraft %s: %v: %s", args, err, out)
		}
	}

	client := filepath.Join(dir, "client.properties")
	if err := os.WriteFile(client, []byte(`security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="me" password="secret";
ssl.truststore.type=PEM
ssl.truststore.location=`+cert+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := kraft("kafka-topics", "--bootstrap-server", at(2), "--command-config", client, "--list"); err != nil || !strings.Contains(out, "orders") {
		t.Errorf("kafka-topics: %v: %s", err, out)
	}
	if out, err := kraft("profile", "create", "file", "-b", at(2), "--command-config", client); err != nil {
		t.Errorf("a profile of a file: %v: %s", err, out)
	}
	if out, err := kraft("topic", "list"); err != nil || !strings.Contains(out, "orders") {
		t.Errorf("with a profile of a file: %v: %s", err, out)
	}
}
