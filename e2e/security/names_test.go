package security

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kraft/e2e/harness"
	"kraft/wire/ssl"
)

// TestNames: kraft calls generated subjects of certificates what Java calls them.
func TestNames(t *testing.T) {
	harness.Need(t, "java")
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	attributes := []asn1.ObjectIdentifier{{2, 5, 4, 3}, {2, 5, 4, 10}, {2, 5, 4, 11}, {2, 5, 4, 6}, {2, 5, 4, 7}, {2, 5, 4, 8}, {2, 5, 4, 9}, {0, 9, 2342, 19200300, 100, 1, 25}, {0, 9, 2342, 19200300, 100, 1, 1},
		{1, 2, 840, 113549, 1, 9, 1}, {2, 5, 4, 5}, {2, 5, 4, 42}, {2, 5, 4, 17}}
	pieces := []string{"a", "Zz", " ", "  ", ",", "=", "+", "<", ">", "#", ";", "\"", "\\", "ä", "日", "1", ".", "-", "\n"}
	file := filepath.Join(t.TempDir(), "certs.pem")
	var text []byte
	var want []string
	for range 300 {
		var rdns pkix.RDNSequence
		for range 1 + r.IntN(4) {
			var set pkix.RelativeDistinguishedNameSET
			for range 1 + r.IntN(8)/7 {
				value := "x"
				for range r.IntN(5) {
					value += pieces[r.IntN(len(pieces))]
				}
				if r.IntN(4) == 0 {
					value = strings.TrimPrefix(value, "x") + "y"
				}
				set = append(set, pkix.AttributeTypeAndValue{Type: attributes[r.IntN(len(attributes))], Value: value})
			}
			rdns = append(rdns, set)
		}
		raw, err := asn1.Marshal(rdns)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), RawSubject: raw, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(crand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		name, err := ssl.DistinguishedName(c)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, strings.ReplaceAll(name, "\n", "\\n"))
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := harness.Run(ctx, exec.Command("java", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", filepath.Join("testdata", "Names.java"), file))
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Split(strings.TrimRight(out, "\n"), "\n")
	if len(names) != len(want) {
		t.Fatalf("%d names of %d", len(names), len(want))
	}
	for i, java := range names {
		if java != want[i] {
			t.Errorf("Java: %s, kraft: %s", java, want[i])
		}
	}
}
