package configs

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryKey: each of Kafka's broker settings is read somewhere in kraft's sources, or says why it has no effect; not both.
func TestEveryKey(t *testing.T) {
	var sources strings.Builder
	if err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "e2e" || d.Name() == "credentials") { // those are clients' settings
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || d.Name() == "together.go" { // which checks values as Kafka does
			return nil
		}
		data, err := os.ReadFile(path)
		sources.Write(data)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	text := sources.String()
	for name := range Broker {
		read, why := strings.Contains(text, `"`+name+`"`), NoEffect(name)
		switch {
		case !read && why == "":
			t.Errorf("%s is not read anywhere, and nothing says why", name)
		case read && why != "" && name != "group.streams.assignors": // it is told, as a default of groups
			t.Errorf("%s is said to have no effect (%s), and is read", name, why)
		}
	}
}

func TestNearest(t *testing.T) {
	for given, want := range map[string]string{
		"log.retention.hour": "log.retention.hours", "num.partiton": "num.partitions", "min.insync.replica": "min.insync.replicas",
		"advertised.listener": "advertised.listeners", "broker.di": "broker.id", "something.else.altogether": "", "x": "",
	} {
		if got := Nearest(given); got != want {
			t.Errorf("%s: %q, want %q", given, got, want)
		}
	}
}
