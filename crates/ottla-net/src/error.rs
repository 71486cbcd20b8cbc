//! What can go wrong between this client and a cluster.
//!
//! Errors are cheap to clone, because one broken connection fails many requests at once. Each says
//! what happened and where, and, where that helps, what to try. None carries a secret.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_wire::{ApiKey, DecodeError, EncodeError, ErrorCode};

use crate::address::Address;

/// Why a request, a connection or a look-up failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting cannot work. Nothing was attempted.
    #[error("{setting} {reason}")]
    Config {
        /// The key of the setting, in Java's spelling.
        setting: &'static str,
        /// What is wrong with it, as the rest of a sentence.
        reason: String,
    },

    /// No connection came about: the name does not resolve, or no address of it accepts.
    #[error("cannot connect to {peer}: {cause}{}", connect_hint(peer, cause))]
    Connect {
        /// Who was to be reached.
        peer: Peer,
        /// What the system said, for the last address tried.
        cause: Arc<io::Error>,
    },

    /// Something answers at this address, and it is no Kafka broker's plain listener.
    #[error("{peer} does not speak Kafka in plain text: {answer}")]
    NotKafka {
        /// Who was to be reached.
        peer: Peer,
        /// What its first bytes look like.
        answer: ForeignAnswer,
    },

    /// The connection was made, and the exchange that precedes all requests failed.
    #[error("the handshake with {peer} failed: {reason}")]
    Handshake {
        /// With whom.
        peer: Peer,
        /// What happened, and what to try.
        reason: String,
        /// Whether the same may succeed later.
        retriable: bool,
    },

    /// The broker refused who this client says it is. Trying again with the same credentials is no use.
    #[error("{peer} refused this client's credentials: {reason}")]
    Authentication {
        /// Who refused.
        peer: Peer,
        /// What it said.
        reason: String,
    },

    /// The connection ended before the answer came.
    #[error("{}connection to {peer} lost: {cause}{}", api_prefix(*api), sent.note())]
    Disconnected {
        /// To whom the connection was.
        peer: Peer,
        /// The request that this error is the outcome of, when there is one.
        api: Option<ApiKey>,
        /// Whether the broker may have received the request.
        sent: Sent,
        /// Why it ended.
        cause: CloseCause,
    },

    /// No answer came in time.
    #[error("{api} request to {peer} timed out after {}{}", Seconds(*waited), sent.note())]
    TimedOut {
        /// Who did not answer.
        peer: Peer,
        /// The request.
        api: ApiKey,
        /// Whether the broker may have received the request.
        sent: Sent,
        /// How long the answer was waited for.
        waited: Duration,
    },

    /// The connection holds as much as its bounds allow. Nothing was queued.
    #[error(
        "{api} request not queued: the connection to {peer} already holds {requests} requests and {bytes} unsent bytes"
    )]
    ConnectionFull {
        /// Whose connection.
        peer: Peer,
        /// The request.
        api: ApiKey,
        /// Requests held.
        requests: usize,
        /// Bytes held that the socket has not taken.
        bytes: usize,
    },

    /// The broker cannot do this.
    #[error("{peer} does not support {api}{}", offered_range(*wanted, *offered))]
    Unsupported {
        /// Who cannot.
        peer: Peer,
        /// The request.
        api: ApiKey,
        /// The versions that this client could use, lowest and highest.
        wanted: (i16, i16),
        /// The versions the broker offers, when it knows the API at all.
        offered: Option<(i16, i16)>,
    },

    /// The request cannot be expressed in the version chosen. Nothing was sent.
    #[error("{source} (a request for {peer})")]
    Encode {
        /// For whom.
        peer: Peer,
        /// What does not fit.
        source: EncodeError,
    },

    /// The answer came and cannot be read. The broker has handled the request.
    #[error("{source} (a response of {peer})")]
    Decode {
        /// Whose answer.
        peer: Peer,
        /// The request answered.
        api: ApiKey,
        /// Where and why reading stopped.
        source: DecodeError,
    },

    /// The answer is longer than this client takes. The broker has handled the request.
    #[error(
        "the {api} response of {peer} announces {size} bytes, above receive.message.max.bytes = {limit}; raise it, or ask for less at once"
    )]
    ResponseTooLarge {
        /// Whose answer.
        peer: Peer,
        /// The request answered.
        api: ApiKey,
        /// What the answer's length field says, in bytes.
        size: u64,
        /// The limit, in bytes.
        limit: usize,
    },

    /// The broker answered with an error.
    #[error("{api} failed at {peer}: {} ({}){}", code.name(), code.meaning(), detail(message.as_deref()))]
    Broker {
        /// Who answered.
        peer: Peer,
        /// The request.
        api: ApiKey,
        /// Its verdict.
        code: ErrorCode,
        /// What it added in words.
        message: Option<String>,
    },

    /// The cluster does not know the topic, or will not say.
    #[error("topic {topic:?}: {} ({})", code.name(), code.meaning())]
    Topic {
        /// The topic's name.
        topic: String,
        /// What the brokers say of it.
        code: ErrorCode,
    },

    /// The topic exists but has no partition yet.
    #[error("topic {topic:?} has no partition yet; it may be in the middle of being created")]
    NoPartitions {
        /// The topic's name.
        topic: String,
    },

    /// No broker coordinates the group or transaction, or none will say.
    #[error("no coordinator for {key:?}: {} ({}){}", code.name(), code.meaning(), detail(message.as_deref()))]
    Coordinator {
        /// The group's id or the transactional id.
        key: String,
        /// What the brokers say.
        code: ErrorCode,
        /// What they added in words.
        message: Option<String>,
    },

    /// No broker with this id is known.
    #[error("broker {node} is not in the cluster's metadata")]
    UnknownBroker {
        /// The id.
        node: i32,
    },

    /// The cluster has not been reached yet, or names no controller.
    #[error("{what} is not known yet")]
    NotKnownYet {
        /// What is missing.
        what: &'static str,
    },

    /// Connections may have been made, and no broker has answered on any of them.
    #[error(
        "no broker has answered yet, of bootstrap.servers = {servers}; is it a Kafka broker, and is it alive?"
    )]
    NoAnswerYet {
        /// The addresses asked, as the setting has them.
        servers: String,
    },

    /// The deadline passed.
    #[error("{what} took longer than allowed{}", last_error(last.as_deref()))]
    Deadline {
        /// What was not finished.
        what: String,
        /// Whether a broker may have received the request, in any of the attempts.
        sent: Sent,
        /// What went wrong in the last attempt.
        last: Option<Box<Error>>,
    },

    /// This client was closed.
    #[error("the client is closed")]
    Closed,
}

