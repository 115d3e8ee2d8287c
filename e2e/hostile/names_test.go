//go:build linux

package hostile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ask writes requests, and reads answers and drops them; wait is for an answer before the next request. It returns where no answer comes;
// or, without wait, where no more requests are read.
func ask(c net.Conn, did func(), wait bool, next func(i int) kmsg.Request) error {
	format := kmsg.NewRequestFormatter(kmsg.FormatterClientID("hostile"))
	r := bufio.NewReader(c)
	answer := func() error {
		var size [4]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return err
		}
		_, err := io.CopyN(io.Discard, r, int64(binary.BigEndian.Uint32(size[:])))
		return err
	}
	patience := 30 * time.Second
	for i := 0; ; i++ {
		if !wait && i > 0 {
			patience = 500 * time.Millisecond
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err := c.Write(format.AppendRequest(nil, next(i), int32(i)))
		if err == nil && wait {
			err = answer()
		}
		if !wait && errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		did()
	}
}

// fetch asks for more bytes than there are, of one partition.
func fetch(waitMillis int32, epoch int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 11, waitMillis, math.MaxInt32, math.MaxInt32, epoch
	ft, fp := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	ft.Topic, fp.PartitionMaxBytes = "t", 0
	ft.Partitions = append(ft.Partitions, fp)
	req.Topics = append(req.Topics, ft)
	return req
}

// names are what peers make up, as fast as they are answered, or park.
var names = map[string]attack{
	"groups": {4, func(peer int, c net.Conn, did func()) error {
		return ask(c, did, true, func(i int) kmsg.Request {
			req := kmsg.NewPtrJoinGroupRequest()
			req.Version, req.Group, req.SessionTimeoutMillis, req.ProtocolType = 9, fmt.Sprint("group ", peer, " ", i), 30*60*1000, "consumer"
			req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: make([]byte, 1000)}}
			return req
		})
	}},
	"clients that push metrics": {4, func(peer int, c net.Conn, did func()) error {
		return ask(c, did, true, func(i int) kmsg.Request {
			req := kmsg.NewPtrGetTelemetrySubscriptionsRequest()
			binary.BigEndian.PutUint64(req.ClientInstanceID[:], uint64(peer+1))
			binary.BigEndian.PutUint64(req.ClientInstanceID[8:], uint64(i+1))
			return req
		})
	}},
	"fetch sessions": {4, func(_ int, c net.Conn, did func()) error {
		return ask(c, did, true, func(int) kmsg.Request { return fetch(0, 0) })
	}},
	"requests that wait": {200, func(_ int, c net.Conn, did func()) error {
		return ask(c, did, false, func(int) kmsg.Request { return fetch(60_000, -1) })
	}},
	"consumers of groups that are not there": {4, func(peer int, c net.Conn, did func()) error {
		return ask(c, did, true, func(i int) kmsg.Request {
			req := kmsg.NewPtrOffsetCommitRequest()
			req.Version, req.Group, req.Generation, req.MemberID = 7, fmt.Sprint("none ", peer, " ", i), 5, "nobody"
			return req
		})
	}},
}

// TestNames: peers that have a broker remember what they make up, or that park as many requests as it takes, hold up nobody else, and memory
// stays within bounds.
func TestNames(t *testing.T) {
	k, address := start(t)
	v := newVictim(t, k, address)
	for name := range names {
		t.Run(name, func(t *testing.T) {
			v.goesOn(t, besiege(t, name, address))
		})
	}
}
