//! What every message has in common: a name, versions, and a way to and from bytes.

use std::fmt;

use crate::wire::{Struct, Version};
use crate::{ApiKey, DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind, Reader, Writer};

/// A request, a response, or a structure that Kafka versions by itself, such as a group member's subscription.
///
/// Implemented by the definitions in [`messages`](crate::messages); `Struct` is their generated part.
pub trait Message:
    Struct + Default + Clone + PartialEq + fmt::Debug + Send + Sync + 'static
{
    /// Kafka's name of the message.
    const NAME: &'static str;
    /// The versions this library speaks.
    const VERSIONS: VersionRange;
    /// The first version with compact lengths and tagged fields; `i16::MAX` if there is none.
    const FLEXIBLE_FROM: i16;

    /// Appends the message as `version` lays it out.
    ///
    /// # Errors
    /// If the version is unknown, or a field holds what the version cannot carry and may not be left out in silence.
    fn encode(&self, version: i16, out: &mut Writer) -> Result<(), EncodeError> {
        let mut at = "";
        match check_version::<Self>(version) {
            Ok(v) => self.write_fields(out, v, &mut at).map_err(|error| {
                if at.is_empty() {
                    error
                } else {
                    error.in_field(at)
                }
            }),
            Err(supported) => Err(EncodeError::new(EncodeErrorKind::UnsupportedVersion(
                supported,
            ))),
        }
        .map_err(|error| error.in_message(Self::NAME, version))
    }

    /// Reads the message as `version` lays it out, and leaves `input` behind its last byte. Strings and byte fields share
    /// the input's buffer.
    ///
    /// # Errors
    /// If the version is unknown or the bytes are not such a message.
    fn decode(version: i16, input: &mut Reader) -> Result<Self, DecodeError> {
        let (mut message, mut at) = (Self::default(), "");
        match check_version::<Self>(version) {
            Ok(v) => message.read_fields(input, v, &mut at).map_err(|error| {
                if at.is_empty() {
                    error
                } else {
                    error.in_field(at)
                }
            }),
            Err(supported) => Err(input.error(DecodeErrorKind::UnsupportedVersion(supported))),
        }
        .map_err(|error| error.in_message(Self::NAME, version))?;
        Ok(message)
    }

    /// For how long the broker asks the client to send nothing more on the connection that this response came on, in
    /// milliseconds (KIP-219). 0 in messages without such a field.
    fn throttle_time_ms(&self) -> i32 {
        0
    }
}

/// A message that a client sends and a broker answers.
pub trait Request: Message {
    /// The API.
    const KEY: ApiKey;
    /// What the broker answers with; it has the same versions.
    type Response: Message;
}

fn check_version<M: Message>(version: i16) -> Result<Version, VersionRange> {
    if M::VERSIONS.contains(version) {
        Ok(Version::new(version, version >= M::FLEXIBLE_FROM))
    } else {
        Err(M::VERSIONS)
    }
}

/// A closed range of versions of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionRange {
    /// Lowest.
    pub min: i16,
    /// Highest.
    pub max: i16,
}

impl VersionRange {
    /// `min` to `max`, both included.
    pub const fn new(min: i16, max: i16) -> Self {
        Self { min, max }
    }

    /// Whether `version` lies in it.
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// The versions in both, `None` if there are none.
    pub fn intersect(self, other: Self) -> Option<Self> {
        let (min, max) = (self.min.max(other.min), self.max.min(other.max));
        (min <= max).then_some(Self { min, max })
    }
}

/// As Kafka writes it: `4-18`, or `0` for a single version.
impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{}-{}", self.min, self.max)
        }
    }
}
