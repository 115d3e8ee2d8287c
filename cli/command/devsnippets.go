package command

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// snippets are clients to paste, by language; @SERVERS@ stands for the bootstrap servers.
var snippets = map[string]string{
	"java": `// Maven: org.apache.kafka:kafka-clients
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;

public class Orders {
    public static void main(String[] args) throws Exception {
        try (var producer = new KafkaProducer<String, String>(Map.of(
                "bootstrap.servers", "@SERVERS@",
                "key.serializer", "org.apache.kafka.common.serialization.StringSerializer",
                "value.serializer", "org.apache.kafka.common.serialization.StringSerializer"))) {
            producer.send(new ProducerRecord<>("orders", "key", "hello")).get();
        }
        try (var consumer = new KafkaConsumer<String, String>(Map.of(
                "bootstrap.servers", "@SERVERS@", "group.id", "readers", "auto.offset.reset", "earliest",
                "key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer",
                "value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer"))) {
            consumer.subscribe(List.of("orders"));
            while (true)
                for (var r : consumer.poll(Duration.ofSeconds(1)))
                    System.out.println(r.key() + "=" + r.value());
        }
    }
}
`,
	"python": `# pip install confluent-kafka
from confluent_kafka import Consumer, Producer

producer = Producer({"bootstrap.servers": "@SERVERS@"})
producer.produce("orders", key="key", value="hello")
producer.flush()

consumer = Consumer({"bootstrap.servers": "@SERVERS@", "group.id": "readers", "auto.offset.reset": "earliest"})
consumer.subscribe(["orders"])
while True:
    record = consumer.poll(1)
    if record and not record.error():
        print(record.key(), record.value())
`,
	"node": `// npm install kafkajs
const { Kafka } = require("kafkajs");

const kafka = new Kafka({ brokers: "@SERVERS@".split(",") });

(async () => {
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic: "orders", messages: [{ key: "key", value: "hello" }] });

  const consumer = kafka.consumer({ groupId: "readers" });
  await consumer.connect();
  await consumer.subscribe({ topic: "orders", fromBeginning: true });
  await consumer.run({ eachMessage: async ({ message }) => console.log(String(message.key), String(message.value)) });
})();
`,
	"go": `// go get github.com/twmb/franz-go
package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	ctx := context.Background()
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split("@SERVERS@", ",")...), kgo.AllowAutoTopicCreation(),
		kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("orders"))
	if err != nil {
		panic(err)
	}
	defer client.Close()
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: "orders", Key: []byte("key"), Value: []byte("hello")}).FirstErr(); err != nil {
		panic(err)
	}
	for {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) { fmt.Printf("%s=%s\n", r.Key, r.Value) })
	}
}
`,
	"rust": `// cargo add rdkafka --features tokio; cargo add tokio --features full
use rdkafka::{config::ClientConfig, consumer::{Consumer, StreamConsumer}, producer::{FutureProducer, FutureRecord}, Message};
use std::time::Duration;

#[tokio::main]
async fn main() {
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", "@SERVERS@").create().unwrap();
    producer.send(FutureRecord::to("orders").key("key").payload("hello"), Duration::from_secs(5)).await.unwrap();

    let consumer: StreamConsumer = ClientConfig::new().set("bootstrap.servers", "@SERVERS@").set("group.id", "readers")
        .set("auto.offset.reset", "earliest").create().unwrap();
    consumer.subscribe(&["orders"]).unwrap();
    loop {
        let record = consumer.recv().await.unwrap();
        println!("{:?}", record.payload_view::<str>());
    }
}
`,
	"kcat": `echo key:hello | kcat -b @SERVERS@ -t orders -P -K:
kcat -b @SERVERS@ -t orders -C -e -f '%k=%s\n'
`,
	"spring": `# src/main/resources/application.properties; dependency org.springframework.kafka:spring-kafka
spring.kafka.bootstrap-servers=@SERVERS@
spring.kafka.consumer.group-id=readers
spring.kafka.consumer.auto-offset-reset=earliest
# then: @KafkaListener(topics = "orders") void on(String value) { ... }
# and:  @Autowired KafkaTemplate<String, String> template;  template.send("orders", "key", "hello");
`,
}

func printSnippet(c *cli.Context, args []string) error {
	text, ok := snippets[args[0]]
	if !ok {
		return badUse("there is no snippet for %q: there are %s", args[0], strings.Join(sortedKeys(snippets), ", "))
	}
	servers := "localhost:9092"
	if f := findDev(); f != nil {
		servers = strings.Join(f.Addresses, ",")
	}
	_, err := fmt.Fprint(c.App.Writer, strings.ReplaceAll(text, "@SERVERS@", servers))
	return err
}
