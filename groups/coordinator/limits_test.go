package coordinator

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
)

// TestMemberIDsHandedOut: who asks for more member ids than anybody needs is told to come later, and all is forgotten when sessions end.
func TestMemberIDsHandedOut(t *testing.T) {
	ids := 0
	c := New(Config{MinSession: time.Second, MaxSession: time.Hour, MaxSize: 100, RetentionInterval: time.Hour, NewID: func() string { ids++; return strconv.Itoa(ids) }})
	now := time.UnixMilli(1_700_000_000_000)
	c.Loaded(now)
	ask := func(group string) int16 {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.SessionTimeoutMillis, req.ProtocolType = 9, group, 10_000, "consumer"
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		return c.Join(runtime.Call{Now: now, To: 1}, Client{}, req).Replies[0].Response.(*kmsg.JoinGroupResponse).ErrorCode
	}
	for i := range maxHanded {
		if code := ask(fmt.Sprint("g", i)); code != kerr.MemberIDRequired.Code {
			t.Fatalf("request %d: error %d", i, code)
		}
	}
	for i := range 10 {
		if code := ask(fmt.Sprint("one more", i)); code != kerr.CoordinatorLoadInProgress.Code {
			t.Fatalf("past the bound: error %d", code)
		}
	}
	if len(c.groups) != maxHanded {
		t.Errorf("%d groups", len(c.groups))
	}
	for now = now.Add(11 * time.Second); !c.Next().After(now); {
		c.Tick(runtime.Call{Now: now, Check: func([]runtime.Record) error { return nil }})
	}
	if len(c.groups) != 0 || c.handed != 0 {
		t.Errorf("%d groups and %d ids are left after the sessions", len(c.groups), c.handed)
	}
	if code := ask("g"); code != kerr.MemberIDRequired.Code {
		t.Errorf("after the sessions: error %d", code)
	}
}
