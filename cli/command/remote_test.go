package command

import (
	"strings"
	"testing"
)

func TestParseHosts(t *testing.T) {
	nodes, err := parseHosts("# mine\nkafka1\nme@kafka2 data=/mnt/k  # the large one\n\nkafka3 id=7 address=10.0.0.3 port=19092 controller-port=19093\nkafka3 data=other config=/etc/k.properties")
	if err != nil || len(nodes) != 4 {
		t.Fatal(nodes, err)
	}
	if n := nodes[1]; n.id != 2 || n.host != "me@kafka2" || n.address != "kafka2" || n.pidFile != "/mnt/k/kraft.pid" || n.port != 9092 {
		t.Errorf("%+v", n)
	}
	r := &remote{nodes: nodes}
	if peers := r.peers(); peers != "1@kafka1:9093,2@kafka2:9093,7@10.0.0.3:19093" {
		t.Errorf("peers %s", peers)
	}
	for text, says := range map[string]string{
		"":                         "names no host",
		"a\nb id=1":                "line 2: id 1 is line 1's",
		"a\na data=x":              "line 2: a:9093 is line 1's",
		"a config=f\na config=g":   "line 2: a with data in kraft-data is line 1's",
		"a port=99999":             "port is a number from 0 to 65535",
		"a data":                   `"data" is not KEY=VALUE`,
		"a colour=red":             "colour is not one of",
		"a controller-port=x data": "controller-port is a number",
	} {
		if _, err := parseHosts(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, wanted %s", text, err, says)
		}
	}
	if got := quote("it's"); got != `'it'\''s'` {
		t.Errorf("quoted %s", got)
	}
}
