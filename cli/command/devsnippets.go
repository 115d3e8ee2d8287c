package command

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"kraft/cli/config"
	"kraft/cli/credentials"
)

// snippets are clients to paste, by language. @SERVERS@ stands for the bootstrap servers, @GROUP@ for a group of consumers, the other words for what
// secured says.
var snippets = map[string]string{
	"java": `// Maven: org.apache.kafka:kafka-clients
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;

public class Orders {
    public static void main(String[] args) throws Exception {
        try (var producer = new KafkaProducer<String, String>(Map.of(
                "bootstrap.servers", "@SERVERS@",@JAVA@
                "key.serializer", "org.apache.kafka.common.serialization.StringSerializer",
                "value.serializer", "org.apache.kafka.common.serialization.StringSerializer"))) {
            producer.send(new ProducerRecord<>("orders", "key", "hello")).get();
        }
        try (var consumer = new KafkaConsumer<String, String>(Map.of(
                "bootstrap.servers", "@SERVERS@", "group.id", "@GROUP@", "auto.offset.reset", "earliest",@JAVA@
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

@PYTHON@producer = Producer({"bootstrap.servers": "@SERVERS@"@SECURITY@})
producer.produce("orders", key="key", value="hello")
producer.flush()

consumer = Consumer({"bootstrap.servers": "@SERVERS@", "group.id": "@GROUP@", "auto.offset.reset": "earliest"@SECURITY@})
consumer.subscribe(["orders"])
while True:
    record = consumer.poll(1)
    if record and not record.error():
        print(record.key(), record.value())
`,
	"node": `// npm install kafkajs
const { Kafka } = require("kafkajs");

const kafka = new Kafka({ brokers: "@SERVERS@".split(",")@NODE@ });

(async () => {
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic: "orders", messages: [{ key: "key", value: "hello" }] });

  const consumer = kafka.consumer({ groupId: "@GROUP@" });
  await consumer.connect();
  await consumer.subscribe({ topic: "orders", fromBeginning: true });
  await consumer.run({ eachMessage: async ({ message }) => console.log(String(message.key), String(message.value)) });
})();
`,
	"go": `// go get github.com/twmb/franz-go
package main

import (
	"context"@IMPORTS@
	"fmt"@MORE@
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"@SCRAM@
)

func main() {
	ctx := context.Background()
@TRUST@	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split("@SERVERS@", ",")...), kgo.AllowAutoTopicCreation(),@LOGIN@
		kgo.ConsumerGroup("@GROUP@"), kgo.ConsumeTopics("orders"))
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
	"rust": `// cargo add rdkafka --features tokio@FEATURES@; cargo add tokio --features full
use rdkafka::{config::ClientConfig, consumer::{Consumer, StreamConsumer}, producer::{FutureProducer, FutureRecord}, Message};
use std::time::Duration;

#[tokio::main]
async fn main() {
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", "@SERVERS@")@RUST@.create().unwrap();
    producer.send(FutureRecord::to("orders").key("key").payload("hello"), Duration::from_secs(5)).await.unwrap();

    let consumer: StreamConsumer = ClientConfig::new().set("bootstrap.servers", "@SERVERS@").set("group.id", "@GROUP@")@RUST@
        .set("auto.offset.reset", "earliest").create().unwrap();
    consumer.subscribe(&["orders"]).unwrap();
    loop {
        let record = consumer.recv().await.unwrap();
        println!("{:?}", record.payload_view::<str>());
    }
}
`,
	"kcat": `echo key:hello | kcat@KCAT@ -b @SERVERS@ -t orders -P -K:
kcat@KCAT@ -b @SERVERS@ -t orders -C -e -f '%k=%s\n'
`,
	"spring": `# src/main/resources/application.properties; dependency org.springframework.kafka:spring-kafka
spring.kafka.bootstrap-servers=@SERVERS@@SPRING@
spring.kafka.consumer.group-id=@GROUP@
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
	servers, settings := "localhost:9092", map[string]string{}
	if f := findDev(); f != nil {
		servers = strings.Join(f.Addresses, ",")
		if f.Settings != "" {
			var err error
			if settings, err = config.ReadFile(f.Settings); err != nil {
				return err
			}
		}
	}
	words, err := secured(settings)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(c.App.Writer, strings.NewReplacer(append(words, "@SERVERS@", servers, "@GROUP@", args[0]+"-readers")...).Replace(text))
	return err
}

// secured has the words of snippets, each with what it stands for where clients have such settings; nothing where they have none.
func secured(settings map[string]string) (words []string, err error) {
	login, err := credentials.LoginOf(settings)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(filepath.Dir(login.Authorities), librdkafkaConfig)
	add := func(word, text string) {
		if login.User == "" {
			text = ""
		}
		words = append(words, word, strings.NewReplacer("$CA", login.Authorities, "$CONFIG", config, "$USER", login.User, "$PASSWORD", login.Password, "$QUOTED", strings.ReplaceAll(login.JAAS, `"`, `\"`), "$JAAS", login.JAAS).Replace(text))
	}
	add("@JAVA@", `
                "security.protocol", "SASL_SSL", "ssl.truststore.type", "PEM", "ssl.truststore.location", "$CA",
                "sasl.mechanism", "SCRAM-SHA-512", "`+credentials.JAAS+`",
                "$QUOTED",`)
	add("@PYTHON@", `login = {"security.protocol": "SASL_SSL", "ssl.ca.location": "$CA",
         "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "$USER", "sasl.password": "$PASSWORD"}
`)
	add("@SECURITY@", `, **login`)
	add("@NODE@", `,
  ssl: { ca: [require("fs").readFileSync("$CA")] },
  sasl: { mechanism: "scram-sha-512", username: "$USER", password: "$PASSWORD" }`)
	add("@IMPORTS@", `
	"crypto/tls"
	"crypto/x509"`)
	add("@MORE@", `
	"os"`)
	add("@SCRAM@", `
	"github.com/twmb/franz-go/pkg/sasl/scram"`)
	add("@TRUST@", `	authorities, err := os.ReadFile("$CA")
	if err != nil {
		panic(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(authorities)
`)
	add("@LOGIN@", `
		kgo.DialTLSConfig(&tls.Config{RootCAs: trusted}), kgo.SASL(scram.Auth{User: "$USER", Pass: "$PASSWORD"}.AsSha512Mechanism()),`)
	add("@RUST@", `
        .set("security.protocol", "SASL_SSL").set("ssl.ca.location", "$CA").set("sasl.mechanism", "SCRAM-SHA-512")
        .set("sasl.username", "$USER").set("sasl.password", "$PASSWORD")`)
	add("@FEATURES@", ",ssl")
	add("@KCAT@", " -F $CONFIG")
	add("@SPRING@", `
spring.kafka.properties.security.protocol=SASL_SSL
spring.kafka.properties.ssl.truststore.type=PEM
spring.kafka.properties.ssl.truststore.location=$CA
spring.kafka.properties.sasl.mechanism=SCRAM-SHA-512
spring.kafka.properties.sasl.jaas.config=$JAAS`)
	return words, nil
}
