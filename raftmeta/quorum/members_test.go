package quorum

import "testing"

// TestSuccessor: the lead goes to a voter that is there, to one that is busy only if there is no other, and else to who has most of the
// log.
func TestSuccessor(t *testing.T) {
	voter := func(id, match uint64) Member { return Member{ID: id, Match: match, Active: true} }
	silent := func(id, match uint64) Member { return Member{ID: id, Match: match} }
	for name, c := range map[string]struct {
		members []Member
		busy    []uint64
		want    uint64
	}{
		"alone":                         {[]Member{voter(1, 9)}, nil, 0},
		"most of the log":               {[]Member{voter(1, 9), voter(2, 5), voter(3, 7)}, nil, 3},
		"nothing of the log":            {[]Member{voter(1, 9), voter(2, 0)}, nil, 2},
		"silent":                        {[]Member{voter(1, 9), voter(2, 5), silent(3, 7)}, nil, 2},
		"no voter":                      {[]Member{voter(1, 9), {ID: 2, Match: 9, Active: true, Learner: true}}, nil, 0},
		"busy with most of the log":     {[]Member{voter(1, 9), voter(2, 5), voter(3, 7)}, []uint64{3}, 2},
		"busy, seen first":              {[]Member{voter(1, 9), voter(2, 7), voter(3, 5)}, []uint64{2}, 3},
		"all are busy":                  {[]Member{voter(1, 9), voter(2, 5), voter(3, 7)}, []uint64{2, 3}, 3},
		"busy, and the other is silent": {[]Member{voter(1, 9), voter(2, 5), silent(3, 7)}, []uint64{2}, 2},
	} {
		busy := func(id uint64) bool {
			for _, b := range c.busy {
				if b == id {
					return true
				}
			}
			return false
		}
		if got := successor(c.members, 1, busy).ID; got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	if got := successor([]Member{voter(1, 9), voter(2, 5), voter(3, 7)}, 1, nil).ID; got != 3 {
		t.Errorf("where nobody is asked who is busy: %d", got)
	}
}