impl Error {
    /// Whether the same request may succeed when tried again, here or at another broker.
    ///
    /// Says nothing of whether it is *safe* to try again: see [`Error::sent`].
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Disconnected { .. }
            | Self::TimedOut { .. }
            | Self::ConnectionFull { .. }
            | Self::NoPartitions { .. }
            | Self::UnknownBroker { .. }
            | Self::NotKnownYet { .. }
            | Self::NoAnswerYet { .. } => true,
            Self::Handshake { retriable, .. } => *retriable,
            Self::Broker { code, .. }
            | Self::Topic { code, .. }
            | Self::Coordinator { code, .. } => code.is_retriable(),
            Self::Deadline { last, .. } => last.as_ref().is_none_or(|last| last.is_retriable()),
            Self::Config { .. }
            | Self::NotKafka { .. }
            | Self::Authentication { .. }
            | Self::Unsupported { .. }
            | Self::Encode { .. }
            | Self::Decode { .. }
            | Self::ResponseTooLarge { .. }
            | Self::Closed => false,
        }
    }

    /// Whether a broker may have received, and so carried out, the request that failed.
    pub fn sent(&self) -> Sent {
        match self {
            Self::Disconnected { sent, .. }
            | Self::TimedOut { sent, .. }
            | Self::Deadline { sent, .. } => *sent,
            Self::Decode { .. } | Self::ResponseTooLarge { .. } | Self::Broker { .. } => {
                Sent::Maybe
            }
            _ => Sent::No,
        }
    }

    /// The code a broker answered with, when this error is an answer.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker { code, .. }
            | Self::Topic { code, .. }
            | Self::Coordinator { code, .. } => Some(*code),
            Self::Deadline { last, .. } => last.as_ref().and_then(|last| last.code()),
            _ => None,
        }
    }

    /// Whether time ran out: no answer to a request, or a deadline that passed.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Deadline { .. })
    }
}

