//! The settings of a cluster's connections and metadata.
//!
//! Plain data, named after Java's and librdkafka's keys. The facade crate maps strings onto it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::backoff::Backoff;
use crate::connection::Authenticator;
use crate::error::Error;

/// How to reach a cluster, and how patient to be with it.
///
/// Every bound the layer keeps is a field here. The defaults are Java's where Java has the setting.
#[derive(Clone)]
pub struct ClusterConfig {
    /// `bootstrap.servers`: brokers to learn the cluster from, tried in a random order until one
    /// answers. At least one.
    pub bootstrap_servers: Vec<Address>,

    /// `client.id`: a name for this client in the brokers' logs, metrics and quotas. Any text of
    /// at most 32,767 bytes. Default `ottla`.
    pub client_id: String,

    /// `request.timeout.ms`: how long one request waits for its answer, from being submitted. Longer
    /// where the broker is asked to wait (a join, a long poll). A connection whose oldest request has
    /// waited this long without an answer is given up. Default 30 s.
    pub request_timeout: Duration,

    /// `retry.backoff.ms`: the wait before the second attempt of a request, and the least time between
    /// two metadata requests made on demand. Default 100 ms.
    pub retry_backoff: Duration,

    /// `retry.backoff.max.ms`: the longest wait between two attempts. Default 1 s.
    pub retry_backoff_max: Duration,

    /// `reconnect.backoff.ms`: the wait before a broker that could not be reached is tried again.
    /// Default 50 ms.
    pub reconnect_backoff: Duration,

    /// `reconnect.backoff.max.ms`: the longest wait between two attempts to connect. Default 1 s.
    pub reconnect_backoff_max: Duration,

    /// `socket.connection.setup.timeout.ms`: how long one address of a broker may take to accept the
    /// connection (KIP-601). Doubles with every attempt that fails. Default 10 s.
    pub connect_timeout: Duration,

    /// `socket.connection.setup.timeout.max.ms`: the bound of that growth. Default 30 s.
    pub connect_timeout_max: Duration,

    /// `connections.max.idle.ms`: a connection that has carried nothing for so long is closed.
    /// `None`: never. Default 9 min.
    pub connection_idle_max: Option<Duration>,

    /// A connection older than this is replaced at the next request. `None`: never. Default `None`.
    /// Useful behind load balancers that cut long-lived connections without a word.
    pub connection_lifetime_max: Option<Duration>,

    /// `max.in.flight.requests.per.connection` of this layer: how many requests one connection holds,
    /// queued and unanswered together. At the bound a request is refused with
    /// [`Error::ConnectionFull`]. A net under the limits of the layers above, which are far lower.
    /// Default 100,000.
    pub connection_requests_max: usize,

    /// How many bytes of requests one connection holds that the socket has not taken yet. At the bound
    /// a request is refused with [`Error::ConnectionFull`], unless it is the only one.
    /// Default 128 MiB.
    pub connection_queue_bytes_max: usize,

    /// `receive.message.max.bytes`: a response longer than this is an error and ends its connection.
    /// Must exceed `fetch.max.bytes` and what one oversize batch may hold. Default 100,000,000.
    pub receive_message_max_bytes: usize,

    /// `send.buffer.bytes` of a TCP socket. `None` leaves it to the system, which adapts it.
    /// Default `None`.
    pub send_buffer_bytes: Option<usize>,

    /// `receive.buffer.bytes` of a TCP socket. `None` leaves it to the system, which adapts it.
    /// Default `None`.
    pub receive_buffer_bytes: Option<usize>,

    /// `socket.keepalive.enable`, as the time a silent TCP connection waits before it is probed.
    /// `None`: never probed. Default 30 s.
    pub tcp_keepalive: Option<Duration>,

    /// `socket.nagle.disable`: send small requests at once. Default true.
    pub tcp_nodelay: bool,

    /// `broker.address.family`: which addresses of a broker's name are tried. Default any.
    pub address_family: AddressFamily,

    /// `metadata.max.age.ms`: metadata is fetched anew when it is this old. Default 5 min.
    pub metadata_max_age: Duration,

    /// `metadata.max.idle.ms`: a topic that nobody tracks is forgotten when nobody has asked for it
    /// for so long. Default 5 min.
    pub metadata_max_idle: Duration,

    /// `allow.auto.create.topics`: whether asking for an unknown topic may create it, where the broker
    /// allows that too. Default false, as in librdkafka; Java's default is true.
    pub allow_auto_create_topics: bool,

    /// `metadata.recovery.strategy`: what to do when no known broker can be reached (KIP-899).
    /// Default [`MetadataRecovery::Rebootstrap`].
    pub metadata_recovery: MetadataRecovery,

    /// `metadata.recovery.rebootstrap.trigger.ms`: go back to the bootstrap servers when metadata could
    /// not be fetched for so long (KIP-1102). Default 5 min.
    pub rebootstrap_trigger: Duration,

    /// What proves who this client is, on each new connection. `None`: nothing, as on a listener
    /// with the protocol `PLAINTEXT` or `SSL`. Default `None`.
    pub authenticator: Option<Arc<dyn Authenticator>>,
}

