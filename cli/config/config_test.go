package config

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kraft/raftmeta/configs"
)

// loginSettings are the settings of a node with a listener CLIENTS for clients that log in, and B for brokers, with changes.
func oauthSettings(changes map[string]string) map[string]string {
	values := loginSettings(map[string]string{"sasl.enabled.mechanisms": "OAUTHBEARER", "sasl.oauthbearer.jwks.endpoint.url": "https://i/keys", "sasl.oauthbearer.expected.audience": "kafka", "sasl.oauthbearer.expected.issuer": "https://i"})
	maps.Copy(values, changes)
	return values
}

func loginSettings(changes map[string]string) map[string]string {
	values := map[string]string{
		"listeners": "CLIENTS://:1,B://:2", "listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT,B:PLAINTEXT", "inter.broker.listener.name": "B", "sasl.enabled.mechanisms": "PLAIN",
		"listener.name.clients.plain.sasl.jaas.config": `org.apache.kafka.common.security.plain.PlainLoginModule required user_me="secret";`,
	}
	maps.Copy(values, changes)
	return values
}

// TestLogins: what is said for one listener counts before what is said for all, and has an effect.
func TestLogins(t *testing.T) {
	c, err := New(loginSettings(map[string]string{
		"sasl.enabled.mechanisms": "GSSAPI", "listener.name.clients.sasl.enabled.mechanisms": "PLAIN", "connections.max.reauth.ms": "1000",
		"listener.name.clients.plain.connections.max.reauth.ms": "2000", "listener.name.b.plain.sasl.jaas.config": "not read",
	}))
	if err != nil {
		t.Fatal(err)
	}
	l := c.Listeners[0].Login
	if l == nil || l.Mechanisms["PLAIN"].Passwords["me"] != "secret" || l.Mechanisms["PLAIN"].MaxSession != 2*time.Second || c.Listeners[1].Login != nil {
		t.Errorf("%+v", l)
	}
	if notes := strings.Join(c.Notes, "; "); !strings.Contains(notes, "listener.name.b.plain") || strings.Contains(notes, "name.clients") {
		t.Error(notes)
	}
}

