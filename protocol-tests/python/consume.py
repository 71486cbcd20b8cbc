"""Reads `count` records of `topic` from the beginning; prints one JSON object a line, bytes as hex."""

import json
import sys
import time

from confluent_kafka import Consumer

bootstrap, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
consumer = Consumer(
    {
        "bootstrap.servers": bootstrap,
        "group.id": f"python-{topic}",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "check.crcs": True,
    }
)
consumer.subscribe([topic])


def hexed(data):
    return None if data is None else data.hex()


seen = 0
deadline = time.monotonic() + 40
while seen < count and time.monotonic() < deadline:
    message = consumer.poll(1.0)
    if message is None:
        continue
    if message.error():
        sys.exit(f"{topic}: {message.error()}")
    seen += 1
    print(
        json.dumps(
            {
                "partition": message.partition(),
                "offset": message.offset(),
                "timestamp": message.timestamp()[1],
                "key": hexed(message.key()),
                "value": hexed(message.value()),
                "headers": [[key, hexed(value)] for key, value in message.headers() or []],
            }
        )
    )
consumer.close()
