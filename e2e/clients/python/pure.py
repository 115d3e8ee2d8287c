"""kafka-python, driven by the tests. The commands are described in drivers.go."""
import select
import sys

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer


def produce(addr, topic, codec, start, end):
    producer = KafkaProducer(bootstrap_servers=addr, compression_type=None if codec == "none" else codec, acks="all", linger_ms=5)
    sent = [
        producer.send(topic, f"value-{i}-{'x' * 50}".encode(), f"key-{i}".encode(), headers=[("i", str(i).encode())])
        for i in range(start, end)
    ]
    for future in sent:
        future.get(timeout=30)
    producer.close()


def consume(addr, topic, group):
    consumer = KafkaConsumer(
        bootstrap_servers=addr, group_id=group, auto_offset_reset="earliest", heartbeat_interval_ms=300,
        enable_auto_commit=True,  # also before a rebalance, where a listener must not block
    )

    class Listener(ConsumerRebalanceListener):
        def on_partitions_revoked(self, revoked):
            pass

        def on_partitions_assigned(self, assigned):
            print("assigned " + ",".join(str(tp.partition) for tp in assigned), flush=True)

    # It must know the topic before it joins: as leader of a group that forms at once it would otherwise assign
    # nothing, and it does not join again when the metadata comes.
    consumer.partitions_for_topic(topic)
    consumer.subscribe([topic], listener=Listener())
    while not select.select([sys.stdin], [], [], 0)[0]:
        for records in consumer.poll(100).values():
            for r in records:
                header = dict(r.headers or []).get("i", b"-").decode()
                print("record", r.partition, r.offset, r.key.decode(), r.value.decode(), header, flush=True)
    consumer.close()
    print("closed", flush=True)


if sys.argv[1] == "produce":
    produce(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6]))
else:
    consume(*sys.argv[2:5])