func TestNew(t *testing.T) {
	for name, tc := range map[string]struct {
		values map[string]string
		says   string // in the error; "" wants none
	}{
		"empty":               {map[string]string{}, ""},
		"node 0":              {map[string]string{"node.id": "0"}, ""},
		"old id":              {map[string]string{"broker.id": "4"}, ""},
		"two ids":             {map[string]string{"broker.id": "4", "node.id": "5"}, "must be the same"},
		"bad number":          {map[string]string{"num.partitions": "many"}, "num.partitions"},
		"too small":           {map[string]string{"offsets.topic.num.partitions": "0"}, "at least 1"},
		"trailing comma":      {map[string]string{"listeners": "PLAINTEXT://:9092,"}, ""},
		"no port":             {map[string]string{"listeners": "PLAINTEXT://host"}, "NAME://host:port"},
		"same port":           {map[string]string{"listeners": "A://:1,B://:1", "listener.security.protocol.map": "A:PLAINTEXT,B:PLAINTEXT"}, "same address"},
		"same name":           {map[string]string{"listeners": "PLAINTEXT://:1,PLAINTEXT://:2"}, "twice"},
		"unmapped":            {map[string]string{"listeners": "INSIDE://:1"}, "listener.security.protocol.map"},
		"TLS":                 {map[string]string{"listeners": "SSL://:1", "ssl.keystore.location": "not read here"}, ""},
		"mapped":              {map[string]string{"listeners": "INSIDE-1://:1", "listener.security.protocol.map": "INSIDE-1:PLAINTEXT"}, ""},
		"controller":          {map[string]string{"listeners": "PLAINTEXT://:1,CONTROLLER://:2", "controller.listener.names": "CONTROLLER"}, ""},
		"controller only":     {map[string]string{"listeners": "CONTROLLER://:2", "controller.listener.names": "CONTROLLER"}, "no listener for clients"},
		"advertised any":      {map[string]string{"advertised.listeners": "PLAINTEXT://0.0.0.0:9092"}, "cannot connect"},
		"advertised other":    {map[string]string{"advertised.listeners": "OTHER://h:9092"}, "which is not in listeners"},
		"other voters":        {map[string]string{"controller.quorum.voters": "1@a:1,2@b:1"}, ""},
		"voters":              {map[string]string{"controller.quorum.voters": "1:a"}, "id@host:port"},
		"voter's id":          {map[string]string{"controller.quorum.voters": "one@a:1"}, "node id"},
		"voters' ids":         {map[string]string{"controller.quorum.voters": "1@a:1,1@b:1"}, "node 1 twice"},
		"voters' addresses":   {map[string]string{"controller.quorum.voters": "1@a:1,2@a:1"}, "two nodes the address a:1"},
		"role":                {map[string]string{"process.roles": "broker,boss"}, "must be one of"},
		"voting broker":       {map[string]string{"process.roles": "broker", "controller.quorum.voters": "1@a:1,2@b:1"}, "does not include controller"},
		"nobody first":        {map[string]string{"process.roles": "broker,controller", "listeners": "PLAINTEXT://:1,CONTROLLER://:2", "controller.quorum.bootstrap.servers": "localhost:2,b:2"}, "the first voters"},
		"bootstrap":           {map[string]string{"controller.quorum.bootstrap.servers": "b"}, "host:port"},
		"inter broker":        {map[string]string{"inter.broker.listener.name": "INSIDE"}, "is not in listeners"},
		"itself as a voter":   {map[string]string{"controller.quorum.voters": "1@a:1"}, ""},
		"old address":         {map[string]string{"host.name": "localhost", "port": "9000", "broker.id": "0", "zookeeper.connect": "z:2181", "log.cleaner.enable": "true", "delete.topic.enable": "true"}, ""},
		"old bad port":        {map[string]string{"port": "many"}, "no valid port"},
		"no id":               {map[string]string{"zookeeper.connect": "a:2181"}, "broker.id is missing"},
		"an id to be given":   {map[string]string{"zookeeper.connect": "a:2181", "broker.id": "-1"}, "broker.id=-1: the node id is a number from 0 on, and kraft does not generate ids"},
		"empty ZooKeeper":     {map[string]string{"zookeeper.connect": " ", "broker.id": "1"}, "zookeeper.connect is empty"},
		"its own listener":    {map[string]string{"zookeeper.connect": "localhost:9092", "broker.id": "1"}, "listener PLAINTEXT of this node is at localhost:9092"},
		"port 70000":          {map[string]string{"zookeeper.connect": "a:70000"}, `"a:70000" has port 70000`},
		"port 0":              {map[string]string{"zookeeper.connect": "a:0"}, `"a:0" has port 0`},
		"no commas":           {map[string]string{"zookeeper.connect": "a:1;b:2"}, `"a:1;b:2": addresses are host:port, with commas between them`},
		"another authorizer":  {map[string]string{"authorizer.class.name": "com.example.Authorizer"}, "kraft loads no Java classes"},
		"no super user":       {map[string]string{"authorizer.class.name": "kafka.security.authorizer.AclAuthorizer", "super.users": "User:a,b;admin"}, "super.users: admin is no principal"},
		"no ZooKeeper":        {map[string]string{"zookeeper.connect": "/kafka"}, `zookeeper.connect=/kafka: "/kafka" has no address before the chroot`},
		"ZooKeeper's port":    {map[string]string{"zookeeper.connect": "a:2181,b:many"}, `"b:many" is not of the form host:port`},
		"ZooKeeper twice":     {map[string]string{"zookeeper.connect": "a:2181,A/kafka"}, "a:2181 is listed twice"},
		"SASL, untouched":     {map[string]string{"listeners": "SASL_PLAINTEXT://:1"}, "sasl.enabled.mechanisms has GSSAPI, but kraft's mechanisms are OAUTHBEARER, PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"},
		"SASL, no users":      {map[string]string{"listeners": "SASL_PLAINTEXT://:1", "sasl.enabled.mechanisms": "PLAIN"}, "listener.name.sasl_plaintext.plain.sasl.jaas.config is missing, which lists the users"},
		"SASL":                {loginSettings(nil), ""},
		"SASL, two":           {loginSettings(map[string]string{"listener.name.clients.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256"}), ""},
		"SASL, SCRAM":         {loginSettings(map[string]string{"sasl.enabled.mechanisms": "SCRAM-SHA-512", "listener.name.clients.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;"}), ""},
		"SASL, none":          {loginSettings(map[string]string{"sasl.enabled.mechanisms": ""}), "sasl.enabled.mechanisms is empty"},
		"SCRAM, other JAAS":   {loginSettings(map[string]string{"sasl.enabled.mechanisms": "SCRAM-SHA-512", "listener.name.clients.scram-sha-512.sasl.jaas.config": "PlainLoginModule required;"}), "the login module of SCRAM-SHA-512 is ScramLoginModule, not PlainLoginModule"},
		"OAuth":               {oauthSettings(nil), ""},
		"OAuth, per listener": {oauthSettings(map[string]string{"sasl.oauthbearer.expected.issuer": "", "listener.name.clients.oauthbearer.sasl.oauthbearer.expected.issuer": "https://i"}), ""},
		"OAuth, handler":      {oauthSettings(map[string]string{"listener.name.clients.oauthbearer.sasl.server.callback.handler.class": "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler"}), ""},
		"OAuth, no keys":      {oauthSettings(map[string]string{"sasl.oauthbearer.jwks.endpoint.url": ""}), "OAUTHBEARER needs sasl.oauthbearer.jwks.endpoint.url"},
		"OAuth, no audience":  {oauthSettings(map[string]string{"sasl.oauthbearer.expected.audience": ""}), "OAUTHBEARER needs sasl.oauthbearer.expected.audience"},
		"OAuth, any audience": {oauthSettings(map[string]string{"sasl.oauthbearer.expected.audience": "", "sasl.oauthbearer.allow.unverified.audience": "true"}), ""},
		"OAuth, no issuer":    {oauthSettings(map[string]string{"sasl.oauthbearer.expected.issuer": ""}), "OAUTHBEARER needs sasl.oauthbearer.expected.issuer"},
		"OAuth, class":        {oauthSettings(map[string]string{"listener.name.clients.oauthbearer.sasl.server.callback.handler.class": "com.x.Y"}), "kraft loads no Java classes"},
		"OAuth, validator":    {oauthSettings(map[string]string{"sasl.oauthbearer.jwt.validator.class": "com.x.Y"}), "sasl.oauthbearer.jwt.validator.class=com.x.Y: kraft loads no Java classes"},
		"OAuth, JAAS":         {oauthSettings(map[string]string{"listener.name.clients.oauthbearer.sasl.jaas.config": "PlainLoginModule required;"}), "the login module of OAUTHBEARER is OAuthBearerLoginModule"},
		"OAuth, of brokers":   {oauthSettings(map[string]string{"inter.broker.listener.name": "CLIENTS", "controller.quorum.voters": "1@a:1,2@b:1", "sasl.mechanism.inter.broker.protocol": "OAUTHBEARER"}), "brokers fetch no tokens for each other"},
		"OAuth, beside":       {oauthSettings(map[string]string{"sasl.enabled.mechanisms": "PLAIN,OAUTHBEARER", "sasl.server.callback.handler.class": "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler"}), ""},
		"limits":              {loginSettings(map[string]string{"listener.name.clients.max.connections": "x"}), "listener.name.clients.max.connections"},
		"TLS, certificates":   {map[string]string{"listeners": "SSL://:1", "listener.name.ssl.ssl.client.auth": "always"}, `ssl.client.auth is none, requested or required, not "always"`},
		"TLS, half a key":     {map[string]string{"listeners": "SSL://:1", "ssl.keystore.key": "x"}, "ssl.keystore.key and ssl.keystore.certificate.chain go together"},
		"TLS, two keys":       {map[string]string{"listeners": "SSL://:1", "ssl.keystore.key": "x", "ssl.keystore.certificate.chain": "y", "ssl.keystore.location": "z"}, "which one is the key?"},
		"TLS, two trusts":     {map[string]string{"listeners": "SSL://:1", "ssl.truststore.certificates": "x", "ssl.truststore.location": "z"}, "which one is trusted?"},
		"TLS, ZooKeeper":      {map[string]string{"broker.id": "1", "zookeeper.connect": "a:2181", "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:SSL"}, "with zookeeper.connect the quorum's listener speaks PLAINTEXT"},
		"TLS, capitals":       {map[string]string{"listeners": "SSL://:1", "listener.name.SSL.ssl.client.auth": "required"}, "in lower case there: listener.name.ssl.ssl.client.auth"},
		"TLS, rules":          {map[string]string{"listeners": "SSL://:1", "ssl.principal.mapping.rules": "default"}, "none of DEFAULT and RULE"},
		"TLS, own rules":      {map[string]string{"listeners": "SSL://:1", "listener.name.ssl.ssl.principal.mapping.rules": "RULE:a(?=b)/x/"}, "without look-around"},
		"SASL, own time":      {loginSettings(map[string]string{"listener.name.clients.plain.connections.max.reauth.ms": "x"}), "Not a number"},
		"SASL, bad JAAS":      {loginSettings(map[string]string{"listener.name.clients.plain.sasl.jaas.config": "x required"}), "an option or ; should"},
		"SASL, other JAAS":    {loginSettings(map[string]string{"listener.name.clients.plain.sasl.jaas.config": "ScramLoginModule required;"}), "not ScramLoginModule"},
		"SASL, class":         {loginSettings(map[string]string{"listener.name.clients.plain.sasl.server.callback.handler.class": "com.x.Y"}), "kraft loads no Java classes"},
		"SASL, of brokers":    {loginSettings(map[string]string{"inter.broker.listener.name": "CLIENTS", "controller.quorum.voters": "1@a:1,2@b:1"}), "sasl.mechanism.inter.broker.protocol=GSSAPI is none of the listener's mechanisms (PLAIN)"},
		"SASL, no name":       {loginSettings(map[string]string{"inter.broker.listener.name": "CLIENTS", "controller.quorum.voters": "1@a:1,2@b:1", "sasl.mechanism.inter.broker.protocol": "PLAIN"}), `listener.name.clients.plain.sasl.jaas.config needs username="..." and password="..."`},
		"SASL, of quorum":     {loginSettings(map[string]string{"listeners": "CLIENTS://:1,B://:2,CONTROLLER://:3", "listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT,B:PLAINTEXT,CONTROLLER:SASL_PLAINTEXT", "controller.listener.names": "CONTROLLER"}), "listener CONTROLLER is the quorum's"},
		"directory twice":     {map[string]string{"log.dirs": "/a,/b,/a"}, "/a twice"},
	} {
		_, err := New(tc.values)
		if tc.says == "" && err != nil || tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("%s: %v, want %q", name, err, tc.says)
		}
	}
}

