package storage_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"kraft/storage"
	"kraft/storage/faultfs"
	"kraft/wire/ident"
)

// TestNoteAfterMove: who was given a log in the middle of its move keeps the one that took its place.
func TestNoteAfterMove(t *testing.T) {
	g := &gate{FS: faultfs.New(1)}
	m, stop := g.start(t, time.Hour)
	tp := ident.TopicPartition{Topic: "moving"}
	l, err := m.Open(tp, historyID, [16]byte{}, storage.DefaultLogConfig())
	if err != nil {
		t.Fatal(err)
	}
	if err := put(t, l, "v"); err != nil {
		t.Fatal(err)
	}
	to := "/a"
	if _, err := g.ReadDir("/a/moving-0"); err == nil {
		to = "/b"
	}
	g.hold(func(op, path string) bool { return op == "rename" && strings.HasSuffix(path, "-moved") })
	if err := m.Move(tp, to); err != nil {
		t.Fatal(err)
	}
	<-g.reached
	if l, err = m.Open(tp, historyID, [16]byte{}, storage.DefaultLogConfig()); err != nil {
		t.Fatal(err)
	}
	close(g.goOn)
	if err := put(t, l, "v"); !errors.Is(err, storage.ErrMoved) { // it waits until the move has ended
		t.Fatalf("an append to the log that was moved: %v", err)
	}
	var kept *storage.Log
	m.Note(tp, l, func(l *storage.Log) { kept = l })
	if err := put(t, kept, "v"); err != nil {
		t.Errorf("the log that is kept: %v", err)
	}
	stop()
}
