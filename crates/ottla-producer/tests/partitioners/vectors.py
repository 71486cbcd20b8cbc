"""Where librdkafka puts keys. Needs a broker with the topics p1, p3, p7, p12 and p100 of so many partitions:

ottla broker -t p1:1 -t p3:3 -t p7:7 -t p12:12 -t p100:100
python vectors.py localhost:9092 keys.txt
"""

import sys

from confluent_kafka import Producer

PARTITIONS = (1, 3, 7, 12, 100)


def main(bootstrap, file):
    with open(file) as lines:
        keys = [bytes.fromhex(line.strip()) for line in lines]
    for name in ("murmur2", "murmur2_random", "consistent", "consistent_random", "fnv1a", "fnv1a_random"):
        producer = Producer({"bootstrap.servers": bootstrap, "partitioner": name})
        found = {}

        def written(error, message, key, partitions):
            assert error is None, error
            found[key, partitions] = message.partition()

        for partitions in PARTITIONS:
            for key in keys:
                producer.produce(
                    f"p{partitions}",
                    key=key,
                    on_delivery=lambda e, m, k=key, p=partitions: written(e, m, k, p),
                )
        producer.flush(30)
        for key in keys:
            # What may go anywhere tells nothing.
            if key or name != "consistent_random":
                print("librdkafka", name, key.hex() or "-", *(found[key, n] for n in PARTITIONS))


main(*sys.argv[1:])
