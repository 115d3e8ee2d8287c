package e2e

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

// TestInsideAndOutside: clients of each listener are told that listener's address, and kraft doctor says where that cannot work.
func TestInsideAndOutside(t *testing.T) {
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	var ports [3]int
	for i := range ports {
		if ports[i], err = freeport.Get(); err != nil {
			t.Fatal(err)
		}
	}
	inside, outside := fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.2:%d", ports[1])
	start := func(advertised string) *harness.Process {
		t.Helper()
		p, err := harness.Start(exec.Command(bin, "--node-id", "1", "--data", t.TempDir(), "--listeners", "INSIDE://"+inside+",OUTSIDE://"+outside,
			"--advertised-listeners", advertised, "--override", "listener.security.protocol.map=INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT", "--override", "inter.broker.listener.name=INSIDE"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		if err := harness.Says(p, "listener OUTSIDE listens on "+outside, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		return p
	}
	told := func(address string) string {
		t.Helper()
		c := dial(t, address)
		req := kmsg.NewPtrMetadataRequest()
		req.Version = 12
		b := c.ask(req).(*kmsg.MetadataResponse).Brokers[0]
		return net.JoinHostPort(b.Host, fmt.Sprint(b.Port))
	}
	examine := func(address string) (string, error) {
		out, err := exec.Command(bin, "doctor", "--from-here", address).CombinedOutput()
		return string(out), err
	}
	p := start("INSIDE://" + inside + ",OUTSIDE://" + outside)
	for _, address := range []string{inside, outside} {
		if got := told(address); got != address {
			t.Errorf("clients of %s are told %s", address, got)
		}
		if out, err := examine(address); err != nil || !strings.Contains(out, "broker 1 at "+address+"  answers") {
			t.Errorf("doctor at %s: %v\n%s", address, err, out)
		}
	}
	if err := p.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	wrong := fmt.Sprintf("localhost:%d", ports[2])
	p = start("INSIDE://" + inside + ",OUTSIDE://" + wrong)
	if out, err := examine(outside); err == nil || !strings.Contains(out, "clients of "+outside+" are sent there, and nobody listens there; localhost means each client's own machine") {
		t.Errorf("doctor does not see that %s is wrong: %v\n%s", wrong, err, out)
	}
	if err := p.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
}
