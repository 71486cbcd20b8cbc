//! Tagged fields (KIP-482): optional fields at the end of a flexible structure, each with a tag and a size.
//!
//! Fields this version of the library does not know survive a round trip. Tags ascend, as the protocol demands; a peer that
//! repeats or disorders them is refused.

use bytes::Bytes;

use crate::wire::{Version, Wire};
use crate::{DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind, Reader, Writer, varint};

/// The tagged fields of a structure that this library has no definition of, by ascending tag.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaggedFields(Vec<(u32, Bytes)>);

impl TaggedFields {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields by ascending tag, each with its undecoded bytes.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Bytes)> {
        self.0.iter().map(|(tag, bytes)| (*tag, bytes))
    }

    /// Adds or replaces a field.
    pub fn insert(&mut self, tag: u32, bytes: Bytes) {
        match self.0.binary_search_by_key(&tag, |field| field.0) {
            Ok(at) => self.0[at].1 = bytes,
            Err(at) => self.0.insert(at, (tag, bytes)),
        }
    }

    /// Reads the tagged fields at the end of a structure. `known` reads a field it knows and returns true, or returns false
    /// before reading anything. At versions without tagged fields this reads nothing.
    pub fn read(
        &mut self,
        r: &mut Reader,
        v: Version,
        known: &mut dyn FnMut(u32, &mut Reader) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        if !v.is_flexible() {
            return Ok(());
        }
        let count = r.varint()? as usize;
        r.check_count(count, MIN_TAGGED_FIELD)?;
        let mut previous = None;
        for _ in 0..count {
            let start = r.position();
            let tag = r.varint()?;
            if previous.is_some_and(|previous| tag <= previous) {
                return Err(DecodeError::new(DecodeErrorKind::TagOrder(tag), start));
            }
            previous = Some(tag);
            let len = r.varint()? as usize;
            r.limited(len, |r| {
                if !known(tag, r)? {
                    self.0.push((tag, r.take_rest()));
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Writes the tagged fields at the end of a structure that defines none of its own.
    pub fn write(&self, w: &mut Writer, v: Version) -> Result<(), EncodeError> {
        KnownTags::default().write(self, w, v)
    }
}

/// The known tagged fields of a structure that is being written.
#[derive(Debug, Default)]
pub struct KnownTags(Vec<(u32, Bytes)>);

impl KnownTags {
    /// Adds a field; tags must be given in ascending order.
    pub fn push(&mut self, tag: u32, value: &dyn WriteDyn, v: Version) -> Result<(), EncodeError> {
        let mut w = Writer::new();
        value.write_dyn(&mut w, v)?;
        self.0.push((tag, w.into_bytes()));
        Ok(())
    }

    /// Writes them and the unknown ones in order of tag. At versions without tagged fields, nothing may be set.
    pub fn write(
        &self,
        unknown: &TaggedFields,
        w: &mut Writer,
        v: Version,
    ) -> Result<(), EncodeError> {
        if !v.is_flexible() {
            return match unknown.is_empty() {
                true => Ok(()),
                false => Err(EncodeError::new(EncodeErrorKind::TagsNotSupported)),
            };
        }
        w.varint((self.0.len() + unknown.0.len()) as u32);
        let (mut known, mut unknown) = (self.0.iter().peekable(), unknown.0.iter().peekable());
        loop {
            let next = match (known.peek(), unknown.peek()) {
                (Some(k), Some(u)) if k.0 == u.0 => {
                    return Err(EncodeError::new(EncodeErrorKind::TagConflict(k.0)));
                }
                (Some(k), Some(u)) if k.0 > u.0 => unknown.next(),
                (Some(_), _) => known.next(),
                (None, _) => unknown.next(),
            };
            let Some((tag, bytes)) = next else {
                return Ok(());
            };
            w.varint(*tag);
            w.varint(bytes.len() as u32);
            w.raw(bytes);
        }
    }
}

/// [`Wire::write`] behind a pointer, so that tagged fields need no code per type.
pub trait WriteDyn {
    /// Writes the value.
    fn write_dyn(&self, w: &mut Writer, v: Version) -> Result<(), EncodeError>;
}

impl<T: Wire> WriteDyn for T {
    fn write_dyn(&self, w: &mut Writer, v: Version) -> Result<(), EncodeError> {
        self.write(w, v)
    }
}

/// A tag and a size, one byte each.
const MIN_TAGGED_FIELD: usize = 2 * varint::len_u32(0);

#[cfg(test)]
mod tests {
    use super::*;

    const FLEXIBLE: Version = Version::new(0, true);

    fn read(bytes: &'static [u8]) -> Result<(TaggedFields, Option<i16>), DecodeError> {
        let (mut unknown, mut seven) = (TaggedFields::default(), None);
        let mut r = Reader::new(Bytes::from_static(bytes));
        unknown.read(&mut r, FLEXIBLE, &mut |tag, r| match tag {
            7 => {
                seven = Some(r.i16()?);
                Ok(true)
            }
            _ => Ok(false),
        })?;
        r.finish()?;
        Ok((unknown, seven))
    }

    #[test]
    fn known_and_unknown_interleave_by_tag() {
        let bytes = b"\x03\x02\x01a\x07\x02\x00\x09\x08\x00";
        let (unknown, seven) = read(bytes).unwrap();
        assert_eq!(seven, Some(9));
        assert_eq!(
            unknown.iter().map(|(tag, _)| tag).collect::<Vec<_>>(),
            [2, 8]
        );
        let mut known = KnownTags::default();
        known.push(7, &9i16, FLEXIBLE).unwrap();
        let mut w = Writer::new();
        known.write(&unknown, &mut w, FLEXIBLE).unwrap();
        assert_eq!(&w.into_bytes()[..], bytes);
    }

    #[test]
    fn refuses_disorder_and_wrong_sizes() {
        let kind = |bytes| read(bytes).unwrap_err().kind().clone();
        assert_eq!(kind(b"\x02\x02\x00\x02\x00"), DecodeErrorKind::TagOrder(2));
        assert_eq!(kind(b"\x02\x03\x00\x02\x00"), DecodeErrorKind::TagOrder(2));
        assert_eq!(
            kind(b"\x01\x07\x03\x00\x09\x00"),
            DecodeErrorKind::TrailingBytes(1)
        );
        assert!(matches!(
            kind(b"\x01\x07\x01\x00"),
            DecodeErrorKind::UnexpectedEnd { .. }
        ));
        assert!(matches!(
            kind(b"\xff\xff\xff\xff\x0f"),
            DecodeErrorKind::CountTooLarge { .. }
        ));
    }

    #[test]
    fn an_unknown_field_may_not_take_a_known_tag() {
        let mut unknown = TaggedFields::default();
        unknown.insert(7, Bytes::new());
        let mut known = KnownTags::default();
        known.push(7, &9i16, FLEXIBLE).unwrap();
        let error = known
            .write(&unknown, &mut Writer::new(), FLEXIBLE)
            .unwrap_err();
        assert_eq!(*error.kind(), EncodeErrorKind::TagConflict(7));
        let error = unknown
            .write(&mut Writer::new(), Version::new(0, false))
            .unwrap_err();
        assert_eq!(*error.kind(), EncodeErrorKind::TagsNotSupported);
    }
}