/// Whether a broker may have received a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// No byte of it was given to the socket: it was certainly not carried out.
    No,
    /// Some or all of it was given to the socket: it may have been carried out.
    Maybe,
}

impl Sent {
    fn note(self) -> &'static str {
        match self {
            Self::No => " (the request was not sent)",
            Self::Maybe => " (the broker may have carried out the request)",
        }
    }
}

/// A broker as errors and logs name it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its id; none for a bootstrap server, whose id is not known when it is connected to.
    pub node: Option<i32>,
    /// Its address.
    pub address: Address,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(node) => write!(f, "broker {node} at {}", self.address),
            None => write!(f, "bootstrap server {}", self.address),
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CloseCause {
    /// The broker closed it.
    #[error("the broker closed it")]
    ByPeer,
    /// The broker closed it before it had answered anything but the version handshake.
    #[error(
        "the broker closed it at the first request; if its listener asks for SASL, set security.protocol and the sasl settings"
    )]
    ByPeerUnanswered,
    /// Reading or writing failed.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// The oldest request had no answer for this long.
    #[error("no answer for {}", Seconds(*.0))]
    Silent(Duration),
    /// The broker sent something that is not an answer to what was asked.
    #[error("it sent {0}")]
    Protocol(String),
    /// It carried nothing for `connections.max.idle.ms`.
    #[error("it was idle")]
    Idle,
    /// It reached its greatest age, or its login ended.
    #[error("it was due to be replaced")]
    Retired,
    /// The broker is now at another address, or no longer in the cluster.
    #[error("the broker's address changed")]
    Moved,
    /// This client was closed.
    #[error("the client was closed")]
    ByClient,
}

impl CloseCause {
    /// Whether it suggests that the broker is gone, and so that its partitions have other leaders.
    pub(crate) fn is_sudden(&self) -> bool {
        match self {
            Self::ByPeer
            | Self::ByPeerUnanswered
            | Self::Io(_)
            | Self::Silent(_)
            | Self::Protocol(_) => true,
            Self::Idle | Self::Retired | Self::Moved | Self::ByClient => false,
        }
    }
}

/// What answers at an address where a Kafka broker was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignAnswer {
    /// A TLS server.
    Tls,
    /// An HTTP server.
    Http,
    /// Something else, with its first bytes.
    Other([u8; 4]),
}

impl ForeignAnswer {
    /// What the first four bytes of an answer give away, when they are no sensible length.
    pub(crate) fn recognize(first: [u8; 4]) -> Option<Self> {
        // A TLS record starts with its type (20 to 24) and the version 3.x.
        if (20..=24).contains(&first[0]) && first[1] == 3 && first[2] <= 4 {
            return Some(Self::Tls);
        }
        if &first == b"HTTP" {
            return Some(Self::Http);
        }
        // A banner: as a length these letters mean at least half a gigabyte.
        first
            .iter()
            .all(|b| b.is_ascii_graphic() || matches!(b, b' ' | b'\r' | b'\n'))
            .then_some(Self::Other(first))
    }
}

impl fmt::Display for ForeignAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls => f.write_str(
                "that port answers TLS; set security.protocol to SSL or SASL_SSL, or use the port of a plain listener",
            ),
            Self::Http => f.write_str(
                "that port answers HTTP; check the port, brokers usually listen on 9092",
            ),
            Self::Other(first) => write!(
                f,
                "its answer starts with \"{}\"; check host and port",
                first.escape_ascii()
            ),
        }
    }
}