func TestListeners(t *testing.T) {
	c, err := New(map[string]string{
		"listeners":                      "INSIDE://10.0.0.1:1000, OUTSIDE://:2000",
		"advertised.listeners":           "OUTSIDE://kafka.example:12000",
		"listener.security.protocol.map": "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
		"log.dirs":                       "/d/1,/d/2", "metadata.log.dir": "/m", "unheard.of": "x",
	})
	if err != nil {
		t.Fatal(err)
	}
	if l := c.Listeners[0]; l.Address() != "10.0.0.1:1000" || l.AdvertisedHost != "10.0.0.1" || l.AdvertisedPort != 1000 {
		t.Errorf("%+v", l)
	}
	if l := c.Listeners[1]; l.Address() != ":2000" || l.AdvertisedHost != "kafka.example" || l.AdvertisedPort != 12000 {
		t.Errorf("%+v", l)
	}
	if len(c.LogDirs) != 2 || c.MetadataDir != "/m" || len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "unheard.of") {
		t.Errorf("%+v", c)
	}
}

// TestReadFile: as java.util.Properties reads it, and no ${} expansion.
func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server.properties")
	text := "# comment\n! another\nnode.id = 3\nlisteners=PLAINTEXT://:9092,\\\n  OTHER://:9093\nbroker.rack: r\\u00e4ck \nlog.dirs=${HOME}/x\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{"node.id": "3", "listeners": "PLAINTEXT://:9092,OTHER://:9093", "broker.rack": "räck", "log.dirs": "${HOME}/x"} {
		if got[k] != want {
			t.Errorf("%s is %q, want %q", k, got[k], want)
		}
	}
	if _, err := ReadFile(path + ".missing"); err == nil {
		t.Error("read a missing file")
	}
	if k, v, err := ParseOverride("a=b=c"); k != "a" || v != "b=c" || err != nil {
		t.Errorf("%q %q %v", k, v, err)
	}
	if _, _, err := ParseOverride("nothing"); err == nil {
		t.Error("took an override without value")
	}
}

