// Package quotas has clients take more than their quotas allow of kraft and of Apache Kafka, and compares for how long they are throttled.
package quotas

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
	"kraft/wire/record"
)

func TestMain(m *testing.M) { harness.Main(m) }

const users = 64 // u0 and so on, whose passwords are their names

// both are the two brokers, by name, as addresses of a listener with SASL.
func both(t *testing.T) map[string]string {
	t.Helper()
	jaas := `org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="admin" user_admin="admin"`
	for i := range users {
		jaas += fmt.Sprintf(` user_u%d="u%d"`, i, i)
	}
	settings := []string{
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:SASL_PLAINTEXT", "inter.broker.listener.name=PLAINTEXT", "sasl.mechanism.inter.broker.protocol=PLAIN",
		"sasl.enabled.mechanisms=PLAIN", "listener.name.plaintext.plain.sasl.jaas.config=" + jaas + ";", "group.initial.rebalance.delay.ms=0",
	}
	var args []string
	for _, s := range settings {
		args = append(args, "--override", s)
	}
	kraft, kafka := harness.NewKraft(t, args...), harness.NewKafka(t, settings...)
	return map[string]string{"kraft": kraft.Addr, "kafka": kafka.Addr}
}

// client is a connection of a user.
type client struct {
	net.Conn
	id string
}

func dial(t testing.TB, address, user, id string) *client {
	t.Helper()
	tcp, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	c := &client{tcp, id}
	c.ask(t, &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: "PLAIN"})
	if resp := c.ask(t, &kmsg.SASLAuthenticateRequest{Version: 1, SASLAuthBytes: []byte("\x00" + user + "\x00" + user)}); resp.(*kmsg.SASLAuthenticateResponse).ErrorCode != 0 {
		t.Fatalf("%s cannot log in", user)
	}
	return c
}

func (c *client) send(t testing.TB, req kmsg.Request) {
	t.Helper()
	if _, err := c.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID(c.id)).AppendRequest(nil, req, 7)); err != nil {
		t.Fatal(err)
	}
}

