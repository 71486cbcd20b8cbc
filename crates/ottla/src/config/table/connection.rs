//! Keys of connections, metadata and retries: what `ottla-net` reads.

use ottla_net::{AddressFamily, MetadataRecovery};

use super::super::key::{Alias, Choice, Importance, Key, Kind, Scope};

use Importance::{High, Low, Medium};
use Scope::Client;

pub(super) static KEYS: &[Key] = &[
    Key::new(
        "bootstrap.servers",
        Client,
        High,
        Kind::Servers,
        "Brokers to learn the cluster from, as `host:port`; without a port it is 9092, and an IPv6 \
         address goes in brackets. One that answers is enough, two or three survive the loss of one. \
         After that the client talks to the addresses that the brokers advertise.",
    )
    .aliases(&[Alias::same("metadata.broker.list")])
    .honoured(|s, v| s.cluster.bootstrap_servers = v.servers().to_vec()),
    Key::new(
        "client.id",
        Client,
        Medium,
        Kind::Text,
        "A name for this program in the brokers' logs, metrics and quotas. At most 32767 bytes.",
    )
    .default("ottla")
    .honoured(|s, v| s.cluster.client_id = v.text().to_owned()),
    Key::new(
        "client.rack",
        Client,
        Low,
        Kind::Text,
        "Where this program runs, in the words of the brokers' `broker.rack`. A consumer passes it on, \
         so that brokers can point it to a replica nearby; a producer needs it for `partitioner.rack.aware`.",
    )
    .default("")
    .honoured(|s, v| {
        s.consumer.client_rack = v.text().to_owned();
        s.producer.client_rack = Some(v.text().to_owned()).filter(|rack| !rack.is_empty());
    }),
    Key::new(
        "request.timeout.ms",
        Client,
        Medium,
        Kind::Millis { min: 1, max: 900_000 },
        "How long one request waits for its answer. Then the connection counts as dead, and what may be \
         repeated is sent again elsewhere. For a produce request it is also how long the broker may wait \
         for its replicas. librdkafka calls the first meaning `socket.timeout.ms` and the second \
         `request.timeout.ms`; here they are one.",
    )
    .aliases(&[Alias::same("socket.timeout.ms")])
    .default("30000")
    .per_topic()
    .honoured(|s, v| {
        s.cluster.request_timeout = v.duration();
        s.producer.request_timeout = v.duration();
        s.consumer.request_timeout = v.duration();
    }),
    Key::new(
        "default.api.timeout.ms",
        Client,
        Medium,
        Kind::Millis { min: 1, max: 2_147_483_647 },
        "How long a call that takes no deadline of its own may last in all, with its retries: a commit, \
         an offset look-up, an administrative call.",
    )
    .default("60000")
    .honoured(|s, v| {
        s.consumer.default_api_timeout = v.duration();
        s.admin_timeout = v.duration();
    }),
    Key::new(
        "retry.backoff.ms",
        Client,
        Medium,
        Kind::Millis { min: 0, max: 300_000 },
        "The pause before a failed request is tried a second time. It doubles with every further \
         failure, spread by chance, up to `retry.backoff.max.ms`. It is also the least time between two \
         requests for metadata.",
    )
    .aliases(&[Alias::same("topic.metadata.refresh.fast.interval.ms")])
    .default("100")
    .honoured(|s, v| {
        s.cluster.retry_backoff = v.duration();
        s.producer.retry_backoff = v.duration();
        s.consumer.retry_backoff = v.duration();
    }),
    Key::new(
        "retry.backoff.max.ms",
        Client,
        Medium,
        Kind::Millis { min: 0, max: 300_000 },
        "The longest pause between two attempts of one request.",
    )
    .default("1000")
    .honoured(|s, v| {
        s.cluster.retry_backoff_max = v.duration();
        s.producer.retry_backoff_max = v.duration();
        s.consumer.retry_backoff_max = v.duration();
    }),
    Key::new(
        "reconnect.backoff.ms",
        Client,
        Medium,
        Kind::Millis { min: 0, max: 3_600_000 },
        "The pause before a broker that could not be reached is tried again. It doubles with every \
         failure, spread by chance, up to `reconnect.backoff.max.ms`.",
    )
    .default("50")
    .honoured(|s, v| s.cluster.reconnect_backoff = v.duration()),
    Key::new(
        "reconnect.backoff.max.ms",
        Client,
        Medium,
        Kind::Millis { min: 0, max: 3_600_000 },
        "The longest pause between two attempts to reach one broker.",
    )
    .default("1000")
    .honoured(|s, v| s.cluster.reconnect_backoff_max = v.duration()),
    Key::new(
        "socket.connection.setup.timeout.ms",
        Client,
        Medium,
        Kind::Millis { min: 1, max: 2_147_483_647 },
        "How long one address of a broker may take to accept a connection before the next address is \
         tried. Doubles with every failure, up to `socket.connection.setup.timeout.max.ms`.",
    )
    .default("10000")
    .honoured(|s, v| s.cluster.connect_timeout = v.duration()),
    Key::new(
        "socket.connection.setup.timeout.max.ms",
        Client,
        Medium,
        Kind::Millis { min: 1, max: 2_147_483_647 },
        "The bound of the growth of `socket.connection.setup.timeout.ms`.",
    )
    .default("30000")
    .honoured(|s, v| s.cluster.connect_timeout_max = v.duration()),
    Key::new(
        "connections.max.idle.ms",
        Client,
        Medium,
        Kind::Millis { min: -1, max: 2_147_483_647 },
        "A connection that has carried nothing for so long is closed, preferably before the broker does \
         it after its own ten minutes. 0 and -1 mean never.",
    )
    .default("540000")
    .honoured(|s, v| {
        let never = v.duration().is_zero() || v.duration() == std::time::Duration::MAX;
        s.cluster.connection_idle_max = (!never).then(|| v.duration());
    }),
    Key::new(
        "connections.max.lifetime.ms",
        Client,
        Low,
        Kind::Millis { min: 0, max: i64::MAX },
        "A connection older than this is replaced at its next request: for load balancers and firewalls \
         that cut long-lived connections without a word. 0 means never. Ottla's own key.",
    )
    .default("0")
    .honoured(|s, v| {
        s.cluster.connection_lifetime_max = Some(v.duration()).filter(|d| !d.is_zero());
    }),
    Key::new(
        "connections.max.requests",
        Client,
        Low,
        Kind::Int { min: 1, max: 1_000_000 },
        "How many requests one connection holds, queued and unanswered together. At the bound a further \
         one is refused with an error that can be retried. Producers and consumers stay far below it. \
         Ottla's own key.",
    )
    .default("100000")
    .honoured(|s, v| s.cluster.connection_requests_max = v.sized()),
    Key::new(
        "connections.max.queue.bytes",
        Client,
        Low,
        Kind::Bytes { min: 1, max: 2_147_483_647 },
        "How many bytes of requests one connection holds that the socket has not taken yet. At the bound \
         a further request is refused with an error that can be retried. Ottla's own key.",
    )
    .default("134217728")
    .honoured(|s, v| s.cluster.connection_queue_bytes_max = v.bytes()),
    Key::new(
        "receive.message.max.bytes",
        Client,
        Medium,
        Kind::Bytes { min: 1000, max: 2_147_483_647 },
        "A response longer than this is an error and ends its connection; it keeps a confused or hostile \
         server from filling the memory. Must exceed `fetch.max.bytes` and the largest batch on the \
         brokers.",
    )
    .default("100000000")
    .honoured(|s, v| s.cluster.receive_message_max_bytes = v.bytes()),
    Key::new(
        "send.buffer.bytes",
        Client,
        Low,
        Kind::Bytes { min: -1, max: 100_000_000 },
        "The send buffer of a TCP socket. 0 and -1 leave it to the operating system, which adapts it to \
         the connection.",
    )
    .aliases(&[Alias::same("socket.send.buffer.bytes")])
    .default("-1")
    .honoured(|s, v| s.cluster.send_buffer_bytes = usize::try_from(v.int()).ok().filter(|n| *n > 0)),
    Key::new(
        "receive.buffer.bytes",
        Client,
        Low,
        Kind::Bytes { min: -1, max: 100_000_000 },
        "The receive buffer of a TCP socket. 0 and -1 leave it to the operating system, which adapts it \
         to the connection.",
    )
    .aliases(&[Alias::same("socket.receive.buffer.bytes")])
    .default("-1")
    .honoured(|s, v| {
        s.cluster.receive_buffer_bytes = usize::try_from(v.int()).ok().filter(|n| *n > 0);
    }),
    Key::new(
        "socket.keepalive.enable",
        Client,
        Low,
        Kind::Bool,
        "Let the operating system probe silent TCP connections, the first time after 30 seconds, so that \
         firewalls do not forget them. librdkafka leaves it off.",
    )
    .default("true")
    .honoured(|s, v| {
        s.cluster.tcp_keepalive = v.bool().then_some(std::time::Duration::from_secs(30));
    }),
    Key::new(
        "socket.nagle.disable",
        Client,
        Low,
        Kind::Bool,
        "Send small requests at once (`TCP_NODELAY`) rather than waiting for more to send with them.",
    )
    .default("true")
    .honoured(|s, v| s.cluster.tcp_nodelay = v.bool()),
    Key::new(
        "broker.address.family",
        Client,
        Low,
        Kind::Choice(&[Choice::of("any"), Choice::of("v4"), Choice::of("v6")]),
        "Which addresses of a broker's name are tried.",
    )
    .default("any")
    .honoured(|s, v| {
        s.cluster.address_family = match v.choice() {
            "v4" => AddressFamily::V4,
            "v6" => AddressFamily::V6,
            _ => AddressFamily::Any,
        };
    }),
    Key::new(
        "client.dns.lookup",
        Client,
        Low,
        Kind::Choice(&[
            Choice::of("use_all_dns_ips"),
            Choice::of("resolve_canonical_bootstrap_servers_only").planned(),
        ]),
        "Ottla tries every address that a broker's name resolves to. Replacing bootstrap names by their \
         canonical ones, for Kerberos behind an alias, comes with Kerberos.",
    )
    .default("use_all_dns_ips")
    .honoured(|_, _| ()),
    Key::new(
        "metadata.max.age.ms",
        Client,
        Low,
        Kind::Millis { min: 1, max: 86_400_000 },
        "Metadata is fetched anew when it is this old, even if nothing went wrong: it is how new \
         partitions are noticed.",
    )
    .aliases(&[Alias::same("topic.metadata.refresh.interval.ms")])
    .default("300000")
    .honoured(|s, v| s.cluster.metadata_max_age = v.duration()),
    Key::new(
        "metadata.max.idle.ms",
        Client,
        Low,
        Kind::Millis { min: 5_000, max: i64::MAX },
        "A topic that nobody has used for so long is no longer asked for with the others.",
    )
    .default("300000")
    .honoured(|s, v| s.cluster.metadata_max_idle = v.duration()),
    Key::new(
        "metadata.recovery.strategy",
        Client,
        Low,
        Kind::Choice(&[Choice::of("rebootstrap"), Choice::of("none")]),
        "What to do when no known broker can be reached any more: start again from `bootstrap.servers`, \
         or keep trying the brokers last known (KIP-899).",
    )
    .default("rebootstrap")
    .honoured(|s, v| {
        s.cluster.metadata_recovery = match v.choice() {
            "none" => MetadataRecovery::None,
            _ => MetadataRecovery::Rebootstrap,
        };
    }),
    Key::new(
        "metadata.recovery.rebootstrap.trigger.ms",
        Client,
        Low,
        Kind::Millis { min: 0, max: 2_147_483_647 },
        "Go back to `bootstrap.servers` when metadata could not be fetched for so long (KIP-1102).",
    )
    .default("300000")
    .honoured(|s, v| s.cluster.rebootstrap_trigger = v.duration()),
    Key::new(
        "allow.auto.create.topics",
        Client,
        Medium,
        Kind::Bool,
        "Whether using a topic that does not exist may create it, where the brokers allow that too. Off \
         as in librdkafka's consumer: a typing error should be an error. Java's default is on.",
    )
    .default("false")
    .honoured(|s, v| s.cluster.allow_auto_create_topics = v.bool()),
    Key::new(
        "topic.metadata.refresh.fast.cnt",
        Client,
        Low,
        Kind::Int { min: 0, max: 1000 },
        "How often librdkafka asks in quick succession for a topic it does not know.",
    )
    .default("10")
    .ignored("a topic is asked for until the call's own deadline, with growing pauses"),
    Key::new(
        "topic.metadata.refresh.sparse",
        Client,
        Low,
        Kind::Bool,
        "Ask only for the topics in use rather than for all of the cluster's.",
    )
    .default("true")
    .ignored("only the topics in use are ever asked for"),
    Key::new(
        "topic.metadata.propagation.max.ms",
        Client,
        Low,
        Kind::Millis { min: 0, max: 3_600_000 },
        "How long a new topic may be unknown to some brokers before it counts as missing.",
    )
    .default("30000")
    .ignored("a topic is asked for until the call's own deadline, with growing pauses"),
    Key::new(
        "topic.blacklist",
        Client,
        Low,
        Kind::List,
        "Topics that are ignored in metadata, as regular expressions.",
    ),
    Key::new(
        "socket.max.fails",
        Client,
        Low,
        Kind::Int { min: 0, max: 1_000_000 },
        "How many requests of one connection may time out before librdkafka closes it.",
    )
    .default("1")
    .ignored("a connection whose oldest request times out is always replaced"),
    Key::new(
        "socket.blocking.max.ms",
        Client,
        Low,
        Kind::Millis { min: 1, max: 60_000 },
        "How long a blocking socket operation of librdkafka may last.",
    )
    .default("1000")
    .ignored("no socket operation blocks"),
    Key::new(
        "broker.address.ttl",
        Client,
        Low,
        Kind::Millis { min: 0, max: 86_400_000 },
        "How long librdkafka remembers what a broker's name resolved to.",
    )
    .default("1000")
    .ignored("names are resolved at every connect; caching them is the system resolver's part"),
    Key::new(
        "reconnect.backoff.jitter.ms",
        Client,
        Low,
        Kind::Millis { min: 0, max: 3_600_000 },
        "Spread of the pause between two attempts to connect, deprecated in librdkafka.",
    )
    .default("0")
    .ignored("pauses are always spread by a fifth either way"),
    Key::new(
        "api.version.request",
        Client,
        Low,
        Kind::Bool,
        "Ask each broker which versions it speaks.",
    )
    .default("true")
    .ignored("every connection negotiates its versions"),
    Key::new(
        "api.version.request.timeout.ms",
        Client,
        Low,
        Kind::Millis { min: 1, max: 300_000 },
        "How long a broker may take to say which versions it speaks.",
    )
    .default("10000")
    .ignored("the negotiation has request.timeout.ms, like every request"),
    Key::new(
        "api.version.fallback.ms",
        Client,
        Low,
        Kind::Millis { min: 0, max: 604_800_000 },
        "How long librdkafka assumes `broker.version.fallback` after a failed negotiation.",
    )
    .default("0")
    .ignored("versions are negotiated on every connection and never assumed"),
    Key::new(
        "broker.version.fallback",
        Client,
        Low,
        Kind::Text,
        "The version librdkafka assumes of a broker that cannot say which versions it speaks.",
    )
    .default("0.10.0")
    .ignored("brokers from Kafka 2.1 on say which versions they speak; none is assumed"),
    Key::new(
        "bootstrap.controllers",
        Client,
        Low,
        Kind::Servers,
        "KRaft controllers to administer directly, when no broker can be reached (KIP-919).",
    ),
];
