// Package metatest opens the metadata of a node that is alone, for tests of the packages that use it.
package metatest

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"kraft/raftmeta"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/logging"
)

// Open returns the metadata of node 1, which has begun a cluster by itself. The test's end closes it.
func Open(t testing.TB) *raftmeta.Meta {
	t.Helper()
	m, err := raftmeta.Open(raftmeta.Config{NodeID: 1, ClusterID: "cluster", Path: filepath.Join(t.TempDir(), "metadata.db"), QuorumTick: 10 * time.Millisecond, SnapshotBytes: 1 << 20,
		Endpoints: []*image.Endpoint{{Listener: "PLAINTEXT", Host: "127.0.0.1", Port: 9092}}, Static: map[string]string{}, InterBroker: "PLAINTEXT",
		Logs: logging.New(zerolog.Nop(), nil)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := m.Join(ctx); err != nil {
		t.Fatal(err)
	}
	return m
}

// Commit commits records, and returns when the metadata has them.
func Commit(t testing.TB, m *raftmeta.Meta, records ...*image.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := m.Decide(ctx, func(*image.Image) ([]*image.Record, error) { return records, nil }); err != nil {
		t.Fatal(err)
	}
}

// Request returns a request of the newest version that came on the listener PLAINTEXT.
func Request(t testing.TB) *wire.Request { return RequestOf(t, 1<<15-1, "PLAINTEXT") }

// RequestOf returns a request of a version that came on a listener.
func RequestOf(t testing.TB, version int16, listener string) *wire.Request {
	return wire.NewRequest(t.Context(), version, &wire.Session{Principal: wire.Anonymous, Listener: listener, Peer: "127.0.0.1:1"})
}
