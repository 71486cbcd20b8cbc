"""Writes the records on standard input, one JSON object a line with bytes as hex, to partition 0."""

import json
import sys

from confluent_kafka import Producer

bootstrap, topic, codec = sys.argv[1:4]
failures = []
producer = Producer(
    {
        "bootstrap.servers": bootstrap,
        "compression.type": codec,
        "enable.idempotence": True,
        "linger.ms": 20,
        "message.max.bytes": 2000000,
        "on_delivery": lambda error, message: failures.append(error) if error else None,
    }
)


def unhexed(text):
    return None if text is None else bytes.fromhex(text)


for line in sys.stdin:
    record = json.loads(line)
    producer.produce(
        topic,
        partition=0,
        timestamp=record["timestamp"],
        key=unhexed(record["key"]),
        value=unhexed(record["value"]),
        headers=[(key, unhexed(value)) for key, value in record["headers"]],
    )
left = producer.flush(40)
if left or failures:
    sys.exit(f"{left} not delivered, failures: {failures}")
