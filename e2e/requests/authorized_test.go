package requests

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
	"kraft/wire/acl"
)

// user is somebody with some rights. Names of topics and groups begin with their symbols, so that rules for prefixes hold for all tries.
type user struct {
	name  string
	rules []acl.Binding
}

// resourcesOf are what rules are about, for each type: what most requests name, and something else.
var resourcesOf = map[acl.Resource][2]string{acl.Topic: {"T1", "T2"}, acl.Group: {"G1", "G2"}, acl.TransactionalID: {"X1", "X2"}, acl.Cluster: {acl.ClusterName, ""}}

// users have no right at all; one right each; all rights to other resources, and to each type of resource; and all rights but one.
func users() []user {
	rule := func(permission acl.Permission, resource acl.Resource, name string, o acl.Operation) acl.Binding {
		b := acl.Binding{Resource: resource, Pattern: acl.Prefixed, Name: name, Host: "*", Operation: o, Permission: permission}
		if name == acl.Any || resource == acl.Cluster {
			b.Pattern = acl.Literal
		}
		return b
	}
	var all []acl.Binding
	for _, r := range []acl.Resource{acl.Topic, acl.Group, acl.TransactionalID} {
		all = append(all, rule(acl.Allow, r, acl.Any, acl.All))
	}
	all = append(all, rule(acl.Allow, acl.Cluster, acl.ClusterName, acl.All))
	out := []user{{name: "nobody"}, {name: "everything", rules: all}}
	var other []acl.Binding
	for _, r := range []acl.Resource{acl.Topic, acl.Group, acl.TransactionalID, acl.Cluster} {
		noun := strings.ReplaceAll(acl.Noun(r), " ", "")
		of := resourcesOf[r]
		if of[1] != "" {
			other = append(other, rule(acl.Allow, r, of[1], acl.All))
		}
		out = append(out, user{name: noun + "-All", rules: []acl.Binding{rule(acl.Allow, r, of[0], acl.All)}})
		for _, o := range acl.Operations(r) {
			out = append(out, user{name: noun + "-" + acl.OperationName(o), rules: []acl.Binding{rule(acl.Allow, r, of[0], o)}})
			denied := append(slices.Clone(all), rule(acl.Deny, r, of[0], o))
			out = append(out, user{name: "not-" + noun + "-" + acl.OperationName(o), rules: denied})
		}
	}
	return append(out, user{name: "others", rules: other})
}

// login has the server's next connections log in as a user, whose password is its name.
func (s *server) login(as string) *server {
	return &server{name: s.name, address: s.address, patience: s.patience, user: as}
}

// logIn logs in by PLAIN.
func (s *server) logIn() error {
	handshake := &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: "PLAIN"}
	if _, err := s.send(17, 1, handshake.AppendTo(nil), false, true); err != nil {
		return err
	}
	token := &kmsg.SASLAuthenticateRequest{Version: 0, SASLAuthBytes: []byte("\x00" + s.user + "\x00" + s.user)}
	answer, err := s.send(36, 0, token.AppendTo(nil), false, true)
	if err != nil {
		return err
	}
	resp := &kmsg.SASLAuthenticateResponse{Version: 0}
	if err := decode(resp, answer); err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// bothAuthorized starts the two with users and an authorizer, and returns them as the super user sees them.
func bothAuthorized(t *testing.T, all []user, more ...string) []*server {
	t.Helper()
	jaas := `org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="admin" user_admin="admin"`
	for _, u := range all {
		jaas += fmt.Sprintf(` user_%s="%s"`, u.name, u.name)
	}
	out := both(t, append([]string{
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:SASL_PLAINTEXT", "inter.broker.listener.name=PLAINTEXT", "sasl.mechanism.inter.broker.protocol=PLAIN",
		"sasl.enabled.mechanisms=PLAIN", "listener.name.plaintext.plain.sasl.jaas.config=" + jaas + ";",
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users=User:admin;User:ANONYMOUS",
	}, more...)...)
	for i, s := range out {
		out[i] = s.login("admin")
		t.Cleanup(out[i].hangUp)
		create := &kmsg.CreateACLsRequest{Version: 3}
		for _, u := range all {
			for _, b := range u.rules {
				create.Creations = append(create.Creations, kmsg.CreateACLsRequestCreation{ResourceType: b.Resource, ResourcePatternType: b.Pattern, ResourceName: b.Name,
					Principal: "User:" + u.name, Host: b.Host, Operation: b.Operation, PermissionType: b.Permission})
			}
		}
		resp, err := out[i].need(create)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		for j, r := range resp.(*kmsg.CreateACLsResponse).Results {
			if r.ErrorCode != 0 {
				t.Fatalf("%s: rule %+v: %v %s", s.name, create.Creations[j], kerr.ErrorForCode(r.ErrorCode), *r.ErrorMessage)
			}
		}
	}
	return out
}