/// A time as people write it.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            write!(f, "{} ms", self.0.as_millis())
        } else {
            write!(f, "{:.1} s", self.0.as_secs_f64())
        }
    }
}

fn connect_hint(peer: &Peer, cause: &io::Error) -> &'static str {
    match (peer.node, cause.kind()) {
        (Some(_), _) => {
            "; the address is the one the broker advertises (advertised.listeners): it must be reachable from here"
        }
        (None, io::ErrorKind::ConnectionRefused) => "; is a broker running there?",
        (None, _) => "; check bootstrap.servers",
    }
}

fn api_prefix(api: Option<ApiKey>) -> String {
    api.map(|api| format!("{api} request: "))
        .unwrap_or_default()
}

fn offered_range(wanted: (i16, i16), offered: Option<(i16, i16)>) -> String {
    match offered {
        Some((low, high)) => format!(
            " in versions {} to {}; it offers {low} to {high}",
            wanted.0, wanted.1
        ),
        None => "; a newer broker, or a feature switched on there, may be needed".into(),
    }
}

fn detail(message: Option<&str>) -> String {
    message.map(|m| format!(": {m}")).unwrap_or_default()
}

fn last_error(last: Option<&Error>) -> String {
    last.map(|e| format!("; last error: {e}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer {
            node: Some(3),
            address: Address::new("kafka-3", 9092),
        }
    }

    #[test]
    fn names_broker_address_and_request() {
        let error = Error::TimedOut {
            peer: peer(),
            api: ApiKey::Produce,
            sent: Sent::Maybe,
            waited: Duration::from_secs(30),
        };
        let text = error.to_string();
        for part in ["broker 3", "kafka-3:9092", "Produce", "30.0 s", "may have"] {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
        assert!(error.is_retriable() && error.is_timeout());
        assert_eq!(error.sent(), Sent::Maybe);
    }

    #[test]
    fn a_passed_deadline_is_as_retriable_and_as_sent_as_its_last_error() {
        let over = |last: Error| Error::Deadline {
            what: "looking up the coordinator".into(),
            sent: last.sent(),
            last: Some(Box::new(last)),
        };
        assert!(!over(Error::Closed).is_retriable());
        let lost = over(Error::Disconnected {
            peer: peer(),
            api: Some(ApiKey::Produce),
            sent: Sent::Maybe,
            cause: CloseCause::ByPeer,
        });
        assert!(lost.is_retriable());
        assert_eq!(lost.sent(), Sent::Maybe);
        assert!(lost.to_string().contains("the broker closed it"), "{lost}");
    }

    #[test]
    fn recognizes_who_answers_instead_of_a_broker() {
        for (first, answer) in [
            ([0x15, 3, 1, 0], Some(ForeignAnswer::Tls)),
            ([0x15, 3, 3, 0], Some(ForeignAnswer::Tls)),
            ([0x16, 3, 3, 0x40], Some(ForeignAnswer::Tls)),
            (*b"HTTP", Some(ForeignAnswer::Http)),
            (*b"SSH-", Some(ForeignAnswer::Other(*b"SSH-"))),
            ([0, 0, 2, 14], None),
            ([0xff, 0xff, 0xff, 0xff], None),
        ] {
            assert_eq!(ForeignAnswer::recognize(first), answer, "{first:?}");
        }
        let text = Error::NotKafka {
            peer: peer(),
            answer: ForeignAnswer::Tls,
        }
        .to_string();
        assert!(
            text.contains("answers TLS") && text.contains("security.protocol"),
            "{text}"
        );
    }

    #[test]
    fn a_broker_known_from_metadata_hints_at_advertised_listeners() {
        let refused = Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
        let text = |node| {
            Error::Connect {
                peer: Peer { node, ..peer() },
                cause: refused.clone(),
            }
            .to_string()
        };
        assert!(text(Some(3)).contains("advertised.listeners"));
        assert!(text(None).contains("is a broker running there?"));
    }
}
