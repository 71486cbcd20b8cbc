//! What goes wrong between bytes and messages: typed, and naming message, version, field and byte.
//!
//! Errors are boxed so that the `Result`s on the decoding path stay one pointer wide.

use std::fmt;

use crate::{VarintError, VersionRange};

/// A message could not be read from the bytes of a peer.
#[derive(Clone, PartialEq, Eq)]
pub struct DecodeError(Box<Failure<DecodeErrorKind>>);

/// What is wrong with the bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// A field reaches beyond the end of the input.
    #[error("{needed} bytes are needed and {remaining} remain")]
    UnexpectedEnd {
        /// Bytes the field claims or needs.
        needed: usize,
        /// Bytes left in the message or tagged field.
        remaining: usize,
    },
    /// An array claims more elements than the rest of the message could hold.
    #[error("an array of {count} elements cannot fit into the {remaining} bytes that remain")]
    CountTooLarge {
        /// Elements claimed.
        count: usize,
        /// Bytes left in the message or tagged field.
        remaining: usize,
    },
    /// A length or count below -1.
    #[error("the length {0} is negative")]
    NegativeLength(i64),
    /// A string longer than the 32767 bytes Kafka allows.
    #[error("a string of {0} bytes is longer than the 32767 that Kafka allows")]
    StringTooLong(usize),
    /// Null where this version of the message does not allow it.
    #[error("null is not allowed here")]
    UnexpectedNull,
    /// The marker byte of a nullable structure is neither -1 nor 1.
    #[error("the marker of a nullable structure is {0}; only -1 and 1 are defined")]
    NullMarker(i8),
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    /// A variable-length integer that is cut off or too long.
    #[error(transparent)]
    Varint(VarintError),
    /// Tags must ascend; this one does not.
    #[error("tag {0} is out of order or repeated")]
    TagOrder(u32),
    /// A tagged field or a message did not use all of its bytes.
    #[error("{0} bytes are left over")]
    TrailingBytes(usize),
    /// The message does not exist at this version.
    #[error("only versions {0} are known")]
    UnsupportedVersion(VersionRange),
}

/// A message cannot be written at the version asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodeError(Box<Failure<EncodeErrorKind>>);

/// Why a message cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeErrorKind {
    /// A field holds something that this version cannot carry and that may not be left out in silence.
    #[error("this version has no such field, and its value is not the default")]
    FieldNotSupported,
    /// `None` where this version does not allow null.
    #[error("null is not allowed at this version")]
    NullNotAllowed,
    /// A string, array or the whole message is longer than the format can say.
    #[error("{len} bytes or elements are more than the {max} allowed")]
    TooLong {
        /// Bytes or elements given.
        len: usize,
        /// The format's limit.
        max: usize,
    },
    /// Unknown tagged fields at a version that has no tagged fields.
    #[error("this version carries no tagged fields")]
    TagsNotSupported,
    /// An unknown tagged field uses the tag of a known field.
    #[error("tag {0} belongs to a known field of this version")]
    TagConflict(u32),
    /// The message does not exist at this version.
    #[error("only versions {0} are known")]
    UnsupportedVersion(VersionRange),
}

impl DecodeError {
    /// An error at a byte; the callers on the way up add field, message and version.
    #[cold]
    pub fn new(kind: DecodeErrorKind, offset: usize) -> Self {
        Self(Failure::boxed(kind, offset))
    }

    /// What is wrong.
    pub fn kind(&self) -> &DecodeErrorKind {
        &self.0.kind
    }

    /// Bytes from the start of the input (after the frame's length) to the place of the error.
    pub fn offset(&self) -> usize {
        self.0.offset
    }
}

impl EncodeError {
    /// An error of a value; the callers on the way up add field, message and version.
    #[cold]
    pub fn new(kind: EncodeErrorKind) -> Self {
        Self(Failure::boxed(kind, 0))
    }

    /// What is wrong.
    pub fn kind(&self) -> &EncodeErrorKind {
        &self.0.kind
    }
}

macro_rules! common_methods {
    ($($error:ty),*) => {$(
        impl $error {
            /// Kafka's name of the message, once known.
            pub fn message(&self) -> Option<&'static str> {
                self.0.message.map(|(name, _)| name)
            }

            /// The version of the message, once known.
            pub fn version(&self) -> Option<i16> {
                self.0.message.map(|(_, version)| version)
            }

            /// The field, from the message inwards: `responses[3].partitions[0].records`. Empty for the message itself.
            pub fn path(&self) -> String {
                PathDisplay(&self.0.path).to_string()
            }

            /// Adds the field that was being read or written.
            #[cold]
            #[must_use]
            pub fn in_field(mut self, name: &'static str) -> Self {
                self.0.path.push(Segment::Field(name));
                self
            }

            /// Adds the array element that was being read or written.
            #[cold]
            #[must_use]
            pub fn in_element(mut self, index: usize) -> Self {
                self.0.path.push(Segment::Index(index));
                self
            }

            /// Adds the message and version that was being read or written.
            #[cold]
            #[must_use]
            pub fn in_message(mut self, name: &'static str, version: i16) -> Self {
                self.0.message = Some((name, version));
                self
            }
        }

        impl fmt::Debug for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl std::error::Error for $error {}
    )*};
}

common_methods!(DecodeError, EncodeError);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot read ")?;
        self.0.place(f)?;
        write!(f, " at byte {}: {}", self.0.offset, self.0.kind)
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot write ")?;
        self.0.place(f)?;
        write!(f, ": {}", self.0.kind)
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Failure<K> {
    kind: K,
    offset: usize,
    message: Option<(&'static str, i16)>,
    /// Innermost first, as the error travels outwards.
    path: Vec<Segment>,
}

impl<K> Failure<K> {
    fn boxed(kind: K, offset: usize) -> Box<Self> {
        Box::new(Self {
            kind,
            offset,
            message: None,
            path: Vec::new(),
        })
    }

    fn place(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message {
            Some((name, version)) => write!(f, "{name} version {version}")?,
            None => f.write_str("a message")?,
        }
        if !self.path.is_empty() {
            write!(f, ", field {}", PathDisplay(&self.path))?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segment {
    Field(&'static str),
    Index(usize),
}

struct PathDisplay<'a>(&'a [Segment]);

impl fmt::Display for PathDisplay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, segment) in self.0.iter().rev().enumerate() {
            match segment {
                Segment::Field(name) if depth == 0 => f.write_str(name)?,
                Segment::Field(name) => write!(f, ".{name}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_message_version_field_and_byte() {
        let error = DecodeError::new(DecodeErrorKind::UnexpectedNull, 42)
            .in_field("records")
            .in_element(0)
            .in_field("partitions")
            .in_message("FetchResponse", 12);
        assert_eq!(error.path(), "partitions[0].records");
        assert_eq!(
            (error.message(), error.version(), error.offset()),
            (Some("FetchResponse"), Some(12), 42)
        );
        assert_eq!(
            error.to_string(),
            "cannot read FetchResponse version 12, field partitions[0].records at byte 42: null is not allowed here"
        );
    }
}