// TestQuorum: what process.roles, voters and bootstrap servers make of a node.
func TestQuorum(t *testing.T) {
	for name, tc := range map[string]struct {
		values     map[string]string
		voters     int
		join       string
		controller string // where it listens for the quorum, and what others are told
		broker     bool
	}{
		"alone":                {map[string]string{}, 0, "", "", true},
		"a voter of three":     {map[string]string{"node.id": "2", "controller.quorum.voters": "1@a:1,2@b:2,3@c:3"}, 3, "", ":2 b:2", true},
		"on loopback":          {map[string]string{"controller.quorum.voters": "1@localhost:1,2@localhost:2"}, 2, "", "localhost:1 localhost:1", true},
		"with a listener":      {map[string]string{"controller.quorum.voters": "1@a:1,2@b:2", "listeners": "PLAINTEXT://:9092,CONTROLLER://10.0.0.1:7"}, 2, "", "10.0.0.1:7 a:1", true},
		"a broker of others":   {map[string]string{"node.id": "4", "process.roles": "broker", "controller.quorum.voters": "1@a:1,2@b:2"}, 0, "a:1,b:2", "", true},
		"by bootstrap servers": {map[string]string{"node.id": "4", "controller.quorum.bootstrap.servers": "a:1,b:2"}, 0, "a:1,b:2", ":9093", true},
		"Kafka's example file": {map[string]string{"process.roles": "broker,controller", "controller.quorum.bootstrap.servers": "localhost:9093", "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093", "controller.listener.names": "CONTROLLER"}, 0, "", ":9093", true},
		"a control plane of ZooKeeper's days": {map[string]string{"listeners": "PLAINTEXT://:9092,Control://:9093", "control.plane.listener.name": "Control",
			"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROL:PLAINTEXT"}, 0, "", ":9093", true},
		"a controller by its own": {map[string]string{"process.roles": "controller", "controller.quorum.voters": "1@a:1", "listeners": "CONTROLLER://:1"}, 1, "", ":1 a:1", false},
	} {
		c, err := New(tc.values)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := ""
		if l := c.Controller; l != nil {
			got = l.Address()
			if len(c.Voters) > 0 {
				got += " " + Listener{Host: l.AdvertisedHost, Port: l.AdvertisedPort}.Address()
			}
		}
		if len(c.Voters) != tc.voters || strings.Join(c.Join, ",") != tc.join || got != tc.controller || c.IsBroker != tc.broker || c.IsBroker != (len(c.Listeners) > 0) {
			t.Errorf("%s: voters %v, join %v, controller %q, broker %v", name, c.Voters, c.Join, got, c.IsBroker)
		}
	}
}

