package quorum

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestProtocolPage: docs/protocol.md has every field and every kind of stream, and every key of the metadata file.
func TestProtocolPage(t *testing.T) {
	data, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	has := func(name string) {
		t.Helper()
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("it does not have `%s`", name)
		}
	}
	for _, of := range []reflect.Type{reflect.TypeFor[Hello](), reflect.TypeFor[standing]()} {
		for i := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			has(name)
		}
	}
	for _, kind := range []string{messagesStream, snapshotStream, joinStream, whoStream, helloStream, meetStream} {
		has(kind)
	}
	has(strings.ReplaceAll(Preface, "\n", `\n`))
	for _, key := range [][]byte{logBucket, stateBucket, standingsBucket, hardStateKey, confStateKey, snapshotKey, memberKey, firstKey, startsKey, formatKey} {
		has(string(key))
	}
}
