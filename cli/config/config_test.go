package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNew(t *testing.T) {
	for name, tc := range map[string]struct {
		values map[string]string
		says   string // in the error; "" wants none
	}{
		"empty":             {map[string]string{}, ""},
		"node 0":            {map[string]string{"node.id": "0"}, ""},
		"old id":            {map[string]string{"broker.id": "4"}, ""},
		"two ids":           {map[string]string{"broker.id": "4", "node.id": "5"}, "must be the same"},
		"bad number":        {map[string]string{"num.partitions": "many"}, "num.partitions"},
		"too small":         {map[string]string{"offsets.topic.num.partitions": "0"}, "at least 1"},
		"trailing comma":    {map[string]string{"listeners": "PLAINTEXT://:9092,"}, ""},
		"no port":           {map[string]string{"listeners": "PLAINTEXT://host"}, "NAME://host:port"},
		"same port":         {map[string]string{"listeners": "A://:1,B://:1", "listener.security.protocol.map": "A:PLAINTEXT,B:PLAINTEXT"}, "same address"},
		"same name":         {map[string]string{"listeners": "PLAINTEXT://:1,PLAINTEXT://:2"}, "twice"},
		"unmapped":          {map[string]string{"listeners": "INSIDE://:1"}, "listener.security.protocol.map"},
		"TLS":               {map[string]string{"listeners": "SSL://:1"}, "PLAINTEXT only"},
		"mapped":            {map[string]string{"listeners": "INSIDE-1://:1", "listener.security.protocol.map": "INSIDE-1:PLAINTEXT"}, ""},
		"controller":        {map[string]string{"listeners": "PLAINTEXT://:1,CONTROLLER://:2", "controller.listener.names": "CONTROLLER"}, ""},
		"controller only":   {map[string]string{"listeners": "CONTROLLER://:2", "controller.listener.names": "CONTROLLER"}, "none for clients"},
		"advertised any":    {map[string]string{"advertised.listeners": "PLAINTEXT://0.0.0.0:9092"}, "cannot connect"},
		"advertised other":  {map[string]string{"advertised.listeners": "OTHER://h:9092"}, "which listeners does not"},
		"other voters":      {map[string]string{"controller.quorum.voters": "1@a:1,2@b:1"}, "single nodes only"},
		"itself as a voter": {map[string]string{"controller.quorum.voters": "1@a:1"}, ""},
		"directory twice":   {map[string]string{"log.dirs": "/a,/b,/a"}, "/a twice"},
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
