package metrics

import (
	"testing"

	"kraft/raftmeta/image"
)

func TestBrokerState(t *testing.T) {
	img := image.Empty()
	for what, c := range map[string]struct {
		record *image.RegisterBrokerRecord
		want   int
	}{
		"not registered":         {nil, 1},
		"fenced":                 {&image.RegisterBrokerRecord{Fenced: true}, 2},
		"running":                {&image.RegisterBrokerRecord{}, 3},
		"in controlled shutdown": {&image.RegisterBrokerRecord{InControlledShutdown: true}, 6},
		"fenced as it stops":     {&image.RegisterBrokerRecord{InControlledShutdown: true, Fenced: true}, 6},
	} {
		m := img.Copy()
		if r := c.record; r != nil {
			r.Id, r.Epoch, r.Incarnation = 7, 1, make([]byte, 16)
			m.Apply(&image.Record{Kind: &image.Record_RegisterBroker{RegisterBroker: r}})
		}
		if got := brokerState(m, 7); got != c.want {
			t.Errorf("%s: %d, not %d", what, got, c.want)
		}
	}
}
