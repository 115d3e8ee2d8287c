package security

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

// TestScramAsKafka: generated requests that change and describe SCRAM credentials, right and wrong ones, have the same answers as Apache Kafka
// 4.4.0's.
func TestScramAsKafka(t *testing.T) {
	addresses := []string{harness.NewKafka(t).Addr, harness.NewKraft(t).Addr}
	var clients []*kgo.Client
	for _, a := range addresses {
		cl, err := kgo.NewClient(kgo.SeedBrokers(a))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		clients = append(clients, cl)
	}
	r := rand.New(rand.NewPCG(1, 1))
	pick := func(of ...int) int { return of[r.IntN(len(of))] }
	user := func() string { return []string{"a", "b", "c", "a,b=c", "日本", ""}[pick(0, 0, 0, 1, 1, 2, 3, 4, 5)] }
	var told []string
	for range 300 {
		var req kmsg.Request
		if r.IntN(3) == 0 {
			d := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
			for range r.IntN(4) {
				d.Users = append(d.Users, kmsg.DescribeUserSCRAMCredentialsRequestUser{Name: user()})
			}
			req = d
		} else {
			a := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
			for range r.IntN(2) {
				a.Deletions = append(a.Deletions, kmsg.AlterUserSCRAMCredentialsRequestDeletion{Name: user(), Mechanism: int8(pick(1, 1, 2, 2, 0, 3, -1))})
			}
			// Apache Kafka loses a credential that is set in the request that deletes the mechanism's only other one: deletions come alone, or fail.
			if len(a.Deletions) > 0 && r.IntN(2) == 0 {
				a.Deletions[0].Name = "missing"
			}
			for range r.IntN(3) {
				if len(a.Deletions) > 0 && a.Deletions[0].Name != "missing" {
					break
				}
				a.Upsertions = append(a.Upsertions, kmsg.AlterUserSCRAMCredentialsRequestUpsertion{
					Name: user(), Mechanism: int8(pick(1, 1, 1, 2, 2, 0, 3)), Iterations: int32(pick(4096, 4096, 8192, 16384, 4095, 16385, -1, 0)), Salt: []byte("salt"), SaltedPassword: make([]byte, 32),
				})
			}
			req = a
		}
		answers := make([]string, len(clients))
		for i, cl := range clients {
			answers[i] = ask(t, cl, req)
		}
		if _, describes := req.(*kmsg.DescribeUserSCRAMCredentialsRequest); describes { // Apache Kafka's broker hears of changes after the client
			_ = harness.Eventually(2*time.Second, func() error {
				if answers[0] = ask(t, clients[0], req); answers[0] != answers[1] {
					return errors.New("it has not heard")
				}
				return nil
			})
		}
		if answers[0] != answers[1] {
			t.Fatalf("%s%+v\nApache Kafka: %s\nkraft:        %s", strings.Join(told, "\n"), req, answers[0], answers[1])
		}
		told = append(told, fmt.Sprintf("%+v\n    %s", req, answers[0]))
	}
}

// ask sends a request, and says what comes back; users are in no order.
func ask(t *testing.T, cl *kgo.Client, req kmsg.Request) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp, err := cl.Request(ctx, req)
	if err != nil {
		return err.Error()
	}
	said := func(code int16, message *string) string {
		if message == nil {
			return fmt.Sprint(kerr.ErrorForCode(code))
		}
		return fmt.Sprintf("%v, %q", kerr.ErrorForCode(code), *message)
	}
	var lines []string
	switch r := resp.(type) {
	case *kmsg.AlterUserSCRAMCredentialsResponse:
		for _, u := range r.Results {
			lines = append(lines, fmt.Sprintf("%q: %s", u.User, said(u.ErrorCode, u.ErrorMessage)))
		}
	case *kmsg.DescribeUserSCRAMCredentialsResponse:
		lines = append(lines, said(r.ErrorCode, r.ErrorMessage))
		for _, u := range r.Results {
			var has []string
			for _, c := range u.CredentialInfos {
				has = append(has, fmt.Sprint(c.Mechanism, "*", c.Iterations))
			}
			sort.Strings(has)
			lines = append(lines, fmt.Sprintf("%q: %s %v", u.User, said(u.ErrorCode, u.ErrorMessage), has))
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "; ")
}

// TestFirstUsers: users of kafka-storage format --add-scram log in from the first start on. What cannot be a credential is
// refused.
func TestFirstUsers(t *testing.T) {
	kraft, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	port, err := freeport.Get()
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	b := &broker{addresses: map[string]string{"SASL_PLAINTEXT": fmt.Sprintf("localhost:%d", port)}}
	file := filepath.Join(t.TempDir(), "server.properties")
	if err := os.WriteFile(file, []byte(strings.Join([]string{"node.id=1", "listeners=SASL_PLAINTEXT://" + b.addresses["SASL_PLAINTEXT"], "sasl.enabled.mechanisms=SCRAM-SHA-512", "log.dirs=" + data}, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(kraft, "kafka-storage", "format", "--config", file, "--cluster-id", "AAAAAAAAAAAAAAAAAAAAAg", "--add-scram", "SCRAM-SHA-512=[name=alice,password="+password+"]",
		"--add-scram", `SCRAM-SHA-512=[name="admin",iterations=8192,password=other]`).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.Kraft = harness.Node(b.addresses["SASL_PLAINTEXT"], data, "server", file)
	t.Cleanup(func() { b.Kill() })
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	if err := franz(t, b, way{"SASL_PLAINTEXT", "SCRAM-SHA-512"}, "alice", password, "first"); err != nil {
		t.Error(err)
	}
	if err := franz(t, b, way{"SASL_PLAINTEXT", "SCRAM-SHA-512"}, "admin", "wrong", "first"); err == nil {
		t.Error("a wrong password is taken")
	}
	for value, says := range map[string]string{
		"SCRAM-SHA-1=[name=a,password=b]": "the mechanism is", "SCRAM-SHA-256=name=a": "is [name=alice", "SCRAM-SHA-256=[password=b]": "name is missing", "SCRAM-SHA-256=[name=a]": "one of password and saltedpassword",
		"SCRAM-SHA-256=[name=a,password=b,iterations=1]": "from 4096 to 16384", "SCRAM-SHA-256=[name=a,saltedpassword=Zm9v]": "needs its salt", "SCRAM-SHA-256=[name=a,secret=b]": "no value of them can have a comma",
	} {
		out, err := exec.Command(kraft, "kafka-storage", "format", "--config", file, "--cluster-id", "AAAAAAAAAAAAAAAAAAAAAg", "--add-scram", value).CombinedOutput()
		if err == nil || !strings.Contains(string(out), says) {
			t.Errorf("%s: %v %s", value, err, out)
		}
	}
}