// TestOldKeys: what the files of ZooKeeper's days say is mapped, or has a line that says why not.
func TestOldKeys(t *testing.T) {
	c, err := New(map[string]string{
		"broker.id": "3", "host.name": "10.0.0.1", "port": "9000", "advertised.host.name": "kafka.example", "advertised.port": "19000",
		"zookeeper.connect": "z:2181", "zookeeper.session.timeout.ms": "6000", "replica.lag.max.messages": "4000", "num.io.threads": "8", "num.partiton": "3",
	})
	if err != nil {
		t.Fatal(err)
	}
	if l := c.Listeners[0]; c.NodeID != 3 || l.Address() != "10.0.0.1:9000" || l.AdvertisedHost != "kafka.example" || l.AdvertisedPort != 19000 {
		t.Errorf("%d %+v", c.NodeID, l)
	}
	notes := strings.Join(c.Notes, "\n")
	if !slices.Equal(c.ZooKeeper, []string{"z:2181"}) || !c.Votes {
		t.Errorf("zookeeper.connect names %v, and the node votes: %v", c.ZooKeeper, c.Votes)
	}
	for _, want := range []string{"listeners=PLAINTEXT://10.0.0.1:9000", "there is no ZooKeeper", "replica.lag.time.max.ms", "num.io.threads (kraft has no pools", "num.partiton is not known and has no effect, did you mean num.partitions?"} {
		if !strings.Contains(notes, want) {
			t.Errorf("%q is not in\n%s", want, notes)
		}
	}
	c, err = New(map[string]string{"port": "9000", "listeners": "PLAINTEXT://:9001"})
	if err != nil || c.Listeners[0].Port != 9001 || !strings.Contains(strings.Join(c.Notes, " "), "listeners is given") {
		t.Errorf("%v %+v", err, c)
	}
}

// TestEnvironment: every setting can be given in the environment, as Apache Kafka's image and as Bitnami's takes it.
func TestEnvironment(t *testing.T) {
	for name := range configs.Broker {
		for _, prefix := range []string{"KAFKA_", "KAFKA_CFG_"} {
			key := prefix + strings.ToUpper(strings.NewReplacer("-", "___", "_", "__", ".", "_").Replace(name))
			if got, notes := Environment([]string{key + "=a=b"}); got[name] != "a=b" || len(got) != 1 || len(notes) > 0 {
				t.Errorf("%s: %v %v", key, got, notes)
			}
		}
	}
}

