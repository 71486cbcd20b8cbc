"""Writes transactions to partition 0 of `topic` with confluent-kafka: two committed, one aborted between them, and one
that is open until a line comes on standard input. Says each in the order of the log, and what the values begin with."""

import json
import sys

from confluent_kafka import Producer

bootstrap, topic = sys.argv[1:3]
producer = Producer(
    {"bootstrap.servers": bootstrap, "transactional.id": f"{topic}-writer", "compression.type": "lz4", "linger.ms": 5}
)
producer.init_transactions(30)


def write(name):
    producer.begin_transaction()
    for number in range(10):
        producer.produce(topic, partition=0, value=f"{name} {number}")
    if producer.flush(30):
        sys.exit(f"{name}: not delivered")


write("committed")
producer.commit_transaction(30)
write("aborted")
producer.abort_transaction(30)
write("also committed")
producer.commit_transaction(30)
write("late")
print(json.dumps({"step": "open"}), flush=True)
sys.stdin.readline()
producer.commit_transaction(30)
print(json.dumps({"step": "committed"}), flush=True)
