"""What every Python client does on the broker: one scenario, told in steps, and one run under load.

`python scenario.py CLIENT walk BOOTSTRAP NAME REPLICAS` prints one JSON object after each step and goes
on when a line arrives on standard input: in between, the test looks at the broker from its own side.
`python scenario.py CLIENT run BOOTSTRAP TOPIC PARTITIONS COUNT SECONDS` produces and consumes at a steady
rate, says when it is under way, and at the end what was acknowledged and what was read.
`python scenario.py CLIENT join BOOTSTRAP GROUP TOPIC [SETTING=VALUE…]` is a member of somebody else's group; when a line arrives it reads
its partitions to their ends and leaves.

A client is an adapter module beside this file; this one never imports a Kafka client.
"""

import importlib
import json
import logging
import os
import sys
import threading
import time

PATIENCE = 40

NULL_HEADER = [("null", None)]

# Key, value and headers of what is produced with every codec; the first few name their partition.
SHAPES = [
    (b"key", b"value", [("h", b"1"), ("h", b"2"), ("empty", b"")]),
    (None, b"null key", []),
    (b"null value", None, []),
    (b"", b"", []),
    (None, b"null header", NULL_HEADER),
    (b"long", b"0123456789abcdef" * 2000, []),
    (bytes(range(256)), bytes(range(256)), [("bytes", bytes(range(256)))]),
]


def main():
    # GUEST_LOG=DEBUG shows, when a test fails, what the client did.
    logging.basicConfig(level=os.environ.get("GUEST_LOG", "ERROR"), format="%(asctime)s %(name)s %(message)s")
    name, what, bootstrap, *rest = sys.argv[1:]
    client = importlib.import_module(f"with_{name}").Client(bootstrap)
    if what == "walk":
        walk(client, rest[0], int(rest[1]))
    elif what == "join":
        join(client, *rest)
    else:
        run(client, rest[0], *map(int, rest[1:]))
    client.close()


def walk(client, topic, replicas):
    group = f"{topic}-group"
    administer(client, topic, replicas)
    step("produced", records=produce(client, topic))
    share(client, topic, group)
    resume(client, topic, group)
    reset(client, topic, group)
    step("trimmed", low=client.delete_records(topic, 0, 2), before=2)
    deleted = client.delete_group(group)
    step("group_deleted", supported=deleted, listed=group in client.groups())
    client.delete_topic(topic)
    step("topic_deleted", listed=topic in client.topics())


def administer(client, topic, replicas):
    client.create_topic(topic, 2, replicas, {"retention.ms": "3600000"})
    until(lambda: client.partitions(topic) == 2, "the new topic has its two partitions")
    created_with = client.config(topic, "retention.ms")
    client.set_config(topic, "max.message.bytes", "2000000")
    client.add_partitions(topic, 3)
    until(lambda: client.partitions(topic) == 3, "the topic has three partitions")
    step(
        "administered",
        listed=topic in client.topics(),
        partitions=client.partitions(topic),
        retention=created_with,
        still=client.config(topic, "retention.ms"),
        largest=client.config(topic, "max.message.bytes"),
    )


def produce(client, topic):
    told = []
    for codec in client.codecs:
        records = []
        for partition in (0, 1, 2):
            records += [(partition, *shape) for shape in SHAPES if client.null_headers or shape[2] != NULL_HEADER]
        # By the client's own partitioner: equal keys must lie together.
        records += [(None, b"user-%d" % (number % 5), b"keyed %d" % number, []) for number in range(20)]
        for record, (partition, offset) in zip(records, client.produce(topic, codec, records)):
            _, key, value, headers = record
            told.append(as_json(partition, offset, key, value, headers))
    return told


def share(client, topic, group):
    """Two members share the topic; the second joins late, the first leaves early."""
    first = Reader(client, group, topic)
    until(lambda: len(first.assigned()) == 3, "the only member has every partition", first)
    ends = client.ends(topic, [0, 1, 2])
    until(lambda: places(first) == expected(ends), "the only member reads everything", first)
    first.commit()
    second = Reader(client, group, topic)
    until(
        lambda: first.assigned() and second.assigned()
        and sorted(first.assigned() + second.assigned()) == [0, 1, 2],
        "two members share the partitions", first, second,
    )
    more = [(number % 3, None, b"shared %d" % number, []) for number in range(30)]
    more = [as_json(*place, *record[1:]) for record, place in zip(more, client.produce(topic, "gzip", more))]
    ends = client.ends(topic, [0, 1, 2])
    until(lambda: places(first, second) == expected(ends), "two members read everything once", first, second)
    state, members = client.group(group)
    shared = [first.assigned(), second.assigned()]
    second.commit()
    first.leave()
    until(lambda: len(second.assigned()) == 3, "the one that stays has every partition", second)
    second.leave()
    step(
        "shared",
        state=state,
        members=members,
        assigned=shared,
        more=more,
        records=[as_json(*record) for record in first.records + second.records],
        committed=client.committed(group, topic, [0, 1, 2]),
        ends=ends,
    )