func (c *client) receive(t testing.TB, req kmsg.Request) kmsg.Response {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		t.Fatalf("%T: %v", req, err)
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	if _, err := io.ReadFull(c, body); err != nil {
		t.Fatal(err)
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if resp.IsFlexible() {
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		t.Fatalf("%T: %v", req, err)
	}
	return resp
}

func (c *client) ask(t testing.TB, req kmsg.Request) kmsg.Response {
	t.Helper()
	c.send(t, req)
	return c.receive(t, req)
}

// throttle is for how long an answer says that the client is throttled, in milliseconds.
func throttle(resp kmsg.Response) int {
	millis, _ := resp.(kmsg.ThrottleResponse).Throttle()
	return int(millis)
}

// entity is who a quota is for: user and client id, "" for neither, "*" for all that have none of their own.
type entity struct{ user, id string }

func (e entity) parts() (out []kmsg.AlterClientQuotasRequestEntryEntity) {
	for kind, name := range map[string]string{"user": e.user, "client-id": e.id} {
		switch name {
		case "":
		case "*":
			out = append(out, kmsg.AlterClientQuotasRequestEntryEntity{Type: kind})
		default:
			out = append(out, kmsg.AlterClientQuotasRequestEntryEntity{Type: kind, Name: &name})
		}
	}
	return out
}

// set sets quotas of entities, all those of one key; a negative value removes one. It returns when the broker goes by them.
func set(t testing.TB, admin *client, key string, quotas map[entity]float64) {
	t.Helper()
	req := &kmsg.AlterClientQuotasRequest{Version: 1}
	for e, value := range quotas {
		op := kmsg.AlterClientQuotasRequestEntryOp{Key: key, Value: math.Abs(value), Remove: value < 0}
		req.Entries = append(req.Entries, kmsg.AlterClientQuotasRequestEntry{Entity: e.parts(), Ops: []kmsg.AlterClientQuotasRequestEntryOp{op}})
	}
	alter(t, admin, req)
}

func alter(t testing.TB, admin *client, req *kmsg.AlterClientQuotasRequest) {
	t.Helper()
	for _, e := range admin.ask(t, req).(*kmsg.AlterClientQuotasResponse).Entries {
		if e.ErrorCode != 0 {
			t.Fatal(kerr.ErrorForCode(e.ErrorCode), *e.ErrorMessage)
		}
	}
	if err := harness.Eventually(10*time.Second, func() error {
		for _, e := range req.Entries {
			ask := &kmsg.DescribeClientQuotasRequest{Version: 1, Strict: true}
			for _, part := range e.Entity {
				c := kmsg.DescribeClientQuotasRequestComponent{EntityType: part.Type, Match: part.Name}
				if part.Name == nil {
					c.MatchType = 1
				}
				ask.Components = append(ask.Components, c)
			}
			has := false
			for _, entry := range admin.ask(t, ask).(*kmsg.DescribeClientQuotasResponse).Entries {
				for _, v := range entry.Values {
					has = has || v.Key == e.Ops[0].Key && v.Value == e.Ops[0].Value
				}
			}
			if has == e.Ops[0].Remove {
				return errors.New("the broker has not heard of a quota")
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// produce is a request of about so many bytes for a topic.
func produce(topic string, size int) *kmsg.ProduceRequest {
	w := record.NewBuilder(record.None)
	w.Add(&record.Record{Timestamp: time.Now().UnixMilli(), Value: make([]byte, size)})
	batch, err := w.Build()
	if err != nil {
		panic(err) // what is not compressed cannot fail
	}
	p := kmsg.ProduceRequestTopicPartition{Partition: 0, Records: batch}
	return &kmsg.ProduceRequest{Version: 9, Acks: 1, TimeoutMillis: 10_000, Topics: []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{p}}}}
}

func create(t testing.TB, c *client, version int16, validate bool, sizes ...int32) (codes string, millis int) {
	t.Helper()
	req := &kmsg.CreateTopicsRequest{Version: version, TimeoutMillis: 30_000, ValidateOnly: validate}
	for i, n := range sizes {
		name := fmt.Sprintf("m%d-%d-%d", version, i, rand.Int())
		req.Topics = append(req.Topics, kmsg.CreateTopicsRequestTopic{Topic: name, NumPartitions: n, ReplicationFactor: 1})
	}
	resp := c.ask(t, req).(*kmsg.CreateTopicsResponse)
	for _, topic := range resp.Topics {
		codes += fmt.Sprint(" ", topic.ErrorCode)
	}
	return codes, throttle(resp)
}

// alike reports whether two throttle times are the same but for what is due to other times of the same requests.
func alike(a, b int) bool {
	slack := 150 + max(a, b)/8
	return (a == 0) == (b == 0) && max(a, b)-min(a, b) <= slack || max(a, b) <= 5
}

// compare runs a story on both brokers. It returns throttle times and what else is to be the same.
func compare(t *testing.T, name string, brokers map[string]string, story func(t *testing.T, admin *client, address string) ([]int, string)) {
	t.Run(name, func(t *testing.T) {
		times, rest := map[string][]int{}, map[string]string{}
		for broker, address := range brokers {
			times[broker], rest[broker] = story(t, dial(t, address, "admin", "admin"), address)
			t.Logf("%s: %v %s", broker, times[broker], rest[broker])
		}
		ours, theirs := times["kraft"], times["kafka"]
		same := len(ours) == len(theirs)
		for i := range min(len(ours), len(theirs)) {
			same = same && alike(ours[i], theirs[i])
		}
		if !same || rest["kraft"] != rest["kafka"] {
			t.Errorf("kraft: %v%s\nkafka: %v%s", ours, rest["kraft"], theirs, rest["kafka"])
		}
	})
}

func TestQuotasAreEnforced(t *testing.T) {
	brokers := both(t)
	for _, address := range brokers {
		admin := dial(t, address, "admin", "admin")
		resp := admin.ask(t, &kmsg.CreateTopicsRequest{Version: 7, TimeoutMillis: 30_000, Topics: []kmsg.CreateTopicsRequestTopic{{Topic: "t", NumPartitions: 1, ReplicationFactor: 1}}})
		if code := resp.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode; code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		if err := harness.Eventually(10*time.Second, func() error {
			resp := admin.ask(t, produce("t", 10)).(*kmsg.ProduceResponse)
			return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
		}); err != nil {
			t.Fatal(err)
		}
	}
	compare(t, "produced bytes", brokers, func(t *testing.T, admin *client, address string) (times []int, rest string) {
		set(t, admin, "producer_byte_rate", map[entity]float64{{id: "producing"}: 100_000})
		c := dial(t, address, "u0", "producing")
		for _, size := range []int{600_000, 600_000, 100, 100_000} {
			times = append(times, throttle(c.ask(t, produce("t", size))))
		}
		return times, ""
	})
	compare(t, "muted", brokers, func(t *testing.T, admin *client, address string) (times []int, rest string) {
		set(t, admin, "producer_byte_rate", map[entity]float64{{user: "u1"}: 80_000})
		c, other := dial(t, address, "u1", "muted"), dial(t, address, "u2", "other")
		begun := time.Now()
		millis := throttle(c.ask(t, produce("t", 1_000_000)))
		if answered := time.Since(begun); answered > 500*time.Millisecond {
			t.Errorf("%s: the answer to who is over the quota took %v", address, answered)
		}
		begun = time.Now()
		other.ask(t, produce("t", 1000))
		if waited := time.Since(begun); waited > 500*time.Millisecond {
			t.Errorf("%s: another client waited for %v", address, waited)
		}
		begun = time.Now()
		c.ask(t, &kmsg.ApiVersionsRequest{Version: 0})
		return []int{millis, int(time.Since(begun).Milliseconds())}, ""
	})
	compare(t, "no answer", brokers, func(t *testing.T, admin *client, address string) (times []int, rest string) {
		set(t, admin, "producer_byte_rate", map[entity]float64{{user: "u3"}: 80_000})
		c := dial(t, address, "u3", "silent")
		req := produce("t", 1_000_000)
		req.Acks = 0
		c.send(t, req)
		begun := time.Now()
		c.ask(t, &kmsg.ApiVersionsRequest{Version: 0})
		return []int{int(time.Since(begun).Milliseconds())}, ""
	})
	compare(t, "fetched bytes", brokers, func(t *testing.T, admin *client, address string) (times []int, rest string) {
		for range 8 {
			admin.ask(t, produce("t", 500_000))
		}
		set(t, admin, "consumer_byte_rate", map[entity]float64{{user: "*", id: "fetching"}: 300_000})
		for _, version := range []int16{4, 11} {
			c := dial(t, address, fmt.Sprint("u", version), "fetching")
			for range 3 {
				req := kmsg.NewPtrFetchRequest()
				req.Version, req.MaxBytes, req.SessionEpoch = version, 50_000_000, 0
				p := kmsg.NewFetchRequestTopicPartition()
				p.PartitionMaxBytes = 50_000_000
				req.Topics = []kmsg.FetchRequestTopic{{Topic: "t", Partitions: []kmsg.FetchRequestTopicPartition{p}}}
				resp := c.ask(t, req).(*kmsg.FetchResponse)
				times = append(times, throttle(resp))
				size := 0
				for _, topic := range resp.Topics {
					size += len(topic.Partitions[0].RecordBatches)
				}
				rest += fmt.Sprintf(" v%d: %d topics, %d MB, session %v", version, len(resp.Topics), size/1_000_000, resp.SessionID != 0)
				if size == 0 {
					break // the next is read after seconds
				}
			}
		}
		return times, rest
	})
	compare(t, "request time", brokers, func(t *testing.T, admin *client, address string) (times []int, rest string) {
		set(t, admin, "request_percentage", map[entity]float64{{user: "u5"}: 0.0001})
		c := dial(t, address, "u5", "asking")
		for range 2 { // the time that the first takes may be none; that of the second is throttled as long as there is
			times = append(times, throttle(c.ask(t, produce("t", 900_000))))
		}
		return times[1:], ""
	})
	compare(t, "mutations", brokers, func(t *testing.T, admin *client, address string) (times []int, rest string) {
		set(t, admin, "controller_mutation_rate", map[entity]float64{{user: "u6"}: 10, {user: "u7"}: 10, {user: "u8"}: 10, {user: "u9"}: 10})
		step := func(user string, version int16, validate bool, sizes ...int32) {
			c := dial(t, address, user, "admin")
			codes, millis := create(t, c, version, validate, sizes...)
			times = append(times, millis)
			rest += fmt.Sprintf("; %s v%d%s", user, version, codes)
		}
		step("u6", 7, false, 80)
		step("u6", 7, false, 80)
		step("u6", 7, false, 1, 1)
		step("u6", 5, false, 1, 1)
		step("u7", 5, false, 150, 1)
		step("u7", 7, false, 1)
		step("u8", 7, false, 90, 40, 1)
		step("u9", 7, true, 90, 40, 1)
		return times, rest
	})
	compare(t, "deletions", brokers, func(t *testing.T, admin *client, address string) (times []int, rest string) {
		var names []string
		for i := range 3 {
			names = append(names, fmt.Sprint("doomed", i))
			admin.ask(t, &kmsg.CreateTopicsRequest{Version: 7, TimeoutMillis: 30_000, Topics: []kmsg.CreateTopicsRequestTopic{{Topic: names[i], NumPartitions: 60, ReplicationFactor: 1}}})
		}
		set(t, admin, "controller_mutation_rate", map[entity]float64{{user: "u10"}: 10})
		step := func(req kmsg.Request) {
			c := dial(t, address, "u10", "admin")
			resp := c.ask(t, req)
			times = append(times, throttle(resp))
			switch resp := resp.(type) {
			case *kmsg.DeleteTopicsResponse:
				rest += fmt.Sprint(" ", resp.Topics[0].ErrorCode)
			case *kmsg.CreatePartitionsResponse:
				rest += fmt.Sprint(" ", resp.Topics[0].ErrorCode)
			}
		}
		more := func() kmsg.Request {
			return &kmsg.CreatePartitionsRequest{Version: 3, TimeoutMillis: 30_000, Topics: []kmsg.CreatePartitionsRequestTopic{{Topic: "doomed2", Count: 70}}}
		}
		step(&kmsg.DeleteTopicsRequest{Version: 4, TimeoutMillis: 30_000, TopicNames: names[:1]})
		step(&kmsg.DeleteTopicsRequest{Version: 5, TimeoutMillis: 30_000, TopicNames: names[1:2]})
		step(more())
		step(&kmsg.DeleteTopicsRequest{Version: 5, TimeoutMillis: 30_000, TopicNames: names[2:]})
		step(&kmsg.DeleteTopicsRequest{Version: 4, TimeoutMillis: 30_000, TopicNames: names[2:]})
		return times, rest
	})
	compare(t, "topics by Metadata", brokers, func(t *testing.T, admin *client, address string) (times []int, rest string) {
		set(t, admin, "controller_mutation_rate", map[entity]float64{{user: "u11"}: 0.1})
		c := dial(t, address, "u11", "admin")
		for i := range 3 {
			name := fmt.Sprint("by-metadata", i)
			req := &kmsg.MetadataRequest{Version: 9, AllowAutoTopicCreation: true, Topics: []kmsg.MetadataRequestTopic{{Topic: &name}}}
			times = append(times, throttle(c.ask(t, req)))
			if err := harness.Eventually(2*time.Second, func() error {
				ask := &kmsg.MetadataRequest{Version: 9, Topics: []kmsg.MetadataRequestTopic{{Topic: &name}}}
				return kerr.ErrorForCode(admin.ask(t, ask).(*kmsg.MetadataResponse).Topics[0].ErrorCode)
			}); err != nil {
				rest += fmt.Sprintf(" %s is not created", name)
			}
		}
		return times, rest
	})
	compare(t, "connections", brokers, func(t *testing.T, admin *client, address string) (times []int, rest string) {
		host := "127.0.0.1"
		entry := kmsg.AlterClientQuotasRequestEntry{Entity: []kmsg.AlterClientQuotasRequestEntryEntity{{Type: "ip", Name: &host}}, Ops: []kmsg.AlterClientQuotasRequestEntryOp{{Key: "connection_creation_rate", Value: 1}}}
		alter(t, admin, &kmsg.AlterClientQuotasRequest{Version: 1, Entries: []kmsg.AlterClientQuotasRequestEntry{entry}})
		served := 0
		for range 20 {
			tcp, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			c := &client{tcp, "many"}
			c.send(t, &kmsg.ApiVersionsRequest{Version: 0})
			_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			var b [1]byte
			if _, err := c.Read(b[:]); err == nil {
				served++
			} else if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
				t.Fatal(err)
			}
			_ = tcp.Close()
		}
		entry.Ops[0].Remove = true
		alter(t, admin, &kmsg.AlterClientQuotasRequest{Version: 1, Entries: []kmsg.AlterClientQuotasRequestEntry{entry}})
		return []int{20 * served}, ""
	})
}

// TestPrecedence: of quotas that a machine makes up, the same counts on both brokers.
func TestPrecedence(t *testing.T) {
	brokers := both(t)
	admins := map[string]*client{}
	for name, address := range brokers {
		admins[name] = dial(t, address, "admin", "admin")
	}
	rng := rand.New(rand.NewPCG(1, 2))
	trials := 24
	if harness.All() {
		trials = users
	}
	for i := range trials {
		user, id := fmt.Sprint("u", i), fmt.Sprint("c", i)
		quotas := map[entity]float64{}
		for _, e := range []entity{{user, id}, {user, "*"}, {user, ""}, {"*", id}, {"*", "*"}, {"*", ""}, {"", id}, {"", "*"}} {
			if rng.IntN(3) == 0 {
				quotas[e] = float64(1000 * (1 + rng.IntN(40)))
			}
		}
		got := map[string][]int{}
		for name, admin := range admins {
			if len(quotas) > 0 {
				set(t, admin, "producer_byte_rate", quotas)
			}
			for _, id := range []string{id, "d" + id} { // who shares the quota of the first has used it up
				c := dial(t, brokers[name], user, id)
				got[name] = append(got[name], throttle(c.ask(t, produce("t", 500_000))))
				_ = c.Close()
			}
			for e := range quotas {
				quotas[e] = -quotas[e]
			}
			if len(quotas) > 0 {
				set(t, admin, "producer_byte_rate", quotas)
			}
			for e := range quotas {
				quotas[e] = -quotas[e]
			}
		}
		if !alike(got["kraft"][0], got["kafka"][0]) || !alike(got["kraft"][1], got["kafka"][1]) {
			t.Errorf("%v: kraft %v, kafka %v", quotas, got["kraft"], got["kafka"])
		}
	}
}
