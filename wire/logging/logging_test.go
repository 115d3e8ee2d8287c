package logging

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
)

func TestLevels(t *testing.T) {
	var main, changes bytes.Buffer
	l := New(zerolog.New(&main).Level(zerolog.InfoLevel), map[Part]io.Writer{StateChange: &changes})
	wire, groups, states := l.For(Wire), l.For(Groups), l.For(StateChange)
	say := func(word string) {
		wire.Debug().Msg("wire " + word)
		groups.Debug().Msg("groups " + word)
	}
	set := func(name, level string) {
		t.Helper()
		to := &level
		if level == "" {
			to = nil
		}
		if err := l.Set(name, to); err != nil {
			t.Fatal(err)
		}
	}
	say("first")
	set("kafka.network.SocketServer", "debug")
	say("second")
	set("root", "DEBUG")
	say("third")
	set("groups", "WARN")
	say("fourth")
	groups.Warn().Msg("groups warning")
	set("kafka.network.SocketServer", "")
	set("root", "INFO")
	say("fifth")
	states.Info().Msg("elsewhere")
	var got []string
	for line := range strings.Lines(main.String()) {
		_, message, _ := strings.Cut(strings.TrimSpace(line), `"message":"`)
		got = append(got, strings.TrimSuffix(message, `"}`))
	}
	if want := "wire second, wire third, groups third, wire fourth, groups warning"; strings.Join(got, ", ") != want {
		t.Errorf("%q, want %s", got, want)
	}
	if !strings.Contains(main.String(), `"component":"wire"`) || !strings.Contains(changes.String(), "elsewhere") {
		t.Errorf("%s\n%s", &main, &changes)
	}
	for _, level := range l.Levels() {
		want := "INFO"
		if strings.Contains(level.Name, "Group") {
			want = "WARN"
		}
		if level.Level != want {
			t.Errorf("%+v, want %s", level, want)
		}
	}
}

func TestRefused(t *testing.T) {
	l := New(zerolog.Nop(), nil)
	loud := "LOUD"
	for _, c := range []struct {
		name  string
		level *string
		want  error
	}{{"no.such", nil, kerr.InvalidConfig}, {"wire", &loud, kerr.InvalidConfig}, {"root", nil, kerr.InvalidRequest}} {
		if err := l.Set(c.name, c.level); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	log := l.For(Wire)
	if log.Error().Enabled() {
		t.Error("a log that nobody wants is written")
	}
}