// authorizedChoices are what fields are filled with in place of what is usual elsewhere.
var authorizedChoices = map[string]*choice{
	"TransactionalID": usually("X1"), "InitProducerID.TransactionalID": usually("X1", nil), "TransactionalIDs": usually([]string{"X1"}, []string{"X1", "X2"}),
	"Produce.TransactionID": usually(nil, "X1"), "CoordinatorKey": usually("G1", "X1"), "CoordinatorKeys": usually([]string{"G1"}, []string{"X1"}), "CoordinatorType": usually(0, 1),
	"StateFilters": usually([]string{}), "ProducerIDFilters": usually([]int64{}), "DurationFilterMillis": usually(-1), "TransactionalIDPattern": usually(nil),
	"Records": usually("batch", "transaction"), "ResourceType": usually(2, 4, 3, 8, 16), "DescribeConfigs.Resources.ResourceType": usually(2, 4, 32, 8, 16),
	"AlterConfigs.Resources.ResourceType": usually(2, 4, 32, 16), "IncrementalAlterConfigs.Resources.ResourceType": usually(2, 4, 32, 16, 8),
	"ResourceName": usually("T1", "1", "G1").oddly("Tx"), "Topics.Topic": usually("T1", "T2", "Tx"), "Topics.TopicID": usually(id("T1"), otherID),
	"Metadata.Topics.TopicID": usually(noID, noID, id("T1"), otherID), "DeleteTopics.Topics.TopicID": usually(noID), "DeleteTopics.Topics.Topic": usually("T1", "Tx"),
	"CreateTopics.Topics.Topic": usually("Tx", "T1"), "CreateTopics.Topics.ReplicationFactor": usually(1), "ReplicaID": usually(-1, -1, 1),
	"IncludeClusterAuthorizedOperations": usually(true), "IncludeTopicAuthorizedOperations": usually(true), "IncludeAuthorizedOperations": usually(true),
	"Entity.Name": usually("c1"), "Entity.Type": usually("client-id"), "EntityType": usually("client-id"), "Markers.ProducerID": usually(5), "WriteTxnMarkers.Markers.Topics.Topic": usually("T1"),
	"Feature": usually("nosuch"), "DescribeACLs.ResourceType": usually(2), "Creations.ResourceType": usually(2), "Filters.ResourceType": usually(2),
	"Creations.ResourceName": usually("T1"), "Filters.ResourceName": usually("T1"), "DescribeACLs.ResourceName": usually("T1"), "DescribeACLs.Principal": usually("User:u1"),
	"Fetch.ReplicaID": usually(-1, -1, 1), "ReplicaState.ID": usually(-1, -1, 1), "DeleteTopics.TopicNames": usually([]string{"T1"}, []string{"T1", "Tx"}),
	"Dir": usually("/no/such/dir"), "Deletions.Mechanism": usually(1), "Upsertions.Mechanism": usually(1), "Iterations": usually(4096), "Salt": usually("salt"), "SaltedPassword": usually("salted"),
	"Deletions.Name": usually("u1"), "Upsertions.Name": usually("u2"),
}

// unasked are the APIs for which nobody needs a right, with the reason.
var unasked = map[int16]string{
	38: "e2e/security TestDelegationTokens", 39: "the same", 40: "the same", 41: "the same",
	17: "a login", 18: "asked before a login", 36: "a login", 71: "metrics that clients push about themselves", 72: "the same",
}

// neverDenied are the APIs that leave out what somebody may not know.
var neverDenied = map[int16]string{16: "groups", 60: "operations", 66: "transactions"}

