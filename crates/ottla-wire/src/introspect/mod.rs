//! Messages as data, for tests: visit their fields, make random ones, print them as Kafka's own tools do.
//!
//! Only with the feature `introspect`, which no production code turns on. The derive macro implements [`Fields`] for every
//! definition; [`messages`] lists them all.

mod json;
mod random;

use std::any::Any;
use std::error::Error;
use std::fmt;

use crate::messages::with_all_messages;
use crate::{
    ApiKey, Bytes, DecodeError, EncodeError, Message, Reader, RequestHeader, ResponseHeader,
    TaggedFields, VersionRange, Writer,
};

pub use self::random::Random;

/// A structure whose fields can be visited, in the definition's order.
pub trait Fields: Default {
    /// Shows every field to `visit`, whatever the version.
    fn visit_fields(&mut self, visit: &mut dyn Visit);
}

/// Visits the fields of a structure.
pub trait Visit {
    /// A field. `is_default` says whether it holds the schema's default.
    fn field(&mut self, info: &FieldInfo, value: &mut dyn Value, is_default: bool);

    /// The structure's last field.
    fn unknown_tagged_fields(&mut self, fields: &mut TaggedFields);
}

/// What the definition says about a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldInfo {
    /// Kafka's name, in camel case as in its JSON.
    pub name: &'static str,
    /// First and last version that has it; `i16::MAX` if there is no last.
    pub versions: (i16, i16),
    /// First and last version that allows null; `None` if none does.
    pub nullable: Option<(i16, i16)>,
    /// Whether it is a tagged field.
    pub tagged: bool,
}

impl FieldInfo {
    /// Whether `version` has the field.
    pub fn exists_in(&self, version: i16) -> bool {
        within(version, self.versions)
    }

    /// Whether `version` allows the field to be null.
    pub fn is_nullable_in(&self, version: i16) -> bool {
        self.nullable.is_some_and(|range| within(version, range))
    }
}

/// A value of any type that fields have.
pub trait Value {
    /// Replaces it by a random one; `nullable` says whether that may be null.
    fn fill(&mut self, random: &mut Random, nullable: bool);

    /// Kafka's JSON form of it.
    fn json(&mut self, version: i16) -> serde_json::Value;
}

/// A message of any type.
pub trait AnyMessage: fmt::Debug {
    /// See [`Message::encode`].
    fn encode(&self, version: i16, out: &mut Writer) -> Result<(), EncodeError>;

    /// What Kafka's `JsonConverter` of this message writes.
    fn json(&self, version: i16) -> serde_json::Value;

    /// Whether `other` is a message of the same type and equal to this one.
    fn equals(&self, other: &dyn AnyMessage) -> bool;

    /// For downcasting.
    fn as_any(&self) -> &dyn Any;
}

impl<M: Message + Fields> AnyMessage for M {
    fn encode(&self, version: i16, out: &mut Writer) -> Result<(), EncodeError> {
        Message::encode(self, version, out)
    }

    fn json(&self, version: i16) -> serde_json::Value {
        // Visiting needs `&mut`, so that one visitor interface serves filling as well.
        Value::json(&mut self.clone(), version)
    }

    fn equals(&self, other: &dyn AnyMessage) -> bool {
        other.as_any().downcast_ref::<M>() == Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Reads a message of one type.
pub type Decode = fn(i16, &mut Reader) -> Result<Box<dyn AnyMessage>, DecodeError>;

/// A type of message.
#[derive(Debug, Clone, Copy)]
pub struct MessageInfo {
    /// Kafka's name.
    pub name: &'static str,
    /// The versions this library speaks.
    pub versions: VersionRange,
    /// The first flexible version.
    pub flexible_from: i16,
    /// A message with every field at its default.
    pub default: fn() -> Box<dyn AnyMessage>,
    /// A message with nothing but random values that the version can carry.
    pub random: fn(&mut Random) -> Box<dyn AnyMessage>,
    /// See [`Message::decode`].
    pub decode: Decode,
}

impl MessageInfo {
    fn of<M: Message + Fields>() -> Self {
        Self {
            name: M::NAME,
            versions: M::VERSIONS,
            flexible_from: M::FLEXIBLE_FROM,
            default: || Box::new(M::default()),
            random: |random| {
                let mut message = M::default();
                message.fill(random, false);
                Box::new(message)
            },
            decode: |version, input| Ok(Box::new(M::decode(version, input)?)),
        }
    }

    /// Every version, with a source of random messages of that version.
    pub fn each_version(&self) -> impl Iterator<Item = i16> + use<> {
        self.versions.min..=self.versions.max
    }

    /// Whether that version is flexible.
    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }
}

/// Every type of message, by module.
pub fn messages() -> Vec<MessageInfo> {
    macro_rules! list {
        ($($module:ident::$name:ident,)*) => {
            vec![$(MessageInfo::of::<crate::messages::$module::$name>(),)*]
        };
    }
    with_all_messages!(list)
}

/// Reads a request with its header (a frame without its length), whatever its API, and writes it again. A peer's bytes
/// come back unchanged if nothing in them was lost or misread.
///
/// # Errors
/// If the API is unknown or the bytes cannot be read; or what was read cannot be written.
pub fn echo_request(body: Bytes) -> Result<Bytes, Box<dyn Error>> {
    let mut input = Reader::new(body);
    let header = RequestHeader::decode(&mut input)?;
    let api = ApiKey::try_from(header.api_key)?;
    let mut out = Writer::new();
    header.encode(&mut out)?;
    echo_message(&format!("{api}Request"), header.api_version, input, out)
}

/// Like [`echo_request`], for the response to a request of that API and version.
///
/// # Errors
/// As [`echo_request`].
pub fn echo_response(api: ApiKey, version: i16, body: Bytes) -> Result<Bytes, Box<dyn Error>> {
    let mut input = Reader::new(body);
    let header = ResponseHeader::decode(api, version, &mut input)?;
    let mut out = Writer::new();
    header.encode(api, version, &mut out)?;
    echo_message(&format!("{api}Response"), version, input, out)
}

fn echo_message(
    name: &str,
    version: i16,
    mut input: Reader,
    mut out: Writer,
) -> Result<Bytes, Box<dyn Error>> {
    let info = messages()
        .into_iter()
        .find(|info| info.name == name)
        .ok_or("no such message")?;
    let message = (info.decode)(version, &mut input)?;
    input.finish()?;
    message.encode(version, &mut out)?;
    Ok(out.into_bytes())
}

fn within(version: i16, (min, max): (i16, i16)) -> bool {
    min <= version && version <= max
}
