package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire/record"
)

// rawConn is a bare connection that speaks the protocol. One goroutine reads.
type rawConn struct {
	net.Conn
	r    *bufio.Reader
	body []byte // of the last answer, used again
}

func dial(addr string) (*rawConn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &rawConn{Conn: c, r: bufio.NewReaderSize(c, 64<<10)}, nil
}

// frame encodes a request with its header.
func frame(req kmsg.Request) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench")).AppendRequest(nil, req, 1)
}

// skip reads one answer and throws it away, but for its first bytes.
func (c *rawConn) skip(keep int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	kept := make([]byte, min(keep, n))
	if _, err := io.ReadFull(c.r, kept); err != nil {
		return nil, err
	}
	_, err := c.r.Discard(n - len(kept))
	return kept, err
}

// ask sends a request and decodes its answer, which is valid until the next call.
func (c *rawConn) ask(req kmsg.Request) (kmsg.Response, error) {
	if _, err := c.Write(frame(req)); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if cap(c.body) < n {
		c.body = make([]byte, n)
	}
	if _, err := io.ReadFull(c.r, c.body[:n]); err != nil {
		return nil, err
	}
	body := c.body[4:n]
	resp := req.ResponseKind()
	if resp.IsFlexible() && req.Key() != 18 {
		body = body[1:]
	}
	return resp, resp.ReadFrom(body)
}

// batchOf is one uncompressed batch of n records with values of size bytes.
func batchOf(n, size int) []byte {
	w := record.NewBuilder(record.None)
	value := make([]byte, size)
	for i := range value {
		value[i] = byte(i * 7)
	}
	now := time.Now().UnixMilli()
	for range n {
		w.Add(&record.Record{Timestamp: now, Value: value})
	}
	b, err := w.Build()
	if err != nil {
		panic(err) // an uncompressed batch cannot fail
	}
	return b
}

// createTopic makes a topic and writes a record to each partition, which shows that its leader is ready.
func createTopic(addr, name string, partitions int32) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, partitions, 1, nil, name); err != nil {
		return err
	}
	c, err := dial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	for p := range partitions {
		request := produceFrame(name, p, 1, batchOf(batchRecords, recordBytes))
		for {
			if _, err := c.Write(request); err != nil {
				return err
			}
			body, err := c.skip(300)
			if err != nil {
				return err
			}
			if err = checkProduced(body); err == nil {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("topic is not ready after 30 s: %w", err)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// produceFrame is an encoded Produce request for one partition.
func produceFrame(topic string, partition int32, acks int16, batch []byte) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 9, acks, 30_000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = topic
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, batch
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return frame(req)
}

// checkProduced decodes a Produce answer's bytes and returns its error.
func checkProduced(body []byte) error {
	resp := kmsg.NewPtrProduceResponse()
	resp.Version = 9
	if err := resp.ReadFrom(body[5:]); err != nil {
		return err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return fmt.Errorf("answer has %d topics", len(resp.Topics))
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// lastOffset is the last offset of the whole batches in data, -1 without any.
func lastOffset(data []byte) int64 {
	last := int64(-1)
	for {
		b, rest, err := record.Next(data)
		if err != nil {
			return last
		}
		last, data = b.LastOffset(), rest
	}
}
