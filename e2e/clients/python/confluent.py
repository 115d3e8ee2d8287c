"""confluent-kafka, driven by the tests. The commands are described in drivers.go."""
import select
import sys

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer


def produce(addr, topic, codec, start, end):
    producer = Producer({"bootstrap.servers": addr, "compression.type": codec, "acks": "all", "linger.ms": 5})
    failures = []
    for i in range(start, end):
        producer.produce(
            topic, f"value-{i}-" + "x" * 50, f"key-{i}", headers={"i": str(i)},
            on_delivery=lambda err, _: failures.append(err) if err else None,
        )
        producer.poll(0)
    if producer.flush(30) or failures:
        sys.exit(f"not delivered: {failures[:3]}")


def stream(addr, topic, partitions, name, plain_acks=None):
    settings = {"bootstrap.servers": addr}
    if plain_acks:
        settings |= {"enable.idempotence": False, "acks": plain_acks, "max.in.flight": 1}
    producer = Producer(settings)

    def answered(value):
        def show(err, m):
            print(f"error {value} {err}" if err else f"ack {value} {m.offset()}", flush=True)
        return show

    i = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        value = f"{name}-{i}"
        print("sent", value, i % partitions, flush=True)
        producer.produce(topic, value, f"key-{i}", partition=i % partitions, on_delivery=answered(value))
        producer.poll(0.005)
        i += 1
    producer.flush()
    print("closed", flush=True)


def consume(addr, topic, group):
    consumer = Consumer({
        "bootstrap.servers": addr, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "heartbeat.interval.ms": 300,
    })

    def commit(asynchronous):
        try:
            consumer.commit(asynchronous=asynchronous)
        except KafkaException as e:
            if e.args[0].code() != KafkaError._NO_OFFSET:  # nothing read since the last commit
                raise

    def assigned(_, tps):
        print("assigned " + ",".join(str(tp.partition) for tp in tps), flush=True)

    # librdkafka: a commit that waits in this callback may wait for ever when the client has just left its group.
    # The request still goes ahead of the next JoinGroup.
    consumer.subscribe([topic], on_assign=assigned, on_revoke=lambda *_: commit(asynchronous=True))
    while not select.select([sys.stdin], [], [], 0)[0]:
        m = consumer.poll(0.1)
        if m is None:
            continue
        if m.error():
            if m.error().code() != KafkaError._PARTITION_EOF:
                print(m.error(), file=sys.stderr, flush=True)
            continue
        header = dict(m.headers() or []).get("i", b"-").decode()
        print("record", m.partition(), m.offset(), (m.key() or b"-").decode(), m.value().decode(), header, flush=True)
    commit(asynchronous=False)
    consumer.close()
    print("closed", flush=True)


def copy(addr, source, target, group, transactional_id):
    consumer = Consumer({
        "bootstrap.servers": addr, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "isolation.level": "read_committed", "session.timeout.ms": 6000, "heartbeat.interval.ms": 300,
    })
    producer = Producer({"bootstrap.servers": addr, "transactional.id": transactional_id, "transaction.timeout.ms": 10000})
    producer.init_transactions()
    consumer.subscribe([source])
    while not select.select([sys.stdin], [], [], 0)[0]:
        messages = [m for m in consumer.consume(500, 0.1) if not m.error()]
        if not messages:
            continue
        producer.begin_transaction()
        for m in messages:
            producer.produce(target, m.value(), m.key())
            producer.poll(0)
        producer.send_offsets_to_transaction(consumer.position(consumer.assignment()), consumer.consumer_group_metadata())
        producer.commit_transaction()  # an error ends the program, and the test starts the next one
        print("copied", len(messages), flush=True)
    consumer.close()
    print("closed", flush=True)


if sys.argv[1] == "produce":
    produce(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6]))
elif sys.argv[1] == "stream":
    stream(sys.argv[2], sys.argv[3], int(sys.argv[4]), *sys.argv[5:])
elif sys.argv[1] == "copy":
    copy(*sys.argv[2:7])
else:
    consume(*sys.argv[2:5])
