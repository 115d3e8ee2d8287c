package quotas

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
	"kraft/internal/freeport"
)

// TestQuotasInACluster: brokers, who log in as nobody in particular, go on under quotas that hardly let anybody do anything. A request that is
// forwarded is throttled by the controller, on the connection that the client has.
func TestQuotasInACluster(t *testing.T) {
	c := harness.NewCluster(t, 3)
	c.Nodes[0].CLI(t, "", "topic", "create", "t", "--partitions", "3", "--replication-factor", "3")
	c.Nodes[0].CLI(t, "", "quota", "set", "--user", "*", "produce=1", "fetch=1", "time=0.0001", "mutations=0.1")
	err := harness.Eventually(20*time.Second, func() error {
		for _, broker := range c.Bootstrap() { // each has heard of the quotas
			cl, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ClientID("asks"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := kmsg.NewPtrDescribeClientQuotasRequest().RequestWith(t.Context(), cl)
			cl.Close()
			if err != nil || len(resp.Entries) != 1 || len(resp.Entries[0].Values) != 4 {
				return fmt.Errorf("%s: %v", broker, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) error {
		cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap()...), kgo.DefaultProduceTopic("t"), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.DisableIdempotentWrite())
		if err != nil {
			return err
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		return cl.ProduceSync(ctx, kgo.StringRecord(text)).FirstErr()
	}
	for i := range 5 { // followers fetch as ever, and a new client each time is served at once
		begun := time.Now()
		if err := write(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("a record took %v", took)
		}
	}
	for i := range c.Bootstrap() { // one of them is the controller, others forward
		conn, err := net.Dial("tcp", c.Bootstrap()[i])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		cl := &client{conn, "creates"}
		codes, millis := create(t, cl, 5, false, 2)
		if codes != " 0" || millis < 5000 {
			t.Errorf("node %d: topics are created with%s, throttled for %d ms", i+1, codes, millis)
		}
		begun := time.Now()
		_ = conn.SetReadDeadline(begun.Add(1500 * time.Millisecond))
		cl.send(t, &kmsg.ApiVersionsRequest{Version: 0})
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("node %d: the connection goes on after %v", i+1, time.Since(begun))
		}
	}
	leader := c.Nodes[0]
	leader.Kill()
	if err := harness.Eventually(20*time.Second, func() error { return write("after") }); err != nil {
		t.Errorf("after a broker was killed: %v", err)
	}
}

// TestQuotaCommands: what kraft quota sets is in force, listed, told by metrics and the log, and removed.
func TestQuotaCommands(t *testing.T) {
	admin := freeport.For(t)
	k := harness.NewKraft(t, "--log-level", "info", "--override", fmt.Sprintf("admin.listener=localhost:%d", admin))
	k.CLI(t, "", "topic", "create", "t")
	if out := k.CLI(t, "", "quota", "set", "produce=100KiB", "time=50", "--client", "busy"); !strings.Contains(out, "busy") || !strings.Contains(out, "100.0 KiB/s") {
		t.Error(out)
	}
	k.CLI(t, "", "quota", "set", "fetch=1MB", "--user", "*", "--client", "busy")
	k.CLI(t, "", "quota", "set", "connections=1000", "--address", "*")
	want := []string{"USER CLIENT ADDRESS QUOTA VALUE", "- busy - produce 100.0 KiB/s", "- busy - time 50 %", "- - * connections 1000/s", "* busy - fetch 976.6 KiB/s"}
	var got []string
	for line := range strings.Lines(k.CLI(t, "", "quota", "list")) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	for _, line := range want {
		if !strings.Contains(strings.Join(got, "\n"), line) {
			t.Errorf("kraft quota list has no %q: %q", line, got)
		}
	}
	conn, err := net.Dial("tcp", k.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := &client{conn, "busy"}
	if err := harness.Eventually(5*time.Second, func() error {
		req := produce("t", 900_000)
		req.Topics[0].Topic = "t"
		for range 2 {
			if throttle(c.ask(t, req)) > 0 {
				return nil
			}
		}
		return errors.New("the client is not throttled")
	}); err != nil {
		t.Error(err)
	}
	_, metrics := harness.Scrape(t, fmt.Sprintf("localhost:%d", admin), "/metrics")
	if !strings.Contains(metrics, `kraft_throttled_total{quota="producer_byte_rate"} 1`) {
		t.Errorf("metrics: %.2000s", metrics)
	}
	if !strings.Contains(k.Output(), "throttled a client") {
		t.Error("the log does not say who is throttled")
	}
	k.CLI(t, "", "quota", "remove", "--client", "busy", "--yes")
	if out := k.CLI(t, "", "quota", "list", "--client", "busy"); strings.Contains(out, "produce") || !strings.Contains(out, "fetch") {
		t.Errorf("after they were removed: %s", out)
	}
	for _, args := range [][]string{
		{"set", "produce=1"}, {"set", "produce", "--user", "a"}, {"set", "nosuch=1", "--user", "a"}, {"set", "produce=x", "--user", "a"}, {"set", "produce=0", "--user", "a"},
		{"set", "produce=1", "--user", "a", "--address", "10.0.0.1"}, {"remove", "produce", "--user", "nobody", "--yes"}, {"set", "connections=1", "--user", "a"},
	} {
		if out, err := k.TryCLI(t, "", append([]string{"quota"}, args...)...); err == nil {
			t.Errorf("kraft quota %v: %s", args, out)
		}
	}
}

// TestListenerLimits: a listener has limits of its own, which change while the broker runs, and that of other brokers is let in where clients are not.
func TestListenerLimits(t *testing.T) {
	clients, brokers := freeport.For(t), freeport.For(t)
	k := harness.Node(fmt.Sprintf("localhost:%d", clients), "", "--node-id", "1", "--data", t.TempDir(),
		"--override", fmt.Sprintf("listeners=CLIENTS://localhost:%d,BROKERS://localhost:%d", clients, brokers),
		"--override", "listener.security.protocol.map=CLIENTS:PLAINTEXT,BROKERS:PLAINTEXT", "--override", "inter.broker.listener.name=BROKERS",
		"--override", "listener.name.clients.max.connections=4")
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Kill)
	var open []net.Conn
	t.Cleanup(func() {
		for _, c := range open {
			_ = c.Close()
		}
	})
	// connect says whether a new connection is answered within some time.
	connect := func(port int, patience time.Duration) bool {
		t.Helper()
		conn, err := net.Dial("tcp", fmt.Sprintf("localhost:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		c := &client{conn, "counts"}
		_, _ = conn.Write(kmsg.NewRequestFormatter().AppendRequest(nil, &kmsg.ApiVersionsRequest{Version: 0}, 1))
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(c, make([]byte, 8)); err != nil {
			_ = conn.Close()
			return false
		}
		open = append(open, conn)
		return true
	}
	served := 0
	for range 8 {
		if connect(clients, time.Second) {
			served++
		}
	}
	if served != 4 {
		t.Errorf("%d connections of 4 are served", served)
	}
	config := func(settings ...string) {
		t.Helper()
		bootstrap := fmt.Sprintf("localhost:%d", brokers) // where there is room
		k.CLI(t, "", append([]string{"config", "set", "--all-brokers", "-b", bootstrap}, settings...)...)
	}
	config("listener.name.clients.max.connections=6")
	if err := harness.Eventually(5*time.Second, func() error {
		if !connect(clients, time.Second) {
			return errors.New("not served after the limit was raised")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	config("max.connections=3", "listener.name.clients.max.connections=100")
	if err := harness.Eventually(5*time.Second, func() error {
		if connect(clients, time.Second) {
			return errors.New("a client is served over the limit")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	before := len(open)
	if !connect(brokers, time.Second) {
		t.Error("a broker is not let in")
	}
	closed := 0
	for _, c := range open[:before] {
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if _, err := io.Copy(io.Discard, c); !errors.Is(err, os.ErrDeadlineExceeded) {
			closed++
		}
	}
	if closed == 0 {
		t.Errorf("no client of %d had to go for it: %s", before, k.Output())
	}
	if out, err := k.TryCLI(t, "", "config", "set", "--all-brokers", "-b", fmt.Sprintf("localhost:%d", brokers), "listener.name.clients.max.connections=many"); err == nil {
		t.Errorf("many connections: %s", out)
	}
	config("max.connections=1000", "listener.name.clients.max.connection.creation.rate=1")
	if err := harness.Eventually(20*time.Second, func() error {
		for range 12 {
			if !connect(clients, 300*time.Millisecond) {
				return nil
			}
		}
		return errors.New("clients connect as fast as they like")
	}); err != nil {
		t.Error(err)
	}
	if !connect(brokers, time.Second) {
		t.Error("a broker waits for clients")
	}
	if strings.Contains(k.Output(), "no effect") {
		t.Error(k.Output())
	}
}