impl ClusterConfig {
    /// The defaults, and the servers to start from.
    pub fn new(bootstrap_servers: impl IntoIterator<Item = Address>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Checks what the types cannot express. [`Cluster::new`](crate::Cluster::new) calls it.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first setting that cannot work, and why.
    pub fn validate(&self) -> Result<(), Error> {
        let check = |holds: bool, setting: &'static str, reason: &str| {
            if holds {
                Ok(())
            } else {
                Err(Error::Config {
                    setting,
                    reason: reason.into(),
                })
            }
        };
        check(
            !self.bootstrap_servers.is_empty(),
            "bootstrap.servers",
            "is empty; name at least one broker as host:port",
        )?;
        check(
            i16::try_from(self.client_id.len()).is_ok(),
            "client.id",
            "is longer than the 32,767 bytes a request can carry",
        )?;
        for (setting, value) in [
            ("request.timeout.ms", self.request_timeout),
            ("socket.connection.setup.timeout.ms", self.connect_timeout),
            ("metadata.max.age.ms", self.metadata_max_age),
        ] {
            check(!value.is_zero(), setting, "must be above 0")?;
        }
        // Java's bound; a time beyond it could not be added to the present one.
        for (setting, value) in [
            ("request.timeout.ms", self.request_timeout),
            ("retry.backoff.max.ms", self.retry_backoff_max),
            ("reconnect.backoff.max.ms", self.reconnect_backoff_max),
            (
                "socket.connection.setup.timeout.max.ms",
                self.connect_timeout_max,
            ),
            (
                "connections.max.idle.ms",
                self.connection_idle_max.unwrap_or_default(),
            ),
            (
                "connection_lifetime_max",
                self.connection_lifetime_max.unwrap_or_default(),
            ),
            ("metadata.max.age.ms", self.metadata_max_age),
        ] {
            check(
                i64::try_from(value.as_millis()).is_ok(),
                setting,
                "must be below 2^63 ms",
            )?;
        }
        check(
            self.connection_requests_max > 0,
            "max.in.flight.requests.per.connection",
            "must be above 0",
        )?;
        check(
            (MIN_RECEIVE_MAX..=i32::MAX as usize).contains(&self.receive_message_max_bytes),
            "receive.message.max.bytes",
            "must be from 1,000 to 2,147,483,647",
        )
    }

    /// The wait between two attempts of a request.
    pub fn retry_policy(&self) -> Backoff {
        Backoff::new(self.retry_backoff, self.retry_backoff_max)
    }

    /// The wait between two attempts to connect.
    pub fn reconnect_policy(&self) -> Backoff {
        Backoff::new(self.reconnect_backoff, self.reconnect_backoff_max)
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            bootstrap_servers: Vec::new(),
            client_id: "ottla".into(),
            request_timeout: Duration::from_secs(30),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(10),
            connect_timeout_max: Duration::from_secs(30),
            connection_idle_max: Some(Duration::from_secs(9 * 60)),
            connection_lifetime_max: None,
            connection_requests_max: 100_000,
            connection_queue_bytes_max: 128 << 20,
            receive_message_max_bytes: 100_000_000,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            tcp_keepalive: Some(Duration::from_secs(30)),
            tcp_nodelay: true,
            address_family: AddressFamily::Any,
            metadata_max_age: Duration::from_secs(5 * 60),
            metadata_max_idle: Duration::from_secs(5 * 60),
            allow_auto_create_topics: false,
            metadata_recovery: MetadataRecovery::Rebootstrap,
            rebootstrap_trigger: Duration::from_secs(5 * 60),
            authenticator: None,
        }
    }
}

impl fmt::Debug for ClusterConfig {
    /// Leaves out the authenticator, which may hold a secret and a careless `Debug`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterConfig")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("client_id", &self.client_id)
            .field("request_timeout", &self.request_timeout)
            .finish_non_exhaustive()
    }
}

/// Which addresses of a broker's name are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressFamily {
    /// All of them.
    #[default]
    Any,
    /// Only IPv4.
    V4,
    /// Only IPv6.
    V6,
}

/// What to do when no known broker can be reached (`metadata.recovery.strategy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MetadataRecovery {
    /// Keep trying the brokers last known.
    None,
    /// Start again from the bootstrap servers.
    #[default]
    Rebootstrap,
}

/// The least `receive.message.max.bytes` with which a handshake fits.
const MIN_RECEIVE_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_lack_only_servers() {
        let error = ClusterConfig::default().validate().unwrap_err();
        assert!(error.to_string().contains("bootstrap.servers"), "{error}");
        ClusterConfig::new([Address::new("kafka", 9092)])
            .validate()
            .unwrap();
    }

    #[test]
    fn names_the_setting_that_cannot_work() {
        let good = || ClusterConfig::new([Address::new("kafka", 9092)]);
        let refused = |config: ClusterConfig| config.validate().unwrap_err().to_string();

        let mut config = good();
        config.client_id = "x".repeat(40_000);
        assert!(refused(config).contains("client.id"));
        let mut config = good();
        config.request_timeout = Duration::ZERO;
        assert!(refused(config).contains("request.timeout.ms"));
        let mut config = good();
        config.metadata_max_age = Duration::MAX;
        assert!(refused(config).contains("metadata.max.age.ms"));
        let mut config = good();
        config.receive_message_max_bytes = 10;
        assert!(refused(config).contains("receive.message.max.bytes"));
    }
}
