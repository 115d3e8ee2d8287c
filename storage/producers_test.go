package storage

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"slices"
	"testing"

	"kraft/storage/logfile"
)

// TestProducersExpire: who has a transaction open is not forgotten, however long it has been silent.
func TestProducersExpire(t *testing.T) {
	p := newProducerStates()
	p.byID = map[int64]*producerEntry{
		1: {timestamp: 99},
		2: {timestamp: 100},
		3: {timestamp: 5},
		4: {timestamp: 5},
		5: {timestamp: 200},
	}
	p.reopen(map[int64]int64{3: 40, 4: 30, 5: 0})
	p.expire(100)
	var left []int64
	for id := range p.byID {
		left = append(left, id)
	}
	if slices.Sort(left); !slices.Equal(left, []int64{2, 3, 4, 5}) {
		t.Errorf("%v are left", left)
	}
	if first := p.undecided.first(); first != 0 {
		t.Errorf("the first open transaction begins at %d", first)
	}
	p.undecided.end(p.byID[5].open, 50, false)
	delete(p.byID, 5)
	if first, open := p.undecided.first(), p.undecided.firstOpen(); first != 0 || open != 30 {
		t.Errorf("the first transaction whose marker is not replicated begins at %d, the first open one at %d", first, open)
	}
	p.undecided.replicated(51)
	if first := p.undecided.first(); first != 30 {
		t.Errorf("the first open transaction begins at %d", first)
	}
	if first := newProducerStates().undecided.first(); first != -1 {
		t.Errorf("of nobody the first open transaction begins at %d", first)
	}
	if !p.activeSince(100) || p.activeSince(101) {
		t.Error("somebody wrote at 100, and nobody later")
	}
}

// TestProducerSnapshots: of the snapshots in a directory the newest that is whole and not beyond what is asked for is loaded; the damaged
// and those beyond the log's end go.
func TestProducerSnapshots(t *testing.T) {
	fsys, dir := OS{}, t.TempDir()
	at := func(offset int64) *producerStates {
		return &producerStates{byID: map[int64]*producerEntry{offset: {epoch: 3, timestamp: 7, coordinatorEpoch: -1,
			batches: []producedBatch{{firstSeq: 4, lastSeq: 6, lastOffset: offset - 1, offsetDelta: 2, timestamp: 7}}}}}
	}
	short := at(50).encode() // says two producers, has one
	binary.BigEndian.PutUint32(short[6:], 2)
	binary.BigEndian.PutUint32(short[2:], crc32.Checksum(short[6:], crc32.MakeTable(crc32.Castagnoli)))
	version := at(50).encode()
	version[1] = 9
	flipped := at(50).encode()
	flipped[20] ^= 1
	load := func(newest, end int64) (*producerStates, int64, []int64) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		p, valid, err := loadProducers(fsys, dir, entries, 2, newest, end)
		if err != nil {
			t.Fatal(err)
		}
		if entries, err = os.ReadDir(dir); err != nil {
			t.Fatal(err)
		}
		var left []int64
		for _, e := range entries {
			offset, _ := logfile.ParseName(e.Name(), logfile.SnapshotSuffix)
			left = append(left, offset)
		}
		return p, valid, left
	}
	for name, bad := range map[string][]byte{"one producer instead of two": short, "another version": version, "a flipped bit": flipped, "nothing": nil} {
		for _, offset := range []int64{10, 20, 30, 60} {
			if err := writeProducers(fsys, dir, offset, at(offset)); err != nil {
				t.Fatal(err)
			}
		}
		if err := fsys.WriteFile(snapshotPath(dir, 50), bad); err != nil {
			t.Fatal(err)
		}
		p, valid, left := load(25, 55) // 30 and 50 are for later
		if valid != 20 || p.byID[20] == nil || !slices.Equal(left, []int64{10, 20, 30, 50}) {
			t.Errorf("%s: state of %d, %v left", name, valid, left)
		}
		p, valid, left = load(55, 55)
		if valid != 30 || p.byID[30] == nil || !slices.Equal(left, []int64{10, 20, 30}) {
			t.Errorf("%s: state of %d, %v left", name, valid, left)
		}
		if e := p.byID[30]; e != nil && (len(e.batches) != 1 || e.batches[0] != at(30).byID[30].batches[0] || e.epoch != 3) {
			t.Errorf("%s: read as %+v", name, e)
		}
	}
	if p, valid, _ := load(5, 55); valid != 2 || len(p.byID) != 0 {
		t.Errorf("without one: %v from %d on", p.byID, valid)
	}
}
