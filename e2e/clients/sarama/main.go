// Sarama, driven by the tests. The commands are described in drivers.go.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

func main() {
	var err error
	switch a := os.Args[1:]; a[0] {
	case "produce":
		from, _ := strconv.Atoi(a[4])
		to, _ := strconv.Atoi(a[5])
		err = produce(a[1], a[2], a[3], from, to)
	case "stream":
		partitions, _ := strconv.Atoi(a[3])
		acks := ""
		if len(a) > 5 {
			acks = a[5]
		}
		err = stream(a[1], a[2], partitions, a[4], acks)
	default:
		err = consume(a[1], a[2], a[3])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func produce(addr, topic, codec string, from, to int) error {
	c := sarama.NewConfig()
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	if err := c.Producer.Compression.UnmarshalText([]byte(codec)); err != nil {
		return err
	}
	p, err := sarama.NewSyncProducer([]string{addr}, c)
	if err != nil {
		return err
	}
	for i := from; i < to; {
		var batch []*sarama.ProducerMessage
		for end := min(to, i+500); i < end; i++ {
			batch = append(batch, &sarama.ProducerMessage{
				Topic: topic, Key: sarama.StringEncoder(fmt.Sprintf("key-%d", i)),
				Value:   sarama.StringEncoder(fmt.Sprintf("value-%d-%s", i, strings.Repeat("x", 50))),
				Headers: []sarama.RecordHeader{{Key: []byte("i"), Value: []byte(strconv.Itoa(i))}},
			})
		}
		if err := p.SendMessages(batch); err != nil {
			return err
		}
	}
	return p.Close()
}

func stream(addr, topic string, partitions int, name, plainAcks string) error {
	c := sarama.NewConfig()
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Return.Successes = true
	c.Net.MaxOpenRequests = 1 // idempotence asks for it
	switch plainAcks {
	case "":
		c.Producer.Idempotent = true
		c.Producer.RequiredAcks = sarama.WaitForAll
	case "all":
		c.Producer.RequiredAcks = sarama.WaitForAll
	case "1":
		c.Producer.RequiredAcks = sarama.WaitForLocal
	}
	p, err := sarama.NewAsyncProducer(strings.Split(addr, ","), c)
	if err != nil {
		return err
	}
	var answers sync.WaitGroup
	answers.Go(func() {
		for m := range p.Successes() {
			fmt.Println("ack", m.Metadata, m.Offset)
		}
	})
	answers.Go(func() {
		for e := range p.Errors() {
			fmt.Println("error", e.Msg.Metadata, e.Err)
		}
	})
	end := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(end)
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		value := fmt.Sprintf("%s-%d", name, i)
		fmt.Println("sent", value, i%partitions)
		p.Input() <- &sarama.ProducerMessage{Topic: topic, Partition: int32(i % partitions), Key: sarama.StringEncoder(fmt.Sprintf("key-%d", i)), Value: sarama.StringEncoder(value), Metadata: value}
		select {
		case <-tick.C:
		case <-end:
			p.AsyncClose()
			answers.Wait()
			fmt.Println("closed")
			return nil
		}
	}
}

// handler prints what it gets; several claims share stdout.
type handler struct {
	topic string
	mu    sync.Mutex
}

func (h *handler) Setup(s sarama.ConsumerGroupSession) error {
	var list []string
	for _, p := range s.Claims()[h.topic] {
		list = append(list, strconv.Itoa(int(p)))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	fmt.Println("assigned " + strings.Join(list, ","))
	return nil
}

func (h *handler) Cleanup(s sarama.ConsumerGroupSession) error {
	s.Commit()
	return nil
}

func (h *handler) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			header := "-"
			for _, r := range m.Headers {
				if string(r.Key) == "i" {
					header = string(r.Value)
				}
			}
			h.mu.Lock()
			fmt.Printf("record %d %d %s %s %s\n", m.Partition, m.Offset, m.Key, m.Value, header)
			h.mu.Unlock()
			s.MarkMessage(m, "")
		case <-s.Context().Done():
			return nil
		}
	}
}

func consume(addr, topic, group string) error {
	c := sarama.NewConfig()
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	g, err := sarama.NewConsumerGroup([]string{addr}, group, c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	h := &handler{topic: topic}
	for ctx.Err() == nil {
		if err := g.Consume(ctx, []string{topic}, h); err != nil {
			return err
		}
	}
	if err := g.Close(); err != nil {
		return err
	}
	fmt.Println("closed")
	return nil
}
