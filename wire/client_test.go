package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// answering answers a Client's requests on one end of a pipe: ApiVersions by itself, the others by answer, which writes frames.
func answering(t *testing.T, answer func(id uint32, write func(id uint32, body []byte))) *Client {
	t.Helper()
	dial := func(context.Context, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			r := bufio.NewReader(theirs)
			write := func(id uint32, body []byte) {
				frame := binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))
				_, _ = theirs.Write(append(binary.BigEndian.AppendUint32(frame, id), body...))
			}
			for {
				var size [4]byte
				if _, err := io.ReadFull(r, size[:]); err != nil {
					return
				}
				frame := make([]byte, binary.BigEndian.Uint32(size[:]))
				if _, err := io.ReadFull(r, frame); err != nil {
					return
				}
				id := binary.BigEndian.Uint32(frame[4:])
				if binary.BigEndian.Uint16(frame) == apiVersionsKey {
					resp := kmsg.NewPtrApiVersionsResponse()
					resp.SetVersion(3)
					resp.ApiKeys = []kmsg.ApiVersionsResponseApiKey{{ApiKey: kmsg.Fetch.Int16(), MaxVersion: 11}}
					write(id, resp.AppendTo(nil))
					continue
				}
				answer(id, write)
			}
		}()
		return ours, nil
	}
	c := NewClient(dial, "peer", "test")
	t.Cleanup(c.Close)
	return c
}

// fetched is an answer to a Fetch with so many bytes of records.
func fetched(bytes []byte) []byte {
	resp := kmsg.NewPtrFetchResponse()
	resp.SetVersion(11)
	p := kmsg.NewFetchResponseTopicPartition()
	p.RecordBatches = bytes
	resp.Topics = []kmsg.FetchResponseTopic{{Topic: "t", Partitions: []kmsg.FetchResponseTopicPartition{p}}}
	return resp.AppendTo(nil)
}

func records(r kmsg.Response) []byte {
	return r.(*kmsg.FetchResponse).Topics[0].Partitions[0].RecordBatches
}

// TestDoInto: answers come into the buffer that the caller gives, or into a larger one that it can give next.
func TestDoInto(t *testing.T) {
	sizes := []int{10, 3 << 20, 5, 3 << 20}
	asked := 0
	c := answering(t, func(id uint32, write func(uint32, []byte)) {
		write(id, fetched(bytes.Repeat([]byte{byte(asked + 1)}, sizes[asked])))
		asked++
	})
	var buf []byte
	for i, size := range sizes {
		before := cap(buf)
		resp, used, err := c.DoInto(t.Context(), kmsg.NewPtrFetchRequest(), buf)
		if err != nil {
			t.Fatal(err)
		}
		if got := records(resp); len(got) != size || !bytes.Equal(got, bytes.Repeat([]byte{byte(i + 1)}, size)) {
			t.Fatalf("answer %d: %d bytes, or others than were sent", i, len(got))
		}
		if i > 1 && cap(used) != before {
			t.Errorf("answer %d of %d bytes came into another buffer: %d after %d bytes", i, size, cap(used), before)
		}
		buf = used
	}
}

// TestAbandonedBuffer: the buffer of a caller that has given up is its own no more, since the answer may come into it later.
func TestAbandonedBuffer(t *testing.T) {
	goOn := make(chan struct{})
	first := true
	c := answering(t, func(id uint32, write func(uint32, []byte)) {
		if first {
			first = false
			<-goOn
		}
		write(id, fetched([]byte("late")))
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, used, err := c.DoInto(ctx, kmsg.NewPtrFetchRequest(), make([]byte, 100)); err == nil || used != nil {
		t.Errorf("a call that timed out returned a buffer of %d bytes, and %v", cap(used), err)
	}
	close(goOn)
	if resp, err := c.Do(t.Context(), kmsg.NewPtrFetchRequest()); err != nil || string(records(resp)) != "late" {
		t.Errorf("the next call: %v", err)
	}
}

// TestSecondAnswer: an answer that comes twice does not come into a buffer that the caller uses by then.
func TestSecondAnswer(t *testing.T) {
	ours, theirs := net.Pipe()
	waits := &awaited{into: make([]byte, 0, 100), body: make(chan []byte, 2)}
	c := &clientConn{tcp: ours, waiting: map[int32]*awaited{7: waits}, done: make(chan struct{})}
	go c.read()
	for _, body := range []string{"first", "again"} {
		frame := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(4+len(body))), 7)
		if _, err := theirs.Write(append(frame, body...)); err != nil {
			t.Fatal(err)
		}
	}
	_ = theirs.Close()
	<-c.done // both have been read
	if got := <-waits.body; string(got) != "first" || len(waits.body) > 0 {
		t.Errorf("%q, and %d more answers", got, len(waits.body))
	}
}

// TestPromisedAnswer: a peer that announces a large answer and sends nothing of it has no more memory reserved than firstBody.
func TestPromisedAnswer(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	buf, err := readBody(bytes.NewReader(make([]byte, 10)), maxAnswer, nil)
	runtime.ReadMemStats(&after)
	if made := after.TotalAlloc - before.TotalAlloc; err == nil || buf != nil || made > 4*firstBody {
		t.Errorf("%d bytes were made for 10 that came: %v", made, err)
	}
}
