//! Keys of producers.

use std::time::Duration;

use ottla_producer::{Acks, Partitioning};
use ottla_wire::compress::Compression;

use super::super::key::{Alias, Choice, Importance, Key, Kind, Scope};

use Importance::{High, Low, Medium};
use Scope::Producer;

pub(super) static KEYS: &[Key] = &[
    Key::new(
        "acks",
        Producer,
        High,
        Kind::Choice(&[Choice::of("all").also(&["-1"]), Choice::of("1"), Choice::of("0")]),
        "Who must have a batch before it counts as written: all in-sync replicas (`all`), the leader \
         (`1`), or nobody (`0`, where a delivery reports no offset and a loss goes unnoticed). Anything \
         but `all` switches idempotence off.",
    )
    .aliases(&[Alias::same("request.required.acks")])
    .default("all")
    .per_topic()
    .honoured(|s, v| {
        s.producer.acks = match v.choice() {
            "0" => Acks::None,
            "1" => Acks::Leader,
            _ => Acks::All,
        };
    }),
    Key::new(
        "enable.idempotence",
        Producer,
        High,
        Kind::Bool,
        "Number the records, so that a retry neither writes one twice nor changes their order. On unless \
         another setting rules it out (`acks` other than `all`, no `retries`, more than five requests in \
         flight); asking for it beside such a setting is an error.",
    )
    .default("true")
    .honoured(|s, v| s.producer.enable_idempotence = Some(v.bool())),
    Key::new(
        "linger.ms",
        Producer,
        High,
        Kind::FractionalMillis { min: 0, max: 900_000 },
        "How long a batch waits for more records after its first. 0 sends at once; batches still form \
         while requests are under way. Fractions of a millisecond are understood.",
    )
    .aliases(&[Alias::same("queue.buffering.max.ms")])
    .default("5")
    .honoured(|s, v| s.producer.linger = v.duration()),
    Key::new(
        "batch.size",
        Producer,
        Medium,
        Kind::Bytes { min: 1, max: 1_073_741_824 },
        "The size, after compression, at which a batch is full. One larger record still travels, alone. \
         Memory is taken as a batch grows. Java's default is 16384.",
    )
    .default("1000000")
    .honoured(|s, v| s.producer.batch_size = v.bytes()),
    Key::new(
        "batch.num.messages",
        Producer,
        Medium,
        Kind::Int { min: 1, max: 2_147_483_647 },
        "The most records in one batch. librdkafka's default is 10000; Java has no such bound.",
    )
    .default("2147483647")
    .honoured(|s, v| s.producer.batch_records_max = v.sized()),
    Key::new(
        "buffer.memory",
        Producer,
        High,
        Kind::Bytes { min: 1024, max: 2_199_023_254_528 },
        "How many bytes records may occupy from `send` until their outcome is known. At the bound `send` \
         waits, for `max.block.ms` at most. librdkafka counts it in KiB as `queue.buffering.max.kbytes`.",
    )
    .aliases(&[Alias::kib("queue.buffering.max.kbytes")])
    .default("33554432")
    .honoured(|s, v| s.producer.buffer_memory = v.bytes()),
    Key::new(
        "max.block.ms",
        Producer,
        Medium,
        Kind::Millis { min: 0, max: 9_007_199_254_740_992 },
        "How long `send` may wait for room in the buffer and for the metadata of a topic it does not know \
         yet.",
    )
    .default("60000")
    .honoured(|s, v| s.producer.max_block = v.duration()),
    Key::new(
        "delivery.timeout.ms",
        Producer,
        High,
        Kind::Millis { min: 0, max: 2_147_483_647 },
        "Until when the outcome of a record is reported at the latest, retries included. At least \
         `linger.ms` and `request.timeout.ms` together; 0 is librdkafka's way to say for ever, and means the \
         longest there is, 24 days.",
    )
    .aliases(&[Alias::same("message.timeout.ms")])
    .default("120000")
    .per_topic()
    .honoured(|s, v| {
        s.producer.delivery_timeout = match v.duration() {
            Duration::ZERO => Duration::from_millis(2_147_483_647),
            timeout => timeout,
        };
    }),
    Key::new(
        "retries",
        Producer,
        High,
        Kind::Int { min: 0, max: 2_147_483_647 },
        "How often a batch is sent again after a failure that may pass. Best left alone: \
         `delivery.timeout.ms` is the bound that means something.",
    )
    .aliases(&[Alias::same("message.send.max.retries")])
    .default("2147483647")
    .honoured(|s, v| s.producer.retries = v.sized()),
    Key::new(
        "max.in.flight.requests.per.connection",
        Producer,
        Medium,
        Kind::Int { min: 1, max: 1_000_000 },
        "How many produce requests to one broker may be unanswered. At most 5 with idempotence.",
    )
    .aliases(&[Alias::same("max.in.flight")])
    .default("5")
    .honoured(|s, v| s.producer.max_in_flight = v.sized()),
    Key::new(
        "max.request.size",
        Producer,
        Medium,
        Kind::Bytes { min: 1000, max: 1_000_000_000 },
        "The most bytes of batches in one produce request, and the largest record that `send` takes, \
         counted before compression. Brokers bound batches by `message.max.bytes`, topics by \
         `max.message.bytes`.",
    )
    .aliases(&[Alias::same("message.max.bytes")])
    .default("1048576")
    .honoured(|s, v| s.producer.max_request_size = v.bytes()),
    Key::new(
        "compression.type",
        Producer,
        High,
        Kind::Choice(&[
            Choice::of("none").also(&["inherit"]),
            Choice::of("gzip"),
            Choice::of("snappy"),
            Choice::of("lz4"),
            Choice::of("zstd"),
        ]),
        "The codec of batches. `lz4` costs little and saves much on text; `zstd` saves most.",
    )
    .aliases(&[Alias::same("compression.codec")])
    .default("none")
    .per_topic()
    .honoured(|s, v| {
        s.producer.compression = match v.choice() {
            "gzip" => Compression::Gzip,
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            _ => Compression::None,
        };
    }),
    Key::new(
        "compression.level",
        Producer,
        Medium,
        Kind::Int { min: -131_072, max: 22 },
        "How hard the codec tries; -1 is the codec's default. A key for one codec, such as \
         `compression.zstd.level`, comes before this one. `snappy` and `lz4` have one level only.",
    )
    .default("-1")
    .per_topic()
    .honoured(|s, v| s.levels.any = level(v.sized())),
    Key::new(
        "compression.gzip.level",
        Producer,
        Low,
        Kind::Int { min: -1, max: 9 },
        "How hard gzip tries, from 1 to 9; -1 is its default, which is 3 here: other clients' 6 takes \
         twice the CPU time and makes batches 2 to 8 % smaller.",
    )
    .default("-1")
    .honoured(|s, v| s.levels.gzip = level(v.sized())),
    Key::new(
        "compression.zstd.level",
        Producer,
        Low,
        Kind::Int { min: -131_072, max: 22 },
        "How hard zstd tries, from -131072 (fastest) to 22.",
    )
    .honoured(|s, v| s.levels.zstd = Some(v.sized())),
    Key::new(
        "compression.lz4.level",
        Producer,
        Low,
        Kind::Int { min: 1, max: 17 },
        "How hard lz4 tries in Java.",
    )
    .default("9")
    .ignored("lz4 has one level here, the fast one"),
    Key::new(
        "partitioner",
        Producer,
        High,
        Kind::Choice(&[
            Choice::of("murmur2_random"),
            Choice::of("murmur2"),
            Choice::of("consistent_random"),
            Choice::of("consistent"),
            Choice::of("fnv1a_random"),
            Choice::of("fnv1a"),
            Choice::of("random"),
            Choice::of("round_robin"),
            Choice::of("explicit"),
        ]),
        "How a record without a partition of its own finds one. `murmur2_random` is Java's: a hash of the \
         key, and for records without a key one partition until a batch's worth went there. \
         `consistent_random` is librdkafka's default (CRC-32), `fnv1a` Sarama's. The names without \
         `_random` hash a missing key as an empty one; `random` ignores keys, and `round_robin` too, at the \
         price of small batches. With `explicit` a record without a partition is refused. All producers of a topic \
         should agree.",
    )
    .default("murmur2_random")
    .per_topic()
    .honoured(|s, v| {
        s.producer.partitioner = match v.choice() {
            "murmur2" => Partitioning::Murmur2,
            "consistent_random" => Partitioning::ConsistentRandom,
            "consistent" => Partitioning::Consistent,
            "fnv1a_random" => Partitioning::Fnv1aRandom,
            "fnv1a" => Partitioning::Fnv1a,
            "random" => Partitioning::Random,
            "round_robin" => Partitioning::RoundRobin,
            "explicit" => Partitioning::Explicit,
            _ => Partitioning::Murmur2Random,
        };
    }),
    Key::new(
        "partitioner.ignore.keys",
        Producer,
        Medium,
        Kind::Bool,
        "Choose a partition as if no record had a key.",
    )
    .default("false")
    .honoured(|s, v| s.producer.partitioner_ignore_keys = v.bool()),
    Key::new("partitioner.class", Producer, Medium, Kind::Object, "A Java class that chooses partitions.")
        .refused("it names a Java class; set `partitioner`, whose default equals Java's"),
    Key::new(
        "partitioner.adaptive.partitioning.enable",
        Producer,
        Low,
        Kind::Bool,
        "Give partitions with fewer batches under way more of the records without a key (KIP-794).",
    )
    .default("true")
    .honoured(|s, v| s.producer.partitioner_adaptive = v.bool()),
    Key::new(
        "partitioner.availability.timeout.ms",
        Producer,
        Low,
        Kind::Millis { min: 0, max: i64::MAX },
        "Records without a key pass over partitions whose broker has answered nothing for so long though something \
         waits for it (KIP-794); 0 is never. Needs `partitioner.adaptive.partitioning.enable`.",
    )
    .default("0")
    .honoured(|s, v| s.producer.partitioner_availability_timeout = v.duration()),
    Key::new(
        "partitioner.rack.aware",
        Producer,
        Low,
        Kind::Bool,
        "Records without a key prefer partitions whose leader is in `client.rack`, as long as there are any \
         (KIP-1123).",
    )
    .default("false")
    .honoured(|s, v| s.producer.partitioner_rack_aware = v.bool()),
    Key::new(
        "sticky.partitioning.linger.ms",
        Producer,
        Low,
        Kind::Millis { min: 0, max: 900_000 },
        "How long librdkafka stays with one partition for records without a key.",
    )
    .default("10")
    .ignored("records without a key change partitions after a batch's worth of bytes"),
    Key::new(
        "transactional.id",
        Producer,
        High,
        Kind::Text,
        "The name of a transactional producer. A new instance with the same name fences the older ones off \
         and ends their transactions, so the name must differ between producers that are to write at the \
         same time, and stay the same over a restart.",
    )
    .honoured(|s, v| s.producer.transactional_id = Some(v.text().to_owned())),
    Key::new(
        "transaction.timeout.ms",
        Producer,
        Medium,
        Kind::Millis { min: 1000, max: 2_147_483_647 },
        "The coordinator aborts a transaction that is open for so long, and fences its producer. At most the \
         brokers' `transaction.max.timeout.ms`.",
    )
    .default("60000")
    .honoured(|s, v| s.producer.transaction_timeout = v.duration()),
    Key::new(
        "transaction.two.phase.commit.enable",
        Producer,
        Low,
        Kind::Bool,
        "Take part in an external two-phase commit (KIP-939): the broker never times the transaction out.",
    )
    .default("false"),
    Key::new(
        "enable.gapless.guarantee",
        Producer,
        Low,
        Kind::Bool,
        "Once a batch is refused or lost, send nothing more, so that nothing is written behind the gap: everything \
         from then on fails, with the reason. Time or retries that ran out do not count, nor do purged \
         records. Needs idempotence.",
    )
    .default("false")
    .honoured(|s, v| s.producer.gapless = v.bool()),
    Key::new(
        "queue.buffering.max.messages",
        Producer,
        High,
        Kind::Int { min: 0, max: 2_147_483_647 },
        "How many records may be between `send` and their outcome, beside the bound in bytes (`buffer.memory`). 0 is \
         no such bound; librdkafka's default is 100000. Costs a little per record.",
    )
    .default("0")
    .honoured(|s, v| s.producer.buffer_records_max = v.sized()),
    Key::new(
        "queue.buffering.backpressure.threshold",
        Producer,
        Low,
        Kind::Int { min: 1, max: 1_000_000 },
        "How many unsent requests make librdkafka wait for fuller batches.",
    )
    .default("1")
    .ignored("batches always fill up while requests are under way"),
    Key::new(
        "message.copy.max.bytes",
        Producer,
        Low,
        Kind::Bytes { min: 0, max: 1_000_000_000 },
        "Up to which size librdkafka copies a message rather than passing a pointer.",
    )
    .default("65535")
    .ignored("each record is copied once, into the batch that goes to the socket"),
    Key::new(
        "queuing.strategy",
        Producer,
        Low,
        Kind::Choice(&[Choice::of("fifo"), Choice::of("lifo").planned()]),
        "The order in which queued records are sent. First in, first out.",
    )
    .default("fifo")
    .per_topic()
    .honoured(|_, _| ()),
    Key::new(
        "produce.offset.report",
        Producer,
        Low,
        Kind::Bool,
        "Report offsets with deliveries, in old versions of librdkafka.",
    )
    .default("true")
    .per_topic()
    .ignored("deliveries always report their offset"),
    Key::new(
        "delivery.report.only.error",
        Producer,
        Low,
        Kind::Bool,
        "Report only failed deliveries.",
    )
    .default("false")
    .ignored("a delivery that nobody waits for costs nothing; drop its future"),
    Key::new("key.serializer", Producer, High, Kind::Object, "A Java class that writes keys.")
        .refused("it names a Java class; keys are bytes here, and the program writes them"),
    Key::new("value.serializer", Producer, High, Kind::Object, "A Java class that writes values.")
        .refused("it names a Java class; values are bytes here, and the program writes them"),
];

/// librdkafka and Java both write a codec's default level as -1, which zstd takes as a level of its
/// own only under its own key.
fn level(level: i32) -> Option<i32> {
    (level != -1).then_some(level)
}
