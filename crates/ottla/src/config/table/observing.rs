//! Keys of logs, metrics, callbacks and plugins: what watches a client, and what other clients
//! pass as code.

use super::super::key::{Choice, Importance, Key, Kind, Scope};

use Importance::{Low, Medium};
use Scope::{Client, Consumer, Producer};

const LOGS: &str = "log events go to the program's `tracing` subscriber, which filters them";
const POINTER: &str =
    "it is a function or pointer of librdkafka's C interface, which text cannot carry";
const DELIVERY: &str = "it is a C callback; `send` returns the record's delivery, a future that also takes a callback (`Delivery::on_outcome`)";
const METRICS: &str = "it concerns Java's own metrics registry";

pub(super) static KEYS: &[Key] = &[
    Key::new(
        "enable.metrics.push",
        Client,
        Low,
        Kind::Bool,
        "Send client metrics to brokers that subscribe to them (KIP-714).",
    )
    .default("true")
    .ignored("telemetry is not built yet; nothing is pushed"),
    Key::new(
        "statistics.interval.ms",
        Client,
        Medium,
        Kind::Millis {
            min: 0,
            max: 86_400_000,
        },
        "How often librdkafka calls back with statistics.",
    )
    .default("0"),
    Key::new(
        "debug",
        Client,
        Medium,
        Kind::List,
        "Which parts of librdkafka write debug logs.",
    )
    .ignored(LOGS),
    Key::new(
        "log_level",
        Client,
        Low,
        Kind::Int { min: 0, max: 7 },
        "librdkafka's log level.",
    )
    .default("6")
    .ignored(LOGS),
    Key::new(
        "log.queue",
        Client,
        Low,
        Kind::Bool,
        "Hand librdkafka's logs to the program.",
    )
    .default("false")
    .ignored(LOGS),
    Key::new(
        "log.thread.name",
        Client,
        Low,
        Kind::Bool,
        "Name the thread in librdkafka's logs.",
    )
    .default("true")
    .ignored(LOGS),
    Key::new(
        "log.connection.close",
        Client,
        Low,
        Kind::Bool,
        "Log connections that brokers close.",
    )
    .default("true")
    .ignored(LOGS),
    Key::new(
        "enable.random.seed",
        Client,
        Low,
        Kind::Bool,
        "Let librdkafka seed C's `rand`.",
    )
    .default("true")
    .ignored("C's random source is not used"),
    Key::new(
        "enabled_events",
        Client,
        Low,
        Kind::Int {
            min: 0,
            max: 2_147_483_647,
        },
        "Event types.",
    )
    .default("0")
    .ignored("there is no event queue; calls return futures"),
    Key::new(
        "internal.termination.signal",
        Client,
        Low,
        Kind::Int { min: 0, max: 128 },
        "The signal that ends librdkafka's threads.",
    )
    .default("0")
    .ignored("no thread is ended by a signal"),
    Key::new(
        "builtin.features",
        Client,
        Low,
        Kind::List,
        "What librdkafka was built with.",
    )
    .ignored("features are chosen when compiling"),
    Key::new("error_cb", Client, Low, Kind::Object, "Called with errors.").refused(POINTER),
    Key::new(
        "throttle_cb",
        Client,
        Low,
        Kind::Object,
        "Called when throttled.",
    )
    .refused(POINTER),
    Key::new(
        "stats_cb",
        Client,
        Low,
        Kind::Object,
        "Called with statistics.",
    )
    .refused("it is a pointer of a C program; read Producer::metrics"),
    Key::new(
        "log_cb",
        Client,
        Low,
        Kind::Object,
        "Called with log lines.",
    )
    .refused(POINTER),
    Key::new(
        "background_event_cb",
        Client,
        Low,
        Kind::Object,
        "Called with events.",
    )
    .refused(POINTER),
    Key::new("socket_cb", Client, Low, Kind::Object, "Makes sockets.").refused(POINTER),
    Key::new("connect_cb", Client, Low, Kind::Object, "Connects sockets.").refused(POINTER),
    Key::new(
        "closesocket_cb",
        Client,
        Low,
        Kind::Object,
        "Closes sockets.",
    )
    .refused(POINTER),
    Key::new("open_cb", Client, Low, Kind::Object, "Opens files.").refused(POINTER),
    Key::new("resolve_cb", Client, Low, Kind::Object, "Resolves names.").refused(POINTER),
    Key::new(
        "opaque",
        Client,
        Low,
        Kind::Object,
        "A value handed to callbacks.",
    )
    .refused(POINTER),
    Key::new(
        "default_topic_conf",
        Client,
        Low,
        Kind::Object,
        "Settings of topics.",
    )
    .refused("it is a pointer; set topic properties directly, they hold for every topic"),
    Key::new(
        "interceptors",
        Client,
        Low,
        Kind::Object,
        "Interceptors added by code.",
    )
    .refused("it is a pointer of a C program; set ProducerConfig::interceptors"),
    Key::new(
        "plugin.library.paths",
        Client,
        Low,
        Kind::Object,
        "Shared libraries to load.",
    )
    .refused("shared libraries are not loaded"),
    Key::new(
        "dr_cb",
        Producer,
        Low,
        Kind::Object,
        "Called per delivered record.",
    )
    .refused(DELIVERY),
    Key::new(
        "dr_msg_cb",
        Producer,
        Low,
        Kind::Object,
        "Called per delivered record.",
    )
    .refused(DELIVERY),
    Key::new(
        "partitioner_cb",
        Producer,
        Low,
        Kind::Object,
        "Chooses partitions.",
    )
    .refused(
        "it is a pointer of a C program; set ProducerConfig::partitioner to Partitioning::Custom",
    ),
    Key::new(
        "msg_order_cmp",
        Producer,
        Low,
        Kind::Object,
        "Orders the queue.",
    )
    .refused("records of a partition are written in the order in which they were sent"),
    Key::new(
        "consume_cb",
        Consumer,
        Low,
        Kind::Object,
        "Called with records.",
    )
    .refused(POINTER),
    Key::new(
        "rebalance_cb",
        Consumer,
        Low,
        Kind::Object,
        "Called at a rebalance.",
    )
    .refused(POINTER),
    Key::new(
        "offset_commit_cb",
        Consumer,
        Low,
        Kind::Object,
        "Called after a commit.",
    )
    .refused(POINTER),
    Key::new(
        "interceptor.classes",
        Client,
        Low,
        Kind::Object,
        "Java interceptors.",
    )
    .refused("it names Java classes; producers take ProducerConfig::interceptors"),
    Key::new(
        "metric.reporters",
        Client,
        Low,
        Kind::List,
        "Java classes that report metrics.",
    )
    .ignored(METRICS),
    Key::new(
        "metrics.num.samples",
        Client,
        Low,
        Kind::Int {
            min: 1,
            max: 2_147_483_647,
        },
        "Samples.",
    )
    .default("2")
    .ignored(METRICS),
    Key::new(
        "metrics.recording.level",
        Client,
        Low,
        Kind::Choice(&[Choice::of("INFO"), Choice::of("DEBUG"), Choice::of("TRACE")]),
        "How much Java's metrics record.",
    )
    .default("INFO")
    .ignored(METRICS),
    Key::new(
        "metrics.sample.window.ms",
        Client,
        Low,
        Kind::Millis {
            min: 0,
            max: i64::MAX,
        },
        "How long a sample of Java's metrics is.",
    )
    .default("30000")
    .ignored(METRICS),
    Key::new(
        "config.providers",
        Client,
        Low,
        Kind::Object,
        "Java classes that resolve `${…}`.",
    )
    .refused("it names Java classes; resolve placeholders before setting values"),
];
