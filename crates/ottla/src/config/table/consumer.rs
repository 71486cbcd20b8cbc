//! Keys of consumers and share consumers.

use ottla_consumer::{
    GroupProtocol, IsolationLevel, ShareAcknowledgementMode, ShareAcquireMode, assignor,
};

use super::super::key::{Alias, Choice, Importance, Key, Kind, Scope};

use Importance::{High, Low, Medium};
use Scope::Consumer;

pub(super) static KEYS: &[Key] = &[
    Key::new(
        "group.id",
        Consumer,
        High,
        Kind::Text,
        "The group this consumer belongs to. Needed to subscribe and to commit; a consumer that is only \
         assigned partitions may leave it out.",
    )
    .honoured(|s, v| s.consumer.group_id = Some(v.text().to_owned())),
    Key::new(
        "group.instance.id",
        Consumer,
        Medium,
        Kind::Text,
        "Makes this a static member of its group: it keeps its partitions over a restart shorter than \
         `session.timeout.ms` and does not leave the group when it closes (KIP-345). Each member needs a \
         name of its own.",
    )
    .honoured(|s, v| s.consumer.group_instance_id = v.optional_text()),
    Key::new(
        "group.protocol",
        Consumer,
        High,
        Kind::Choice(&[Choice::of("classic"), Choice::of("consumer"), Choice::of("auto")]),
        "Who divides the partitions of the group: its members (`classic`), or the brokers (`consumer`, KIP-848, \
         Kafka 4.0 or later). `auto` is Ottla's own: `consumer` where the brokers speak it, else `classic`. With \
         `consumer`, `session.timeout.ms`, `heartbeat.interval.ms` and `partition.assignment.strategy` are the \
         brokers' to say, and refused here, whatever their value.",
    )
    .default("classic")
    .honoured(|s, v| {
        s.consumer.group_protocol = match v.choice() {
            "consumer" => GroupProtocol::Consumer,
            "auto" => GroupProtocol::Auto,
            _ => GroupProtocol::Classic,
        };
    }),
    Key::new(
        "group.remote.assignor",
        Consumer,
        Medium,
        Kind::Text,
        "Which of the brokers' assignors divides the partitions, with `group.protocol=consumer`: `uniform`, `range`, \
         or one of `group.consumer.assignors`. The group uses what most of its members want; without it the brokers \
         choose. Refused with `classic`.",
    )
    .honoured(|s, v| s.consumer.group_remote_assignor = v.optional_text()),
    Key::new(
        "group.protocol.type",
        Consumer,
        Low,
        Kind::Choice(&[Choice::of("consumer")]),
        "The class of the classic group; consumers are all of one class.",
    )
    .default("consumer")
    .honoured(|_, _| ()),
    Key::new(
        "partition.assignment.strategy",
        Consumer,
        Medium,
        Kind::Choices(&[
            Choice::of("range").also(&["org.apache.kafka.clients.consumer.RangeAssignor"]),
            Choice::of("roundrobin")
                .also(&["org.apache.kafka.clients.consumer.RoundRobinAssignor"]),
            Choice::of("sticky")
                .also(&["org.apache.kafka.clients.consumer.StickyAssignor"]),
            Choice::of("cooperative-sticky")
                .also(&["org.apache.kafka.clients.consumer.CooperativeStickyAssignor"]),
        ]),
        "What the members of a classic group can divide partitions by, best first. All members must have \
         one in common. With `cooperative-sticky` alone, members read on while the group rebalances and give up \
         only what goes to others (KIP-429). Java's class names are understood.",
    )
    .default("range")
    .honoured(|s, v| {
        s.consumer.assignors = v
            .choices()
            .iter()
            .map(|name| {
                assignor::by_name(name).expect("every choice that is not planned has an assignor")
            })
            .collect();
    }),
    Key::new(
        "session.timeout.ms",
        Consumer,
        High,
        Kind::Millis { min: 1, max: 3_600_000 },
        "A member that the coordinator has not heard of for so long loses its partitions to the others. \
         The broker bounds it with `group.min.session.timeout.ms` and `group.max.session.timeout.ms`.",
    )
    .default("45000")
    .honoured(|s, v| s.consumer.session_timeout = v.duration()),
    Key::new(
        "heartbeat.interval.ms",
        Consumer,
        Low,
        Kind::Millis { min: 1, max: 3_600_000 },
        "How often a member tells the coordinator that it is alive; a third of `session.timeout.ms` at \
         most is usual.",
    )
    .default("3000")
    .honoured(|s, v| s.consumer.heartbeat_interval = v.duration()),
    Key::new(
        "max.poll.interval.ms",
        Consumer,
        High,
        Kind::Millis { min: 1, max: 86_400_000 },
        "A program that does not come back for records for so long loses its place in the group until it \
         does. It is also how long a rebalance waits for members to rejoin.",
    )
    .default("300000")
    .honoured(|s, v| s.consumer.max_poll_interval = v.duration()),
    Key::new(
        "max.poll.records",
        Consumer,
        Low,
        Kind::Int { min: 1, max: 2_147_483_647 },
        "The most records that one `poll` returns.",
    )
    .default("500")
    .honoured(|s, v| s.consumer.max_poll_records = v.sized()),
    Key::new(
        "enable.auto.commit",
        Consumer,
        High,
        Kind::Bool,
        "Commit in the background the positions that the program has moved past: what it was handed \
         before its latest call for records.",
    )
    .aliases(&[Alias::same("auto.commit.enable")])
    .default("true")
    .per_topic()
    .honoured(|s, v| s.consumer.enable_auto_commit = v.bool()),
    Key::new(
        "auto.commit.interval.ms",
        Consumer,
        Medium,
        Kind::Millis { min: 0, max: 86_400_000 },
        "How often positions are committed in the background.",
    )
    .default("5000")
    .per_topic()
    .honoured(|s, v| s.consumer.auto_commit_interval = v.duration()),
    Key::new(
        "auto.offset.reset",
        Consumer,
        High,
        Kind::OffsetReset,
        "Where to start without a committed offset, or when the position is no longer in the log: at the \
         oldest record, behind the newest, at the first record younger than a duration (KIP-1106), or with \
         an error. librdkafka's words `smallest`, `beginning`, `largest`, `end` and `error` are understood.",
    )
    .default("latest")
    .per_topic()
    .honoured(|s, v| s.consumer.auto_offset_reset = v.offset_reset()),
    Key::new(
        "isolation.level",
        Consumer,
        High,
        Kind::Choice(&[Choice::of("read_uncommitted"), Choice::of("read_committed")]),
        "Whether records of transactions that are still open or were aborted are handed out. With \
         `read_committed` reading stops at the first transaction that is still open. librdkafka's default \
         is `read_committed`.",
    )
    .default("read_uncommitted")
    .honoured(|s, v| {
        s.consumer.isolation_level = match v.choice() {
            "read_committed" => IsolationLevel::ReadCommitted,
            _ => IsolationLevel::ReadUncommitted,
        };
    }),
    Key::new(
        "check.crcs",
        Consumer,
        Medium,
        Kind::Bool,
        "Verify the checksum of every batch before a record of it is handed out.",
    )
    .default("true")
    .honoured(|s, v| s.consumer.check_crcs = v.bool()),
    Key::new(
        "fetch.min.bytes",
        Consumer,
        Medium,
        Kind::Bytes { min: 0, max: 2_147_483_647 },
        "A broker answers a fetch as soon as it has so much, or when `fetch.max.wait.ms` is over. Larger \
         values mean fewer requests and later records.",
    )
    .default("1")
    .honoured(|s, v| s.consumer.fetch_min_bytes = v.sized()),
    Key::new(
        "fetch.max.wait.ms",
        Consumer,
        Low,
        Kind::Millis { min: 0, max: 300_000 },
        "How long a broker may hold a fetch back while it has less than `fetch.min.bytes`. Must be below \
         `request.timeout.ms`.",
    )
    .aliases(&[Alias::same("fetch.wait.max.ms")])
    .default("500")
    .honoured(|s, v| s.consumer.fetch_max_wait = v.duration()),
    Key::new(
        "fetch.max.bytes",
        Consumer,
        Medium,
        Kind::Bytes { min: 1, max: 2_147_483_135 },
        "The most bytes, still compressed, in one answer to a fetch. A first batch that is larger comes \
         whole, so that reading always goes on.",
    )
    .default("52428800")
    .honoured(|s, v| s.consumer.fetch_max_bytes = v.sized()),
    Key::new(
        "max.partition.fetch.bytes",
        Consumer,
        Medium,
        Kind::Bytes { min: 1, max: 1_000_000_000 },
        "The most bytes, still compressed, of one partition in one answer to a fetch.",
    )
    .aliases(&[Alias::same("fetch.message.max.bytes")])
    .default("1048576")
    .honoured(|s, v| s.consumer.max_partition_fetch_bytes = v.sized()),
    Key::new(
        "queued.max.bytes",
        Consumer,
        Medium,
        Kind::Bytes { min: 1, max: 2_199_022_206_976 },
        "How much fetched data waits in memory for the program, over all partitions: what is being \
         fetched, what is fetched and still compressed, and what was decompressed ahead. librdkafka counts \
         it in KiB as `queued.max.messages.kbytes`.",
    )
    .aliases(&[Alias::kib("queued.max.messages.kbytes")])
    .default("67108864")
    .honoured(|s, v| s.consumer.queued_bytes_max = v.bytes()),
    Key::new(
        "queued.max.partition.bytes",
        Consumer,
        Low,
        Kind::Bytes { min: 1, max: 2_147_483_647 },
        "How much of `queued.max.bytes` one partition may hold. It is fetched again when the program has \
         taken enough of it, so a paused partition keeps no more than this. Ottla's own key.",
    )
    .default("8388608")
    .honoured(|s, v| s.consumer.queued_partition_bytes_max = v.bytes()),
    Key::new(
        "fetch.max.decompressed.batch.bytes",
        Consumer,
        Low,
        Kind::Bytes { min: 1, max: 2_147_483_647 },
        "The most that one batch may decompress to. A larger one is an error that names it, since a few \
         bytes can claim to hold a gigabyte. Ottla's own key.",
    )
    .default("268435456")
    .honoured(|s, v| s.consumer.batch_bytes_max = v.bytes()),
    Key::new(
        "queued.min.messages",
        Consumer,
        Medium,
        Kind::Int { min: 1, max: 10_000_000 },
        "How many records per partition librdkafka tries to keep ready.",
    )
    .default("100000")
    .ignored("how much is fetched ahead is bounded in bytes, by queued.max.bytes"),
    Key::new(
        "fetch.queue.backoff.ms",
        Consumer,
        Medium,
        Kind::Millis { min: 0, max: 300_000 },
        "How long librdkafka waits when its queue is full.",
    )
    .default("1000")
    .ignored("fetching goes on as soon as there is room again"),
    Key::new(
        "fetch.error.backoff.ms",
        Consumer,
        Medium,
        Kind::Millis { min: 0, max: 300_000 },
        "How long librdkafka waits before it fetches again after an error.",
    )
    .default("500")
    .ignored("fetches are retried with retry.backoff.ms, like every request"),
    Key::new(
        "enable.auto.offset.store",
        Consumer,
        High,
        Kind::Bool,
        "Whether handing out a record marks it for the next automatic commit. `false` is for programs \
         that mark records themselves.",
    )
    .default("true")
    .honoured(|s, v| s.consumer.enable_auto_offset_store = v.bool()),
    Key::new(
        "enable.partition.eof",
        Consumer,
        Low,
        Kind::Bool,
        "Report each time the end of a partition is reached.",
    )
    .default("false")
    .honoured(|s, v| s.consumer.enable_partition_eof = v.bool()),
    Key::new(
        "coordinator.query.interval.ms",
        Consumer,
        Low,
        Kind::Millis { min: 1, max: 3_600_000 },
        "How often librdkafka asks who coordinates the group.",
    )
    .default("600000")
    .ignored("the coordinator is looked up again when it changes"),
    Key::new(
        "exclude.internal.topics",
        Consumer,
        Low,
        Kind::Bool,
        "Whether a subscription by pattern leaves out Kafka's own topics.",
    )
    .default("true")
    .honoured(|s, v| s.consumer.exclude_internal_topics = v.bool()),
    Key::new(
        "offset.store.method",
        Consumer,
        Low,
        Kind::Choice(&[Choice::of("broker"), Choice::of("file").planned(), Choice::of("none").planned()]),
        "Where committed offsets are kept. librdkafka could keep them in files; Ottla commits to the \
         brokers, or leaves it to the program with `enable.auto.commit=false`.",
    )
    .default("broker")
    .per_topic()
    .honoured(|_, _| ()),
    Key::new("offset.store.path", Consumer, Low, Kind::Text, "Where librdkafka keeps offset files.")
        .default(".")
        .per_topic()
        .ignored("offsets are kept by the brokers"),
    Key::new(
        "offset.store.sync.interval.ms",
        Consumer,
        Low,
        Kind::Millis { min: -1, max: 86_400_000 },
        "How often librdkafka syncs its offset files.",
    )
    .default("-1")
    .per_topic()
    .ignored("offsets are kept by the brokers"),
    Key::new(
        "consume.callback.max.messages",
        Consumer,
        Low,
        Kind::Int { min: 0, max: 1_000_000 },
        "How many records librdkafka hands to one callback.",
    )
    .default("0")
    .per_topic()
    .ignored("there are no callbacks; max.poll.records bounds a poll"),
    Key::new(
        "share.acknowledgement.mode",
        Consumer,
        Medium,
        Kind::Choice(&[Choice::of("implicit"), Choice::of("explicit")]),
        "Whether a share consumer acknowledges records by asking for more, or one by one (KIP-932).",
    )
    .default("implicit")
    .honoured(|s, v| {
        s.share.acknowledgement = match v.choice() {
            "explicit" => ShareAcknowledgementMode::Explicit,
            _ => ShareAcknowledgementMode::Implicit,
        };
    }),
    Key::new(
        "share.acquire.mode",
        Consumer,
        Medium,
        Kind::Choice(&[Choice::of("batch_optimized"), Choice::of("record_limit")]),
        "Whether a share consumer acquires whole batches or exactly as many records as it asks for \
         (KIP-1206).",
    )
    .default("batch_optimized")
    .honoured(|s, v| {
        s.share.acquire = match v.choice() {
            "record_limit" => ShareAcquireMode::RecordLimit,
            _ => ShareAcquireMode::BatchOptimized,
        };
    }),
    Key::new("key.deserializer", Consumer, High, Kind::Object, "A Java class that reads keys.")
        .refused("it names a Java class; keys are bytes here, and the program reads them"),
    Key::new("value.deserializer", Consumer, High, Kind::Object, "A Java class that reads values.")
        .refused("it names a Java class; values are bytes here, and the program reads them"),
];
