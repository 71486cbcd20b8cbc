"""aiokafka for the scenario: its coroutines run on one event loop, on a thread beside the scenario's."""

import asyncio
import threading

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource
from aiokafka.errors import for_code

from polled import records as listed

LIMIT = 30


class Client:
    codecs = [None, "gzip", "snappy", "lz4", "zstd"]
    null_headers = True

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

        async def started():
            admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
            await admin.start()
            return admin

        self.admin = self.await_(started())

    def await_(self, coroutine, limit=LIMIT):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(limit)

    def close(self):
        self.await_(self.admin.close())

    def create_topic(self, topic, partitions, replicas, configs):
        new = NewTopic(topic, partitions, replicas, topic_configs=configs)
        for name, code, *_ in self.await_(self.admin.create_topics([new])).topic_errors:
            check(code, name)

    def topics(self):
        return self.await_(self.admin.list_topics())

    def partitions(self, topic):
        described = self.await_(self.admin.describe_topics([topic]))
        return len(described[0]["partitions"])

    def config(self, topic, key):
        (answer,) = self.await_(self.admin.describe_configs([ConfigResource("topic", topic)]))
        ((code, message, _, _, entries, *_),) = answer.resources
        check(code, message)
        return {name: value for name, value, *_ in entries}[key]

    def set_config(self, topic, key, value):
        # It knows only AlterConfigs, which replaces all that was set.
        kept = {"retention.ms": self.config(topic, "retention.ms"), key: value}
        (answer,) = self.await_(self.admin.alter_configs([ConfigResource("topic", topic, kept)]))
        for code, message, *_ in answer.resources:
            check(code, message)

    def add_partitions(self, topic, total):
        self.await_(self.admin.create_partitions({topic: NewPartitions(total)}))

    def delete_records(self, topic, partition, before):
        at = TopicPartition(topic, partition)
        return self.await_(self.admin.delete_records({at: RecordsToDelete(before)}))[at]

    def delete_topic(self, topic):
        for name, code in self.await_(self.admin.delete_topics([topic])).topic_error_codes:
            check(code, name)

    def groups(self):
        return [group for group, *_ in self.await_(self.admin.list_consumer_groups())]

    def group(self, group):
        (answer,) = self.await_(self.admin.describe_consumer_groups([group]))
        ((code, _, state, _, _, members, *_),) = answer.groups
        check(code, group)
        return state, len(members)

    def committed(self, group, topic, partitions):
        wanted = [TopicPartition(topic, partition) for partition in partitions]
        answer = self.await_(self.admin.list_consumer_group_offsets(group, partitions=wanted))
        return {at.partition: told.offset if told.offset >= 0 else None for at, told in answer.items()}

    def ends(self, topic, partitions):
        async def ask():
            consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
            await consumer.start()
            try:
                return await consumer.end_offsets([TopicPartition(topic, partition) for partition in partitions])
            finally:
                await consumer.stop()

        return {at.partition: end for at, end in self.await_(ask()).items()}

    def set_offsets(self, group, topic, offsets):
        async def commit():
            consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=group, enable_auto_commit=False)
            await consumer.start()
            try:
                wanted = {TopicPartition(topic, partition): at for partition, at in offsets.items()}
                consumer.assign(list(wanted))
                await consumer.commit(wanted)
            finally:
                await consumer.stop()

        self.await_(commit())

    def delete_offset(self, group, topic, partition):
        return False  # not in its admin client

    def delete_group(self, group):
        return False  # not in its admin client

    def produce(self, topic, codec, records):
        async def send():
            async with AIOKafkaProducer(
                bootstrap_servers=self.bootstrap, compression_type=codec, enable_idempotence=True, linger_ms=20
            ) as producer:
                placed = [
                    await producer.send(topic, partition=partition, key=key, value=value, headers=headers)
                    for partition, key, value, headers in records
                ]
                return [await future for future in placed]

        return [(at.partition, at.offset) for at in self.await_(send())]

    def member(self, group, topic):
        return Member(self, group, topic)

    def sender(self, topic):
        return Sender(self, topic)


class Member:
    def __init__(self, client, group, topic):
        self.client = client

        async def started():
            consumer = AIOKafkaConsumer(
                topic,
                bootstrap_servers=client.bootstrap,
                group_id=group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                heartbeat_interval_ms=200,
                session_timeout_ms=10000,
                metadata_max_age_ms=2000,
            )
            await consumer.start()
            return consumer

        self.consumer = client.await_(started())

    def poll(self, seconds):
        polled = self.client.await_(self.consumer.getmany(timeout_ms=int(seconds * 1000)))
        return listed(polled)

    def assignment(self):
        return [at.partition for at in self.consumer.assignment()]

    def commit(self):
        self.client.await_(self.consumer.commit())

    def close(self):
        self.client.await_(self.consumer.stop())


class Sender:
    def __init__(self, client, topic):
        self.client, self.topic, self.pending = client, topic, []

        async def started():
            producer = AIOKafkaProducer(
                bootstrap_servers=client.bootstrap, enable_idempotence=True, linger_ms=5, metadata_max_age_ms=2000
            )
            await producer.start()
            return producer

        self.producer = client.await_(started())

    def send(self, partition, value):
        sent = self.client.await_(self.producer.send(self.topic, partition=partition, value=value))
        self.pending.append((int(value), sent))

    def finish(self, seconds):
        async def collect():
            acknowledged, failed = [], []
            for number, sent in self.pending:
                try:
                    at = await sent
                    acknowledged.append((number, at.partition, at.offset))
                except Exception as error:
                    failed.append(repr(error))
            await self.producer.stop()
            return acknowledged, failed

        return self.client.await_(collect(), seconds)


def check(code, what):
    if code:
        raise for_code(code)(what)
