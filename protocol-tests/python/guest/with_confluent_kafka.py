"""confluent-kafka (librdkafka) for the scenario."""

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

LIMIT = 30


class Client:
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    null_headers = True

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.admin = AdminClient({"bootstrap.servers": bootstrap})

    def close(self):
        pass

    def create_topic(self, topic, partitions, replicas, configs):
        only(self.admin.create_topics([NewTopic(topic, partitions, replicas, config=configs)]))

    def topics(self):
        return list(self.admin.list_topics(timeout=LIMIT).topics)

    def partitions(self, topic):
        known = self.admin.list_topics(timeout=LIMIT).topics.get(topic)
        return len(known.partitions) if known else 0

    def config(self, topic, key):
        return only(self.admin.describe_configs([ConfigResource("topic", topic)]))[key].value

    def set_config(self, topic, key, value):
        entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource("topic", topic, incremental_configs=[entry])
        only(self.admin.incremental_alter_configs([resource]))

    def add_partitions(self, topic, total):
        only(self.admin.create_partitions([NewPartitions(topic, total)]))

    def delete_records(self, topic, partition, before):
        return only(self.admin.delete_records([TopicPartition(topic, partition, before)])).low_watermark

    def delete_topic(self, topic):
        only(self.admin.delete_topics([topic]))

    def groups(self):
        listed = self.admin.list_consumer_groups().result(LIMIT)
        if listed.errors:
            raise listed.errors[0]
        return [group.group_id for group in listed.valid]

    def group(self, group):
        described = only(self.admin.describe_consumer_groups([group]))
        return described.state.name.capitalize(), len(described.members)

    def committed(self, group, topic, partitions):
        wanted = [TopicPartition(topic, partition) for partition in partitions]
        answer = only(self.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, wanted)]))
        return {at.partition: at.offset if at.offset != OFFSET_INVALID else None for at in answer.topic_partitions}

    def ends(self, topic, partitions):
        asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in partitions}
        answers = self.admin.list_offsets(asked)
        return {at.partition: answer.result(LIMIT).offset for at, answer in answers.items()}

    def set_offsets(self, group, topic, offsets):
        wanted = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        changed = only(self.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, wanted)]))
        for at in changed.topic_partitions:
            if at.error:
                raise Exception(at.error)

    def delete_offset(self, group, topic, partition):
        return False  # not in its AdminClient

    def delete_group(self, group):
        only(self.admin.delete_consumer_groups([group]))
        return True

    def produce(self, topic, codec, records):
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "compression.type": codec,
                "enable.idempotence": True,
                "linger.ms": 20,
                "partitioner": "murmur2_random",
            }
        )
        placed = [None] * len(records)

        def done(index):
            def told(error, message):
                placed[index] = error or (message.partition(), message.offset())

            return told

        for index, (partition, key, value, headers) in enumerate(records):
            chosen = {} if partition is None else {"partition": partition}
            producer.produce(topic, key=key, value=value, headers=headers, on_delivery=done(index), **chosen)
        producer.flush(LIMIT)
        for at in placed:
            if at is None or isinstance(at, KafkaError):
                raise Exception(f"not delivered: {at}")
        return placed

    def member(self, group, topic, *settings):
        return Member(self.bootstrap, group, topic, dict(setting.split("=", 1) for setting in settings))

    def sender(self, topic):
        return Sender(self.bootstrap, topic)


class Member:
    def __init__(self, bootstrap, group, topic, settings):
        # In the consumer protocol the broker says how often and how long.
        times = {} if settings.get("group.protocol") == "consumer" else {
            "heartbeat.interval.ms": 200,
            "session.timeout.ms": 10000,
        }
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "check.crcs": True,
                **times,
                **settings,
            }
        )
        self.consumer.subscribe([topic], on_revoke=self._revoked)

    def _revoked(self, consumer, partitions):
        read = [at for at in consumer.position(partitions) if at.offset >= 0]
        if read:
            consumer.commit(offsets=read, asynchronous=False)

    def poll(self, seconds):
        records = []
        for message in self.consumer.consume(500, seconds):
            if message.error():
                # Said when a broker goes; librdkafka carries on by itself.
                if not message.error().retriable() and message.error().fatal():
                    raise Exception(message.error())
                continue
            records.append(
                (message.partition(), message.offset(), message.key(), message.value(), message.headers() or [])
            )
        return records

    def assignment(self):
        return [at.partition for at in self.consumer.assignment()]

    def commit(self):
        if any(at.offset >= 0 for at in self.consumer.position(self.consumer.assignment())):
            self.consumer.commit(asynchronous=False)

    def close(self):
        self.consumer.close()


class Sender:
    def __init__(self, bootstrap, topic):
        self.topic, self.acknowledged, self.failed = topic, [], []
        self.producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5, "batch.num.messages": 50}
        )

    def send(self, partition, value):
        self.producer.produce(self.topic, partition=partition, value=value, on_delivery=self._told)
        self.producer.poll(0)

    def _told(self, error, message):
        if error:
            self.failed.append(str(error))
        else:
            self.acknowledged.append((int(message.value()), message.partition(), message.offset()))

    def finish(self, seconds):
        left = self.producer.flush(seconds)
        if left:
            self.failed.append(f"{left} are still on their way")
        return self.acknowledged, self.failed


def only(futures):
    (future,) = futures.values()
    return future.result(LIMIT)
