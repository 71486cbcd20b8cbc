"""kafka-python for the scenario."""

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, KafkaAdminClient, OffsetSpec
from kafka.structs import OffsetAndMetadata

from polled import records as listed

LIMIT = 30


class Client:
    codecs = [None, "gzip", "snappy", "lz4", "zstd"]
    null_headers = False

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap.split(",")
        self.admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)

    def close(self):
        self.admin.close()

    def create_topic(self, topic, partitions, replicas, configs):
        new = {"num_partitions": partitions, "replication_factor": replicas, "configs": configs}
        self.admin.create_topics({topic: new})

    def topics(self):
        return self.admin.list_topics()

    def partitions(self, topic):
        described = self.admin.describe_topics([topic])
        return len(described[0]["partitions"]) if described else 0

    def config(self, topic, key):
        described = self.admin.describe_configs([ConfigResource("topic", topic)], config_filter="all")
        return described["topic"][topic][key]["value"]

    def set_config(self, topic, key, value):
        result = self.admin.alter_configs([ConfigResource("topic", topic, {key: value})])
        if result["topic"][topic] != "OK":
            raise Exception(result)

    def add_partitions(self, topic, total):
        self.admin.create_partitions({topic: total})

    def delete_records(self, topic, partition, before):
        at = TopicPartition(topic, partition)
        return self.admin.delete_records({at: before})[at]["low_watermark"]

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])

    def groups(self):
        return [group["group_id"] for group in self.admin.list_groups()]

    def group(self, group):
        described = self.admin.describe_groups([group])[group]
        if described["error"]:
            raise Exception(described["error"])
        return described["group_state"], len(described["members"])

    def committed(self, group, topic, partitions):
        wanted = [TopicPartition(topic, partition) for partition in partitions]
        answer = self.admin.list_group_offsets({group: wanted})[group]
        return {at.partition: told.offset if told.offset >= 0 else None for at, told in answer.items()}

    def ends(self, topic, partitions):
        asked = {TopicPartition(topic, partition): OffsetSpec.LATEST for partition in partitions}
        return {at.partition: told.offset for at, told in self.admin.list_partition_offsets(asked).items()}

    def set_offsets(self, group, topic, offsets):
        wanted = {TopicPartition(topic, partition): OffsetAndMetadata(at, "", -1) for partition, at in offsets.items()}
        succeeded(self.admin.alter_group_offsets(group, wanted))

    def delete_offset(self, group, topic, partition):
        succeeded(self.admin.delete_group_offsets(group, [TopicPartition(topic, partition)]))
        return True

    def delete_group(self, group):
        result = self.admin.delete_groups([group])
        if result[group] != "OK":
            raise Exception(result)
        return True

    def produce(self, topic, codec, records):
        producer = KafkaProducer(
            bootstrap_servers=self.bootstrap, compression_type=codec, acks="all", linger_ms=20
        )
        placed = [
            producer.send(topic, partition=partition, key=key, value=value, headers=headers)
            for partition, key, value, headers in records
        ]
        producer.flush(LIMIT)
        placed = [future.get(LIMIT) for future in placed]
        producer.close(LIMIT)
        return [(at.partition, at.offset) for at in placed]

    def member(self, group, topic):
        return Member(self.bootstrap, group, topic)

    def sender(self, topic):
        return Sender(self.bootstrap, topic)


class Member:
    def __init__(self, bootstrap, group, topic):
        self.consumer = KafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            check_crcs=True,
            heartbeat_interval_ms=200,
            session_timeout_ms=10000,
            metadata_max_age_ms=2000,
        )

    def poll(self, seconds):
        # kafka-python 3.0.12 forgets an assignment that comes just after a poll gave up waiting for it, so it waits
        # longer than there can be to wait. With partitions a poll ends as soon as there are records.
        seconds = max(seconds, 1.0) if self.consumer.assignment() else 10.0
        polled = self.consumer.poll(timeout_ms=int(seconds * 1000))
        return listed(polled)

    def assignment(self):
        return [at.partition for at in self.consumer.assignment()]

    def commit(self):
        self.consumer.commit()

    def close(self):
        self.consumer.close(autocommit=False)


class Sender:
    def __init__(self, bootstrap, topic):
        self.topic, self.pending = topic, []
        self.producer = KafkaProducer(
            bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=5, metadata_max_age_ms=2000
        )

    def send(self, partition, value):
        self.pending.append((int(value), self.producer.send(self.topic, partition=partition, value=value)))

    def finish(self, seconds):
        self.producer.flush(seconds)
        acknowledged, failed = [], []
        for number, future in self.pending:
            try:
                at = future.get(seconds)
                acknowledged.append((number, at.partition, at.offset))
            except Exception as error:
                failed.append(repr(error))
        self.producer.close(seconds)
        return acknowledged, failed


def succeeded(errors):
    for at, error in errors.items():
        if error.errno:
            raise error(f"{at}")
