//! The Kafka wire format: messages, record batches, compression.
//!
//! Bytes to messages and back, without I/O, clock or async. Bytes come from a peer and are not trusted: no length or count
//! allocates more than the bytes that are really there could justify, every error is typed and names message, version,
//! field and byte, and nothing panics.
//!
//! - [`messages`] holds every request and response of a client, one module per API, from the version ranges of Kafka 4.3.1.
//! - [`encode_request`] and [`decode_response`] turn them into frames and back; brokers use [`decode_request`] and
//!   [`encode_response`].
//! - [`record`] writes and reads record batches, [`compress`] their codecs.
//! - [`ApiKey`], [`PeerVersions`] and [`ErrorCode`] say what a peer speaks and what its answers ask for.
//!
//! ```
//! use ottla_wire::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
//! use ottla_wire::{decode_response, encode_request, encode_response};
//!
//! let request = MetadataRequest {
//!     topics: Some(vec![MetadataRequestTopic { name: Some("clicks".into()), ..Default::default() }]),
//!     ..Default::default()
//! };
//! let frame = encode_request(&request, 12, 1, Some("example"))?;
//! // … `frame.chunks()` goes to the socket, the broker answers:
//! let answer = MetadataResponse { cluster_id: Some("c1".into()), ..Default::default() };
//! let body = encode_response::<MetadataRequest>(&answer, 12, 1)?.to_bytes().slice(4..);
//! assert_eq!(decode_response::<MetadataRequest>(12, body)?, answer);
//! # assert!(frame.len() > 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

// The derive macros name this crate by its public name, also from inside.
extern crate self as ottla_wire;

mod api_key;
pub mod compress;
mod error;
mod error_code;
mod frame;
mod header;
#[cfg(feature = "introspect")]
pub mod introspect;
mod iso_duration;
mod message;
pub mod messages;
mod negotiate;
mod reader;
pub mod record;
mod tagged;
mod uuid;
pub mod varint;
mod versioned;
pub mod wire;
mod writer;

pub use bytes::Bytes;
pub use bytestring::ByteString as Str;

pub use crate::api_key::{ApiKey, UnknownApi};
pub use crate::error::{DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind};
pub use crate::error_code::ErrorCode;
pub use crate::frame::{Frame, decode_request, decode_response, encode_request, encode_response};
pub use crate::header::{RequestHeader, ResponseHeader, peek_correlation_id};
pub use crate::iso_duration::iso_duration;
pub use crate::message::{Message, Request, VersionRange};
pub use crate::negotiate::{NoCommonVersion, PeerVersions};
pub use crate::reader::Reader;
pub use crate::tagged::TaggedFields;
pub use crate::uuid::{Uuid, UuidError};
pub use crate::varint::VarintError;
pub use crate::versioned::{decode_versioned, encode_versioned};
pub use crate::wire::Struct;
pub use crate::writer::Writer;