// authorized are the APIs that trials of rights ask, by what shows what they did.
var authorized = []struct {
	keys   []int16
	probes []kmsg.Request
}{
	{[]int16{1, 2, 10, 23, 29, 32, 35, 46, 48, 50, 55, 60, 61, 74, 75, 65, 66}, nil},
	{[]int16{3, 19, 20, 37, 33, 44, 43, 45, 34, 49, 51, 57, 64, 80, 81, 94, 30, 31}, topicProbes},
	{[]int16{0, 21, 22, 24, 25, 26, 27, 28}, recordProbes},
	{groupKeys, groupProbes},
}

// TestAuthorized: whatever rights somebody has, kraft answers as Apache Kafka does. It asks each API in each version as some users, the newest as
// more of them. Where KRAFT_REQUESTS says how often, it asks as each user; KRAFT_REQUESTS_SEED says with which requests.
func TestAuthorized(t *testing.T) {
	n, seed := number(t, "KRAFT_REQUESTS", 1), number(t, "KRAFT_REQUESTS_SEED", 1)
	all := users()
	b := &bench{t: t, servers: bothAuthorized(t, all)}
	for _, s := range b.servers {
		s.coordinate(t)
		s.coordinateTransactions(t)
	}
	served := versions(t, b.servers)
	tested := map[int16]bool{}
	var trials []*trial
	for _, family := range authorized {
		for _, key := range family.keys {
			tested[key] = true
			for version := served[key][0]; version <= served[key][1]; version++ {
				g := &generator{versions: served, own: authorizedChoices, Rand: rand.New(rand.NewPCG(uint64(seed), uint64(key)<<16|uint64(version)))}
				as := all
				if os.Getenv("KRAFT_REQUESTS") == "" { // nobody, everything, others, and some between them
					as = []user{all[0], all[1], all[len(all)-1], all[g.IntN(len(all))], all[g.IntN(len(all))]}
					if version < served[key][1] || !harness.All() {
						as = []user{all[0], all[g.IntN(len(all))], all[g.IntN(len(all))]}
					} else {
						for range 8 {
							as = append(as, all[g.IntN(len(all))])
						}
					}
				}
				for range n {
					for _, u := range as {
						trials = append(trials, &trial{as: u.name, steps: []kmsg.Request{g.request(key, version)}, probes: family.probes})
					}
				}
			}
		}
	}
	for key := range versions(t, b.servers[1:]) {
		if !tested[key] && unasked[key] == "" {
			t.Errorf("nothing here asks who may send %s", kmsg.NameForKey(key))
		}
	}
	outcomes := map[string]map[string]string{"kafka": {}, "kraft": {}}
	began := time.Now()
	for i, tr := range trials {
		differ := b.run(tr)
		name := tr.marks() + tr.String()
		outcomes["kafka"][name], outcomes["kraft"][name] = differ[0], differ[1]
		if i%500 == 499 {
			t.Logf("%d of %d trials in %v", i+1, len(trials), time.Since(began).Round(time.Second))
		}
	}
	t.Logf("%d trials in %v", len(trials), time.Since(began).Round(time.Second))
	for key := range tested {
		if was := b.denied[key]; harness.All() && (!was[0] || !was[1]) && neverDenied[key] == "" {
			t.Errorf("%s: once allowed %v, once denied %v", kmsg.NameForKey(key), was[0], was[1])
		}
	}
	harness.Compare(t, "testdata/authorized.txt", outcomes, false, "testdata/requests.txt")
}

// coordinateTransactions waits until the broker coordinates transactions.
func (s *server) coordinateTransactions(t *testing.T) {
	t.Helper()
	id := "first"
	if err := harness.Eventually(30*time.Second, func() error {
		if _, err := s.need(&kmsg.FindCoordinatorRequest{Version: 2, CoordinatorKey: id, CoordinatorType: 1}); err != nil {
			return err
		}
		resp, err := s.need(&kmsg.InitProducerIDRequest{Version: 1, TransactionalID: &id, TransactionTimeoutMillis: 60000})
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.(*kmsg.InitProducerIDResponse).ErrorCode)
	}); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
}
