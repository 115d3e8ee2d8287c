//go:build linux

package hostile

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ask writes requests until stop, and reads answers and drops them; wait is for an answer before the next request.
func ask(c net.Conn, stop <-chan struct{}, wait bool, next func(i int) kmsg.Request) {
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
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond)) // who parks requests is not read any more
		if _, err := c.Write(format.AppendRequest(nil, next(i), int32(i))); err != nil {
			<-stop
			return
		}
		if wait && answer() != nil {
			return
		}
	}
}

// TestNames: peers that have a broker remember what they make up, or that park as many requests as it takes, hold up nobody else, and memory
// stays within bounds.
func TestNames(t *testing.T) {
	k, address := start(t)
	v := newVictim(t, k)
	fetch := func(waitMillis int32, epoch int32) *kmsg.FetchRequest {
		req := kmsg.NewPtrFetchRequest()
		req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 11, waitMillis, math.MaxInt32, math.MaxInt32, epoch
		ft, fp := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
		ft.Topic, fp.PartitionMaxBytes = "t", 0
		ft.Partitions = append(ft.Partitions, fp)
		req.Topics = append(req.Topics, ft)
		return req
	}
	for name, c := range map[string]struct {
		peers int
		wait  bool
		next  func(peer int) func(i int) kmsg.Request
	}{
		"groups": {4, true, func(peer int) func(int) kmsg.Request {
			return func(i int) kmsg.Request {
				req := kmsg.NewPtrJoinGroupRequest()
				req.Version, req.Group, req.SessionTimeoutMillis, req.ProtocolType = 9, fmt.Sprint("group ", peer, " ", i), 30*60*1000, "consumer"
				req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: make([]byte, 1000)}}
				return req
			}
		}},
		"clients that push metrics": {4, true, func(peer int) func(int) kmsg.Request {
			return func(i int) kmsg.Request {
				req := kmsg.NewPtrGetTelemetrySubscriptionsRequest()
				binary.BigEndian.PutUint64(req.ClientInstanceID[:], uint64(peer+1))
				binary.BigEndian.PutUint64(req.ClientInstanceID[8:], uint64(i+1))
				return req
			}
		}},
		"fetch sessions": {4, true, func(int) func(int) kmsg.Request {
			return func(int) kmsg.Request { return fetch(0, 0) }
		}},
		"requests that wait": {200, false, func(int) func(int) kmsg.Request {
			return func(int) kmsg.Request { return fetch(60_000, -1) }
		}},
		"consumers of groups that are not there": {4, true, func(peer int) func(int) kmsg.Request {
			return func(i int) kmsg.Request {
				req := kmsg.NewPtrOffsetCommitRequest()
				req.Version, req.Group, req.Generation, req.MemberID = 7, fmt.Sprint("none ", peer, " ", i), 5, "nobody"
				return req
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			stop := make(chan struct{})
			var peers sync.WaitGroup
			for i := range c.peers {
				peer, err := dial(i, address)
				if err != nil {
					t.Fatal(err)
				}
				defer peer.Close()
				peers.Go(func() { ask(peer, stop, c.wait, c.next(i)) })
			}
			v.goesOn(t)
			close(stop)
			peers.Wait()
		})
	}
}
