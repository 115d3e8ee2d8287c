package replication

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestSessionsAreEvicted: with all slots taken the session goes that was used longest ago, if that is two minutes, and nothing of it is left;
// else the client gets none.
func TestSessionsAreEvicted(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const slots = 5
	s, now := newSessions(slots), time.Now()
	used, epochs := map[int32]time.Time{}, map[int32]int32{}
	for range 5000 {
		now = now.Add(time.Duration(1+rng.IntN(40)) * time.Second)
		req := kmsg.NewPtrFetchRequest()
		req.Version = 11
		var oldest int32
		for id, at := range used {
			if oldest == 0 || at.Before(used[oldest]) {
				oldest = id
			}
		}
		if rng.IntN(3) > 0 && len(used) > 0 { // somebody goes on
			for id := range used {
				req.SessionID, req.SessionEpoch = id, epochs[id]
				break
			}
			ss, _, err := s.open(t.Context(), req, now)
			if err != nil || ss == nil || ss.id != req.SessionID {
				t.Fatalf("session %d: %v, %v", req.SessionID, ss, err)
			}
			ss.close()
			used[ss.id], epochs[ss.id] = now, ss.epoch
			continue
		}
		ft, fp := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
		ft.Topic, ft.Partitions = "t", append(ft.Partitions, fp)
		req.Topics, req.SessionEpoch = append(req.Topics, ft), initialEpoch
		if len(used) > 0 && rng.IntN(4) == 0 { // somebody begins anew
			for id := range used {
				req.SessionID = id
				break
			}
			delete(used, req.SessionID)
		}
		full := len(used) == slots
		ss, _, err := s.open(t.Context(), req, now)
		if err != nil {
			t.Fatal(err)
		}
		if room := !full || now.Sub(used[oldest]) >= sessionIdle; (ss != nil) != room {
			t.Fatalf("%d sessions, the oldest of %v ago: %v", len(used), now.Sub(used[oldest]), ss)
		}
		if ss == nil {
			continue
		}
		ss.close()
		if full {
			delete(used, oldest)
		}
		used[ss.id], epochs[ss.id] = now, ss.epoch
		if len(s.byID) != len(used) || s.byUse.Len() != len(used) || s.total != len(used) {
			t.Fatalf("%d sessions, %d by use, %d partitions, wanted %d", len(s.byID), s.byUse.Len(), s.total, len(used))
		}
		for id := range used {
			if s.byID[id] == nil {
				t.Fatalf("session %d is gone", id)
			}
		}
	}
}