def resume(client, topic, group):
    # Something was written meanwhile.
    committed, ends = client.committed(group, topic, [0, 1, 2]), client.ends(topic, [0, 1, 2])
    lag = {partition: ends[partition] - committed[partition] for partition in ends}
    listed, state = group in client.groups(), client.group(group)[0]
    third = Reader(client, group, topic)
    until(lambda: len(third.records) >= sum(lag.values()), "the next member reads what is new", third)
    third.leave()
    step(
        "resumed",
        lag=lag,
        listed=listed,
        state=state,
        records=[as_json(*record) for record in third.records],
        committed=client.committed(group, topic, [0, 1, 2]),
    )


def reset(client, topic, group):
    client.set_offsets(group, topic, {0: 1, 1: 2, 2: 3})
    after = client.committed(group, topic, [0, 1, 2])
    supported = client.delete_offset(group, topic, 2)
    step("reset", committed=after, can_delete=supported, then=client.committed(group, topic, [0, 1, 2]))


def run(client, topic, partitions, count, seconds):
    """Produces `count` records at a steady rate and reads them in a group, whatever happens to the broker."""
    reader = Reader(client, f"{topic}-group", topic)
    sender = client.sender(topic)
    start = time.monotonic()
    for number in range(count):
        sender.send(number % partitions, b"%d" % number)
        if number == count // 4:
            say("under way")
        time.sleep(max(0.0, start + seconds * number / count - time.monotonic()))
    acknowledged, failed = sender.finish(PATIENCE)
    wanted = {(partition, offset) for _, partition, offset in acknowledged if offset >= 0}
    until(lambda: wanted <= {record[:2] for record in list(reader.records)},
          "every acknowledged record is read", reader)
    reader.leave()
    say("done", acknowledged=acknowledged, failed=failed,
        read=[[int(value), partition, offset] for partition, offset, _, value, _ in reader.records])


def join(client, group, topic, *settings):
    reader = Reader(client, group, topic, *settings)
    until(lambda: reader.assigned(), "the member has a share", reader)
    step("joined", partitions=reader.assigned())
    ends = client.ends(topic, reader.assigned())
    lasts = {(partition, end - 1) for partition, end in ends.items()}
    until(lambda: lasts <= set(places(reader)), "it has read its partitions to their ends", reader)
    reader.leave()
    say("left", records=[as_json(*record) for record in reader.records])


class Reader(threading.Thread):
    """A member of a group on a thread of its own, so that no member's polling waits for another's."""

    def __init__(self, client, group, topic, *settings):
        super().__init__(daemon=True)
        self.records, self.failure = [], None
        self._has, self._leaving = [], threading.Event()
        self._to_commit, self._committed = threading.Event(), threading.Event()
        self._open = lambda: client.member(group, topic, *settings)
        self.start()

    def run(self):
        try:
            member = self._open()
            while not self._leaving.is_set():
                self.records += member.poll(0.1)
                self._has = sorted(member.assignment())
                if self._to_commit.is_set():
                    member.commit()
                    self._to_commit.clear()
                    self._committed.set()
            member.commit()
            member.close()
        except BaseException as error:  # whatever it is, the main thread reports it
            self.failure = repr(error)
            raise

    def assigned(self):
        return list(self._has)

    def commit(self):
        """Commits what was read."""
        self._committed.clear()
        self._to_commit.set()
        if not self._committed.wait(PATIENCE):
            sys.exit(f"a member did not commit: {self.failure or 'it hangs'}")

    def leave(self):
        """Commits what was read, and leaves the group."""
        self._leaving.set()
        self.join(PATIENCE)
        if self.is_alive() or self.failure:
            sys.exit(f"a member did not leave: {self.failure or 'it hangs'}")


def places(*readers):
    return sorted(record[:2] for reader in readers for record in reader.records)


def expected(ends):
    return [(partition, offset) for partition in sorted(ends) for offset in range(ends[partition])]


def until(true, what, *readers):
    deadline = time.monotonic() + PATIENCE
    while not true():
        for reader in readers:
            if reader.failure:
                sys.exit(f"{what}: a member failed: {reader.failure}")
        if time.monotonic() > deadline:
            have = [(reader.assigned(), len(reader.records)) for reader in readers]
            sys.exit(f"waited {PATIENCE} s in vain until {what}; members have {have}")
        time.sleep(0.05)


def step(name, **facts):
    say(name, **facts)
    if not sys.stdin.readline():
        sys.exit(0)  # the test has ended


def say(name, **facts):
    print(json.dumps({"step": name, **facts}), flush=True)


def as_json(partition, offset, key, value, headers):
    hexed = lambda data: None if data is None else bytes(data).hex()
    return {
        "partition": partition,
        "offset": offset,
        "key": hexed(key),
        "value": hexed(value),
        "headers": [[name, hexed(data)] for name, data in headers or []],
    }


if __name__ == "__main__":
    main()
