//! rdkafka, driven by the tests. The commands are described in drivers.go.
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

struct Deliveries;

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        if let Err((e, _)) = result {
            eprintln!("not delivered: {e}");
            std::process::exit(1);
        }
    }
}

fn produce(addr: &str, topic: &str, codec: &str, from: u32, to: u32) {
    let producer: BaseProducer<Deliveries> = ClientConfig::new()
        .set("bootstrap.servers", addr)
        .set("compression.type", codec)
        .set("acks", "all")
        .set("linger.ms", "5")
        .create_with_context(Deliveries)
        .expect("producer");
    for i in from..to {
        let (key, value, number) = (format!("key-{i}"), format!("value-{i}-{}", "x".repeat(50)), i.to_string());
        let headers = OwnedHeaders::new().insert(Header { key: "i", value: Some(&number) });
        let mut record = BaseRecord::to(topic).key(&key).payload(&value).headers(headers);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    producer.poll(Duration::from_millis(10));
                    record = back;
                }
                Err((e, _)) => panic!("{e}"),
            }
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(30)).expect("flush");
}

struct Assignments;

impl ClientContext for Assignments {}

impl ConsumerContext for Assignments {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(_) = rebalance {
            // Not Sync: a commit that waits here may wait for ever when the client has just left its group.
            // The request still goes ahead of the next JoinGroup. Nothing to commit is no fault.
            let _ = consumer.commit_consumer_state(CommitMode::Async);
        }
    }
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(tps) = rebalance {
            let list: Vec<String> = tps.elements().iter().map(|e| e.partition().to_string()).collect();
            println!("assigned {}", list.join(","));
        }
    }
}

fn consume(addr: &str, topic: &str, group: &str) {
    let consumer: BaseConsumer<Assignments> = ClientConfig::new()
        .set("bootstrap.servers", addr)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("heartbeat.interval.ms", "300")
        .create_with_context(Assignments)
        .expect("consumer");
    consumer.subscribe(&[topic]).expect("subscribe");
    let stop = Arc::new(AtomicBool::new(false));
    let stopper = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0; 1]);
        stopper.store(true, Ordering::SeqCst);
    });
    let text = |b: Option<&[u8]>| String::from_utf8_lossy(b.unwrap_or(b"-")).into_owned();
    while !stop.load(Ordering::SeqCst) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(m)) => {
                let header = m.headers().and_then(|h| h.try_get(0)).map_or("-".into(), |h| text(h.value));
                println!("record {} {} {} {} {}", m.partition(), m.offset(), text(m.key()), text(m.payload()), header);
            }
            Some(Err(e)) => eprintln!("{e}"),
            None => {}
        }
    }
    let _ = consumer.commit_consumer_state(CommitMode::Sync);
    drop(consumer);
    println!("closed");
}

fn copy(addr: &str, source: &str, target: &str, group: &str, transactional_id: &str) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", addr)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "300")
        .create()
        .expect("consumer");
    let producer: BaseProducer<Deliveries> = ClientConfig::new()
        .set("bootstrap.servers", addr)
        .set("transactional.id", transactional_id)
        .set("transaction.timeout.ms", "10000")
        .create_with_context(Deliveries)
        .expect("producer");
    let patience = Duration::from_secs(30);
    producer.init_transactions(patience).expect("init_transactions");
    consumer.subscribe(&[source]).expect("subscribe");
    loop {
        let mut copied = 0;
        while copied < 500 {
            let m = match consumer.poll(Duration::from_millis(if copied == 0 { 100 } else { 0 })) {
                Some(Ok(m)) => m,
                Some(Err(_)) => continue,
                None => break,
            };
            if copied == 0 {
                producer.begin_transaction().expect("begin_transaction");
            }
            let record = BaseRecord::to(target).key(m.key().unwrap_or(b"")).payload(m.payload().unwrap_or(b""));
            producer.send(record).map_err(|(e, _)| e).expect("send");
            producer.poll(Duration::ZERO);
            copied += 1;
        }
        if copied == 0 {
            continue;
        }
        let offsets = consumer.position().expect("position");
        let member = consumer.group_metadata().expect("group metadata");
        producer.send_offsets_to_transaction(&offsets, &member, patience).expect("send_offsets_to_transaction");
        producer.commit_transaction(patience).expect("commit_transaction"); // a panic ends the program, and the test starts the next one
        println!("copied {copied}");
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args[0].as_str() {
        "produce" => produce(&args[1], &args[2], &args[3], args[4].parse().unwrap(), args[5].parse().unwrap()),
        "copy" => copy(&args[1], &args[2], &args[3], &args[4], &args[5]),
        _ => consume(&args[1], &args[2], &args[3]),
    }
}
