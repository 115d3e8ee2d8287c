package calls

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/metatest"
	"kraft/wire"
)

func notController(r *kmsg.AllocateProducerIDsResponse) bool {
	return r.ErrorCode == kerr.NotController.Code
}

// TestAsk: a node that is the controller answers itself, Ask tries again while nobody is the controller, and gives up with its context.
func TestAsk(t *testing.T) {
	c := New(metatest.Open(t))
	defer c.Close()
	asked := 0
	answer := func(refused int) func(context.Context, *kmsg.AllocateProducerIDsRequest) (*kmsg.AllocateProducerIDsResponse, error) {
		asked = 0
		return func(context.Context, *kmsg.AllocateProducerIDsRequest) (*kmsg.AllocateProducerIDsResponse, error) {
			resp := kmsg.NewPtrAllocateProducerIDsResponse()
			if asked++; asked <= refused {
				resp.ErrorCode = kerr.NotController.Code
			}
			resp.ProducerIDStart = int64(asked)
			return resp, nil
		}
	}
	req := kmsg.NewPtrAllocateProducerIDsRequest()
	resp, err := Ask(t.Context(), c, req, answer(2), notController)
	if err != nil || resp.ProducerIDStart != 3 {
		t.Errorf("%+v, %v", resp, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*Retry)
	defer cancel()
	if _, err := Ask(ctx, c, req, answer(1<<30), notController); !errors.Is(err, context.DeadlineExceeded) || asked < 2 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	failure := errors.New("a failure")
	begun := time.Now()
	ctx, cancel = context.WithTimeout(t.Context(), 3*Retry)
	defer cancel()
	if _, err := Ask(ctx, c, req, func(context.Context, *kmsg.AllocateProducerIDsRequest) (*kmsg.AllocateProducerIDsResponse, error) {
		return nil, failure
	}, notController); !errors.Is(err, failure) {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
}

// TestForwarded: a node that is the controller handles an administrator's request itself, and returns what its handler returns.
func TestForwarded(t *testing.T) {
	c := New(metatest.Open(t))
	defer c.Close()
	failure := errors.New("a failure")
	for _, want := range []error{nil, failure} {
		handle := Forwarded(c, func(_ *wire.Request, req *kmsg.UnregisterBrokerRequest) (*kmsg.UnregisterBrokerResponse, error) {
			resp := kmsg.NewPtrUnregisterBrokerResponse()
			resp.ThrottleMillis = req.BrokerID
			return resp, want
		})
		req := kmsg.NewPtrUnregisterBrokerRequest()
		req.BrokerID = 7
		if resp, err := handle(metatest.Request(t), req); !errors.Is(err, want) || resp.ThrottleMillis != 7 {
			t.Errorf("%+v, %v", resp, err)
		}
	}
}