func TestSources(t *testing.T) {
	env, notes := Environment([]string{"KAFKA_NUM_PARTITIONS=3", "KAFKA_CFG_LOG_DIRS=/env", "KAFKA_LISTENER_NAME_INSIDE_SCRAM___SHA___512_SASL_JAAS_CONFIG=x", "KAFKA_HEAP_OPTS=-Xmx1G", "KAFKA_HOME=/opt",
		"KAFKA_NUM_PARTITION=4", "CLUSTER_ID=5L6g3nShT-eMCtK--X86sw", "PATH=/bin", "KAFKA_MY_APP=1", "KAFKA_PORT=9000"})
	linked, said := Environment([]string{"KAFKA_PORT=tcp://10.0.0.7:9092", "KAFKA_SERVICE_HOST=10.0.0.7", "KAFKA_SERVICE_PORT=9092", "KAFKA_SERVICE_PORT_CLIENTS=9092",
		"KAFKA_PORT_9092_TCP=tcp://10.0.0.7:9092", "KAFKA_PORT_9092_TCP_PROTO=tcp", "KAFKA_PORT_9092_TCP_PORT=9092", "KAFKA_PORT_9092_TCP_ADDR=10.0.0.7"})
	if len(linked) > 0 || len(said) > 0 {
		t.Errorf("what Kubernetes says of a Service named kafka is taken for settings: %v %v", linked, said)
	}
	if env["num.partitions"] != "3" || env["log.dirs"] != "/env" || env["cluster.id"] != "5L6g3nShT-eMCtK--X86sw" || env["listener.name.inside.scram-sha-512.sasl.jaas.config"] != "x" || env["port"] != "9000" || len(env) != 5 {
		t.Errorf("%v", env)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "KAFKA_NUM_PARTITION names") || !strings.Contains(notes[0], "KAFKA_NUM_PARTITIONS?") {
		t.Errorf("%q", notes)
	}
	got := Sources{
		Flags: map[string]string{"a": "flag"}, Overrides: map[string]string{"a": "override", "b": "override"},
		Environment: map[string]string{"a": "env", "b": "env", "c": "env"}, File: map[string]string{"a": "file", "b": "file", "c": "file", "d": "file"},
	}.Merge()
	for k, want := range map[string]string{"a": "flag", "b": "override", "c": "env", "d": "file"} {
		if got[k] != want {
			t.Errorf("%s is from %s, want %s", k, got[k], want)
		}
	}
}

// TestZooKeeper: zookeeper.connect names the quorum, unless other settings do, and its listener is no more open than the others.
func TestZooKeeper(t *testing.T) {
	for text, want := range map[string]string{
		"localhost:2181":                     "localhost:2181",
		" h1:12181, H2:12181,h3:1218/kafka ": "h1:12181 h2:12181 h3:1218",
		"h1/a,h2/a":                          "h1:2181 h2:2181",
		"[::1]:2182,::1":                     "[::1]:2182 [::1]:2181",
	} {
		got, err := ParseZooKeeper(text)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for key, value := range map[string]string{"controller.quorum.voters": "1@a:1", "controller.quorum.bootstrap.servers": "a:1"} {
		c, err := New(map[string]string{"zookeeper.connect": "z", key: value})
		if err != nil || c.ZooKeeper != nil || !strings.Contains(strings.Join(c.Notes, "\n"), "zookeeper.connect has no effect: "+key+" (") {
			t.Errorf("%s beside it: %v, %+v", key, err, c)
		}
	}
	for _, tc := range []struct{ listeners, address, at string }{
		{"PLAINTEXT://:9092", "localhost:2181", ":2181"},
		{"PLAINTEXT://localhost:9092", "localhost:2181", "localhost:2181"},
		{"PLAINTEXT://127.0.0.1:9092,OTHER://:1", "localhost:2181", ":2181"},
		{"PLAINTEXT://localhost:9092", "host:2181", ":2181"},
		{"PLAINTEXT://:9092", "10.0.0.1:2182", "10.0.0.1:2182"},
	} {
		c, err := New(map[string]string{"broker.id": "1", "listeners": tc.listeners, "listener.security.protocol.map": "OTHER:PLAINTEXT", "zookeeper.connect": tc.address})
		if err != nil {
			t.Fatal(err)
		}
		if l := c.QuorumListener(tc.address); l.Address() != tc.at || net.JoinHostPort(l.AdvertisedHost, strconv.Itoa(l.AdvertisedPort)) != tc.address {
			t.Errorf("%+v: %+v", tc, l)
		}
	}
}
